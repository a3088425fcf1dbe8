//! How loud the calls are that are being captured. When somebody asks, all that the media thread captures in a
//! fifth of a second is listened to, and the level of each device is told; otherwise it costs nothing. Which call a
//! device hears is not its matter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recorder_core::media::payload::{Payload, classify};
use recorder_core::media::{Coded, RtpPacket};
use storage_core::Extension;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::decode::Decoders;
use crate::media_tap::{Sound, Tapped};
use crate::media_thread::MediaHandle;

/// How long is listened to: two beats of the media thread.
const WINDOW: Duration = Duration::from_millis(200);
/// Whoever asks again within this is told the same.
const FRESH: Duration = Duration::from_millis(500);
/// Packets of one stream that are looked at: what comes in [`WINDOW`].
const PACKETS_MAX: usize = 10;
/// The level of silence: the smallest sample of 16 bits is 90 dB below the largest.
pub const SILENT: f64 = -96.0;

/// Levels by device, dBFS.
pub type Levels = BTreeMap<Extension, f64>;

/// Measures for all who ask, once at a time.
#[derive(Debug)]
pub struct Meter {
    media: MediaHandle,
    last: Mutex<Option<(Instant, Arc<Levels>)>>,
}

impl Meter {
    /// Measures what this thread captures.
    #[must_use]
    pub fn new(media: MediaHandle) -> Self {
        Self { media, last: Mutex::default() }
    }

    /// The root mean square of what each device heard in the last fifth of a second, in dB below the largest sample of
    /// 16 bits; where it hears two sides, of the louder one. A device that heard nothing, or whose recording is paused, is not in it.
    pub async fn levels(&self) -> Arc<Levels> {
        let mut last = self.last.lock().await;
        if let Some((measured, levels)) = &*last
            && measured.elapsed() < FRESH
        {
            return Arc::clone(levels);
        }
        let levels = Arc::new(self.measure().await);
        *last = Some((Instant::now(), Arc::clone(&levels)));
        levels
    }

    async fn measure(&self) -> Levels {
        let Some(mut tap) = self.media.tap(None) else { return Levels::new() };
        let end = Instant::now() + WINDOW;
        let mut heard = Vec::new();
        while let Ok(Some(sound)) = timeout_at(end, tap.recv()).await {
            if let Sound::Heard(sweep) = sound {
                heard.extend(sweep);
            }
        }
        drop(tap);
        // Only a panic keeps it from telling, and that is in the log.
        spawn_blocking(move || levels(&heard)).await.unwrap_or_default()
    }
}

fn levels(heard: &[Tapped]) -> Levels {
    let mut streams: BTreeMap<_, Stream> = BTreeMap::new();
    for tapped in heard {
        streams.entry((&tapped.device, tapped.segment)).or_default().hear(tapped);
    }
    let mut levels = Levels::new();
    for ((device, _), stream) in streams {
        let level = levels.entry(device.clone()).or_insert(SILENT);
        *level = stream.level().max(*level);
    }
    levels
}

#[derive(Default)]
struct Stream {
    decoders: Decoders,
    packets: usize,
    samples: u32,
    energy: f64,
}

impl Stream {
    fn hear(&mut self, tapped: &Tapped) {
        for (_, bytes) in tapped.packets() {
            let Ok(packet) = RtpPacket::parse(bytes) else { continue };
            let payload = packet.payload;
            let kind = classify(packet.payload_type, payload.len(), &tapped.codec);
            let Payload::Audio(codec) = kind else { continue };
            if self.packets >= PACKETS_MAX {
                return;
            }
            self.packets += 1;
            let (fresh, take) = (self.packets == 1, codec.samples(payload));
            let samples = self.decoders.decode(&Coded { codec, payload, fresh, skip: 0, take });
            self.energy += samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
            self.samples += u32::from(take);
        }
    }

    /// Of nothing the logarithm is minus infinity.
    fn level(&self) -> f64 {
        let mean = self.energy / f64::from(self.samples.max(1));
        let level = 10.0 * (mean / f64::from(i16::MAX).powi(2)).log10();
        (level.max(SILENT) * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use storage_core::g711::Law;
    use storage_core::journal::{BlockWriter, Channel};
    use storage_core::{SegmentId, WallTime};
    use zeroize::Zeroizing;

    use super::*;
    use crate::media_thread::tests::{Bench, datagram, id};

    fn tapped(device: &str, segment: u64, payload: &[u8]) -> Tapped {
        let (at, source) = (WallTime::from_millis(1_700_000_000_000), ([127, 0, 0, 1], 9).into());
        let mut block = Vec::new();
        let segment = SegmentId(segment);
        let mut writer = BlockWriter::begin(&mut block, segment, Channel::Rtp, source, at);
        let header = [0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        assert!(writer.push(at, &[&header[..], payload].concat()));
        writer.finish();
        let (device, codec) = (Extension::new(device), String::new());
        Tapped { device, segment, recording: None, codec, block: Zeroizing::new(block) }
    }

    /// A square wave is as loud as its peaks.
    fn square(peak: i16) -> Vec<u8> {
        (0..160).map(|i| Law::A.encode(if i % 8 < 4 { peak } else { -peak })).collect()
    }

    #[test]
    fn a_level_is_the_root_mean_square_below_full_scale() {
        for (peak, expected) in [(32_000, 0.0), (16_384, -6.0), (1_640, -26.0), (164, -46.0)] {
            let levels = levels(&[tapped("1", 1, &square(peak))]);
            let level = levels[&Extension::new("1")];
            assert!((level - expected).abs() < 0.5, "{peak}: {level}");
        }
    }

    #[test]
    fn of_two_sides_the_louder_one_counts_and_each_device_by_itself() {
        let silence = [Law::A.silence(); 160];
        let heard = [
            tapped("1", 1, &square(16_384)),
            tapped("1", 2, &square(164)),
            tapped("2", 3, &silence),
        ];
        let levels = levels(&heard);
        assert!((levels[&Extension::new("1")] - -6.0).abs() < 0.5, "{levels:?}");
        assert!(levels[&Extension::new("2")] < -60.0, "{levels:?}");
        assert_eq!(Stream::default().level(), SILENT, "nothing but zeros");
    }

    #[tokio::test]
    async fn what_the_media_thread_captures_is_measured_and_captured_all_the_same() {
        let bench = Bench::start(2);
        bench.open_and_wait(0, 1, id(1));
        let meter = Meter::new(bench.media.clone());
        let send = async {
            for seq in 0..15 {
                bench.send(0, seq);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (levels, ()) = tokio::join!(meter.levels(), send);
        let devices: Vec<_> = levels.keys().map(ToString::to_string).collect();
        assert_eq!(devices, ["78000"], "the other one has no call");
        let expected = tapped("x", 1, &datagram(0)[12..]);
        let expected = super::levels(&[expected])[&Extension::new("x")];
        assert!(
            (levels[&Extension::new("78000")] - expected).abs() < 1.0,
            "{levels:?}, {expected}"
        );
        assert!(Arc::ptr_eq(&levels, &meter.levels().await), "who asks again is told the same");
        bench.close(1, id(1));
        bench.thread.stop();
        assert_eq!(bench.media.stats().packets.value(), 15);
    }
}
