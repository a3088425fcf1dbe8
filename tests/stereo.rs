//! Two channels for each call: each station is registered twice, for each side of its calls, with the real
//! recorder against the simulated switch. Every 20 ms of each side must be on its channel or in a gap
//! that is declared of it.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Bench, LIMIT};
use simulator::SiteConfig;
use simulator::tone::{self, Law, Part};
use storage_core::Recording;
use storage_core::record::{Gap, GapCause, Side};

const STEREO: &str = "al_method = \"mr\"\nal_stereo = true\n";
const BOTH: [Option<Side>; 2] = [Some(Side::Agent), Some(Side::Others)];

impl Bench {
    /// Waits until so many recordings are in progress.
    async fn recordings(&self, count: f64) {
        self.metric("astlogger_recordings_active", |active| active == count).await;
    }

    /// Waits until the recorder has heard so much more of all sides of all calls.
    async fn hears_on(&self, packets: f64) {
        let so_far = self.metric("astlogger_rtp_packets_total", |_| true).await;
        self.metric("astlogger_rtp_packets_total", |count| count >= so_far + packets).await;
    }

    /// Path and record of the call from this number.
    fn of(&self, caller: &str) -> (std::path::PathBuf, Recording) {
        let published = self.node.recordings().expect("records can be read");
        let found = published.into_iter().find(|(_, record)| record.calling == caller);
        found.unwrap_or_else(|| panic!("no record of {caller}; {}", self.log_tail()))
    }
}

/// Device and side of each segment.
fn heard_by(record: &Recording) -> Vec<(&str, Option<Side>)> {
    let segments = record.segments.iter();
    segments.map(|segment| (segment.phantom.as_str(), segment.side)).collect()
}

fn causes(record: &Recording) -> Vec<(GapCause, Option<Side>)> {
    record.gaps.iter().map(|gap| (gap.cause, gap.side)).collect()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    output
}

fn channels_by_ffprobe(path: &Path) -> String {
    let path = path.to_str().expect("a plain path");
    let entries = ["-v", "error", "-show_entries", "stream=channels", "-of", "csv=p=0", path];
    String::from_utf8_lossy(&run("ffprobe", &entries).stdout).trim().to_owned()
}

/// Time codes on a channel as sox takes it out of the file.
fn codes_by_sox(path: &Path, channel: &str) -> Vec<tone::Code> {
    let path = path.to_str().expect("a plain path");
    let output =
        run("sox", &["-D", path, "-t", "raw", "-e", "a-law", "-b", "8", "-", "remix", channel]);
    tone::scan(Law::A, &output.stdout).into_iter().map(|(_, code)| code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_left_and_everybody_else_right_through_hold_and_transfer() {
    let bench = Bench::start_with(SiteConfig::demo(6, 1), STEREO).await;
    let switch = bench.site.switch();
    let held = bench.answered_call("5551230001", "31001").await;
    let handed = bench.answered_call("5551230002", "31003").await;
    bench.recordings(2.0).await;
    bench.frames(held, 60).await;
    switch.hold("31001").expect("an active call");
    bench.frames(held, 120).await;
    switch.retrieve("31001").expect("a held call");
    let consultation = switch.consult("31003", "31004").expect("an active call");
    assert!(switch.wait_alerting(consultation, LIMIT).await.is_some());
    switch.answer("31004").expect("it rings");
    bench.recordings(3.0).await;
    bench.frames(consultation, 50).await;
    switch.transfer("31003").expect("a held and an active call");
    bench.recordings(2.0).await;
    bench.hears_on(200.0).await;
    for call in [held, handed] {
        let view = switch.call(call).expect("it is up");
        assert!(view.recorders().is_empty(), "a registration is no party: {view:?}");
        switch.hangup_all(call);
    }
    let published = bench.published(3).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (3, 0), "{verdict:?}");
    assert!(verdict.packets_in_files > 2 * 300, "both sides count: {verdict:?}");

    let (_, record) = bench.of("5551230001");
    let twice = [BOTH, BOTH].concat().into_iter().map(|side| ("31001", side));
    assert_eq!(heard_by(&record), twice.collect::<Vec<_>>(), "{record:#?}");
    assert_eq!(causes(&record), [(GapCause::Hold, None)], "{record:#?}");
    assert!(record.complete);
    let (_, record) = bench.of("5551230002");
    let devices = ["31003", "31003", "31004", "31004"].into_iter().zip([BOTH, BOTH].concat());
    assert_eq!(heard_by(&record), devices.collect::<Vec<_>>(), "{record:#?}");
    assert!(record.complete);
    for (path, record) in &published {
        assert_eq!(channels_by_ffprobe(path), "2");
        assert_ne!(record.quality.oneway, Some(true), "{record:#?}");
        let sides = [("1", Part::Station), ("2", Part::Others)].map(|(channel, part)| {
            let codes = codes_by_sox(path, channel);
            assert!(codes.len() >= 40, "{} frames on channel {channel}", codes.len());
            assert!(codes.iter().all(|code| code.part == part), "channel {channel}");
            codes.len()
        });
        assert!(sides[0].abs_diff(sides[1]) <= 3, "{sides:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_never_heard_is_one_way() {
    let bench = Bench::start_with(SiteConfig::demo(2, 1), STEREO).await;
    bench.site.faults().hush("31001", Part::Others);
    let silent = bench.answered_call("5551230001", "31001").await;
    let both = bench.answered_call("5551230002", "31002").await;
    bench.recordings(2.0).await;
    // Of 3.84 s each side speaks for half, and pauses; five seconds of it are needed.
    for call in [silent, both] {
        bench.frames(call, 900).await;
        bench.site.switch().hangup_all(call);
    }
    bench.published(2).await;
    bench.assert_right();
    assert_eq!(bench.of("5551230001").1.quality.oneway, Some(true));
    assert_eq!(bench.of("5551230002").1.quality.oneway, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_socket_makes_no_hole_on_either_side() {
    let bench = Bench::start_with(SiteConfig::demo(2, 1), STEREO).await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recordings(1.0).await;
    bench.hears_on(50.0).await;
    bench.site.faults().cut_aes(0, Duration::from_secs(2));
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    bench.hears_on(100.0).await;
    bench.metric("astlogger_aes_up", |up| up == 1.0).await;
    bench.hears_on(200.0).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_in_declared_gaps), (1, 0), "{verdict:?}");
    assert_eq!(published[0].1.segments.len(), 2, "{published:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_aes_leaves_one_declared_hole_on_both_sides() {
    let bench = Bench::start_with(SiteConfig::demo(2, 1), STEREO).await;
    let calls = [
        bench.answered_call("5551230001", "31001").await,
        bench.answered_call("5551230002", "31002").await,
    ];
    bench.recordings(2.0).await;
    bench.hears_on(200.0).await;
    bench.site.faults().restart_aes(0, Duration::from_secs(1));
    bench.metric("astlogger_aes_up", |up| up == 0.0).await;
    bench.metric("astlogger_aes_up", |up| up == 1.0).await;
    bench.metric("astlogger_phantoms{state=\"recording\"}", |count| count == 2.0).await;
    bench.hears_on(300.0).await;
    for call in calls {
        bench.site.switch().hangup_all(call);
    }
    let published = bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (2, 0), "{verdict:?}");
    for (_, record) in &published {
        assert_eq!(record.segments.len(), 4, "{record:#?}");
        assert!(record.gaps.iter().any(|gap| gap.side.is_none()), "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_and_restart_both_sides_go_on_in_the_same_recording() {
    let mut bench = Bench::start_with(SiteConfig::demo(2, 1), STEREO).await;
    let stays = bench.answered_call("5551230001", "31001").await;
    let ends = bench.answered_call("5551230002", "31002").await;
    bench.recordings(2.0).await;
    bench.hears_on(400.0).await;
    bench.node.kill().await.expect("it runs");
    bench.site.switch().hangup_all(ends);
    let frames = bench.site.switch().call(stays).expect("it is up").frames;
    bench.frames(stays, frames + 50).await;
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("the node becomes ready");
    bench.recordings(1.0).await;
    bench.hears_on(200.0).await;
    bench.site.switch().hangup_all(stays);
    bench.published(2).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls, verdict.calls_recorded), (2, 2), "{verdict:?}");
    assert_eq!(verdict.packets_unaccounted, 0, "{verdict:?}");
    let (_, record) = bench.of("5551230001");
    let twice = [BOTH, BOTH].concat().into_iter().map(|side| ("31001", side));
    assert_eq!(heard_by(&record), twice.collect::<Vec<_>>(), "{record:#?}");
    assert!(causes(&record).contains(&(GapCause::Takeover, None)), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_side_cannot_be_registered_the_other_is_recorded() {
    let mut bench = Bench::prepare(SiteConfig::demo(1, 1), STEREO).await;
    bench.site.faults().refuse_registrations(0, 1);
    bench.node.start().expect("the node starts");
    bench.node.ready(LIMIT).await.expect("one side is registered");
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recordings(1.0).await;
    bench.hears_on(250.0).await;
    bench.site.switch().hangup_all(call);
    let published = bench.published(1).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.packets_unaccounted), (1, 0), "{verdict:?}");
    let (path, record) = &published[0];
    assert_eq!(channels_by_ffprobe(path), "2");
    let missing = heard_by(record);
    assert_eq!(missing.len(), 1, "{record:#?}");
    let missing = if missing[0].1 == Some(Side::Agent) { Side::Others } else { Side::Agent };
    let (startms, endms) = (0, record.durationms);
    let whole = Gap { startms, endms, cause: GapCause::NoMedia, side: Some(missing) };
    assert_eq!(record.gaps, [whole], "{record:#?}");
    let log = bench.log_tail();
    assert!(log.contains(&format!("({})", missing.as_str())), "the side is named: {log}");
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_files_have_the_two_sides_as_two_channels() {
    let settings = format!("{STEREO}al_voiceformat = \"opus\"\n");
    let bench = Bench::start_with(SiteConfig::demo(1, 1), &settings).await;
    bench.site.faults().hush("31001", Part::Station);
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recordings(1.0).await;
    bench.frames(call, 250).await;
    bench.site.switch().hangup_all(call);
    let (path, record) = bench.published(1).await.remove(0);
    assert_eq!(channels_by_ffprobe(&path), "2");
    let name = path.to_str().expect("a plain path");
    let told = String::from_utf8_lossy(&run("opusinfo", &[name]).stdout).into_owned();
    assert!(told.contains("Channels: 2"), "{told}");
    let pcm = run("ffmpeg", &["-v", "error", "-i", name, "-f", "s16le", "-ar", "8000", "-"]).stdout;
    let energy = [0, 2].map(|offset| {
        let samples = pcm
            .chunks_exact(4)
            .map(|pair| f64::from(i16::from_le_bytes([pair[offset], pair[offset + 1]])));
        samples.map(|sample| sample * sample).sum::<f64>() / (pcm.len() / 4) as f64
    });
    assert!(energy[1] > 100.0 * energy[0].max(1.0), "{energy:?}");
    let length = pcm.len() as u64 / 4 / 8;
    assert!(length.abs_diff(record.durationms) <= 20, "{length} of {} ms", record.durationms);
}
