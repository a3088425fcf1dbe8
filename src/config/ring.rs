//! `al_standbyring`: how much of each call that another node records is kept in memory here. It reads the
//! setting and says where it can have no effect; what a ring is for is told in the recorder's core.

use std::time::Duration;

use super::Config;
use super::reader::Reader;

const KEY: &str = "al_standbyring";
/// Longer rings would only fill memory: a takeover takes seconds.
const LONGEST_MS: u64 = 120_000;
/// Two people, whoever records, and the ring.
const PARTIES_MIN: u32 = 4;

/// Off unless told otherwise: on the standby, too, it costs a phantom and a place in each call.
pub(super) fn read(reader: &mut Reader) -> Duration {
    reader.span(KEY, 1_000, Duration::ZERO, 0..=LONGEST_MS)
}

/// Says where a ring is never kept.
pub(super) fn settle(config: &Config, reader: &mut Reader) {
    let Some(recorder) = config.recorder.as_ref().filter(|it| !it.standby_ring.is_zero()) else {
        return;
    };
    let in_calls = !matches!(recorder.method, super::Method::MultipleRegistration { .. });
    if config.cluster.peers.len() < 2 {
        let wrong = "has no effect on a node alone: there is nobody in whose place it could go on";
        reader.warn(KEY, wrong, "leave it out, or name the other members in al_peers");
    } else if in_calls && recorder.maxparties < PARTIES_MIN {
        let wrong = format!(
            "has no effect with al_maxparties = {}: two people and the lead's phantom fill a call",
            recorder.maxparties
        );
        reader.warn(KEY, wrong, "al_maxparties = 4 or more, as far as the switch allows it");
    }
}
