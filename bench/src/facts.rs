//! What the control plane would say of the calls that are benchmarked, and their RTP packets.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use storage_core::draft::Draft;
use storage_core::g711::Law;
use storage_core::journal::Fact;
use storage_core::{Extension, NodeId, RecordingId, SegmentId, WallTime};

/// 20 ms of G.711.
pub const FRAME_BYTES: usize = 160;
/// An RTP packet of them.
pub const PACKET_BYTES: usize = 12 + FRAME_BYTES;
/// Payload type of G.711 A-law (RFC 3551).
const PCMA: u8 = 8;

/// The phantom of a call by its number.
pub fn phantom(number: usize) -> Extension {
    Extension::new((700_000 + number).to_string())
}

/// The segment of a call by its number.
pub fn segment(number: usize) -> SegmentId {
    SegmentId(number as u64 + 1)
}

/// The recording of a call by its number.
pub fn recording(number: usize, opened: WallTime) -> RecordingId {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&(number as u64).to_be_bytes());
    RecordingId::new(opened, entropy)
}

/// What is said when a call begins.
pub fn begin(number: usize, at: WallTime, source: SocketAddr) -> [Fact; 3] {
    let (segment, recordingid) = (segment(number), recording(number, at));
    let codec = "g711a".to_owned();
    [
        Fact::Recording { draft: draft(number, at, None) },
        Fact::SegmentOpened {
            segment,
            recordingid,
            phantom: phantom(number),
            at,
            key: None,
            side: None,
        },
        Fact::MediaTerms { segment, at, source: Some(source), codec, packetms: 20 },
    ]
}

/// What is said when it ends.
pub fn end(number: usize, opened: WallTime, at: WallTime) -> [Fact; 2] {
    let draft = draft(number, opened, Some(at));
    [Fact::SegmentClosed { segment: segment(number), at }, Fact::Recording { draft }]
}

fn draft(number: usize, opened: WallTime, ended: Option<WallTime>) -> Draft {
    Draft {
        rule: "all".to_owned(),
        callids: vec![number.to_string()],
        extension: Extension::new((300_000 + number).to_string()),
        calling: "5551230001".to_owned(),
        called: "3001".to_owned(),
        ended,
        ..Draft::blank(recording(number, opened), NodeId(1), opened)
    }
}

/// The first packet of a call.
pub fn packet(number: usize) -> [u8; PACKET_BYTES] {
    let mut bytes = [Law::A.silence(); PACKET_BYTES];
    bytes[..2].copy_from_slice(&[0x80, PCMA]);
    bytes[2..8].fill(0);
    // Streams are fewer than 65,536; the rest of the number is of no use to anybody.
    let ssrc = u32::try_from(number).unwrap_or(u32::MAX);
    bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
    bytes
}

/// The call that a packet is of.
pub fn stream(packet: &[u8]) -> Option<usize> {
    let ssrc = packet.get(8..12)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(ssrc)).ok()
}

/// How many packets of each stream are in files that hold nothing but packets.
pub fn count(paths: &[PathBuf], streams: usize) -> Result<Vec<u64>> {
    let mut per_stream = vec![0; streams];
    for path in paths {
        for packet in std::fs::read(path)?.chunks_exact(PACKET_BYTES) {
            let stream = stream(packet).and_then(|stream| per_stream.get_mut(stream));
            *stream.context("a packet of no stream is in a file")? += 1;
        }
    }
    Ok(per_stream)
}

/// Makes of a packet the one after it.
pub fn advance(packet: &mut [u8; PACKET_BYTES]) {
    let seq = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(1);
    let time = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    let time = time.wrapping_add(FRAME_BYTES as u32);
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet[4..8].copy_from_slice(&time.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_followed_by_the_next_twenty_milliseconds() {
        let mut packet = packet(7);
        assert_eq!(packet[..12], [0x80, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!((stream(&packet), stream(&[0; 11])), (Some(7), None));
        advance(&mut packet);
        assert_eq!(packet[2..8], [0, 1, 0, 0, 0, 160]);
        packet[2..4].fill(0xff);
        advance(&mut packet);
        assert_eq!(packet[2..4], [0, 0]);
    }

    #[test]
    fn calls_are_told_apart() {
        let at = WallTime::from_millis(1);
        assert_ne!(recording(1, at), recording(256, at));
        assert_ne!((segment(1), phantom(1)), (segment(2), phantom(2)));
    }
}
