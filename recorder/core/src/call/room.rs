//! Places in a call. The switch takes six parties, recorders included, and a user's own conference
//! fails if a recorder sits on the place it needs (dossier 7.2). So a phantom is not put in where
//! the call is full, nor where a conference that is under way would make it full, and it gives up
//! its place when such a conference begins.
//!
//! Who holds a call and is in another is taken to be about to join the two: a transfer would need
//! one place less, but nobody can tell before it is done. Of the two phantoms the consultation's
//! goes first. It comes back as soon as there is room; the gap is declared like any other.

use super::calls::Calls;
use super::event::PartyState;
use super::tracked::TrackedCall;

impl Calls {
    /// Whether a phantom may be put into this call.
    pub(super) fn has_room(&self, call: &TrackedCall) -> bool {
        let max = self.max_parties;
        call.places() < max && self.joint_calls(call).all(|joint| joint.places < max)
    }

    /// Whether our phantom must leave this call so that people can join theirs.
    pub(super) fn must_make_room(&self, call: &TrackedCall) -> bool {
        self.joint_calls(call).any(|joint| {
            let consultation_first = joint.other_consults && joint.other_has_phantom;
            joint.places > self.max_parties && !consultation_first
        })
    }

    /// What would come of each conference that is under way with this call.
    fn joint_calls<'a>(&'a self, call: &'a TrackedCall) -> impl Iterator<Item = Joint> + 'a {
        let linked = self.tracker.linked(call).into_iter();
        linked.filter_map(move |key| Joint::of(call, self.tracker.call(key)?))
    }
}

/// Two calls as one.
struct Joint {
    places: usize,
    /// Whether the other call is the consultation.
    other_consults: bool,
    other_has_phantom: bool,
}

impl Joint {
    fn of(call: &TrackedCall, other: &TrackedCall) -> Option<Self> {
        let consults = |held: &TrackedCall, second: &TrackedCall| {
            held.real().filter(|party| party.state == PartyState::Held).any(|party| {
                let number = party.name.number.as_ref();
                let there = number.and_then(|number| second.party(number));
                there.is_some_and(|party| party.state != PartyState::Held)
            })
        };
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
        let places = call.places() + other.places() + coming - shared.count();
        let other_has_phantom = other.phantoms().next().is_some();
        Some(Self { places, other_consults, other_has_phantom })
    }
}
