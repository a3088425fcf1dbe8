//! The way of protected packets through one phantom's port: which key a packet is tried with, and
//! what waits because no key opens it yet. Media may overtake the event that brings its key, and
//! packets under the key before may come after it, so neither is lost. Nothing leaves here that was
//! not opened.
//!
//! ```text
//!   begin        offered encryption? ── no ──▶ Clear        what comes is plain
//!                        │ yes                   ▲
//!                        ▼        terms: none    │ terms
//!                     Unknown ───────────────────┤
//!            what comes waits │ terms: keys      ▼
//!                        └────────────────────▶ Keyed       new key first, then the one before
//! ```
//!
//! Where a suite has no tag, nothing tells which key a packet was made with: then it is its time of
//! arrival, before or after the event.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use storage_core::journal::Channel;
use storage_core::{MonoTime, WallTime};
use zeroize::Zeroize as _;

use super::context::{Context, Refusal};
use super::keys::{KeyFault, Protection};

/// How long packets under the key before are still taken.
pub const OLD_KEY_GRACE: Duration = Duration::from_secs(5);
/// How long a packet that no key opens waits for one that does. A phantom that gets no further in
/// so long is taken out of its call anyway.
pub const HELD_FOR: Duration = Duration::from_secs(5);
/// Packets that wait at one port: ten seconds of 20 ms.
pub const HELD_MAX: usize = 512;

/// A datagram that came to the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// When the kernel received it.
    pub at: WallTime,
    /// Where it came from.
    pub source: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What holds on the port.
#[derive(Debug)]
enum Terms {
    Clear,
    /// Encryption was offered, and the switch has not said what it chose.
    Unknown,
    Keyed(Box<Context>),
    Unusable,
}

/// The context before the present terms.
#[derive(Debug)]
struct Former {
    context: Box<Context>,
    until: MonoTime,
    /// When it was replaced.
    replaced: WallTime,
}

/// A packet that waits for its key.
#[derive(Debug)]
struct Held {
    since: MonoTime,
    why: Refusal,
    channel: Channel,
    at: WallTime,
    source: SocketAddr,
    bytes: Vec<u8>,
}

/// The protection of one port.
#[derive(Debug)]
pub struct Decryptor {
    offered: bool,
    terms: Terms,
    former: Option<Former>,
    held: VecDeque<Held>,
    opened: Opened,
    refused: [u64; Refusal::ALL.len()],
    failing: Option<Refusal>,
}

impl Decryptor {
    /// A port without a segment. `offered`: the phantom offers the switch encryption.
    #[must_use]
    pub fn new(offered: bool) -> Self {
        Self {
            offered,
            terms: Terms::Clear,
            former: None,
            held: VecDeque::new(),
            opened: Opened::default(),
            refused: [0; Refusal::ALL.len()],
            failing: None,
        }
    }

    /// A segment begins: all keys are forgotten.
    pub fn begin(&mut self) {
        self.end();
        if self.offered {
            self.terms = Terms::Unknown;
        }
    }

    /// The segment ends: keys are forgotten, and what waits for one is given up.
    pub fn end(&mut self) {
        self.give_up();
        (self.terms, self.former, self.failing) = (Terms::Clear, None, None);
        self.opened.clear();
    }

    /// The switch said at `at` how media is protected from now on, perhaps not for the first time.
    /// What waits is tried again, unless it came under other terms and nothing would show that.
    ///
    /// # Errors
    /// If nothing can be decrypted under these terms.
    pub fn terms(
        &mut self,
        now: MonoTime,
        at: WallTime,
        protection: Protection,
    ) -> Result<(), KeyFault> {
        let mut outcome = Ok(());
        let next = match protection {
            Protection::Clear => Terms::Clear,
            Protection::Keys(keys) => match &self.terms {
                Terms::Keyed(context) if *context.keys() == keys => return outcome,
                _ => match self.former.take_if(|former| *former.context.keys() == keys) {
                    Some(former) => Terms::Keyed(former.context),
                    None => Terms::Keyed(Box::new(Context::new(keys))),
                },
            },
            Protection::Unusable(fault) => {
                outcome = Err(fault);
                Terms::Unusable
            }
        };
        let proves_nothing = match &next {
            Terms::Clear => true,
            Terms::Keyed(context) => !context.authenticates(),
            Terms::Unknown | Terms::Unusable => false,
        };
        let before = std::mem::replace(&mut self.terms, next);
        if proves_nothing && !matches!(before, Terms::Unknown) {
            self.give_up();
        }
        if let Terms::Keyed(context) = before {
            self.former = Some(Former { context, until: now + OLD_KEY_GRACE, replaced: at });
        }
        for held in std::mem::take(&mut self.held) {
            self.take(held.since, held.channel, held.arrival());
        }
        outcome
    }

    /// Whether what comes is plain, and nothing that came before is still to be taken from here.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        matches!(self.terms, Terms::Clear) && self.former.is_none() && self.opened.is_empty()
    }

    /// Takes what came at `now`: opens it, keeps it, or counts it.
    pub fn take(&mut self, now: MonoTime, channel: Channel, arrival: Arrival<'_>) {
        let start = self.opened.bytes.len();
        self.opened.bytes.extend_from_slice(arrival.bytes);
        match self.open(channel, arrival.at, start) {
            Ok(length) => {
                self.opened.keep(channel, arrival, start, length);
                if channel == Channel::Rtp {
                    self.failing = None;
                }
            }
            Err(refusal) => {
                self.opened.bytes.truncate(start);
                if matches!(refusal, Refusal::NoKeys | Refusal::Authentication) {
                    self.failing = Some(refusal);
                    self.hold(now, refusal, channel, arrival);
                } else {
                    self.refused[refusal.index()] += 1;
                }
            }
        }
    }

    /// Time has passed: old keys are forgotten, and what has waited too long is given up.
    pub fn swept(&mut self, now: MonoTime) {
        self.former.take_if(|former| now >= former.until);
        while let Some(held) = self.held.pop_front_if(|held| now.since(held.since) >= HELD_FOR) {
            self.refused[held.why.index()] += 1;
        }
    }

    /// What was opened and not cleared, in the order in which it was.
    pub fn opened(&self, channel: Channel) -> impl Iterator<Item = Arrival<'_>> {
        let bytes = &self.opened.bytes;
        self.opened.packets.iter().filter(move |packet| packet.channel == channel).map(|packet| {
            let end = packet.start + packet.length;
            Arrival { at: packet.at, source: packet.source, bytes: &bytes[packet.start..end] }
        })
    }

    /// What was opened of this channel has been taken.
    pub fn clear_opened(&mut self, channel: Channel) {
        self.opened.packets.retain(|packet| packet.channel != channel);
        if self.opened.packets.is_empty() {
            self.opened.clear();
        }
    }

    /// How many packets were refused since this was asked last, by [`Refusal::index`].
    pub fn take_refused(&mut self) -> [u64; Refusal::ALL.len()] {
        std::mem::take(&mut self.refused)
    }

    /// Why nothing of what came last could be opened; `None` if something could, or nothing came.
    #[must_use]
    pub const fn failing(&self) -> Option<Refusal> {
        self.failing
    }

    /// Opens the last packet in `opened.bytes`.
    fn open(&mut self, channel: Channel, at: WallTime, start: usize) -> Result<usize, Refusal> {
        let packet = &mut self.opened.bytes[start..];
        // What no tag can tell is told by its time.
        if let Some(old) = &mut self.former
            && !old.context.authenticates()
            && at < old.replaced
        {
            return open_with(&mut old.context, None, channel, packet);
        }
        let outcome = match &mut self.terms {
            Terms::Unknown | Terms::Unusable => Err(Refusal::NoKeys),
            // Tried first, so that it is not taken for plain.
            Terms::Clear => Err(Refusal::Authentication),
            Terms::Keyed(context) => {
                let before = self.former.as_ref().map(|former| &*former.context);
                open_with(context, before, channel, packet)
            }
        };
        let outcome = match (outcome, &mut self.former) {
            (Err(refusal @ (Refusal::NoKeys | Refusal::Authentication)), Some(old))
                if old.context.authenticates() =>
            {
                let opened = open_with(&mut old.context, None, channel, packet);
                opened.map_err(|why| match why {
                    Refusal::Replay | Refusal::Old => why,
                    _ => refusal,
                })
            }
            (outcome, _) => outcome,
        };
        match outcome {
            Err(Refusal::Authentication) if matches!(self.terms, Terms::Clear) => Ok(packet.len()),
            outcome => outcome,
        }
    }

    fn give_up(&mut self) {
        for held in self.held.drain(..) {
            self.refused[held.why.index()] += 1;
        }
    }

    fn hold(&mut self, since: MonoTime, why: Refusal, channel: Channel, arrival: Arrival<'_>) {
        if self.held.len() == HELD_MAX
            && let Some(oldest) = self.held.pop_front()
        {
            self.refused[oldest.why.index()] += 1;
        }
        let Arrival { at, source, bytes } = arrival;
        self.held.push_back(Held { since, why, channel, at, source, bytes: bytes.to_vec() });
    }
}

fn open_with(
    context: &mut Context,
    before: Option<&Context>,
    channel: Channel,
    packet: &mut [u8],
) -> Result<usize, Refusal> {
    match channel {
        Channel::Rtp => context.open_rtp(packet, before),
        Channel::Rtcp => context.open_rtcp(packet),
    }
}

impl Held {
    fn arrival(&self) -> Arrival<'_> {
        Arrival { at: self.at, source: self.source, bytes: &self.bytes }
    }
}

/// Opened packets, one behind the other.
#[derive(Debug, Default)]
struct Opened {
    bytes: Vec<u8>,
    packets: Vec<OpenedPacket>,
}

#[derive(Debug)]
struct OpenedPacket {
    channel: Channel,
    at: WallTime,
    source: SocketAddr,
    start: usize,
    length: usize,
}

impl Opened {
    const fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn keep(&mut self, channel: Channel, arrival: Arrival<'_>, start: usize, length: usize) {
        self.bytes.truncate(start + length);
        let Arrival { at, source, .. } = arrival;
        self.packets.push(OpenedPacket { channel, at, source, start, length });
    }

    /// What was opened is wiped: it may be of a pause.
    fn clear(&mut self) {
        self.bytes.zeroize();
        self.packets.clear();
    }
}
