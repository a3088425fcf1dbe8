//! Fetches one voice file from a member that has it, or from the archive, piece by piece, and has it published
//! here. It gives way to the capture: while that comes late, it rests.

use std::sync::Arc;
use std::time::Duration;

use recorder::media_thread::MediaHandle;
use storage::disk::{DiskFile, read_full_at};
use storage::{CopyError, CopyWriter, Lies, VoiceError, VoiceStore};
use storage_core::{NodeId, Recording};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Parts;
use super::core::{Fetch, Outcome};
use crate::alarms::Alarm;
use crate::marks;
use crate::peers::{PeerError, Peers};
use crate::web::backend::Code;

/// A peer's first words.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long it rests while the capture comes late.
const REST: Duration = Duration::from_millis(500);
/// Read at once from the archive.
const PIECE_BYTES: usize = 1 << 20;

/// What came of it.
pub(super) struct Fetched {
    pub(super) outcome: Outcome,
    /// A copy was made.
    pub(super) copied: bool,
}

impl From<Outcome> for Fetched {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, copied: false }
    }
}

/// Why there is no copy of it from one member.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The member says no, or does not answer.
    #[error("{}", .0.message)]
    Peer(crate::web::backend::Failure),
    /// It is not there.
    #[error("it has none")]
    NotThere,
    /// It is another one, or cannot be written.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// It cannot be written.
    #[error("writing it failed")]
    Writer,
}

/// Fetches what an order says.
pub(super) async fn fetch(parts: &Arc<Parts>, order: Fetch) -> Fetched {
    let Fetch { recording, from } = order;
    let asked = Arc::clone(parts);
    let looked = spawn_blocking(move || {
        let record = asked.catalog.get(recording).ok().flatten()?;
        let lacking = matches!(asked.voices.lies(&record), Ok(Lies::Nothing | Lies::Earlier));
        lacking.then_some(record)
    });
    let Ok(Some(record)) = looked.await else { return Outcome::Settled.into() };
    if !parts.has_room(record.bytes) {
        return left_there(parts, record).await.into();
    }
    let mut nowhere = !from.is_empty();
    for node in from {
        match copy(&parts.peers, &parts.voices, &parts.media, node, &record).await {
            Ok(()) => {
                tracing::debug!(%recording, %node, "a copy is kept");
                return kept(parts, &record).await;
            }
            Err(Failed::Copy(CopyError::Voice(error))) if error.is_full() => {
                return Outcome::NoRoom.into();
            }
            Err(Failed::NotThere) => {}
            Err(error) => {
                if let Failed::Copy(CopyError::Differs { .. }) = &error {
                    parts.hub.alarms.raise(differs(&record, node, &error));
                }
                tracing::debug!(%recording, %node, %error, "no copy from there now");
                nowhere = false;
            }
        }
    }
    if parts.voices.archived_here(&record).is_none() {
        return if nowhere { Outcome::Nowhere.into() } else { Outcome::Failed.into() };
    }
    match archived(&parts.voices, &parts.media, &record).await {
        Ok(()) => {
            tracing::info!(%recording, "it is brought back from the archive");
            kept(parts, &record).await
        }
        Err(Failed::Copy(CopyError::Voice(error))) if error.is_full() => Outcome::NoRoom.into(),
        Err(error) => {
            tracing::debug!(%recording, %error, "it is not brought back from the archive now");
            Outcome::Failed.into()
        }
    }
}

async fn kept(parts: &Arc<Parts>, record: &Recording) -> Fetched {
    written_meanwhile(parts, record).await;
    parts.hub.alarms.clear("copydiffers", &record.recordingid.to_string());
    Fetched { outcome: Outcome::Settled, copied: true }
}

/// Where there is no room for a voice file that the archive has, its record is enough.
async fn left_there(parts: &Arc<Parts>, record: Recording) -> Outcome {
    if parts.voices.archived_here(&record).is_none() {
        return Outcome::NoRoom;
    }
    let voices = parts.voices.clone();
    match spawn_blocking(move || voices.adopt_archived(&record)).await {
        Ok(Ok(())) => Outcome::Settled,
        _ => Outcome::NoRoom,
    }
}

/// What people wrote about a recording while its copy was on its way is in the catalog only.
async fn written_meanwhile(parts: &Arc<Parts>, copied: &Recording) {
    let (parts, id) = (Arc::clone(parts), copied.recordingid);
    let written = spawn_blocking(move || marks::complete(id, &*parts.catalog, &parts.voices));
    // A panic there has been reported by the runtime.
    let _ = written.await;
}

/// Brings the voice file of a record here from a member that has it.
///
/// # Errors
/// [`Failed`].
pub async fn copy(
    peers: &Peers,
    voices: &VoiceStore,
    media: &MediaHandle,
    node: NodeId,
    record: &Recording,
) -> Result<(), Failed> {
    copy_and(CopyWriter::finish, (peers, voices, media), node, record).await
}

/// The same where what lies here is damaged: that is put aside once what came has proved right.
///
/// # Errors
/// [`Failed`]; what lies here is as it was.
pub async fn copy_over_damage(
    peers: &Peers,
    voices: &VoiceStore,
    media: &MediaHandle,
    node: NodeId,
    record: &Recording,
) -> Result<(), Failed> {
    copy_and(CopyWriter::finish_over_damage, (peers, voices, media), node, record).await
}

/// Brings the voice file of a record here from the archive.
///
/// # Errors
/// [`Failed`].
async fn archived(
    voices: &VoiceStore,
    media: &MediaHandle,
    record: &Recording,
) -> Result<(), Failed> {
    archived_and(CopyWriter::finish, voices, media, record).await
}

/// The same where what lies here is damaged, as in [`copy_over_damage`].
///
/// # Errors
/// [`Failed`]; what lies here is as it was.
pub async fn archived_over_damage(
    voices: &VoiceStore,
    media: &MediaHandle,
    record: &Recording,
) -> Result<(), Failed> {
    archived_and(CopyWriter::finish_over_damage, voices, media, record).await
}

async fn archived_and(
    finish: fn(CopyWriter) -> Result<Recording, CopyError>,
    voices: &VoiceStore,
    media: &MediaHandle,
    record: &Recording,
) -> Result<(), Failed> {
    let (store, wanted) = (voices.clone(), record.clone());
    let begun = move || Ok((store.in_archive(&wanted)?, store.copy(&wanted)?));
    let (file, mut writer) = blocking(begun).await?;
    let (mut offset, mut late) = (0, media.stats().sweeps_late.value());
    while offset < record.bytes {
        let (from, place) = (Arc::clone(&file), record.recordingid.to_string());
        let read = move || {
            let piece =
                piece_of(&*from, offset).map_err(|source| VoiceError::Archive { place, source })?;
            writer.write(&piece).map(|()| (writer, piece.len()))
        };
        let count;
        (writer, count) = blocking(read).await?;
        if count == 0 {
            // It is shorter than it was: what came is compared, and thrown away.
            break;
        }
        offset += count as u64;
        let late_now = media.stats().sweeps_late.value();
        if std::mem::replace(&mut late, late_now) != late_now {
            sleep(REST).await;
        }
    }
    blocking(move || finish(writer)).await?;
    Ok(())
}

fn piece_of(file: &dyn DiskFile, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut piece = vec![0; PIECE_BYTES];
    let count = read_full_at(file, &mut piece, offset)?;
    piece.truncate(count);
    Ok(piece)
}

async fn copy_and(
    finish: fn(CopyWriter) -> Result<Recording, CopyError>,
    (peers, voices, media): (&Peers, &VoiceStore, &MediaHandle),
    node: NodeId,
    record: &Recording,
) -> Result<(), Failed> {
    let asked = peers.voice_file(node, record, ANSWER_WITHIN).await;
    let mut stream = asked.map_err(|error| match error {
        PeerError::Refused(failure) if failure.code == Code::NotFound => Failed::NotThere,
        error => Failed::Peer(error.into_failure()),
    })?;
    let (store, wanted) = (voices.clone(), record.clone());
    let mut writer = blocking(move || store.copy(&wanted).map_err(CopyError::from)).await?;
    let mut late = media.stats().sweeps_late.value();
    while let Some(piece) =
        stream.piece().await.map_err(|error| Failed::Peer(error.into_failure()))?
    {
        writer = blocking(move || writer.write(&piece).map(|()| writer)).await?;
        let late_now = media.stats().sweeps_late.value();
        if std::mem::replace(&mut late, late_now) != late_now {
            sleep(REST).await;
        }
    }
    blocking(move || finish(writer)).await?;
    Ok(())
}

/// Does what waits for the disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CopyError> + Send + 'static,
) -> Result<T, Failed> {
    // A panic there has been reported by the runtime.
    Ok(spawn_blocking(work).await.map_err(|_| Failed::Writer)??)
}

fn differs(record: &Recording, node: NodeId, error: &Failed) -> Alarm {
    Alarm {
        name: "copydiffers",
        subject: record.recordingid.to_string(),
        message: format!(
            "the voice file of recording {} on node {node} is not what its record says: {error}",
            record.recordingid
        ),
        remedy: "run astlogger verify on that node's voice folder, and restore what it names",
    }
}
