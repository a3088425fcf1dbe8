//! An encrypted block of packets, as one frame of the capture journal: which of its bytes are encrypted,
//! and with which nonce. The cipher itself is the shell's.
//!
//! ```text
//! segment u64 | number u64 | last packet i64 | ciphertext of the block behind its segment | tag 16
//! ```
//!
//! The first 24 bytes are in clear and are the associated data: the index needs the segment, and a start
//! after a crash when it was heard last. So a journal is scanned, cut and cleaned without any key. The
//! frame's own checksum covers the encrypted form.
//!
//! **Nonces.** Each segment has a data key of its own (AES-256-GCM), made at random when the segment is
//! opened, and kept in memory by the process that opened it and nobody else. The nonce is the block's
//! `number` (little-endian) and four zeros; that process counts it up for each block that it encrypts,
//! whether or not the block then reaches the disk. A write that failed is not made good with the same
//! number. After a restart the segment takes no more blocks: whoever goes on opens another one, with
//! another key. Cleaning moves blocks as they are. So no number comes twice under one key. A mirror of
//! another node's journal has keys of its own and numbers blocks by their places there, of which each
//! means the same bytes for ever; it may go on after a restart.

use crate::cipher_file::TAG_BYTES;
use crate::ids::SegmentId;
use crate::journal::{Fields, Frame, Kind, begin_frame, finish_frame};
use crate::journal_block::PacketBlock;
use crate::time::WallTime;
use crate::wrapped_key::NONCE_BYTES;

/// What stands in clear.
const CLEAR_BYTES: usize = 24;
/// The segment, which the plain block begins with, is not encrypted once more.
const SEGMENT_BYTES: usize = 8;

/// An encrypted block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedBlock<'a> {
    /// The segment.
    pub segment: SegmentId,
    /// Its number among the blocks of the segment.
    pub number: u64,
    /// When its last packet was received.
    pub last: WallTime,
    payload: &'a [u8],
}

/// The cipher did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cipher refused")]
pub struct CipherRefused;

impl<'a> EncryptedBlock<'a> {
    /// Takes a payload apart; `None` if it cannot be one.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let segment = SegmentId(fields.u64()?);
        let number = fields.u64()?;
        let last = WallTime::from_micros(fields.i64()?);
        (fields.0.len() >= TAG_BYTES).then_some(Self { segment, number, last, payload })
    }

    /// Decrypts it into `plain`, whose content is lost. `open` is given nonce, associated data and
    /// ciphertext with its tag, and leaves the plain bytes at the front.
    ///
    /// `None` if `open` refuses, or what it gives is no block of packets.
    pub fn open<'b>(
        &self,
        plain: &'b mut Vec<u8>,
        open: impl FnOnce([u8; NONCE_BYTES], &[u8], &mut [u8]) -> Result<(), CipherRefused>,
    ) -> Option<PacketBlock<'b>> {
        plain.clear();
        // What is in clear makes room for the segment, which a plain block begins with.
        plain.extend_from_slice(&self.payload[CLEAR_BYTES - SEGMENT_BYTES..]);
        open(nonce(self.number), &self.payload[..CLEAR_BYTES], &mut plain[SEGMENT_BYTES..]).ok()?;
        plain[..SEGMENT_BYTES].copy_from_slice(&self.segment.0.to_le_bytes());
        plain.truncate(plain.len() - TAG_BYTES);
        PacketBlock::parse(plain)
    }
}

/// Appends the encrypted form of a frame that holds a plain block. `seal` is given nonce, associated
/// data and plain bytes, encrypts them in place and gives their tag.
///
/// # Errors
/// [`CipherRefused`] if `seal` does, or the frame holds no such block. Nothing is appended then.
pub fn encrypt_block(
    out: &mut Vec<u8>,
    frame: &Frame<'_>,
    number: u64,
    seal: impl FnOnce([u8; NONCE_BYTES], &[u8], &mut [u8]) -> Result<[u8; TAG_BYTES], CipherRefused>,
) -> Result<(), CipherRefused> {
    let payload = frame.packets().ok_or(CipherRefused)?;
    let block = PacketBlock::parse(payload).ok_or(CipherRefused)?;
    let last = block.iter().last().map_or(WallTime::from_micros(0), |(at, _)| at);
    let start = begin_frame(out, Kind::Encrypted);
    let clear = out.len();
    out.extend_from_slice(&payload[..SEGMENT_BYTES]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&last.as_micros().to_le_bytes());
    out.extend_from_slice(&payload[SEGMENT_BYTES..]);
    let (clear, body) = out[clear..].split_at_mut(CLEAR_BYTES);
    match seal(nonce(number), clear, body) {
        Ok(tag) => {
            out.extend_from_slice(&tag);
            finish_frame(out, start);
            Ok(())
        }
        Err(refused) => {
            out.truncate(start);
            Err(refused)
        }
    }
}

fn nonce(number: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::journal::{BlockWriter, Channel, Entry, EntryError, Found, Place, Scanner};

    /// Turns bits over, and signs with the nonce: enough to see what goes where.
    fn seal(
        nonce: [u8; 12],
        clear: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], CipherRefused> {
        body.iter_mut().for_each(|byte| *byte = !*byte);
        let mut tag = [0; TAG_BYTES];
        tag[..12].copy_from_slice(&nonce);
        tag[12] = clear.iter().fold(0, |sum, byte| sum ^ byte);
        Ok(tag)
    }

    fn open(nonce: [u8; 12], clear: &[u8], body: &mut [u8]) -> Result<(), CipherRefused> {
        let (body, tag) = body.split_at_mut(body.len() - TAG_BYTES);
        if seal(nonce, clear, body)? == tag { Ok(()) } else { Err(CipherRefused) }
    }

    fn frames(bytes: &[u8]) -> Vec<Frame<'_>> {
        let whole = Scanner::new(bytes).map(|found| match found {
            Found::Frame { frame, .. } => frame,
            Found::Damage { .. } => panic!("not whole"),
        });
        whole.collect()
    }

    fn plain() -> Vec<u8> {
        let mut out = Vec::new();
        let source: SocketAddr = "192.0.2.9:4000".parse().unwrap();
        let at = |n: i64| WallTime::from_micros(1_000 + n);
        let mut block = BlockWriter::begin(&mut out, SegmentId(9), Channel::Rtcp, source, at(0));
        assert!(block.push(at(0), b"one") && block.push(at(20), b"two"));
        block.finish();
        out
    }

    #[test]
    fn a_block_comes_back_and_what_the_index_needs_is_in_clear() {
        let plain = plain();
        let mut out = b"before".to_vec();
        encrypt_block(&mut out, &frames(&plain)[0], 77, seal).unwrap();
        let found = frames(&out[6..]);
        assert_eq!((found.len(), found[0].segment()), (1, Some(SegmentId(9))));
        assert!(matches!(found[0].entry(), Err(EntryError::Encrypted)));
        let block = found[0].encrypted().unwrap();
        assert_eq!((block.number, block.last), (77, WallTime::from_micros(1_020)));
        let mut buffer = b"anything".to_vec();
        let opened = block.open(&mut buffer, open).unwrap();
        let Ok(Entry::Packets(expected)) = frames(&plain)[0].entry() else { panic!("a block") };
        assert_eq!(opened, expected);
        // Moved, it is the same.
        let mut moved = Vec::new();
        found[0].encode_moved(Place { file: 1, offset: 28 }, &mut moved);
        assert_eq!(frames(&moved)[0].encrypted(), Some(block));
        assert!(!out.windows(3).any(|bytes| bytes == b"two"));
    }

    #[test]
    fn what_the_cipher_refuses_leaves_nothing() {
        let plain = plain();
        let mut out = b"before".to_vec();
        let refuse = |_: [u8; 12], _: &[u8], _: &mut [u8]| Err(CipherRefused);
        assert_eq!(encrypt_block(&mut out, &frames(&plain)[0], 0, refuse), Err(CipherRefused));
        assert_eq!(out, b"before");
        encrypt_block(&mut out, &frames(&plain)[0], 1, seal).unwrap();
        let encrypted = out.split_off(6);
        assert!(encrypt_block(&mut out, &frames(&encrypted)[0], 2, seal).is_err(), "not twice");
        let block = frames(&encrypted)[0].encrypted().unwrap();
        assert!(block.open(&mut Vec::new(), |_, _, _| Err(CipherRefused)).is_none());
    }
}
