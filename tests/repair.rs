//! Holes of one copy of a call are filled from the other on request: real active-active groups, whose recorders
//! lose packets of their own, and each 20 ms of what is made held against what was said.

mod common;

use std::path::PathBuf;

use astlogger::demo::{self, DueCall, Published, Shape};
use common::group::{GroupBench, ONE, TWO, WITNESS};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::record::{SeamMethod, VoiceFormat};
use storage_core::{NodeId, Recording};

/// Frames of a call while nothing happens.
const SOME: u32 = 60;

/// Asks a node to repair a recording.
async fn ask(bench: &GroupBench, node: NodeId, id: &str) -> Value {
    let mut qa = bench.cti(node, "qa").await;
    qa.ask(json!({"request": "repairrecording", "recordingid": id})).await.expect("a reply")
}

/// The name of what is made of a recording.
async fn repaired(bench: &GroupBench, node: NodeId, id: &str) -> String {
    let reply = ask(bench, node, id).await;
    assert_eq!(reply["result"], "success", "{reply}; {}", bench.log_tails());
    reply["recordingid"].as_str().expect("a name").to_owned()
}

/// A recording on a node's disk.
fn on_disk(bench: &GroupBench, node: NodeId, id: &str) -> Published {
    let held = bench.group.members[&node].node.recordings().expect("records can be read");
    let is_it = |(_, record): &(PathBuf, Recording)| record.recordingid.to_string() == id;
    held.into_iter().find(is_it).unwrap_or_else(|| panic!("{id} is not on node {node}"))
}

/// Frames of a call that are not in a file. None may be missing without being declared, but for the first ones
/// where another recorder was in the call before.
fn missing(call: &DueCall, file: &Published) -> u64 {
    let (path, record) = file.clone();
    let alone = [(path, Recording { copy: 1, ..record })];
    let truth = demo::judge(std::slice::from_ref(call), &alone);
    let truth = truth.expect("the file can be read");
    assert!(truth.packets_unaccounted <= 2 && truth.calls_missed == 0, "{truth:#?}");
    truth.packets_sent - truth.packets_in_files
}

/// Frames that are in a gap of either, by their clocks, which are the same here.
fn missing_in_both([one, other]: [&Recording; 2]) -> u64 {
    let gaps = |record: &Recording| -> Vec<(i64, i64)> {
        let at = |ms: u64| record.started.as_millis() + ms.cast_signed();
        record.gaps.iter().map(|gap| (at(gap.startms), at(gap.endms))).collect()
    };
    let common = |(a, b): &(i64, i64), (c, d): &(i64, i64)| (b.min(d) - a.max(c)).max(0) + 10;
    let pairs = gaps(one).into_iter().flat_map(|a| gaps(other).into_iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| common(&a, &b).cast_unsigned() / 20).sum()
}

/// A record's two copies, by `copy`.
fn copies_of<'a>(recordings: &'a [Published], call: &DueCall) -> [&'a Published; 2] {
    [1, 2].map(|copy| {
        let is_it = |(_, record): &&Published| {
            let is_of_call = |ucid| call.ucids.iter().any(|known| known == ucid);
            let ucid = record.ucid.as_ref().map(|ucid| ucid.as_str());
            record.copy == copy && ucid.is_some_and(is_of_call) && record.repairof.is_none()
        };
        recordings.iter().find(is_it).expect("a copy")
    })
}

/// A group whose recorders each lose some of two calls' packets, and one of them a whole second.
async fn lossy(format: VoiceFormat) -> (GroupBench, Vec<DueCall>) {
    let mut bench = GroupBench::prepare(SiteConfig::demo(2, 2), &Shape::active_active(2)).await;
    if format != VoiceFormat::WavG711 {
        let word = serde_json::to_value(format).expect("a word");
        for node in [ONE, TWO] {
            let line = format!("al_nodeid = {node}\n");
            bench.edit(node, &line, &format!("{line}al_voiceformat = {word}\n"));
        }
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, SOME).await;
    let faults = bench.group.site.faults();
    faults.drop_rtp(0.05);
    let ones = bench.group.phantoms_of(ONE).expect("ranges");
    let mute = bench.phantoms_in(calls[0]).into_iter().find(|phantom| ones.contains(phantom));
    faults.mute_phantom(&mute.expect("node 1 is in the call"), 50);
    bench.go_on(&calls, 5 * SOME).await;
    faults.drop_rtp(0.0);
    bench.go_on(&calls, SOME).await;
    bench.hang_up(&calls);
    bench.published(4).await;
    bench.quiet().await;
    let due = demo::due_to_the_end(&bench.group.site.history(), |call| call.answered);
    (bench, due)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_recorder_lost_is_filled_in_from_the_other() {
    let (bench, calls) = lossy(VoiceFormat::WavG711).await;
    let before = bench.recordings();
    for call in &calls {
        for copy in copies_of(&before, call) {
            let (path, record) = copy;
            let original = std::fs::read(path).expect("a voice file");
            let id = record.recordingid.to_string();
            let made = repaired(&bench, WITNESS, &id).await;
            // Whoever asks again, and wherever, gets the same one.
            assert_eq!(repaired(&bench, TWO, &id).await, made);
            let file = on_disk(&bench, record.node, &made);
            let (lost, left) = (missing(call, copy), missing(call, &file));
            let both = missing_in_both(copies_of(&before, call).map(|(_, record)| record));
            // Less than 40 ms at the ends is left as it is.
            assert!(
                lost > 5 && left <= both + 2,
                "of {lost} frames {left} are lost, {both} in both"
            );
            let new = &file.1;
            assert_eq!(new.repairof.map(|of| of.to_string()), Some(id.clone()));
            assert_eq!((new.copy, new.node, new.format), (record.copy, record.node, record.format));
            assert!(new.started <= record.started);
            assert!(new.segments.len() > record.segments.len(), "{new:#?}");
            assert!(new.seams.iter().all(|seam| seam.method == SeamMethod::Content), "{new:#?}");
            assert!(new.seams.len() >= 2, "{new:#?}");
            // The original is as it was, and both are found and given out by all.
            assert_eq!(std::fs::read(path).expect("a voice file"), original);
            for node in [ONE, TWO, WITNESS] {
                let listed = bench.listed(node).await;
                assert!(listed.contains(&id) && listed.contains(&made), "{listed:?}");
                let fetched = bench.fetched(node, &made).await;
                assert_eq!(fetched, std::fs::read(&file.0).expect("a voice file"));
            }
        }
    }
    // A call is a call, however many recordings there are of it.
    let mut supervisor = bench.cti(WITNESS, "supervisor").await;
    let told = supervisor.ask(json!({"request": "completeness"})).await.expect("a reply");
    assert_eq!((&told["calls"], &told["missed"]), (&json!(2), &json!(0)), "{told:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_recorder_did_not_hear_is_put_behind() {
    let mut bench = GroupBench::active_active(2).await;
    let calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    bench.recorded_by(&calls, TWO).await;
    bench.go_on(&calls, 2 * SOME).await;
    bench.kill(ONE).await;
    bench.go_on(&calls, 2 * SOME).await;
    bench.hang_up(&calls);
    bench.published(2).await;
    let whole = bench.recordings().remove(0).1.recordingid.to_string();
    // Who is away would not list what is made.
    let reply = ask(&bench, TWO, &whole).await;
    assert_eq!(
        (&reply["result"], &reply["error"]),
        (&json!("fail"), &json!("badvalue")),
        "{reply}"
    );
    bench.run().await;
    bench.published(4).await;
    bench.quiet().await;
    let due = demo::due_to_the_end(&bench.group.site.history(), |call| call.answered);
    let before = bench.recordings();
    for call in &due {
        let [one, two] = copies_of(&before, call);
        let lost = missing(call, two);
        assert!(lost <= 3, "{lost} frames are missing in the file of who heard all of it");
        let (name, record) = (one.1.recordingid.to_string(), &one.1);
        let made = on_disk(&bench, record.node, &repaired(&bench, ONE, &name).await);
        assert!(made.1.durationms > record.durationms + 1_500, "{:#?}", made.1);
        assert!(made.1.ended.micros_since(two.1.ended).abs() < 60_000, "{:#?}", made.1);
        let left = missing(call, &made);
        assert!(left <= lost, "{left} frames are still missing: {:#?}", made.1);
        let nodes: Vec<_> = made.1.segments.iter().map(|segment| segment.node.0).collect();
        assert_eq!(nodes, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_repaired_is_said_why() {
    let bench = GroupBench::hot_standby(1).await;
    let call = bench.call(0).await;
    bench.recorded_by(&[call], ONE).await;
    bench.go_on(&[call], SOME).await;
    bench.hang_up(&[call]);
    bench.published(1).await;
    bench.quiet().await;
    let only = bench.recordings().remove(0).1.recordingid.to_string();
    let told = |reply: &Value| {
        let word = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
        (word("error"), word("message"))
    };
    let (code, message) = told(&ask(&bench, TWO, &only).await);
    assert_eq!(code, "badvalue");
    assert!(message.contains("no other copy"), "{message}");
    let nowhere = "01990000-0000-7000-8000-000000000001";
    assert_eq!(told(&ask(&bench, TWO, nowhere).await).0, "notfound");
    assert_eq!(told(&ask(&bench, TWO, "7").await).0, "badvalue");
    let mut supervisor = bench.cti(TWO, "supervisor").await;
    let request = json!({"request": "repairrecording", "recordingid": only});
    let reply = supervisor.ask(request).await.expect("a reply");
    assert_eq!(told(&reply).0, "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_forms_are_repaired_too_and_an_absent_member_is_waited_for() {
    for format in [VoiceFormat::Wav, VoiceFormat::Opus] {
        let (mut bench, calls) = lossy(format).await;
        let before = bench.recordings();
        let copy = copies_of(&before, &calls[0])[0];
        let id = copy.1.recordingid.to_string();
        bench.kill(TWO).await;
        bench
            .until("node 2 is gone", |seen| {
                seen.iter().any(|s| s.node == ONE && s.sum("astlogger_peer_up") < 2.0)
            })
            .await;
        let reply = ask(&bench, ONE, &id).await;
        assert_eq!(reply["error"], "unavailable", "{reply}");
        assert!(reply["message"].as_str().expect("text").contains("node 2"), "{reply}");
        bench.run().await;
        bench.quiet().await;
        let made = on_disk(&bench, ONE, &repaired(&bench, ONE, &id).await);
        assert_eq!(made.1.format, format);
        let lack = |record: &Recording| -> u64 {
            record.gaps.iter().map(|gap| gap.endms - gap.startms).sum()
        };
        let (had, has) = (lack(&copy.1), lack(&made.1));
        assert!(has * 3 < had, "{has} of {had} ms are still missing");
        if format == VoiceFormat::Wav {
            assert!(missing(&calls[0], &made) * 4 < missing(&calls[0], copy));
        }
    }
}
