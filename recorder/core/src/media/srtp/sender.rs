//! A sender for tests: protects what the code under test is to open. It shares the cryptography
//! with it, which published vectors and other programs judge; indices and layout are its own.

use super::keys::MediaKeys;
use super::transform::{Labels, Transform};

pub struct Sender {
    keys: MediaKeys,
    rtp: Transform,
    rtcp: Transform,
}

impl Sender {
    pub fn new(keys: &MediaKeys) -> Self {
        Self {
            keys: keys.clone(),
            rtp: Transform::new(keys, Labels::RTP),
            rtcp: Transform::new(keys, Labels::RTCP),
        }
    }

    /// `packet` has a header of 12 bytes.
    pub fn rtp(&self, roc: u32, packet: &[u8]) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let mut sent = packet.to_vec();
        self.rtp.apply(ssrc, u64::from(roc) * 65_536 + u64::from(seq), &mut sent[12..]);
        let bytes = self.keys.suite.rtp_tag_bytes;
        let tag = self.rtp.cover(&sent).tag(&roc.to_be_bytes(), bytes);
        sent.extend(tag);
        sent
    }

    pub fn rtcp(&self, index: u32, encrypted: bool, tag_bytes: usize, packet: &[u8]) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let mut sent = packet.to_vec();
        if encrypted {
            self.rtcp.apply(ssrc, index.into(), &mut sent[8..]);
        }
        sent.extend((index | u32::from(encrypted) << 31).to_be_bytes());
        let tag = self.rtcp.cover(&sent).tag(&[], tag_bytes);
        sent.extend(tag);
        sent
    }
}
