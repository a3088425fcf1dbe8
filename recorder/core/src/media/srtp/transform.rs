//! The cryptography of RFC 3711: session keys from a master key, the key stream of AES in counter
//! mode, tags of HMAC-SHA1. It knows no packet, no index and no replay. The library is seen here
//! and nowhere else; it wipes its own copies of keys when they are dropped.

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroize;

use super::keys::{KEY_BYTES, MediaKeys, SALT_BYTES, SessionKeys};

/// Length of the authentication key (RFC 3711, 5.2).
const AUTH_KEY_BYTES: usize = 20;

/// Labels of the three session keys: cipher, authentication, salt (RFC 3711, 4.3.1 and 4.3.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels([u8; 3]);

impl Labels {
    pub const RTP: Self = Self([0, 1, 2]);
    pub const RTCP: Self = Self([3, 4, 5]);
}

/// What encrypts and authenticates one kind of packets.
#[derive(Debug)]
pub(super) struct Transform {
    cipher: DecryptingKey,
    auth: hmac::Key,
    salt: Salt,
}

#[derive(Debug)]
struct Salt([u8; SALT_BYTES]);

impl Drop for Salt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The digest of what a tag covers, to which something may still be added.
pub(super) struct Covered(hmac::Context);

impl Transform {
    pub fn new(keys: &MediaKeys, labels: Labels) -> Self {
        match keys.suite.session_keys {
            SessionKeys::Derived => Self::derived(keys, labels),
            SessionKeys::AsGiven => Self {
                cipher: cipher(keys.key()),
                auth: auth(keys.key()),
                salt: Salt(*keys.salt()),
            },
        }
    }

    fn derived(keys: &MediaKeys, Labels([cipher_label, auth_label, salt_label]): Labels) -> Self {
        let master = cipher(keys.key());
        let mut cipher_key = derive::<KEY_BYTES>(&master, keys.salt(), cipher_label);
        let mut auth_key = derive::<AUTH_KEY_BYTES>(&master, keys.salt(), auth_label);
        let salt = Salt(derive(&master, keys.salt(), salt_label));
        let this = Self { cipher: cipher(&cipher_key), auth: auth(&auth_key), salt };
        cipher_key.zeroize();
        auth_key.zeroize();
        this
    }

    /// Encrypts or decrypts: the counter begins at salt · 2¹⁶ ⊕ SSRC · 2⁶⁴ ⊕ index · 2¹⁶ (RFC 3711,
    /// 4.1.1).
    pub fn apply(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let mut counter = block(&self.salt.0);
        for (byte, with) in counter[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= with;
        }
        for (byte, with) in counter[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
            *byte ^= with;
        }
        run(&self.cipher, counter, payload);
    }

    /// Begins a tag over these bytes.
    pub fn cover(&self, bytes: &[u8]) -> Covered {
        let mut digest = hmac::Context::with_key(&self.auth);
        digest.update(bytes);
        Covered(digest)
    }
}

impl Covered {
    /// Whether `tag`, which may be cut short, belongs to what is covered with `more` behind it.
    pub fn is_tagged(&self, more: &[u8], tag: &[u8]) -> bool {
        let mut digest = self.0.clone();
        digest.update(more);
        let whole = digest.sign();
        let cut = whole.as_ref().get(..tag.len());
        !tag.is_empty() && cut.is_some_and(|cut| verify_slices_are_equal(cut, tag).is_ok())
    }

    /// The tag, for a sender.
    #[cfg(test)]
    pub fn tag(&self, more: &[u8], bytes: usize) -> Vec<u8> {
        let mut digest = self.0.clone();
        digest.update(more);
        digest.sign().as_ref()[..bytes].to_vec()
    }
}

/// `AES_CM(master key, (label · 2⁴⁸ ⊕ master salt) · 2¹⁶)`, as long as wanted (RFC 3711, 4.3.1 to
/// 4.3.3).
fn derive<const BYTES: usize>(
    master: &DecryptingKey,
    salt: &[u8; SALT_BYTES],
    label: u8,
) -> [u8; BYTES] {
    let mut counter = block(salt);
    counter[7] ^= label;
    let mut key = [0; BYTES];
    run(master, counter, &mut key);
    key
}

/// A salt at the upper end of a counter.
fn block(salt: &[u8; SALT_BYTES]) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..SALT_BYTES].copy_from_slice(salt);
    counter
}

fn cipher(key: &[u8; KEY_BYTES]) -> DecryptingKey {
    let key = UnboundCipherKey::new(&AES_128, key);
    key.and_then(DecryptingKey::ctr).expect("16 bytes are a key of AES-128")
}

fn auth(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)
}

fn run(cipher: &DecryptingKey, counter: [u8; 16], bytes: &mut [u8]) {
    let counter = DecryptionContext::Iv128(FixedLength::from(counter));
    cipher
        .decrypt(bytes, counter)
        .expect("counter mode takes any length and a counter of 16 bytes");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{AES_AS_GIVEN, HMAC_80, bytes};
    use super::*;

    /// RFC 3711, B.2.
    #[test]
    fn the_key_stream_is_that_of_the_rfc() {
        let key = bytes("2B7E151628AED2A6ABF7158809CF4F3C").try_into().unwrap();
        let salt = bytes("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let transform = Transform::new(&MediaKeys::new(AES_AS_GIVEN, key, salt), Labels::RTP);
        let mut stream = vec![0; 0xff02 * 16];
        transform.apply(0, 0, &mut stream);
        for (block, expected) in [
            (0, "E03EAD0935C95E80E166B16DD92B4EB4"),
            (1, "D23513162B02D0F72A43A2FE4A5F97AB"),
            (2, "41E95B3BB0A2E8DD477901E4FCA894C0"),
            (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
            (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
            (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
        ] {
            assert_eq!(stream[block * 16..][..16], bytes(expected), "block {block}");
        }
    }

    /// RFC 3711, B.3.
    #[test]
    fn session_keys_are_those_of_the_rfc() {
        let key = bytes("E1F97A0D3E018BE0D64FA32C06DE4139").try_into().unwrap();
        let salt = bytes("0EC675AD498AFEEBB6960B3AABE6").try_into().unwrap();
        let master = cipher(&key);
        let cipher_key = derive::<16>(&master, &salt, 0);
        assert_eq!(cipher_key[..], bytes("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derive::<14>(&master, &salt, 2)[..], bytes("30CBBC08863D8C85D49DB34A9AE1"));
        let auth_key = derive::<64>(&master, &salt, 1);
        let expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
                        E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25";
        assert_eq!(auth_key[..], bytes(expected));
        // They are what a context uses.
        let keys = MediaKeys::new(HMAC_80, key, salt);
        let transform = Transform::new(&keys, Labels::RTP);
        assert_eq!(transform.salt.0[..], bytes("30CBBC08863D8C85D49DB34A9AE1"));
    }
}
