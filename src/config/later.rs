//! What interface and configuration already have and this version does not: each such setting is
//! named, and replaced by what is done instead. A function that arrives takes its line out here.

use storage_core::record::VoiceFormat;

use super::reader::Reader;
use super::recorder::DEFAULT_MAX_PAUSE;
use super::{Config, HoldAudio, Method, Recorder};

/// Says what does nothing yet, and puts in its place what is done.
pub(super) fn settle(config: &mut Config, reader: &mut Reader) {
    settle_storage(config, reader);
    if let Some(recorder) = &mut config.recorder {
        settle_recorder(recorder, reader);
    }
}

fn not_yet(reader: &mut Reader, key: &str, function: &str, instead: &str) {
    reader.warn(key, format!("not in this version: {function}"), instead);
}

fn settle_storage(config: &mut Config, reader: &mut Reader) {
    let storage = &config.storage;
    if storage.voiceformat == VoiceFormat::Opus && !cfg!(feature = "opus") {
        reader.refuse_value(
            "al_voiceformat",
            "wav or wavg711: this program was built without Opus",
            "choose one of them, or build with the feature opus",
        );
    }
    if storage.retention_days.is_some() {
        not_yet(reader, "al_retentiondays", "retention", "recordings stay until removed by hand");
    }
    if storage.archive.is_some() {
        not_yet(reader, "al_archive", "the archive", "recordings stay in al_datadir");
    }
    if storage.catalogurl.is_some() {
        let instead = "the catalog in al_datadir is the only one";
        not_yet(reader, "al_catalogurl", "a catalog in PostgreSQL", instead);
    }
}

fn settle_recorder(recorder: &mut Recorder, reader: &mut Reader) {
    if recorder.method != Method::SingleStepConference {
        reader.refuse_value("al_method", "\"ssc\" in this version", "write al_method = \"ssc\"");
    }
    if !recorder.monitored.agents.is_empty() {
        let instead = "name the stations at which they work in al_stations";
        not_yet(reader, "al_agents", "monitors on agents", instead);
    }
    if recorder.hold == HoldAudio::Skip {
        recorder.hold = HoldAudio::Record;
        let instead = "audio during hold is recorded, and the hold is marked";
        not_yet(reader, "al_hold", "leaving out audio during hold", instead);
    }
    if recorder.max_pause != DEFAULT_MAX_PAUSE {
        not_yet(reader, "al_maxpauses", "pausing a recording", "it has no effect");
    }
}
