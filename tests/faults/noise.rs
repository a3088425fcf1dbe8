//! What comes over the socket of the AES is odd, wrong or no message at all.

use std::time::Duration;

use storage_core::record::GapCause;
use tokio::time::Instant;

use crate::common::{Bench, LIMIT};
use crate::{settled, until};
use simulator::SiteConfig;

/// A frame as an AES writes it.
fn frame(invoke: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 8).expect("short");
    [&[0, 0], &length.to_be_bytes()[..], invoke, body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_legal_messages_lose_nothing() {
    let mut config = SiteConfig::demo(4, 1);
    config.switches.events_before_response = true;
    let bench = Bench::prepare(config, "").await;
    bench.site.faults().wire(0, |wire| {
        (wire.piece_len, wire.odd_prefixes, wire.latin1) = (3, true, true);
    });
    bench.site.faults().aes_faults(0, |aes| (aes.odd_names, aes.unknown_elements) = (true, true));
    let bench = bench.started().await;
    let switch = bench.site.switch();
    let userdata: Vec<u8> = (0..=255).cycle().take(4000).collect();
    let call = switch.inbound_call_with("5551230001", "31001", &userdata).expect("a trunk");
    switch.wait_alerting(call, LIMIT).await;
    switch.answer("31001").expect("it rings");
    bench.recorded(call).await;
    let consultation = switch.consult("31001", "31002").expect("an active call");
    switch.wait_alerting(consultation, LIMIT).await;
    switch.answer("31002").expect("it rings");
    bench.recorded(consultation).await;
    bench.frames(consultation, 50).await;
    switch.transfer("31001").expect("a held and an active call");
    bench.frames(call, 200).await;
    switch.hangup_all(call);
    settled(&bench).await;
    bench.assert_right();
    let published = bench.node.recordings().expect("readable");
    let calling = published.iter().find(|(_, record)| record.calling == "5551230001");
    let record = &calling.expect("the caller's recording").1;
    assert!(record.complete, "{record:#?}");
    bench.metric("astlogger_dmcc_malformed_total", |count| count == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_read_are_counted_and_made_up_for() {
    let bench = Bench::start(4).await;
    let faults = bench.site.faults();
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    let noise: [&[u8]; 8] = [
        b"",
        b"no XML at all \xff\xfe\x00",
        b"<EstablishedEvent xmlns=\"http://www.ecma-international.org/standards/ecma-323/csta/ed3\"",
        b"<EstablishedEvent/>",
        b"<Nobody><knows/></Nobody>",
        b"<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;&b;&b;\">]><a>&c;&c;&c;</a>",
        b"<MediaStartEvent><monitorCrossRefID>no such</monitorCrossRefID></MediaStartEvent>",
        b"<SingleStepConferenceCallResponse/>",
    ];
    let mut bytes = Vec::new();
    for body in noise {
        for invoke in [b"9999", b"0042", b"ABCD", b"\xff\xff\xff\xff"] {
            bytes.extend(frame(invoke, body));
        }
    }
    bytes.extend(frame(b"9999", &b"<a>".repeat(20_000)));
    faults.wire(0, |wire| (wire.inject, wire.piece_len) = (Some(bytes), 700));
    // The noise comes right before what tells of the next call; of the third call the messages
    // themselves are broken.
    let second = bench.answered_call("5551230002", "31002").await;
    bench.recorded(second).await;
    faults.wire(0, |wire| wire.break_next = 6);
    let third = bench.answered_call("5551230003", "31003").await;
    bench.recorded(third).await;
    bench.metric("astlogger_dmcc_malformed_total", |count| count >= 16.0).await;
    let from = bench.site.switch().call(third).expect("it is up").frames;
    bench.frames(third, from + 60).await;
    for call in [first, second, third] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (3, 3));
    assert_eq!(bench.site.aes_counters(0).sessions_taken_back, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_length_field_is_a_new_connection_and_no_loss() {
    let bench = Bench::start(3).await;
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    bench.site.faults().wire(0, |wire| wire.inject = Some(b"\0\0\0\x070001junk".to_vec()));
    let second = bench.answered_call("5551230002", "31002").await;
    bench.recorded(second).await;
    until(&bench, "the session is taken back", || {
        bench.site.aes_counters(0).sessions_taken_back == 1
    })
    .await;
    bench.frames(second, 60).await;
    for call in [first, second] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.packets_in_declared_gaps, 0, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_never_ends_is_a_new_connection() {
    let bench = Bench::start(3).await;
    let first = bench.answered_call("5551230001", "31001").await;
    bench.recorded(first).await;
    // It swallows all that follows, and nothing that follows fills it.
    bench.site.faults().wire(0, |wire| wire.inject = Some(b"\0\0\xff\xff9999<a>".to_vec()));
    let begun = Instant::now();
    let second = bench.answered_call("5551230002", "31002").await;
    bench.recorded(second).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "deaf for {:?}", begun.elapsed());
    bench.frames(second, 450).await;
    for call in [first, second] {
        bench.site.switch().hangup_all(call);
    }
    settled(&bench).await;
    let verdict = bench.assert_right();
    assert_eq!((verdict.calls_recorded, verdict.recordings_published), (2, 2));
    let published = bench.node.recordings().expect("readable");
    let gaps = published.iter().flat_map(|(_, record)| &record.gaps);
    assert!(gaps.into_iter().all(|gap| gap.cause != GapCause::Loss));
}
