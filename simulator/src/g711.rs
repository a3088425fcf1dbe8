//! G.711 both ways (ITU-T G.711), by tables worked out when the program is built.

/// Companding law.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Law {
    /// A-law, RTP payload type 8.
    A,
    /// Mu-law, RTP payload type 0.
    Mu,
}

impl Law {
    /// Static RTP payload type (RFC 3551).
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::A => 8,
            Self::Mu => 0,
        }
    }

    /// The law for a codec's name, read without case: `g711A`, `g711U`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "g711a" => Some(Self::A),
            "g711u" | "g711mu" => Some(Self::Mu),
            _ => None,
        }
    }

    /// Linear 16-bit sample of a code word.
    #[must_use]
    pub const fn decode(self, code: u8) -> i16 {
        match self {
            Self::A => A_DECODE[code as usize],
            Self::Mu => MU_DECODE[code as usize],
        }
    }

    /// Code word nearest below in magnitude, as the standard has it.
    #[must_use]
    pub const fn encode(self, sample: i16) -> u8 {
        // Both laws ignore at least the two lowest bits, so a table of 16384 is exact.
        let index = ((sample >> 2) as u16 & 0x3fff) as usize;
        match self {
            Self::A => A_ENCODE[index],
            Self::Mu => MU_ENCODE[index],
        }
    }
}

static A_DECODE: [i16; 256] = decode_table(Law::A);
static MU_DECODE: [i16; 256] = decode_table(Law::Mu);
static A_ENCODE: [u8; 16384] = encode_table(Law::A);
static MU_ENCODE: [u8; 16384] = encode_table(Law::Mu);

const fn decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match law {
            Law::A => a_to_linear(code as u8),
            Law::Mu => mu_to_linear(code as u8),
        };
        code += 1;
    }
    table
}

const fn encode_table(law: Law) -> [u8; 16384] {
    let mut table = [0; 16384];
    let mut index = 0;
    while index < 16384 {
        let sample = ((index as u16) << 2) as i16;
        table[index] = match law {
            Law::A => linear_to_a(sample),
            Law::Mu => linear_to_mu(sample),
        };
        index += 1;
    }
    table
}

const fn mu_to_linear(code: u8) -> i16 {
    let bits = !code;
    let exponent = (bits >> 4) & 7;
    let mantissa = (bits & 0x0f) as i16;
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if bits & 0x80 != 0 { -magnitude } else { magnitude }
}

const fn linear_to_mu(sample: i16) -> u8 {
    let negative = sample < 0;
    // In units of the 16-bit scale; 32635 is where mu-law clips.
    let magnitude = sample.unsigned_abs();
    let magnitude = if magnitude > 32635 { 32635 } else { magnitude };
    let biased = magnitude + 0x84;
    let exponent = 8 - biased.leading_zeros() as u16;
    let mantissa = (biased >> (exponent + 3)) & 0x0f;
    let code = !((exponent << 4 | mantissa) as u8);
    if negative { code & 0x7f } else { code }
}

const fn a_to_linear(code: u8) -> i16 {
    let bits = code ^ 0x55;
    let exponent = (bits >> 4) & 7;
    let mantissa = (bits & 0x0f) as i16;
    let magnitude = if exponent == 0 {
        (mantissa << 4) + 8
    } else {
        ((mantissa << 4) + 0x108) << (exponent - 1)
    };
    if bits & 0x80 != 0 { magnitude } else { -magnitude }
}

const fn linear_to_a(sample: i16) -> u8 {
    // The negative side is the ones' complement, so that -1 is as near to zero as 0 is.
    let negative = sample < 0;
    let magnitude = (if negative { !sample } else { sample }) as u16;
    let code = if magnitude < 256 {
        magnitude >> 4
    } else {
        let exponent = 8 - magnitude.leading_zeros() as u16;
        (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0f)
    };
    let code = code as u8 ^ 0x55;
    if negative { code } else { code | 0x80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // ITU-T G.191 reference values.
        for (code, linear) in [(0x00, -32124), (0x80, 32124), (0xff, 0), (0x7f, 0), (0xfe, 8)] {
            assert_eq!(Law::Mu.decode(code), linear, "mu {code:#x}");
        }
        for (code, linear) in [(0xd5, 8), (0x55, -8), (0xaa, 32256), (0x2a, -32256), (0x80, 5504)] {
            assert_eq!(Law::A.decode(code), linear, "A {code:#x}");
        }
    }

    #[test]
    fn decoding_and_encoding_again_keeps_the_code_word() {
        for code in 0..=255_u8 {
            assert_eq!(Law::A.encode(Law::A.decode(code)), code);
            // Mu-law has two zeros; they come back as the positive one, with the same low bit.
            let back = Law::Mu.encode(Law::Mu.decode(code));
            assert_eq!(back, if code == 0x7f { 0xff } else { code });
            assert_eq!(back & 1, code & 1);
        }
    }

    #[test]
    fn encoding_is_near() {
        for sample in (-32768..=32767_i32).step_by(7) {
            let sample = i16::try_from(sample).unwrap();
            for law in [Law::A, Law::Mu] {
                let back = i32::from(law.decode(law.encode(sample)));
                let error = (back - i32::from(sample)).abs();
                assert!(error <= i32::from(sample.unsigned_abs()) / 16 + 140, "{law:?} {sample}");
            }
        }
    }
}
