//! Plays an Ogg Opus voice file of ours back into samples, from front to back and again from the
//! front where somebody goes back (RFC 7845: without pre-skip and what is cut at the end).

use std::io::{self, Read, Seek, SeekFrom};

use ogg::reading::PacketReader;
use opus::{Channels, Decoder};
use storage::Fetch;

const SAMPLE_RATE: u32 = 8000;
/// 48 kHz to 8 kHz.
const GRANULES_PER_SAMPLE: u64 = 6;
/// An Opus packet holds at most 120 ms.
const PACKET_SAMPLES_MAX: usize = 960;
/// Played samples that are kept.
const WINDOW_SAMPLES: usize = 16_384;

/// A voice file that is played.
pub(crate) struct OpusReader {
    fetch: Fetch,
    samples: u64,
    playing: Playing,
}

/// Where it has come to.
struct Playing {
    packets: PacketReader<Bytes>,
    decoder: Decoder,
    /// Samples of the decoder's start that are not to be heard.
    skip: usize,
    /// Position of the window's first sample.
    from: u64,
    window: Vec<i16>,
}

impl OpusReader {
    /// Opens a file and finds its length.
    pub(crate) fn open(fetch: Fetch) -> io::Result<Self> {
        let playing = Playing::begin(&fetch)?;
        let mut packets = PacketReader::new(Bytes { fetch: fetch.clone(), at: 0 });
        let mut end = 0;
        while let Some(packet) = packets.read_packet().map_err(io::Error::other)? {
            end = packet.absgp_page();
        }
        let samples = (end / GRANULES_PER_SAMPLE).saturating_sub(playing.skip as u64);
        Ok(Self { fetch, samples, playing })
    }

    pub(crate) const fn samples(&self) -> u64 {
        self.samples
    }

    /// So many samples from a position on.
    pub(crate) fn read(&mut self, at: u64, count: usize) -> io::Result<Vec<i16>> {
        if at < self.playing.from {
            self.playing = Playing::begin(&self.fetch)?;
        }
        let end = at + count as u64;
        while self.playing.end() < end {
            self.playing.go_on(at)?;
        }
        let first = usize::try_from(at - self.playing.from).unwrap_or(usize::MAX);
        let found = self.playing.window.get(first..first.saturating_add(count));
        found.map(<[i16]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Playing {
    fn begin(fetch: &Fetch) -> io::Result<Self> {
        let mut packets = PacketReader::new(Bytes { fetch: fetch.clone(), at: 0 });
        let head = packets.read_packet_expected().map_err(io::Error::other)?;
        let pre_skip = match head.data.get(10..12) {
            Some(&[low, high]) if head.data.starts_with(b"OpusHead") => {
                u64::from(u16::from_le_bytes([low, high]))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        packets.read_packet_expected().map_err(io::Error::other)?;
        let decoder = Decoder::new(SAMPLE_RATE, Channels::Mono).map_err(io::Error::other)?;
        let skip = usize::try_from(pre_skip / GRANULES_PER_SAMPLE).unwrap_or(usize::MAX);
        Ok(Self { packets, decoder, skip, from: 0, window: Vec::new() })
    }

    fn end(&self) -> u64 {
        self.from + self.window.len() as u64
    }

    /// Plays one packet more; what lies well before `needed` is forgotten.
    fn go_on(&mut self, needed: u64) -> io::Result<()> {
        let packet = self.packets.read_packet().map_err(io::Error::other)?;
        let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut played = [0; PACKET_SAMPLES_MAX];
        let count = self.decoder.decode(&packet.data, &mut played, false);
        let played = &played[..count.map_err(io::Error::other)?];
        let skipped = self.skip.min(played.len());
        self.skip -= skipped;
        self.window.extend_from_slice(&played[skipped..]);
        if self.window.len() > 2 * WINDOW_SAMPLES {
            let old = usize::try_from(needed.saturating_sub(self.from)).unwrap_or(usize::MAX);
            let old = old.min(self.window.len() - WINDOW_SAMPLES);
            self.window.drain(..old);
            self.from += old as u64;
        }
        Ok(())
    }
}

/// A voice file as a stream of bytes.
struct Bytes {
    fetch: Fetch,
    at: u64,
}

impl Read for Bytes {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.fetch.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Bytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.fetch.bytes().checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
