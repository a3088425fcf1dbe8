//! Bounded campaigns over the three kinds of groups, and that a seed is a run. `SIM_SEEDS=20000`
//! runs more of them; `cargo run -p sim -- SEED --trace` tells the story of one.

use sim::{Flavour, Plan, run};

fn campaign(flavour: Flavour) {
    all_keep_their_promises(2000, Plan::of, |plan| plan.flavour == flavour);
}

/// What was tried in all seeds.
#[derive(Default)]
struct Tried {
    ringed: usize,
    paused_ms: u64,
}

fn all_keep_their_promises(
    seeds: u64,
    plan: fn(u64) -> Plan,
    wanted: impl Fn(&Plan) -> bool,
) -> Tried {
    let told = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds = 0..told.unwrap_or(seeds);
    let mut tried = Tried::default();
    for seed in seeds.filter(|seed| wanted(&plan(*seed))) {
        let report = run(plan(seed), false);
        if let Some(violation) = report.violation {
            println!("seed {seed}: {:?}", violation.kind);
            let trace = run(plan(seed), true).trace;
            let last = trace.len().saturating_sub(60);
            trace[last..].iter().for_each(|line| println!("{line}"));
            panic!("{:?}: {:?}: {}", plan(seed), violation.kind, violation.what);
        }
        assert!(report.calls > 0 && report.published > 0, "seed {seed} tries nothing");
        tried.ringed += report.ringed;
        tried.paused_ms += report.paused_ms;
    }
    tried
}

#[test]
fn hot_standby_gives_one_recording_a_call() {
    campaign(Flavour::HotStandby);
}

#[test]
fn active_active_gives_two() {
    campaign(Flavour::ActiveActive);
}

#[test]
fn five_members_of_all_roles_come_and_go() {
    campaign(Flavour::MixedFive);
}

/// Only groups in which somebody stands by.
#[test]
fn with_a_ring_no_takeover_leaves_a_hole() {
    let stands_by = |plan: &Plan| plan.flavour != Flavour::ActiveActive;
    let tried = all_keep_their_promises(500, |seed| Plan::of(seed).with_rings(), stands_by);
    let ringed = tried.ringed;
    assert!(ringed > 10, "the rings of {ringed} stretches were needed: that tries nothing");
}

/// Whoever asks where: what a node was told of it obeys, over crashes, merges and lost links, and no longer than that.
#[test]
fn of_a_call_whose_pause_a_node_knows_it_keeps_nothing() {
    let tried = all_keep_their_promises(600, |seed| Plan::of(seed).with_pauses(), |_| true);
    let seconds = tried.paused_ms / 1000;
    assert!(seconds > 3600, "only {seconds} s were discarded: that tries nothing");
}

#[test]
fn what_was_mirrored_of_a_recorder_that_is_lost_is_published() {
    all_keep_their_promises(600, Plan::losing, |_| true);
}

/// Seeds that once found something.
#[test]
fn a_mirror_that_grew_after_its_owner_s_part_was_sealed_is_published_once_that_has_left() {
    let report = run(Plan::losing(2237).with_rings(), false);
    assert_eq!(report.violation, None);
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 4, 7] {
        let (one, other) = (run(Plan::of(seed), true), run(Plan::of(seed), false));
        assert_eq!((one.print, one.steps), (other.print, other.steps), "seed {seed}");
        assert!(other.trace.is_empty() && !one.trace.is_empty());
    }
}
