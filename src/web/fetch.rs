//! Recordings on their way through one WebSocket: numbered, cut into frames, interleaved frame by
//! frame, so that a short one never waits for a long one. It reads (on blocking threads) one frame
//! ahead of the sender and no more; so a slow client costs two frames of memory, however many
//! fetches he runs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::backend::{Audio, Code, Failure};
use super::board::Place;
use super::outbox::Outbox;
use super::protocol::FRAME_BYTES_MAX;
use super::session::hex;

/// The fetch's number opens each binary frame, big-endian.
pub const NUMBER_BYTES: usize = 4;
const AUDIO_BYTES_MAX: usize = FRAME_BYTES_MAX - NUMBER_BYTES;
/// A recording, or a part of it, that is being sent.
pub struct Fetch {
    place: Place,
    audio: Box<dyn Audio>,
    next: u64,
    end: u64,
    sent: u64,
    sha256: Sha256,
    _slot: OwnedSemaphorePermit,
}

impl Fetch {
    /// Sends the bytes from `first` up to `end`, which is not sent; both lie within the audio.
    pub fn new(
        place: Place,
        mut audio: Box<dyn Audio>,
        first: u64,
        end: u64,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        audio.will_read(first, end);
        let sha256 = Sha256::new();
        Self { place, audio, next: first, end, sent: 0, sha256, _slot: slot }
    }

    fn frame_bytes(&self) -> usize {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        NUMBER_BYTES + left.min(AUDIO_BYTES_MAX)
    }

    /// Blocking.
    fn read(&mut self) -> io::Result<Bytes> {
        let mut frame = vec![0; self.frame_bytes()];
        let (number, audio) = frame.split_at_mut(NUMBER_BYTES);
        number.copy_from_slice(&self.place.number().to_be_bytes());
        read_exact_at(self.audio.as_mut(), self.next, audio)?;
        self.sha256.update(&*audio);
        self.next += audio.len() as u64;
        self.sent += audio.len() as u64;
        Ok(frame.into())
    }

    fn complete(&self) -> String {
        let sha256 = hex(&self.sha256.clone().finalize());
        let event = json!({
            "eventtype": "fetchcomplete",
            "fetch": self.place.number(),
            "bytes": self.sent,
            "sha256": sha256,
        });
        event.to_string()
    }

    fn failed(&self, error: &io::Error) -> String {
        tracing::error!(%error, "a recording's audio cannot be read on");
        // A failure is worded for people; what the disk says is not.
        let worded = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
        let (code, message) = worded
            .map_or((Code::Internal, "the audio cannot be read on"), |failure| {
                (failure.code, &failure.message)
            });
        let event = json!({
            "eventtype": "fetchfailed",
            "fetch": self.place.number(),
            "bytes": self.sent,
            "error": code.as_str(),
            "message": message,
        });
        event.to_string()
    }
}

/// Fills the buffer from `offset`. Blocking.
///
/// # Errors
/// `UnexpectedEof` when the audio is shorter than it said, and whatever reading gives.
pub fn read_exact_at(audio: &mut dyn Audio, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        filled += read_far_at(audio, offset + filled as u64, &mut buffer[filled..])?;
    }
    Ok(())
}

/// Reads as much of it as can be read, and fails only if that is nothing.
pub fn read_far_at(audio: &mut dyn Audio, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let failed = match audio.read_at(offset + filled as u64, &mut buffer[filled..]) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(count) => {
                filled += count;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        return if filled > 0 { Ok(filled) } else { Err(failed) };
    }
    Ok(filled)
}

/// What the sender is to send next.
pub enum Step {
    /// A binary frame of the fetch, then perhaps the event that ends it.
    Frame {
        /// With the number in front.
        frame: Bytes,
        /// After the last frame.
        then: Option<String>,
    },
    /// An event alone: the fetch has failed.
    Event(String),
}

struct Reading {
    bytes: usize,
    task: JoinHandle<(Fetch, io::Result<Bytes>)>,
}

/// The fetches of one socket, owned by its sender.
pub struct Fetches {
    outbox: Arc<Outbox>,
    waiting: VecDeque<Fetch>,
    reading: Option<Reading>,
}

impl Fetches {
    /// None. What is read ahead counts in `outbox`.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, waiting: VecDeque::new(), reading: None }
    }

    /// Begins one.
    pub fn start(&mut self, fetch: Fetch) {
        self.waiting.push_back(fetch);
        self.read_on();
    }

    /// The next step; never ready while no fetch runs. May be dropped at any time. A frame counts
    /// as waiting in the outbox until the sender releases it.
    pub async fn next(&mut self) -> Step {
        loop {
            self.read_on();
            let Some(reading) = &mut self.reading else {
                return std::future::pending().await;
            };
            let read = (&mut reading.task).await;
            let bytes = reading.bytes;
            self.reading = None;
            match read {
                Ok((fetch, Ok(frame))) if !fetch.place.is_ended() => {
                    return self.sendable(fetch, frame);
                }
                Ok((fetch, Err(error))) if !fetch.place.is_ended() => {
                    self.outbox.release(bytes);
                    return Step::Event(fetch.failed(&error));
                }
                // Cancelled, or the reader panicked and took its fetch with it.
                Ok(_) | Err(_) => self.outbox.release(bytes),
            }
        }
    }

    fn sendable(&mut self, fetch: Fetch, frame: Bytes) -> Step {
        let then = (fetch.next == fetch.end).then(|| fetch.complete());
        if then.is_none() {
            self.waiting.push_back(fetch);
        }
        self.read_on();
        Step::Frame { frame, then }
    }

    /// Reads the frame after the one in hand.
    fn read_on(&mut self) {
        self.waiting.retain(|fetch| !fetch.place.is_ended());
        if self.reading.is_some() {
            return;
        }
        if let Some(mut fetch) = self.waiting.pop_front() {
            let bytes = fetch.frame_bytes();
            self.outbox.hold(bytes);
            let task = tokio::task::spawn_blocking(move || {
                let read = fetch.read();
                (fetch, read)
            });
            self.reading = Some(Reading { bytes, task });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Board, Kind};
    use super::super::stats::Stats;
    use super::*;
    use tokio::sync::Semaphore;

    struct Memory {
        bytes: Vec<u8>,
        said: u64,
    }

    impl Audio for Memory {
        fn bytes(&self) -> u64 {
            self.said
        }

        fn mark(&self) -> String {
            "m".to_owned()
        }

        fn sha256(&self) -> Option<String> {
            None
        }

        fn media_type(&self) -> &'static str {
            "audio/wav"
        }

        fn file_extension(&self) -> &'static str {
            "wav"
        }

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            // Short reads, as a peer's stream would give them.
            let rest = &self.bytes[usize::try_from(offset).unwrap().min(self.bytes.len())..];
            let count = rest.len().min(buffer.len()).min(10_000);
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }

    fn fetch(board: &Arc<Board>, bytes: usize, said: u64) -> Fetch {
        let audio = Memory { bytes: (0..bytes).map(|i| (i % 251) as u8).collect(), said };
        let slots = Arc::new(Semaphore::new(1));
        Fetch::new(
            board.enter(Kind::Fetch).unwrap(),
            Box::new(audio),
            0,
            said,
            slots.try_acquire_owned().unwrap(),
        )
    }

    #[tokio::test]
    async fn fetches_take_turns_and_end() {
        let outbox = Arc::new(Outbox::new(Arc::new(Stats::new())));
        let board = Arc::new(Board::default());
        let mut fetches = Fetches::new(Arc::clone(&outbox));
        fetches.start(fetch(&board, 200_000, 200_000));
        fetches.start(fetch(&board, 0, 0));
        fetches.start(fetch(&board, 70_000, 70_000));
        let mut order = Vec::new();
        let mut ends = Vec::new();
        while ends.len() < 3 {
            let Step::Frame { frame, then } = fetches.next().await else { panic!("failed") };
            assert!(frame.len() <= FRAME_BYTES_MAX);
            order.push(frame[3]);
            outbox.release(frame.len());
            ends.extend(then);
        }
        assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
        assert!(ends[0].contains("\"bytes\":0,"), "{}", ends[0]);
        assert!(
            ends[0].contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        assert!(outbox.has_room());
        let again: Vec<_> = (0..16).map(|_| board.enter(Kind::Fetch).unwrap()).collect();
        assert_eq!(again.len(), 16, "all places are free");
    }

    #[tokio::test]
    async fn audio_that_ends_early_is_a_failure_of_that_fetch_alone() {
        let outbox = Arc::new(Outbox::new(Arc::new(Stats::new())));
        let board = Arc::new(Board::default());
        let mut fetches = Fetches::new(outbox);
        fetches.start(fetch(&board, 10, 20));
        fetches.start(fetch(&board, 10, 10));
        let Step::Event(text) = fetches.next().await else { panic!("not failed") };
        assert!(text.contains("\"eventtype\":\"fetchfailed\""), "{text}");
        assert!(matches!(fetches.next().await, Step::Frame { then: Some(_), .. }));
    }

    #[tokio::test]
    async fn a_cancelled_fetch_keeps_its_place_until_it_is_put_away() {
        let outbox = Arc::new(Outbox::new(Arc::new(Stats::new())));
        let board = Arc::new(Board::default());
        let mut waiting: Vec<Fetch> = (0..16).map(|_| fetch(&board, 9, 9)).collect();
        assert!(board.enter(Kind::Fetch).is_err());
        assert_eq!(board.end(Kind::Fetch, 1), Ok(()));
        assert_eq!(board.end(Kind::Fetch, 1).unwrap_err().code, Code::NotFound);
        assert!(board.enter(Kind::Fetch).is_err(), "cancelled is not gone");
        let mut fetches = Fetches::new(outbox);
        fetches.start(waiting.remove(0));
        assert_eq!(board.enter(Kind::Fetch).unwrap().number(), 17);
    }
}
