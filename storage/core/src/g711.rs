//! G.711 (ITU-T G.711): A-law and mu-law bytes to 16-bit linear samples and back, by tables that
//! are computed at build time from the segment rules of the recommendation. 13-bit A-law and
//! 14-bit mu-law values are scaled to 16 bits, as every player expects them.

/// The two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// A-law: Europe and international links.
    A,
    /// Mu-law: North America and Japan.
    Mu,
}

static A_TABLE: [i16; 256] = decode_table(Law::A);
static MU_TABLE: [i16; 256] = decode_table(Law::Mu);

impl Law {
    /// The byte that is silence (the smallest positive value).
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::A => 0xd5,
            Self::Mu => 0xff,
        }
    }

    /// The byte of the largest positive value.
    #[must_use]
    pub const fn loudest(self) -> u8 {
        match self {
            Self::A => 0xaa,
            Self::Mu => 0x80,
        }
    }

    /// A byte's value, 16 bits linear.
    #[must_use]
    pub fn decode(self, byte: u8) -> i16 {
        match self {
            Self::A => A_TABLE[usize::from(byte)],
            Self::Mu => MU_TABLE[usize::from(byte)],
        }
    }

    /// The byte whose interval, by the recommendation's decision values, a linear sample is in.
    #[must_use]
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::A => encode_a(sample),
            Self::Mu => encode_mu(sample),
        }
    }
}

const fn decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match law {
            Law::A => decode_a(byte as u8),
            Law::Mu => decode_mu(byte as u8),
        };
        byte += 1;
    }
    table
}

/// G.711 table 1: even bits are inverted; 8 segments of 16 steps, the first two with one step.
const fn decode_a(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let segment = (byte >> 4) & 7;
    let step = (byte & 0x0f) as i16;
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

/// G.711 table 2: all bits are inverted; the bias of 33 (132 in 16 bits) makes segments double.
const fn decode_mu(byte: u8) -> i16 {
    let byte = !byte;
    let segment = (byte >> 4) & 7;
    let step = (byte & 0x0f) as i16;
    let magnitude = (((step << 3) + MU_BIAS) << segment) - MU_BIAS;
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

const MU_BIAS: i16 = 0x84;
const MU_CLIP: i32 = 32_635;

fn encode_a(sample: i16) -> u8 {
    // Values are symmetric around the step between -1 and 0, so complement and not negation.
    let sign = if sample < 0 { 0 } else { 0x80 };
    let magnitude = if sample < 0 { !sample } else { sample } >> 4;
    let segment = (12 - (magnitude | 0x0f).leading_zeros().min(12)) as u8;
    let step = match segment {
        0 => magnitude,
        _ => magnitude >> (segment - 1),
    };
    (sign | (segment << 4) | (step & 0x0f) as u8) ^ 0x55
}

fn encode_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs().min(MU_CLIP) + i32::from(MU_BIAS)) as u16;
    let segment = (8 - magnitude.leading_zeros().min(8)) as u8;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) | step as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_recommendation() {
        // G.711 tables 1a, 1b, 2a, 2b: first and last values, scaled to 16 bits.
        let cases = [
            (Law::A, 0xd5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xaa, 32_256),
            (Law::A, 0x2a, -32_256),
            (Law::A, 0x80, 5_504),
            (Law::Mu, 0xff, 0),
            (Law::Mu, 0x7f, 0),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x00, -32_124),
            (Law::Mu, 0xf0, 120),
        ];
        for (law, byte, value) in cases {
            assert_eq!(law.decode(byte), value, "{law:?} {byte:#04x}");
        }
        assert_eq!(Law::A.decode(Law::A.silence()), 8);
        assert_eq!(Law::Mu.decode(Law::Mu.silence()), 0);
    }

    #[test]
    fn every_byte_comes_back() {
        for law in [Law::A, Law::Mu] {
            for byte in 0..=255_u8 {
                let back = law.encode(law.decode(byte));
                // Mu-law has two zeros.
                let same = back == byte || (law == Law::Mu && byte == 0x7f && back == 0xff);
                assert!(same, "{law:?} {byte:#04x} became {back:#04x}");
            }
        }
    }

    #[test]
    fn samples_fall_into_intervals_in_order() {
        for law in [Law::A, Law::Mu] {
            let values = (i16::MIN..=i16::MAX).map(|sample| law.decode(law.encode(sample)));
            assert!(values.is_sorted(), "{law:?}");
        }
        // The decision values on both sides of the largest segment's begin.
        assert_eq!([16_383, 16_384].map(|s| Law::A.decode(Law::A.encode(s))), [16_128, 16_896]);
        assert_eq!([16_251, 16_252].map(|s| Law::Mu.decode(Law::Mu.encode(s))), [15_996, 16_764]);
        assert_eq!([-1, 0].map(|sample| Law::A.encode(sample)), [0x55, 0xd5]);
    }
}
