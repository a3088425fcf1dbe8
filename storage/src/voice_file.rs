//! Voice files: written once from front to back, hashed on the way. Where they come to lie, and in
//! which order they become visible, is [`crate::voice_store`]'s matter.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use storage_core::g711::Law;
use storage_core::record::VoiceFormat;
use storage_core::{RecordingId, naming};

use crate::disk::{Disk, DiskFile, is_full, read_full_at, write_all_at};
use crate::wav::{SAMPLE_RATE, SAMPLES_MAX, g711_header};

/// Written and read in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// Form of a voice file that is to be written. Mono, 8 kHz.
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
/// that the header is written first and the file is hashed as it is written.
pub struct VoiceWriter {
    id: RecordingId,
    form: VoiceForm,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    expected: u64,
    written: u64,
    body: Body,
}

enum Body {
    G711 { law: Law, stream: HashedStream },
    Pcm(Box<hound::WavWriter<Stream>>),
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
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl VoiceWriter {
    /// Begins a file of so many samples below the data folder `dir`.
    ///
    /// # Errors
    /// [`VoiceError`]; in all methods here.
    pub fn create(
        disk: &dyn Disk,
        dir: &Path,
        id: RecordingId,
        form: VoiceForm,
        samples: u64,
    ) -> Result<Self, VoiceError> {
        let too_long = VoiceError::TooLong { samples };
        let count = u32::try_from(samples).ok().filter(|_| samples <= SAMPLES_MAX);
        let count = count.ok_or(too_long)?;
        let path = dir.join(naming::sealing_voice_file(id, form.format()));
        let file = disk.create(&path).map_err(|e| VoiceError::io("cannot create", &path, e))?;
        let body = match form {
            VoiceForm::G711(law) => {
                let mut stream = HashedStream::new(Arc::clone(&file));
                let begun = stream.write(&g711_header(law, count));
                begun.map_err(|error| VoiceError::io("cannot write", &path, error))?;
                Body::G711 { law, stream }
            }
            VoiceForm::Pcm => {
                let spec = hound::WavSpec {
                    channels: 1,
                    sample_rate: SAMPLE_RATE,
                    bits_per_sample: 16,
                    sample_format: hound::SampleFormat::Int,
                };
                let writer = hound::WavWriter::new(Stream::new(Arc::clone(&file)), spec);
                Body::Pcm(Box::new(writer.map_err(|error| hound_error(&path, error))?))
            }
        };
        Ok(Self { id, form, path, file, expected: samples, written: 0, body })
    }

    /// Adds G.711 samples of a law.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_g711(&mut self, from: Law, samples: &[u8]) -> Result<(), VoiceError> {
        self.written += samples.len() as u64;
        match &mut self.body {
            Body::G711 { law, stream } if *law == from => {
                stream.write(samples).map_err(|e| VoiceError::io("cannot write", &self.path, e))
            }
            Body::G711 { law, stream } => {
                let law = *law;
                let converted = samples.iter().map(|byte| law.encode(from.decode(*byte)));
                stream
                    .write_each(converted)
                    .map_err(|e| VoiceError::io("cannot write", &self.path, e))
            }
            Body::Pcm(writer) => {
                write_pcm(writer, &self.path, samples.iter().map(|byte| from.decode(*byte)))
            }
        }
    }

    /// Adds linear samples.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write_pcm(&mut self, samples: &[i16]) -> Result<(), VoiceError> {
        self.written += samples.len() as u64;
        match &mut self.body {
            Body::G711 { law, stream } => {
                let law = *law;
                let converted = samples.iter().map(|sample| law.encode(*sample));
                stream
                    .write_each(converted)
                    .map_err(|e| VoiceError::io("cannot write", &self.path, e))
            }
            Body::Pcm(writer) => write_pcm(writer, &self.path, samples.iter().copied()),
        }
    }

    /// Adds silence.
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
        let Self { id, form, path, file, expected, written, body } = self;
        if expected != written {
            return Err(VoiceError::Length { expected, written });
        }
        let failed = |error| VoiceError::io("cannot write", &path, error);
        let (bytes, sha256) = match body {
            Body::G711 { mut stream, .. } => {
                if written % 2 == 1 {
                    stream.write(&[0]).map_err(failed)?;
                }
                stream.finish().map_err(failed)?
            }
            Body::Pcm(writer) => {
                // hound patches the header at the end, so the file is hashed in a pass of its own.
                writer.finalize().map_err(|error| hound_error(&path, error))?;
                hash(&*file).map_err(|error| VoiceError::io("cannot read", &path, error))?
            }
        };
        Ok(FinishedVoice { id, format: form.format(), bytes, sha256, path, file })
    }
}

/// Writes a voice file whose bytes somebody else makes (Ogg Opus), under its temporary name.
pub struct EncodedWriter {
    id: RecordingId,
    format: VoiceFormat,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    stream: HashedStream,
}

impl std::fmt::Debug for EncodedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedWriter").field("id", &self.id).finish_non_exhaustive()
    }
}

impl EncodedWriter {
    /// Begins a file below the data folder `dir`.
    ///
    /// # Errors
    /// [`VoiceError`]; in all methods here.
    pub fn create(
        disk: &dyn Disk,
        dir: &Path,
        id: RecordingId,
        format: VoiceFormat,
    ) -> Result<Self, VoiceError> {
        let path = dir.join(naming::sealing_voice_file(id, format));
        let file = disk.create(&path).map_err(|e| VoiceError::io("cannot create", &path, e))?;
        let stream = HashedStream::new(Arc::clone(&file));
        Ok(Self { id, format, path, file, stream })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VoiceError> {
        self.stream.write(bytes).map_err(|e| VoiceError::io("cannot write", &self.path, e))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub fn finish(self) -> Result<FinishedVoice, VoiceError> {
        let Self { id, format, path, file, stream } = self;
        let (bytes, sha256) =
            stream.finish().map_err(|error| VoiceError::io("cannot write", &path, error))?;
        Ok(FinishedVoice { id, format, bytes, sha256, path, file })
    }
}

fn write_pcm(
    writer: &mut hound::WavWriter<Stream>,
    path: &Path,
    samples: impl Iterator<Item = i16>,
) -> Result<(), VoiceError> {
    for sample in samples {
        writer.write_sample(sample).map_err(|error| hound_error(path, error))?;
    }
    Ok(())
}

fn hound_error(path: &Path, error: hound::Error) -> VoiceError {
    let source = match error {
        hound::Error::IoError(error) => error,
        error => io::Error::other(error),
    };
    VoiceError::io("cannot write", path, source)
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub fn hash(file: &dyn DiskFile) -> io::Result<(u64, String)> {
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = read_full_at(file, &mut piece, offset)?;
        if count == 0 {
            return Ok((offset, hex(&sha256.finalize())));
        }
        sha256.update(&piece[..count]);
        offset += count as u64;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes front to back in pieces, and hashes each piece.
struct HashedStream {
    stream: Stream,
    sha256: Sha256,
}

impl HashedStream {
    fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { stream: Stream::new(file), sha256: Sha256::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        self.stream.write_all(bytes)
    }

    fn write_each(&mut self, bytes: impl Iterator<Item = u8>) -> io::Result<()> {
        let mut piece = [0; 256];
        let mut count = 0;
        for byte in bytes {
            piece[count] = byte;
            count += 1;
            if count == piece.len() {
                self.write(&piece)?;
                count = 0;
            }
        }
        self.write(&piece[..count])
    }

    fn finish(mut self) -> io::Result<(u64, String)> {
        self.stream.flush()?;
        Ok((self.stream.offset, hex(&self.sha256.finalize())))
    }
}

/// A file as `hound` wants one: written through a buffer, with a place that can be set.
struct Stream {
    file: Arc<dyn DiskFile>,
    /// Where the buffer's first byte goes.
    offset: u64,
    buffer: Vec<u8>,
}

impl Stream {
    fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, offset: 0, buffer: Vec::with_capacity(PIECE_BYTES) }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        let count = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.buffer, self.offset).map_err(|(_, error)| error)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Seek for Stream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.flush()?;
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.length()?.checked_add_signed(by),
        };
        self.offset = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}
