//! The plan of one recording: one timeline of 8 kHz samples whose zero is the first audio, which
//! packet's audio goes where on it, and where no audio is and why. It reads no audio:
//! [`super::render`] does, by this plan. How packets find their places is in [`super::placer`].
//!
//! Memory: 16 bytes per packet for the index and 16 for the plan; while both exist, and with the
//! slack of growing, at most 64: a call of ten hours in packets of 20 ms needs at most 115 MB,
//! one of an hour 12 MB. Audio is not held.

use std::time::Duration;

use storage_core::g711::Law;
use storage_core::record::{GapCause, Quality, Side};
use storage_core::{Extension, WallTime};

use super::index::{CaptureKey, Index};
use super::joins::{Fade, PlannedSeam, seams};
use super::keys::Key;
use super::payload::Codec;
use super::placer::Placer;
use super::rtp::{MediaTime, Ssrc};
use super::settle::{Census, settle};

/// A recording that begins later is one whose clock somebody set: 12 h.
const LATE_MICROS_MAX: i64 = 12 * 3600 * 1_000_000;
/// Less than this (40 ms) is not worth writing a file anew.
const ADDED_SAMPLES_MIN: u64 = 320;
/// So many packets (1 s) that cannot be decoded are audio that must not be given up.
const FOREIGN_PACKETS_MIN: u64 = 50;

/// A packet's place in the voice file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Number of the packet in the order of capture.
    pub ordinal: u32,
    /// Where its audio begins, after `skip`.
    pub position: u32,
    /// Samples at its begin that are not used.
    pub skip: u16,
    /// Samples used.
    pub take: u16,
    pub codec: Codec,
    /// What was decoded last does not lead up to it.
    pub fresh: bool,
}

/// A stretch without audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedGap {
    /// Where it begins.
    pub from: MediaTime,
    /// Where audio goes on.
    pub to: MediaTime,
    /// Why.
    pub cause: GapCause,
}

/// A segment as it lies in the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSegment {
    /// Which capture it is.
    pub capture: CaptureKey,
    /// By how much its node's clock was ahead of ours, microseconds; `None` if it is ours.
    pub clock_offset_us: Option<i64>,
    /// The phantom, if its opening is known.
    pub phantom: Option<Extension>,
    /// Which side of the call it heard; `None` if it heard all in one.
    pub side: Option<Side>,
    /// First audio.
    pub from: MediaTime,
    /// End of its last audio.
    pub to: MediaTime,
    /// Codecs in order of appearance.
    pub codecs: Vec<&'static str>,
    /// Its packets, counted.
    pub census: Census,
    /// Synchronisation sources in order of appearance.
    pub ssrcs: Vec<Ssrc>,
}

/// Packets that are not in the file although they were captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// From addresses that the switch did not name.
    pub strangers: u64,
    /// Not RTP.
    pub malformed: u64,
    /// Audio of codecs that cannot be decoded.
    pub foreign: u64,
    /// Neither audio, comfort noise nor keys.
    pub unknown: u64,
    /// Audio for which there was audio already.
    pub overlapping: u64,
}

impl Ignored {
    /// Both. What is not told apart by sides was counted on either.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            strangers: self.strangers + other.strangers,
            malformed: self.malformed,
            foreign: self.foreign + other.foreign,
            unknown: self.unknown + other.unknown,
            overlapping: self.overlapping + other.overlapping,
        }
    }
}

/// Where every sample of a voice file comes from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Wall time of position 0.
    pub started: WallTime,
    /// Wall time of the end.
    pub ended: WallTime,
    /// Length.
    pub total: MediaTime,
    /// Why packets that came before the first audio could not be kept, if there were any.
    pub lost_first: Option<GapCause>,
    /// Law of the first G.711 audio; A-law if there is none.
    pub law: Law,
    /// How much the codecs impair speech by themselves, on the E-model's scale; the mean of all audio.
    pub impairment: f64,
    /// Its segments, in order of their first audio.
    pub segments: Vec<PlannedSegment>,
    /// Where captures were joined, in order.
    pub seams: Vec<PlannedSeam>,
    /// Where no audio is; in order, not touching where the cause is the same.
    pub gaps: Vec<PlannedGap>,
    /// Where a key was pressed, in order.
    pub keys: Vec<Key>,
    /// Where tones of keys were taken out, in order.
    pub masked: Vec<(MediaTime, MediaTime)>,
    /// What the network did.
    pub quality: Quality,
    /// What was left out.
    pub ignored: Ignored,
    /// Samples of captures that are in the file, as opposed to what was published before.
    pub captured: u64,
    /// Where the begin of the file that was published before lies in this one, if there was one.
    pub published: Option<MediaTime>,
    /// In order of position, not overlapping.
    pub(crate) placed: Vec<Placed>,
    /// What leads over from one capture to another; in order, not overlapping.
    pub(crate) fades: Vec<Fade>,
    pub(crate) marks: Vec<Mark>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplaceable {
    /// Nothing that could be heard was captured.
    #[error("no audio was captured ({packets} packets, {strangers} of them from strangers)")]
    NoAudio {
        /// Packets captured.
        packets: u64,
        /// Packets from addresses that the switch did not name.
        strangers: u64,
        /// Whether packets came and could not be kept, because the disk was full.
        disk_full: bool,
    },
    /// Audio in a codec that this program cannot decode.
    #[error(
        "{packets} packets have payload type {payload_type} ({codec}), which cannot be decoded"
    )]
    Foreign {
        /// Number on the wire.
        payload_type: u8,
        /// Codec as the switch named it.
        codec: String,
        /// How many.
        packets: u64,
    },
    /// Longer than positions reach (149 hours).
    #[error("the recording is longer than 149 hours")]
    TooLong,
}

/// A wall time and its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub wall: WallTime,
    pub position: u64,
}

impl Plan {
    /// Where a moment of the wall clock lies on the timeline: 0 before it, its length after it.
    #[must_use]
    pub fn position(&self, wall: WallTime) -> MediaTime {
        let after = self.marks.partition_point(|mark| mark.wall <= wall);
        let Some(before) = after.checked_sub(1) else { return MediaTime(0) };
        let before = self.marks[before];
        let Some(after) = self.marks.get(after) else { return self.total };
        let span = i128::from(after.wall.micros_since(before.wall)).max(1);
        let ticks = i128::from(after.position - before.position);
        let into = ticks * i128::from(wall.micros_since(before.wall)) / span;
        MediaTime(before.position + u64::try_from(into).unwrap_or(0))
    }

    /// Whether captures add audio to what was published before. Slivers at its seams do not count:
    /// times in records are rounded.
    #[must_use]
    pub fn adds(&self) -> bool {
        self.published.is_none() || self.captured >= ADDED_SAMPLES_MIN
    }

    /// Lets the timeline begin when the recording was due, where its first audio came `late` or later: what
    /// went unheard until then is a gap. `published` is the begin of what was published with such a gap.
    ///
    /// # Errors
    /// If it gets too long.
    pub fn begin_by(
        &mut self,
        due: WallTime,
        late: Duration,
        published: Option<WallTime>,
        cause: GapCause,
    ) -> Result<(), Unplaceable> {
        let least = i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
        let late = self.started.micros_since(due);
        let begin = if (least..=LATE_MICROS_MAX).contains(&late) { due } else { self.started };
        let begin = published.map_or(begin, |published| published.min(begin));
        let lead = u64::try_from(self.started.micros_since(begin) / 125).unwrap_or(0);
        // Records keep whole milliseconds.
        if lead < 8 {
            return Ok(());
        }
        self.begin_earlier(begin, lead, cause)
    }

    /// Lets the timeline begin so many samples before its first audio, at `begin`.
    pub(crate) fn begin_earlier(
        &mut self,
        begin: WallTime,
        lead: u64,
        cause: GapCause,
    ) -> Result<(), Unplaceable> {
        self.total.0 += lead;
        let shift = u32::try_from(self.total.0).map_err(|_| Unplaceable::TooLong)?;
        let shift = shift.min(u32::try_from(lead).unwrap_or(shift));
        self.placed.iter_mut().for_each(|placed| placed.position += shift);
        for segment in &mut self.segments {
            segment.from.0 += lead;
            segment.to.0 += lead;
        }
        self.seams.iter_mut().for_each(|seam| seam.at.0 += lead);
        self.fades.iter_mut().for_each(|fade| fade.from += lead);
        for gap in &mut self.gaps {
            gap.from.0 += lead;
            gap.to.0 += lead;
        }
        self.keys.iter_mut().for_each(|key| key.at.0 += lead);
        self.marks.iter_mut().for_each(|mark| mark.position += lead);
        self.marks.insert(0, Mark { wall: begin, position: 0 });
        match self.gaps.first_mut() {
            Some(first) if first.from.0 == lead && first.cause == cause => first.from.0 = 0,
            _ => {
                let (from, to) = (MediaTime(0), MediaTime(lead));
                self.gaps.insert(0, PlannedGap { from, to, cause });
            }
        }
        self.published = self.published.map(|from| MediaTime(from.0 + lead));
        self.started = begin;
        Ok(())
    }

    /// One by which some packets are read and nothing is written.
    pub(crate) fn excerpts(placed: Vec<Placed>, total: MediaTime) -> Self {
        Self {
            started: WallTime::from_micros(0),
            ended: WallTime::from_micros(0),
            total,
            lost_first: None,
            law: Law::A,
            impairment: 0.0,
            segments: Vec::new(),
            seams: Vec::new(),
            gaps: Vec::new(),
            keys: Vec::new(),
            masked: Vec::new(),
            quality: Quality::default(),
            ignored: Ignored::default(),
            captured: 0,
            published: None,
            placed,
            fades: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// How many packets are in the file.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.placed.len()
    }
}

impl Index {
    /// Places what was indexed.
    ///
    /// # Errors
    /// If there is nothing that a voice file could hold, or something that would be lost if one
    /// were made.
    pub fn plan(self) -> Result<Plan, Unplaceable> {
        let packets = u64::from(self.packets());
        let settled = settle(self);
        settled.reject_foreign(FOREIGN_PACKETS_MIN)?;
        let placer = Placer::run(&settled)?;
        let Some(started) = placer.first else {
            settled.reject_foreign(1)?;
            let disk_full = settled
                .facts
                .values()
                .any(|facts| facts.lost.iter().any(|lost| lost.cause == GapCause::DiskFull));
            let strangers = settled.ignored.strangers;
            return Err(Unplaceable::NoAudio { packets, strangers, disk_full });
        };
        let Placer {
            placed, gaps, cursor, marks, overlapping, captured, segments, crossings, ..
        } = placer;
        let (seams, fades) = seams(&settled, &crossings);
        let law = placed.iter().find_map(|placed| match placed.codec {
            Codec::G711(law) => Some(law),
            _ => None,
        });
        let audio: f64 = placed.iter().map(|placed| f64::from(placed.take)).sum();
        let impaired = |placed: &Placed| placed.codec.impairment() * f64::from(placed.take);
        let impairment = placed.iter().map(impaired).sum::<f64>() / audio.max(1.0);
        let published = segments.iter().find(|extent| extent.capture == CaptureKey::PUBLISHED);
        let published = published.map(|extent| MediaTime(extent.from));
        let pressed = settled.keys();
        let mut lost = settled.facts.values().flat_map(|facts| &facts.lost);
        let mut plan = Plan {
            started,
            lost_first: lost.find(|lost| lost.from < started).map(|lost| lost.cause),
            ended: marks.last().map_or(started, |mark| mark.wall),
            total: MediaTime(cursor),
            law: law.unwrap_or(Law::A),
            impairment,
            segments: settled.segments(segments),
            seams,
            gaps,
            keys: Vec::new(),
            masked: Vec::new(),
            quality: settled.quality(),
            ignored: Ignored { overlapping, ..settled.ignored },
            captured,
            published,
            placed,
            fades,
            marks,
        };
        plan.place_keys(&pressed);
        Ok(plan)
    }
}
