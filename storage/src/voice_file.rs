//! Voice files: written once from front to back, hashed on the way. Where they come to lie, and in
//! which order they become visible, is [`crate::voice_store`]'s matter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::cipher_file::FilePrefix;
use storage_core::g711::Law;
use storage_core::record::VoiceFormat;
use storage_core::wrapped_key::{FileKey, KeyUse, KeysFileError};
use storage_core::{RecordingId, naming};

use crate::disk::{Disk, DiskFile, is_full};
use crate::file_out::FileOut;
use crate::keys::{KeyError, Keys, random};
use crate::voice_out::VoiceOut;
use crate::wav::{Channels, SAMPLES_MAX, g711_header, pcm_header};

/// Form of the samples of a voice file that is to be written. 8 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceForm {
    /// WAV with G.711 bytes of this law; audio of the other law is converted.
    G711(Law),
    /// WAV with 16-bit linear samples.
    Pcm,
}

impl VoiceForm {
    /// The word for it in a record.
    #[must_use]
    pub const fn format(self) -> VoiceFormat {
        match self {
            Self::G711(_) => VoiceFormat::WavG711,
            Self::Pcm => VoiceFormat::Wav,
        }
    }
}

/// Why a voice file was not written, published or opened.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// No room; to be tried again when there is.
    #[error("no room left on the device of {}: free some, or move al_datadir", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The device failed, or the file is not there.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as "cannot write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Longer than a WAV file can be.
    #[error("{samples} samples are more than a WAV file can hold")]
    TooLong {
        /// How many.
        samples: u64,
    },
    /// The caller wrote another number of samples than it had said; a bug.
    #[error("voice file of {expected} samples was given {written}")]
    Length {
        /// What it had said.
        expected: u64,
        /// What it wrote.
        written: u64,
    },
    /// The record speaks of another recording than the voice file; a bug.
    #[error("record of {record} given with the voice of {voice}")]
    Mismatch {
        /// The recording of the record.
        record: RecordingId,
        /// The recording of the voice file.
        voice: RecordingId,
    },
    /// A record that is no JSON of ours.
    #[error("{} is no readable record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The voice file is not the one that its record speaks of.
    #[error("{} is not what its record says: restore it from a copy", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
    },
    /// It was deleted, for good.
    #[error("recording {id} was deleted, and is not published again")]
    Deleted {
        /// Which.
        id: RecordingId,
    },
    /// It is encrypted, and its data key cannot be had.
    #[error("{} is encrypted: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: KeyError,
    },
    /// It lies in the archive, and cannot be had from there.
    #[error("{place} in the archive cannot be read: {source}")]
    Archive {
        /// Where it lies there.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// It is encrypted, and its data key is not there.
    #[error(
        "{} cannot be read any more: its data key was erased, or {} is to be restored from a copy",
        path.display(),
        keys.display()
    )]
    Erased {
        /// The voice file.
        path: PathBuf,
        /// Where its key belongs.
        keys: PathBuf,
    },
    /// The file of its data key is damaged.
    #[error("{}: {why}: restore it from a copy", path.display())]
    KeysFile {
        /// The file of the data key.
        path: PathBuf,
        /// What is wrong with it.
        why: KeysFileError,
    },
}

impl VoiceError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full { path: path.to_owned() };
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether it may succeed later without anybody's doing more than making room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Writes one voice file under its temporary name. The number of samples is known beforehand, so
/// that the header is written first and the file is hashed as it is written. Samples of two channels are
/// given in turn, the left one first.
pub struct VoiceWriter {
    id: RecordingId,
    form: VoiceForm,
    path: PathBuf,
    out: VoiceOut,
    key: Option<FileKey>,
    /// Samples of all channels.
    expected: u64,
    written: u64,
}

impl std::fmt::Debug for VoiceWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoiceWriter")
            .field("id", &self.id)
            .field("form", &self.form)
            .field("expected", &self.expected)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// A voice file that is complete under its temporary name, and not yet durable.
#[derive(Clone, Debug)]
pub struct FinishedVoice {
    /// The recording.
    pub id: RecordingId,
    /// Its form.
    pub format: VoiceFormat,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex. Length and this are those of the plain file.
    pub sha256: String,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its data key, if it is encrypted.
    pub(crate) key: Option<FileKey>,
}

/// A voice file that is begun.
struct Begun {
    path: PathBuf,
    out: VoiceOut,
    key: Option<FileKey>,
}

/// Begins a file of this name, encrypted if there are keys.
fn begin(
    disk: &dyn Disk,
    path: PathBuf,
    keys: &Keys,
    id: RecordingId,
) -> Result<Begun, VoiceError> {
    let data_key = || {
        let file = FilePrefix(random()?);
        let made = keys.data_key(&KeyUse::Voice(id, file))?;
        Ok(made.map(|(cipher, key)| (cipher, FileKey { file, key })))
    };
    let made = data_key().map_err(|why| VoiceError::Key { path: path.clone(), why })?;
    let path = if made.is_some() { naming::encrypted(path) } else { path };
    let file = disk.create(&path).map_err(|e| VoiceError::io("cannot create", &path, e))?;
    let (out, key) = match made {
        None => (FileOut::plain(file), None),
        Some((cipher, key)) => {
            let out = FileOut::encrypted(file, cipher, key.file, id);
            (out.map_err(|error| VoiceError::io("cannot write", &path, error))?, Some(key))
        }
    };
    Ok(Begun { path, out: VoiceOut::new(out), key })
}

impl VoiceWriter {
    /// Begins a file of so many samples in each channel under this temporary name; an encrypted one has
    /// another ending.
    ///
    /// # Errors
    /// [`VoiceError`]; in all methods here.
    pub fn create(
        disk: &dyn Disk,
        path: PathBuf,
        keys: &Keys,
        id: RecordingId,
        form: VoiceForm,
        channels: Channels,
        samples: u64,
    ) -> Result<Self, VoiceError> {
        let too_long = VoiceError::TooLong { samples };
        let expected = samples.saturating_mul(channels.count().into());
        let count = u32::try_from(samples).ok().filter(|_| expected <= SAMPLES_MAX);
        let count = count.ok_or(too_long)?;
        let Begun { path, mut out, key } = begin(disk, path, keys, id)?;
        let begun = match form {
            VoiceForm::G711(law) => out.write(&g711_header(law, channels, count)),
            VoiceForm::Pcm => out.write(&pcm_header(channels, count)),
        };
        begun.map_err(|error| VoiceError::io("cannot write", &path, error))?;
        Ok(Self { id, form, path, out, key, expected, written: 0 })
    }

    /// Adds G.711 samples of a law.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_g711(&mut self, from: Law, samples: &[u8]) -> Result<(), VoiceError> {
        if self.form == VoiceForm::G711(from) {
            self.written += samples.len() as u64;
            let written = self.out.write(samples);
            return written.map_err(|error| VoiceError::io("cannot write", &self.path, error));
        }
        self.write_linear(samples.iter().map(|byte| from.decode(*byte)))
    }

    /// Adds linear samples.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_pcm(&mut self, samples: &[i16]) -> Result<(), VoiceError> {
        self.write_linear(samples.iter().copied())
    }

    fn write_linear(&mut self, samples: impl Iterator<Item = i16>) -> Result<(), VoiceError> {
        let Self { out, written, .. } = self;
        let samples = samples.inspect(|_| *written += 1);
        let outcome = match self.form {
            VoiceForm::G711(law) => out.write_each(samples.map(|sample| [law.encode(sample)])),
            VoiceForm::Pcm => out.write_each(samples.map(i16::to_le_bytes)),
        };
        outcome.map_err(|error| VoiceError::io("cannot write", &self.path, error))
    }

    /// Adds so many samples of silence, of all channels together.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_silence(&mut self, samples: u64) -> Result<(), VoiceError> {
        let (piece, law) = match self.form {
            VoiceForm::G711(law) => ([law.silence(); 1024], law),
            VoiceForm::Pcm => ([Law::Mu.silence(); 1024], Law::Mu),
        };
        let mut left = samples;
        while left > 0 {
            let count = left.min(piece.len() as u64);
            self.write_g711(law, &piece[..usize::try_from(count).unwrap_or(piece.len())])?;
            left -= count;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`VoiceError::Length`] if it was not given what was said; others as the device gives them.
    pub fn finish(self) -> Result<FinishedVoice, VoiceError> {
        let Self { id, form, path, mut out, key, expected, written } = self;
        if expected != written {
            return Err(VoiceError::Length { expected, written });
        }
        let failed = |error| VoiceError::io("cannot write", &path, error);
        if matches!(form, VoiceForm::G711(_)) && written % 2 == 1 {
            out.write(&[0]).map_err(failed)?;
        }
        let done = out.finish().map_err(failed)?;
        Ok(FinishedVoice {
            id,
            format: form.format(),
            bytes: done.bytes,
            sha256: done.sha256,
            path,
            file: done.file,
            key,
        })
    }
}

/// Writes a voice file whose bytes somebody else makes (Ogg Opus), under its temporary name.
pub struct EncodedWriter {
    id: RecordingId,
    format: VoiceFormat,
    path: PathBuf,
    out: VoiceOut,
    key: Option<FileKey>,
}

impl std::fmt::Debug for EncodedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedWriter").field("id", &self.id).finish_non_exhaustive()
    }
}

impl EncodedWriter {
    /// Begins a file under this temporary name; an encrypted one has another ending.
    ///
    /// # Errors
    /// [`VoiceError`]; in all methods here.
    pub fn create(
        disk: &dyn Disk,
        path: PathBuf,
        keys: &Keys,
        id: RecordingId,
        format: VoiceFormat,
    ) -> Result<Self, VoiceError> {
        let Begun { path, out, key } = begin(disk, path, keys, id)?;
        Ok(Self { id, format, path, out, key })
    }

    /// Where it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VoiceError> {
        self.out.write(bytes).map_err(|e| VoiceError::io("cannot write", &self.path, e))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn finish(self) -> Result<FinishedVoice, VoiceError> {
        let Self { id, format, path, out, key } = self;
        let done = out.finish().map_err(|error| VoiceError::io("cannot write", &path, error))?;
        let (bytes, sha256, file) = (done.bytes, done.sha256, done.file);
        Ok(FinishedVoice { id, format, bytes, sha256, path, file, key })
    }
}
