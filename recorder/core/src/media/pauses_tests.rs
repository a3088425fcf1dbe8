//! Pauses, whether or not something was captured in them.

use std::ops::Range;

use storage_core::draft::{Pause, Stretch};
use storage_core::record::GapCause;
use storage_core::{Draft, NodeId, RecordingId};

use super::rtp::tests::packet;
use super::tests::{Capture, SWITCH, at};
use super::{Index, Plan};

/// A packet each 20 ms.
const PACKETS: u32 = 500;

fn ms(ms: i64) -> i64 {
    ms * 1000
}

/// A call of ten seconds, captured but for these packets.
fn captured(but: &Range<u32>) -> Index {
    let mut capture = Capture::default();
    capture.open(1, 0).terms(1, SWITCH, "g711a");
    for number in (0..PACKETS).filter(|number| !but.contains(number)) {
        let seq = u16::try_from(number).unwrap();
        let datagram = packet(1, seq, number * 160, 8, false, &[b'a'; 160]);
        capture.from(SWITCH, 1, ms(i64::from(number) * 20), &datagram);
    }
    let mut index = Index::new();
    capture.entries(|entry| index.entry(entry));
    index
}

fn draft(pauses: &[(i64, Option<i64>)], ended: i64) -> Draft {
    let pause = |(from, to): &(i64, Option<i64>)| {
        let stretch = Stretch { from: at(ms(*from)), to: to.map(|to| at(ms(to))) };
        Pause { id: None, stretch, until: at(ms(300_000)), by: "susan".to_owned(), resumed: None }
    };
    let id = RecordingId::new(at(0), [7; 10]);
    Draft {
        pauses: pauses.iter().map(pause).collect(),
        ended: Some(at(ms(ended))),
        ..Draft::blank(id, NodeId(1), at(0))
    }
}

fn planned(mut index: Index, draft: &Draft) -> Plan {
    index.leave_out_pauses(draft);
    let mut plan = index.plan().unwrap();
    plan.declare_pauses(draft).unwrap();
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
