//! Arithmetic on measurements: medians, cost per stream-hour, where packets went. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Of an even number of values it is the mean of the two in the middle; `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// The least value that this share of all values does not exceed (nearest rank); `None` of none.
pub fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}

/// CPU seconds that an hour of one stream costs.
pub fn per_stream_hour(cpu: Duration, streams: usize, measured: Duration) -> f64 {
    let stream_hours = streams as f64 * measured.as_secs_f64() / 3600.0;
    cpu.as_secs_f64() / stream_hours
}

/// Where the packets of a run went. Every count is of the same run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Taken by the kernel from the generator.
    pub sent: u64,
    /// Found in the files afterwards, by reading them.
    pub on_disk: u64,
    /// Counted by the receiver as kept.
    pub kept: u64,
    /// Received, and counted by the receiver as not to be kept, or lost on the way to the disk.
    pub refused: u64,
    /// Dropped at a full socket, as the kernel counts it.
    pub socket_drops: u64,
    /// Dropped before any socket: the kernel's backlog between sender and receiver was full.
    /// Counted for the whole machine.
    pub softnet_drops: u64,
}

impl Fate {
    /// Packets that are not on the disk.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.on_disk)
    }

    /// Packets that are not on the disk and that no counter names. Negative: more is named than
    /// is missing, as other programs' packets are dropped before their sockets, too.
    pub fn unexplained(&self) -> i64 {
        let named = self.on_disk + self.refused + self.socket_drops + self.softnet_drops;
        self.sent.cast_signed() - named.cast_signed()
    }
}

/// One receiver's run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Streams.
    pub streams: usize,
    /// Audio that each stream was sent while it was measured, without the warm-up.
    pub measured: Duration,
    /// How long that took: longer, should the generator have been late.
    pub elapsed: Duration,
    /// User and system time of the whole process in it.
    pub cpu: Duration,
    /// By thread, named as the thread is.
    pub threads: Vec<(String, Duration)>,
    /// Resident memory before the first socket, bytes.
    pub base_bytes: u64,
    /// Resident memory at the end, bytes.
    pub end_bytes: u64,
    /// Syncs of the capture.
    pub syncs: u64,
    /// Sweeps that began more than a beat too late.
    pub late_sweeps: u64,
    /// Packets.
    pub fate: Fate,
    /// What the receiver refused, by what it calls it.
    pub refused: Vec<(String, u64)>,
    /// Numbers of the streams that lack packets on the disk.
    pub streams_hurt: Vec<usize>,
    /// How far the generator was behind its time at the worst.
    pub generator_late: Duration,
}

impl Run {
    /// CPU seconds that an hour of one stream costs.
    pub fn cost(&self) -> f64 {
        per_stream_hour(self.cpu, self.streams, self.measured)
    }

    /// Kibibytes of resident memory that a stream adds.
    pub fn kib_per_stream(&self) -> f64 {
        self.end_bytes.saturating_sub(self.base_bytes) as f64 / 1024.0 / self.streams as f64
    }

    /// Syncs a second.
    pub fn syncs_per_second(&self) -> f64 {
        self.syncs as f64 / self.elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0], Some(5.0)),
            (&[5.0, 100.0, 1.0], Some(5.0)),
            (&[4.0, 1.0, 3.0, 2.0], Some(2.5)),
        ] {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred = || (1..=100).map(f64::from);
        for (share, expected) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_eq!(percentile(hundred(), share), Some(expected), "{share}");
        }
        assert_eq!(percentile([7.0], 0.99), Some(7.0));
        assert_eq!(percentile([], 0.5), None);
    }

    #[test]
    fn a_stream_hour_is_counted_in_streams_and_hours() {
        let cost = per_stream_hour(Duration::from_secs(1), 1000, Duration::from_secs(36));
        assert!((cost - 0.1).abs() < 1e-12, "{cost}");
    }

    #[test]
    fn every_packet_is_named_or_said_not_to_be() {
        let fate = Fate {
            sent: 100,
            on_disk: 90,
            kept: 91,
            refused: 1,
            socket_drops: 2,
            softnet_drops: 3,
        };
        assert_eq!((fate.lost(), fate.unexplained()), (10, 4));
        let more = Fate { softnet_drops: 9, ..fate };
        assert_eq!(more.unexplained(), -2);
        assert_eq!(Fate { on_disk: 101, ..fate }.lost(), 0, "duplicates are no loss");
    }

    #[test]
    fn a_run_tells_what_a_stream_costs() {
        let run = Run {
            streams: 100,
            measured: Duration::from_secs(10),
            elapsed: Duration::from_secs(12),
            cpu: Duration::from_millis(100),
            base_bytes: 1 << 20,
            end_bytes: 3 << 20,
            syncs: 15,
            ..Run::default()
        };
        assert!((run.cost() - 0.36).abs() < 1e-12);
        assert!((run.kib_per_stream() - 20.48).abs() < 1e-12);
        assert!((run.syncs_per_second() - 1.25).abs() < 1e-12);
        assert!(Run { end_bytes: 0, ..run }.kib_per_stream().abs() < 1e-12);
    }
}
