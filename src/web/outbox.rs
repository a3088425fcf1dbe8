//! What waits to be sent on one WebSocket, counted in bytes. It decides what is taken, what is
//! lost and when the socket is not to be read any further; it sends nothing.
//!
//! The contract allows 1 MiB unsent for one socket. It is never reached:
//!
//! | what | at most |
//! |---|---|
//! | one great reply (its permit comes back when it is sent) | 384 KiB |
//! | small replies waiting when reading pauses, and the one that came last | 128 + 66 KiB |
//! | `id`s of requests in progress, which their replies repeat | 128 KiB |
//! | events | 128 KiB |
//! | one chunk being sent and one read ahead | 128 KiB |
//! | frames of calls that are listened to | 13 KiB |
//!
//! An event that finds no room is lost, and the subscriber is told so by the event `eventslost`
//! with how many, in their place: he asks again for what he shows. A slow reader is so never cut
//! off in the middle of a fetch because much is going on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::fetch::Fetch;
use super::listen::Listen;
use super::stats::Stats;

/// A reply's members are kept below this.
pub const REPLY_BYTES_MAX: usize = 384 * 1024;
/// Bytes of requests in progress on one socket.
pub const IN_PROGRESS_BYTES_MAX: usize = 128 * 1024;
/// With so much waiting the socket is not read.
const PAUSE_BYTES: usize = 128 * 1024;
const EVENT_BYTES_MAX: usize = 128 * 1024;
/// What an event costs beyond its text.
const EVENT_OVERHEAD: usize = 64;

/// Something to send.
pub enum Item {
    /// The reply to a request.
    Reply(Reply),
    /// An event.
    Event(Utf8Bytes),
    /// A WebSocket ping.
    Ping,
}

/// A reply, and what hangs on its being sent.
pub struct Reply {
    /// The frame.
    pub text: Utf8Bytes,
    /// What begins after it.
    pub begins: Option<Box<Begins>>,
    /// Lets the next great reply be made once this one is sent.
    pub turn: Option<OwnedSemaphorePermit>,
}

/// What begins when its reply is sent.
pub enum Begins {
    /// A fetch.
    Fetch(Fetch),
    /// Listening to a call.
    Listen(Listen),
}

impl Reply {
    /// A reply on which nothing hangs.
    pub fn plain(text: String) -> Self {
        Self { text: text.into(), begins: None, turn: None }
    }
}

#[derive(Default)]
struct Waiting {
    ping: bool,
    items: VecDeque<Item>,
    /// Waiting here or in the sender's hands.
    bytes: usize,
    event_bytes: usize,
    events_lost: u64,
}

/// The queue of one socket: many put, one takes.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    drained: Notify,
    stats: Arc<Stats>,
}

impl Outbox {
    /// An empty one.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), drained: Notify::new(), stats }
    }

    /// Puts a reply. Always taken: requests are bounded before they begin.
    pub fn reply(&self, reply: Reply) {
        self.hold(reply.text.len());
        self.lock().items.push_back(Item::Reply(reply));
        self.filled.notify_one();
    }

    /// Puts an event, or counts it lost.
    pub fn event(&self, text: &Utf8Bytes) {
        let cost = text.len() + EVENT_OVERHEAD;
        let mut waiting = self.lock();
        if waiting.event_bytes + cost > EVENT_BYTES_MAX {
            waiting.events_lost += 1;
            drop(waiting);
            self.stats.events_lost.inc();
            return;
        }
        tell_of_lost(&mut waiting);
        waiting.event_bytes += cost;
        waiting.bytes += text.len();
        waiting.items.push_back(Item::Event(text.clone()));
        self.stats.saw_unsent(waiting.bytes);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Counts events that were lost before they came here.
    pub fn lost(&self, events: u64) {
        self.lock().events_lost += events;
        self.stats.events_lost.inc_by(events);
        self.filled.notify_one();
    }

    /// Puts a ping before everything else.
    pub fn ping(&self) {
        self.lock().ping = true;
        self.filled.notify_one();
    }

    /// Counts bytes that wait elsewhere (a chunk that was read).
    pub fn hold(&self, bytes: usize) {
        let mut waiting = self.lock();
        waiting.bytes += bytes;
        self.stats.saw_unsent(waiting.bytes);
    }

    /// Counts bytes that were sent or dropped.
    pub fn release(&self, bytes: usize) {
        self.lock().bytes -= bytes;
        self.drained.notify_one();
    }

    /// Whether the socket may be read: its requests would add to what waits.
    pub fn has_room(&self) -> bool {
        self.lock().bytes < PAUSE_BYTES
    }

    /// Ready when there is room. For one waiter; may be dropped at any time.
    pub async fn room(&self) {
        while !self.has_room() {
            self.drained.notified().await;
        }
    }

    /// The next item. For one waiter; may be dropped at any time. Its text counts as waiting until
    /// it is released.
    pub async fn next(&self) -> Item {
        loop {
            if let Some(item) = self.take() {
                return item;
            }
            self.filled.notified().await;
        }
    }

    /// The next item if there is one.
    pub fn take(&self) -> Option<Item> {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.ping) {
            return Some(Item::Ping);
        }
        if waiting.items.is_empty() {
            tell_of_lost(&mut waiting);
        }
        let item = waiting.items.pop_front()?;
        if let Item::Event(text) = &item {
            waiting.event_bytes -= text.len() + EVENT_OVERHEAD;
        }
        Some(item)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing between two writes here can panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the hint where the events would have been.
fn tell_of_lost(waiting: &mut Waiting) {
    let lost = std::mem::take(&mut waiting.events_lost);
    if lost == 0 {
        return;
    }
    let text = Utf8Bytes::from(format!("{{\"eventtype\":\"eventslost\",\"lost\":{lost}}}"));
    waiting.event_bytes += text.len() + EVENT_OVERHEAD;
    waiting.bytes += text.len();
    waiting.items.push_back(Item::Event(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new(Arc::new(Stats::new()))
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.take())
            .map(|item| match item {
                Item::Reply(reply) => reply.text.to_string(),
                Item::Event(text) => text.to_string(),
                Item::Ping => "ping".to_owned(),
            })
            .collect()
    }

    #[test]
    fn pings_first_and_the_rest_in_order() {
        let outbox = outbox();
        outbox.reply(Reply::plain("one".to_owned()));
        outbox.event(&"two".into());
        outbox.ping();
        outbox.ping();
        assert_eq!(texts(&outbox), ["ping", "one", "two"]);
    }

    #[test]
    fn events_beyond_the_bound_become_one_hint_in_their_place() {
        let outbox = outbox();
        let big = Utf8Bytes::from("x".repeat(EVENT_BYTES_MAX / 2 - EVENT_OVERHEAD));
        for _ in 0..5 {
            outbox.event(&big);
        }
        assert!(matches!(outbox.take(), Some(Item::Event(_))));
        outbox.event(&"after".into());
        let rest = texts(&outbox);
        assert_eq!(rest[1..], ["{\"eventtype\":\"eventslost\",\"lost\":3}", "after"]);
        assert_eq!(outbox.lock().event_bytes, 0);
        outbox.lost(2);
        assert_eq!(texts(&outbox), ["{\"eventtype\":\"eventslost\",\"lost\":2}"]);
        assert_eq!(outbox.stats.events_lost.get(), 5);
    }

    #[test]
    fn reading_pauses_while_too_much_waits() {
        let outbox = outbox();
        outbox.reply(Reply::plain("x".repeat(PAUSE_BYTES)));
        assert!(!outbox.has_room());
        assert!(outbox.take().is_some());
        assert!(!outbox.has_room(), "taken is not sent");
        outbox.release(PAUSE_BYTES);
        assert!(outbox.has_room());
    }
}
