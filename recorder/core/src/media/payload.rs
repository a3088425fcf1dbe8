//! What a payload type means: which packets carry audio, in which codec and for how long, and which
//! are none. It decodes nothing.

use storage_core::g711::Law;

/// How audio is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// G.711: each byte is a sample.
    G711(Law),
    /// G.729, with or without annexes A and B: 10 bytes are 10 ms.
    G729,
    /// G.722 at 64 kbit/s. It samples at 16 kHz and counts 8,000 a second (RFC 3551, 4.5.2).
    G722,
    /// Linear samples of 16 bits at 8 kHz, high byte first (RFC 3551, 4.5.11).
    L16,
    /// Opus. It counts 48,000 a second whatever it sounds like (RFC 7587, 4.1).
    Opus,
}

impl Codec {
    /// Its name, as in `al_codecs` and in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::G711(Law::Mu) => "g711u",
            Self::G711(Law::A) => "g711a",
            Self::G729 => "g729",
            Self::G722 => "g722",
            Self::L16 => "l16",
            Self::Opus => "opus",
        }
    }

    /// The codec that the switch means by a name.
    fn named(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name {
            _ if is("g711u") => Some(Self::G711(Law::Mu)),
            _ if is("g711a") => Some(Self::G711(Law::A)),
            _ if is("g729") || is("g729a") => Some(Self::G729),
            _ if is("g722") => Some(Self::G722),
            _ if is("l16") => Some(Self::L16),
            _ if is("opus") => Some(Self::Opus),
            _ => None,
        }
    }

    /// How long the audio of a payload is, in samples at 8 kHz. What is no whole frame is none; a
    /// G.729 packet may end with two bytes that describe the silence after it (RFC 3551, 4.5.6).
    #[must_use]
    pub fn samples(self, payload: &[u8]) -> u16 {
        let bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        self.samples_in(bytes).unwrap_or_else(|| opus_samples(payload))
    }

    /// The same by its length alone; `None` if that does not tell.
    pub(crate) const fn samples_in(self, payload_bytes: u16) -> Option<u16> {
        match self {
            Self::G711(_) | Self::G722 => Some(payload_bytes),
            Self::G729 => Some((payload_bytes / G729_FRAME_BYTES).saturating_mul(80)),
            Self::L16 => Some(payload_bytes / 2),
            Self::Opus => None,
        }
    }

    /// How much it impairs speech by itself, on the scale of the E-model (ITU-T G.113, appendix I).
    /// Of G.722 the lower half is in the file, which is hardly impaired.
    pub(crate) const fn impairment(self) -> f64 {
        match self {
            Self::G729 => 10.0,
            Self::G711(_) | Self::G722 | Self::L16 | Self::Opus => 0.0,
        }
    }
}

/// How many ticks of a sender's clock are a sample at 8 kHz. All that is sent under numbers that the
/// switch has to explain is counted by the clock of the codec that it names.
#[must_use]
pub fn ticks_per_sample(payload_type: u8, codec: &str) -> i32 {
    match Codec::named(codec) {
        Some(Codec::Opus) if payload_type >= 96 => 6,
        _ => 1,
    }
}

/// 10 ms.
pub const G729_FRAME_BYTES: u16 = 10;
/// 120 ms, the longest packet (RFC 6716, 3.2.5).
const OPUS_SAMPLES_MAX: u16 = 960;

/// How long an Opus packet is, by its first two bytes (RFC 6716, 3.1 and 3.2).
fn opus_samples(payload: &[u8]) -> u16 {
    let Some(toc) = payload.first() else { return 0 };
    let config = toc >> 3;
    let frame: u16 = match config {
        // SILK: 10, 20, 40, 60 ms; hybrid: 10, 20 ms; CELT: 2.5, 5, 10, 20 ms.
        0..=11 => [80, 160, 320, 480][usize::from(config % 4)],
        12..=15 => [80, 160][usize::from(config % 2)],
        _ => [20, 40, 80, 160][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => payload.get(1).map_or(0, |count| count & 63),
    };
    let samples = frame * u16::from(frames);
    if samples <= OPUS_SAMPLES_MAX { samples } else { 0 }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Audio.
    Audio(Codec),
    /// Comfort noise (RFC 3389, or G.729 annex B): the sender says that it is silent.
    ComfortNoise,
    /// Keys pressed (RFC 4733): no audio.
    Event,
    /// Audio of a codec that the sealer cannot place.
    Foreign,
    /// Nothing that belongs on a voice call.
    Unknown,
}

/// RFC 4733, 2.3: an event.
const EVENT_BYTES: usize = 4;
/// So many may be in a packet, and no packet of G.711 is as short as this (2 ms).
pub(crate) const EVENT_BYTES_MAX: usize = 16;

/// Tells what a packet carries. `codec` is the last that the switch named for the segment, as in
/// `al_codecs`; it counts only where the number says nothing itself, because static numbers
/// are what the sender really sends, whatever was announced.
#[must_use]
pub fn classify(payload_type: u8, payload_bytes: usize, codec: &str) -> Payload {
    match payload_type {
        0 => Payload::Audio(Codec::G711(Law::Mu)),
        8 => Payload::Audio(Codec::G711(Law::A)),
        // 19 is what comfort noise had before RFC 3551 reserved it; switches still send it.
        13 | 19 => Payload::ComfortNoise,
        9 => Payload::Audio(Codec::G722),
        18 => g729(payload_bytes),
        // G.723.1
        4 => Payload::Foreign,
        101 => Payload::Event,
        96..=127 => match Codec::named(codec) {
            Some(Codec::G729) if payload_bytes != EVENT_BYTES => g729(payload_bytes),
            // Its silence is shorter than any event.
            Some(Codec::Opus) => Payload::Audio(Codec::Opus),
            _ if payload_bytes <= EVENT_BYTES_MAX => Payload::Event,
            Some(codec) => Payload::Audio(codec),
            None => Payload::Foreign,
        },
        _ => Payload::Unknown,
    }
}

const fn g729(payload_bytes: usize) -> Payload {
    if payload_bytes < G729_FRAME_BYTES as usize {
        Payload::ComfortNoise
    } else {
        Payload::Audio(Codec::G729)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_numbers_count_whatever_was_announced() {
        for (pt, bytes, codec, expected) in [
            (0, 160, "g711a", Payload::Audio(Codec::G711(Law::Mu))),
            (8, 160, "g729", Payload::Audio(Codec::G711(Law::A))),
            (13, 1, "g711a", Payload::ComfortNoise),
            (18, 20, "g711a", Payload::Audio(Codec::G729)),
            (18, 12, "g729", Payload::Audio(Codec::G729)),
            (18, 2, "g729", Payload::ComfortNoise),
            (9, 160, "", Payload::Audio(Codec::G722)),
            (4, 24, "", Payload::Foreign),
            (98, 10, "G729A", Payload::Audio(Codec::G729)),
            (98, 12, "g729", Payload::Audio(Codec::G729)),
            (98, 2, "g729", Payload::ComfortNoise),
            (98, 4, "g729", Payload::Event),
            (98, 320, "l16", Payload::Audio(Codec::L16)),
            (101, 4, "g711a", Payload::Event),
            (127, 4, "g711a", Payload::Event),
            (97, 160, "g711A", Payload::Audio(Codec::G711(Law::A))),
            (97, 160, "g711u", Payload::Audio(Codec::G711(Law::Mu))),
            (97, 160, "", Payload::Foreign),
            (34, 800, "g711a", Payload::Unknown),
        ] {
            assert_eq!(classify(pt, bytes, codec), expected, "{pt} {bytes} {codec}");
        }
    }

    #[test]
    fn a_payload_lasts_as_long_as_its_codec_says() {
        for (codec, bytes, samples) in [
            (Codec::G711(Law::A), 160, 160),
            (Codec::G722, 160, 160),
            (Codec::L16, 320, 160),
            (Codec::G729, 20, 160),
            (Codec::G729, 12, 80),
            (Codec::G729, 9, 0),
            (Codec::G729, usize::from(u16::MAX), u16::MAX),
        ] {
            assert_eq!(codec.samples(&vec![0; bytes]), samples, "{codec:?} {bytes}");
        }
    }

    #[test]
    fn an_opus_packet_says_itself_how_long_it_is() {
        for (payload, ms) in [
            (&[0b0100_1000_u8, 1][..], 20),
            (&[0b0001_1100, 1], 60),
            (&[0b0111_0000, 1], 10),
            (&[0b1111_1001, 1], 40),
            (&[0b1000_1010, 1], 10),
            (&[0b0100_1011, 0b1100_0011, 1], 60),
            (&[0b0100_1011, 7, 1], 0),
            (&[0b0100_1011], 0),
            (&[], 0),
        ] {
            assert_eq!(Codec::Opus.samples(payload), ms * 8, "{payload:?}");
        }
        assert_eq!(classify(111, 1, "opus"), Payload::Audio(Codec::Opus));
        assert_eq!(classify(101, 4, "opus"), Payload::Event);
    }
}
