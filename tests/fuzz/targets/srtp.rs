//! Any bytes as protected datagrams to a phantom's port, under each suite and with keys that
//! change: what has a tag is never opened, and nothing but what is due is counted.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use recorder_core::dmcc::{Dialect, Secret};
use recorder_core::media::srtp::{Arrival, Decryptor, Protection};
use storage_core::journal::Channel;
use storage_core::{MonoTime, WallTime};

const SOURCE: ([u8; 4], u16) = ([127, 0, 0, 1], 4000);
const KEYS: [&str; 2] = ["000102030405060708090a0b0c0d0e0f", "AAECAwQFBgcICQoLDA0OEA=="];
const SALT: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfd";

fn keys(name: &str, key: &str) -> Protection {
    let wire = Dialect::default().encryption_to_wire(name).to_owned();
    Dialect::default().protection(Some(&wire), &Secret::new(key), &Secret::new(SALT))
}

/// A length, or above the longest one an order: other terms, time that passes, a segment that ends.
fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let name = ["srtp-aescm128-hmac80", "srtp-aescm128-hmac32", "aes"][usize::from(first % 3)];
    let tagged = name != "aes";
    let mut decryptor = Decryptor::new(true);
    decryptor.begin();
    let (mut now, mut taken, mut opened, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut plain = false;
    while let Some((&word, tail)) = rest.split_first() {
        rest = tail;
        now += 20;
        let mono = MonoTime::from_millis(now);
        let wall = WallTime::from_millis(i64::try_from(now).unwrap_or(0));
        match word {
            250.. => {
                let protection = match word {
                    250 => Protection::Clear,
                    251 | 252 => keys(name, KEYS[usize::from(word - 251)]),
                    253 => keys(name, "no key"),
                    254 => {
                        decryptor.swept(mono);
                        continue;
                    }
                    _ => {
                        decryptor.begin();
                        continue;
                    }
                };
                plain |= protection == Protection::Clear;
                let _ = decryptor.terms(mono, wall, protection);
            }
            length => {
                let (datagram, tail) = rest.split_at(usize::from(length).min(rest.len()));
                rest = tail;
                let channel = if length % 5 == 0 { Channel::Rtcp } else { Channel::Rtp };
                let source = SocketAddr::from(SOURCE);
                decryptor.take(mono, channel, Arrival { at: wall, source, bytes: datagram });
                taken += 1;
            }
        }
        for channel in [Channel::Rtp, Channel::Rtcp] {
            opened += decryptor.opened(channel).count() as u64;
            decryptor.clear_opened(channel);
        }
        refused += decryptor.take_refused().iter().sum::<u64>();
    }
    decryptor.end();
    refused += decryptor.take_refused().iter().sum::<u64>();
    assert_eq!(opened + refused, taken, "every datagram is opened or counted");
    assert!(!tagged || plain || opened == 0, "nobody can guess a tag");
});
