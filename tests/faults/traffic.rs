//! People who telephone at random while small things go wrong all the time.

use std::time::Duration;

use simulator::config::Survivor;
use simulator::{Mix, SiteConfig, TrafficPlan};
use tokio::time::sleep;

use crate::common::Bench;
use crate::ended;

async fn traffic(seed: u64, odd: bool) {
    let mut config = SiteConfig::demo(16, 1);
    config.seed = Some(seed);
    if odd {
        config.switches.merge_call_id = Survivor::Active;
        config.switches.media_restart_on_merge = true;
        config.switches.events_before_response = true;
    }
    let mut bench = Bench::start_with(config, "").await;
    let faults = bench.site.faults();
    // Nobody can know of a packet that was lost before the first or after the last one heard, so
    // losses have tests of their own.
    faults.rtp(|rtp| rtp.duplicate = 0.05);
    faults.wire(0, |wire| (wire.piece_len, wire.request_delay_ms) = (100, 5));
    let plan = TrafficPlan {
        calls: 28,
        concurrent: 8,
        seed,
        mix: Mix([6, 4, 3, 3, 4, 4, 3, 2, 2]),
        talk_ms: (1000, 3000),
        ..TrafficPlan::default()
    };
    let traffic = bench.site.run_traffic(plan);
    sleep(Duration::from_secs(2)).await;
    faults.refuse_joins(0, 2);
    sleep(Duration::from_secs(2)).await;
    faults.cut_aes(0, Duration::from_millis(200));
    let outcome = traffic.wait().await;
    assert!(outcome.answered.len() > 15, "{outcome:?}");
    ended(&mut bench).await;
    // A call of a moment may be over before a phantom gets in; what was sent must be there.
    let verdict = bench.judge_by(|call| call.answered && !call.streams.is_empty());
    assert!(verdict.is_right(), "seed {seed}: {verdict:#?}\n{}", bench.log_tail());
    assert_eq!(bench.site.party_limit_refusals(), 0, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_traffic_with_mild_faults_is_recorded() {
    traffic(11, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_traffic_on_a_switch_of_other_habits_is_recorded() {
    traffic(12, true).await;
}
