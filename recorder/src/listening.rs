//! Listening in to calls that this node records, while they go on. For each listener a task takes what the media thread
//! taps, decodes it and hands on a frame each 20 ms; a listener who does not keep up loses the oldest, and delays
//! nothing else. When a frame is due is `playout`'s matter, who may listen the web server's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recorder_core::media::payload::{Payload, classify, ticks_per_sample};
use recorder_core::media::playout::{DELAY, Frame};
use recorder_core::media::{Coded, Playout, RtpPacket};
use storage_core::{Extension, MonoTime, RecordingId, SegmentId, WallTime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::decode::Decoders;
use crate::media_tap::{Sound, Tap, Tapped};
use crate::media_thread::MediaHandle;

/// Listeners at once.
pub const LISTENERS_MAX: usize = 32;
/// Frames that wait for one listener.
pub const FRAMES_MAX: usize = 10;
/// How often it is looked whether a frame is due.
const BEAT: Duration = Duration::from_millis(20);
/// A device that was not heard for so long gives way to another: 500 ms.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Why nobody can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Too many do.
    #[error("{LISTENERS_MAX} listen to calls recorded here; try again when one has stopped")]
    Busy,
    /// The media thread does not answer.
    #[error("the media thread takes no orders: see the log")]
    Unavailable,
}

/// Lets people listen to what this node captures.
#[derive(Debug)]
pub struct Listening {
    media: MediaHandle,
    clock: Clock,
    mask_keys: bool,
    places: Arc<Semaphore>,
}

impl Listening {
    /// To what this thread captures; with `mask_keys` without the tones of keys.
    #[must_use]
    pub fn new(media: MediaHandle, clock: Clock, mask_keys: bool) -> Self {
        Self { media, clock, mask_keys, places: Arc::new(Semaphore::new(LISTENERS_MAX)) }
    }

    /// Begins to listen to a recording, by the name under which it is captured here. To be called within a runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&self, recording: RecordingId) -> Result<Frames, ListenError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| ListenError::Busy)?;
        let tap = self.media.tap(Some(recording)).ok_or(ListenError::Unavailable)?;
        let queue = Arc::new(Queue::default());
        let ear = Ear {
            playout: Playout::default(),
            decoders: Vec::new(),
            source: None,
            mask_keys: self.mask_keys,
        };
        let end = End(Arc::clone(&queue));
        tokio::spawn(hear(tap, ear, self.clock, end, place));
        Ok(Frames(queue))
    }
}

/// What is heard, a frame each 20 ms. Dropping it ends the listening.
#[derive(Debug)]
pub struct Frames(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<(VecDeque<Frame>, bool)>,
    filled: Notify,
}

/// The side that fills.
struct End(Arc<Queue>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Frame>, bool)> {
        // Nothing between two writes here can panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// The next frame; `None` when the recording is over. For one waiter; may be dropped at any time.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            {
                let mut waiting = self.0.lock();
                if let Some(frame) = waiting.0.pop_front() {
                    return Some(frame);
                }
                if waiting.1 {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }
}

impl End {
    fn push(&self, frame: Frame) {
        let mut waiting = self.0.lock();
        if waiting.0.len() == FRAMES_MAX {
            waiting.0.pop_front();
        }
        waiting.0.push_back(frame);
        drop(waiting);
        self.0.filled.notify_one();
    }

    /// Nobody listens any more.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().1 = true;
        self.0.filled.notify_one();
    }
}

async fn hear(mut tap: Tap, mut ear: Ear, clock: Clock, end: End, _place: OwnedSemaphorePermit) {
    let mut beat = beat();
    while !end.is_alone() {
        tokio::select! {
            biased;
            sound = tap.recv() => match sound {
                Some(Sound::Over) => break,
                Some(sound) => ear.take(&sound, clock),
                // Perhaps a pause could not be told: what is left must not be heard.
                None => return,
            },
            _ = beat.tick() => ear.play(&end, clock),
        }
    }
    // What was said last.
    let last = clock.mono() + DELAY + BEAT;
    while clock.mono() < last && !end.is_alone() {
        beat.tick().await;
        ear.play(&end, clock);
    }
}

fn beat() -> Interval {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

/// What one listener hears.
struct Ear {
    playout: Playout,
    /// Of each segment that is heard, the latest last.
    decoders: Vec<(SegmentId, Decoders)>,
    /// The device that is heard, and until when it was.
    source: Option<(Extension, SegmentId, MonoTime)>,
    mask_keys: bool,
}

/// Of a device that hears two sides, and the one before it.
const DECODERS_MAX: usize = 4;

impl Ear {
    fn play(&mut self, end: &End, clock: Clock) {
        while let Some(frame) = self.playout.frame(clock.mono()) {
            end.push(frame);
        }
    }

    fn take(&mut self, sound: &Sound, clock: Clock) {
        let now = clock.now();
        // How long ago it was received is all that is taken of the time of day.
        let mono = |at: WallTime| {
            let ago = u64::try_from(now.wall.micros_since(at)).unwrap_or(0);
            MonoTime::from_micros(now.mono.as_micros().saturating_sub(ago))
        };
        match sound {
            Sound::Over => {}
            Sound::Hidden(since) => self.playout.hide(mono(*since)),
            Sound::Heard(sweep) => {
                for tapped in sweep {
                    if self.is_heard(tapped, now.mono) {
                        for (at, packet) in tapped.packets() {
                            self.packet(tapped, mono(at), packet);
                        }
                    }
                }
            }
        }
    }

    /// Where one device goes on for another, both hear the same for a while: the later one is heard.
    fn is_heard(&mut self, tapped: &Tapped, now: MonoTime) -> bool {
        if let Some((device, segment, last)) = &self.source
            && *device != tapped.device
            && tapped.segment < *segment
            && now.since(*last) < SILENT_AFTER
        {
            return false;
        }
        self.source = Some((tapped.device.clone(), tapped.segment, now));
        true
    }

    fn packet(&mut self, tapped: &Tapped, at: MonoTime, bytes: &[u8]) {
        let Ok(packet) = RtpPacket::parse(bytes) else { return };
        let payload = packet.payload;
        let ticks = ticks_per_sample(packet.payload_type, &tapped.codec);
        match classify(packet.payload_type, payload.len(), &tapped.codec) {
            Payload::Audio(codec) => {
                let take = codec.samples(payload);
                let slot = self.playout.place(tapped.segment, at, &packet, ticks, take);
                let Some(slot) = slot else { return };
                let coded = Coded { codec, payload, fresh: slot.fresh, skip: 0, take };
                let decoders = decoders_of(&mut self.decoders, tapped.segment);
                self.playout.put(slot, decoders.decode(&coded));
            }
            Payload::Event if self.mask_keys => {
                self.playout.key(tapped.segment, at, &packet, ticks);
            }
            _ => {}
        }
    }
}

fn decoders_of(all: &mut Vec<(SegmentId, Decoders)>, segment: SegmentId) -> &mut Decoders {
    let at = all.iter().position(|(of, _)| *of == segment).unwrap_or_else(|| {
        if all.len() == DECODERS_MAX {
            all.remove(0);
        }
        all.push((segment, Decoders::default()));
        all.len() - 1
    });
    &mut all[at].1
}

#[cfg(test)]
mod tests {
    use recorder_core::call::{PauseChange, PauseOrder};
    use storage_core::g711::Law;
    use storage_core::journal::{BlockWriter, Channel};
    use tokio::time::{sleep, timeout};

    use zeroize::Zeroizing;

    use super::*;
    use crate::media_thread::tests::{Bench, PATIENCE, datagram, id};

    /// A packet that was received then.
    fn tapped(device: &str, segment: u64, at: WallTime) -> Tapped {
        let (mut block, source) = (Vec::new(), ([127, 0, 0, 1], 9).into());
        let mut writer =
            BlockWriter::begin(&mut block, SegmentId(segment), Channel::Rtp, source, at);
        assert!(writer.push(at, &datagram(0)));
        writer.finish();
        let device = Extension::new(device);
        let (segment, block) = (SegmentId(segment), Zeroizing::new(block));
        Tapped { device, segment, recording: None, codec: String::new(), block }
    }

    fn listening(bench: &Bench) -> Listening {
        Listening::new(bench.media.clone(), Clock::start(), false)
    }

    fn is_silent(frame: &Frame) -> bool {
        frame.iter().all(|sample| *sample == 0)
    }

    async fn next(frames: &mut Frames) -> Option<Frame> {
        timeout(PATIENCE, frames.next()).await.expect("frames come always")
    }

    /// The next frame that is not silent.
    async fn sound(frames: &mut Frames) -> Frame {
        loop {
            let frame = next(frames).await.expect("the recording goes on");
            if !is_silent(&frame) {
                return frame;
            }
        }
    }

    /// Packets from this number on, as a sender sends them.
    async fn send(bench: &Bench, numbers: std::ops::Range<u16>) {
        for seq in numbers {
            bench.send(0, seq);
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_is_captured_is_heard_until_the_recording_ends() {
        let bench = Bench::start(2);
        let (one, two) = (id(1), id(2));
        bench.open_and_wait(0, 1, one);
        bench.open_and_wait(1, 2, two);
        let mut frames = listening(&bench).listen(one).unwrap();
        let mut other = listening(&bench).listen(two).unwrap();
        let expected = Law::A.decode(datagram(0)[12]);
        let (heard, ()) = tokio::join!(sound(&mut frames), send(&bench, 0..20));
        // It begins anywhere in a frame.
        let begun = heard.iter().position(|sample| *sample != 0).unwrap();
        assert!(heard[begun..].iter().all(|sample| *sample == expected), "{heard:?}");
        assert!(is_silent(&next(&mut other).await.unwrap()), "nothing was said there");
        bench.close(1, one);
        while next(&mut frames).await.is_some() {}
        assert!(next(&mut other).await.is_some(), "that call goes on");
        bench.thread.stop();
        while next(&mut other).await.is_some() {}
    }

    #[tokio::test]
    async fn a_pause_is_not_heard() {
        let bench = Bench::start(1);
        let one = id(1);
        bench.open_and_wait(0, 1, one);
        let mut frames = listening(&bench).listen(one).unwrap();
        let (_, ()) = tokio::join!(sound(&mut frames), send(&bench, 0..20));
        let device = Extension::new("78000");
        let pause =
            |change| assert!(bench.media.pause(PauseOrder { device: device.clone(), change }));
        pause(PauseChange::From(Clock::wall()));
        assert!(bench.media.reached().await);
        // What was said before it is over by then.
        send(&bench, 20..40).await;
        let silent = async {
            for _ in 0..40 {
                let frame = next(&mut frames).await.unwrap();
                assert!(is_silent(&frame), "{frame:?}");
            }
        };
        tokio::join!(silent, send(&bench, 40..90));
        pause(PauseChange::Until(Clock::wall()));
        tokio::join!(sound(&mut frames), send(&bench, 90..110));
        bench.thread.stop();
    }

    #[tokio::test]
    async fn what_was_tapped_before_a_pause_was_told_is_taken_back() {
        let mut ear = Ear {
            playout: Playout::default(),
            decoders: Vec::new(),
            source: None,
            mask_keys: false,
        };
        let clock = Clock::start();
        sleep(Duration::from_millis(5)).await;
        let at = Clock::wall();
        assert!(ear.playout.frame(clock.mono()).is_none());
        ear.take(&Sound::Heard(vec![tapped("78000", 1, at)]), clock);
        ear.take(&Sound::Hidden(at), clock);
        let end = clock.mono() + Duration::from_millis(400);
        let mut frames = 0;
        while let Some(frame) = ear.playout.frame(end) {
            assert!(is_silent(&frame));
            frames += 1;
        }
        assert_eq!(frames, 20);
    }

    #[test]
    fn of_two_devices_the_later_one_is_heard_and_the_other_once_it_is_silent() {
        let mut ear = Ear {
            playout: Playout::default(),
            decoders: Vec::new(),
            source: None,
            mask_keys: false,
        };
        let at = Clock::wall();
        let (old, new) = (tapped("78000", 1, at), tapped("78001", 2, at));
        let ms = MonoTime::from_millis;
        for (tapped, now, heard) in [
            (&old, 0, true),
            (&new, 100, true),
            (&old, 100, false),
            (&new, 200, true),
            (&old, 650, false),
            (&old, 701, true),
            (&new, 800, true),
        ] {
            assert_eq!(ear.is_heard(tapped, ms(now)), heard, "{now}");
        }
        // Two sides of one device are both heard.
        let (agent, others) = (tapped("78000", 3, at), tapped("78000", 4, at));
        assert!(ear.is_heard(&others, ms(900)) && ear.is_heard(&agent, ms(900)));
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest_and_too_many_are_refused() {
        let queue = Arc::new(Queue::default());
        let (end, mut frames) = (End(Arc::clone(&queue)), Frames(queue));
        for number in 0..25 {
            end.push([number; 160]);
        }
        assert!(!end.is_alone());
        drop(end);
        let mut heard = Vec::new();
        while let Some(frame) = frames.next().await {
            heard.push(frame[0]);
        }
        assert_eq!(heard, (15..25).collect::<Vec<_>>());
        let bench = Bench::start(1);
        let listening = listening(&bench);
        let all: Vec<_> = (0..LISTENERS_MAX).map(|_| listening.listen(id(1)).unwrap()).collect();
        assert_eq!(listening.listen(id(1)).unwrap_err(), ListenError::Busy);
        drop(all);
        timeout(PATIENCE, async {
            while listening.listen(id(1)).is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("places are given back");
        bench.thread.stop();
    }
}
