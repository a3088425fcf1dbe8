//! Which peers answer, from what the links report. It judges by evidence of this process only; it
//! does not tell the group, and it decides nothing about duties.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::{MonoTime, NodeId};

/// What a link saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Anything came from the peer.
    Heard,
    /// A connection with it broke.
    Reset,
    /// Its host answered that nobody listens.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    heard: Option<MonoTime>,
    reset: bool,
    refused: bool,
    /// It was given time once since it was heard.
    excused: bool,
}

/// The peers of this member.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    silence: Duration,
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// A peer counts as gone after this silence, if nothing tells it sooner.
    pub(crate) const fn new(silence: Duration) -> Self {
        Self { silence, peers: BTreeMap::new() }
    }

    pub(crate) fn note(&mut self, now: MonoTime, node: NodeId, event: PeerEvent) {
        let peer = self.peers.entry(node).or_default();
        match event {
            PeerEvent::Heard => *peer = Peer { heard: Some(now), ..Peer::default() },
            PeerEvent::Reset => peer.reset = true,
            PeerEvent::Refused => peer.refused = true,
        }
    }

    /// This process itself was stopped for a while: the silence was its own. Once: one that a slow disk
    /// stops again and again would never find a peer silent.
    pub(crate) fn slept(&mut self, now: MonoTime) {
        for peer in self.peers.values_mut().filter(|peer| !peer.refused && !peer.excused) {
            peer.heard = peer.heard.map(|_| now);
            peer.excused = true;
        }
    }

    /// Its process is gone: a connection broke, and nobody listens any more. A refusal alone may
    /// be a listener that is not open yet; a reset alone may be the network.
    pub(crate) fn dead(&self, node: NodeId) -> bool {
        self.peers
            .get(&node)
            .is_some_and(|peer| peer.refused && (peer.reset || peer.heard.is_none()))
    }

    /// It has been heard of late.
    pub(crate) fn alive(&self, now: MonoTime, node: NodeId) -> bool {
        let heard = self.peers.get(&node).and_then(|peer| peer.heard);
        heard.is_some_and(|heard| now.since(heard) < self.silence) && !self.dead(node)
    }

    /// Nothing is known of it yet: neither heard nor known to be gone.
    pub(crate) fn unknown(&self, node: NodeId) -> bool {
        !self.dead(node) && self.peers.get(&node).is_none_or(|peer| peer.heard.is_none())
    }

    pub(crate) fn retain(&mut self, members: impl Fn(NodeId) -> bool) {
        self.peers.retain(|node, _| members(*node));
    }

    /// All that answer.
    pub(crate) fn all_alive(&self, now: MonoTime) -> BTreeSet<NodeId> {
        self.peers.keys().copied().filter(|node| self.alive(now, *node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_is_known_at_once_and_a_dead_host_by_its_silence() {
        let at = MonoTime::from_millis;
        let mut peers = Peers::new(Duration::from_millis(300));
        let node = NodeId(2);
        assert!(peers.unknown(node) && !peers.alive(at(0), node));
        peers.note(at(0), node, PeerEvent::Heard);
        peers.note(at(10), node, PeerEvent::Reset);
        assert!(peers.alive(at(11), node), "a reset alone may be the network");
        peers.note(at(12), node, PeerEvent::Refused);
        assert!(peers.dead(node) && !peers.alive(at(13), node));
        peers.note(at(20), node, PeerEvent::Heard);
        assert!(peers.alive(at(319), node));
        assert!(!peers.alive(at(320), node) && !peers.dead(node));
        peers.slept(at(5_000));
        assert!(peers.alive(at(5_001), node));
        peers.slept(at(5_200));
        assert!(!peers.alive(at(5_300), node), "nothing came of the time that it was given");
        peers.note(at(6_000), node, PeerEvent::Heard);
        peers.slept(at(7_000));
        assert!(peers.alive(at(7_001), node));
    }
}
