//! RIFF/WAVE headers of the voice files: mono, 8 kHz, G.711 as it was received or 16-bit linear.
//! The length is known before a file is begun, so a header is written once, in front. (`hound` writes
//! it twice, and knows no G.711.)

use storage_core::g711::Law;

/// Samples a second.
pub const SAMPLE_RATE: u32 = 8000;
/// Length of a G.711 header: RIFF, fmt with its extension's length, fact, data.
pub const G711_HEADER_BYTES: usize = 58;
/// Length of a linear header: RIFF, fmt, data.
pub const PCM_HEADER_BYTES: usize = 44;
/// A file's length is kept in 32 bits; with 16-bit samples that is 74 hours.
pub const SAMPLES_MAX: u64 = (u32::MAX as u64 - 64) / 2;

const TAG_PCM: u16 = 1;
const TAG_A_LAW: u16 = 6;
const TAG_MU_LAW: u16 = 7;

/// Header of a G.711 file. Its audio is padded to an even length.
#[must_use]
pub fn g711_header(law: Law, samples: u32) -> [u8; G711_HEADER_BYTES] {
    let tag = match law {
        Law::A => TAG_A_LAW,
        Law::Mu => TAG_MU_LAW,
    };
    let mut header = Fields::<G711_HEADER_BYTES>::new();
    header.text(b"RIFF").u32(samples + samples % 2 + 50).text(b"WAVE");
    header.text(b"fmt ").u32(18).u16(tag).u16(1).u32(SAMPLE_RATE).u32(SAMPLE_RATE);
    header.u16(1).u16(8).u16(0);
    header.text(b"fact").u32(4).u32(samples);
    header.text(b"data").u32(samples);
    header.bytes
}

/// Header of a 16-bit linear file.
#[must_use]
pub fn pcm_header(samples: u32) -> [u8; PCM_HEADER_BYTES] {
    let mut header = Fields::<PCM_HEADER_BYTES>::new();
    header.text(b"RIFF").u32(samples * 2 + 36).text(b"WAVE");
    header.text(b"fmt ").u32(16).u16(TAG_PCM).u16(1).u32(SAMPLE_RATE).u32(SAMPLE_RATE * 2);
    header.u16(2).u16(16);
    header.text(b"data").u32(samples * 2);
    header.bytes
}

/// The law and the number of samples of a G.711 file of ours; `None` if its first bytes are not
/// such a header.
#[must_use]
pub fn read_g711_header(bytes: &[u8; G711_HEADER_BYTES]) -> Option<(Law, u32)> {
    let (_, samples) = bytes.split_last_chunk::<4>()?;
    let samples = u32::from_le_bytes(*samples);
    // The fields have one form only, so the header is compared with what it must be.
    let fits = u64::from(samples) <= SAMPLES_MAX;
    [Law::A, Law::Mu]
        .into_iter()
        .find(|law| fits && g711_header(*law, samples) == *bytes)
        .map(|law| (law, samples))
}

/// Puts fields one behind the other.
struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Fields<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += text.len();
        self
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.text(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.text(&number.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_g711_header_is_what_players_expect() {
        let header = g711_header(Law::A, 161);
        // Written out from the format's description, not from the code.
        let expected = [
            &b"RIFF\xd4\0\0\0WAVE"[..],
            b"fmt \x12\0\0\0\x06\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0",
            b"fact\x04\0\0\0\xa1\0\0\0",
            b"data\xa1\0\0\0",
        ]
        .concat();
        assert_eq!(header[..], expected);
        assert_eq!(read_g711_header(&header), Some((Law::A, 161)));
        let mut other = header;
        other[20] = 1;
        assert_eq!(read_g711_header(&other), None);
        assert_eq!(read_g711_header(&[0xff; G711_HEADER_BYTES]), None);
    }

    #[test]
    fn a_linear_header_is_what_hound_reads() {
        let mut file = pcm_header(3).to_vec();
        file.extend([1, 0, 0xff, 0xff, 0, 0x80]);
        let mut reader = hound::WavReader::new(&file[..]).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (1, 8000));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [1, -1, i16::MIN]);
    }
}
