//! The owner's side: gives what this node captures to whoever mirrors it, and knows how far that is. A
//! thread follows the journal and stops while the peer does not take what it has read, so there is never
//! more of it in memory than a few windows; the media thread notices nothing of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{Ears, Reply, Talk};
use cluster_core::{GroupView, mirror};
use recorder::clock::Clock;
use storage::{JournalReader, JournalTail, Tailed};
use storage_core::journal::Place;
use storage_core::mirror_wire::{FromOwner, LIVE_MAX, Taken};
use storage_core::{MonoTime, NodeId, WallTime};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::lag::Lag;
use crate::alarms::Alarm;
use crate::hub::Hub;
use crate::peers::protocol::PIECE_BYTES_MAX;

/// An owner that captures nothing says so this often.
const WAIT: Duration = Duration::from_secs(1);
/// Windows that are read before those before them are taken.
const AHEAD: usize = 2;
/// So many looks in a row must find a mirror too far behind before it is told; see [`Outlet::look`].
const LOOKS: u32 = 4;

/// Gives what this node captures.
pub struct Outlet {
    node: NodeId,
    journal: JournalReader,
    clock: Clock,
    lag_max: Duration,
    mirrors: Mutex<BTreeMap<NodeId, Mirrored>>,
}

/// A mirror of this node's captures.
struct Mirrored {
    lag: Lag,
    /// The feed that counts: an older one may not have noticed its end.
    feed: Arc<AtomicBool>,
    /// Looks in a row that found it behind.
    behind: u32,
}

/// What a mirror is given.
pub struct Feed {
    outlet: Arc<Outlet>,
    peer: NodeId,
    from: Option<Place>,
    goes_on: Arc<AtomicBool>,
}

/// A message, and the mark in it.
type Said = (Vec<u8>, Option<(Place, MonoTime)>);

impl Outlet {
    /// Of this journal. A mirror that is longer than `lag_max` behind is an alarm.
    #[must_use]
    pub fn new(node: NodeId, journal: JournalReader, clock: Clock, lag_max: Duration) -> Self {
        Self { node, journal, clock, lag_max, mirrors: Mutex::default() }
    }

    /// Which journal it is.
    #[must_use]
    pub fn journal(&self) -> u64 {
        self.journal.identity()
    }

    /// Begins to give to a peer, which has everything of `journal` before a place. What it was given over
    /// another connection ends.
    #[must_use]
    pub fn feed(self: &Arc<Self>, peer: NodeId, has: Option<(u64, Place)>) -> Feed {
        let from = has.filter(|(journal, _)| *journal == self.journal()).map(|(_, place)| place);
        let goes_on = Arc::new(AtomicBool::new(true));
        let mut mirrors = self.mirrors();
        let now = self.clock.mono();
        let known = mirrors.entry(peer).or_insert_with(|| Mirrored::new(now));
        let before = std::mem::replace(&mut known.feed, Arc::clone(&goes_on));
        before.store(false, Ordering::Relaxed);
        drop(mirrors);
        Feed { outlet: Arc::clone(self), peer, from, goes_on }
    }

    /// How old the oldest audio is that each mirror has not taken, and that is not durable there. Whoever
    /// is to mirror this node is among them, even if it never has.
    #[must_use]
    pub fn lags(&self, view: &GroupView) -> Vec<(NodeId, Duration, Duration)> {
        let (head, now) = (self.journal.head(), self.clock.mono());
        let mut mirrors = self.mirrors();
        let Some(keeper) = self.keeper(view) else { return Vec::new() };
        let known = mirrors.entry(keeper).or_insert_with(|| Mirrored::new(now));
        vec![(keeper, known.lag.lag(head, now), known.lag.durable_lag(head, now))]
    }

    /// Looks whether the mirror keeps up; to be called about once a second.
    pub fn look(&self, view: &GroupView, hub: &Hub) {
        let keeper = self.keeper(view);
        for (peer, lag, _) in self.lags(view) {
            let mut mirrors = self.mirrors();
            let Some(known) = mirrors.get_mut(&peer) else { continue };
            known.behind = if lag > self.lag_max { known.behind.saturating_add(1) } else { 0 };
            let behind = known.behind >= LOOKS;
            drop(mirrors);
            hub.alarms.set(behind, self.not_mirrored(peer));
        }
        let known: Vec<NodeId> = self.mirrors().keys().copied().collect();
        for peer in known.into_iter().filter(|peer| Some(*peer) != keeper) {
            hub.alarms.clear("mirrorlag", &peer.to_string());
        }
    }

    fn keeper(&self, view: &GroupView) -> Option<NodeId> {
        mirror::mirror_of(self.node, &mirror::recorders(view))
    }

    fn not_mirrored(&self, peer: NodeId) -> Alarm {
        let most = self.lag_max.as_millis();
        Alarm {
            name: "mirrorlag",
            subject: peer.to_string(),
            message: format!(
                "what this node captures is on node {peer} later than al_mirrorlagms ({most} ms), or not at all"
            ),
            remedy: "look at that node, at the network to it and at its disk; what it lacks it fetches by itself",
        }
    }

    fn marked(&self, peer: NodeId, next: Place, seen: MonoTime) {
        if let Some(known) = self.mirrors().get_mut(&peer) {
            known.lag.marked(next, seen);
        }
    }

    fn heard(&self, peer: NodeId, taken: Taken) {
        if let Some(known) = self.mirrors().get_mut(&peer) {
            known.lag.heard(taken);
        }
    }

    fn mirrors(&self) -> MutexGuard<'_, BTreeMap<NodeId, Mirrored>> {
        // What is done under the lock leaves no half-way state behind.
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirrored {
    fn new(now: MonoTime) -> Self {
        Self { lag: Lag::new(now), feed: Arc::default(), behind: 0 }
    }
}

impl Feed {
    /// Gives until one side has enough.
    ///
    /// # Errors
    /// If the peer has gone, or reads no more.
    pub async fn run(self, reply: Reply) -> io::Result<()> {
        let (talk, ears) = reply.listen();
        let (sender, said) = mpsc::channel(AHEAD);
        let Self { outlet, peer, from, goes_on } = self;
        let reading = Arc::clone(&goes_on);
        let follower = Arc::clone(&outlet);
        let thread = spawn_blocking(move || follower.follow(peer, from, &reading, &sender));
        let ended = tokio::select! {
            ended = outlet.talk(peer, talk, said) => ended,
            ended = outlet.listen(peer, ears) => ended,
        };
        goes_on.store(false, Ordering::Relaxed);
        // It waits for the journal at most.
        drop(thread.await);
        ended
    }
}

impl Outlet {
    async fn talk(
        &self,
        peer: NodeId,
        mut talk: Talk,
        mut said: mpsc::Receiver<Said>,
    ) -> io::Result<()> {
        while let Some((message, mark)) = said.recv().await {
            // Known before it can be answered.
            if let Some((next, seen)) = mark {
                self.marked(peer, next, seen);
            }
            for piece in message.chunks(PIECE_BYTES_MAX) {
                talk.send(piece).await?;
            }
        }
        Ok(())
    }

    async fn listen(&self, peer: NodeId, mut ears: Ears) -> io::Result<()> {
        loop {
            let word = ears.word().await?;
            let taken = Taken::decode(&word);
            self.heard(
                peer,
                taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            );
        }
    }

    /// Follows the journal; blocks.
    fn follow(
        &self,
        peer: NodeId,
        from: Option<Place>,
        goes_on: &AtomicBool,
        said: &mpsc::Sender<Said>,
    ) {
        let mut tail = JournalTail::new(self.journal.clone(), from);
        let (mut frames, mut unreadable) = (Vec::new(), 0);
        while goes_on.load(Ordering::Relaxed) {
            let tailed = match tail.next(&mut frames, WAIT) {
                Ok(tailed) => tailed,
                Err(error) => {
                    tracing::error!(%peer, %error, "what is captured here cannot be mirrored");
                    return;
                }
            };
            if tail.unreadable() > unreadable {
                unreadable = tail.unreadable();
                tracing::warn!(%peer, bytes = unreadable, "not all that is captured can be mirrored");
            }
            let mut message = Vec::new();
            let mark = match tailed {
                Tailed::Live(open) if open.len() <= LIVE_MAX => {
                    FromOwner::Live(open).encode(&mut message);
                    None
                }
                // The mirror then learns from the ledger what it may forget.
                Tailed::Live(_) => continue,
                Tailed::Frames => {
                    FromOwner::Frames(&frames).encode(&mut message);
                    None
                }
                Tailed::Mark { next, seen } => {
                    let age = seen.elapsed();
                    let at =
                        Clock::wall().as_micros() - i64::try_from(age.as_micros()).unwrap_or(0);
                    FromOwner::Mark { next, at: WallTime::from_micros(at) }.encode(&mut message);
                    let now = self.clock.mono().as_micros();
                    let seen = now.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(0));
                    Some((next, MonoTime::from_micros(seen)))
                }
            };
            if said.blocking_send((message, mark)).is_err() {
                return;
            }
        }
    }
}
