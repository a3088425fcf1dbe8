//! Looks at this node and tells the group how it is; see [`super::health`].

use std::sync::Arc;
use std::time::Duration;

use cluster::Group;
use recorder::clock::Clock;
use recorder::control_task::Control;
use recorder::media_thread::MediaHandle;
use tokio::time::{sleep, timeout};

use super::health::{Signs, Teller};
use crate::hub::Hub;

/// How often the node is looked at without any news of the recorder, whose own troubles (a lost
/// link, phantoms, a full disk) are news.
const LOOK: Duration = Duration::from_secs(1);
/// How soon after news, because what comes of them elsewhere (an alarm) may come a moment later; and
/// how often while something is to be told that must last first.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The recorder is not looked at more often, however much it does: a lost link is to cost no more.
const NEWS: Duration = Duration::from_millis(10);
/// How long the group may take to confirm.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the group how this node is, for as long as the recorder runs.
pub async fn report_health(
    group: Group,
    control: Arc<Control>,
    media: MediaHandle,
    hub: Arc<Hub>,
    clock: Clock,
) {
    let mut teller = Teller::new(clock.mono());
    let mut news = true;
    while control.is_running() {
        let look = if news || teller.waits() { LOOK_AGAIN } else { LOOK };
        // Either way it is looked at.
        news = timeout(look, control.news()).await.is_ok();
        if news {
            sleep(NEWS).await;
        }
        let view = control.view();
        let signs = Signs {
            aes_up: view.aes_up && !hub.alarms.is_raised("ctilinkdown", ""),
            phantoms: view.phantoms,
            disk: !media.stats().not_writing.is_set(),
            in_calls: view.hearing.0,
            deaf: view.hearing.1,
        };
        let Some(health) = teller.look(clock.mono(), signs.health()) else { continue };
        tracing::debug!(?health, "told the group");
        if group.report_health(health, PATIENCE).outcome().await.is_err() {
            teller.lost();
        }
    }
}
