//! Keys pressed on a telephone (RFC 4733): when, for how long, and the taking out of their tones. Which
//! key it was is not looked at.
//!
//! A sender that tells of keys by events sends their tone in the audio too, if only until it has noticed
//! it, and a switch that mixes calls sends it to all others.

use std::collections::BTreeMap;

use storage_core::WallTime;

use super::rtp::MediaTime;
use super::run::Run;
use super::timeline::{Placed, Plan};

/// A tone is heard for so long before its event begins: 60 ms.
const BEFORE_SAMPLES: u64 = 480;
/// And after it: 40 ms.
const AFTER_SAMPLES: u64 = 320;
/// Nobody presses two keys within 40 ms.
pub(crate) const SAME_KEY_MS: u64 = 40;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// When.
    pub at: MediaTime,
    /// For how long, in samples.
    pub samples: u64,
}

/// The same before it has a place on a timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pressed {
    pub at: WallTime,
    pub samples: u64,
}

/// How long keys were pressed in a run, by their begin. All packets of one press have its begin as their
/// timestamp (RFC 4733, 2.5.1.2), and each tells of a longer time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations(BTreeMap<u32, u16>);

impl Durations {
    /// Takes a payload that may be an event (RFC 4733, 2.3: event, flags and volume, duration so far).
    pub(crate) fn packet(&mut self, ticks: u32, payload_type: u8, payload: &[u8]) {
        if payload_type >= 96
            && let [_, _, high, low] = *payload
        {
            let duration = u16::from_be_bytes([high, low]);
            let longest = self.0.entry(ticks).or_default();
            *longest = duration.max(*longest);
        }
    }

    fn of(&self, ticks: u32) -> u64 {
        self.0.get(&ticks).copied().unwrap_or(0).into()
    }
}

impl Run {
    /// A key that was pressed at a media time.
    pub(crate) fn pressed(&self, ticks: u32) -> Pressed {
        let at = self.wall(MediaTime(u64::from(ticks)));
        Pressed {
            at,
            samples: self.durations.of(ticks) / u64::from(self.ticks_per_sample.unsigned_abs()),
        }
    }
}

impl Plan {
    /// Gives keys their places. Two captures of one call hear the same key.
    pub(crate) fn place_keys(&mut self, pressed: &[Pressed]) {
        let place = |one: &Pressed| Key { at: self.position(one.at), samples: one.samples };
        self.keys = distinct(pressed.iter().map(place).collect());
    }

    /// Takes the tones of keys out of the audio: it is silent there, and [`Plan::masked`] says where.
    pub fn mask_keys(&mut self) {
        let total = self.total.0;
        let span = |key: &Key| {
            let end = key.at.0 + key.samples + AFTER_SAMPLES;
            (key.at.0.saturating_sub(BEFORE_SAMPLES), end.min(total))
        };
        let mut spans: Vec<(u64, u64)> = self.keys.iter().map(span).collect();
        spans.dedup_by(|later, earlier| {
            let touch = later.0 <= earlier.1;
            if touch {
                earlier.1 = earlier.1.max(later.1);
            }
            touch
        });
        let mut rest = spans.as_slice();
        let mut cut = false;
        self.placed.retain_mut(|placed| {
            while rest.first().is_some_and(|span| span.1 <= u64::from(placed.position)) {
                rest = &rest[1..];
            }
            let kept = rest.iter().take(2).all(|span| outside(placed, *span));
            placed.fresh |= std::mem::replace(&mut cut, !kept);
            kept
        });
        self.masked =
            spans.into_iter().map(|(from, to)| (MediaTime(from), MediaTime(to))).collect();
    }
}

/// Keys in order, each once though more than one told of it.
pub(crate) fn distinct(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_unstable();
    keys.dedup_by(|later, earlier| {
        let same = later.at.0 - earlier.at.0 < SAME_KEY_MS * MediaTime::SAMPLES_PER_MS;
        if same {
            earlier.samples = earlier.samples.max(later.samples);
        }
        same
    });
    keys
}

/// Leaves of a packet what is before a span, or what is after it; `false` if nothing is. No packet is so
/// long that both are, or that it touches three spans: the shortest is 100 ms.
fn outside(placed: &mut Placed, (from, to): (u64, u64)) -> bool {
    let begin = u64::from(placed.position);
    let end = begin + u64::from(placed.take);
    if end <= from {
        return true;
    }
    if begin < from {
        placed.take = u16::try_from(from - begin).unwrap_or(placed.take);
        return true;
    }
    let Ok(masked) = u16::try_from(to.min(end) - begin) else { return false };
    placed.skip += masked;
    placed.take -= masked;
    placed.position += u32::from(masked);
    placed.take > 0
}
