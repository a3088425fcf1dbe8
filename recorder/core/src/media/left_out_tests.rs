//! Pauses, whether or not something was captured in them, and holds.

use std::ops::Range;

use proptest::prelude::*;
use storage_core::draft::{Pause, Presence, Stretch};
use storage_core::record::GapCause;
use storage_core::{Draft, NodeId, RecordingId};

use super::rtp::tests::packet;
use super::tests::{Capture, SWITCH, at};
use super::timeline::Placed;
use super::{Index, Plan};

/// A packet each 20 ms.
const PACKETS: u32 = 500;

fn ms(ms: i64) -> i64 {
    ms * 1000
}

/// A call of ten seconds, captured but for these packets.
fn captured(but: &Range<u32>) -> Index {
    captured_but(|number| but.contains(&number))
}

fn captured_but(lost: impl Fn(u32) -> bool) -> Index {
    let mut capture = Capture::default();
    capture.open(1, 0).terms(1, SWITCH, "g711a");
    for number in (0..PACKETS).filter(|number| !lost(*number)) {
        let seq = u16::try_from(number).unwrap();
        let datagram = packet(1, seq, number * 160, 8, false, &[b'a'; 160]);
        capture.from(SWITCH, 1, ms(i64::from(number) * 20), &datagram);
    }
    let mut index = Index::new();
    capture.entries(|entry| index.entry(entry));
    index
}

fn stretch(from: i64, to: Option<i64>) -> Stretch {
    Stretch { from: at(ms(from)), to: to.map(|to| at(ms(to))) }
}

fn draft(pauses: &[(i64, Option<i64>)], ended: i64) -> Draft {
    let pause = |(from, to): &(i64, Option<i64>)| {
        let stretch = stretch(*from, *to);
        Pause { id: None, stretch, until: at(ms(300_000)), by: "susan".to_owned(), resumed: None }
    };
    let id = RecordingId::new(at(0), [7; 10]);
    Draft {
        pauses: pauses.iter().map(pause).collect(),
        ended: Some(at(ms(ended))),
        ..Draft::blank(id, NodeId(1), at(0))
    }
}

fn planned(index: Index, draft: &Draft) -> Plan {
    made(index, draft, false)
}

fn skipped(index: Index, draft: &Draft) -> Plan {
    made(index, draft, true)
}

fn made(mut index: Index, draft: &Draft, skip_hold: bool) -> Plan {
    let left_out = index.left_out(draft, skip_hold);
    index.leave_out(&left_out);
    let mut plan = index.plan().unwrap();
    plan.declare(&left_out).unwrap();
    plan
}

fn gaps(plan: &Plan) -> Vec<(u64, u64, GapCause)> {
    plan.gaps.iter().map(|gap| (gap.from.as_millis(), gap.to.as_millis(), gap.cause)).collect()
}

#[test]
fn nothing_that_was_received_in_a_pause_is_laid_down() {
    let draft = draft(&[(2_000, Some(5_000))], 10_000);
    // Nobody captured anything; somebody did, who had not heard of it; all of it is there.
    for but in [100..250, 110..250, 0..0] {
        let plan = planned(captured(&but), &draft);
        let gaps = gaps(&plan);
        let [(from, to, GapCause::Paused)] = gaps[..] else { panic!("{but:?}: {gaps:?}") };
        assert!(from.abs_diff(2_000) <= 20 && to.abs_diff(5_000) <= 20, "{but:?}: {gaps:?}");
        let inside = plan.placed.iter().filter(|p| (2_020..4_980).contains(&(p.position / 8)));
        assert_eq!(inside.count(), 0, "{but:?}");
        assert_eq!(plan.total.as_millis(), 10_000, "{but:?}");
        assert_eq!((plan.segments[0].census.lost, plan.quality.lossratio), (0, 0.0), "{but:?}");
    }
}

#[test]
fn what_was_lost_beside_a_pause_is_told_as_ever() {
    let draft = draft(&[(2_000, Some(5_000))], 10_000);
    let plan = planned(captured(&(100..300)), &draft);
    let expected = [(2_000, 5_000, GapCause::Paused), (5_000, 6_000, GapCause::Loss)];
    assert_eq!(gaps(&plan), expected);
    let plan = planned(captured(&(300..310)), &draft);
    assert_eq!(gaps(&plan)[1], (6_000, 6_200, GapCause::Loss));
    assert_eq!(plan.segments[0].census.lost, 10);
}

#[test]
fn a_pause_with_which_a_call_ends_is_as_long_as_it_was() {
    let draft = draft(&[(1_000, Some(2_000)), (4_000, None)], 9_000);
    let plan = planned(captured(&(200..500)), &draft);
    let expected = [(1_000, 2_000, GapCause::Paused), (4_000, 9_000, GapCause::Paused)];
    assert_eq!(gaps(&plan), expected);
    assert_eq!((plan.total.as_millis(), plan.ended), (9_000, at(ms(9_000))));
    assert_eq!(plan.position(at(ms(8_000))).as_millis(), 8_000);
}

/// A call of two, of whom the first holds it then.
fn held(holds: &[(i64, Option<i64>)], ended: i64) -> Draft {
    let party = |who: &str, holds: &[(i64, Option<i64>)]| Presence {
        who: who.to_owned(),
        stretch: stretch(0, Some(ended)),
        holds: holds.iter().map(|(from, to)| stretch(*from, *to)).collect(),
    };
    Draft { parties: vec![party("31001", holds), party("31002", &[])], ..draft(&[], ended) }
}

#[test]
fn what_came_while_a_call_was_on_hold_is_left_out_where_it_is_to_be_so() {
    let draft = held(&[(2_000, Some(5_250))], 10_000);
    let kept = planned(captured(&(0..0)), &draft);
    assert_eq!((gaps(&kept), kept.packets()), (Vec::new(), 500));
    // All of it was captured; some of it was lost; the recorder changed in it.
    for but in [0..0, 120..130, 150..200, 100..250] {
        let plan = skipped(captured(&but), &draft);
        assert_eq!(gaps(&plan), [(2_000, 5_000, GapCause::Hold)], "{but:?}");
        assert_eq!((plan.packets(), plan.total.as_millis()), (350, 10_000), "{but:?}");
        assert_eq!((plan.segments[0].census.lost, plan.quality.lossratio), (0, 0.0), "{but:?}");
    }
}

#[test]
fn a_hold_with_which_a_call_ends_or_begins_is_as_long_as_it_was() {
    let draft = held(&[(0, Some(1_250)), (4_000, None)], 10_500);
    let plan = skipped(captured(&(0..0)), &draft);
    assert_eq!(gaps(&plan), [(0, 1_000, GapCause::Hold), (4_000, 10_500, GapCause::Hold)]);
    assert_eq!((plan.packets(), plan.started, plan.ended), (150, at(0), at(ms(10_500))));
}

#[test]
fn a_pause_in_a_hold_is_told_as_a_pause() {
    let pauses = draft(&[(3_000, Some(4_000))], 10_000).pauses;
    let draft = Draft { pauses, ..held(&[(2_000, Some(5_250))], 10_000) };
    let expected = [
        (2_000, 3_000, GapCause::Hold),
        (3_000, 4_000, GapCause::Paused),
        (4_000, 5_000, GapCause::Hold),
    ];
    assert_eq!(gaps(&skipped(captured(&(150..200)), &draft)), expected);
}

#[test]
fn what_a_sender_counts_beside_what_was_left_out_is_not_lost() {
    let report = |index: &mut Index, number: u32| {
        let mut capture = Capture::default();
        let report = super::report::tests::report(1, number * 160, number);
        capture.report(ms(i64::from(number) * 20), &report);
        capture.entries(|entry| index.entry(entry));
    };
    for hold in [(0, Some(4_250)), (6_000, None)] {
        let mut index = captured(&(0..0));
        report(&mut index, 1);
        report(&mut index, 499);
        let plan = skipped(index, &held(&[hold], 10_000));
        assert_eq!(plan.segments[0].census.lost, 0, "{hold:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Outside of holds every packet lies where it lay, all of it; inside nothing is.
    #[test]
    fn audio_outside_of_holds_is_untouched(
        mut edges in prop::collection::vec(0..10_000i64, 0..8),
        lost in prop::collection::btree_set(1..499u32, 0..40),
    ) {
        edges.sort_unstable();
        let pairs = edges.chunks_exact(2).filter(|pair| pair[0] < pair[1]);
        let holds: Vec<_> = pairs.map(|pair| (pair[0], Some(pair[1]))).collect();
        let draft = held(&holds, 10_000);
        let missing: Vec<_> = lost.iter().copied().collect();
        let index = captured_but(|number| missing.contains(&number));
        let whole = planned(index.clone(), &draft);
        let left_out = index.left_out(&draft, true);
        let is_left_out = |position: u32| {
            let wall = at(ms(i64::from(position) / 8));
            left_out.iter().any(|one| one.from <= wall && wall < one.to)
        };
        let kept: Vec<_> =
            whole.placed.iter().filter(|placed| !is_left_out(placed.position)).copied().collect();
        prop_assume!(!kept.is_empty());
        let plan = skipped(index, &draft);
        let places = |placed: &[Placed]| -> Vec<_> {
            placed.iter().map(|one| (one.ordinal, one.position, one.skip, one.take)).collect()
        };
        prop_assert_eq!(places(&plan.placed), places(&kept));
        prop_assert_eq!(plan.total, whole.total);
        // Where no audio is, that is declared, once, in order.
        let mut at = 0;
        for gap in &plan.gaps {
            prop_assert!(gap.from.0 >= at && gap.to > gap.from, "{:?}", plan.gaps);
            at = gap.to.0;
        }
        let declared: u64 = plan.gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
        prop_assert_eq!(declared + plan.packets() as u64 * 160, plan.total.0);
    }
}
