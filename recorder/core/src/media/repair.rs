//! Fills the holes of one published recording from another one of the same call, as the two copies of
//! active-active are: what is to be listened to so that the two lie right beside each other, which hole is
//! filled from where, and what is said of that in the record. Neither of the two is changed; what comes
//! out is a third. Files are read and written elsewhere.
//!
//! Positions are samples at 8 kHz, and those of the repaired recording may be below 0: what the other one
//! heard before its begin is filled in, too, and so is what that heard after its end. A pause is no hole, and
//! neither is what was left out because the call was held.
//!
//! The two were captured by clocks and phantoms of their own, so they are compared by what is to be heard
//! (as at a seam, [`super::seam`]), near each hole but not more often than each 10 s; both come from one switch, whose
//! clock is one. A hole further than a minute from anything that was recognised is said to be laid by the
//! clocks. Where a filling begins or ends beside audio, the difference of the two at that sample fades away over 4 ms of
//! the filling.

use std::ops::Range;

use storage_core::record::{Gap, GapCause, Segment, VoiceFormat};
use storage_core::{Draft, Recording, RecordingId, SegmentId, WallTime};

use super::align::SEARCH_SAMPLES;
use super::drafts::{merge_drafts, shifted};
use super::index::CaptureKey;
use super::joins::PlannedSeam;
use super::record::{draft_of, revised};
use super::rtp::MediaTime;
use super::seam::recognised;
use super::timeline::{Mark, Plan, PlannedGap};

/// Samples of a millisecond, which is how exactly records say where something is.
const MS: i64 = 8;
/// So much is listened to at each place: 4 s.
const HEARD: i64 = 4 * 8000;
/// Where less than this is audible on one side of a hole, the other is listened to: 1 s.
const HEARD_MIN: i64 = 8000;
/// Nobody listens again so near a place where the two were recognised: 10 s.
const APART: u64 = 10 * 8000;
/// Places at which they were not recognised, most likely because much is missing in either; then it is left to
/// the clocks.
const FAILURES_MAX: usize = 64;
/// So far from where both were recognised their places are still known by that: 60 s.
const KNOWN: u64 = 60 * 8000;
/// Less is not filled in: 2 ms. It is an error of measurement.
const FILLED_MIN: i64 = 16;
/// Less than a packet before the begin or after the end is nothing that is missing, and where it is not known
/// exactly how the two lie, less than two.
const ENDS_MIN: i64 = 160;
/// Beside audio a filling leans to it for so long: 4 ms.
const LEANING: i64 = 32;

/// A published recording and the length of its file.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// What is known of it.
    pub record: &'a Recording,
    /// Samples of its voice file.
    pub samples: u64,
}

/// Stretches of the two files in which the same is to be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Of the one that is repaired.
    pub repaired: Range<u64>,
    /// Of the other one.
    pub other: Range<u64>,
}

/// Where the two were recognised.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: i64,
    /// Sample `n` of the other one is sample `n + offset` of the repaired one.
    offset: i64,
    confidence: f32,
}

/// Where audio may be missing, in positions of the repaired recording.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: i64,
    to: i64,
    cause: GapCause,
}

/// Part of the file that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// From the repaired file, as it is.
    Kept {
        /// First sample there.
        from: u64,
        /// How many.
        samples: u64,
    },
    /// From the other file.
    Filled {
        /// First sample there.
        from: u64,
        /// How many.
        samples: u64,
        /// Beside which samples it lies: at its begin and at its end, of the repaired file and of the other.
        beside: [Option<(u64, u64)>; 2],
    },
    /// Silence: nobody heard it.
    Missing {
        /// How many.
        samples: u64,
    },
}

/// What a repair comes to.
#[derive(Debug)]
pub struct Repaired<'a> {
    /// The file's parts, in order.
    pub pieces: Vec<Piece>,
    /// Its gaps, length and seams.
    pub plan: Plan,
    /// How much was filled in, samples.
    pub filled: u64,
    fillings: Vec<Filling>,
    /// How far before the repaired recording it begins.
    lead: i64,
    repaired: Published<'a>,
    other: Published<'a>,
    ahead_us: i64,
}

/// A hole, or a part of one, that the other recording fills. Positions are the repaired recording's.
#[derive(Clone, Copy, Debug)]
struct Filling {
    from: i64,
    to: i64,
    offset: i64,
    confidence: Option<f32>,
    /// Whether both are audible right before its begin, and right behind its end.
    beside: [bool; 2],
}

impl Filling {
    fn piece(&self) -> Piece {
        let Self { from, to, offset, beside, .. } = *self;
        let places = [from - 1, to].map(|at| (at.cast_unsigned(), (at - offset).cast_unsigned()));
        Piece::Filled {
            from: (from - offset).cast_unsigned(),
            samples: (to - from).cast_unsigned(),
            beside: [beside[0].then_some(places[0]), beside[1].then_some(places[1])],
        }
    }
}

/// A repair while it is thought out.
#[derive(Debug)]
pub struct Repair<'a> {
    repaired: Published<'a>,
    other: Published<'a>,
    /// By how much the clock of the other one's node is ahead, microseconds.
    ahead_us: i64,
    by_clock: i64,
    audible: [Vec<(i64, i64)>; 2],
    holes: Vec<Hole>,
    /// Places to listen at, the next one last.
    places: Vec<(i64, i64)>,
    tried: Option<(i64, Listen)>,
    failures: usize,
    anchors: Vec<Anchor>,
}

impl<'a> Repair<'a> {
    /// `ahead_us`: by how much the clock of the other one's node is ahead of the repaired one's, microseconds.
    #[must_use]
    pub fn new(repaired: Published<'a>, other: Published<'a>, ahead_us: i64) -> Self {
        let began = other.record.started.micros_since(repaired.record.started);
        let by_clock = began.saturating_sub(ahead_us) / 125;
        let audible = [repaired, other].map(audible);
        let total = repaired.samples.cast_signed();
        let gaps = repaired.record.gaps.iter().filter(|gap| may_be_filled(gap.cause));
        let mut holes: Vec<Hole> = gaps.map(whole).collect();
        for pause in &repaired.record.pauses {
            let pause = samples_of(pause.startms, pause.endms);
            holes = holes.into_iter().flat_map(|hole| without(hole, pause)).collect();
        }
        let mut places: Vec<_> = holes.iter().map(|hole| (hole.from, hole.to)).collect();
        places.push((0, 0));
        places.push((total, total));
        places.sort_unstable_by(|one, other| other.cmp(one));
        let (tried, failures, anchors) = (None, 0, Vec::new());
        Self {
            repaired,
            other,
            ahead_us,
            by_clock,
            audible,
            holes,
            places,
            tried,
            failures,
            anchors,
        }
    }

    /// Where to listen next; what is heard there goes to [`Self::heard`]. `None`: enough is known.
    pub fn listen(&mut self) -> Option<Listen> {
        while let Some((from, to)) = self.places.pop() {
            let is_near = |anchor: &Anchor| anchor.at.abs_diff(from) < APART;
            if self.anchors.iter().any(is_near) || self.failures >= FAILURES_MAX {
                continue;
            }
            let before = (from - HEARD, from);
            let window = if self.sounding(before) >= HEARD_MIN { before } else { (to, to + HEARD) };
            let repaired = clipped(window, self.repaired.samples);
            let offset = self.offset(from).0;
            let search = SEARCH_SAMPLES.cast_signed();
            let (from_other, to_other) = (window.0 - offset - search, window.1 - offset + search);
            let other = clipped((from_other, to_other), self.other.samples);
            if repaired.is_empty() || other.is_empty() {
                continue;
            }
            let listen = Listen { repaired, other };
            self.tried = Some((from, listen.clone()));
            return Some(listen);
        }
        None
    }

    /// What is to be heard in the two stretches that [`Self::listen`] gave last, as linear samples.
    pub fn heard(&mut self, repaired: &[i16], other: &[i16]) {
        let Some((at, listen)) = self.tried.take() else { return };
        let ahead = listen.repaired.start.cast_signed() - listen.other.start.cast_signed();
        let expected = self.offset(at).0 - ahead;
        match recognised(repaired, other, expected) {
            Some(found) => {
                let (offset, confidence) = (found.lag + ahead, found.confidence);
                self.anchors.push(Anchor { at, offset, confidence });
            }
            None => self.failures += 1,
        }
    }

    /// How the two lie beside each other there, and how sure that is; unsure where the clocks said so.
    fn offset(&self, at: i64) -> (i64, Option<f32>) {
        let nearest = self.anchors.iter().min_by_key(|anchor| anchor.at.abs_diff(at));
        nearest.map_or((self.by_clock, None), |anchor| {
            let known = anchor.at.abs_diff(at) <= KNOWN;
            (anchor.offset, known.then_some(anchor.confidence))
        })
    }

    /// How much of a stretch of the repaired recording is audible.
    fn sounding(&self, (from, to): (i64, i64)) -> i64 {
        let common = |(a, b): &(i64, i64)| (to.min(*b) - from.max(*a)).max(0);
        self.audible[0].iter().map(common).sum()
    }

    /// What is to be written. `None`: the other one has nothing that is missing here.
    #[must_use]
    pub fn plan(mut self) -> Option<Repaired<'a>> {
        let total = self.repaired.samples.cast_signed();
        let least = |sure: Option<f32>| if sure.is_some() { ENDS_MIN } else { 2 * ENDS_MIN };
        let (begin, sure) = self.offset(0);
        if begin <= -least(sure) {
            // Positions in records are whole milliseconds, and those that are known only move.
            let from = -((-begin) / MS * MS);
            self.holes.insert(0, Hole { from, to: 0, cause: GapCause::NoMedia });
        }
        let (behind, sure) = self.offset(total);
        let end = self.other.samples.cast_signed() + behind;
        if end >= total + least(sure) {
            self.holes.push(Hole { from: total, to: end, cause: GapCause::Takeover });
        }
        let fillings: Vec<Filling> = self.holes.iter().flat_map(|hole| self.fill(*hole)).collect();
        let at_ends = |filling: &&Filling| filling.from < 0 || filling.to > total;
        let reach = fillings.iter().filter(at_ends);
        let (from, to) = reach
            .fold((0, total), |(from, to), filling| (from.min(filling.from), to.max(filling.to)));
        let lead = -(from.div_euclid(MS) * MS);
        (!fillings.is_empty()).then(|| self.repaired(fillings, lead, to))
    }

    /// What of a hole the other one has.
    fn fill(&self, hole: Hole) -> Vec<Filling> {
        let (offset, confidence) = self.offset(if hole.to <= 0 { hole.to } else { hole.from });
        let [own, others] = &self.audible;
        let audible =
            |list: &[(i64, i64)], at: i64| list.iter().any(|(a, b)| (*a..*b).contains(&at));
        let both = |at: i64| audible(own, at) && audible(others, at - offset);
        let part = |(a, b): &(i64, i64)| {
            let (from, to) = (hole.from.max(a + offset), hole.to.min(b + offset));
            let beside = [both(from - 1), both(to)];
            (to - from >= FILLED_MIN).then_some(Filling { from, to, offset, confidence, beside })
        };
        others.iter().filter_map(part).collect()
    }

    fn repaired(&self, fillings: Vec<Filling>, lead: i64, end: i64) -> Repaired<'a> {
        let mut pieces = Vec::new();
        let mut at = -lead;
        for filling in &fillings {
            self.keep(&mut pieces, at, filling.from);
            pieces.push(filling.piece());
            at = filling.to;
        }
        self.keep(&mut pieces, at, end);
        let filled = fillings.iter().map(|one| (one.to - one.from).cast_unsigned()).sum();
        let plan = self.plan_of(&fillings, lead, end);
        let Self { repaired, other, ahead_us, .. } = *self;
        Repaired { pieces, plan, filled, fillings, lead, repaired, other, ahead_us }
    }

    /// What lies between two fillings: the repaired file, and silence before its begin and behind its end.
    fn keep(&self, pieces: &mut Vec<Piece>, from: i64, to: i64) {
        let total = self.repaired.samples.cast_signed();
        for (from, to, is_there) in [
            (from, to.min(0), false),
            (from.max(0), to.min(total), true),
            (from.max(total), to, false),
        ] {
            let Ok(samples @ 1..) = u64::try_from(to - from) else { continue };
            pieces.push(if is_there {
                Piece::Kept { from: from.cast_unsigned(), samples }
            } else {
                Piece::Missing { samples }
            });
        }
    }

    fn plan_of(&self, fillings: &[Filling], lead: i64, end: i64) -> Plan {
        let position = |at: i64| MediaTime((at + lead).cast_unsigned());
        let (record, total) = (self.repaired.record, self.repaired.samples.cast_signed());
        let at_ends = self.holes.iter().filter(|hole| hole.to <= 0 || hole.from >= total);
        let mut gaps: Vec<Hole> = record.gaps.iter().map(whole).chain(at_ends.copied()).collect();
        for filling in fillings {
            let filled = (filling.from, filling.to);
            gaps = gaps.into_iter().flat_map(|gap| without(gap, filled)).collect();
        }
        gaps.sort_unstable_by_key(|gap| gap.from);
        let planned = gaps.iter().filter_map(|gap| {
            let (from, to) = (gap.from.max(-lead), gap.to.min(end));
            let (from, to) = (from < to).then(|| (position(from), position(to)))?;
            Some(PlannedGap { from, to, cause: gap.cause })
        });
        let gaps = planned.collect();
        let first = record.gaps.first().filter(|gap| gap.startms == 0);
        let first = first.map_or(0, |gap| samples_of(0, gap.endms).1);
        let micros = |samples: i64| samples.saturating_mul(125);
        let started = WallTime::from_micros(record.started.as_micros() - micros(lead));
        let ended = WallTime::from_micros(record.ended.as_micros() + micros(end - total));
        let mark = |wall, at: i64| Mark { wall, position: position(at).0 };
        let marks = vec![
            mark(started, -lead),
            mark(record.started, 0),
            mark(record.ended, total),
            mark(ended, end),
        ];
        let (seams, published) = (self.seams(fillings, lead), Some(position(first)));
        let plan = Plan::excerpts(Vec::new(), position(end));
        Plan { started, ended, seams, gaps, published, marks, ..plan }
    }

    fn seams(&self, fillings: &[Filling], lead: i64) -> Vec<PlannedSeam> {
        let ours = CaptureKey::PUBLISHED;
        let theirs = CaptureKey { node: self.other.record.node, segment: SegmentId(0) };
        let mut seams = Vec::new();
        for Filling { from, to, offset, confidence, beside } in fillings.iter().copied() {
            let shift_us = (offset - self.by_clock) * 125;
            let ends = [(from, [ours, theirs], shift_us), (to, [theirs, ours], -shift_us)];
            for ((at, [from, to], shift_us), beside) in ends.into_iter().zip(beside) {
                let at = MediaTime((at + lead).cast_unsigned());
                if beside {
                    seams.push(PlannedSeam { at, from, to, shift_us, confidence });
                }
            }
        }
        seams
    }
}

impl Repaired<'_> {
    /// The record of what is written: that of the repaired recording, under another name, and who else is in it
    /// now.
    #[must_use]
    pub fn record(&self, name: RecordingId, format: VoiceFormat) -> Recording {
        let (one, other) = (self.repaired.record, self.other.record);
        let known = shifted(draft_of(other), self.ahead_us);
        let draft = merge_drafts(draft_of(one), [known]);
        let draft = Draft { recordingid: name, node: one.node, copy: one.copy, ..draft };
        let mut record = revised(one, draft, &self.plan, format);
        record.segments.extend(other.segments.iter().filter_map(|segment| self.part_of(segment)));
        record.segments.sort_by_key(|segment| segment.startms);
        record.repairof = Some(one.recordingid);
        record.repairedfrom = Some(other.recordingid);
        record
    }

    /// What is filled in from a segment of the other recording, with what was counted of the whole of it.
    fn part_of(&self, segment: &Segment) -> Option<Segment> {
        let (begin, end) = samples_of(segment.startms, segment.endms);
        let within = self.fillings.iter().filter_map(|filling| {
            let from = filling.from.max(begin + filling.offset);
            let to = filling.to.min(end + filling.offset);
            (from < to).then_some((from + self.lead, to + self.lead))
        });
        let (from, to) = within.reduce(|(from, to), (a, b)| (from.min(a), to.max(b)))?;
        Some(Segment {
            startms: (from / MS).cast_unsigned(),
            endms: to.cast_unsigned().div_ceil(MS.cast_unsigned()),
            clockoffsetms: Some(self.ahead_us as f64 / 1000.0),
            ..segment.clone()
        })
    }
}

/// What is added to a filling so that it begins and ends where the audio beside it does.
#[derive(Clone, Copy, Debug)]
pub struct Leaning {
    samples: u64,
    steps: [i32; 2],
}

impl Leaning {
    /// Of a filling of so many samples. `steps`: by how much the repaired recording is above the other one beside
    /// its begin and beside its end; 0 where there is nothing to lean to.
    #[must_use]
    pub const fn new(samples: u64, steps: [i32; 2]) -> Self {
        Self { samples, steps }
    }

    /// Applies it to samples from `at` on.
    pub fn apply(&self, at: u64, samples: &mut [i16]) {
        if self.steps == [0, 0] {
            return;
        }
        for (at, sample) in (at..).zip(samples) {
            let share = |step: i32, away: u64| {
                let left = LEANING - i64::try_from(away).unwrap_or(LEANING).min(LEANING);
                i64::from(step) * left / (LEANING + 1)
            };
            let behind = self.samples.saturating_sub(at + 1);
            let lean = share(self.steps[0], at) + share(self.steps[1], behind);
            let leaning = i64::from(*sample) + lean;
            *sample = leaning.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
}

/// What is to be heard of a file, in order.
fn audible(published: Published<'_>) -> Vec<(i64, i64)> {
    let Published { record, samples } = published;
    let gaps = record.gaps.iter().map(|gap| samples_of(gap.startms, gap.endms));
    let paused = record.pauses.iter().map(|pause| (pause.startms, pause.endms));
    let spans = record.masked.iter().map(|span| (span.startms, span.endms)).chain(paused);
    let mut silent: Vec<_> = gaps.chain(spans.map(|(from, to)| samples_of(from, to))).collect();
    silent.sort_unstable();
    let mut audible = Vec::new();
    let mut at = 0;
    for (from, to) in silent {
        if from > at {
            audible.push((at, from));
        }
        at = at.max(to);
    }
    let total = samples.cast_signed();
    audible.retain(|(from, _)| *from < total);
    audible.iter_mut().for_each(|(_, to)| *to = (*to).min(total));
    if at < total {
        audible.push((at, total));
    }
    audible
}

fn samples_of(startms: u64, endms: u64) -> (i64, i64) {
    let samples = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / MS).saturating_mul(MS);
    (samples(startms), samples(endms))
}

fn whole(gap: &Gap) -> Hole {
    let (from, to) = samples_of(gap.startms, gap.endms);
    Hole { from, to, cause: gap.cause }
}

/// Whether somebody else may have what is missing: not what was left out on purpose.
const fn may_be_filled(cause: GapCause) -> bool {
    match cause {
        GapCause::Loss | GapCause::Takeover | GapCause::NoMedia | GapCause::DiskFull => true,
        GapCause::Paused | GapCause::Hold => false,
    }
}

/// What is left of a hole beside a stretch.
fn without(hole: Hole, (from, to): (i64, i64)) -> impl Iterator<Item = Hole> {
    let before = Hole { to: hole.to.min(from), ..hole };
    let behind = Hole { from: hole.from.max(to), ..hole };
    [before, behind].into_iter().filter(|left| left.from < left.to)
}

fn clipped((from, to): (i64, i64), samples: u64) -> Range<u64> {
    let within = |at: i64| u64::try_from(at).unwrap_or(0).min(samples);
    within(from)..within(to)
}
