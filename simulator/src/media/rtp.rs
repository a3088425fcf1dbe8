//! RTP packets (RFC 3550 section 5.1): the simulator's own writing of the fixed header.

use crate::tone::{FRAME_LEN, Law};

/// Header without CSRCs and extensions.
pub const HEADER_LEN: usize = 12;

/// One RTP packet.
#[must_use]
pub fn packet(
    law: Law,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    words: &[u8; FRAME_LEN],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + FRAME_LEN);
    // Version 2, no padding, no extension, no CSRC.
    bytes.push(0x80);
    bytes.push(u8::from(marker) << 7 | law.payload_type());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(words);
    bytes
}
