//! Hostile surroundings: an AES that sends noise, refuses or forgets, phantoms that go deaf or are
//! taken away, media that comes late, twice or from elsewhere. Whatever happens, each call's audio
//! is in a file or in a declared gap, and a person is told what he must look at.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod link;
mod media;
mod noise;
mod phantoms;
mod traffic;

use std::time::Duration;

use common::{Bench, LIMIT};
use simulator::SiteConfig;
use tokio::time::{Instant, sleep};

/// A site whose AES grants sessions of so few seconds, so that tests can outlast them.
fn short_sessions(agents: usize, seconds: u32) -> SiteConfig {
    let mut config = SiteConfig::demo(agents, 1);
    config.aes[0].session_seconds_max = seconds;
    config
}

/// Replaces a text in the node's configuration.
fn edit(bench: &Bench, from: &str, to: &str) {
    let path = bench.node.config_path();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).expect("writable");
}

/// Waits until nothing is being recorded or sealed any more and no call is up. A recording on its
/// way to the sealer is counted nowhere for a moment, so it must be so for some time.
async fn settled(bench: &Bench) {
    let deadline = Instant::now() + LIMIT;
    let mut quiet = 0;
    while quiet < 6 {
        let metrics = bench.node.metrics().await.unwrap_or_default();
        let value = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
        let busy = value("astlogger_recordings_active") + value("astlogger_seal_queue");
        quiet = if busy == 0.0 && bench.site.calls().is_empty() { quiet + 1 } else { 0 };
        assert!(Instant::now() < deadline, "{:?}; {}", bench.site.calls(), bench.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
}

/// The same, and ends the node, which seals all that there is.
async fn ended(bench: &mut Bench) {
    settled(bench).await;
    bench.node.stop(LIMIT).await.expect("an orderly end");
}

/// Waits until something holds.
async fn until(bench: &Bench, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not so: {what}; {}", bench.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
}
