//! The settings of what becomes of recordings: form, durability, how long they stay, where to.

use std::time::Duration;

use storage::{KeyFileError, Keys};
use storage_core::record::VoiceFormat;

use super::archive::{self, Archive};
use super::reader::Reader;
use super::value::{self, DiskShare};
use super::{catalog_database, retention};
use crate::catalog_database::CatalogDatabase;
use crate::retention::core::RetentionRules;

pub(super) const DEFAULT_OPUS_BITRATE: u32 = 24_000;
const DEFAULT_SCRUB_DAYS: u32 = 30;
const SCRUB_DAYS_MAX: u32 = 3_650;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What becomes of recordings.
#[derive(Clone, Debug)]
pub struct Storage {
    /// `al_voiceformat`.
    pub voiceformat: VoiceFormat,
    /// `al_opusbitrate`, bits a second.
    pub opusbitrate: u32,
    /// `al_keytones = "mask"`: the tones of pressed keys are taken out of voice files.
    pub mask_keys: bool,
    /// `al_syncms`: captured audio is durable within this time.
    pub sync: Duration,
    /// `al_mirror`: whether captures and voice files of another recorder are kept here too.
    pub mirror: bool,
    /// `al_mirrorlagms`: a mirror of this node's captures that is longer behind is an alarm.
    pub mirror_lag: Duration,
    /// `al_retentiondays`, `retentiondays` of rules, `[[al_retention]]`: how long recordings stay.
    pub retention: RetentionRules,
    /// `al_scrubdays`: each voice file is read over in this time; absent: never.
    pub scrub: Option<Duration>,
    /// `al_mindiskfree`.
    pub mindiskfree: DiskShare,
    /// `al_archive`.
    pub archive: Option<Archive>,
    /// `al_catalogurl` and what belongs to it.
    pub catalog_database: Option<CatalogDatabase>,
    /// What is in the file that `al_encryptionkeyfile` names; none: nothing is encrypted.
    pub keys: Keys,
}

pub(super) fn read(reader: &mut Reader) -> Storage {
    let formats =
        [("wav", VoiceFormat::Wav), ("wavg711", VoiceFormat::WavG711), ("opus", VoiceFormat::Opus)];
    let retention = retention::read(reader);
    Storage {
        voiceformat: reader.word("al_voiceformat", &formats).unwrap_or_default(),
        opusbitrate: reader
            .number("al_opusbitrate", 6_000..=510_000)
            .unwrap_or(DEFAULT_OPUS_BITRATE),
        mask_keys: reader.word("al_keytones", &[("keep", false), ("mask", true)]).unwrap_or(false),
        sync: reader.span("al_syncms", 1, Duration::from_secs(1), 50..=60_000),
        mirror: reader.flag("al_mirror", true),
        mirror_lag: reader.span("al_mirrorlagms", 1, Duration::from_millis(300), 50..=600_000),
        scrub: read_scrubdays(reader),
        mindiskfree: read_mindiskfree(reader),
        archive: archive::read(reader, retention.overall.is_none()),
        retention,
        catalog_database: catalog_database::read(reader),
        keys: read_keys(reader),
    }
}

fn read_keys(reader: &mut Reader) -> Keys {
    const KEY: &str = "al_encryptionkeyfile";
    let Some(file) = reader.path(KEY) else { return Keys::default() };
    let place = file.display();
    match Keys::load(&file) {
        Ok(keys) => {
            if keys.others_may_read() {
                let wrong = format!("every user of this machine may read {place}");
                reader.warn(KEY, wrong, format!("chmod o-r {place}"));
            }
            keys
        }
        // Somebody who asks for encryption relies on it: without keys there is no start.
        Err(error) => {
            let remedy = match &error {
                KeyFileError::Read(_) => {
                    format!("make it with `astlogger key new --file {place}`, for the node's user")
                }
                KeyFileError::NotText | KeyFileError::Faults(_) => {
                    "one key a line, NAME and 64 hexadecimal digits, the active one first"
                        .to_owned()
                }
            };
            reader.refuse(KEY, format!("{place} {error}"), remedy);
            Keys::default()
        }
    }
}

fn read_scrubdays(reader: &mut Reader) -> Option<Duration> {
    let days = reader.number("al_scrubdays", 0..=SCRUB_DAYS_MAX).unwrap_or(DEFAULT_SCRUB_DAYS);
    (days > 0).then(|| DAY * days)
}

fn read_mindiskfree(reader: &mut Reader) -> DiskShare {
    let default = DiskShare::Percent(5);
    let Some(text) = reader.measure("al_mindiskfree") else { return default };
    value::disk_share(&text).unwrap_or_else(|must_be| {
        reader.refuse_value("al_mindiskfree", &must_be, "write al_mindiskfree = \"5%\"");
        default
    })
}
