//! Any bytes as datagrams to a phantom's two ports: parsed on their own, then captured, indexed and
//! planned as a recording. The first byte chooses the codec that the switch names; each datagram has its
//! length in front, in whose highest bit is the port.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use recorder_core::media::{Index, RtpPacket};
use storage_core::journal::{BlockWriter, Channel, Entry, Fact};
use storage_core::journal_scan::{Found, Scanner};
use storage_core::{Extension, RecordingId, SegmentId, WallTime};

const SOURCE: ([u8; 4], u16) = ([127, 0, 0, 1], 4000);
const CODECS: [&str; 6] = ["", "g711a", "g729", "g722", "l16", "opus"];

fuzz_target!(|data: &[u8]| {
    let Some((&codec, data)) = data.split_first() else { return };
    let (segment, source) = (SegmentId(1), SocketAddr::from(SOURCE));
    let mut index = Index::new();
    index.entry(&Entry::Fact(Fact::SegmentOpened {
        segment,
        recordingid: RecordingId::new(WallTime::from_millis(0), [0; 10]),
        phantom: Extension::new("78001"),
        at: WallTime::from_millis(0),
        key: None,
        side: None,
    }));
    index.entry(&Entry::Fact(Fact::MediaTerms {
        segment,
        at: WallTime::from_millis(0),
        source: Some(source),
        codec: CODECS[usize::from(codec) % CODECS.len()].to_owned(),
        packetms: 20,
    }));
    let mut frames = Vec::new();
    let mut rest = data;
    let mut at = 0;
    while let Some((&head, tail)) = rest.split_first() {
        let (datagram, tail) = tail.split_at(usize::from(head & 0x7f).min(tail.len()));
        rest = tail;
        at += 20;
        let at = WallTime::from_millis(at);
        let _ = RtpPacket::parse(datagram);
        let channel = if head & 0x80 == 0 { Channel::Rtp } else { Channel::Rtcp };
        let mut block = BlockWriter::begin(&mut frames, segment, channel, source, at);
        assert!(block.push(at, datagram));
        block.finish();
    }
    for found in Scanner::new(&frames) {
        if let Found::Frame { frame, .. } = found
            && let Ok(entry) = frame.entry()
        {
            index.entry(&entry);
        }
    }
    if let Ok(mut plan) = index.plan() {
        plan.mask_keys();
    }
});
