//! RTP packets (RFC 3550 section 5.1) and sender reports: the simulator's own writing of them.

/// Header without CSRCs and extensions.
pub const HEADER_LEN: usize = 12;

/// One RTP packet.
#[must_use]
pub fn packet(
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    // Version 2, no padding, no extension, no CSRC.
    bytes.push(0x80);
    bytes.push(u8::from(marker) << 7 | payload_type);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A sender report (RFC 3550 section 6.4.1) without report blocks, of so many packets of 160 bytes.
#[must_use]
pub fn sender_report(ssrc: u32, timestamp: u32, packets: u32) -> Vec<u8> {
    // Of the wall clock nobody makes anything: its field counts packets, too.
    let words = [ssrc, packets, 0, timestamp, packets, packets.wrapping_mul(160)];
    let head = [0x80, 200, 0, words.len() as u8];
    head.into_iter().chain(words.into_iter().flat_map(u32::to_be_bytes)).collect()
}
