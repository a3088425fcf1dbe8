//! The encrypted side of a media processor: makes keys, and protects packets as RFC 3711 says, or
//! as this simulator imagines Avaya's encryption from before it. Code of its own on other libraries
//! than a recorder's, so that a misreading cannot agree with itself.

use std::fmt::Write as _;

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;

use super::rtp;
use crate::rng::Rng;

/// How the keys of an event are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyText {
    /// Two digits a byte.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// What the switch can protect media with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// SRTP with a tag of so many bytes.
    Srtp(usize),
    /// Before SRTP: the same counter, no derivation, no tag (an assumption).
    OldAes,
}

impl Scheme {
    /// By its name on the wire, read without case; `None` for `none` and for what is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "1-srtp-aescm128-hmac80" => Some(Self::Srtp(10)),
            "2-srtp-aescm128-hmac32" => Some(Self::Srtp(4)),
            "aes" => Some(Self::OldAes),
            _ => None,
        }
    }
}

/// The protection of one stream: what an event tells, and what packets are made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protection {
    /// Its name on the wire.
    pub name: String,
    scheme: Scheme,
    key: [u8; 16],
    salt: [u8; 14],
    /// For the other direction, in which nobody sends.
    transmit_key: [u8; 16],
    transmit_salt: [u8; 14],
}

/// Key and salt as they are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyTexts {
    /// The key.
    pub key: String,
    /// The salt.
    pub salt: String,
}

impl Protection {
    /// New keys.
    pub fn new(name: &str, scheme: Scheme, rng: &mut Rng) -> Self {
        Self {
            name: name.to_owned(),
            scheme,
            key: random(rng),
            salt: random(rng),
            transmit_key: random(rng),
            transmit_salt: random(rng),
        }
    }

    /// Keys and salts as they are written, as the client sees them: for what it sends, and for what
    /// it receives.
    #[must_use]
    pub fn texts(&self, text: KeyText) -> [KeyTexts; 2] {
        let write = |key: &[u8], salt: &[u8]| KeyTexts {
            key: write_bytes(key, text),
            salt: write_bytes(salt, text),
        };
        [write(&self.transmit_key, &self.transmit_salt), write(&self.key, &self.salt)]
    }

    /// Keys and salts, for who looks for traces of them.
    #[must_use]
    pub fn secrets(&self) -> [Vec<u8>; 4] {
        [
            self.key.to_vec(),
            self.salt.to_vec(),
            self.transmit_key.to_vec(),
            self.transmit_salt.to_vec(),
        ]
    }
}

/// What makes protected packets.
pub(super) struct Shield {
    scheme: Scheme,
    media: Side,
    reports: Side,
}

/// Session keys of one kind of packets.
struct Side {
    cipher: Aes128,
    salt: [u8; 14],
    auth: Vec<u8>,
}

impl std::fmt::Debug for Shield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shield({:?})", self.scheme)
    }
}

impl Shield {
    pub fn new(protection: &Protection) -> Self {
        let scheme = protection.scheme;
        let side = |first_label| match scheme {
            Scheme::OldAes => Side {
                cipher: Aes128::new(&protection.key.into()),
                salt: protection.salt,
                auth: Vec::new(),
            },
            Scheme::Srtp(_) => Side::derived(protection, first_label),
        };
        Self { scheme, media: side(0), reports: side(3) }
    }

    /// Protects an RTP packet whose header has 12 bytes. `index`: its sequence number, with the
    /// number of rollovers above.
    pub fn protect(&self, index: u64, packet: &mut Vec<u8>) {
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        self.media.encrypt(ssrc, index, &mut packet[12..]);
        if let Scheme::Srtp(tag_bytes) = self.scheme {
            let tag = self.media.tag(packet, &((index >> 16) as u32).to_be_bytes());
            packet.extend_from_slice(&tag[..tag_bytes]);
        }
    }

    /// Protects an RTCP packet. The tag has 80 bits whatever that of media has (RFC 4568, 6.2.2);
    /// before SRTP it stays as it is.
    pub fn protect_report(&self, index: u32, packet: &mut Vec<u8>) {
        if self.scheme == Scheme::OldAes {
            return;
        }
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        self.reports.encrypt(ssrc, index.into(), &mut packet[8..]);
        packet.extend_from_slice(&(1 << 31 | index).to_be_bytes());
        let tag = self.reports.tag(packet, &[]);
        packet.extend_from_slice(&tag[..10]);
    }
}

impl Side {
    fn derived(protection: &Protection, first_label: u8) -> Self {
        let master = Aes128::new(&protection.key.into());
        let session = |label: u8, length: usize| {
            let mut key = vec![0; length];
            let start = u128::from_be_bytes(shifted(&protection.salt)) ^ u128::from(label) << 64;
            stream(&master, start, &mut key);
            key
        };
        let mut salt = [0; 14];
        salt.copy_from_slice(&session(first_label + 2, 14));
        let cipher = Aes128::new(GenericArray::from_slice(&session(first_label, 16)));
        Self { cipher, salt, auth: session(first_label + 1, 20) }
    }

    fn encrypt(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let start = u128::from_be_bytes(shifted(&self.salt))
            ^ u128::from(ssrc) << 64
            ^ u128::from(index) << 16;
        stream(&self.cipher, start, bytes);
    }

    fn tag(&self, packet: &[u8], more: &[u8]) -> [u8; 20] {
        let mac = <Hmac<Sha1> as Mac>::new_from_slice(&self.auth);
        let mut mac = mac.expect("any length is a key");
        mac.update(packet);
        mac.update(more);
        mac.finalize().into_bytes().into()
    }
}

/// A stream that nobody plays, for measurements.
#[derive(Debug)]
pub struct MadeStream {
    /// How it is protected.
    pub keys: Option<Protection>,
    /// Its packets, in order: 20 ms of G.711 each.
    pub packets: Vec<Vec<u8>>,
}

/// So many packets of one stream, encrypted in the way of this name on the wire.
#[must_use]
pub fn made_stream(name: &str, packets: u64) -> MadeStream {
    let keys =
        Scheme::from_name(name).map(|scheme| Protection::new(name, scheme, &mut Rng::new(1)));
    let shield = keys.as_ref().map(Shield::new);
    let packet = |index: u64| {
        let timestamp = (index * 160) as u32;
        let mut packet = rtp::packet(8, false, index as u16, timestamp, 7, &[index as u8; 160]);
        if let Some(shield) = &shield {
            shield.protect(index, &mut packet);
        }
        packet
    };
    MadeStream { packets: (0..packets).map(packet).collect(), keys }
}

fn random<const BYTES: usize>(rng: &mut Rng) -> [u8; BYTES] {
    std::array::from_fn(|_| (rng.next() >> 56) as u8)
}

/// The upper 112 bits of a counter.
fn shifted(salt: &[u8; 14]) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..14].copy_from_slice(salt);
    counter
}

/// Adds the key stream that begins at this counter.
fn stream(cipher: &Aes128, start: u128, bytes: &mut [u8]) {
    for (number, part) in bytes.chunks_mut(16).enumerate() {
        let mut block = GenericArray::from(start.wrapping_add(number as u128).to_be_bytes());
        cipher.encrypt_block(&mut block);
        for (byte, key) in part.iter_mut().zip(block) {
            *byte ^= key;
        }
    }
}

fn write_bytes(bytes: &[u8], text: KeyText) -> String {
    match text {
        KeyText::Hex => bytes.iter().fold(String::new(), |mut all, byte| {
            // Writing to a string cannot fail.
            let _ = write!(all, "{byte:02x}");
            all
        }),
        KeyText::Base64 => base64_text(bytes),
    }
}

/// Base64 with padding.
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    bytes.chunks(3).flat_map(base64_group).collect()
}

fn base64_group(bytes: &[u8]) -> [char; 4] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |place: usize| u32::from(bytes.get(place).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    let digit = |place: u32| DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
    let padded = |place: u32| if bytes.len() < place as usize { '=' } else { digit(place) };
    [digit(0), digit(1), padded(2), padded(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// Master key and salt of RFC 3711, B.3, and the packet that libsrtp's own test has for them.
    #[test]
    fn a_packet_is_protected_as_libsrtp_does() {
        let protection = Protection {
            name: String::new(),
            scheme: Scheme::Srtp(10),
            key: bytes("e1f97a0d3e018be0d64fa32c06de4139").try_into().unwrap(),
            salt: bytes("0ec675ad498afeebb6960b3aabe6").try_into().unwrap(),
            transmit_key: [0; 16],
            transmit_salt: [0; 14],
        };
        let shield = Shield::new(&protection);
        assert_eq!(shield.media.salt[..], bytes("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(shield.media.auth, bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
        let mut packet = bytes("800f1234decafbadcafebabeabababababababababababababababab");
        shield.protect(0x1234, &mut packet);
        let expected =
            "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb";
        assert_eq!(packet, bytes(expected));
        let mut report = bytes("81c8000bcafebabeabababababababababababababababab");
        shield.protect_report(1, &mut report);
        let expected =
            "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798";
        assert_eq!(report, bytes(expected));
    }

    #[test]
    fn keys_are_written_in_both_ways() {
        for (raw, hex, base64) in [
            (&b"f"[..], "66", "Zg=="),
            (b"fo", "666f", "Zm8="),
            (b"foo", "666f6f", "Zm9v"),
            (b"\xfb\xff\xfe\x00", "fbfffe00", "+//+AA=="),
        ] {
            assert_eq!(write_bytes(raw, KeyText::Hex), hex);
            assert_eq!(write_bytes(raw, KeyText::Base64), base64);
        }
        let made = Protection::new("aes", Scheme::OldAes, &mut Rng::new(1));
        let [transmit, receive] = made.texts(KeyText::Base64);
        assert_eq!((receive.key.len(), receive.salt.len()), (24, 20));
        assert!(transmit.key != receive.key && transmit.salt != receive.salt);
        let [_, receive] = made.texts(KeyText::Hex);
        assert_eq!((receive.key.len(), receive.salt.len()), (32, 28));
        assert_eq!(made, Protection::new("aes", Scheme::OldAes, &mut Rng::new(1)));
    }
}
