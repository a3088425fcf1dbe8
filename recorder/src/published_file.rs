//! Reads a published voice file back, whatever its form, so that late captures can be laid around it.
//! Linear samples that came from G.711 become what they were; others stay linear, and what Opus has
//! made of them is heard as it is played.

use std::io;

use recorder_core::media::Codec;
use recorder_core::media::published::PublishedAudio;
use storage::wav::{
    Channels, G711_HEADER_BYTES, PCM_HEADER_BYTES, read_g711_header, read_pcm_header,
};
use storage::{Fetch, FetchError, FetchFormat, VoiceError, VoiceStore};
use storage_core::Recording;
use storage_core::g711::Law;
use storage_core::record::VoiceFormat;

/// Read at once.
const WINDOW_BYTES: usize = 64 << 10;

/// Why a published voice file is not read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishedError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Voice(#[from] VoiceError),
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("it has two channels")]
    TwoChannels,
}

/// A published voice file.
pub(crate) struct PublishedFile {
    samples: u64,
    /// The law that its linear samples most likely came from.
    law: Law,
    form: Form,
}

enum Form {
    G711(Window),
    Linear(Window),
    #[cfg(feature = "opus")]
    Opus(Box<crate::opus_read::OpusReader>),
}

impl PublishedFile {
    /// Opens the file of a record, after a look whether it still is that.
    pub(crate) fn open(store: &VoiceStore, record: &Recording) -> Result<Self, PublishedError> {
        store.verify(record)?;
        let fetch = Fetch::open(store, record, FetchFormat::Original)?;
        let altered = || VoiceError::Altered { path: store.voice_path(record) };
        let first = record.segments.first().map_or("", |segment| segment.codec.as_str());
        let law = if first.starts_with("g711u") { Law::Mu } else { Law::A };
        match record.format {
            VoiceFormat::WavG711 => {
                let mut header = [0; G711_HEADER_BYTES];
                fetch.read_at(&mut header, 0)?;
                let (law, channels, samples) = read_g711_header(&header).ok_or_else(altered)?;
                one_channel(channels)?;
                let form = Form::G711(Window::new(fetch, G711_HEADER_BYTES as u64));
                Ok(Self { samples: samples.into(), law, form })
            }
            VoiceFormat::Wav => {
                let mut header = [0; PCM_HEADER_BYTES];
                fetch.read_at(&mut header, 0)?;
                let (channels, samples) = read_pcm_header(&header).ok_or_else(altered)?;
                one_channel(channels)?;
                let samples = u64::from(samples);
                if fetch.bytes() != PCM_HEADER_BYTES as u64 + samples * 2 {
                    return Err(altered().into());
                }
                let form = Form::Linear(Window::new(fetch, PCM_HEADER_BYTES as u64));
                Ok(Self { samples, law, form })
            }
            #[cfg(feature = "opus")]
            VoiceFormat::Opus => {
                let reader = crate::opus_read::OpusReader::open(fetch)?;
                one_channel(reader.channels())?;
                let samples = reader.samples();
                Ok(Self { samples, law, form: Form::Opus(Box::new(reader)) })
            }
            #[cfg(not(feature = "opus"))]
            VoiceFormat::Opus => Err(FetchError::Format { wanted: FetchFormat::Wav }.into()),
        }
    }

    /// The law of its bytes, if it has them as they were received.
    pub(crate) const fn law(&self) -> Option<Law> {
        match self.form {
            Form::G711(_) => Some(self.law),
            _ => None,
        }
    }
}

impl PublishedAudio for PublishedFile {
    type Error = io::Error;

    fn samples(&self) -> u64 {
        self.samples
    }

    fn keeps_silence(&self) -> bool {
        matches!(self.form, Form::G711(_) | Form::Linear(_))
    }

    fn read(&mut self, at: u64, count: usize, payload: &mut Vec<u8>) -> io::Result<Codec> {
        let linear: Vec<i16> = match &mut self.form {
            Form::G711(window) => {
                payload.resize(count, 0);
                window.read(at, payload)?;
                return Ok(Codec::G711(self.law));
            }
            Form::Linear(window) => {
                let mut bytes = vec![0; count * 2];
                window.read(at * 2, &mut bytes)?;
                bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
            }
            #[cfg(feature = "opus")]
            Form::Opus(reader) => {
                let mut samples = vec![0; count];
                reader.read(at, &mut samples)?;
                samples
            }
        };
        let exact = |law: &Law| linear.iter().all(|s| law.decode(law.encode(*s)) == *s);
        let other = match self.law {
            Law::A => Law::Mu,
            Law::Mu => Law::A,
        };
        if let Some(law) = [self.law, other].into_iter().find(exact) {
            payload.extend(linear.iter().map(|sample| law.encode(*sample)));
            Ok(Codec::G711(law))
        } else {
            payload.extend(linear.iter().flat_map(|sample| sample.to_be_bytes()));
            Ok(Codec::L16)
        }
    }
}

/// What comes late cannot be laid around two channels.
fn one_channel(channels: Channels) -> Result<(), PublishedError> {
    match channels {
        Channels::Mono => Ok(()),
        Channels::Stereo => Err(PublishedError::TwoChannels),
    }
}

/// A stretch of a file in memory.
struct Window {
    fetch: Fetch,
    /// Where its samples begin.
    base: u64,
    from: u64,
    bytes: Vec<u8>,
}

impl Window {
    const fn new(fetch: Fetch, base: u64) -> Self {
        Self { fetch, base, from: 0, bytes: Vec::new() }
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if at < self.from || at + bytes.len() as u64 > self.from + self.bytes.len() as u64 {
            self.bytes.resize(WINDOW_BYTES.max(bytes.len()), 0);
            let count = self.fetch.read_at(&mut self.bytes, self.base + at)?;
            self.bytes.truncate(count);
            self.from = at;
        }
        let at = usize::try_from(at - self.from).unwrap_or(usize::MAX);
        let found = self.bytes.get(at..at.saturating_add(bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
