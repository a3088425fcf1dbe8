//! What a sealed recording says of itself: the draft's facts, and the plan's positions. Wall
//! times become positions here and nowhere else.

use storage_core::draft::{Presence, Stretch};
use storage_core::record::{Gap, GapCause, Party, Quality, Segment, Span, VoiceFormat};
use storage_core::{Draft, Extension, Recording, WallTime};

use super::timeline::{Plan, PlannedGap, PlannedSegment};

/// Makes the record of a recording whose audio lies as planned. What only the finished voice file
/// can tell (`bytes`, `sha256`) is left empty.
#[must_use]
pub fn record(draft: Draft, plan: &Plan, format: VoiceFormat) -> Recording {
    let spans = |stretches: &[Stretch]| stretches.iter().map(|s| span(plan, *s)).collect();
    let parties = draft.parties.iter().map(|presence| party(plan, presence)).collect();
    let gaps: Vec<Gap> = plan.gaps.iter().map(gap).collect();
    // Sealed without its end being known: by `recover`, or because the call ended unobserved.
    let known_to_end = draft.ended.is_some() && !draft.cutshort;
    Recording {
        version: Recording::VERSION,
        recordingid: draft.recordingid,
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
        segments: plan.segments.iter().map(|s| segment(draft.node, s)).collect(),
        complete: known_to_end && !plan.gaps.iter().any(|gap| is_ours(gap.cause)),
        gaps,
        pauses: spans(&draft.pauses),
        quality: rounded(&plan.quality),
        format,
        bytes: 0,
        sha256: String::new(),
        tags: Vec::new(),
        notes: Vec::new(),
        hold: false,
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
        ..*quality
    }
}

/// Whether audio is missing for which the recorder is to blame, and which another capture of the
/// same call may have. What the network lost or the switch did not send nobody has.
const fn is_ours(cause: GapCause) -> bool {
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

fn party(plan: &Plan, presence: &Presence) -> Party {
    let Span { startms, endms } = span(plan, presence.stretch);
    let holds = presence.holds.iter().map(|hold| span(plan, *hold)).collect();
    Party { who: presence.who.clone(), fromms: startms, toms: endms, holds }
}

/// A gap covers every millisecond that is missing in part.
fn gap(gap: &PlannedGap) -> Gap {
    Gap { startms: gap.from.as_millis(), endms: gap.to.0.div_ceil(8), cause: gap.cause }
}

fn segment(node: storage_core::NodeId, segment: &PlannedSegment) -> Segment {
    Segment {
        node,
        phantom: segment.phantom.clone().unwrap_or_else(|| Extension::new("")),
        startms: segment.from.as_millis(),
        endms: segment.to.0.div_ceil(8),
        codec: segment.codecs.join(","),
        packets: segment.census.packets,
        lost: segment.census.lost,
        late: segment.census.late,
        duplicate: segment.census.duplicate,
        ssrcs: segment.ssrcs.iter().map(ToString::to_string).collect(),
    }
}
