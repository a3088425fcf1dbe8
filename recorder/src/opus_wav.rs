//! An Opus voice file as linear WAV, played while it is read.

use std::io;

use storage::Fetch;
use storage::wav::{PCM_HEADER_BYTES, pcm_header};

use crate::opus_read::OpusReader;

/// A voice file that is played as it is read.
pub(crate) struct OpusWav {
    reader: OpusReader,
    header: [u8; PCM_HEADER_BYTES],
    bytes: u64,
    samples: Vec<i16>,
}

impl OpusWav {
    /// Opens a file.
    pub(crate) fn open(fetch: Fetch) -> io::Result<Self> {
        let reader = OpusReader::open(fetch)?;
        // 149 hours, which is longer than any recording.
        let samples = u32::try_from(reader.samples()).map_err(|_| io::ErrorKind::InvalidData)?;
        let channels = reader.channels();
        let audio = u64::from(samples) * u64::from(channels.count()) * 2;
        let bytes = PCM_HEADER_BYTES as u64 + audio;
        Ok(Self { reader, header: pcm_header(channels, samples), bytes, samples: Vec::new() })
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `piece` from `offset` on, with less only at the end.
    pub(crate) fn read_at(&mut self, piece: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(offset);
        let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = &mut piece[..count];
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(PCM_HEADER_BYTES);
        let in_header = count.min(PCM_HEADER_BYTES - from);
        piece[..in_header].copy_from_slice(&self.header[from..from + in_header]);
        let piece = &mut piece[in_header..];
        if !piece.is_empty() {
            // A range may begin and end in the midst of a sample.
            let begin = offset + in_header as u64 - PCM_HEADER_BYTES as u64;
            let skipped = usize::from(begin % 2 == 1);
            self.samples.resize((skipped + piece.len()).div_ceil(2), 0);
            self.reader.read(begin / 2, &mut self.samples)?;
            let linear = self.samples.iter().flat_map(|sample| sample.to_le_bytes());
            for (to, from) in piece.iter_mut().zip(linear.skip(skipped)) {
                *to = from;
            }
        }
        Ok(count)
    }
}
