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
use crate::syncs::Slowness;

/// How often the node is looked at without any news of the recorder, whose own troubles (a lost
/// link, phantoms, a full disk) are news.
const LOOK: Duration = Duration::from_secs(1);
/// How soon after news, because what comes of them elsewhere (an alarm) may come a moment later; and
/// how often while something is to be told that must last first.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The recorder is not looked at more often, however much it does: a lost link is to cost no more.
const NEWS: Duration = Duration::from_millis(10);
/// A media thread that has been held up for so long is looked at as often.
const HELD_UP: Duration = Duration::from_millis(500);
/// Held up for longer than this, the node counts as one that cannot record: what waits at a socket is some 4 s of a call
/// on most network cards, and until these are over the other recorder must be in the calls.
const HELD_UP_MAX: Duration = Duration::from_millis(2_500);
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
    let mut slowness = Slowness::beyond(HELD_UP_MAX);
    let mut news = true;
    while control.is_running() {
        let held_up = media.stats().turn_watch.under_way() > HELD_UP;
        let look = if news || held_up || teller.waits() { LOOK_AGAIN } else { LOOK };
        // Either way it is looked at.
        news = timeout(look, control.news()).await.is_ok();
        if news {
            sleep(NEWS).await;
        }
        let view = control.view();
        let (under_way, longest) = media.stats().turn_watch.look();
        let slow = slowness.look(clock.mono(), under_way, longest).is_some();
        let signs = Signs {
            aes_up: view.aes_up && !hub.alarms.is_raised("ctilinkdown", ""),
            phantoms: view.phantoms,
            disk: !slow && !media.stats().not_writing.is_set(),
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
