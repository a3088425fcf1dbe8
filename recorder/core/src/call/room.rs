//! Places in a call. The switch takes six parties, recorders included, and a user's own conference
//! fails if a recorder sits on the place it needs (dossier 7.2). So a phantom is not put in where
//! the call is full, nor where a conference that is under way would make it full, and it gives up
//! its place when such a conference begins.
//!
//! Who holds a call and is in another is taken to be about to join the two: a transfer would need
//! one place less, but nobody can tell before it is done. Of the two phantoms the consultation's
//! goes first. It comes back as soon as there is room; the gap is declared like any other.
//!
//! A phantom that is there for a ring only (see [`super::ring`]) goes before any that records, and comes
//! after all others: whoever records counts the places of rings as free where a conference is under way.

use std::time::Duration;

use super::calls::Calls;
use super::event::PartyState;
use super::party::PartyKind;
use super::tap::Phase;
use super::tracked::{CallKey, TrackedCall};

/// Enough for another node's phantom to be seen in the call.
const APART: Duration = Duration::from_millis(400);

impl Calls {
    /// Whether a phantom may be put into this call.
    pub(super) fn has_room(&self, call: &TrackedCall) -> bool {
        let max = self.max_parties;
        self.places(call) < max && self.joint_calls(call).all(|joint| joint.places < max)
    }

    /// The same for one that is to keep a ring only.
    pub(super) fn has_room_for_ring(&self, call: &TrackedCall) -> bool {
        let max = self.max_parties;
        self.places(call) < max
            && self.joint_calls(call).all(|joint| joint.places + joint.rings < max)
    }

    /// Whether what keeps a ring of this call must leave it, so that nobody else has to. Where one place is
    /// short, the consultation's goes.
    pub(super) fn ring_must_make_room(&self, call: &TrackedCall) -> bool {
        let short = |joint: Joint| {
            let over = (joint.places + joint.rings).saturating_sub(self.max_parties);
            over > usize::from(joint.other_consults && joint.other_has_ring)
        };
        self.places(call) > self.max_parties || self.joint_calls(call).any(short)
    }

    /// How many places are taken, or will be when a phantom that was asked in gets there.
    pub(super) fn places(&self, call: &TrackedCall) -> usize {
        let taps = self.taps.values().filter(|tap| tap.call == call.key);
        let coming = taps.filter(|tap| matches!(tap.phase, Phase::Asked { .. }));
        call.places() + coming.count()
    }

    /// Whether our phantom must leave this call so that people can join theirs.
    pub(super) fn must_make_room(&self, call: &TrackedCall) -> bool {
        self.joint_calls(call).any(|joint| {
            let consultation_first = joint.other_consults && joint.other_has_phantom;
            joint.places > self.max_parties && !consultation_first
        })
    }

    /// How long a phantom that has made room stays out at least. Where two nodes record one call, as
    /// parts of a group that cannot agree do, both make room and both would be back at once: each
    /// waits for those before it.
    pub(super) fn patience_for_room(&self, key: CallKey) -> Option<Duration> {
        let call = self.tracker.call(key)?;
        let shared = call.parties.iter().any(|party| party.kind == PartyKind::PeerPhantom);
        let before = self.group.peers.keys().filter(|node| **node < self.node).count();
        shared.then(|| APART * u32::try_from(before + 1).unwrap_or(u32::MAX))
    }

    /// What would come of each conference that is under way with this call.
    fn joint_calls<'a>(&'a self, call: &'a TrackedCall) -> impl Iterator<Item = Joint> + 'a {
        let linked = self.tracker.linked(call).into_iter();
        linked.filter_map(move |key| self.joint(call, self.tracker.call(key)?))
    }

    fn joint(&self, call: &TrackedCall, other: &TrackedCall) -> Option<Joint> {
        let other_consults = consults(call, other);
        if !other_consults && !consults(other, call) {
            return None;
        }
        let shared = call.real().filter(|party| {
            party.name.number.as_ref().is_some_and(|number| other.party(number).is_some())
        });
        // Whoever is being dialled will be the consultation's second party.
        let consultation = if other_consults { other } else { call };
        let coming = usize::from(consultation.real().count() < 2);
        let rings = self.places_of_rings(call) + self.places_of_rings(other);
        let places = self.places(call) + self.places(other) + coming - shared.count();
        let places = places.saturating_sub(rings);
        let other_has_phantom = other.phantoms().next().is_some();
        let other_has_ring = self.has_ring_or_had(other);
        Some(Joint { places, rings, other_consults, other_has_phantom, other_has_ring })
    }
}

/// Whether somebody who holds the first call is in the second.
fn consults(held: &TrackedCall, second: &TrackedCall) -> bool {
    held.real().filter(|party| party.state == PartyState::Held).any(|party| {
        let there = party.name.number.as_ref().and_then(|number| second.party(number));
        there.is_some_and(|party| party.state != PartyState::Held)
    })
}

/// Two calls as one.
struct Joint {
    /// Places that are needed, but for those of rings.
    places: usize,
    /// Places of phantoms that are there for a ring only.
    rings: usize,
    /// Whether the other call is the consultation.
    other_consults: bool,
    other_has_phantom: bool,
    /// Whether a ring is kept of the other, or is on its way out.
    other_has_ring: bool,
}
