//! How the bridge's outputs are carried out: proposals, sealing, publishing, listing. Each is begun
//! here and reports back when it is done; nothing waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_core::Command;
use recorder::sealer::SealEvent;
use recorder::sealing::Sealed;
use storage::{Staged, VoiceError};
use storage_core::journal::Fact;
use storage_core::{NodeId, Recording, RecordingId, SegmentId};
use tokio::task::spawn_blocking;

use super::core::{About, SealOrder, SealOutcome};
use super::gather::{Gathered, Gathering};
use super::{Done, PROPOSAL, RECORDS_WITHIN, Shell, key_of, words};
use crate::alarms::Alarm;
use crate::marks;

/// SHA-256 as the ledger and as a record have it.
type Digest = [u8; 32];

impl Shell {
    pub(super) fn propose(&self, about: About, command: Command) {
        let pending = self.parts.group.submit(command, PROPOSAL);
        let results = self.results.clone();
        tokio::spawn(async move {
            let outcome = pending.outcome().await.ok();
            // Whoever has ended needs no answer; so with all results here.
            let _ = results.send(Done::Answered(about, outcome));
        });
    }

    /// Reads what the journal holds of a recording.
    pub(super) fn outline(&self, local: RecordingId) {
        let (capture, results) = (self.parts.capture.clone(), self.results.clone());
        let node = self.parts.group.node();
        spawn_blocking(move || match words::read_outline(&capture, node, local) {
            Ok(outline) => drop(results.send(Done::Outlined(local, outline))),
            Err(error) => tracing::error!(recording = %local, %error, "cannot be looked at"),
        });
    }

    /// Looks whether something is kept here of a node that does not answer, and was never claimed.
    pub(super) fn inherit(&self) {
        let unclaimed = self.parts.group.read(|state| self.parts.mirrors.unclaimed(state));
        for (owner, recording) in unclaimed {
            let (mirrors, results) = (Arc::clone(&self.parts.mirrors), self.results.clone());
            spawn_blocking(move || match mirrors.outline(owner, recording) {
                Ok(outline) => drop(results.send(Done::Inherited(outline))),
                Err(error) => {
                    tracing::error!(%recording, node = %owner, %error, "its mirror cannot be read");
                }
            });
        }
    }

    /// Has the captures gathered and handed to the sealer.
    pub(super) fn seal(&self, order: SealOrder) {
        let gathering = Gathering {
            node: self.parts.group.node(),
            peers: self.parts.peers.clone(),
            folder: self.parts.pulled.clone(),
            mirrors: Arc::clone(&self.parts.mirrors),
            offsets: self.parts.group.view().clock_offset_us,
            offsets_known: self.clocks.known(),
        };
        if self.parts.voices.is_deleted(order.recording) {
            // Nothing of it is to be had any more, by anybody.
            let own = order.own.iter().map(|segment| (gathering.node, *segment));
            let remote = order.remote.iter().flat_map(|(node, parts)| with(*node, parts));
            let mirrored =
                order.mirrored.iter().flat_map(|((node, _), part)| with(*node, &part.segments));
            let captures = own.chain(remote).chain(mirrored).collect();
            drop(self.results.send(Done::Void(order.recording, captures)));
            return;
        }
        let (pulls, results) = (Arc::clone(&self.pulls), self.results.clone());
        let seal = self.parts.seal.clone();
        tokio::spawn(async move {
            let _place = match order.pulls(gathering.node) {
                false => None,
                // It is never closed.
                true => pulls.acquire_owned().await.ok(),
            };
            let recording = order.recording;
            let refused = match gathering.gather(order).await {
                Gathered::Job(job) => (!seal.push(*job)).then_some(Done::SealRefused(recording)),
                Gathered::Void(captures) => Some(Done::Void(recording, captures)),
                Gathered::Nothing => Some(Done::SealRefused(recording)),
            };
            // Whoever has ended needs no answer.
            refused.map(|done| results.send(done));
        });
    }

    pub(super) fn take_sealed(&mut self, event: SealEvent) {
        let recording = event.job.recording;
        let outcome = match event.outcome {
            Ok(Sealed::Staged { staged, from, to, captures }) => {
                match digest_of(&staged.record().sha256) {
                    Some(sha256) => {
                        self.staged.insert(key_of(&staged), *staged);
                        SealOutcome::Staged { from, to, sha256, captures }
                    }
                    None => SealOutcome::Failed,
                }
            }
            Ok(Sealed::Same { captures, .. }) => SealOutcome::Same { captures },
            Ok(Sealed::Missed { reason, .. }) => {
                tracing::warn!(%recording, %reason, "nothing was captured");
                SealOutcome::Nothing
            }
            // The journal has been told meanwhile that it owes it no more.
            Err(error) if error.is_gone() => SealOutcome::Failed,
            // The order comes again, and is answered in another way.
            Err(_) if self.parts.voices.is_deleted(recording) => SealOutcome::Failed,
            Err(error) => {
                self.parts.hub.not_sealed(recording, &error);
                SealOutcome::Impossible
            }
        };
        self.bridge.sealed(recording, outcome);
    }

    /// The group has agreed: the staged file gets its final name.
    pub(super) fn publish(&self, recording: RecordingId, revision: u32) {
        match self.staged.get(&(recording, revision)) {
            Some(staged) => self.publish_staged(staged.clone()),
            // Agreed upon was that the published file has it all.
            None => drop(self.results.send(Done::Listed(recording, revision, true))),
        }
    }

    fn publish_staged(&self, staged: Staged) {
        let (voices, catalog) = (self.parts.voices.clone(), self.parts.catalog.clone());
        let (hub, takeovers) = (self.parts.hub.clone(), self.parts.takeovers.clone());
        let results = self.results.clone();
        let (recording, revision) = key_of(&staged);
        spawn_blocking(move || {
            let published = voices.publish_staged(&staged);
            if let Err(VoiceError::Deleted { .. }) = published {
                return drop(results.send(Done::Listed(recording, revision, true)));
            }
            hub.alarms.set(published.is_err(), not_published(published.as_ref().err()));
            let listed = match &published {
                Ok(record) => {
                    hub.published(record);
                    for gap_ms in takeovers.published(record) {
                        hub.metrics.takeover_gap.observe(gap_ms as f64 / 1000.0);
                    }
                    let entered = hub.enter(record, &*catalog);
                    marks::complete(recording, &*catalog, &voices);
                    hub.tell_published(record);
                    entered
                }
                Err(_) => false,
            };
            let _ = results.send(Done::Listed(recording, revision, listed));
        });
    }

    pub(super) fn discard(&mut self, recording: RecordingId, revision: u32) {
        if let Some(staged) = self.staged.remove(&(recording, revision)) {
            let voices = self.parts.voices.clone();
            spawn_blocking(move || {
                if let Err(error) = voices.discard(&staged) {
                    tracing::warn!(%recording, %error, "a staged file stays");
                }
            });
        }
    }

    /// A recording that is sealed by this node: after a crash it may be staged only, or published
    /// and not listed.
    pub(super) fn list_own(&self, recording: RecordingId, revision: u32, sha256: Digest) {
        if let Some(staged) = self.staged.get(&(recording, revision))
            && digest_of(&staged.record().sha256) == Some(sha256)
        {
            return self.publish_staged(staged.clone());
        }
        let (voices, catalog) = (self.parts.voices.clone(), self.parts.catalog.clone());
        let (hub, results) = (self.parts.hub.clone(), self.results.clone());
        if voices.is_deleted(recording) {
            return drop(results.send(Done::Listed(recording, revision, true)));
        }
        spawn_blocking(move || {
            let known = catalog.get(recording).ok().flatten();
            let is_it = |record: &Recording| digest_of(&record.sha256) == Some(sha256);
            let record = known
                .filter(is_it)
                .or_else(|| voices.published(recording).ok().flatten().filter(is_it));
            hub.alarms.set(record.is_none(), lost(recording));
            let listed = record.is_some_and(|record| hub.enter(&record, &*catalog));
            let _ = results.send(Done::Listed(recording, revision, listed));
        });
    }

    /// Recordings that lie on another node: their records are asked for and listed here.
    pub(super) fn list(&self, at: NodeId, wanted: Vec<(RecordingId, u32, Digest)>) {
        let (peers, catalog) = (self.parts.peers.clone(), self.parts.catalog.clone());
        let (hub, results) = (self.parts.hub.clone(), self.results.clone());
        let voices = &self.parts.voices;
        let is_deleted =
            |(recording, ..): &(RecordingId, u32, Digest)| voices.is_deleted(*recording);
        let (deleted, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_deleted);
        for (recording, revision, _) in deleted {
            let _ = results.send(Done::Listed(recording, revision, true));
        }
        if wanted.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let ids = wanted.iter().map(|(recording, ..)| *recording).collect();
            let held = peers.records(at, ids, RECORDS_WITHIN).await.unwrap_or_default();
            let records: BTreeMap<_, _> =
                held.into_iter().map(|held| (held.record.recordingid, held.record)).collect();
            let entering = spawn_blocking(move || {
                for (recording, revision, sha256) in wanted {
                    let record = records.get(&recording);
                    let record = record.filter(|r| digest_of(&r.sha256) == Some(sha256));
                    let listed =
                        record.is_some_and(|record| hub.enter_published(record, &*catalog));
                    let _ = results.send(Done::Listed(recording, revision, listed));
                }
            });
            // A panic there has been reported by the runtime.
            drop(entering.await);
        });
    }

    /// Tells the journal what it owes no more, as far as it takes it. What it does not take before
    /// the end is claimed again at the next start, and found superfluous.
    pub(super) fn say(&mut self) {
        while let Some(recordingid) = self.unsaid.pop_front() {
            if self.parts.media.send(Fact::Sealed { recordingid }).is_err() {
                self.unsaid.push_front(recordingid);
                return;
            }
        }
    }
}

fn with(node: NodeId, segments: &[SegmentId]) -> impl Iterator<Item = (NodeId, SegmentId)> {
    segments.iter().map(move |segment| (node, *segment))
}

/// Reads a record's checksum.
fn digest_of(hex: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

fn not_published(error: Option<&VoiceError>) -> Alarm {
    Alarm {
        name: "notpublished",
        subject: String::new(),
        message: error.map_or_else(String::new, |error| {
            format!("a recording that is sealed cannot be published: {error}")
        }),
        remedy: "make room below al_datadir; it is tried again by itself",
    }
}

fn lost(recording: RecordingId) -> Alarm {
    Alarm {
        name: "recordinglost",
        subject: recording.to_string(),
        message: format!(
            "recording {recording} was sealed by this node and is not in its voice folder"
        ),
        remedy: "restore the voice folder from a copy, or give it up with `resolve` on the console",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_read_as_it_is_written() {
        let hex = "00ff".repeat(16);
        assert_eq!(digest_of(&hex).map(|digest| (digest[0], digest[31])), Some((0, 255)));
        for wrong in ["", "00ff", &"0g".repeat(32), &"ä".repeat(32)] {
            assert_eq!(digest_of(wrong), None, "{wrong}");
        }
    }
}
