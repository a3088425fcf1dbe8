//! Listens at the seams of a recording: where the captures of several devices, or a capture and what was
//! published before, overlap, it says which few seconds of each are to be decoded, and finds out from
//! those how the two lie beside each other ([`super::identical`], [`super::align`]), where it is best to go on
//! with the other one, and what leads over without a click. It decodes nothing and lays nothing: what comes out
//! ([`Joins`]) is the placer's matter.
//!
//! At a seam the earlier capture counts. Where both were heard for a while it is left where little is to be
//! heard and both are most alike, in the last second that they have in common; of what was published nothing
//! is cut. The last 4 ms before a seam are faded over, sample by sample; beside what was published only the
//! captured side is changed, by a difference that fades away. At the edges of a hole everything stays as it was
//! received.
//!
//! Bounds: [`SEAMS_MAX`] seams of a recording are listened to, at most 4 s of overlap at each.

use super::align::{Aligned, COMMON_SAMPLES_MIN, SEARCH_SAMPLES, align};
use super::identical::identical;
use super::index::{CaptureKey, Index};
use super::joins::{Crossing, Join, Joins, Lead};
use super::payload::Codec;
use super::pieces::PIECE_HOLE_TICKS;
use super::placer::{Placer, audio};
use super::rtp::MediaTime;
use super::settle::{Settled, settle};
use super::timeline::{Placed, Plan};

/// More seams than this are left to the clocks.
pub const SEAMS_MAX: usize = 16;
/// So much of an overlap is listened to: 4 s.
const HEARD_SAMPLES: i64 = 4 * 8000;
/// How far before its end the earlier capture may be left: 1 s.
const LEFT_EARLY_SAMPLES: usize = 8000;
/// No packet is longer: 250 ms.
const FRAME_SAMPLES_MAX: u64 = 2000;
/// A seam is faded over for so long: 4 ms.
const FADE_SAMPLES: usize = 32;

/// What is to be listened to, in one recording.
#[derive(Debug)]
pub struct Listening {
    settled: Settled,
    /// In the order of the timeline.
    seams: Vec<(Crossing, Excerpts)>,
    plan: Plan,
}

/// What is read of two captures around a seam.
#[derive(Clone, Debug)]
struct Excerpts {
    earlier: Excerpt,
    later: Excerpt,
}

/// Some seconds of a run.
#[derive(Clone, Debug)]
struct Excerpt {
    /// Media time of its first sample.
    from: u64,
    /// Where its samples lie among all that are read.
    at: usize,
    len: usize,
    /// Stretches of it that were captured, in order.
    heard: Vec<(usize, usize)>,
}

impl Index {
    /// What is to be listened to before a plan is made. `None` if there is no seam at which that could
    /// tell anything; in particular where there is one capture only. Where each side of the call was
    /// captured by itself it is `None`, too: at most seams one station's voice gives way to another's, which
    /// have nothing in common, and one side moved by itself would answer before it is asked.
    #[must_use]
    pub fn listening(&self) -> Option<Listening> {
        if self.captures.len() < 2 || self.has_sides() {
            return None;
        }
        let settled = settle(self.clone());
        let crossings = Placer::run(&settled).ok()?.crossings;
        let wanted = crossings.iter().filter_map(|one| Some((*one, around(&settled, one)?)));
        let wanted: Vec<(Crossing, [Stretch; 2])> = wanted.take(SEAMS_MAX).collect();
        let reading = Reading::of(&settled, wanted.iter().flat_map(|(_, both)| *both));
        let read = |(crossing, both): (Crossing, [Stretch; 2])| {
            let [earlier, later] = both.map(|stretch| reading.excerpt(stretch));
            Some((crossing, Excerpts { earlier: earlier?, later: later? }))
        };
        let seams: Vec<_> = wanted.into_iter().filter_map(read).collect();
        let plan = Plan::excerpts(reading.placed, MediaTime(reading.samples));
        (!seams.is_empty()).then_some(Listening { settled, seams, plan })
    }
}

impl Listening {
    /// By this the excerpts are to be rendered: one after the other, in all [`Plan::total`] samples.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was to be heard, as linear samples, tells how the captures lie.
    #[must_use]
    pub fn joins(mut self, samples: &[i16]) -> Joins {
        for (crossing, excerpts) in std::mem::take(&mut self.seams) {
            let Some(earlier) = Sounds::of(&excerpts.earlier, samples) else { continue };
            let Some(later) = Sounds::of(&excerpts.later, samples) else { continue };
            self.join(&crossing, earlier, later);
        }
        self.settled.joins
    }

    fn join(&mut self, crossing: &Crossing, earlier: Sounds<'_>, later: Sounds<'_>) {
        let settled = &self.settled;
        let keys = [crossing.from, crossing.to].map(|run| settled.runs[run].0.capture);
        // By the clocks, sample 0 of the later excerpt is this one of the earlier.
        let expected = later.from - by_clock(crossing) - earlier.from;
        let (a, b) = (earlier.samples, later.samples);
        let found = recognised(a, b, expected);
        let lag = found.map_or(expected, |found| found.lag);
        let pair = Pair { earlier, later, lag };
        let end = crossing.end.0.cast_signed() - earlier.from;
        let published = keys.map(|key| key == CaptureKey::PUBLISHED);
        let moment = match (found, published) {
            // It begins where it begins.
            (Some(_), [_, true]) => crossing.begin.0.cast_signed() - pair.later.from + lag,
            (Some(_), [false, false]) => pair.best_moment(end).unwrap_or(end),
            (Some(_), [true, false]) | (None, _) => end,
        };
        let in_earlier = u64::try_from(moment + earlier.from);
        let in_later = u64::try_from(moment - lag + later.from);
        let (Ok(at), Ok(at_to)) = (in_earlier, in_later) else { return };
        let join = Join {
            from: settled.run_key(crossing.from),
            to: settled.run_key(crossing.to),
            at: MediaTime(at),
            at_to: MediaTime(at_to),
            confidence: found.map(|found| found.confidence),
            cut: found.is_some() && !published[0],
            lead: pair.lead(moment, published),
        };
        if found.is_some() {
            let wall = settled.wall(crossing.from, join.at);
            let (from_wall, to_wall) = (
                settled.runs[crossing.from].1.wall(join.at),
                settled.runs[crossing.to].1.wall(join.at_to),
            );
            let joins = &mut self.settled.joins;
            if !joins.knows(keys[0]) {
                joins.correct(keys[0], from_wall, 0);
            }
            joins.correct(keys[1], to_wall, wall.micros_since(to_wall));
        }
        self.settled.joins.list.push(join);
    }
}

/// How two recordings of a talk lie beside each other, if what is to be heard in them tells. By the clocks, sample `n`
/// of `b` is sample `n + expected` of `a`.
pub(super) fn recognised(a: &[i16], b: &[i16], expected: i64) -> Option<Aligned> {
    identical(a, b, expected).or_else(|| align(a, b, expected))
}

/// How much greater the later run's media times are than the earlier's, where the clocks laid them.
fn by_clock(crossing: &Crossing) -> i64 {
    let hole = crossing.position.cast_signed() - crossing.left.cast_signed();
    crossing.begin.0.cast_signed() - crossing.end.0.cast_signed() - hole
}

/// A stretch of a run's media time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    run: usize,
    from: u64,
    to: u64,
}

/// What is to be read around a seam, of the earlier run and of the later; `None` if the two have too
/// little in common for that to tell anything, wherever they lie.
fn around(settled: &Settled, crossing: &Crossing) -> Option<[Stretch; 2]> {
    let search = SEARCH_SAMPLES.cast_signed();
    let ahead = by_clock(crossing);
    let end = crossing.end.0.cast_signed();
    let (from, to) = sounding(settled, crossing.from, end)?;
    let (from_later, to_later) = sounding(settled, crossing.to, crossing.begin.0.cast_signed())?;
    let before = end - from.max(from_later - ahead);
    let after = to.min(to_later - ahead) - end;
    if before.max(after) < COMMON_SAMPLES_MIN as i64 - search {
        return None;
    }
    let (earlier, later) = if before >= after {
        let heard = (before + search).min(HEARD_SAMPLES);
        ((end - heard, end), (end - heard - search, end + search))
    } else {
        let heard = (after + search).min(HEARD_SAMPLES);
        ((end - search, end + heard), (end - search, end + heard + search))
    };
    let within = |run: usize, (from, to): (i64, i64), least: i64, most: i64| Stretch {
        run,
        from: from.max(least).max(0).cast_unsigned(),
        to: to.min(most).max(0).cast_unsigned(),
    };
    let later = (later.0 + ahead, later.1 + ahead);
    Some([
        within(crossing.from, earlier, from, to),
        within(crossing.to, later, from_later, to_later),
    ])
}

/// The stretch of a run without a long hole in which a media time is, or at whose end it is.
fn sounding(settled: &Settled, run: usize, at: i64) -> Option<(i64, i64)> {
    let (key, run) = &settled.runs[run];
    let named = settled.codec(key.capture);
    let mut open: Option<(i64, i64)> = None;
    for packet in &run.packets {
        let Some(audio) = audio(packet, named) else { continue };
        let begin = i64::from(packet.ticks);
        let end = begin + i64::from(audio.samples);
        match &mut open {
            Some(open) if begin <= open.1 + PIECE_HOLE_TICKS.cast_signed() => {
                open.1 = open.1.max(end);
            }
            Some(open) if at <= open.1 => break,
            _ => open = Some((begin, end)),
        }
    }
    open.filter(|(from, to)| (*from..=*to).contains(&at))
}

/// What is read: each packet once, though several seams may want it.
#[derive(Default)]
struct Reading {
    blocks: Vec<(Stretch, Excerpt)>,
    placed: Vec<Placed>,
    samples: u64,
}

impl Reading {
    fn of(settled: &Settled, wanted: impl Iterator<Item = Stretch>) -> Self {
        let mut wanted: Vec<Stretch> = wanted.filter(|stretch| stretch.from < stretch.to).collect();
        wanted.sort_unstable();
        wanted.dedup_by(|later, earlier| {
            let touch = later.run == earlier.run && later.from <= earlier.to + FRAME_SAMPLES_MAX;
            if touch {
                earlier.to = earlier.to.max(later.to);
            }
            touch
        });
        let mut reading = Self::default();
        for stretch in wanted {
            let block = reading.block(settled, stretch);
            reading.blocks.push((stretch, block));
        }
        reading
    }

    fn block(&mut self, settled: &Settled, stretch: Stretch) -> Excerpt {
        let Stretch { run, from, to } = stretch;
        let (key, run) = &settled.runs[run];
        let named = settled.codec(key.capture);
        let base = self.samples;
        let mut excerpt = Excerpt {
            from,
            at: usize::try_from(base).unwrap_or(usize::MAX),
            len: usize::try_from(to - from).unwrap_or(0),
            heard: Vec::new(),
        };
        let first = run.packets.partition_point(|p| p.time().0 + FRAME_SAMPLES_MAX < from);
        let mut cursor = from;
        let mut before: Option<(u64, Codec)> = None;
        for packet in &run.packets[first..] {
            let begin = packet.time().0;
            if begin >= to {
                break;
            }
            let Some(audio) = audio(packet, named) else { continue };
            let end = begin + u64::from(audio.samples);
            let (used, until) = (begin.max(cursor), end.min(to));
            if until <= used {
                continue;
            }
            // A packet's samples are counted in 16 bits, and all excerpts are some minutes.
            let (skip, take) = ((used - begin) as u16, (until - used) as u16);
            let Ok(position) = u32::try_from(base + used - from) else { break };
            let fresh = before.replace((end, audio.codec)) != Some((begin, audio.codec));
            let (ordinal, codec) = (packet.ordinal, audio.codec);
            self.placed.push(Placed { ordinal, position, skip, take, codec, fresh });
            let [used, until] = [used, until].map(|at| (at - from) as usize);
            match excerpt.heard.last_mut() {
                Some(last) if last.1 == used => last.1 = until,
                _ => excerpt.heard.push((used, until)),
            }
            cursor = end.min(to);
        }
        self.samples = base + excerpt.len as u64;
        excerpt
    }

    /// A stretch that is read, as a part of what all of it is.
    fn excerpt(&self, wanted: Stretch) -> Option<Excerpt> {
        let holds = |stretch: &Stretch| {
            stretch.run == wanted.run && stretch.from <= wanted.from && wanted.to <= stretch.to
        };
        let (stretch, block) = self.blocks.iter().find(|(stretch, _)| holds(stretch))?;
        let skip = usize::try_from(wanted.from - stretch.from).ok()?;
        let len = usize::try_from(wanted.to.checked_sub(wanted.from)?).ok()?;
        let part = |(from, to): &(usize, usize)| {
            let (from, to) = (from.saturating_sub(skip), to.saturating_sub(skip).min(len));
            (from < to).then_some((from, to))
        };
        let heard = block.heard.iter().filter_map(part).collect();
        Some(Excerpt { from: wanted.from, at: block.at + skip, len, heard })
    }
}

/// An excerpt that was read.
#[derive(Clone, Copy)]
struct Sounds<'a> {
    from: i64,
    samples: &'a [i16],
    heard: &'a [(usize, usize)],
}

impl<'a> Sounds<'a> {
    fn of(excerpt: &'a Excerpt, all: &'a [i16]) -> Option<Self> {
        let samples = all.get(excerpt.at..excerpt.at.checked_add(excerpt.len)?)?;
        Some(Self { from: excerpt.from.cast_signed(), samples, heard: &excerpt.heard })
    }

    /// The stretch without a hole in which a sample is, or that ends there.
    fn whole_around(&self, at: i64) -> Option<(i64, i64)> {
        let signed = |(from, to): &(usize, usize)| (*from as i64, *to as i64);
        self.heard.iter().map(signed).find(|(from, to)| (*from..=*to).contains(&at))
    }

    fn sample(&self, at: i64) -> Option<i32> {
        let at = usize::try_from(at).ok()?;
        let heard = self.heard.iter().any(|(from, to)| (*from..*to).contains(&at));
        self.samples.get(at).filter(|_| heard).map(|sample| i32::from(*sample))
    }
}

/// Two excerpts as they lie beside each other: sample `n` of the later one is sample `n + lag` of the
/// earlier.
struct Pair<'a> {
    earlier: Sounds<'a>,
    later: Sounds<'a>,
    lag: i64,
}

impl Pair<'_> {
    /// Where it is best to leave the earlier one, which ends at `end`: both are whole from there to its end;
    /// little is to be heard, and both are alike; of such moments the one in the middle. `None` if its end
    /// is as good as any.
    fn best_moment(&self, end: i64) -> Option<i64> {
        let whole = self.earlier.whole_around(end)?;
        let (from, to) = self.later.whole_around(end - self.lag)?;
        if to + self.lag < end || whole.1 < end {
            return None;
        }
        let fade = FADE_SAMPLES as i64;
        let first = whole.0.max(from + self.lag).max(end - LEFT_EARLY_SAMPLES as i64);
        // What it costs to go over in the fade before each moment.
        let cost = |at: i64| -> i64 {
            let square = |one: i32| i64::from(one) * i64::from(one);
            match (
                self.earlier.samples.get(usize::try_from(at).unwrap_or(usize::MAX)),
                self.later.samples.get(usize::try_from(at - self.lag).unwrap_or(usize::MAX)),
            ) {
                (Some(a), Some(b)) => {
                    let (a, b) = (i32::from(*a), i32::from(*b));
                    square(a) + square(b) + 4 * square(a - b)
                }
                _ => 0,
            }
        };
        let mut sum: i64 = (first..first + fade).map(cost).sum();
        let middle = i64::midpoint(first + fade, end);
        let mut best: Option<(i64, i64)> = None;
        for at in first + fade..end {
            let better = |(at_best, least): (i64, i64)| {
                (sum, (at - middle).abs()) < (least, (at_best - middle).abs())
            };
            if best.is_none_or(better) {
                best = Some((at, sum));
            }
            sum += cost(at) - cost(at - fade);
        }
        best.map(|(at, _)| at)
    }

    /// What leads over at a moment; `None` where nothing is needed, or nothing can be done. Of what is
    /// published (the earlier, the later) no sample is changed.
    fn lead(&self, moment: i64, [published, published_later]: [bool; 2]) -> Option<Lead> {
        let fade = FADE_SAMPLES as i64;
        let earlier = |at: i64| self.earlier.sample(at);
        let later = |at: i64| self.later.sample(at - self.lag);
        // From one to the other in `fade + 1` steps; what is the same stays the same.
        let between = |from: i32, to: i32, step: i64| {
            let mixed = i64::from(from) * (fade + 1 - step) + i64::from(to) * step;
            (mixed / (fade + 1)) as i32
        };
        let as_sample = |value: i32| value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let (before, samples): (usize, Option<Vec<i16>>) = if published {
            let apart = earlier(moment - 1)? - later(moment - 1)?;
            let at = |n: i64| Some(as_sample(later(moment + n)? + between(apart, 0, n + 1)));
            (0, (0..fade).map(at).collect())
        } else if published_later {
            let apart = later(moment)? - earlier(moment)?;
            let at =
                |n: i64| Some(as_sample(earlier(moment - fade + n)? + between(0, apart, n + 1)));
            (FADE_SAMPLES, (0..fade).map(at).collect())
        } else {
            let at = |n: i64| {
                let at = moment - fade + n;
                Some(as_sample(between(earlier(at)?, later(at)?, n + 1)))
            };
            (FADE_SAMPLES, (0..fade).map(at).collect())
        };
        let samples = samples?;
        let kept = |(n, sample): (i64, &i16)| {
            let at = moment - before as i64 + n;
            let captured = if published { later(at) } else { earlier(at) };
            captured == Some(i32::from(*sample))
        };
        let before = u16::try_from(before).ok()?;
        (!(0..).zip(&samples).all(kept)).then_some(Lead { before, samples })
    }
}
