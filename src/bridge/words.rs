//! The same things in the recorder's words and in the group's. It translates and decides nothing
//! but what an absent word means.

use std::collections::{BTreeMap, BTreeSet};

use cluster_core::{CallRef, Claim, ClosedSlot, GroupView, MemberView, Slot, Stretch, Terms};
use recorder_core::call::{Claimed, Holder, Mandate, Over, Peer};
use storage::{JournalError, JournalReader};
use storage_core::draft::Ending;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{
    CallId, Draft, Duty, Extension, NodeId, RecordingId, Role, SegmentId, WallTime,
};

/// A longer name of a rule says nothing more to anybody.
const RULE_CHARS_MAX: usize = 200;

/// What the journal holds of one recording, as far as the group is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The group's name of it, as far as known.
    pub name: RecordingId,
    /// Nothing is added to it any more.
    pub complete: bool,
    /// It is over for the whole group, and whether somebody stopped it.
    pub over: Option<bool>,
    /// Its captures in which something was heard, and when each ended.
    pub captures: Vec<(Claim, Option<WallTime>)>,
}

/// A capture as the journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which.
    pub segment: SegmentId,
    /// Its first packet.
    pub first: WallTime,
    /// When it was closed, or, where a crash left it open, its last packet.
    pub ended: Option<WallTime>,
}

/// A recorder's claim in the group's words.
#[must_use]
pub fn claim(claim: &recorder_core::call::Claim, node: NodeId) -> Claim {
    Claim {
        call: CallRef {
            ucid: claim.ucid.clone(),
            callid: claim.callid.clone(),
            began: claim.began,
        },
        copy: claim.copy,
        take: claim.take,
        node,
        segment: claim.segment,
        recording: claim.name,
        from: claim.from,
        epoch: claim.epoch,
        terms: Terms {
            scope: claim.scope,
            trigger: claim.trigger,
            rule: claim.rule.chars().take(RULE_CHARS_MAX).collect(),
            extension: claim.extension.clone(),
        },
    }
}

/// What the journal tells of a recording, as claims. A capture of which only the journal knows was
/// begun under no grant that counts any more.
#[must_use]
pub fn outline(node: NodeId, draft: &Draft, heard: &[Heard]) -> Outline {
    let callid = draft.callids.last().map_or("", String::as_str);
    let call = CallRef {
        ucid: draft.ucid.clone(),
        callid: CallId::new(callid),
        // Of one that was taken over it is known to whoever began it.
        began: draft.name.is_none().then_some(draft.opened),
    };
    let claim = |heard: &Heard| Claim {
        call: call.clone(),
        copy: draft.copy,
        take: draft.take,
        node,
        segment: heard.segment,
        recording: draft.groupname(),
        from: heard.first,
        epoch: 0,
        terms: Terms {
            scope: draft.scope,
            trigger: draft.trigger,
            rule: draft.rule.chars().take(RULE_CHARS_MAX).collect(),
            extension: draft.extension.clone(),
        },
    };
    Outline {
        name: draft.groupname(),
        complete: draft.ended.is_some(),
        over: match draft.ending {
            Some(Ending::Over) => Some(false),
            Some(Ending::Stopped) => Some(true),
            Some(Ending::Yielded) | None => None,
        },
        captures: heard.iter().map(|heard| (claim(heard), heard.ended)).collect(),
    }
}

/// Reads what the journal holds of a recording. Where a crash left a capture open, it ended with its
/// last packet.
///
/// # Errors
/// If the journal does not hold it, or cannot be read.
pub fn read_outline(
    capture: &JournalReader,
    node: NodeId,
    local: RecordingId,
) -> Result<Outline, JournalError> {
    let found = capture.outline(local)?;
    let draft = found.draft.unwrap_or_else(|| Draft::lost(local, node));
    let heard = found.segments.iter().filter_map(|segment| {
        let first = segment.first_packet?;
        let ended = segment.closed.or(segment.last_packet);
        Some(Heard { segment: segment.segment, first, ended })
    });
    Ok(outline(node, &draft, &heard.collect::<Vec<_>>()))
}

/// How a recording came to its end.
#[must_use]
pub const fn over(over: cluster_core::Over) -> Over {
    match over {
        cluster_core::Over::Ended => Over::Ended,
        cluster_core::Over::Stopped => Over::Stopped,
    }
}

/// A recording of the ledger in the recorder's words.
#[must_use]
pub fn claimed(node: NodeId, slot: &Slot, call: &CallRef) -> Claimed {
    let holder = slot.holder().map(|held| Holder { node: held.node, epoch: held.epoch });
    let last = slot.stretches.iter().max_by_key(|stretch| stretch.index);
    Claimed {
        scope: slot.terms.scope,
        trigger: slot.terms.trigger,
        rule: slot.terms.rule.clone(),
        extension: slot.terms.extension.clone(),
        holder,
        broken: holder.is_none() && last.is_some_and(|stretch: &Stretch| stretch.to.is_none()),
        over: slot.over.map(over),
        ours: slot.stretches.iter().any(|stretch| stretch.node == node),
        ..named(slot.recording, (slot.copy, slot.take), call)
    }
}

/// A recording that has left the ledger, in the recorder's words.
#[must_use]
pub fn closed(slot: &ClosedSlot, call: &CallRef) -> Claimed {
    let over = Some(over(slot.over));
    Claimed { over, ..named(slot.recording, (slot.copy, slot.take), call) }
}

/// A recording of which no more is known than which one of its call it is.
fn named(recording: RecordingId, (copy, take): (u8, u16), call: &CallRef) -> Claimed {
    let CallRef { ucid, callid, began } = call.clone();
    Claimed {
        recording,
        ucid,
        callid,
        began,
        copy,
        take,
        scope: Scope::Station,
        trigger: TriggerKind::Rule,
        rule: String::new(),
        extension: Extension::new(""),
        holder: None,
        broken: false,
        over: None,
        ours: false,
    }
}

/// Whether a member answers, here or, by the word of a majority, elsewhere. That of whose death this
/// node knows, so that it acts as the lead in its place, is the word of before.
#[must_use]
pub fn is_alive(view: &GroupView, node: NodeId) -> bool {
    let acts_ahead = view.duty.provisional && view.duty.duty == Duty::Lead;
    let replaced = acts_ahead && view.lead == Some(node) && node != view.node;
    let told = view.quorum && !replaced;
    view.member(node).is_some_and(|member| member.reachable || (told && member.up))
}

/// What this node is to do.
#[must_use]
pub fn mandate(view: &GroupView) -> Mandate {
    let grant = view.duty;
    let stands_by = |member: &&MemberView| member.duty == Duty::Standby;
    let mut line: Vec<_> = view.members.iter().filter(stands_by).collect();
    line.sort_by_key(|member| (member.role, member.node));
    let place = line.iter().position(|member| member.node == view.node);
    Mandate {
        duty: grant.duty,
        epoch: grant.epoch,
        moves: grant.moves,
        copy: grant.copy,
        quorum: grant.quorum,
        rank: u8::try_from(place.unwrap_or(0) + 1).unwrap_or(u8::MAX),
    }
}

/// The other members that record.
#[must_use]
pub fn peers(view: &GroupView) -> BTreeMap<NodeId, Peer> {
    let records = |member: &&MemberView| {
        member.node != view.node && member.role.is_some_and(|role| role != Role::Witness)
    };
    let peer = |member: &MemberView| Peer {
        copy: member.copy,
        alive: is_alive(view, member.node),
        serves: member.serves,
        stands_by: member.duty == Duty::Standby,
        phantoms: expand(&member.phantoms),
    };
    view.members.iter().filter(records).map(|member| (member.node, peer(member))).collect()
}

/// Extensions as the group tells them: neighbours of one length as a range.
#[must_use]
pub fn ranges(extensions: &BTreeSet<Extension>) -> Vec<String> {
    let mut ranges: Vec<(String, String, Option<u64>)> = Vec::new();
    for extension in extensions {
        let text = extension.as_str();
        let number = text.parse::<u64>().ok();
        match ranges.last_mut() {
            Some((_, last, Some(before)))
                if last.len() == text.len() && number == Some(*before + 1) =>
            {
                text.clone_into(last);
                *before += 1;
            }
            _ => ranges.push((text.to_owned(), text.to_owned(), number)),
        }
    }
    let text = |(first, last, _): (String, String, _)| {
        if first == last { first } else { format!("{first}-{last}") }
    };
    ranges.into_iter().map(text).collect()
}

/// The extensions of such ranges. What another program wrote and cannot be read is left out.
#[must_use]
pub fn expand(ranges: &[String]) -> BTreeSet<Extension> {
    let each = ranges.iter().map(std::slice::from_ref);
    each.filter_map(|range| crate::config::extensions(range).ok()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_in_whose_place_this_node_acts_is_gone_whatever_the_log_still_says() {
        let mut view = GroupView::alone(NodeId(2), Role::Backup);
        let mut member = view.members[0].clone();
        (member.node, member.up, member.reachable) = (NodeId(1), true, false);
        view.members.push(member);
        (view.lead, view.quorum) = (Some(NodeId(1)), true);
        view.duty.duty = Duty::Standby;
        assert!(is_alive(&view, NodeId(1)), "others may reach it");
        (view.duty.duty, view.duty.provisional) = (Duty::Lead, true);
        assert!(!is_alive(&view, NodeId(1)));
        assert!(is_alive(&view, NodeId(2)));
    }

    #[test]
    fn extensions_are_told_as_ranges_and_read_back() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["78001", "78002", "78003"], &["78001-78003"]),
            (&["78001", "78003"], &["78001", "78003"]),
            (&["0099", "0100", "101"], &["0099-0100", "101"]),
            (&[], &[]),
        ];
        for (extensions, expected) in cases {
            let set: BTreeSet<_> = extensions.iter().copied().map(Extension::from).collect();
            let told = ranges(&set);
            assert_eq!(told, expected);
            assert_eq!(expand(&told), set);
        }
        assert!(expand(&["nonsense".to_owned(), "9-1".to_owned()]).is_empty());
    }
}
