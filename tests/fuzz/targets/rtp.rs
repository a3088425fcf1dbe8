//! Any bytes as datagrams to a phantom's port, each with a length in front: parsed on their own,
//! then captured, indexed and planned as a recording.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use recorder_core::media::{Index, RtpPacket};
use storage_core::journal::{BlockWriter, Channel, Entry, Fact};
use storage_core::journal_scan::{Found, Scanner};
use storage_core::{Extension, RecordingId, SegmentId, WallTime};

const SOURCE: ([u8; 4], u16) = ([127, 0, 0, 1], 4000);

fuzz_target!(|data: &[u8]| {
    let segment = SegmentId(1);
    let mut index = Index::new();
    index.entry(&Entry::Fact(Fact::SegmentOpened {
        segment,
        recordingid: RecordingId::new(WallTime::from_millis(0), [0; 10]),
        phantom: Extension::new("78001"),
        at: WallTime::from_millis(0), key: None }));
    let mut frames = Vec::new();
    let mut block = BlockWriter::begin(
        &mut frames,
        segment,
        Channel::Rtp,
        SocketAddr::from(SOURCE),
        WallTime::default(),
    );
    let mut rest = data;
    let mut at = 0;
    while let Some((&length, tail)) = rest.split_first() {
        let (datagram, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        at += 20;
        let _ = RtpPacket::parse(datagram);
        if !block.push(WallTime::from_millis(at), datagram) {
            break;
        }
    }
    block.finish();
    for found in Scanner::new(&frames) {
        if let Found::Frame { frame, .. } = found
            && let Ok(entry) = frame.entry()
        {
            index.entry(&entry);
        }
    }
    drop(index.plan());
});
