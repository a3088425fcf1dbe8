//! Fetches what another node captured of a recording, from that node or from whoever mirrored it. It decides how
//! long a peer may take.

use std::time::Duration;

use recorder::pulled::{PulledCapture, PulledFolder};
use storage_core::{NodeId, RecordingId, SegmentId};
use tokio::task::spawn_blocking;

use crate::peers::{PeerError, Peers, Stream};
use crate::web::backend::{Code, Failure};

const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Fetches a peer's captures. `None` while the peer is still capturing them.
///
/// # Errors
/// If the peer does not answer to the end, or what it sent cannot be used.
pub(super) async fn pull(
    peers: &Peers,
    folder: &PulledFolder,
    from: NodeId,
    clock_offset_us: i64,
    recording: RecordingId,
    segments: &[SegmentId],
) -> Result<Option<PulledCapture>, Failure> {
    let asked = peers.capture(from, recording, segments.to_vec(), ANSWER_WITHIN).await;
    let mut stream = match asked {
        Ok(stream) => stream,
        Err(PeerError::Refused(failure)) if failure.code == Code::Busy => return Ok(None),
        Err(error) => return Err(error.into_failure()),
    };
    take(&mut stream, folder, from, clock_offset_us).await.map(Some)
}

/// Fetches what a peer keeps of the captures of another node, whose clock is ahead of the peer's by so much more
/// than the peer's of ours. `None` if it keeps nothing of them.
///
/// # Errors
/// If the peer does not answer to the end, or what it sent cannot be used.
pub(super) async fn pull_kept(
    peers: &Peers,
    folder: &PulledFolder,
    (owner, keeper): (NodeId, NodeId),
    clock_offset_us: i64,
    segments: &[SegmentId],
) -> Result<Option<PulledCapture>, Failure> {
    let asked = peers.kept(keeper, owner, segments.to_vec(), ANSWER_WITHIN).await;
    let Some((offset, mut stream)) = asked.map_err(PeerError::into_failure)? else {
        return Ok(None);
    };
    take(&mut stream, folder, owner, clock_offset_us.saturating_add(offset)).await.map(Some)
}

async fn take(
    stream: &mut Stream,
    folder: &PulledFolder,
    owner: NodeId,
    clock_offset_us: i64,
) -> Result<PulledCapture, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Code::Internal, error.to_string());
    let mut writer = folder.begin(owner, clock_offset_us).map_err(|error| unusable(&error))?;
    while let Some(piece) = stream.piece().await.map_err(PeerError::into_failure)? {
        writer.write(&piece).map_err(|error| unusable(&error))?;
    }
    // It reads all of it once more.
    let finished = spawn_blocking(move || writer.finish()).await;
    let finished = finished.map_err(|error| unusable(&error))?;
    finished.map_err(|error| unusable(&error))
}
