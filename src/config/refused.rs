//! What settings that are right each by itself ask for together and cannot have, in a group or of this
//! build: each is refused by its name, with what to write instead.

use storage_core::record::VoiceFormat;

use super::reader::Reader;
use super::{Config, Method, Recorder};

/// Refuses what cannot be had.
pub(super) fn settle(config: &Config, reader: &mut Reader) {
    settle_storage(config, reader);
    let in_group = config.cluster.peers.len() > 1;
    if let Some(recorder) = &config.recorder {
        settle_method(recorder, in_group, reader);
    }
}

fn settle_storage(config: &Config, reader: &mut Reader) {
    let storage = &config.storage;
    if storage.voiceformat == VoiceFormat::Opus && !cfg!(feature = "opus") {
        reader.refuse_value(
            "al_voiceformat",
            "wav or wavg711: this program was built without Opus",
            "choose one of them, or build with the feature opus",
        );
    }
}

/// What a group cannot have. Its members see each other's phantoms in calls. One that observes is in all
/// of them, so it does not tell who records, and two in one call are more than most switches let in. And
/// two registrations of each recorder are more than a station takes.
fn settle_method(recorder: &Recorder, in_group: bool, reader: &mut Reader) {
    if in_group && matches!(recorder.method, Method::ServiceObserving { .. }) {
        reader.refuse_value(
            "al_method",
            "\"ssc\" or \"mr\" in a group in this version",
            "write one of them, or leave out al_peers and record with this node alone",
        );
    }
    if in_group && matches!(recorder.method, Method::MultipleRegistration { stereo: true, .. }) {
        reader.refuse_value(
            "al_stereo",
            "false in a group: two registrations of each of two recorders and the telephone's own are \
             five, and a station may have three",
            "leave it out, or leave out al_peers and record with this node alone",
        );
    }
}
