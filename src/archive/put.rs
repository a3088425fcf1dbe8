//! Puts one recording into the archive: the voice file as it lies on the disk, then its record, each read back from
//! there and compared before anything is noted. A large one goes in parts, and after a break goes on behind the
//! parts that are there. What is due is asked of [`super::core`]; what becomes of a failure is decided there, too.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use recorder::clock::Clock;
use sha2::{Digest, Sha256};
use storage::archived::{ToArchive, record_to_archive};
use storage::disk::DiskFile;
use storage_core::archived::{self, Archived};
use storage_core::marks::Stamp;
use storage_core::{Recording, RecordingId, WallTime, hex};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Parts;
use super::alarms;
use super::core::Due;
use super::resume::Note;
use super::target::{Kind, Lying, PART_BYTES, TargetError, Upload};

/// How long it rests while the capture comes late.
const REST: Duration = Duration::from_millis(500);

/// Why a recording is not in the archive now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The archive's answer.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What lies here cannot be archived.
    #[error("{0}")]
    Here(String),
    /// What lies there is not what was put there.
    #[error("what was read back is not what was put there")]
    Differs,
}

/// What is to be put there.
struct Job {
    /// As it lies on this disk.
    record: Recording,
    /// Its form in the archive, and the SHA-256 of that.
    json: Vec<u8>,
    digest: String,
    due: Due,
}

/// Puts there what is due of a recording; all of it with `anew`. Tells whether a voice file was put there.
pub(super) async fn put(parts: &Arc<Parts>, id: RecordingId, anew: bool) -> Result<bool, Failed> {
    let asked = Arc::clone(parts);
    let job = blocking(move || asked.job(id, anew)).await?;
    let Some(Job { record, json, digest, due }) = job? else { return Ok(false) };
    let (noted, stored) = match (due, &record.archived) {
        (Due::Nothing, _) => return Ok(false),
        (Due::Record, Some(noted)) => (noted.clone(), false),
        _ => voice(parts, &record).await?,
    };
    whole(parts, &archived::record_name(&record), &json, &digest).await?;
    remove_strays(parts, &record).await?;
    lock(parts, &record).await?;
    if parts.voices.is_deleted(id) {
        // What was put there is deleted by the debt that this has left.
        return Ok(false);
    }
    let noted = Archived { record: digest, stamp: parts.stamp(&record), ..noted };
    let noting = Arc::clone(parts);
    let written = blocking(move || noting.marker.archived(id, &noted)).await?;
    written.map_err(|failure| Failed::Here(failure.message))?;
    Ok(stored)
}

impl Parts {
    /// What is due of a recording that lies here. Blocks.
    fn job(&self, id: RecordingId, anew: bool) -> Result<Option<Job>, Failed> {
        let here = |error: &dyn std::fmt::Display| Failed::Here(error.to_string());
        // What people write is listed before it is in the record on the disk.
        let _turn = self.marker.turn();
        let Some(listed) = self.catalog.get(id).map_err(|error| here(&error))? else {
            return Ok(None);
        };
        // What is being published or copied comes again when it is entered.
        let Ok(record) = self.voices.record(id, listed.started) else { return Ok(None) };
        if record.revision != listed.revision || self.voices.is_deleted(id) {
            return Ok(None);
        }
        let (json, digest) = record_to_archive(&record).map_err(|error| here(&error))?;
        let due = match self.sight().due(&record, &digest) {
            Due::Nothing if !anew => Due::Nothing,
            _ if anew => Due::Whole,
            due => due,
        };
        if due == Due::Whole && !self.voices.lies_on_disk(&record) {
            let message = "its voice file does not lie on this node";
            return Err(Failed::Here(message.to_owned()));
        }
        Ok(Some(Job { record, json, digest, due }))
    }

    /// Later than what is known.
    fn stamp(&self, record: &Recording) -> Stamp {
        let now = Clock::wall().as_millis();
        let known = record.archived.as_ref().map_or(i64::MIN, |known| known.stamp.at.as_millis());
        let at = WallTime::from_millis(now.max(known.saturating_add(1)));
        Stamp { at, node: self.peers.group().node() }
    }

    /// Gives way to the capture.
    pub(super) async fn rest_while_late(&self, seen: &mut u64) {
        let now = self.media.stats().sweeps_late.value();
        if std::mem::replace(seen, now) != now {
            sleep(REST).await;
        }
    }
}

/// Puts the voice file there, unless it is there already; tells which.
async fn voice(parts: &Arc<Parts>, record: &Recording) -> Result<(Archived, bool), Failed> {
    let (store, wanted) = (parts.voices.clone(), record.clone());
    let file = blocking(move || store.to_archive(&wanted)).await?;
    let file = file.map_err(|error| Failed::Here(error.to_string()))?;
    let name = archived::voice_name(record);
    let there = parts.target.head(&name).await?;
    let same_length = there.filter(|there| there.bytes == file.bytes);
    let is_there = match &same_length {
        Some(there) => stored(parts, &name, there).await? == file.stored,
        None => false,
    };
    if !is_there {
        upload(parts, record.recordingid, &name, &file).await?;
        let there = parts.target.head(&name).await?;
        let there = there.filter(|there| there.bytes == file.bytes).ok_or(Failed::Differs)?;
        if stored(parts, &name, &there).await? != file.stored {
            return Err(Failed::Differs);
        }
    }
    let noted = Archived {
        place: format!("{}/{name}", parts.target.place()),
        revision: record.revision,
        sha256: record.sha256.clone(),
        encrypted: record.encrypted,
        bytes: file.bytes,
        stored: file.stored,
        record: String::new(),
        stamp: parts.stamp(record),
    };
    Ok((noted, !is_there))
}

/// SHA-256 of what lies there, read back.
pub(super) async fn stored(
    parts: &Parts,
    name: &str,
    there: &Lying,
) -> Result<String, TargetError> {
    let (mut sha256, mut late) = (Sha256::new(), parts.media.stats().sweeps_late.value());
    for range in pieces(there.bytes) {
        sha256.update(parts.target.read(name, range, &there.tag).await?);
        parts.rest_while_late(&mut late).await;
    }
    Ok(hex::encode(&sha256.finalize()))
}

/// Puts a small file there, and reads it back.
async fn whole(parts: &Parts, name: &str, bytes: &[u8], digest: &str) -> Result<(), Failed> {
    parts.target.put(name, bytes.to_vec()).await?;
    let there = parts.target.head(name).await?.ok_or(Failed::Differs)?;
    if stored(parts, name, &there).await? == digest { Ok(()) } else { Err(Failed::Differs) }
}

/// Has the archive lock what lies there now. One that does not keeps no recording from being archived.
async fn lock(parts: &Parts, record: &Recording) -> Result<(), Failed> {
    let Some(rule) = &parts.lock else { return Ok(()) };
    let lock = rule.lock(record, Clock::wall());
    for name in [archived::voice_name(record), archived::record_name(record)] {
        match parts.target.lock(&name, &lock).await {
            Err(error) if error.kind == Kind::NoLock => {
                let alarm = alarms::not_locked(parts.target.place(), &error.words);
                parts.hub.alarms.raise(alarm);
                return Ok(());
            }
            done => done?,
        }
    }
    parts.hub.alarms.clear("archivenotlocked", "");
    Ok(())
}

/// An earlier revision may lie there under other names.
async fn remove_strays(parts: &Parts, record: &Recording) -> Result<(), Failed> {
    if record.revision == 1 && record.archived.is_none() {
        return Ok(());
    }
    let ours = [archived::voice_name(record), archived::record_name(record)];
    let mut names = archived::names_near(record.recordingid, record.started);
    names.retain(|name| !ours.contains(name));
    match parts.target.delete(&names).await {
        // They are hidden, and go with the recording.
        Err(TargetError { kind: Kind::Locked(_), .. }) => Ok(()),
        done => Ok(done?),
    }
}

/// Puts a voice file there: one that fits into a part as a whole, another one part by part.
async fn upload(
    parts: &Arc<Parts>,
    id: RecordingId,
    name: &str,
    file: &ToArchive,
) -> Result<(), Failed> {
    if file.bytes <= PART_BYTES {
        let bytes = read(&file.file, 0..file.bytes).await?;
        return Ok(parts.target.put(name, bytes).await?);
    }
    let mut note = goes_on(parts, id, name, file).await?;
    let upload = note.upload();
    let done = send_parts(parts, id, &upload, &mut note, file).await;
    if let Err(Failed::Target(TargetError { kind: Kind::NotThere, .. })) = &done {
        // The archive has forgotten it: it begins anew.
        parts.notes.forget(id);
    }
    done
}

async fn send_parts(
    parts: &Arc<Parts>,
    id: RecordingId,
    upload: &Upload,
    note: &mut Note,
    file: &ToArchive,
) -> Result<(), Failed> {
    let mut late = parts.media.stats().sweeps_late.value();
    for (number, range) in pieces(file.bytes).enumerate().skip(note.parts.len()) {
        let bytes = read(&file.file, range).await?;
        note.parts.push(parts.target.part(upload, number, bytes).await?);
        parts.keep(id, note).await;
        parts.rest_while_late(&mut late).await;
    }
    parts.target.complete(upload, note.parts.clone()).await?;
    parts.notes.forget(id);
    Ok(())
}

/// The upload that an earlier attempt has begun, or a new one.
async fn goes_on(
    parts: &Arc<Parts>,
    id: RecordingId,
    name: &str,
    file: &ToArchive,
) -> Result<Note, Failed> {
    let (notes, place) = (parts.notes.clone(), parts.target.place().to_owned());
    if let Some(note) = blocking(move || notes.read(id)).await? {
        if note.is_for(&place, name, file.bytes, &file.stored) {
            tracing::info!(recording = %id, parts = note.parts.len(), "goes on into the archive");
            return Ok(note);
        }
        if note.place == place {
            // What cannot be aborted costs room there, no more.
            let _ = parts.target.abort(&note.upload()).await;
        }
    }
    let Upload { name, id: upload } = parts.target.begin(name).await?;
    let (bytes, stored) = (file.bytes, file.stored.clone());
    let note = Note {
        place: parts.target.place().to_owned(),
        name,
        upload,
        bytes,
        stored,
        parts: Vec::new(),
    };
    parts.keep(id, &note).await;
    Ok(note)
}

impl Parts {
    async fn keep(&self, id: RecordingId, note: &Note) {
        let (notes, note) = (self.notes.clone(), note.clone());
        if let Ok(Err(error)) = blocking(move || notes.write(id, &note)).await {
            tracing::warn!(recording = %id, %error, "after a restart it goes into the archive from the begin");
        }
    }
}

/// The ranges in which so many bytes are put there and read back.
fn pieces(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let count = bytes.div_ceil(PART_BYTES);
    (0..count).map(move |number| {
        let begin = number * PART_BYTES;
        begin..bytes.min(begin + PART_BYTES)
    })
}

async fn read(file: &Arc<dyn DiskFile>, range: Range<u64>) -> Result<Vec<u8>, Failed> {
    let file = Arc::clone(file);
    let read = blocking(move || {
        let length = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
        let (mut bytes, mut filled) = (vec![0; length], 0);
        while filled < length {
            match file.read_at(&mut bytes[filled..], range.start + filled as u64)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(bytes)
    });
    read.await?.map_err(|error: std::io::Error| Failed::Here(error.to_string()))
}

/// Does what waits for the disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    // A panic there has been reported by the runtime.
    spawn_blocking(work).await.map_err(|_| Failed::Here("reading it broke off".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_parts_and_the_last_one_is_what_is_left() {
        let of = |bytes| pieces(bytes).collect::<Vec<_>>();
        assert_eq!(of(0), Vec::<Range<u64>>::new());
        assert_eq!(of(5), vec![Range { start: 0, end: 5 }]);
        assert_eq!(of(PART_BYTES), vec![Range { start: 0, end: PART_BYTES }]);
        assert_eq!(
            of(2 * PART_BYTES + 1)[1..],
            [PART_BYTES..2 * PART_BYTES, 2 * PART_BYTES..2 * PART_BYTES + 1]
        );
    }
}
