//! A recording's audio as somebody asks for it: as it lies on disk, or converted to a plain WAV
//! while it is read. Any range, in any order, a piece at a time; nothing is kept in memory but the
//! piece. How fast it goes out, and to how many at once, is the caller's matter.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use storage_core::Recording;
use storage_core::g711::Law;
use storage_core::hex;
use storage_core::record::VoiceFormat;

use crate::disk::{DiskFile, read_full_at};
use crate::voice_file::VoiceError;
use crate::voice_store::VoiceStore;
use crate::wav::{Channels, G711_HEADER_BYTES, PCM_HEADER_BYTES, pcm_header, read_g711_header};

/// Pieces that the checksum of a conversion is computed in.
const PIECE_BYTES: usize = 32 << 10;

/// Forms that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchFormat {
    /// As it lies on disk.
    #[default]
    Original,
    /// 16-bit linear WAV, which everything plays.
    Wav,
    /// Ogg Opus.
    Opus,
}

impl FetchFormat {
    /// Reads the word of a request; `None` if it is none.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "original" => Some(Self::Original),
            "wav" => Some(Self::Wav),
            "opus" => Some(Self::Opus),
            _ => None,
        }
    }

    /// Whether it can be had of a voice file of this form.
    #[must_use]
    pub fn is_had_of(self, lies: VoiceFormat) -> bool {
        match self {
            Self::Original => true,
            Self::Wav => lies != VoiceFormat::Opus,
            Self::Opus => lies == VoiceFormat::Opus,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Wav => "wav",
            Self::Opus => "opus",
        }
    }
}

/// Why a recording's audio cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// It lies in a form that cannot be converted to this one.
    #[error("no {} of this recording can be had: ask for `original`", .wanted.as_str())]
    Format {
        /// The form that was asked for.
        wanted: FetchFormat,
    },
    /// It cannot be read.
    #[error("cannot read the voice file")]
    Read(#[from] io::Error),
}

/// Audio that can be read. Cheap to keep, and closed when dropped.
#[derive(Clone, Debug)]
pub struct Fetch {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Original { sha256: String },
    Converted { law: Law, channels: Channels, samples: u32 },
}

impl Fetch {
    /// Opens a recording's audio.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn open(
        store: &VoiceStore,
        record: &Recording,
        wanted: FetchFormat,
    ) -> Result<Self, FetchError> {
        let file = store.voice(record)?;
        let as_it_is = match wanted {
            FetchFormat::Original => true,
            FetchFormat::Wav => record.format == VoiceFormat::Wav,
            FetchFormat::Opus => record.format == VoiceFormat::Opus,
        };
        if as_it_is {
            let form = Form::Original { sha256: record.sha256.clone() };
            return Ok(Self { file, bytes: record.bytes, form });
        }
        if !wanted.is_had_of(record.format) {
            return Err(FetchError::Format { wanted });
        }
        let mut header = [0; G711_HEADER_BYTES];
        read_full_at(&*file, &mut header, 0)?;
        let altered = || VoiceError::Altered { path: store.voice_path(record) };
        let (law, channels, samples) = read_g711_header(&header).ok_or_else(altered)?;
        let audio = u64::from(samples) * u64::from(channels.count()) * 2;
        let bytes = PCM_HEADER_BYTES as u64 + audio;
        Ok(Self { file, bytes, form: Form::Converted { law, channels, samples } })
    }

    /// Length of the whole audio in the form that was asked for.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the whole, lower-case hex. For a conversion it is computed here, which reads
    /// everything once (about a second for five hours).
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn sha256(&self) -> io::Result<String> {
        if let Form::Original { sha256 } = &self.form {
            return Ok(sha256.clone());
        }
        let mut sha256 = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        loop {
            let count = self.read_at(&mut piece, offset)?;
            if count == 0 {
                return Ok(hex::encode(&sha256.finalize()));
            }
            sha256.update(&piece[..count]);
            offset += count as u64;
        }
    }

    /// Fills `piece` from `offset` on, and tells how many bytes that were: fewer than there is
    /// room for only at the end.
    ///
    /// # Errors
    /// If the file cannot be read, or has become shorter than its record says.
    pub fn read_at(&self, piece: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(offset);
        let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = &mut piece[..count];
        match &self.form {
            Form::Original { .. } => self.read_exact(piece, offset)?,
            Form::Converted { law, channels, samples } => {
                self.convert(*law, &pcm_header(*channels, *samples), piece, offset)?;
            }
        }
        Ok(count)
    }

    fn convert(
        &self,
        law: Law,
        header: &[u8; PCM_HEADER_BYTES],
        piece: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(header.len());
        let in_header = piece.len().min(header.len() - from);
        piece[..in_header].copy_from_slice(&header[from..from + in_header]);
        let piece = &mut piece[in_header..];
        if piece.is_empty() {
            return Ok(());
        }
        // A range may begin and end in the middle of a sample.
        let begin = offset + in_header as u64 - header.len() as u64;
        let first = begin / 2;
        let skipped = usize::from(begin % 2 == 1);
        let mut source = vec![0; (skipped + piece.len()).div_ceil(2)];
        self.read_exact(&mut source, G711_HEADER_BYTES as u64 + first)?;
        let linear = source.iter().flat_map(|byte| law.decode(*byte).to_le_bytes());
        for (to, from) in piece.iter_mut().zip(linear.skip(skipped)) {
            *to = from;
        }
        Ok(())
    }

    fn read_exact(&self, piece: &mut [u8], offset: u64) -> io::Result<()> {
        let count = read_full_at(&*self.file, piece, offset)?;
        if count == piece.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
