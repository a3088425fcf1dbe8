//! Encryption of the capture journal: the writer's keys of the segments that it has opened, and the
//! readers' of those that they read. Which bytes are encrypted, and why no nonce comes twice, is in
//! [`storage_core::journal_cipher`]. Whoever reads captures does so through here, and whoever appends
//! does not know of it.

use std::collections::BTreeMap;

use storage_core::journal::{
    EncryptedBlock, Entry, Fact, Frame, PacketBlock, Place, trusted_frame,
};
use storage_core::journal_cipher::{CipherRefused, encrypt_block};
use storage_core::wrapped_key::{KeyUse, WrappedKey};
use storage_core::{RecordingId, SegmentId};

use crate::journal_error::JournalError;
use crate::keys::{Cipher, KeyError, Keys};

/// Encrypts what is appended.
#[derive(Debug)]
pub(crate) struct Encryptor {
    keys: Keys,
    segments: BTreeMap<SegmentId, Writing>,
    /// Where frames end, as they were given and as they are written; reused.
    ends: Vec<(usize, usize)>,
}

/// A segment that this process has opened.
#[derive(Debug)]
struct Writing {
    recording: RecordingId,
    cipher: Cipher,
    wrapped: WrappedKey,
    /// Number of the next block; none is used twice.
    next: u64,
}

impl Encryptor {
    pub fn new(keys: Keys) -> Self {
        Self { keys, segments: BTreeMap::new(), ends: Vec::new() }
    }

    /// Whether there is anything to do.
    pub const fn encrypts(&self) -> bool {
        self.keys.encrypt()
    }

    /// The keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The fact as it is to be appended, if that is another one than it was given: the begin of a
    /// segment gets the segment's data key. The same again if it is tried again.
    pub fn with_key(&mut self, fact: &Fact) -> Result<Option<Fact>, KeyError> {
        let Fact::SegmentOpened { segment, recordingid, phantom, at, side, .. } = fact else {
            return Ok(None);
        };
        let known = self.segments.get(segment).filter(|known| known.recording == *recordingid);
        let wrapped = match known {
            Some(known) => known.wrapped.clone(),
            None => {
                let made = self.keys.data_key(&KeyUse::Segment(*recordingid, *segment))?;
                let Some((cipher, wrapped)) = made else { return Ok(None) };
                let key = wrapped.clone();
                let writing = Writing { recording: *recordingid, cipher, wrapped, next: 0 };
                self.segments.insert(*segment, writing);
                key
            }
        };
        Ok(Some(Fact::SegmentOpened {
            segment: *segment,
            recordingid: *recordingid,
            phantom: phantom.clone(),
            at: *at,
            key: Some(wrapped),
            side: *side,
        }))
    }

    /// A fact is in the journal: keys that it makes needless are forgotten.
    pub fn appended(&mut self, fact: &Fact) {
        match fact {
            Fact::SegmentClosed { segment, .. } => {
                self.segments.remove(segment);
            }
            Fact::Sealed { recordingid } => {
                self.segments.retain(|_, known| known.recording != *recordingid);
            }
            _ => {}
        }
    }

    /// Appends the encrypted form of frames to `out`. Blocks of a segment that was not opened are
    /// left out: nobody would ever read them, and there is no key for them.
    pub fn encrypt(&mut self, frames: &[u8], out: &mut Vec<u8>) -> Result<(), JournalError> {
        self.ends.clear();
        let mut at = 0;
        while at < frames.len() {
            let wrong = JournalError::NotFrames { offset: at };
            let Some((len, frame)) = trusted_frame(&frames[at..]) else { return Err(wrong) };
            match frame.segment() {
                // A fact, which is not encrypted.
                None => out.extend_from_slice(&frames[at..at + len]),
                Some(segment) => {
                    if let Some(writing) = self.segments.get_mut(&segment) {
                        let number = writing.next;
                        writing.next += 1;
                        let cipher = &writing.cipher;
                        let seal =
                            |nonce, clear: &[u8], body: &mut [u8]| cipher.seal(nonce, clear, body);
                        let encrypted = encrypt_block(out, &frame, number, seal);
                        encrypted.map_err(|CipherRefused| wrong)?;
                    }
                }
            }
            at += len;
            self.ends.push((at, out.len()));
        }
        Ok(())
    }

    /// Takes up the segments of a mirror again, with the keys that an earlier process made for them.
    pub fn adopt(&mut self, locked: &[(KeyUse, WrappedKey)]) -> Result<(), KeyError> {
        for (made_for, wrapped) in locked {
            if let KeyUse::Segment(recording, segment) = made_for {
                let cipher = self.keys.unwrap(wrapped, made_for)?;
                let wrapped = wrapped.clone();
                let writing = Writing { recording: *recording, cipher, wrapped, next: 0 };
                self.segments.insert(*segment, writing);
            }
        }
        Ok(())
    }

    /// Appends the encrypted form of a block that another journal had at `origin`, as one moved from
    /// there. What stands at one place there is the same for ever, so the place is the block's number,
    /// and a mirror may go on with a segment after a restart.
    pub fn encrypt_moved(
        &self,
        frame: &Frame<'_>,
        origin: Place,
        out: &mut Vec<u8>,
    ) -> Result<(), CipherRefused> {
        let known = frame.segment().and_then(|segment| self.segments.get(&segment));
        let cipher = &known.ok_or(CipherRefused)?.cipher;
        let number = u64::from(origin.file) << 32 | u64::from(origin.offset);
        let mut block = Vec::new();
        let seal = |nonce, clear: &[u8], body: &mut [u8]| cipher.seal(nonce, clear, body);
        encrypt_block(&mut block, frame, number, seal)?;
        let (_, block) = trusted_frame(&block).ok_or(CipherRefused)?;
        block.encode_moved(origin, out);
        Ok(())
    }

    /// How many of the bytes that were given last are in what was written of them.
    pub fn given(&self, written: usize) -> usize {
        let whole = self.ends.iter().take_while(|(_, end)| *end <= written);
        whole.last().map_or(0, |(given, _)| *given)
    }
}

/// Decrypts what is read of some recordings.
#[derive(Debug)]
pub(crate) struct Decryptor {
    keys: Keys,
    segments: BTreeMap<SegmentId, Cipher>,
    plain: Vec<u8>,
}

impl Decryptor {
    pub const fn new(keys: Keys) -> Self {
        Self { keys, segments: BTreeMap::new(), plain: Vec::new() }
    }

    /// Takes the data key off an entry. It is nobody's matter beyond this point: what goes to another
    /// node is plain and gets another key there.
    pub fn take_key(&mut self, entry: &mut Entry<'_>) -> Result<(), KeyError> {
        if let Entry::Fact(Fact::SegmentOpened { segment, recordingid, key, .. }) = entry
            && let Some(key) = key.take()
        {
            let cipher = self.keys.unwrap(&key, &KeyUse::Segment(*recordingid, *segment))?;
            self.segments.insert(*segment, cipher);
        }
        Ok(())
    }

    /// The plain block; `None` if it was altered, or its segment has no key.
    pub fn decrypt(&mut self, block: &EncryptedBlock<'_>) -> Option<PacketBlock<'_>> {
        let cipher = self.segments.get(&block.segment)?;
        block.open(&mut self.plain, |nonce, clear, body| cipher.open(nonce, clear, body))
    }

    /// No block of this segment comes any more.
    pub fn forget(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }
}
