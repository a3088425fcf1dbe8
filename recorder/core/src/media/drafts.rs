//! What several nodes knew of one call, as one draft. It decides whose word counts where they differ;
//! whose captures are heard is the placer's matter.
//!
//! | of | counts |
//! |---|---|
//! | trigger, rule, extension, agent, direction | the draft opened first |
//! | scope | the widest |
//! | numbers, trunk, VDN, split, user data | the draft opened first of those that have it |
//! | UCIDs, call ids, parties, pauses | all; each once |
//! | end of a presence or a hold | the draft that ended last, of those that saw the end |
//! | end of a hold that none of them saw | the opening of the next draft: what was held then, that says itself |
//! | end of a pause | whoever ended it first: others hear of that later, or not at all, and have nothing of it |
//! | end of the call | the latest, and whether it was cut short is said by that draft |

use std::cmp::Ordering;
use std::collections::BTreeMap;

use storage_core::draft::{Ending, Pause, PauseId, Presence, Resumed, Stretch};
use storage_core::record::Scope;
use storage_core::{Draft, WallTime};

/// Two nodes hear of one event at different moments: what ends and begins within so long is one
/// presence, 500 ms.
const APART_MICROS: i64 = 500_000;

/// A draft of a node whose clock is ahead of ours by so much, by our clock.
#[must_use]
pub fn shifted(mut draft: Draft, clock_offset_us: i64) -> Draft {
    let shift = |at: &mut WallTime| {
        *at = WallTime::from_micros(at.as_micros().saturating_sub(clock_offset_us));
    };
    let shift_stretch = |stretch: &mut Stretch| {
        shift(&mut stretch.from);
        stretch.to.iter_mut().for_each(shift);
    };
    shift(&mut draft.opened);
    draft.due.iter_mut().for_each(shift);
    draft.ended.iter_mut().for_each(shift);
    for pause in &mut draft.pauses {
        shift_stretch(&mut pause.stretch);
        shift(&mut pause.until);
    }
    for presence in &mut draft.parties {
        shift_stretch(&mut presence.stretch);
        presence.holds.iter_mut().for_each(shift_stretch);
    }
    draft
}

/// Makes one draft of several. The name is the group's, as `primary` knows it; node, copy and take
/// are `primary`'s.
#[must_use]
pub fn merge_drafts(primary: Draft, others: impl IntoIterator<Item = Draft>) -> Draft {
    let (recordingid, node) = (primary.groupname(), primary.node);
    let (copy, take) = (primary.copy, primary.take);
    let mut drafts: Vec<Draft> = std::iter::once(primary).chain(others).collect();
    drafts.sort_by_key(|draft| draft.opened);
    let parties = parties(&drafts);
    let ends = ends_of_pauses(&drafts);
    let pauses = by_knowledge(&drafts).fold(Vec::new(), |known, draft| {
        let its = draft.pauses.iter().map(|pause| as_ended(pause, &ends)).collect();
        join(known, its, |pause| &mut pause.stretch, |_, later| later)
    });
    let (ended, cutshort) = end(&drafts);
    let mut drafts = drafts.into_iter();
    // There is one at least, the primary.
    let Some(mut merged) = drafts.next() else {
        return Draft::blank(recordingid, node, WallTime::from_micros(0));
    };
    for draft in drafts {
        take_over(&mut merged, draft);
    }
    // Switch numbers that belong to the call as a whole are not former ones.
    let ucid = merged.ucid.clone();
    merged.formerucids.retain(|former| Some(former) != ucid.as_ref());
    Draft { recordingid, name: None, node, copy, take, parties, pauses, ended, cutshort, ..merged }
}

/// When each pause that has a name was ended first, and why.
fn ends_of_pauses(drafts: &[Draft]) -> BTreeMap<PauseId, (WallTime, Resumed)> {
    let mut ends = BTreeMap::new();
    for pause in drafts.iter().flat_map(|draft| &draft.pauses) {
        // With a node's recording it does not end on others.
        if let (Some(id), Some(to), Some(why)) = (pause.id, pause.stretch.to, pause.resumed)
            && why != Resumed::End
        {
            let first = ends.entry(id).or_insert((to, why));
            *first = if to < first.0 { (to, why) } else { *first };
        }
    }
    ends
}

fn as_ended(pause: &Pause, ends: &BTreeMap<PauseId, (WallTime, Resumed)>) -> Pause {
    let mut pause = pause.clone();
    if let Some((to, why)) = pause.id.and_then(|id| ends.get(&id)) {
        pause.stretch.to = Some((*to).max(pause.stretch.from));
        pause.resumed = Some(*why);
    }
    pause
}

/// Adds to a draft what one that was opened later has beyond it.
fn take_over(merged: &mut Draft, draft: Draft) {
    if draft.scope == Scope::Trunk {
        merged.scope = Scope::Trunk;
    }
    let texts = [
        (&mut merged.agentid, draft.agentid),
        (&mut merged.calling, draft.calling),
        (&mut merged.called, draft.called),
        (&mut merged.trunkgroup, draft.trunkgroup),
        (&mut merged.trunkmember, draft.trunkmember),
        (&mut merged.vdn, draft.vdn),
        (&mut merged.split, draft.split),
        (&mut merged.userdata, draft.userdata),
    ];
    for (known, other) in texts {
        if known.is_empty() {
            *known = other;
        }
    }
    merged.resumed |= draft.resumed;
    merged.due = merged.due.into_iter().chain(draft.due).min();
    if merged.extension.as_str().is_empty() {
        merged.extension = draft.extension;
    }
    add_new(&mut merged.callids, draft.callids);
    match (&merged.ucid, draft.ucid) {
        (None, ucid) => merged.ucid = ucid,
        (Some(_), ucid) => add_new(&mut merged.formerucids, ucid),
    }
    add_new(&mut merged.formerucids, draft.formerucids);
}

fn add_new<T: PartialEq>(known: &mut Vec<T>, others: impl IntoIterator<Item = T>) {
    for other in others {
        if !known.contains(&other) {
            known.push(other);
        }
    }
}

/// When the call ended, and whether nobody saw it. Whoever did knows better than a node that was away
/// then, and put the time of its return into its draft; whoever yielded the call left before the end. A
/// draft without an end is one of a node that went away.
fn end(drafts: &[Draft]) -> (Option<WallTime>, bool) {
    let saw = |draft: &&Draft| !draft.cutshort && draft.ending != Some(Ending::Yielded);
    match drafts.iter().filter(saw).filter_map(|draft| draft.ended).max() {
        Some(seen) => (Some(seen), false),
        None => {
            let ended = drafts.iter().filter_map(|draft| draft.ended).max();
            (ended, ended.is_some())
        }
    }
}

/// Drafts in the order in which later ones know better how things ended. One whose node was away then
/// knows less than any that was there, however late its node came back and found the call gone.
fn by_knowledge(drafts: &[Draft]) -> impl Iterator<Item = &Draft> {
    let mut drafts: Vec<&Draft> = drafts.iter().collect();
    let away = |draft: &Draft| draft.cutshort;
    drafts.sort_by(|a, b| {
        away(b).cmp(&away(a)).then_with(|| match (a.ended, b.ended) {
            (Some(a), Some(b)) => a.cmp(&b),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (None, None) => a.opened.cmp(&b.opened),
        })
    });
    drafts.into_iter()
}

fn parties(drafts: &[Draft]) -> Vec<Presence> {
    let mut whos: Vec<&str> = Vec::new();
    for presence in drafts.iter().flat_map(|draft| &draft.parties) {
        add_new(&mut whos, [presence.who.as_str()]);
    }
    // What somebody does after a draft was opened, that draft says.
    let known_until = |mut presence: Presence, opened: WallTime| {
        for hold in &mut presence.holds {
            hold.to.get_or_insert(opened.max(hold.from));
        }
        presence
    };
    let of = |draft: &Draft, who: &str| -> Vec<Presence> {
        draft.parties.iter().filter(|presence| presence.who == who).cloned().collect()
    };
    let mut parties: Vec<Presence> = Vec::new();
    for who in whos {
        let merged = by_knowledge(drafts).fold(Vec::new(), |known, draft| {
            join(
                known,
                of(draft, who),
                |presence| &mut presence.stretch,
                |known, later| {
                    let known = known_until(known, draft.opened);
                    let mut holds = join(known.holds, later.holds, |hold| hold, |_, later| later);
                    holds.retain(|hold| hold.to != Some(hold.from));
                    Presence { holds, ..later }
                },
            )
        });
        parties.extend(merged);
    }
    parties.sort_by_key(|presence| presence.stretch.from);
    parties
}

/// Two drafts' stretches of one thing, in order: those that touch or overlap are one, which began
/// when the first of them did and ended as the later draft says.
fn join<T: Clone>(
    mut known: Vec<T>,
    later: Vec<T>,
    stretch: impl Fn(&mut T) -> &mut Stretch,
    merge: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut joined: Vec<T> = Vec::new();
    for mut one in later {
        let mut left = Vec::new();
        for mut other in known {
            let (ours, theirs) = (*stretch(&mut one), *stretch(&mut other));
            if touch(ours, theirs) {
                one = merge(other, one);
                let merged = stretch(&mut one);
                merged.from = ours.from.min(theirs.from);
                merged.to = ours.to;
            } else {
                left.push(other);
            }
        }
        known = left;
        joined.push(one);
    }
    joined.append(&mut known);
    joined.sort_by_key(|one| stretch(&mut one.clone()).from);
    joined
}

fn touch(a: Stretch, b: Stretch) -> bool {
    let before = |end: Option<WallTime>, begin: WallTime| {
        end.is_some_and(|end| begin.micros_since(end) > APART_MICROS)
    };
    !before(a.to, b.from) && !before(b.to, a.from)
}

#[cfg(test)]
mod tests {
    use storage_core::record::TriggerKind;
    use storage_core::{NodeId, RecordingId};

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn draft(node: u16, opened: i64, ended: Option<i64>) -> Draft {
        let id = RecordingId::new(at(opened), [u8::try_from(node).unwrap(); 10]);
        Draft { ended: ended.map(at), ..Draft::blank(id, NodeId(node), at(opened)) }
    }

    fn stretch(from: i64, to: Option<i64>) -> Stretch {
        Stretch { from: at(from), to: to.map(at) }
    }

    fn pause(from: i64, to: Option<i64>) -> Pause {
        let stretch = stretch(from, to);
        Pause { id: None, stretch, until: at(from), by: String::new(), resumed: None }
    }

    fn party(who: &str, from: i64, to: Option<i64>) -> Presence {
        Presence { who: who.to_owned(), stretch: stretch(from, to), holds: Vec::new() }
    }

    fn rows(draft: &Draft) -> Vec<(&str, i64, Option<i64>)> {
        let seconds = |wall: WallTime| wall.micros_since(at(0)) / 1_000_000;
        draft
            .parties
            .iter()
            .map(|p| (p.who.as_str(), seconds(p.stretch.from), p.stretch.to.map(seconds)))
            .collect()
    }

    #[test]
    fn the_first_decides_and_the_others_fill_in() {
        let ucid = |n: u8| Some(format!("000010000{n}1700000000").parse().unwrap());
        let mut own = draft(2, 10, Some(60));
        own.name = Some(draft(1, 0, None).recordingid);
        own.trigger = TriggerKind::Takeover;
        own.scope = Scope::Trunk;
        (own.calling, own.called, own.vdn) = ("555".into(), "3001".into(), "3000".into());
        (own.ucid, own.callids) = (ucid(2), vec!["7".into(), "8".into()]);
        own.copy = 2;
        let mut first = draft(1, 0, None);
        first.rule = "all".into();
        (first.calling, first.extension, first.agentid) = ("444".into(), "3001".into(), "4".into());
        (first.ucid, first.callids) = (ucid(1), vec!["7".into()]);
        first.formerucids = ucid(3).into_iter().collect();
        let merged = merge_drafts(own.clone(), [first.clone()]);
        assert_eq!((merged.recordingid, merged.name), (first.recordingid, None));
        assert_eq!((merged.node, merged.copy), (NodeId(2), 2));
        assert_eq!((merged.opened, merged.ended), (at(0), Some(at(60))));
        assert_eq!((merged.trigger, merged.rule.as_str()), (TriggerKind::Rule, "all"));
        assert_eq!((merged.scope, merged.extension.as_str()), (Scope::Trunk, "3001"));
        assert_eq!((merged.calling.as_str(), merged.called.as_str()), ("444", "3001"));
        assert_eq!((merged.vdn.as_str(), merged.agentid.as_str()), ("3000", "4"));
        assert_eq!(merged.ucid, ucid(1));
        assert_eq!(merged.formerucids, [ucid(3).unwrap(), ucid(2).unwrap()]);
        assert_eq!(merged.callids, ["7", "8"]);
        // The order in which they are told does not matter but for whose the recording is.
        let turned = merge_drafts(first, [own]);
        assert_eq!(Draft { node: NodeId(2), copy: 2, ..turned }, merged);
    }

    #[test]
    fn nobody_is_in_the_call_twice() {
        // (what, earlier draft's, later draft's, expected)
        type Row = (&'static str, i64, Option<i64>);
        type Case = (&'static str, &'static [Row], &'static [Row], &'static [Row]);
        let cases: [Case; 6] = [
            (
                "open when its node went away, seen to leave by the other",
                &[("a", 0, None)],
                &[("a", 5, Some(40))],
                &[("a", 0, Some(40))],
            ),
            (
                "there to the end, though it left once",
                &[("a", 0, Some(10))],
                &[("a", 8, None)],
                &[("a", 0, None)],
            ),
            (
                "two times apart",
                &[("a", 0, Some(3))],
                &[("a", 8, Some(12))],
                &[("a", 0, Some(3)), ("a", 8, Some(12))],
            ),
            (
                "the later knows of a leaving in between",
                &[("a", 0, Some(30))],
                &[("a", 4, Some(9)), ("a", 20, Some(31))],
                &[("a", 0, Some(9)), ("a", 20, Some(31))],
            ),
            (
                "others",
                &[("a", 0, None), ("b", 0, Some(4))],
                &[("a", 5, None), ("c", 7, None)],
                &[("a", 0, None), ("b", 0, Some(4)), ("c", 7, None)],
            ),
            (
                "two in one",
                &[("a", 0, Some(4)), ("a", 6, Some(9))],
                &[("a", 3, Some(50))],
                &[("a", 0, Some(50))],
            ),
        ];
        for (what, earlier, later, expected) in cases {
            let parties = |rows: &[Row]| rows.iter().map(|(w, f, t)| party(w, *f, *t)).collect();
            let earlier = Draft { parties: parties(earlier), ..draft(1, 0, None) };
            let later = Draft { parties: parties(later), ..draft(2, 3, Some(50)) };
            for merged in [
                merge_drafts(earlier.clone(), [later.clone()]),
                merge_drafts(later.clone(), [earlier.clone()]),
            ] {
                assert_eq!(rows(&merged), expected, "{what}");
            }
        }
    }

    #[test]
    fn holds_and_pauses_are_joined_too() {
        let mut earlier = draft(1, 0, None);
        earlier.parties = vec![Presence {
            holds: vec![stretch(1, Some(2)), stretch(4, None)],
            ..party("a", 0, None)
        }];
        earlier.pauses = vec![pause(3, None)];
        let mut later = draft(2, 4, Some(20));
        later.parties =
            vec![Presence { holds: vec![stretch(4, Some(8))], ..party("a", 4, Some(20)) }];
        later.pauses = vec![pause(4, Some(6)), pause(9, Some(11))];
        let merged = merge_drafts(later, [earlier]);
        assert_eq!(merged.parties[0].holds, [stretch(1, Some(2)), stretch(4, Some(8))]);
        assert_eq!(
            merged.pauses.iter().map(|pause| pause.stretch).collect::<Vec<_>>(),
            [stretch(3, Some(6)), stretch(9, Some(11))]
        );
    }

    #[test]
    fn a_hold_of_which_no_end_was_seen_lasts_no_longer_than_nobody_knows_better() {
        let held = |holds: &[(i64, Option<i64>)]| -> Vec<Stretch> {
            holds.iter().map(|(from, to)| stretch(*from, *to)).collect()
        };
        // Node 1 died in the hold. When the other's draft was opened, its holds, and those of both.
        type Row<'a> = (i64, &'a [(i64, Option<i64>)], &'a [(i64, Option<i64>)]);
        let cases: [Row<'_>; 5] = [
            (12, &[(10, Some(20))], &[(10, Some(20))]),
            (12, &[(10, None)], &[(10, None)]),
            (12, &[], &[(10, Some(12))]),
            (12, &[(30, Some(40))], &[(10, Some(12)), (30, Some(40))]),
            (5, &[], &[]),
        ];
        for (opened, holds, both) in cases {
            let mut died = draft(1, 0, None);
            died.parties = vec![Presence { holds: held(&[(10, None)]), ..party("a", 0, None) }];
            let mut went_on = draft(2, opened, Some(60));
            went_on.parties = vec![Presence { holds: held(holds), ..party("a", 0, Some(60)) }];
            let merged = merge_drafts(went_on, [died]);
            assert_eq!(merged.parties[0].holds, held(both), "{opened} {holds:?}");
        }
    }

    #[test]
    fn a_pause_ended_when_it_was_ended_first_whoever_did_not_hear_so() {
        let id = Some(PauseId { node: NodeId(2), at: 3 });
        let ended = |to, resumed| Pause { id, resumed, ..pause(3, to) };
        let mut ended_it = draft(2, 2, Some(20));
        ended_it.pauses = vec![ended(Some(6), Some(Resumed::Person))];
        // It was away when that was so, and came back before the call was over.
        for (to, resumed) in
            [(None, None), (Some(9), Some(Resumed::Person)), (Some(4), Some(Resumed::End))]
        {
            let mut was_away = draft(1, 0, Some(21));
            was_away.pauses = vec![ended(to, resumed)];
            for merged in [
                merge_drafts(ended_it.clone(), [was_away.clone()]),
                merge_drafts(was_away, [ended_it.clone()]),
            ] {
                assert_eq!(merged.pauses, ended_it.pauses, "{to:?}");
            }
        }
    }

    #[test]
    fn who_saw_the_end_says_whether_it_was_cut_short() {
        // (ended, cut short, ending) of two drafts; (ended, cut short) of both together
        type End = (Option<i64>, bool, Option<Ending>);
        let (away, yielded) = ((None, false, None), Some(Ending::Yielded));
        let saw = |at| (Some(at), false, Some(Ending::Over));
        let returned = |at| (Some(at), true, Some(Ending::Over));
        let cases: [(End, End, (Option<i64>, bool)); 7] = [
            (returned(10), saw(20), (Some(20), false)),
            (saw(10), returned(20), (Some(10), false)),
            (away, saw(20), (Some(20), false)),
            (returned(20), saw(20), (Some(20), false)),
            (away, away, (None, false)),
            ((Some(10), false, yielded), saw(20), (Some(20), false)),
            ((Some(10), false, yielded), returned(20), (Some(20), true)),
        ];
        for (a, b, both) in cases {
            let one = |node, (ended, cutshort, ending): End| Draft {
                cutshort,
                ending,
                ..draft(node, 0, ended)
            };
            let merged = merge_drafts(one(1, a), [one(2, b)]);
            assert_eq!((merged.ended, merged.cutshort), (both.0.map(at), both.1), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_foreign_clock_is_taken_back_everywhere() {
        let mut ahead = draft(1, 100, Some(160));
        ahead.parties =
            vec![Presence { holds: vec![stretch(110, None)], ..party("a", 101, Some(150)) }];
        ahead.pauses = vec![pause(120, Some(130))];
        let mut right = draft(1, 0, Some(60));
        right.recordingid = ahead.recordingid;
        right.parties =
            vec![Presence { holds: vec![stretch(10, None)], ..party("a", 1, Some(50)) }];
        right.pauses = vec![pause(20, Some(30))];
        assert_eq!(shifted(ahead, 100_000_000), right);
    }
}
