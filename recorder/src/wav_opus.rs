//! A voice file of any other form as Ogg Opus (RFC 6716, RFC 7845), encoded while it is read. Any range in any order
//! gives the same bytes: packets are of one length, so where a page lies is known, and each page of a second is
//! encoded by itself, after a run-up through the audio before it, which brings the encoder to where a decoder is that
//! has played up to there. Nothing is kept but one page.

use std::io;

use opus::Encoder;
use storage::Fetch;
use storage::wav::{Channels, PCM_HEADER_BYTES, read_pcm_header};
use storage_core::RecordingId;

use crate::opus_file::{
    FRAME_SAMPLES, FRAMES_PER_PAGE, GRANULES_PER_SAMPLE, encoder, head, pre_skip, serial, tags,
};

/// 24 kbit/s for each channel: a packet of 20 ms. One lacing value says as much (RFC 3533, 6).
const PACKET_BYTES: usize = 60;
const BITRATE: u32 = 24_000;
/// Packets of the run-up: with five the signal is 2 dB worse than of a file that is encoded in one go.
const RUN_UP: u64 = 20;
const PAGE_HEADER_BYTES: usize = 27;
const FIRST_OF_STREAM: u8 = 2;
const LAST_OF_STREAM: u8 = 4;

/// A voice file that is encoded as it is read.
pub(crate) struct WavOpus {
    /// Linear samples behind a WAV header.
    wav: Fetch,
    encoder: Encoder,
    channels: Channels,
    /// Of each channel.
    samples: u64,
    pre_skip: u64,
    serial: u32,
    /// The two pages that a stream opens with.
    heads: Vec<u8>,
    packets: u64,
    bytes: u64,
    /// The page encoded last, and which.
    page: Option<(u64, Vec<u8>)>,
}

impl WavOpus {
    /// Opens a file, which is given as linear WAV.
    pub(crate) fn open(wav: Fetch, id: RecordingId) -> io::Result<Self> {
        let mut header = [0; PCM_HEADER_BYTES];
        if wav.read_at(&mut header, 0)? < PCM_HEADER_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (channels, samples) = read_pcm_header(&header).ok_or(io::ErrorKind::InvalidData)?;
        let samples = u64::from(samples);
        let (encoder, pre_skip) = constant_rate(channels).map_err(io::Error::other)?;
        let serial = serial(id);
        let mut heads = ogg_page(FIRST_OF_STREAM, 0, serial, 0, &[head(channels, pre_skip)]);
        heads.extend(ogg_page(0, 0, serial, 1, &[tags(&[])]));
        // The last sample is out of the decoder only after the encoder's look-ahead.
        let end = pre_skip + samples * GRANULES_PER_SAMPLE;
        let packets = end.div_ceil(FRAME_SAMPLES as u64 * GRANULES_PER_SAMPLE).max(1);
        let mut opus = Self {
            wav,
            encoder,
            channels,
            samples,
            pre_skip,
            serial,
            heads,
            packets,
            bytes: 0,
            page: None,
        };
        let whole = packets / FRAMES_PER_PAGE * opus.page_bytes(FRAMES_PER_PAGE);
        let rest = packets % FRAMES_PER_PAGE;
        let last = if rest > 0 { opus.page_bytes(rest) } else { 0 };
        opus.bytes = opus.heads.len() as u64 + whole + last;
        Ok(opus)
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `piece` from `offset` on, with less only at the end.
    pub(crate) fn read_at(&mut self, piece: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < piece.len() {
            let at = offset.saturating_add(filled as u64);
            if at >= self.bytes {
                break;
            }
            let heads = self.heads.len() as u64;
            let (from, within) = match at.checked_sub(heads) {
                None => (&self.heads, at),
                Some(behind) => {
                    let page = self.page_bytes(FRAMES_PER_PAGE);
                    (self.page(behind / page)?, behind % page)
                }
            };
            let rest = &from[usize::try_from(within).unwrap_or(usize::MAX).min(from.len())..];
            let count = rest.len().min(piece.len() - filled);
            piece[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
        }
        Ok(filled)
    }

    const fn packet_bytes(&self) -> usize {
        PACKET_BYTES * self.channels.count() as usize
    }

    const fn page_bytes(&self, packets: u64) -> u64 {
        PAGE_HEADER_BYTES as u64 + packets * (1 + self.packet_bytes() as u64)
    }

    fn page(&mut self, number: u64) -> io::Result<&Vec<u8>> {
        if self.page.as_ref().is_none_or(|(known, _)| *known != number) {
            self.page = Some((number, self.encode(number)?));
        }
        self.page.as_ref().map(|(_, page)| page).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode(&mut self, number: u64) -> io::Result<Vec<u8>> {
        let first = number * FRAMES_PER_PAGE;
        let count = FRAMES_PER_PAGE.min(self.packets.saturating_sub(first));
        let run_up = RUN_UP.min(first);
        let frame = FRAME_SAMPLES * usize::from(self.channels.count());
        let from = (first - run_up) * frame as u64 * 2;
        // Silence behind the end.
        let mut linear = vec![0; (run_up + count) as usize * frame * 2];
        self.wav.read_at(&mut linear, PCM_HEADER_BYTES as u64 + from)?;
        let samples: Vec<i16> =
            linear.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        self.encoder.reset_state().map_err(io::Error::other)?;
        let mut packets = Vec::with_capacity(FRAMES_PER_PAGE as usize);
        for frame in samples.chunks_exact(frame) {
            let mut packet = vec![0; self.packet_bytes()];
            let length = self.encoder.encode(frame, &mut packet).map_err(io::Error::other)?;
            if length != packet.len() {
                return Err(io::Error::other("the Opus encoder made a packet of another length"));
            }
            packets.push(packet);
        }
        packets.drain(..run_up as usize);
        let end = first + count;
        let (flags, granule) = if end >= self.packets {
            // Fewer than the packets hold: the decoder cuts the rest (RFC 7845, 4.4).
            (LAST_OF_STREAM, self.pre_skip + self.samples * GRANULES_PER_SAMPLE)
        } else {
            (0, end * FRAME_SAMPLES as u64 * GRANULES_PER_SAMPLE)
        };
        let sequence = u32::try_from(number + 2).unwrap_or(u32::MAX);
        Ok(ogg_page(flags, granule, self.serial, sequence, &packets))
    }
}

/// An encoder that makes packets of one length, and its pre-skip.
fn constant_rate(channels: Channels) -> Result<(Encoder, u64), opus::Error> {
    let mut encoder = encoder(channels, BITRATE * u32::from(channels.count()))?;
    encoder.set_vbr(false)?;
    let pre_skip = pre_skip(&mut encoder)?;
    Ok((encoder, pre_skip))
}

/// A page of whole packets (RFC 3533, 6).
fn ogg_page(flags: u8, granule: u64, serial: u32, sequence: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut lacing = Vec::new();
    for packet in packets {
        lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        // Below 255.
        lacing.push((packet.len() % 255) as u8);
    }
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    let checksum = page.len();
    page.extend([0; 4]);
    // A second is 50 packets of one value each, and the comments are short.
    page.push(u8::try_from(lacing.len()).unwrap_or(u8::MAX));
    page.extend(lacing);
    packets.iter().for_each(|packet| page.extend(packet));
    let crc = crc(&page).to_le_bytes();
    page[checksum..checksum + 4].copy_from_slice(&crc);
    page
}

/// CRC-32 by the polynomial 0x04c11db7, highest bit first, from 0 (RFC 3533, 6).
fn crc(page: &[u8]) -> u32 {
    page.iter().fold(0, |crc, byte| {
        let mixed = crc ^ u32::from(*byte) << 24;
        (0..8).fold(
            mixed,
            |crc: u32, _| {
                if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
            },
        )
    })
}
