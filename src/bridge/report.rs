//! Looks at this node and tells the group how it is; see [`super::health`].

use std::sync::Arc;
use std::time::Duration;

use cluster::Group;
use recorder::clock::Clock;
use recorder::control_task::Control;
use recorder::media_thread::MediaHandle;
use tokio::time::MissedTickBehavior;

use super::health::{Signs, Teller};
use crate::hub::Hub;

/// How often the node is looked at: a lost link is to cost no more than that.
const LOOK: Duration = Duration::from_millis(25);
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
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while control.is_running() {
        beat.tick().await;
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
