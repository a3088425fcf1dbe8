//! What a payload type means: which packets carry audio, by which law, and which are none.
//! It decodes nothing.

use storage_core::g711::Law;

/// A law's name as in `al_codecs`.
#[must_use]
pub const fn codec_name(law: Law) -> &'static str {
    match law {
        Law::Mu => "g711u",
        Law::A => "g711a",
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// G.711 audio: each byte is a sample.
    Audio(Law),
    /// Comfort noise (RFC 3389): the sender says that it is silent.
    ComfortNoise,
    /// Keys pressed (RFC 4733): no audio.
    Event,
    /// Audio of a codec that the sealer cannot place.
    Foreign,
    /// Nothing that belongs on a voice call.
    Unknown,
}

/// RFC 4733 events are 4 bytes each, and no G.711 packet is as short as this (2 ms).
pub(crate) const EVENT_BYTES_MAX: usize = 16;

/// Tells what a packet carries. `codec` is the last that the switch named for the segment, as in
/// `al_codecs`; it counts only where the number says nothing itself, because static numbers
/// are what the sender really sends, whatever was announced.
#[must_use]
pub fn classify(payload_type: u8, payload_bytes: usize, codec: &str) -> Payload {
    match payload_type {
        0 => Payload::Audio(Law::Mu),
        8 => Payload::Audio(Law::A),
        // 19 is what comfort noise had before RFC 3551 reserved it; switches still send it.
        13 | 19 => Payload::ComfortNoise,
        // G.723, G.722, G.729: static numbers of RFC 3551, table 4.
        4 | 9 | 18 => Payload::Foreign,
        101 => Payload::Event,
        96..=127 if payload_bytes <= EVENT_BYTES_MAX => Payload::Event,
        96..=127 => match codec {
            _ if codec.eq_ignore_ascii_case("g711u") => Payload::Audio(Law::Mu),
            _ if codec.eq_ignore_ascii_case("g711a") => Payload::Audio(Law::A),
            _ => Payload::Foreign,
        },
        _ => Payload::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_numbers_count_whatever_was_announced() {
        for (pt, bytes, codec, expected) in [
            (0, 160, "g711a", Payload::Audio(Law::Mu)),
            (8, 160, "g729", Payload::Audio(Law::A)),
            (13, 1, "g711a", Payload::ComfortNoise),
            (18, 20, "g711a", Payload::Foreign),
            (101, 4, "g711a", Payload::Event),
            (127, 4, "g711a", Payload::Event),
            (97, 160, "g711A", Payload::Audio(Law::A)),
            (97, 160, "g711u", Payload::Audio(Law::Mu)),
            (97, 160, "", Payload::Foreign),
            (34, 800, "g711a", Payload::Unknown),
        ] {
            assert_eq!(classify(pt, bytes, codec), expected, "{pt} {bytes} {codec}");
        }
    }
}
