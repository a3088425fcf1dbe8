//! Sealing on a node that has no group to ask: what is complete is sealed, and what is sealed is
//! published.

use std::sync::Arc;
use std::time::Duration;

use recorder::media_thread::MediaHandle;
use recorder::seal_queue::SealQueue;
use recorder::sealer::SealEvent;
use recorder::sealing::{SealJob, Sealed};
use storage::{Catalog, VoiceStore};
use storage_core::journal::Fact;
use storage_core::{NodeId, RecordingId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::hub::Hub;

/// Until a full queue is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

/// Hands what is complete in the journal to the sealer.
pub fn forward(
    node: NodeId,
    mut complete: mpsc::Receiver<RecordingId>,
    queue: SealQueue,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(recording) = complete.recv().await {
            let job = SealJob::alone(recording, node, 1);
            while !queue.push(job.clone()) {
                tokio::time::sleep(AGAIN).await;
            }
        }
    })
}

/// Publishes what the sealer has staged.
pub struct Publisher {
    /// Where it is staged.
    pub voices: VoiceStore,
    /// Where it is entered.
    pub catalog: Arc<dyn Catalog>,
    /// Told of it.
    pub hub: Arc<Hub>,
    /// Writes down that the capture is not needed any more.
    pub media: MediaHandle,
}

impl Publisher {
    /// Does what follows from what the sealer tells.
    pub fn take(&self, event: SealEvent) {
        let SealEvent { job, outcome } = event;
        match outcome {
            Ok(Sealed::Staged { staged, .. }) => match self.voices.publish_staged(&staged) {
                Ok(record) => self.hub.published(&record, &*self.catalog),
                Err(error) => return self.hub.set_aside(job.recording, &error),
            },
            Ok(Sealed::Missed { draft, reason, .. }) => self.hub.missed(&draft, &reason),
            Ok(Sealed::Same { .. }) => {}
            Err(error) if error.is_gone() => return,
            Err(error) => return self.hub.set_aside(job.recording, &error),
        }
        for recordingid in job.local {
            // Where it is not taken, the next start seals once more and finds the same.
            drop(self.media.send(Fact::Sealed { recordingid }));
        }
    }
}
