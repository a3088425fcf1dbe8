//! Which hole of which recording is of which takeover. Pure.

use astlogger::demo::Hole;
use storage_core::WallTime;
use storage_core::record::GapCause;

/// A hole may begin so long before the fault by the recorder's clock: what the socket held is lost
/// with the process.
const BEFORE_MS: i64 = 1_000;
/// Two segments are placed by two processes' receive times, and frames are 20 ms long.
const TOLERANCE_MS: u64 = 80;

/// What the takeovers of one kind of fault left.
#[derive(Debug, Default)]
pub struct Holes {
    /// How many takeovers.
    pub takeovers: usize,
    /// For each takeover and each call that was up: how long the hole is, 0 if there is none.
    pub declared_ms: Vec<u64>,
    /// Holes that the time codes show to be longer or shorter than declared.
    pub mismatches: usize,
    /// What else is wrong with the files.
    pub faults: Vec<String>,
}

/// One recording.
#[derive(Debug)]
pub struct Recorded {
    /// First audio.
    pub started: WallTime,
    /// Last audio.
    pub ended: WallTime,
    /// What it declares.
    pub holes: Vec<Hole>,
}

impl Holes {
    /// Adds what takeovers at these moments, in order, left in these recordings.
    pub fn add(&mut self, struck: &[WallTime], recordings: &[Recorded]) {
        self.takeovers += struck.len();
        for (number, at) in struck.iter().enumerate() {
            let next = struck.get(number + 1).map_or(i64::MAX, |next| next.as_millis() - BEFORE_MS);
            let window = at.as_millis() - BEFORE_MS..next;
            let up = recordings.iter().filter(|one| one.started < *at && *at < one.ended);
            for recording in up {
                let of_takeover = recording.holes.iter().filter(|hole| {
                    hole.cause == GapCause::Takeover && window.contains(&hole.at.as_millis())
                });
                let mut declared = 0;
                for hole in of_takeover {
                    declared += hole.declared_ms;
                    let missing = hole.missing_ms.unwrap_or(0);
                    self.mismatches +=
                        usize::from(hole.declared_ms.abs_diff(missing) > TOLERANCE_MS);
                }
                self.declared_ms.push(declared);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(at_ms: i64, declared_ms: u64, missing_ms: u64) -> Hole {
        let at = WallTime::from_millis(at_ms);
        Hole { cause: GapCause::Takeover, at, declared_ms, missing_ms: Some(missing_ms) }
    }

    #[test]
    fn each_hole_is_of_the_takeover_before_it_and_no_hole_counts_as_none() {
        let recorded = |started, ended, holes: &[Hole]| Recorded {
            started: WallTime::from_millis(started),
            ended: WallTime::from_millis(ended),
            holes: holes.to_vec(),
        };
        let loss = Hole { cause: GapCause::Loss, ..hole(10_500, 40, 40) };
        let recordings = [
            recorded(0, 60_000, &[hole(9_990, 200, 200), loss, hole(20_100, 300, 500)]),
            recorded(0, 60_000, &[hole(20_010, 100, 100)]),
            recorded(15_000, 60_000, &[]),
            recorded(0, 5_000, &[]),
        ];
        let mut holes = Holes::default();
        holes.add(&[10_000, 20_000].map(WallTime::from_millis), &recordings);
        assert_eq!(holes.declared_ms, [200, 0, 300, 100, 0]);
        assert_eq!((holes.takeovers, holes.mismatches), (2, 1));
    }
}
