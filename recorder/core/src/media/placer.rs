//! Gives every packet of a recording its place on the timeline, and every hole its cause.
//!
//! Within a run (see [`super::run`]) media time rules, so jitter and a wall clock that is set do
//! no harm. Runs are placed against each other by wall time, as a packet would have arrived
//! by the shortest way; each hole between runs is measured at its own two ends, so that a
//! sender's clock drift over a long run does not show as a hole or an overlap at its end.
//! Audio is never stretched; [`super::Plan::position`] takes the drift back where wall times are turned
//! into positions.
//!
//! Where runs overlap, the earlier one counts until it ends. A run is cut into pieces at holes
//! of 200 ms, so that another run may fill what one misses.

use std::ops::Range;

use storage_core::g711::Law;
use storage_core::record::GapCause;
use storage_core::{SegmentId, WallTime};

use super::hole::explain;
use super::index::SegmentFacts;
use super::payload::{Payload, classify};
use super::rtp::MediaTime;
use super::run::{Indexed, Run};
use super::settle::Settled;
use super::timeline::{Mark, Placed, PlannedGap, Unplaceable};

/// A hole longer than this ends a piece: 200 ms.
const PIECE_HOLE_TICKS: u64 = 1600;
/// An overlap of two runs in one segment is an error of measurement up to here: 200 ms. One port
/// of the switch does not say two things at once while it changes its name.
const SAME_SEGMENT_OVERLAP_MICROS: i64 = 200_000;
/// A hole between runs that is longer is a clock that somebody set, not a call: 12 h.
const HOLE_MICROS_MAX: i64 = 12 * 3600 * 1_000_000;
/// What is put in its place: 1 s.
const HOLE_MICROS_OF_SET_CLOCK: i64 = 1_000_000;
/// A packet that could not be kept explains a hole whose ends are at most so far away: 100 ms.
const LOST_SLACK_MICROS: i64 = 100_000;

/// Audio of one run without a hole of more than [`PIECE_HOLE_TICKS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    start: WallTime,
    run: usize,
    first: usize,
    past: usize,
}

/// Cuts all runs into pieces and puts these in the order of wall time.
fn pieces(settled: &Settled) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (number, (key, run)) in settled.runs.iter().enumerate() {
        let codec = settled.codec(key.segment);
        let mut open: Option<Piece> = None;
        let mut end = 0;
        for (index, packet) in run.packets.iter().enumerate() {
            if law(packet, codec).is_none() {
                continue;
            }
            let near = packet.time().0 <= end + PIECE_HOLE_TICKS;
            end = packet.time().0 + u64::from(packet.bytes);
            match &mut open {
                Some(piece) if near => piece.past = index + 1,
                _ => {
                    let start = run.wall(packet.time());
                    let piece = Piece { start, run: number, first: index, past: index + 1 };
                    pieces.extend(open.replace(piece));
                }
            }
        }
        pieces.extend(open);
    }
    pieces.sort_unstable();
    pieces
}

/// The law of a packet that has audio.
fn law(packet: &Indexed, codec: &str) -> Option<Law> {
    match classify(packet.payload_type(), packet.bytes.into(), codec) {
        Payload::Audio(law) if packet.bytes > 0 => Some(law),
        _ => None,
    }
}

/// The audio placed last.
#[derive(Clone, Copy, Debug)]
struct Tail {
    run: usize,
    packet: usize,
    /// Position of the run's media time 0.
    shift: i64,
}

/// What a segment has in the file, while it is being placed.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub segment: SegmentId,
    pub from: u64,
    pub to: u64,
    pub laws: Vec<Law>,
}

/// Gives each packet its place.
pub(crate) struct Placer<'a> {
    settled: &'a Settled,
    /// In order of position.
    pub placed: Vec<Placed>,
    /// In order.
    pub gaps: Vec<PlannedGap>,
    /// Wall times and their positions, both rising.
    pub marks: Vec<Mark>,
    /// In order of their first audio.
    pub segments: Vec<Extent>,
    /// Wall time and law of the first audio.
    pub first: Option<(WallTime, Law)>,
    tail: Option<Tail>,
    /// Where the next sample goes; in the end the length.
    pub cursor: u64,
    /// Packets for which there was audio already.
    pub overlapping: u64,
}

impl<'a> Placer<'a> {
    /// Places everything.
    pub(crate) fn run(settled: &'a Settled) -> Result<Self, Unplaceable> {
        let mut placer = Self::new(settled);
        for piece in &pieces(settled) {
            placer.piece(piece)?;
        }
        placer.close();
        Ok(placer)
    }

    fn new(settled: &'a Settled) -> Self {
        let audio = settled.runs.iter().map(|(_, run)| run.packets.len()).sum();
        Self {
            settled,
            placed: Vec::with_capacity(audio),
            gaps: Vec::new(),
            marks: Vec::new(),
            segments: Vec::new(),
            first: None,
            tail: None,
            cursor: 0,
            overlapping: 0,
        }
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), Unplaceable> {
        let (key, run) = &self.settled.runs[piece.run];
        let codec = self.settled.codec(key.segment);
        let (first, shift) = match self.tail {
            None => (piece.first, -i64::from(run.packets[piece.first].ticks)),
            Some(tail) if tail.run == piece.run => (piece.first, tail.shift),
            Some(tail) => match self.anchor(piece, tail) {
                Some(anchored) => anchored,
                None => {
                    self.overlapping += (piece.past - piece.first) as u64;
                    return Ok(());
                }
            },
        };
        self.overlapping += (first - piece.first) as u64;
        let mut marked = false;
        for index in first..piece.past {
            let packet = &run.packets[index];
            let Some(law) = law(packet, codec) else { continue };
            let Some((position, skip)) = self.room(packet, shift) else {
                self.overlapping += 1;
                continue;
            };
            if position > self.cursor {
                self.hole(position, piece.run, index);
            }
            if !marked {
                let wall = run.wall(MediaTime(packet.time().0 + u64::from(skip)));
                self.first.get_or_insert((wall, law));
                self.mark(wall, position);
                marked = true;
            }
            self.put(packet, law, position, skip)?;
            self.extend_segment(key.segment, position, law);
            self.tail = Some(Tail { run: piece.run, packet: index, shift });
        }
        if marked && let Some(end) = self.tail_end() {
            self.mark(end, self.cursor);
        }
        Ok(())
    }

    /// Position of a packet and how much of its begin is taken already; `None` if all of it.
    fn room(&self, packet: &Indexed, shift: i64) -> Option<(u64, u16)> {
        // A shift that would lead before 0 cannot be: the cursor is never before it.
        let position = packet.time().0.saturating_add_signed(shift);
        let skip = u16::try_from(self.cursor.saturating_sub(position)).ok()?;
        (skip < packet.bytes).then_some((position + u64::from(skip), skip))
    }

    fn put(&mut self, packet: &Indexed, law: Law, at: u64, skip: u16) -> Result<(), Unplaceable> {
        let position = u32::try_from(at).map_err(|_| Unplaceable::TooLong)?;
        let take = packet.bytes - skip;
        self.placed.push(Placed { ordinal: packet.ordinal, position, skip, take, law });
        self.cursor = at + u64::from(take);
        Ok(())
    }

    /// Where a piece of another run goes: its first packet that is used, and the run's shift.
    /// `None` if there is audio for all of it already.
    fn anchor(&self, piece: &Piece, tail: Tail) -> Option<(usize, i64)> {
        let (key, run) = &self.settled.runs[piece.run];
        let (tail_key, tail_run) = &self.settled.runs[tail.run];
        let end = end_of(tail_run, tail.packet);
        let cursor = i64::try_from(self.cursor).ok()?;
        let first = &run.packets[piece.first];
        let snap = i64::from(first.bytes / 2).clamp(40, 160) * 125;
        let shift_at = |packet: &Indexed, hole_micros: i64| {
            cursor + hole_micros / 125 - i64::from(packet.ticks)
        };

        let hole = piece.start.micros_since(end);
        let tolerated = if key.segment == tail_key.segment {
            // What came to one port later was also said later.
            let later = first.ordinal > tail_run.packets[tail.packet].ordinal;
            if later { i64::MAX } else { SAME_SEGMENT_OVERLAP_MICROS }
        } else {
            snap
        };
        if (-tolerated..=snap).contains(&hole) {
            return Some((piece.first, shift_at(first, 0)));
        }
        if hole > 0 {
            let hole = if hole > HOLE_MICROS_MAX { HOLE_MICROS_OF_SET_CLOCK } else { hole };
            return Some((piece.first, shift_at(first, hole)));
        }
        let used = (piece.first..piece.past).find(|index| {
            let wall = run.wall(run.packets[*index].time());
            wall.micros_since(end) >= -snap
        })?;
        let hole = run.wall(run.packets[used].time()).micros_since(end);
        let hole = if hole > snap { hole } else { 0 };
        Some((used, shift_at(&run.packets[used], hole)))
    }

    /// Declares what is missing between the cursor and `position`, where packet `index` of run
    /// number `run` goes on.
    fn hole(&mut self, position: u64, number: usize, index: usize) {
        let Some(tail) = self.tail else { return };
        let (key, run) = &self.settled.runs[number];
        let (tail_key, tail_run) = &self.settled.runs[tail.run];
        let (from, to) = (self.cursor, position);
        let walls = || end_of(tail_run, tail.packet)..run.wall(run.packets[index].time());
        let facts = [tail_key.segment, key.segment].map(|s| self.settled.facts.get(&s));
        let kept_out = facts.into_iter().flatten().find_map(|facts| kept_out(facts, &walls));
        if tail.run != number {
            let between = if key.segment == tail_key.segment {
                GapCause::NoMedia
            } else {
                GapCause::Takeover
            };
            self.gap(from, to, kept_out.unwrap_or(between));
            return;
        }
        for part in explain(&run.packets, tail.packet, index, to - from) {
            self.gap(from + part.from, from + part.to, kept_out.unwrap_or(part.cause));
        }
    }

    fn gap(&mut self, from: u64, to: u64, cause: GapCause) {
        let (from, to) = (MediaTime(from), MediaTime(to));
        match self.gaps.last_mut() {
            Some(last) if last.to == from && last.cause == cause => last.to = to,
            _ => self.gaps.push(PlannedGap { from, to, cause }),
        }
    }

    fn mark(&mut self, wall: WallTime, position: u64) {
        // A clock that was set back leaves no mark: wall times are looked up by search.
        if self.marks.last().is_none_or(|last| last.wall < wall) {
            self.marks.push(Mark { wall, position });
        }
    }

    fn extend_segment(&mut self, segment: SegmentId, from: u64, law: Law) {
        let to = self.cursor;
        match self.segments.iter_mut().rev().find(|extent| extent.segment == segment) {
            Some(extent) => {
                extent.to = to;
                if !extent.laws.contains(&law) {
                    extent.laws.push(law);
                }
            }
            None => self.segments.push(Extent { segment, from, to, laws: vec![law] }),
        }
    }

    fn tail_end(&self) -> Option<WallTime> {
        self.tail.map(|tail| end_of(&self.settled.runs[tail.run].1, tail.packet))
    }

    /// Adds what could not be kept after the last audio that was.
    fn close(&mut self) {
        let Some(end) = self.tail_end() else { return };
        let lost = self.settled.facts.values().flat_map(|facts| &facts.lost);
        let Some(last) = lost.max_by_key(|lost| lost.to) else { return };
        let missing = last.to.micros_since(end);
        if missing > LOST_SLACK_MICROS && missing <= HOLE_MICROS_MAX {
            let to = self.cursor + missing.unsigned_abs() / 125;
            self.gap(self.cursor, to, last.cause);
            self.cursor = to;
            self.mark(last.to, to);
        }
    }
}

/// When the audio of a packet ended, as it would have arrived by the shortest way.
fn end_of(run: &Run, packet: usize) -> WallTime {
    let packet = &run.packets[packet];
    run.wall(MediaTime(packet.time().0 + u64::from(packet.bytes)))
}

/// Why packets between two wall times could not be kept, if that is so.
fn kept_out(facts: &SegmentFacts, walls: &impl Fn() -> Range<WallTime>) -> Option<GapCause> {
    if facts.lost.is_empty() {
        return None;
    }
    let walls = walls();
    let hit = facts.lost.iter().find(|lost| {
        lost.from.micros_since(walls.end) <= LOST_SLACK_MICROS
            && walls.start.micros_since(lost.to) <= LOST_SLACK_MICROS
    });
    hit.map(|lost| lost.cause)
}
