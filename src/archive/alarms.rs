//! What people hear of the archive.

use storage_core::archived::Archived;
use storage_core::{Recording, RecordingId};

use crate::alarms::Alarm;

/// It does not answer, or refuses what it is asked.
pub(super) fn away(place: &str, why: &str) -> Alarm {
    Alarm {
        name: "archiveaway",
        subject: String::new(),
        message: format!(
            "the archive {place} cannot be used: {why}. What is to go there waits on this node's disk \
             (astlogger_archive_pending)"
        ),
        remedy: "look at the store and at the way to it, then at al_archive and the settings beside it; it is tried again \
                 by itself",
    }
}

/// What lies there is something else.
pub(super) fn differs(record: &Recording, archived: &Archived) -> Alarm {
    differs_at(record.recordingid, &archived.place)
}

/// The same, of a recording that is just being archived.
pub(super) fn differs_at(recording: RecordingId, place: &str) -> Alarm {
    Alarm {
        name: "archivediffers",
        subject: recording.to_string(),
        message: format!(
            "what the archive gives back of recording {recording} is not what was put there ({place}): the voice file \
             stays on this node, and is put there anew"
        ),
        remedy: "find out who writes there besides the recorders, and whether the store is sound",
    }
}

/// It cannot be archived as it lies here.
pub(super) fn not_archived(recording: RecordingId, why: &str) -> Alarm {
    Alarm {
        name: "notarchived",
        subject: recording.to_string(),
        message: format!("recording {recording} cannot be archived: {why}"),
        remedy: "run astlogger verify on this node's voice folder, and restore what it names; it is tried again by itself",
    }
}

/// It locks nothing.
pub(super) fn not_locked(place: &str, why: &str) -> Alarm {
    Alarm {
        name: "archivenotlocked",
        subject: String::new(),
        message: format!(
            "the archive {place} does not lock recordings (al_archivelock): {why}; they are archived without"
        ),
        remedy: "use a bucket that was made with object lock, and a key that may s3:PutObjectRetention, \
                 s3:PutObjectLegalHold and s3:GetObjectRetention; or leave out al_archivelock",
    }
}
