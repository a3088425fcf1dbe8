//! The account of what was sent to one terminal: which frames of which call, and which of them were
//! dropped on purpose. Tests and the demonstration judge recordings against it.

use super::Play;
use crate::time::Time;
use crate::tone::Part;

/// Stretches of dropped frames remembered per record.
const DROPS_MAX: usize = 10_000;

/// What was sent to one terminal of one interaction without interruption.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamRecord {
    /// Extension of the terminal: the phantom.
    pub phantom: String,
    /// Device instance.
    pub instance: u8,
    /// AES that the terminal was registered through.
    pub aes: usize,
    /// Whose voices were in it.
    pub part: Part,
    /// The interaction.
    pub serial: u32,
    /// First coded frame made, dropped or not.
    pub first_frame: Option<u32>,
    /// Last coded frame made.
    pub last_frame: Option<u32>,
    /// Packets with a coded frame that were sent; duplicates count once.
    pub sent: u64,
    /// Coded frames deliberately not sent.
    pub dropped: u64,
    /// Which frames those are: first and last of each stretch, as far as remembered.
    pub dropped_frames: Vec<(u32, u32)>,
    /// Packets without a code (before the call was established).
    pub uncoded: u64,
    /// When the stream began.
    pub started: Time,
    /// When it ended; `None`: it goes on.
    pub ended: Option<Time>,
}

impl StreamRecord {
    /// Nothing sent yet.
    pub(super) fn new(now: Time, play: &Play) -> Self {
        Self {
            phantom: play.key.0.as_str().to_owned(),
            instance: play.key.1,
            aes: play.aes,
            part: play.part,
            serial: play.serial.0,
            first_frame: None,
            last_frame: None,
            sent: 0,
            dropped: 0,
            dropped_frames: Vec::new(),
            uncoded: 0,
            started: now,
            ended: None,
        }
    }

    /// A packet was sent; the number of its frame, if it is coded.
    pub(super) fn count_sent(&mut self, frame: Option<u32>) {
        match frame {
            Some(number) => {
                self.first_frame.get_or_insert(number);
                self.last_frame = Some(number);
                self.sent += 1;
            }
            None => self.uncoded += 1,
        }
    }

    /// A packet was made and deliberately not sent.
    pub(super) fn count_dropped(&mut self, frame: Option<u32>) {
        let Some(number) = frame else { return };
        self.first_frame.get_or_insert(number);
        self.last_frame = Some(number);
        self.dropped += 1;
        if let Some((_, last)) = self.dropped_frames.last_mut()
            && last.checked_add(1) == Some(number)
        {
            *last = number;
            return;
        }
        if self.dropped_frames.len() < DROPS_MAX {
            self.dropped_frames.push((number, number));
        }
    }
}
