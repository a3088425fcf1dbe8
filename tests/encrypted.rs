//! Encrypted media over real sockets: the switch chooses, sends keys and encrypts with code of its
//! own, and every 20 ms is looked for in the files on disk. The keys must be nowhere.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Bench, LIMIT};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use simulator::{KeyText, SiteConfig, Switches};
use storage_core::record::GapCause;
use tokio::time::sleep;

const HMAC80: &str = "1-srtp-aescm128-hmac80";
const HMAC32: &str = "2-srtp-aescm128-hmac32";
const AUTHENTICATION: &str = "astlogger_srtp_refused_total{reason=\"authentication\"}";

/// What the node offers, what the switch allows, how it writes keys, and whether the media is
/// encrypted.
const AGREEMENTS: [(&str, &[&str], KeyText, bool); 6] = [
    ("\"srtp-aescm128-hmac80\"", &[HMAC80], KeyText::Hex, true),
    ("\"srtp-aescm128-hmac32\"", &[HMAC32], KeyText::Base64, true),
    ("\"aes\"", &["aes"], KeyText::Base64, true),
    // The switch's order counts.
    ("\"none\", \"aes\", \"srtp-aescm128-hmac80\"", &[HMAC32, HMAC80, "none"], KeyText::Hex, true),
    ("\"srtp-aescm128-hmac80\", \"none\"", &["none"], KeyText::Hex, false),
    ("\"none\"", &[HMAC80, "none"], KeyText::Hex, false),
];

fn site(allowed: &[&str], change: impl FnOnce(&mut Switches)) -> SiteConfig {
    let mut config = SiteConfig::demo(2, 1);
    config.switches.encryption = allowed.iter().map(ToString::to_string).collect();
    change(&mut config.switches);
    config
}

/// A site with SRTP, whose switch behaves as `change` says.
async fn srtp(change: impl FnOnce(&mut Switches)) -> Bench {
    let settings = "al_mediaencryption = [\"srtp-aescm128-hmac80\"]\n";
    let mut bench = Bench::prepare(site(&[HMAC80], change), settings).await;
    bench.node.log_at("trace");
    bench.started().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_agreement_gives_one_file_with_every_frame() {
    for (offered, allowed, text, encrypted) in AGREEMENTS {
        let settings = format!("al_mediaencryption = [{offered}]\n");
        let config = site(allowed, |switches| {
            (switches.key_text, switches.report_packets) = (text, 10);
        });
        let bench = Bench::start_with(config, &settings).await;
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 80).await;
        bench.site.switch().hangup_all(call);
        let published = bench.published(1).await;
        let verdict = bench.assert_right();
        assert_eq!((verdict.calls, verdict.packets_in_declared_gaps), (1, 0), "{offered}");
        assert!(published[0].1.gaps.is_empty(), "{offered}: {:?}", published[0].1.gaps);
        assert_eq!(!bench.site.media_secrets().is_empty(), encrypted, "{offered}");
        let metrics = bench.node.metrics().await.expect("a page");
        let mut refused = metrics.iter().filter(|(name, _)| {
            name.starts_with("astlogger_srtp_refused")
                || name.starts_with("astlogger_rtp_malformed")
        });
        assert!(refused.clone().count() > 1, "{metrics:?}");
        assert!(refused.all(|(_, count)| *count == 0.0), "{offered}: {metrics:?}");
        assert_untold(&bench);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_in_mid_call_and_no_frame_is_lost() {
    // The event comes after the first packets under its keys, and packets under the keys before
    // after it.
    let bench = srtp(|switches| switches.media_event_delay_ms = 60).await;
    bench.site.faults().rtp(|rtp| {
        (rtp.duplicate, rtp.reorder, rtp.delay_ms, rtp.jitter_ms) = (0.1, 0.1, 10, 120);
    });
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    for frames in [60, 120, 180] {
        bench.frames(call, frames).await;
        let view = bench.site.switch().call(call).expect("it is up");
        bench.site.faults().change_keys(view.recorders()[0]);
    }
    bench.frames(call, 240).await;
    assert_untold(&bench);
    bench.site.switch().hangup("31001").expect("it is in the call");
    sleep(Duration::from_millis(300)).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
    // Four keys and four salts, in each direction.
    assert_eq!(bench.site.media_secrets().len(), 16);
    bench.metric(AUTHENTICATION, |count| count == 0.0).await;
    bench.metric("astlogger_srtp_refused_total{reason=\"replay\"}", |count| count > 0.0).await;
    assert_untold(&bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_rolled_over_is_joined_and_followed() {
    let bench = srtp(|switches| {
        switches.rtp_first_index = Some((3 << 16) + 65_500);
        switches.media_event_delay_ms = 500;
    })
    .await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 120).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_that_starts_anew_after_a_hold_has_new_keys() {
    let bench = srtp(|switches| {
        (switches.media_restart_on_hold, switches.media_event_delay_ms) = (true, 40);
    })
    .await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    bench.site.switch().hold("31001").expect("an active call");
    bench.frames(call, 120).await;
    bench.site.switch().retrieve("31001").expect("a held call");
    bench.frames(call, 180).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.packets_in_declared_gaps), (1, 0), "{verdict:?}");
    // Three keys and three salts, in each direction.
    assert_eq!(bench.site.media_secrets().len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_media_is_counted_and_changes_no_frame() {
    let bench = srtp(|_| {}).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    let view = bench.site.switch().call(call).expect("it is up");
    bench.site.faults().forged_rtp(view.recorders()[0], 50);
    bench.frames(call, 120).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
    bench.metric(AUTHENTICATION, |count| count >= 50.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_decrypted_is_missed_and_said_to_be() {
    let bench = srtp(|_| {}).await;
    bench.site.faults().lose_events(0, "MediaStartEvent", 1_000);
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.metric("astlogger_alarms{alarm=\"callnotrecorded\"}", |raised| raised >= 1.0).await;
    let log = std::fs::read_to_string(bench.node.log_path()).expect("a log");
    assert!(log.contains("can be decrypted") && log.contains("no keys are known"), "{log}");
    bench.site.switch().hangup_all(call);
    bench.metric("astlogger_calls_missed_total{reason=\"nomedia\"}", |count| count == 1.0).await;
    bench.metric("astlogger_srtp_refused_total{reason=\"nokeys\"}", |count| count >= 100.0).await;
    bench.metric("astlogger_rtp_packets_total", |count| count == 0.0).await;
    assert_eq!(bench.node.recordings().expect("readable").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_and_restart_the_call_goes_on_under_new_keys() {
    let mut bench = srtp(|_| {}).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 100).await;
    bench.node.kill().await.expect("it runs");
    assert_untold(&bench);
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    bench.recorded(call).await;
    let frames = bench.site.switch().call(call).expect("it is up").frames;
    bench.frames(call, frames + 100).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.calls_recorded), (1, 1), "{verdict:?}");
    let (_, record) = &published[0];
    assert!(record.segments.len() >= 2, "{record:#?}");
    assert!(record.gaps.iter().any(|gap| gap.cause == GapCause::Takeover), "{:?}", record.gaps);
    assert_untold(&bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_keys_leaves_no_core_file() {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).expect("a limit");
    assert!(hard > 0, "core files are forbidden here, so this test shows nothing");
    setrlimit(Resource::RLIMIT_CORE, hard, hard).expect("the soft limit may be raised");
    let bench = srtp(|_| {}).await;
    let pid = bench.node.pid().expect("it runs");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("Linux");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("named");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// No key and no salt that the switch gave out is in any file of the node, in any writing.
fn assert_untold(bench: &Bench) {
    // By their first bytes, because the files are long.
    let mut by_first: [Vec<Vec<u8>>; 256] = std::array::from_fn(|_| Vec::new());
    for writing in bench.site.media_secrets().iter().flat_map(|raw| writings(raw)) {
        by_first[usize::from(writing[0])].push(writing);
    }
    let folder = bench.node.log_path().parent().expect("a folder").to_owned();
    let mut files = Vec::new();
    list(&folder, &mut files);
    assert!(files.contains(&bench.node.log_path()), "{files:?}");
    for file in files {
        // A file may go while this looks.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for (at, byte) in bytes.iter().enumerate() {
            let mut here = by_first[usize::from(*byte)].iter();
            let found = here.any(|writing| bytes[at..].starts_with(writing));
            assert!(!found, "a key is in {} at {at}", file.display());
        }
    }
}

/// Raw, hexadecimal, Base64 without its end, and as `Debug` prints an array.
fn writings(raw: &[u8]) -> Vec<Vec<u8>> {
    let hex = raw.iter().fold(String::new(), |mut all, byte| {
        write!(all, "{byte:02x}").expect("a string takes it");
        all
    });
    let list = format!("{raw:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let base64 = simulator::base64_text(raw);
    let base64 = base64.trim_end_matches('=').to_owned();
    let texts = [hex.to_uppercase(), hex, list, base64];
    texts.into_iter().map(String::into_bytes).chain([raw.to_vec()]).collect()
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { list(&path, into) } else { into.push(path) }
    }
}

/// What hears a station in all its calls: a registration there, one for each side, an observer.
const LISTENING: [&str; 3] = [
    "al_method = \"mr\"\n",
    "al_method = \"mr\"\nal_stereo = true\n",
    "al_method = \"so\"\nal_observecode = \"*55\"\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_listens_at_a_station_decrypts_each_call_of_it() {
    for method in LISTENING {
        let settings = format!("al_mediaencryption = [\"srtp-aescm128-hmac80\"]\n{method}");
        let mut config = site(&[HMAC80], |_| {});
        if method.contains("al_observecode") {
            config.phantoms[0].extensions = "78001-78002".to_owned();
        }
        let bench = Bench::start_with(config, &settings).await;
        bench.metric("astlogger_phantoms{state=\"free\"}", |free| free == 2.0).await;
        for (round, caller) in (1..).zip(["5551230001", "5551230002"]) {
            let call = bench.answered_call(caller, "31001").await;
            bench.metric("astlogger_recordings_active", |count| count == 1.0).await;
            bench.frames(call, 60).await;
            bench.site.switch().hold("31001").expect("an active call");
            bench.frames(call, 100).await;
            bench.site.switch().retrieve("31001").expect("a held call");
            bench.frames(call, 160).await;
            bench.site.switch().hangup_all(call);
            bench.published(round).await;
        }
        let verdict = bench.assert_right();
        assert_eq!((verdict.calls, verdict.packets_unaccounted), (2, 0), "{method}: {verdict:?}");
        bench.metric(AUTHENTICATION, |count| count == 0.0).await;
        assert_untold(&bench);
    }
}
