//! What goes into a packet: the time-coded words as they are, or what G.729 makes of them. A code does
//! not survive G.729; the tune and the number of frames do.

use oxideav_core::{AudioFrame, Encoder, Frame};
use oxideav_g729::codec::G729Encoder;

use crate::g711::Law;

/// How a terminal's audio is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// G.711.
    G711(Law),
    /// G.729, two frames of 10 ms in a packet.
    G729,
}

impl Coding {
    /// That of a codec's name, read without case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is_g729 = ["g729", "g729a"].iter().any(|known| name.eq_ignore_ascii_case(known));
        if is_g729 { Some(Self::G729) } else { Law::from_name(name).map(Self::G711) }
    }

    /// Law of the words that are coded.
    #[must_use]
    pub const fn law(self) -> Law {
        match self {
            Self::G711(law) => law,
            Self::G729 => Law::A,
        }
    }

    /// Static RTP payload type (RFC 3551).
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::G711(law) => law.payload_type(),
            Self::G729 => 18,
        }
    }
}

/// The encoder of one stream, which remembers what it has coded.
#[derive(Debug, Default)]
pub(super) struct Coder {
    g729: Option<Box<G729Encoder>>,
}

impl Coder {
    /// The payload that these words become.
    pub fn payload(&mut self, coding: Coding, words: &[u8]) -> Vec<u8> {
        let Coding::G729 = coding else {
            self.g729 = None;
            return words.to_vec();
        };
        let encoder = self.g729.get_or_insert_default();
        let law = coding.law();
        let samples = words.iter().flat_map(|word| law.decode(*word).to_le_bytes()).collect();
        let frame = AudioFrame { samples: words.len() as u32, pts: None, data: vec![samples] };
        // It refuses frames of other forms only.
        let _ = encoder.send_frame(&Frame::Audio(frame));
        std::iter::from_fn(|| encoder.receive_packet().ok())
            .flat_map(|packet| packet.data)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;

    #[test]
    fn twenty_milliseconds_become_twenty_bytes_of_g729_and_g711_stays_as_it_is() {
        let mut coder = Coder::default();
        let words = tone::frame(Law::A, 7, 1);
        assert_eq!(coder.payload(Coding::G711(Law::A), &words), words);
        let payloads: Vec<_> = (0..3).map(|_| coder.payload(Coding::G729, &words)).collect();
        assert!(payloads.iter().all(|payload| payload.len() == 20));
        assert_ne!(payloads[0], payloads[2], "it remembers");
        assert_eq!(Coding::from_name("G729a"), Some(Coding::G729));
        assert_eq!(Coding::from_name("g711U"), Some(Coding::G711(Law::Mu)));
        assert_eq!(Coding::from_name("g723"), None);
    }
}
