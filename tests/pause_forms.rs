//! Pauses in each form in which audio comes and is kept: on two channels, as G.729, encrypted on the wire, encrypted on
//! the disk of each recorder and its mirror, as Opus. Who speaks in the pause does so in tones of their own: their
//! packets are in no file, capture, mirror or memory, and their tones in no voice file as `ffmpeg` decodes it.

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use astlogger::demo::Published;
use common::forms::{Form, Running, TWO_SIDES};
use common::group::ONE;
use common::keys::decrypted;
use common::pauses::{NEAR, assert_declared, pause, resume};
use common::pitch::{
    AFTER, BEFORE, LEVEL, PAUSED, SILENT, UNHEARD, WINDOW, channels, hush, level_of, loudness, say,
};
use common::traces::{Frame, Traces};
use simulator::tone::Part;
use storage::Keys;
use storage_core::Recording;
use tempfile::TempDir;

/// Frames of a call before, in and after a pause: 1.2 s.
const SOME: u32 = 60;
/// Frames of silence in which a codec forgets what was said before: 200 ms.
const HUSHED: u32 = 10;
/// Samples around a pause's ends that may be of either side.
const EDGE: usize = 640;

/// A running group that records in a form.
struct Pausing<'a> {
    form: &'a Form,
    running: Running,
}

impl Pausing<'_> {
    /// Frames whose packets are in the captures and mirrors that are not sealed, decrypted.
    fn captured(&self, traces: &Traces) -> BTreeSet<Frame> {
        let mut found = BTreeSet::new();
        for (at, node) in self.form.recorders().iter().enumerate() {
            let key = self.running.keys.get(at).map(|file| Keys::load(file).expect("a key file"));
            let data = self.running.bench.group.members[node].node.data_dir();
            found.extend(traces.in_captures(&data, *node, &key.unwrap_or_default()));
        }
        found
    }

    /// The same of all files of all members as they are, and of their memory.
    fn lying(&self, traces: &Traces) -> BTreeSet<Frame> {
        let nodes = self.running.bench.group.members.values().map(|member| &member.node);
        nodes.flat_map(|node| traces.below(&node.data_dir())).collect()
    }

    fn in_memory(&self, traces: &Traces) -> BTreeSet<Frame> {
        let pids = self.running.bench.group.members.values().filter_map(|member| member.node.pid());
        pids.flat_map(|pid| traces.in_memory(pid)).collect()
    }

    /// What is published, in the clear.
    fn voices(&self, out: &TempDir) -> Vec<Published> {
        let published = self.running.bench.recordings();
        if self.running.keys.is_empty() {
            return published;
        }
        let keys: Vec<_> = self.running.keys.iter().map(PathBuf::as_path).collect();
        decrypted(&published, &keys, out.path())
    }

    /// One call with a pause, from its begin to its file.
    async fn goes_through(&self) {
        let (bench, site) = (&self.running.bench, &self.running.bench.group.site);
        site.faults().keep_sent();
        say(site, BEFORE);
        let call = bench.call(0).await;
        for node in self.form.recorders() {
            bench.metric(*node, "astlogger_recordings_active", |count| count == 1.0).await;
        }
        bench.go_on(&[call], SOME).await;
        let mut cti = bench.cti(ONE, "supervisor").await;
        let frames = || site.switch().call(call).expect("it is up").frames;
        pause(&mut cti, "31001").await;
        let from = frames() + NEAR;
        say(site, PAUSED);
        bench.go_on(&[call], SOME).await;
        let traces = Traces::of(&site.sent());
        let all = from..u32::MAX;
        assert_absent(&self.in_memory(&traces), &all, "memory");
        assert_absent(&self.lying(&traces), &all, "files");
        assert_absent(&self.captured(&traces), &all, "captures");
        // Of a tone that it does not hear begin G.729 makes one of any level, so it begins behind the pause.
        hush(site);
        bench.go_on(&[call], HUSHED).await;
        let to = frames();
        let lasted = resume(&mut cti, "31001").await;
        say(site, AFTER);
        bench.go_on(&[call], SOME).await;
        let traces = Traces::of(&site.sent());
        let paused = from..to;
        let captured = self.captured(&traces);
        assert_absent(&captured, &paused, "captures");
        assert_absent(&self.lying(&traces), &paused, "files");
        for part in self.form.parts() {
            for heard in [20..SOME, to + NEAR + 5..to + SOME - 20] {
                let lacks = heard.clone().find(|frame| !captured.contains(&(*part, *frame)));
                assert_eq!(lacks, None, "{part:?} of {heard:?} is not captured: {captured:?}");
            }
        }
        bench.hang_up(&[call]);
        bench.published(self.form.recorders().len()).await;
        bench.quiet().await;
        assert_absent(&self.lying(&traces), &paused, "files");
        let out = TempDir::new().expect("a folder");
        for (path, record) in self.voices(&out) {
            assert_declared(&record, "supervisor", lasted.saturating_sub(100)..lasted + 100);
            let sides = channels(&path, self.form.parts().len());
            for (samples, part) in sides.iter().zip(self.form.parts()) {
                assert_heard(samples, *part, &record, self.form.apart_max());
            }
        }
    }
}

/// Nothing of these frames is among the others.
#[track_caller]
fn assert_absent(found: &BTreeSet<Frame>, paused: &Range<u32>, what: &str) {
    let heard: Vec<_> = found.iter().filter(|(_, frame)| paused.contains(frame)).collect();
    assert!(heard.is_empty(), "{what}: {heard:?} of {paused:?}");
}

/// On a channel the part's tones are heard before and after the pause, in it nothing, and its tones nowhere.
#[track_caller]
fn assert_heard(samples: &[i16], part: Part, record: &Recording, apart_max: f64) {
    let at = part as usize;
    let ends = [record.pauses[0].startms, record.pauses[0].endms];
    let [from, to] = ends.map(|ms| usize::try_from(ms * 8).expect("short"));
    let level = |range: Range<usize>, hertz| {
        samples[range].chunks_exact(WINDOW).map(move |window| level_of(window, hertz))
    };
    for (range, hertz) in [(2_400..from - EDGE, BEFORE[at]), (to + EDGE..to + 6_400, AFTER[at])] {
        let levels: Vec<_> = level(range, hertz).collect();
        assert!(levels.len() >= 5, "{levels:?}: {record:#?}");
        let apart = levels.iter().map(|level| (level - LEVEL).abs()).fold(0.0, f64::max);
        assert!(apart < apart_max, "{part:?}, {hertz} Hz: {levels:?} instead of {LEVEL}");
    }
    let silence = &samples[from + EDGE..to - EDGE];
    assert!(silence.len() > 4_000 && loudness(silence) < SILENT, "{}", loudness(silence));
    for (start, window) in samples.windows(WINDOW).enumerate().step_by(WINDOW / 4) {
        for hertz in PAUSED {
            let found = level_of(window, hertz);
            assert!(found < UNHEARD, "{part:?}: {hertz} Hz at {} ms: {found}", start / 8);
        }
    }
}

async fn stays_unheard(form: Form) {
    let running = form.start().await;
    Pausing { form: &form, running }.goes_through().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_call_are_silent_in_a_pause() {
    stays_unheard(Form { settings: TWO_SIDES, ..Form::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_silent_encrypted_on_the_wire_and_on_the_disk() {
    stays_unheard(Form { settings: TWO_SIDES, srtp: true, keys: true, ..Form::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_recorders_with_keys_and_their_mirrors_have_nothing_of_a_pause() {
    stays_unheard(Form { twice: true, keys: true, ..Form::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_recorders_with_keys_have_nothing_of_a_pause_in_encrypted_g729() {
    let codec = Some("g729a");
    stays_unheard(Form { twice: true, keys: true, srtp: true, codec, ..Form::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_g729_is_in_no_file() {
    stays_unheard(Form { codec: Some("g729a"), ..Form::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_encrypted_media_is_in_no_file() {
    stays_unheard(Form { srtp: true, ..Form::default() }).await;
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_opus_files_of_both_sides_is_silent() {
    let settings = "al_method = \"mr\"\nal_stereo = true\nal_voiceformat = \"opus\"\n";
    stays_unheard(Form { settings, keys: true, ..Form::default() }).await;
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_g729_that_becomes_opus_is_silent() {
    let settings = "al_voiceformat = \"opus\"\n";
    stays_unheard(Form { settings, codec: Some("g729a"), twice: true, ..Form::default() }).await;
}
