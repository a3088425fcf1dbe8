//! What `al_standbyring` costs here: phantoms, places in calls, memory.

use super::Finding;
use crate::config::{Config, Method, Recorder};

const CHECK: &str = "standby ring";
/// What a second of G.711 in packets of 20 ms takes, and what frames it.
const BYTES_A_SECOND: u64 = 9_420;

pub(super) fn examine(config: &Config) -> Option<Finding> {
    let recorder = config.recorder.as_ref().filter(|it| !it.standby_ring.is_zero())?;
    if config.cluster.peers.len() < 2 {
        let found = "does nothing: this node is alone";
        return Some(Finding::warn(CHECK, found, "leave it out").of("al_standbyring"));
    }
    Some(Finding::ok(CHECK, cost(recorder)))
}

fn cost(recorder: &Recorder) -> String {
    let seconds = recorder.standby_ring.as_millis() as u64;
    let kib = BYTES_A_SECOND * seconds / 1000 / 1024;
    let devices = recorder.devices().len() as u64;
    let memory = format!("{kib} KiB a call, {} MiB for {devices}", (kib * devices).div_ceil(1024));
    match recorder.method {
        Method::MultipleRegistration { .. } => {
            format!("costs no phantom and no place in a call; {memory}")
        }
        Method::SingleStepConference | Method::ServiceObserving { .. } => format!(
            "while this node stands by, each call takes a phantom here, too ({devices} are there), and \
             one party more: with al_maxparties = {}, {} people and two phantoms; {memory}; the same on \
             all recorders",
            recorder.maxparties,
            recorder.maxparties.saturating_sub(2),
        ),
    }
}
