//! People who telephone by themselves: every call placed comes to its end, in every mix.

use simulator::{Kind, Mix, Site, SiteConfig, TrafficPlan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_comes_to_its_end() {
    let site = Site::start(SiteConfig::demo(20, 1)).await.unwrap();
    let plan = TrafficPlan {
        calls: 60,
        concurrent: 8,
        seed: 3,
        mix: Mix([2; 9]),
        talk_ms: (100, 250),
        ring_ms: 5,
        pace_ms: 5,
        linger_ms: (5, 20),
        dial: String::new(),
    };
    let outcome = site.run_traffic(plan).wait().await;
    assert_eq!(outcome.begun.len(), 60);
    assert_eq!(outcome.given_up, 0);
    assert_eq!(outcome.refused_steps, []);
    for kind in Kind::ALL {
        let mut of_kind = outcome.begun.iter().filter(|(_, other)| **other == kind);
        let serial = of_kind.next().map(|(serial, _)| *serial);
        let serial = serial.unwrap_or_else(|| panic!("no {kind:?} in the mix"));
        assert_eq!(outcome.answered.contains(&serial), kind != Kind::Abandoned, "{kind:?}");
    }
    assert_eq!(site.calls(), []);
    let history = site.history();
    let merged = history.iter().filter(|call| call.merged_into.is_some()).count();
    assert!(merged > 0);
    assert_eq!(history.len(), 60 + merged, "a consultation is a call of its own until the merge");
    assert!(site.stuck_phantoms().is_empty());
    site.stop().await;
}
