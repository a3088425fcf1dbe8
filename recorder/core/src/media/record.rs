//! What a sealed recording says of itself: the draft's facts, and the plan's positions. Wall
//! times become positions here and nowhere else.

use std::collections::BTreeSet;
use std::time::Duration;

use storage_core::draft::{self, Presence, Stretch};
use storage_core::record::{
    Gap, GapCause, Party, Pause, Quality, Seam, SeamMethod, Segment, Side, Span, TriggerKind,
    VoiceFormat,
};
use storage_core::{Draft, Extension, NodeId, Recording, WallTime};

use super::emodel::{Loss, loss, mos};
use super::index::CaptureKey;
use super::joins::PlannedSeam;
use super::keys::SAME_KEY_MS;
use super::rtp::MediaTime;
use super::sound::Heard;
use super::stereo::Stereo;
use super::timeline::{Plan, PlannedGap, PlannedSegment, Unplaceable};

/// The first audio of a call may come so long after a phantom was asked in: the switch has to let it in
/// and to start its media.
const LATE: Duration = Duration::from_secs(1);
/// The same where it is known that the recording should have begun before that.
const LATE_KNOWN: Duration = Duration::from_millis(100);
/// A seam is found again this near.
const SAME_SEAM_MS: u64 = 20;
/// The end of a call is told so much later than its audio ends, on a machine that is busy.
const END_TOLERANCE_MICROS: i64 = 500_000;

/// Makes the record of a recording whose audio lies as planned. What only the finished voice file
/// can tell (`bytes`, `sha256`) is left empty.
#[must_use]
pub fn record(draft: Draft, plan: &Plan, format: VoiceFormat) -> Recording {
    let gaps = plan.gaps.iter().map(|planned| gap(planned, None)).collect();
    described(draft, plan, gaps, loss(&plan.gaps, plan.total.0), format)
}

/// The same of two sides.
#[must_use]
pub fn record_of_sides(draft: Draft, stereo: &Stereo, format: VoiceFormat) -> Recording {
    let gaps = stereo.gaps().map(|(planned, side)| gap(planned, side)).collect();
    let [agent, others] = stereo.sides();
    let both: Vec<PlannedGap> = agent.gaps.iter().chain(&others.gaps).copied().collect();
    let loss = loss(&both, agent.total.0 + others.total.0);
    described(draft, stereo.whole(), gaps, loss, format)
}

fn described(
    draft: Draft,
    plan: &Plan,
    gaps: Vec<Gap>,
    loss: Loss,
    format: VoiceFormat,
) -> Recording {
    let parties = draft.parties.iter().map(|presence| party(plan, presence)).collect();
    // Sealed without its end being known: by `recover`, or because the call ended unobserved.
    let cutshort = draft.cutshort || draft.ended.is_none();
    let known_to_end = !cutshort && !ends_early(&draft, plan);
    Recording {
        version: Recording::VERSION,
        recordingid: draft.recordingid,
        revision: 1,
        ucid: draft.ucid,
        formerucids: draft.formerucids,
        callids: draft.callids,
        extension: draft.extension,
        agentid: draft.agentid,
        calling: draft.calling,
        called: draft.called,
        direction: draft.direction,
        trunkgroup: draft.trunkgroup,
        trunkmember: draft.trunkmember,
        vdn: draft.vdn,
        split: draft.split,
        userdata: draft.userdata,
        parties,
        started: to_millis(plan.started),
        ended: to_millis(plan.ended),
        durationms: plan.total.0.div_ceil(8),
        scope: draft.scope,
        trigger: draft.trigger,
        rule: draft.rule,
        copy: draft.copy,
        node: draft.node,
        repairof: None,
        repairedfrom: None,
        segments: plan.segments.iter().map(segment).collect(),
        seams: plan.seams.iter().map(|planned| seam(planned, draft.node)).collect(),
        cutshort,
        complete: known_to_end && !gaps.iter().any(|gap| gap.cause == GapCause::DiskFull),
        gaps,
        pauses: draft.pauses.iter().map(|paused| pause(plan, paused)).collect(),
        keysms: plan.keys.iter().map(|key| key.at.as_millis()).collect(),
        masked: plan.masked.iter().map(masked).collect(),
        quality: rounded(&Quality {
            mos: Some(mos(loss, plan.impairment)),
            longestlossms: loss.longest_ms,
            ..plan.quality.clone()
        }),
        format,
        bytes: 0,
        sha256: String::new(),
        encrypted: false,
        tags: Vec::new(),
        tagmarks: Vec::new(),
        notes: Vec::new(),
        scores: Vec::new(),
        hold: false,
        holdmark: None,
        archived: None,
    }
}

/// Whether the audio ends well before the talk did: two people were still there, neither of whom
/// held the call, and nobody had paused the recording. Its recorder heard nothing any more.
fn ends_early(draft: &Draft, plan: &Plan) -> bool {
    let over = |stretch: &Stretch| stretch.to.or(draft.ended);
    let mut ends: Vec<_> = draft.parties.iter().filter_map(|one| over(&one.stretch)).collect();
    ends.sort_unstable();
    let Some(talk) = ends.len().checked_sub(2).and_then(|second| ends.get(second)) else {
        return false;
    };
    let quiet = draft
        .parties
        .iter()
        .flat_map(|one| &one.holds)
        .chain(draft.pauses.iter().map(|pause| &pause.stretch));
    let mut quiet = quiet.filter(|quiet| over(quiet).is_none_or(|to| to > plan.ended));
    talk.micros_since(plan.ended) > END_TOLERANCE_MICROS && quiet.next().is_none()
}

/// A segment without length may have one of so many milliseconds: its begin is rounded down, its end up.
const ROUNDED_MS: u64 = 1;

/// Makes the record of a recording into which captures went beside the file that was published
/// before. Its facts are `draft`'s, into which those of `before` went ([`draft_of`]).
#[must_use]
pub fn revised(before: &Recording, draft: Draft, plan: &Plan, format: VoiceFormat) -> Recording {
    let record = record(draft, plan, format);
    // Its first audio is found again; a gap may have been before that.
    let moved = plan.published.unwrap_or(MediaTime(0)).as_millis().saturating_sub(lead(before));
    let known = before.segments.iter().map(|segment| Segment {
        startms: segment.startms + moved,
        endms: segment.endms + moved,
        ..segment.clone()
    });
    // A capture that the file was made of may still be there, and be looked at once more.
    let again = |segment: &Segment| {
        let same = |other: &Segment| is_one_stream(other, segment);
        segment.endms - segment.startms <= ROUNDED_MS && before.segments.iter().any(same)
    };
    let added: Vec<Segment> = record.segments.into_iter().filter(|s| !again(s)).collect();
    let heard = |segments: &[Segment]| segments.iter().map(|s| s.packets).sum::<u64>() as f64;
    let (old, new) = (heard(&before.segments), heard(&added));
    let mixed = |before: f64, now: f64| {
        if new > 0.0 { (before * old + now * new) / (old + new) } else { before }
    };
    let quality = Quality {
        lossratio: mixed(before.quality.lossratio, record.quality.lossratio),
        jitterms: mixed(before.quality.jitterms, record.quality.jitterms),
        clockdriftppm: before.quality.clockdriftppm,
        oneway: before.quality.oneway,
        ..record.quality
    };
    let segments = all_segments(known.collect(), added);
    let seams = all_seams(before, moved, &record.seams, plan);
    let mut keysms: Vec<u64> = before.keysms.iter().map(|key| key + moved).collect();
    let known =
        |key: &u64| before.keysms.iter().any(|old| (old + moved).abs_diff(*key) < SAME_KEY_MS);
    keysms.extend(record.keysms.iter().filter(|key| !known(key)));
    keysms.sort_unstable();
    let mut masked: Vec<Span> = record.masked.clone();
    masked.extend(
        before
            .masked
            .iter()
            .map(|span| Span { startms: span.startms + moved, endms: span.endms + moved }),
    );
    masked.sort_unstable_by_key(|span| (span.startms, span.endms));
    masked.dedup_by(|later, earlier| {
        let touch = later.startms <= earlier.endms;
        if touch {
            earlier.endms = earlier.endms.max(later.endms);
        }
        touch
    });
    Recording {
        segments,
        seams,
        keysms,
        masked,
        quality: rounded(&quality),
        tags: before.tags.clone(),
        tagmarks: before.tagmarks.clone(),
        notes: before.notes.clone(),
        scores: before.scores.clone(),
        hold: before.hold,
        holdmark: before.holdmark.clone(),
        ..record
    }
}

/// Whether two segments are of one device that heard one stream.
fn is_one_stream(one: &Segment, other: &Segment) -> bool {
    let of = |segment: &Segment| (segment.node, segment.side);
    of(one) == of(other) && one.phantom == other.phantom && one.ssrcs == other.ssrcs
}

/// The segments of what was published, and what went beside it. Of a capture of which only a part was at
/// hand before (a mirror lags behind) the rest prolongs its segment.
fn all_segments(mut segments: Vec<Segment>, added: Vec<Segment>) -> Vec<Segment> {
    for new in added {
        let touches = |old: &Segment| {
            new.startms <= old.endms + SAME_SEAM_MS && old.startms <= new.endms + SAME_SEAM_MS
        };
        let part = segments.iter_mut().find(|old| is_one_stream(old, &new) && touches(old));
        match part {
            // What was counted of the whole capture is not less than what was of the part.
            Some(old) => {
                let (startms, endms) = (old.startms.min(new.startms), old.endms.max(new.endms));
                let most = if new.packets >= old.packets { new } else { old.clone() };
                *old = Segment { startms, endms, ..most };
            }
            None => segments.push(new),
        }
    }
    segments.sort_by_key(|segment| segment.startms);
    segments
}

/// Lets the timeline begin when the recording was due: what was not heard before the first audio is
/// missing, too. `before` is the revision that is published.
///
/// # Errors
/// [`Unplaceable::TooLong`].
pub fn begin_when_due(
    plan: &mut Plan,
    draft: &Draft,
    before: Option<&Recording>,
) -> Result<(), Unplaceable> {
    let nodes: BTreeSet<_> = plan.segments.iter().map(|segment| segment.capture.node).collect();
    let cause = if draft.resumed || nodes.len() > 1 || draft.trigger == TriggerKind::Rescue {
        GapCause::Takeover
    } else {
        GapCause::NoMedia
    };
    let cause = plan.lost_first.unwrap_or(cause);
    let late = if draft.due.is_some() { LATE_KNOWN } else { LATE };
    let begun = before.filter(|before| lead(before) > 0).map(|before| before.started);
    plan.begin_by(draft.due(), late, begun, cause)
}

/// How long the gap is with which a recording begins, milliseconds.
fn lead(record: &Recording) -> u64 {
    record.gaps.first().filter(|gap| gap.startms == 0).map_or(0, |gap| gap.endms)
}

/// Puts in what is to be heard in the finished file.
pub fn add_sound(quality: &mut Quality, heard: &Heard) {
    *quality = rounded(&Quality {
        leveldb: heard.level_db,
        clippedratio: heard.clipped_ratio,
        deadairms: heard.dead_air_ms,
        ..quality.clone()
    });
}

/// What a published record says of its call, in wall time again.
#[must_use]
pub fn draft_of(record: &Recording) -> Draft {
    let length = i128::from(record.durationms).max(1);
    let span = i128::from(record.ended.micros_since(record.started));
    let wall = |ms: u64| {
        let into = i64::try_from(i128::from(ms) * span / length).unwrap_or(0);
        WallTime::from_micros(record.started.as_micros().saturating_add(into))
    };
    // Who was there to the end was there longer, if it is heard for longer.
    let end = |ms: u64| (ms < record.durationms).then(|| wall(ms));
    let stretch = |startms, endms| Stretch { from: wall(startms), to: end(endms) };
    let spans = |spans: &[Span]| spans.iter().map(|s| stretch(s.startms, s.endms)).collect();
    let presence = |party: &Party| Presence {
        who: party.who.clone(),
        stretch: stretch(party.fromms, party.toms),
        holds: spans(&party.holds),
    };
    let paused = |pause: &Pause| draft::Pause {
        id: None,
        stretch: Stretch { from: wall(pause.startms), to: Some(wall(pause.endms)) },
        until: wall(pause.endms),
        by: pause.by.clone(),
        resumed: None,
    };
    Draft {
        copy: record.copy,
        scope: record.scope,
        trigger: record.trigger,
        rule: record.rule.clone(),
        ucid: record.ucid.clone(),
        formerucids: record.formerucids.clone(),
        callids: record.callids.clone(),
        extension: record.extension.clone(),
        agentid: record.agentid.clone(),
        calling: record.calling.clone(),
        called: record.called.clone(),
        direction: record.direction,
        trunkgroup: record.trunkgroup.clone(),
        trunkmember: record.trunkmember.clone(),
        vdn: record.vdn.clone(),
        split: record.split.clone(),
        userdata: record.userdata.clone(),
        parties: record.parties.iter().map(presence).collect(),
        ended: Some(record.ended),
        cutshort: record.cutshort,
        pauses: record.pauses.iter().map(paused).collect(),
        ..Draft::blank(record.recordingid, record.node, record.recordingid.made())
    }
}

/// A record is the same before it is written down and after it was read, so nothing finer is in
/// it than its JSON can say.
const fn to_millis(time: WallTime) -> WallTime {
    WallTime::from_millis(time.as_millis())
}

/// To as many digits as mean anything.
fn rounded(quality: &Quality) -> Quality {
    let round = |value: f64, digits: f64| (value * digits).round() / digits;
    Quality {
        lossratio: round(quality.lossratio, 1e6),
        jitterms: round(quality.jitterms, 1e3),
        clockdriftppm: round(quality.clockdriftppm, 10.0),
        mos: quality.mos.map(|mos| round(mos, 100.0)),
        leveldb: quality.leveldb.map(|level| round(level, 10.0)),
        clippedratio: round(quality.clippedratio, 1e6),
        ..*quality
    }
}

/// Whether audio is missing for which the recorder is to blame, and which another capture of the
/// same call may have. What the network lost or the switch did not send nobody has.
pub(crate) const fn is_ours(cause: GapCause) -> bool {
    match cause {
        GapCause::Takeover | GapCause::DiskFull => true,
        GapCause::Loss | GapCause::Paused | GapCause::Hold | GapCause::NoMedia => false,
    }
}

/// A stretch of wall time as positions; one that nobody ended ends with the recording.
fn span(plan: &Plan, stretch: Stretch) -> Span {
    let startms = plan.position(stretch.from).as_millis();
    let endms = stretch.to.map_or(plan.total, |to| plan.position(to)).as_millis();
    Span { startms, endms: endms.max(startms) }
}

fn pause(plan: &Plan, pause: &draft::Pause) -> Pause {
    let Span { startms, endms } = span(plan, pause.stretch);
    Pause { startms, endms, by: pause.by.clone() }
}

fn party(plan: &Plan, presence: &Presence) -> Party {
    let Span { startms, endms } = span(plan, presence.stretch);
    let holds = presence.holds.iter().map(|hold| span(plan, *hold)).collect();
    Party { who: presence.who.clone(), fromms: startms, toms: endms, holds }
}

/// It covers every millisecond that is masked in part.
fn masked((from, to): &(MediaTime, MediaTime)) -> Span {
    Span { startms: from.as_millis(), endms: to.0.div_ceil(8) }
}

/// A gap covers every millisecond that is missing in part.
fn gap(gap: &PlannedGap, side: Option<Side>) -> Gap {
    Gap { startms: gap.from.as_millis(), endms: gap.to.0.div_ceil(8), cause: gap.cause, side }
}

/// `owner` stands for what was published before.
fn seam(seam: &PlannedSeam, owner: NodeId) -> Seam {
    let node = |capture: CaptureKey| {
        if capture == CaptureKey::PUBLISHED { owner } else { capture.node }
    };
    let round = |value: f64, digits: f64| (value * digits).round() / digits;
    Seam {
        atms: seam.at.as_millis(),
        from: node(seam.from),
        to: node(seam.to),
        method: if seam.confidence.is_some() { SeamMethod::Content } else { SeamMethod::Time },
        shiftms: round(seam.shift_us as f64 / 1000.0, 10.0),
        confidence: seam.confidence.map(|confidence| round(confidence.into(), 1000.0)),
    }
}

/// The seams of what was published, `moved`, and those of what went around it. What was a seam with a
/// hole is none any more where the hole was filled.
fn all_seams(before: &Recording, moved: u64, added: &[Seam], plan: &Plan) -> Vec<Seam> {
    // What was published was captured by whoever has the segment there.
    let node_at = |atms: u64| {
        let at = atms.saturating_sub(moved);
        let near = |segment: &&Segment| segment.startms <= at + 1 && at <= segment.endms + 1;
        before.segments.iter().find(near).map_or(before.node, |segment| segment.node)
    };
    let mut seams: Vec<Seam> = added.to_vec();
    for (seam, planned) in seams.iter_mut().zip(&plan.seams) {
        if planned.from == CaptureKey::PUBLISHED {
            seam.from = node_at(seam.atms);
        }
        if planned.to == CaptureKey::PUBLISHED {
            seam.to = node_at(seam.atms);
        }
    }
    let known = before.seams.iter().map(|seam| Seam { atms: seam.atms + moved, ..*seam });
    let filled = |old: &Seam| added.iter().any(|new| new.atms.abs_diff(old.atms) <= SAME_SEAM_MS);
    seams.extend(known.filter(|old| !filled(old)));
    seams.sort_by_key(|seam| seam.atms);
    seams
}

fn segment(segment: &PlannedSegment) -> Segment {
    Segment {
        node: segment.capture.node,
        phantom: segment.phantom.clone().unwrap_or_else(|| Extension::new("")),
        startms: segment.from.as_millis(),
        endms: segment.to.0.div_ceil(8),
        codec: segment.codecs.join(","),
        packets: segment.census.packets,
        lost: segment.census.lost,
        late: segment.census.late,
        duplicate: segment.census.duplicate,
        ssrcs: segment.ssrcs.iter().map(ToString::to_string).collect(),
        clockoffsetms: segment.clock_offset_us.map(|micros| micros as f64 / 1000.0),
        side: segment.side,
    }
}
