//! What the network did to the audio, as numbers: jitter, loss, clock drift. It judges arrival
//! times and counters only, never the sound.

use storage_core::WallTime;
use storage_core::record::Quality;

use super::rtp::MediaTime;

/// Interarrival jitter of one stream (RFC 3550, 6.4.1 and A.8), averaged over its packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jitter {
    last: Option<(usize, MediaTime, WallTime)>,
    current_micros: f64,
    sum_micros: f64,
    packets: u64,
}

impl Jitter {
    /// Takes a packet of the given run in order of arrival. A step from one run to another has no
    /// meaning and is left out, and so is a packet that repeats the timestamp before it (keys
    /// pressed): it was not sent when it claims.
    pub fn packet(&mut self, run: usize, media: MediaTime, at: WallTime) {
        if let Some((last_run, last_media, last_at)) = self.last
            && last_run == run
        {
            if media == last_media {
                return;
            }
            let sent = media.as_micros() - last_media.as_micros();
            let deviation = at.micros_since(last_at).saturating_sub(sent).unsigned_abs() as f64;
            self.current_micros += (deviation - self.current_micros) / 16.0;
            self.sum_micros += self.current_micros;
            self.packets += 1;
        }
        self.last = Some((run, media, at));
    }

    /// Sum over packets and their count, so that several streams can be averaged.
    #[must_use]
    pub const fn total(&self) -> (f64, u64) {
        (self.sum_micros, self.packets)
    }
}

/// Mean jitter in milliseconds over several streams' totals.
#[must_use]
pub fn mean_jitter_ms(totals: impl Iterator<Item = (f64, u64)>) -> f64 {
    let (sum, packets) = totals.fold((0.0, 0), |(s, n), (sum, packets)| (s + sum, n + packets));
    if packets == 0 { 0.0 } else { sum / packets as f64 / 1000.0 }
}

/// Shorter runs say nothing of a clock: 30 s.
const DRIFT_MEDIA_MICROS_MIN: i64 = 30_000_000;

/// How fast senders' clocks ran against ours, parts per million, positive for fast: the slope of
/// the shortest delays over media time, by least squares, all runs together (each around its own
/// mean). `runs` holds (media time, shortest delay) in microseconds. 0 if all are too short.
#[must_use]
pub fn clock_drift_ppm(runs: impl Iterator<Item = Vec<(i64, i64)>>) -> f64 {
    let mut covariance = 0.0;
    let mut variance = 0.0;
    for points in runs {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
        if last.0 - first.0 < DRIFT_MEDIA_MICROS_MIN {
            continue;
        }
        // Differences from the first point first: the absolute numbers would eat the precision.
        let points: Vec<(f64, f64)> = points
            .iter()
            .map(|(media, delay)| ((media - first.0) as f64, delay.saturating_sub(first.1) as f64))
            .collect();
        let count = points.len() as f64;
        let mean_media = points.iter().map(|p| p.0).sum::<f64>() / count;
        let mean_delay = points.iter().map(|p| p.1).sum::<f64>() / count;
        for (media, delay) in points {
            covariance += (media - mean_media) * (delay - mean_delay);
            variance += (media - mean_media) * (media - mean_media);
        }
    }
    // A fast sender's packets come ever earlier than its timestamps say.
    if variance > 0.0 { -covariance / variance * 1e6 } else { 0.0 }
}

/// Lost packets to expected packets, 0 to 1.
#[must_use]
pub fn loss_ratio(lost: u64, expected: u64) -> f64 {
    if expected == 0 { 0.0 } else { (lost as f64 / expected as f64).clamp(0.0, 1.0) }
}

/// What the network did to two sides together, by how many packets each should have had.
pub(crate) fn weighted(sides: [(&Quality, f64); 2]) -> Quality {
    let all: f64 = sides.iter().map(|(_, packets)| packets).sum();
    let mean = |value: fn(&Quality) -> f64| {
        sides.iter().map(|(side, packets)| value(side) * packets).sum::<f64>() / all.max(1.0)
    };
    Quality {
        lossratio: mean(|side| side.lossratio),
        jitterms: mean(|side| side.jitterms),
        clockdriftppm: mean(|side| side.clockdriftppm),
        ..Quality::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jitter_of(arrivals_micros: impl Iterator<Item = i64>) -> f64 {
        let mut jitter = Jitter::default();
        for (index, at) in arrivals_micros.enumerate() {
            jitter.packet(0, MediaTime(index as u64 * 160), WallTime::from_micros(at));
        }
        mean_jitter_ms([jitter.total()].into_iter())
    }

    #[test]
    fn even_arrival_has_no_jitter_and_alternating_delay_tends_to_its_size() {
        assert_eq!(jitter_of((0..100).map(|i| i * 20_000)), 0.0);
        // Each packet deviates by 8 ms from the one before: the filter rises to 8 ms.
        let uneven = jitter_of((0..2_000).map(|i| i * 20_000 + (i % 2) * 8_000));
        assert!((uneven - 8.0).abs() < 0.2, "{uneven}");
    }

    #[test]
    fn drift_is_the_slope_of_the_delays() {
        let run = |ppm: f64| -> Vec<(i64, i64)> {
            (0..60).map(|i| i * 10_000_000).map(|m| (m, (-ppm * m as f64 / 1e6) as i64)).collect()
        };
        for ppm in [-120.0, 0.0, 40.0] {
            let measured = clock_drift_ppm([run(ppm), vec![(0, 5)]].into_iter());
            assert!((measured - ppm).abs() < 0.5, "{ppm} measured as {measured}");
        }
        assert_eq!(clock_drift_ppm(std::iter::empty()), 0.0);
    }
}
