//! RTP packets (RFC 3550 section 5.1): the simulator's own writing of the fixed header.

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
