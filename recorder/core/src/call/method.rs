//! How the recorder comes to hear a call. This is the one place where the ways differ:
//!
//! | | [`Method::Join`] | [`Method::Listen`] |
//! |---|---|---|
//! | as `al_method` | `ssc` | `mr`, `so` |
//! | which device | any phantom that is free | that of a station which talks in the call |
//! | how it gets in | the switch is asked | it hears the station's call already |
//! | how it gets out | the switch is asked | nothing is to be done |
//! | places in the call | makes room for people | cannot make any |
//! | a device in a call that is not recorded | is taken out | is as it should be |
//! | others see that we record | by the phantom in the call | not at all: the ledger tells |
//!
//! What a device that listens hears, and when, is the business of [`super::listen`]; what a tap goes
//! through otherwise, that of [`super::tap`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use storage_core::record::Side;
use storage_core::{Extension, Now};

use super::calls::Calls;
use super::order::Order;
use super::pool::PhantomState;
use super::roster::Roster;
use super::tap::Phase;
use super::tracked::{CallKey, TrackedCall};

/// How the recorder comes to hear a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// A phantom of the pool is added to it by single-step conference (dossier 7.2).
    #[default]
    Join,
    /// Each device hears one station, in whatever call that talks: a registration on the station's
    /// own extension (dossier 7.4), or a phantom that observes it (7.3).
    Listen {
        /// The device by its station; of a registration they are the same number.
        devices: BTreeMap<Extension, Extension>,
        /// Whether each device is two receivers that are sent a side of the call each (7.5).
        sides: bool,
    },
}

impl Method {
    /// All in one, or each side by itself.
    #[must_use]
    pub const fn sides(&self) -> &'static [Option<Side>] {
        match self {
            Self::Listen { sides: true, .. } => &[Some(Side::Agent), Some(Side::Others)],
            Self::Join | Self::Listen { .. } => &[None],
        }
    }

    /// The devices that media reaches.
    #[must_use]
    pub fn devices(&self, roster: &Roster) -> BTreeSet<Extension> {
        match self {
            Self::Join => roster.phantoms.clone(),
            Self::Listen { devices, .. } => devices.values().cloned().collect(),
        }
    }
}

impl Calls {
    /// Whether devices hear their stations' calls without being put into them.
    pub(crate) fn listens(&self) -> bool {
        !self.ears.is_empty()
    }

    /// Whether a device is put into calls and taken out of them by request, so that one that is seen
    /// where it should not be has to go.
    pub(super) fn moves_devices(&self) -> bool {
        !self.listens()
    }

    /// Whether other nodes can see in a call that we record it, and we that they do.
    pub(super) fn is_seen_in_calls(&self) -> bool {
        !self.listens()
    }

    /// Takes a device by which this call can be heard now.
    pub(super) fn take_device(&mut self, now: Now, key: CallKey) -> Option<Extension> {
        if !self.listens() {
            return self.pool.take(now.mono);
        }
        let device = self.ear_for(now, key)?;
        self.pool.busy(&device, PhantomState::Joining);
        Some(device)
    }

    /// Whether there is a device for this call, now or in a moment.
    pub(super) fn has_device(&self, now: Now, key: CallKey) -> bool {
        match self.listens() {
            true => self.ear_for(now, key).is_some(),
            false => self.pool.next_free(now.mono).is_some(),
        }
    }

    /// There is no device for a call. One that is in use will be free; what a station does is told
    /// of the call itself.
    pub(super) fn wait_for_device(&mut self, now: Now) {
        if !self.listens() {
            self.wake_waiting(now);
        }
    }

    /// A device is not in use any more.
    pub(super) fn device_freed(&mut self, now: Now) {
        match self.listens() {
            true => self.touch_waiting(),
            false => self.wake_waiting(now),
        }
    }

    /// Lets a device hear a call for the tap's segment, which is open already: the phase in which
    /// the tap begins.
    pub(super) fn enter(&mut self, order: Order, phantom: &Extension) -> Phase {
        if self.listens() {
            self.pool.busy(phantom, PhantomState::Recording);
            return Phase::In;
        }
        self.orders.push_back(order);
        Phase::Asked { unwanted: false }
    }

    /// How long a device rests after a call: stray packets of the old call must not land in a new
    /// one. One that listens has no choice, because its station may talk on at once.
    pub(super) fn rest_after(&self, rest: Duration) -> Duration {
        if self.listens() { Duration::ZERO } else { rest }
    }

    /// Whether the call has room for one more recorder, as far as one takes a place.
    pub(super) fn admits(&self, call: &TrackedCall) -> bool {
        self.listens() || self.has_room(call)
    }

    /// The same for a ring of it.
    pub(super) fn admits_ring(&self, call: &TrackedCall) -> bool {
        self.listens() || self.has_room_for_ring(call)
    }

    /// Whether what keeps a ring of this call must leave it so that others have its place, and can.
    pub(super) fn gives_way_with_ring(&self, call: &TrackedCall) -> bool {
        !self.listens() && self.ring_must_make_room(call)
    }

    /// Whether our phantom must leave this call so that people can join theirs, and can.
    pub(super) fn gives_way(&self, call: &TrackedCall) -> bool {
        !self.listens() && self.must_make_room(call)
    }
}
