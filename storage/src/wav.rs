//! RIFF/WAVE headers of the voice files: 8 kHz, one channel or two, G.711 as it was received or 16-bit
//! linear. Two channels are interleaved, the left one first.
//!
//! The length is known before a file is begun, so a header is written once, in front. (`hound` writes
//! it twice, and knows no G.711.)

use storage_core::g711::Law;

/// Samples a second.
pub const SAMPLE_RATE: u32 = 8000;
/// How many voices a file keeps apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channels {
    /// All in one.
    #[default]
    Mono,
    /// Left and right.
    Stereo,
}

impl Channels {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mono, Self::Stereo];

    /// How many.
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// Length of a G.711 header: RIFF, fmt with its extension's length, fact, data.
pub const G711_HEADER_BYTES: usize = 58;
/// Length of a linear header: RIFF, fmt, data.
pub const PCM_HEADER_BYTES: usize = 44;
/// Samples of all channels: a file's length is kept in 32 bits; with 16-bit samples of one channel that
/// is 74 hours.
pub const SAMPLES_MAX: u64 = (u32::MAX as u64 - 64) / 2;

const TAG_PCM: u16 = 1;
const TAG_A_LAW: u16 = 6;
const TAG_MU_LAW: u16 = 7;

/// Header of a G.711 file of so many samples in each channel. Its audio is padded to an even length.
#[must_use]
pub fn g711_header(law: Law, channels: Channels, samples: u32) -> [u8; G711_HEADER_BYTES] {
    let tag = match law {
        Law::A => TAG_A_LAW,
        Law::Mu => TAG_MU_LAW,
    };
    let (count, bytes) = (channels.count(), samples * u32::from(channels.count()));
    let mut header = Fields::<G711_HEADER_BYTES>::new();
    header.text(b"RIFF").u32(bytes + bytes % 2 + 50).text(b"WAVE");
    header.text(b"fmt ").u32(18).u16(tag).u16(count).u32(SAMPLE_RATE);
    header.u32(SAMPLE_RATE * u32::from(count)).u16(count).u16(8).u16(0);
    header.text(b"fact").u32(4).u32(samples);
    header.text(b"data").u32(bytes);
    header.bytes
}

/// Header of a 16-bit linear file of so many samples in each channel.
#[must_use]
pub fn pcm_header(channels: Channels, samples: u32) -> [u8; PCM_HEADER_BYTES] {
    let (count, bytes) = (channels.count(), samples * u32::from(channels.count()) * 2);
    let mut header = Fields::<PCM_HEADER_BYTES>::new();
    header.text(b"RIFF").u32(bytes + 36).text(b"WAVE");
    header.text(b"fmt ").u32(16).u16(TAG_PCM).u16(count).u32(SAMPLE_RATE);
    header.u32(SAMPLE_RATE * u32::from(count) * 2).u16(count * 2).u16(16);
    header.text(b"data").u32(bytes);
    header.bytes
}

/// The law, the channels and the samples in each of them of a G.711 file of ours; `None` if its first
/// bytes are not such a header.
#[must_use]
pub fn read_g711_header(bytes: &[u8; G711_HEADER_BYTES]) -> Option<(Law, Channels, u32)> {
    let (_, length) = bytes.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    // The fields have one form only, so the header is compared with what it must be.
    let fits = u64::from(length) <= SAMPLES_MAX;
    let forms = Channels::ALL.into_iter().flat_map(|channels| {
        [Law::A, Law::Mu].map(|law| (law, channels, length / u32::from(channels.count())))
    });
    forms
        .into_iter()
        .find(|(law, channels, samples)| fits && g711_header(*law, *channels, *samples) == *bytes)
}

/// The channels of a linear file of ours and the samples in each of them; `None` if its first bytes are
/// not such a header.
#[must_use]
pub fn read_pcm_header(bytes: &[u8; PCM_HEADER_BYTES]) -> Option<(Channels, u32)> {
    let (_, length) = bytes.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let fits = u64::from(length) <= SAMPLES_MAX * 2;
    let forms = Channels::ALL.map(|channels| (channels, length / u32::from(channels.count()) / 2));
    forms.into_iter().find(|(channels, samples)| fits && pcm_header(*channels, *samples) == *bytes)
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
        let header = g711_header(Law::A, Channels::Mono, 161);
        // Written out from the format's description, not from the code.
        let expected = [
            &b"RIFF\xd4\0\0\0WAVE"[..],
            b"fmt \x12\0\0\0\x06\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0\0\0",
            b"fact\x04\0\0\0\xa1\0\0\0",
            b"data\xa1\0\0\0",
        ]
        .concat();
        assert_eq!(header[..], expected);
        assert_eq!(read_g711_header(&header), Some((Law::A, Channels::Mono, 161)));
        let mut other = header;
        other[20] = 1;
        assert_eq!(read_g711_header(&other), None);
        assert_eq!(read_g711_header(&[0xff; G711_HEADER_BYTES]), None);
    }

    #[test]
    fn a_linear_header_is_what_hound_reads() {
        let mut file = pcm_header(Channels::Mono, 3).to_vec();
        file.extend([1, 0, 0xff, 0xff, 0, 0x80]);
        let mut reader = hound::WavReader::new(&file[..]).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (1, 8000));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [1, -1, i16::MIN]);
    }

    #[test]
    fn two_channels_are_what_hound_and_ffprobe_read() {
        let header = pcm_header(Channels::Stereo, 2);
        assert_eq!(read_pcm_header(&header), Some((Channels::Stereo, 2)));
        assert_eq!(read_pcm_header(&pcm_header(Channels::Mono, 2)), Some((Channels::Mono, 2)));
        let mut file = header.to_vec();
        file.extend([1, 0, 2, 0, 3, 0, 4, 0]);
        let mut reader = hound::WavReader::new(&file[..]).unwrap();
        assert_eq!((reader.spec().channels, reader.duration()), (2, 2));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [1, 2, 3, 4]);
        let header = g711_header(Law::Mu, Channels::Stereo, 8_000);
        assert_eq!(read_g711_header(&header), Some((Law::Mu, Channels::Stereo, 8_000)));
        let mut file = header.to_vec();
        file.extend([0xff; 16_000]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stereo.wav");
        std::fs::write(&path, file).unwrap();
        let entries = "stream=codec_name,channels,duration";
        let arguments = ["-v", "error", "-show_entries", entries, "-of", "csv=p=0"];
        let probe = std::process::Command::new("ffprobe").args(arguments).arg(path).output();
        let Ok(output) = probe else { return eprintln!("no ffprobe here: not judged") };
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "pcm_mulaw,2,1.000000");
    }
}
