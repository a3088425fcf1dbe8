//! Who listens to what is being captured: the media thread hands a copy of what it has gathered to bounded
//! queues, and waits for nobody. Without listeners it does nothing. What is discarded in a pause never comes
//! here. What becomes of the packets is for those who listen (`levels`).

use storage_core::journal::{Channel, Entry, trusted_frame};
use storage_core::{Extension, SegmentId};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::media_port::{Gathered, Port};

/// Sweeps that wait for one listener.
const SWEEPS_MAX: usize = 16;

/// A listener's end: what each sweep has gathered of the calls that are recorded.
pub(crate) type Tap = mpsc::Receiver<Vec<Tapped>>;
/// The media thread's end.
pub(crate) type TapEnd = mpsc::Sender<Vec<Tapped>>;

/// A block of packets, as it goes into the journal. It is wiped when it goes.
#[derive(Clone, Debug)]
pub(crate) struct Tapped {
    /// What received it.
    pub device: Extension,
    pub segment: SegmentId,
    /// The codec that the switch named last; empty if none.
    pub codec: String,
    /// The framed block.
    pub block: Zeroizing<Vec<u8>>,
}

/// Both ends.
pub(crate) fn tap() -> (TapEnd, Tap) {
    mpsc::channel(SWEEPS_MAX)
}

impl Tapped {
    /// The packets.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let entry = trusted_frame(&self.block).and_then(|(_, frame)| frame.entry().ok());
        let block = entry.and_then(|entry| match entry {
            Entry::Packets(block) => Some(block),
            _ => None,
        });
        block.into_iter().flat_map(|block| block.iter()).map(|(_, packet)| packet)
    }
}

/// All listeners.
#[derive(Debug, Default)]
pub(crate) struct Taps(Vec<TapEnd>);

impl Taps {
    pub(crate) fn add(&mut self, end: TapEnd) {
        self.0.push(end);
    }

    /// A copy of the media that was gathered, if anybody listens. Made before the journal is given it, and handed
    /// on after that.
    pub(crate) fn copy(&mut self, gathered: &Gathered, ports: &[Port]) -> Vec<Tapped> {
        self.0.retain(|end| !end.is_closed());
        let mut copied = Vec::new();
        if self.0.is_empty() {
            return copied;
        }
        let mut from = 0;
        for block in &gathered.blocks {
            let bytes = &gathered.bytes[from..block.end];
            from = block.end;
            let port = &ports[block.port];
            if let (Channel::Rtp, Some(segment)) = (block.channel, port.intake.segment()) {
                let (device, codec) = (port.phantom.device.clone(), port.codec.clone());
                let block = Zeroizing::new(bytes.to_vec());
                copied.push(Tapped { device, segment, codec, block });
            }
        }
        copied
    }

    /// Hands it to those who listen; who has no room does not get it.
    pub(crate) fn hand_on(&self, copied: &[Tapped]) {
        if copied.is_empty() {
            return;
        }
        for end in &self.0 {
            // Whoever is behind or has gone is no matter of the media thread's.
            drop(end.try_send(copied.to_vec()));
        }
    }
}
