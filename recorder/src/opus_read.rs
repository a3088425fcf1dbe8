//! Plays an Ogg Opus voice file of ours back into samples (RFC 7845: without pre-skip and what is cut
//! at the end), in any order. A decoder remembers, so what it gives depends on where it began: each
//! half minute is decoded by a decoder of its own that begins a second or two before, and the
//! same samples are the same whoever asks for them and in whatever order.

use std::io::{self, Read, Seek, SeekFrom};

use ogg::reading::PacketReader;
use opus::Decoder;
use storage::Fetch;
use storage::wav::Channels;

use crate::opus_file::opus_channels;

const SAMPLE_RATE: u32 = 8000;
/// 48 kHz to 8 kHz.
const GRANULES_PER_SAMPLE: u64 = 6;
/// An Opus packet holds at most 120 ms; of each channel.
const PACKET_SAMPLES_MAX: usize = 960;
/// Our packets hold 20 ms.
const PACKET_SAMPLES: u64 = 160;
/// Our pages end with each second, if not before.
const PAGE_SAMPLES: u64 = SAMPLE_RATE as u64;
/// Decoded at once and kept: half a minute, 480 KB of each channel.
const STRETCH_SAMPLES: u64 = 30 * SAMPLE_RATE as u64;

/// A voice file that is played.
pub(crate) struct OpusReader {
    fetch: Fetch,
    channels: Channels,
    /// Of each channel.
    samples: u64,
    /// Samples at the decoder's begin that are not to be heard.
    pre_skip: u64,
    /// Number of the stretch that is kept.
    stretch: Option<u64>,
    kept: Vec<i16>,
}

impl OpusReader {
    /// Opens a file and finds its length.
    pub(crate) fn open(fetch: Fetch) -> io::Result<Self> {
        let mut packets = reader(&fetch);
        let head = packets.read_packet_expected().map_err(io::Error::other)?;
        let Some(&[count, low, high]) =
            head.data.get(9..12).filter(|_| head.data.starts_with(b"OpusHead"))
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let known = |channels: &Channels| channels.count() == u16::from(count);
        let channels = Channels::ALL.into_iter().find(known).ok_or(io::ErrorKind::InvalidData)?;
        let pre_skip = u64::from(u16::from_le_bytes([low, high])) / GRANULES_PER_SAMPLE;
        let mut end = 0;
        while let Some(packet) = packets.read_packet().map_err(io::Error::other)? {
            end = packet.absgp_page();
        }
        let samples = (end / GRANULES_PER_SAMPLE).saturating_sub(pre_skip);
        Ok(Self { fetch, channels, samples, pre_skip, stretch: None, kept: Vec::new() })
    }

    /// Samples of each channel.
    pub(crate) const fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) const fn channels(&self) -> Channels {
        self.channels
    }

    /// Fills `samples` from a position on, which counts the samples of all channels in turn, as they
    /// are given.
    pub(crate) fn read(&mut self, mut at: u64, mut samples: &mut [i16]) -> io::Result<()> {
        let kept = STRETCH_SAMPLES * u64::from(self.channels.count());
        while !samples.is_empty() {
            let stretch = at / kept;
            if self.stretch != Some(stretch) {
                self.stretch = None;
                self.decode(stretch)?;
                self.stretch = Some(stretch);
            }
            let into = usize::try_from(at % kept).unwrap_or(usize::MAX);
            let here = self.kept.get(into..).unwrap_or_default();
            let count = here.len().min(samples.len());
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            samples[..count].copy_from_slice(&here[..count]);
            samples = &mut samples[count..];
            at += count as u64;
        }
        Ok(())
    }

    fn decode(&mut self, stretch: u64) -> io::Result<()> {
        let first = stretch * STRETCH_SAMPLES;
        let wanted = STRETCH_SAMPLES.min(self.samples.saturating_sub(first));
        let count = usize::from(self.channels.count());
        let wanted = usize::try_from(wanted).unwrap_or(0) * count;
        let in_stream = first + self.pre_skip;
        let mut packets = Packets::from_before(&self.fetch, in_stream)?;
        let mut decoder =
            Decoder::new(SAMPLE_RATE, opus_channels(self.channels)).map_err(io::Error::other)?;
        let mut played = vec![0; PACKET_SAMPLES_MAX * count];
        let unheard = in_stream.checked_sub(packets.begin).ok_or(io::ErrorKind::InvalidData)?;
        let mut unheard = usize::try_from(unheard).unwrap_or(usize::MAX).saturating_mul(count);
        self.kept.clear();
        while self.kept.len() < wanted {
            let packet = packets.next()?;
            let decoded = decoder.decode(&packet, &mut played, false);
            let played = &played[..decoded.map_err(io::Error::other)? * count];
            let skipped = unheard.min(played.len());
            unheard -= skipped;
            let played = &played[skipped..];
            let room = wanted - self.kept.len();
            self.kept.extend_from_slice(&played[..played.len().min(room)]);
        }
        Ok(())
    }
}

/// The packets of a file, from somewhere on.
struct Packets {
    reader: PacketReader<Bytes>,
    /// Read already, the first one last.
    ahead: Vec<Vec<u8>>,
    /// Where the first packet's audio begins, in samples of the stream.
    begin: u64,
}

impl Packets {
    /// From a second or two before a place on, or from the begin.
    fn from_before(fetch: &Fetch, place: u64) -> io::Result<Self> {
        let mut reader = reader(fetch);
        let before = (place / PAGE_SAMPLES).saturating_sub(1) * PAGE_SAMPLES;
        if before == 0 {
            // The two headers.
            reader.read_packet_expected().map_err(io::Error::other)?;
            reader.read_packet_expected().map_err(io::Error::other)?;
            return Ok(Self { reader, ahead: Vec::new(), begin: 0 });
        }
        let granule = before * GRANULES_PER_SAMPLE + 1;
        if !reader.seek_absgp(None, granule).map_err(io::Error::other)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A page says where it ends.
        let mut ahead = Vec::new();
        let end = loop {
            let packet = reader.read_packet_expected().map_err(io::Error::other)?;
            let last = packet.last_in_page();
            let end = packet.absgp_page() / GRANULES_PER_SAMPLE;
            ahead.push(packet.data);
            if last {
                break end;
            }
        };
        ahead.reverse();
        let begin = end.saturating_sub(ahead.len() as u64 * PACKET_SAMPLES);
        Ok(Self { reader, ahead, begin })
    }

    fn next(&mut self) -> io::Result<Vec<u8>> {
        if let Some(packet) = self.ahead.pop() {
            return Ok(packet);
        }
        Ok(self.reader.read_packet_expected().map_err(io::Error::other)?.data)
    }
}

fn reader(fetch: &Fetch) -> PacketReader<Bytes> {
    PacketReader::new(Bytes { fetch: fetch.clone(), at: 0 })
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
