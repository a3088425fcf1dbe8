//! Gives every packet of a recording its place on the timeline, and every hole its cause.
//!
//! Within a run (see [`super::run`]) media time rules, so jitter and a wall clock that is set do
//! no harm. Runs are placed against each other by wall time, as a packet would have arrived
//! by the shortest way; each hole between runs is measured at its own two ends, so that a
//! sender's clock drift over a long run does not show as a hole or an overlap at its end.
//! Audio is never stretched; [`super::Plan::position`] takes the drift back where wall times are turned
//! into positions.
//!
//! Where runs overlap, the earlier one counts until it ends, and of the next one what is behind
//! that end: where two phantoms' packets begin at different moments of the same audio, a packet is
//! cut in its midst. A run is cut into pieces at holes of 200 ms, so that another run may fill
//! what one misses.
//!
//! What was published before goes first: other runs only fill its holes and prolong its ends.
//!
//! Where it was found out by listening which moment of one run is which of another ([`super::joins`]),
//! that counts instead of wall time, to the sample, and no packet stays whole that is not.

use std::ops::Range;

use storage_core::WallTime;
use storage_core::record::GapCause;

use super::hole::{Part, explain};
use super::index::{CaptureKey, SegmentFacts};
use super::joins::{Crossing, Join, ROUNDED_JOIN_TICKS};
use super::payload::{Codec, Payload};
use super::pieces::{Piece, pieces};
use super::rtp::MediaTime;
use super::run::Indexed;
use super::settle::Settled;
use super::timeline::{Mark, Placed, PlannedGap, Unplaceable};

/// An overlap of two runs in one segment is an error of measurement up to here: 200 ms. One port
/// of the switch does not say two things at once while it changes its name.
const SAME_SEGMENT_OVERLAP_MICROS: i64 = 200_000;
/// A hole between runs that is longer is a clock that somebody set, not a call: 12 h.
const HOLE_MICROS_MAX: i64 = 12 * 3600 * 1_000_000;
/// What is put in its place: 1 s.
const HOLE_MICROS_OF_SET_CLOCK: i64 = 1_000_000;
/// A packet that could not be kept explains a hole whose ends are at most so far away: 100 ms.
const LOST_SLACK_MICROS: i64 = 100_000;

/// Records keep whole milliseconds.
const ROUNDED_TICKS: u64 = 8;
/// A decoder is at its best after so many packets.
const LEAD_UP_PACKETS: usize = 5;

/// What a packet has of audio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audio {
    pub codec: Codec,
    /// At 8 kHz.
    pub samples: u16,
}

/// The audio of a packet that has any. `codec` is what the switch has named.
pub(crate) fn audio(packet: &Indexed, codec: &str) -> Option<Audio> {
    let Payload::Audio(codec) = packet.payload(codec) else { return None };
    let samples = packet.samples(codec);
    (samples > 0).then_some(Audio { codec, samples })
}

/// Where a packet goes, and which part of it.
#[derive(Clone, Copy, Debug)]
struct Room {
    position: u64,
    skip: u16,
    take: u16,
}

/// The audio placed last.
#[derive(Clone, Copy, Debug)]
struct Tail {
    run: usize,
    packet: usize,
    /// Position of the run's media time 0.
    shift: i64,
    /// Where its used audio ends in the run.
    end: MediaTime,
}

/// What a segment has in the file, while it is being placed.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub capture: CaptureKey,
    pub from: u64,
    pub to: u64,
    pub codecs: Vec<Codec>,
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
    /// Wall time of the first audio.
    pub first: Option<WallTime>,
    tail: Option<Tail>,
    /// Where the next sample goes; in the end the length.
    pub cursor: u64,
    /// Packets for which there was audio already.
    pub overlapping: u64,
    /// Samples placed that had not been published before.
    pub captured: u64,
    /// In order.
    pub crossings: Vec<Crossing>,
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
            captured: 0,
            crossings: Vec::new(),
        }
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), Unplaceable> {
        let (key, run) = &self.settled.runs[piece.run];
        let codec = self.settled.codec(key.capture);
        let Some((first, shift)) = self.begin(piece) else {
            self.overlapping += (piece.past - piece.first) as u64;
            return Ok(());
        };
        self.overlapping += (first - piece.first) as u64;
        let mut marked = false;
        let mut before = None;
        let left = self.cursor;
        for index in first..piece.past {
            let packet = &run.packets[index];
            let Some(audio) = audio(packet, codec) else { continue };
            let Some(room) = self.room(packet, audio, shift, piece.until) else {
                self.overlapping += 1;
                before = None;
                continue;
            };
            if room.position > self.cursor {
                self.hole(room.position, piece.run, index);
            }
            if !marked {
                let begin = MediaTime(packet.time().0 + u64::from(room.skip));
                self.cross(piece.run, begin, left, room.position);
                before = self.lead_up(piece, index, audio.codec)?;
                let wall = self.settled.wall(piece.run, begin);
                self.first.get_or_insert(wall);
                self.mark(wall, room.position);
                marked = true;
            }
            let fresh = before.replace(audio.codec) != Some(audio.codec);
            self.put(packet, audio, room, fresh)?;
            if key.capture != CaptureKey::PUBLISHED {
                self.captured += u64::from(room.take);
            }
            self.extend_segment(key.capture, room.position, audio.codec);
            let end = MediaTime(packet.time().0 + u64::from(room.skip + room.take));
            self.tail = Some(Tail { run: piece.run, packet: index, shift, end });
        }
        if marked && let Some(end) = self.tail_end() {
            self.mark(end, self.cursor);
        }
        Ok(())
    }

    /// Which of a piece's packets is the first that is used, and where its run's media time 0 lies.
    /// `None` if there is audio for all of it already.
    fn begin(&self, piece: &Piece) -> Option<(usize, i64)> {
        let first = &self.settled.runs[piece.run].1.packets[piece.first];
        let slack = 2 * slack(self.samples(piece.run, piece.first));
        if piece.until.is_some_and(|until| until <= first.time().0 + slack) {
            return None;
        }
        match self.tail {
            None => Some((piece.first, -i64::from(first.ticks))),
            Some(tail) if tail.run == piece.run => Some((piece.first, tail.shift)),
            Some(tail) => self.anchor(piece, tail),
        }
    }

    /// Where a packet goes and how much of it is used; `None` if there is audio for all of it.
    fn room(&self, packet: &Indexed, audio: Audio, shift: i64, until: Option<u64>) -> Option<Room> {
        // A shift that would lead before 0 cannot be: the cursor is never before it.
        let position = packet.time().0.saturating_add_signed(shift);
        let skip = u16::try_from(self.cursor.saturating_sub(position)).ok()?;
        let left = until.map(|until| until.saturating_sub(packet.time().0));
        let left = left.map(|left| u16::try_from(left).unwrap_or(u16::MAX));
        let end = left.map_or(audio.samples, |left| audio.samples.min(left));
        let take = end.checked_sub(skip).filter(|take| *take > 0)?;
        Some(Room { position: position + u64::from(skip), skip, take })
    }

    fn put(
        &mut self,
        packet: &Indexed,
        audio: Audio,
        room: Room,
        fresh: bool,
    ) -> Result<(), Unplaceable> {
        let Room { position: at, skip, take } = room;
        let position = u32::try_from(at).map_err(|_| Unplaceable::TooLong)?;
        let (ordinal, codec) = (packet.ordinal, audio.codec);
        self.placed.push(Placed { ordinal, position, skip, take, codec, fresh });
        self.cursor = at + u64::from(take);
        Ok(())
    }

    /// Where a piece of another run goes: its first packet that is used, and the run's shift.
    /// `None` if there is audio for all of it already.
    fn anchor(&self, piece: &Piece, tail: Tail) -> Option<(usize, i64)> {
        let (key, run) = &self.settled.runs[piece.run];
        let (tail_key, tail_run) = &self.settled.runs[tail.run];
        let end = self.settled.wall(tail.run, tail.end);
        let cursor = i64::try_from(self.cursor).ok()?;
        let first = &run.packets[piece.first];
        let same = key.capture == tail_key.capture;
        if same && key.capture == CaptureKey::PUBLISHED {
            // Its own holes were measured when it was published.
            let hole = run.timestamp(first.time()).ticks_from(tail_run.timestamp(tail.end));
            return Some((piece.first, cursor + i64::from(hole) - i64::from(first.ticks)));
        }
        if let Some(join) = self.heard(piece.run, tail) {
            return self.anchor_at(join, piece, tail.end);
        }
        // One port does not miss half a packet.
        let slacks = if same { 2 } else { 1 };
        let slack = |index: usize| slack(self.samples(piece.run, index));
        let near = |index: usize| ticks_to_micros(slacks * slack(index));
        let shift_at = |packet: &Indexed, hole_micros: i64| {
            cursor + hole_micros / 125 - i64::from(packet.ticks)
        };

        let hole = piece.start.micros_since(end);
        let tolerated = if same {
            // What came to one port later was also said later.
            let later = first.ordinal > tail_run.packets[tail.packet].ordinal;
            if later { i64::MAX } else { SAME_SEGMENT_OVERLAP_MICROS }
        } else {
            near(piece.first)
        };
        if (-tolerated..=near(piece.first)).contains(&hole) {
            return Some((piece.first, shift_at(first, 0)));
        }
        if hole > 0 {
            let hole = if hole > HOLE_MICROS_MAX { HOLE_MICROS_OF_SET_CLOCK } else { hole };
            return Some((piece.first, shift_at(first, hole)));
        }
        // A sliver is an error of measurement; beside what was published, whose times are
        // rounded, a longer one.
        let slivers = if tail_key.capture == CaptureKey::PUBLISHED { 2 } else { slacks };
        let used = (piece.first..piece.past).find(|index| {
            let sliver = ticks_to_micros(slivers * slack(*index));
            self.end_of(piece.run, *index).micros_since(end) > sliver
        })?;
        let packet = &run.packets[used];
        let hole = self.settled.wall(piece.run, packet.time()).micros_since(end);
        // The begin of the packet is cut off where it lies before the end of what is there.
        let hole = if hole.abs() > near(used) { hole } else { 0 };
        Some((used, shift_at(packet, hole)))
    }

    /// What was found by listening where the tail ends and another run goes on.
    fn heard(&self, run: usize, tail: Tail) -> Option<&'a Join> {
        let keys = [tail.run, run].map(|run| self.settled.run_key(run));
        let join = self.settled.joins.between(keys[0], keys[1], tail.end);
        join.filter(|join| join.confidence.is_some())
    }

    /// The same as [`Self::anchor`] where it is known which moment of the piece's run the tail's end is.
    fn anchor_at(&self, join: &Join, piece: &Piece, end: MediaTime) -> Option<(usize, i64)> {
        let run = &self.settled.runs[piece.run].1;
        let cursor = i64::try_from(self.cursor).ok()?;
        let goes_on = join.in_later(end);
        let first = i64::from(run.packets[piece.first].ticks);
        if first.abs_diff(goes_on) <= ROUNDED_JOIN_TICKS {
            return Some((piece.first, cursor - first));
        }
        let used = (piece.first..piece.past).find(|index| {
            let samples = i64::from(self.samples(piece.run, *index));
            i64::from(run.packets[*index].ticks) + samples > goes_on
        })?;
        Some((used, cursor - goes_on))
    }

    /// Notes that another capture goes on, if that is so.
    fn cross(&mut self, run: usize, begin: MediaTime, left: u64, position: u64) {
        let Some(tail) = self.tail else { return };
        let capture = |run: usize| self.settled.runs[run].0.capture;
        if capture(tail.run) != capture(run) {
            let (from, end) = (tail.run, tail.end);
            self.crossings.push(Crossing { from, end, to: run, begin, left, position });
        }
    }

    /// Lets a decoder hear what leads up to the first packet that is used, as far as that packet's codec
    /// needs it. Answers its codec if it did.
    fn lead_up(
        &mut self,
        piece: &Piece,
        used: usize,
        codec: Codec,
    ) -> Result<Option<Codec>, Unplaceable> {
        let (key, run) = &self.settled.runs[piece.run];
        if matches!(codec, Codec::G711(_) | Codec::L16) {
            return Ok(None);
        }
        let named = self.settled.codec(key.capture);
        let leads = piece.first.max(used.saturating_sub(LEAD_UP_PACKETS))..used;
        let mut before = None;
        for packet in &run.packets[leads] {
            let Some(audio) = audio(packet, named).filter(|audio| audio.codec == codec) else {
                continue;
            };
            let fresh = before.replace(codec).is_none();
            let room = Room { position: self.cursor, skip: 0, take: 0 };
            self.put(packet, audio, room, fresh)?;
        }
        Ok(before)
    }

    /// Declares what is missing between the cursor and `position`, where packet `index` of run
    /// number `run` goes on.
    fn hole(&mut self, position: u64, number: usize, index: usize) {
        let Some(tail) = self.tail else { return };
        let (key, run) = &self.settled.runs[number];
        let (tail_key, tail_run) = &self.settled.runs[tail.run];
        let (from, to) = (self.cursor, position);
        let next = run.packets[index].time();
        if [key.capture, tail_key.capture].contains(&CaptureKey::PUBLISHED) {
            let walls = self.settled.wall(tail.run, tail.end)..self.settled.wall(number, next);
            for part in self.declared(&walls, to - from) {
                self.gap(from + part.from, from + part.to, part.cause);
            }
            return;
        }
        // Each capture's own clock says when it could not keep what.
        let walls = || tail_run.wall(tail.end)..run.wall(next);
        let facts = [tail_key.capture, key.capture].map(|key| self.settled.facts.get(&key));
        let kept_out = facts.into_iter().flatten().find_map(|facts| kept_out(facts, &walls));
        if tail.run != number {
            let between = if key.capture == tail_key.capture {
                GapCause::NoMedia
            } else {
                GapCause::Takeover
            };
            self.gap(from, to, kept_out.unwrap_or(between));
            return;
        }
        let frame = self.samples(number, tail.packet).into();
        for part in explain(&run.packets, tail.packet, index, to - from, frame) {
            self.gap(from + part.from, from + part.to, kept_out.unwrap_or(part.cause));
        }
    }

    /// A hole of `hole` samples of what was published before, by the causes that were declared
    /// then.
    fn declared(&self, walls: &Range<WallTime>, hole: u64) -> Vec<Part> {
        let into = |wall: WallTime| {
            u64::try_from(wall.micros_since(walls.start) / 125).unwrap_or(0).min(hole)
        };
        let mut parts: Vec<Part> = Vec::new();
        let lost = self.settled.facts.get(&CaptureKey::PUBLISHED).map(|facts| &facts.lost);
        for lost in lost.into_iter().flatten() {
            let at = parts.last().map_or(0, |part| part.to);
            let (mut from, to) = (into(lost.from).max(at), into(lost.to));
            if to <= from {
                continue;
            }
            if from > at + ROUNDED_TICKS {
                parts.push(Part { from: at, to: from, cause: GapCause::Takeover });
            } else {
                from = at;
            }
            parts.push(Part { from, to, cause: lost.cause });
        }
        match parts.last_mut() {
            Some(last) if hole - last.to <= ROUNDED_TICKS => last.to = hole,
            last => {
                let from = last.map_or(0, |part| part.to);
                parts.push(Part { from, to: hole, cause: GapCause::Takeover });
            }
        }
        parts
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

    fn extend_segment(&mut self, capture: CaptureKey, from: u64, codec: Codec) {
        let to = self.cursor;
        match self.segments.iter_mut().rev().find(|extent| extent.capture == capture) {
            Some(extent) => {
                extent.to = to;
                if !extent.codecs.contains(&codec) {
                    extent.codecs.push(codec);
                }
            }
            None => self.segments.push(Extent { capture, from, to, codecs: vec![codec] }),
        }
    }

    /// Samples of a packet's audio.
    fn samples(&self, run: usize, index: usize) -> u16 {
        let (key, run) = &self.settled.runs[run];
        let audio = audio(&run.packets[index], self.settled.codec(key.capture));
        audio.map_or(0, |audio| audio.samples)
    }

    /// When the audio of a packet ended, as it would have arrived by the shortest way.
    fn end_of(&self, number: usize, index: usize) -> WallTime {
        let run = &self.settled.runs[number].1;
        let samples = self.samples(number, index);
        self.settled.wall(number, MediaTime(run.packets[index].time().0 + u64::from(samples)))
    }

    fn tail_end(&self) -> Option<WallTime> {
        self.tail.map(|tail| self.settled.wall(tail.run, tail.end))
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

/// How far two runs may be apart, or overlap, before that is taken for more than an error of
/// measurement: a quarter of a packet, at most 5 ms.
fn slack(samples: u16) -> u64 {
    u64::from(samples / 4).clamp(20, 40)
}

const fn ticks_to_micros(ticks: u64) -> i64 {
    MediaTime(ticks).as_micros()
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
