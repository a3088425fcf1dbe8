//! How loud the calls in progress are, told once a second to each socket that has subscribed to `levels`. Whoever
//! asks within the same second is told the same, so that many who look cost the group no more than one. How loud a
//! call is the node says; whose calls somebody may see is `requests`' matter.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::Web;
use super::requests::is_seen;
use super::session::Session;

/// Between two events of one socket.
const EVERY: Duration = Duration::from_secs(1);
/// What was told is told to others, too, for so long.
const FRESH: Duration = Duration::from_millis(900);

/// The calls of which it is known how loud they are, as they were told last, and when.
#[derive(Debug, Default)]
pub struct Levels {
    told: Mutex<Option<(Instant, Arc<Vec<Value>>)>>,
}

impl Levels {
    /// Held while somebody asks: whoever comes meanwhile waits for the same answer. Where none comes, no call is loud.
    async fn now(&self, web: &Web) -> Arc<Vec<Value>> {
        let mut told = self.told.lock().await;
        if let Some((at, calls)) = &*told
            && at.elapsed() < FRESH
        {
            return Arc::clone(calls);
        }
        let mut calls =
            web.node.calls_in_progress().await.map_or_else(|_| Vec::new(), |list| list.calls);
        calls.retain(|call| call["level"].is_number());
        let calls = Arc::new(calls);
        *told = Some((Instant::now(), Arc::clone(&calls)));
        calls
    }
}

/// The texts of the event `levels`, for one who has signed in.
pub fn told_to(web: Arc<Web>, session: Arc<Session>) -> BoxStream<'static, Utf8Bytes> {
    let mut beat = interval(EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let next = |(web, session, mut beat): (Arc<Web>, Arc<Session>, Interval)| async move {
        beat.tick().await;
        let calls = web.levels.now(&web).await;
        let his = calls.iter().filter(|call| is_seen(session.scope(), call));
        let event = json!({ "eventtype": "levels", "levels": his.map(level).collect::<Value>() });
        Some((event.to_string().into(), (web, session, beat)))
    };
    stream::unfold((web, session, beat), next).boxed()
}

/// Which call, and how loud it is.
fn level(call: &Value) -> Value {
    let mut told = json!({ "callid": call["callid"], "level": call["level"] });
    if let Some(ucid) = call["ucid"].as_str() {
        told["ucid"] = ucid.into();
    }
    told
}
