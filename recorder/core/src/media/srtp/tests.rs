//! Protected streams as a network delivers them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use storage_core::journal::Channel;
use storage_core::{MonoTime, WallTime};

use super::super::rtp::tests::packet;
use super::context::Context;
use super::sender::Sender;
use super::*;

pub(super) const HMAC_80: Suite = Suite {
    name: "hmac80",
    session_keys: SessionKeys::Derived,
    rtp_tag_bytes: 10,
    rtcp_tag_bytes: &[10],
};
const HMAC_32: Suite =
    Suite { name: "hmac32", rtp_tag_bytes: 4, rtcp_tag_bytes: &[10, 4], ..HMAC_80 };
pub(super) const AES_AS_GIVEN: Suite = Suite {
    name: "aes",
    session_keys: SessionKeys::AsGiven,
    rtp_tag_bytes: 0,
    rtcp_tag_bytes: &[],
};
const SSRC: u32 = 0xcafe_babe;

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn keys(suite: Suite, number: u8) -> MediaKeys {
    MediaKeys::new(suite, [number; KEY_BYTES], [number ^ 0x55; SALT_BYTES])
}

fn ms(ms: u64) -> MonoTime {
    MonoTime::from_millis(ms)
}

fn wall(ms: i64) -> WallTime {
    WallTime::from_millis(ms)
}

/// A packet of the stream: its index says sequence number, rollover counter and content.
fn plain(index: u64) -> Vec<u8> {
    let [.., high, low] = index.to_be_bytes();
    let time = u32::try_from(index * 160 % (1 << 32)).unwrap();
    packet(SSRC, u16::from_be_bytes([high, low]), time, 8, false, &index.to_be_bytes().repeat(20))
}

fn protected(sender: &Sender, index: u64) -> Vec<u8> {
    sender.rtp(u32::try_from(index >> 16).unwrap(), &plain(index))
}

struct Rig {
    decryptor: Decryptor,
    now: u64,
}

impl Rig {
    fn new(offered: bool) -> Self {
        let mut decryptor = Decryptor::new(offered);
        decryptor.begin();
        Self { decryptor, now: 1_000 }
    }

    fn terms(&mut self, protection: Protection) {
        let at = wall(i64::try_from(self.now).unwrap());
        self.decryptor.terms(ms(self.now), at, protection).unwrap();
    }

    fn take(&mut self, channel: Channel, bytes: &[u8]) {
        let source = SocketAddr::from(([192, 0, 2, 5], 2050));
        let at = wall(i64::try_from(self.now).unwrap());
        self.decryptor.take(ms(self.now), channel, Arrival { at, source, bytes });
    }

    fn rtp(&mut self, bytes: &[u8]) {
        self.take(Channel::Rtp, bytes);
    }

    fn wait(&mut self, span: Duration) {
        self.now += u64::try_from(span.as_millis()).unwrap();
        self.decryptor.swept(ms(self.now));
    }

    fn opened(&mut self) -> Vec<Vec<u8>> {
        let opened = self.decryptor.opened(Channel::Rtp).map(|a| a.bytes.to_vec()).collect();
        self.decryptor.clear_opened(Channel::Rtp);
        opened
    }

    fn refused(&mut self, refusal: Refusal) -> u64 {
        self.decryptor.take_refused()[refusal.index()]
    }
}

/// What libsrtp, another implementation, makes of a packet with the keys of RFC 3711, B.3.
#[test]
fn packets_of_another_implementation_are_opened() {
    let key = bytes("e1f97a0d3e018be0d64fa32c06de4139").try_into().unwrap();
    let salt = bytes("0ec675ad498afeebb6960b3aabe6").try_into().unwrap();
    let mut context = Context::new(MediaKeys::new(HMAC_80, key, salt));
    let mut rtp =
        bytes("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb");
    let length = context.open_rtp(&mut rtp, None).unwrap();
    assert_eq!(rtp[..length], bytes("800f1234decafbadcafebabeabababababababababababababababab"));
    let mut rtcp =
        bytes("81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798");
    let length = context.open_rtcp(&mut rtcp).unwrap();
    assert_eq!(rtcp[..length], bytes("81c8000bcafebabeabababababababababababababababab"));
}

#[test]
fn each_suite_gives_the_plain_packets() {
    for suite in [HMAC_80, HMAC_32, AES_AS_GIVEN] {
        let sender = Sender::new(&keys(suite, 1));
        let mut rig = Rig::new(true);
        rig.terms(Protection::Keys(keys(suite, 1)));
        for index in [65_530, 65_534, 65_531, 65_536, 65_535, 65_540] {
            rig.rtp(&protected(&sender, index));
            assert_eq!(rig.opened(), [plain(index)], "{} {index}", suite.name);
        }
        assert_eq!(rig.decryptor.failing(), None);
    }
}

#[test]
fn rtcp_of_all_kinds_is_opened_once() {
    let report = [vec![0x80, 200, 0, 6], SSRC.to_be_bytes().to_vec(), vec![7; 20]].concat();
    for (suite, encrypted, tag) in
        [(HMAC_80, true, 10), (HMAC_80, false, 10), (HMAC_32, true, 10), (HMAC_32, true, 4)]
    {
        let sender = Sender::new(&keys(suite, 1));
        let mut rig = Rig::new(true);
        rig.terms(Protection::Keys(keys(suite, 1)));
        let sent = sender.rtcp(9, encrypted, tag, &report);
        assert_eq!(sent[8..28] != report[8..28], encrypted);
        rig.take(Channel::Rtcp, &sent);
        rig.take(Channel::Rtcp, &sent);
        let opened: Vec<_> = rig.decryptor.opened(Channel::Rtcp).map(|a| a.bytes).collect();
        assert_eq!(opened, [&report[..]]);
        assert_eq!(rig.refused(Refusal::Replay), 1);
    }
    let mut rig = Rig::new(true);
    rig.terms(Protection::Keys(keys(AES_AS_GIVEN, 1)));
    rig.take(Channel::Rtcp, &report);
    assert_eq!(rig.decryptor.opened(Channel::Rtcp).count(), 1, "plain under this suite");
}

#[test]
fn forged_replayed_and_broken_packets_are_kept_out() {
    let sender = Sender::new(&keys(HMAC_80, 1));
    let mut rig = Rig::new(true);
    rig.terms(Protection::Keys(keys(HMAC_80, 1)));
    let first = protected(&sender, 1_000);
    rig.rtp(&first);
    rig.rtp(&first);
    let mut forged = protected(&sender, 1_001);
    for byte in 0..forged.len() {
        if matches!(byte, 0 | 1) {
            continue;
        }
        forged[byte] ^= 1;
        rig.rtp(&forged);
        forged[byte] ^= 1;
    }
    rig.rtp(&plain(1_002));
    for broken in [&forged[..11], &forged[..12], &forged[..20], b"hello", b""] {
        rig.rtp(broken);
    }
    rig.rtp(&protected(&sender, 800));
    assert_eq!(rig.opened(), [plain(1_000)]);
    rig.wait(HELD_FOR);
    let refused = rig.decryptor.take_refused();
    let expected = [
        (Refusal::Replay, 1),
        (Refusal::Old, 1),
        (Refusal::Authentication, u64::try_from(forged.len()).unwrap() - 2 + 1),
        (Refusal::Malformed, 5),
        (Refusal::NoKeys, 0),
    ];
    for (refusal, count) in expected {
        assert_eq!(refused[refusal.index()], count, "{refusal:?}");
    }
    rig.rtp(&forged);
    assert_eq!(rig.opened(), [plain(1_001)], "the true one still counts");
}

#[test]
fn a_stream_joined_in_its_midst_is_understood_up_to_the_bound() {
    for (roc, understood) in
        [(0, true), (1, true), (ROC_GUESS_MAX, true), (ROC_GUESS_MAX + 1, false)]
    {
        let sender = Sender::new(&keys(HMAC_32, 3));
        let mut rig = Rig::new(true);
        rig.terms(Protection::Keys(keys(HMAC_32, 3)));
        let index = (roc << 16) + 40_000;
        rig.rtp(&protected(&sender, index));
        rig.rtp(&protected(&sender, index + 30_000));
        let expected = [plain(index), plain(index + 30_000)];
        assert_eq!(rig.opened() == expected, understood, "rollover counter {roc}");
        assert_eq!(rig.decryptor.failing().is_none(), understood);
    }
}

#[test]
fn what_comes_before_its_terms_waits_for_them() {
    let sender = Sender::new(&keys(HMAC_80, 1));
    for protection in [Protection::Keys(keys(HMAC_80, 1)), Protection::Clear] {
        let clear = protection == Protection::Clear;
        let sent = |index| if clear { plain(index) } else { protected(&sender, index) };
        let mut rig = Rig::new(true);
        for index in 0..10 {
            rig.rtp(&sent(index));
        }
        assert_eq!((rig.opened().len(), rig.decryptor.failing()), (0, Some(Refusal::NoKeys)));
        rig.terms(protection);
        let expected: Vec<_> = (0..10).map(plain).collect();
        assert_eq!((rig.opened(), rig.decryptor.failing()), (expected, None));
        assert_eq!(rig.decryptor.is_clear(), clear);
        assert_eq!(rig.decryptor.take_refused(), [0; 5]);
    }
}

#[test]
fn what_waits_is_bounded_and_given_up() {
    let sender = Sender::new(&keys(HMAC_80, 1));
    let mut rig = Rig::new(true);
    for index in 0..600 {
        rig.rtp(&protected(&sender, index));
    }
    assert_eq!(rig.refused(Refusal::NoKeys), 600 - 512);
    rig.wait(HELD_FOR);
    assert_eq!(rig.refused(Refusal::NoKeys), 512);
    rig.rtp(&protected(&sender, 700));
    rig.decryptor.begin();
    assert_eq!(rig.refused(Refusal::NoKeys), 1);
    rig.terms(Protection::Keys(keys(HMAC_80, 1)));
    assert_eq!(rig.opened().len(), 0, "it belonged to the segment before");
}

#[test]
fn a_node_that_offers_no_encryption_takes_packets_as_they_are() {
    let mut rig = Rig::new(false);
    assert!(rig.decryptor.is_clear());
    rig.rtp(b"anything");
    assert_eq!(rig.opened(), [b"anything"]);
}

#[test]
fn keys_change_in_mid_call_in_any_order_of_event_and_packets() {
    let (one, two) = (Sender::new(&keys(HMAC_80, 1)), Sender::new(&keys(HMAC_80, 2)));
    let mut rig = Rig::new(true);
    rig.terms(Protection::Keys(keys(HMAC_80, 1)));
    // The stream has rolled over, and keeps its counter under the new key.
    rig.rtp(&protected(&one, 65_540));
    rig.rtp(&protected(&two, 65_542));
    assert_eq!(rig.opened(), [plain(65_540)]);
    rig.terms(Protection::Keys(keys(HMAC_80, 2)));
    rig.rtp(&protected(&one, 65_541));
    rig.rtp(&protected(&two, 65_543));
    assert_eq!(rig.opened(), [plain(65_542), plain(65_541), plain(65_543)]);
    // The same event again changes nothing: replays are still known.
    rig.terms(Protection::Keys(keys(HMAC_80, 2)));
    rig.rtp(&protected(&two, 65_543));
    assert_eq!(rig.opened().len(), 0);
    // After the grace the old key opens nothing.
    rig.wait(OLD_KEY_GRACE);
    rig.rtp(&protected(&one, 65_550));
    assert_eq!((rig.opened().len(), rig.decryptor.failing()), (0, Some(Refusal::Authentication)));
    assert_eq!(rig.refused(Refusal::Replay), 1);
}

#[test]
fn encryption_ends_in_mid_call() {
    let sender = Sender::new(&keys(HMAC_80, 1));
    let mut rig = Rig::new(true);
    rig.terms(Protection::Keys(keys(HMAC_80, 1)));
    rig.rtp(&protected(&sender, 1));
    // Plain before its time, or encrypted with a key that nobody knows: nothing tells.
    rig.rtp(&protected(&Sender::new(&keys(HMAC_80, 9)), 2));
    rig.terms(Protection::Clear);
    assert_eq!(rig.refused(Refusal::Authentication), 1);
    rig.rtp(&plain(3));
    rig.rtp(&protected(&sender, 2));
    assert_eq!(rig.opened(), [plain(1), plain(3), plain(2)]);
    rig.wait(OLD_KEY_GRACE);
    assert!(rig.decryptor.is_clear());
}

#[test]
fn without_a_tag_the_time_of_the_event_parts_the_keys() {
    let (one, two) = (Sender::new(&keys(AES_AS_GIVEN, 1)), Sender::new(&keys(AES_AS_GIVEN, 2)));
    let mut rig = Rig::new(true);
    rig.terms(Protection::Keys(keys(AES_AS_GIVEN, 1)));
    rig.rtp(&protected(&one, 65_530));
    let before = rig.now;
    rig.now += 10;
    rig.terms(Protection::Keys(keys(AES_AS_GIVEN, 2)));
    rig.rtp(&protected(&two, 65_537));
    // Received before the event, looked at after it.
    rig.now = before;
    rig.rtp(&protected(&one, 65_536));
    assert_eq!(rig.opened(), [plain(65_530), plain(65_537), plain(65_536)]);
}

#[test]
fn unusable_terms_are_told_and_nothing_is_taken_for_audio() {
    let sender = Sender::new(&keys(HMAC_80, 1));
    let mut rig = Rig::new(true);
    let fault = KeyFault::Salt { suite: HMAC_80.name };
    let told = rig.decryptor.terms(ms(1), wall(1), Protection::Unusable(fault.clone()));
    assert_eq!(told, Err(fault));
    rig.rtp(&protected(&sender, 1));
    assert_eq!((rig.opened().len(), rig.decryptor.failing()), (0, Some(Refusal::NoKeys)));
    rig.terms(Protection::Keys(keys(HMAC_80, 1)));
    assert_eq!(rig.opened(), [plain(1)]);
}

/// What a network does with one packet.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Once,
    Twice,
}

proptest! {
    /// However packets are lost, turned round and doubled, across a rollover and a change of keys
    /// whose event comes some packets early or late: what is opened is exactly what arrived, once
    /// each.
    #[test]
    fn what_arrives_is_opened_once(
        first in 65_400_u64..65_600,
        fates in prop::collection::vec(
            prop_oneof![1 => Just(Fate::Lost), 6 => Just(Fate::Once), 1 => Just(Fate::Twice)],
            1..200,
        ),
        swaps in prop::collection::vec((0_usize..200, 1_usize..20), 0..40),
        changed in 0_u64..200,
        told in -30_i64..30,
        hmac32 in any::<bool>(),
    ) {
        let suite = if hmac32 { HMAC_32 } else { HMAC_80 };
        let senders = [1, 2].map(|number| Sender::new(&keys(suite, number)));
        let mut way: Vec<u64> = Vec::new();
        for (step, fate) in (0..).zip(&fates) {
            let copies = match fate { Fate::Lost => 0, Fate::Once => 1, Fate::Twice => 2 };
            way.extend(std::iter::repeat_n(step, copies));
        }
        for (from, by) in swaps {
            if from + by < way.len() {
                way.swap(from, from + by);
            }
        }
        let event = usize::try_from(i64::try_from(changed).unwrap() + told).unwrap_or(0);
        let mut rig = Rig::new(true);
        rig.terms(Protection::Keys(keys(suite, 1)));
        for (place, step) in way.iter().enumerate() {
            if place == event {
                rig.terms(Protection::Keys(keys(suite, 2)));
            }
            let sender = &senders[usize::from(*step >= changed)];
            rig.rtp(&protected(sender, first + step));
            rig.now += 20;
            rig.decryptor.swept(ms(rig.now));
        }
        if event >= way.len() {
            rig.terms(Protection::Keys(keys(suite, 2)));
        }
        let mut opened = rig.opened();
        opened.sort();
        let arrived: BTreeSet<_> = way.iter().map(|step| first + step).collect();
        let mut expected: Vec<_> = arrived.iter().map(|index| plain(*index)).collect();
        expected.sort();
        prop_assert_eq!(opened, expected);
    }

    #[test]
    fn any_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        rtcp in any::<bool>(),
        version in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| version) {
            *first = *first & 0x3f | 0x80;
        }
        for suite in [HMAC_80, HMAC_32, AES_AS_GIVEN] {
            let mut rig = Rig::new(true);
            rig.terms(Protection::Keys(keys(suite, 1)));
            let channel = if rtcp { Channel::Rtcp } else { Channel::Rtp };
            rig.take(channel, &bytes);
            let authenticated = suite.rtp_tag_bytes > 0;
            prop_assert!(!authenticated || rig.decryptor.opened(channel).count() == 0);
        }
    }
}
