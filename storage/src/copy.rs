//! Copies of recordings: what lies here of one that is listed, and how its voice file gets here from
//! another member. A copy is published like what this node has sealed itself, so that a crash leaves
//! the whole pair or nothing; it is encrypted with this node's own keys, or not at all, whatever the
//! other member does. Which copies are wanted, and from whom, is decided elsewhere.

use std::path::PathBuf;

use storage_core::Recording;

use crate::voice_file::{EncodedWriter, VoiceError};
use crate::voice_store::{VoiceStore, is_missing};

/// What lies here of a recording, compared with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Lies {
    /// Nothing, or only the record.
    Nothing,
    /// An earlier revision.
    Earlier,
    /// This very file; and its record here, which says whether it lies encrypted.
    This(Box<Recording>),
    /// A later revision than is known.
    Later(Box<Recording>),
    /// Its record; the voice file lies in the archive, from where it can be read here.
    Archived(Box<Recording>),
}

/// Why there is no copy now.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be written.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// What came is not what the record speaks of.
    #[error(
        "what came has {bytes} bytes and SHA-256 {sha256}, its record says {} and {}",
        record.bytes, record.sha256
    )]
    Differs {
        /// Bytes that came, as far as they were taken.
        bytes: u64,
        /// Their SHA-256.
        sha256: String,
        /// What was expected.
        record: Box<Recording>,
    },
}

impl VoiceStore {
    /// What lies here of a recording. The length of a voice file counts, not its content.
    ///
    /// # Errors
    /// [`VoiceError`] if something lies here that cannot be used: a record that cannot be read, a voice
    /// file of another length, an encrypted one without its data key.
    pub fn lies(&self, known: &Recording) -> Result<Lies, VoiceError> {
        let beside = match self.record(known.recordingid, known.started) {
            Err(error) if is_missing(&error) => return Ok(Lies::Nothing),
            beside => beside?,
        };
        // A later revision may have the same audio, and another record.
        if beside.revision > known.revision {
            return Ok(Lies::Later(Box::new(beside)));
        }
        if beside.revision < known.revision || beside.sha256 != known.sha256 {
            return Ok(Lies::Earlier);
        }
        match self.look(&beside) {
            Ok(_) => Ok(Lies::This(Box::new(beside))),
            Err(error) if !is_missing(&error) => Err(error),
            Err(_) if self.archived_here(&beside).is_some() => Ok(Lies::Archived(Box::new(beside))),
            Err(_) => Ok(Lies::Nothing),
        }
    }

    /// Begins to write the copy of a recording.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn copy(&self, record: &Recording) -> Result<CopyWriter, VoiceError> {
        let store = self.copies();
        let out = store.write_encoded(record.recordingid, record.format)?;
        let part = Part { path: out.path().to_owned(), store };
        Ok(CopyWriter { record: record.clone(), out, taken: 0, part })
    }
}

/// A copy that is being written. If it is dropped before it is finished nothing is left of it.
#[derive(Debug)]
pub struct CopyWriter {
    record: Recording,
    out: EncodedWriter,
    taken: u64,
    part: Part,
}

/// The file that is being written.
#[derive(Debug)]
struct Part {
    store: VoiceStore,
    path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has its final name by now, or the next start removes it.
        let _ = self.store.remove(&self.path);
    }
}

impl CopyWriter {
    /// Adds bytes of the plain voice file.
    ///
    /// # Errors
    /// [`CopyError`]; it is of no further use then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.taken += bytes.len() as u64;
        if self.taken > self.record.bytes {
            let (bytes, record) = (self.taken, Box::new(self.record.clone()));
            return Err(CopyError::Differs { bytes, sha256: "unknown".to_owned(), record });
        }
        Ok(self.out.write(bytes)?)
    }

    /// Compares what came with its record and publishes it. When this returns it is durable. The
    /// answer is the record as it lies here.
    ///
    /// # Errors
    /// [`CopyError`]; nothing is left then, or it is the next start that completes it.
    pub fn finish(self) -> Result<Recording, CopyError> {
        self.publish(false)
    }

    /// The same where something damaged lies, which is put aside ([`crate::scrub`]) once what came has
    /// proved right.
    ///
    /// # Errors
    /// [`CopyError`]; as for `finish`.
    pub fn finish_over_damage(self) -> Result<Recording, CopyError> {
        self.publish(true)
    }

    fn publish(self, over_damage: bool) -> Result<Recording, CopyError> {
        let Self { record, out, part, .. } = self;
        let voice = out.finish()?;
        if (voice.bytes, &voice.sha256) != (record.bytes, &record.sha256) {
            let (bytes, sha256) = (voice.bytes, voice.sha256);
            return Err(CopyError::Differs { bytes, sha256, record: Box::new(record) });
        }
        let staged = part.store.stage(voice, record)?;
        if over_damage {
            part.store.set_aside(staged.record())?;
        }
        Ok(part.store.publish_staged(&staged)?)
    }
}
