//! Who listens to what is being captured: the media thread hands a copy of what it has gathered to bounded
//! queues, and waits for nobody. Without listeners it does nothing. What is discarded in a pause never comes
//! here, and whoever listens to a recording is told when a pause begins, in order with the packets. What becomes of
//! the packets is for those who listen (`levels`, `listening`).

use storage_core::journal::{Channel, Entry, trusted_frame};
use storage_core::{Extension, RecordingId, SegmentId, WallTime};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::media_port::{Gathered, Port};

/// Sweeps that wait for one listener.
const SWEEPS_MAX: usize = 16;

/// A listener's end. It ends with the recording that it is of.
pub(crate) type Tap = mpsc::Receiver<Sound>;

/// The media thread's end.
#[derive(Debug)]
pub(crate) struct TapEnd {
    sender: mpsc::Sender<Sound>,
    /// Only this recording is listened to, or all.
    only: Option<RecordingId>,
}

/// What a listener is handed.
#[derive(Clone, Debug)]
pub(crate) enum Sound {
    /// What a sweep has gathered of the calls that are recorded.
    Heard(Vec<Tapped>),
    /// A pause has begun: what was received since then must not be heard.
    Hidden(WallTime),
    /// The recording is over, and nothing more comes.
    Over,
}

/// A block of packets, as it goes into the journal. It is wiped when it goes.
#[derive(Clone, Debug)]
pub(crate) struct Tapped {
    /// What received it.
    pub device: Extension,
    pub segment: SegmentId,
    /// The recording that the segment belongs to.
    pub recording: Option<RecordingId>,
    /// The codec that the switch named last; empty if none.
    pub codec: String,
    /// The framed block.
    pub block: Zeroizing<Vec<u8>>,
}

/// Both ends of a tap of one recording, or of all.
pub(crate) fn tap(only: Option<RecordingId>) -> (TapEnd, Tap) {
    let (sender, tap) = mpsc::channel(SWEEPS_MAX);
    (TapEnd { sender, only }, tap)
}

impl Tapped {
    /// The packets, and when they were received.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (WallTime, &[u8])> {
        let entry = trusted_frame(&self.block).and_then(|(_, frame)| frame.entry().ok());
        let block = entry.and_then(|entry| match entry {
            Entry::Packets(block) => Some(block),
            _ => None,
        });
        block.into_iter().flat_map(|block| block.iter())
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
        self.0.retain(|end| !end.sender.is_closed());
        let mut copied = Vec::new();
        if self.0.is_empty() {
            return copied;
        }
        let mut from = 0;
        for block in &gathered.blocks {
            let bytes = &gathered.bytes[from..block.end];
            from = block.end;
            let port = &ports[block.port];
            if let (Channel::Rtp, Some(segment)) = (block.channel, port.intake.segment())
                && self.0.iter().any(|end| end.wants(port.recording))
            {
                let (device, codec) = (port.phantom.device.clone(), port.codec.clone());
                let block = Zeroizing::new(bytes.to_vec());
                copied.push(Tapped { device, segment, recording: port.recording, codec, block });
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
            let wanted: Vec<_> =
                copied.iter().filter(|tapped| end.wants(tapped.recording)).cloned().collect();
            if !wanted.is_empty() {
                // Whoever is behind or has gone is no matter of the media thread's.
                drop(end.sender.try_send(Sound::Heard(wanted)));
            }
        }
    }

    /// A pause of a recording has begun. Whoever listens to it and cannot be told hears nothing more.
    pub(crate) fn hide(&mut self, recording: RecordingId, since: WallTime) {
        self.0.retain(|end| {
            end.only != Some(recording) || end.sender.try_send(Sound::Hidden(since)).is_ok()
        });
    }

    /// A recording is over: so is listening to it.
    pub(crate) fn end(&mut self, recording: RecordingId) {
        self.0.retain(|end| {
            let is_its = end.only == Some(recording);
            if is_its {
                // Whoever has no room hears of it by the end of the tap.
                drop(end.sender.try_send(Sound::Over));
            }
            !is_its
        });
    }
}

impl TapEnd {
    fn wants(&self, recording: Option<RecordingId>) -> bool {
        self.only.is_none() || self.only == recording
    }
}
