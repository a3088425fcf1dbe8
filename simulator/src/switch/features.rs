//! What a person does with a call in progress: hold, retrieve, consult, drop.

use super::{Body, CallId, ConnectionState, Device, Extension, Original, Refusal, Serial, Switch};
use crate::time::Time;

impl Switch {
    /// A station puts its active call (or the one given) on hold.
    ///
    /// # Errors
    /// It has no such active call.
    pub fn hold(
        &mut self,
        now: Time,
        station: &Extension,
        call: Option<CallId>,
    ) -> Result<(), Refusal> {
        self.now = now;
        let id = self.active_at(station, call)?;
        self.set_state(id, station, ConnectionState::Held);
        self.emit(id, Body::Held { device: station.clone() });
        Ok(())
    }

    /// A station takes its held call (or the one given) back.
    ///
    /// # Errors
    /// It has no such held call, or is active in another.
    pub fn retrieve(
        &mut self,
        now: Time,
        station: &Extension,
        call: Option<CallId>,
    ) -> Result<(), Refusal> {
        self.now = now;
        let id = self.held_at(station, call)?;
        if self.talks(station) {
            return Err(Refusal::Busy(station.clone()));
        }
        self.set_state(id, station, ConnectionState::Connected);
        self.emit(id, Body::Retrieved { device: station.clone() });
        Ok(())
    }

    /// Holds the active call and calls somebody else.
    ///
    /// # Errors
    /// No active call, or an impossible number.
    pub fn consult(
        &mut self,
        now: Time,
        station: &Extension,
        call: Option<CallId>,
        digits: &str,
    ) -> Result<Serial, Refusal> {
        let id = self.active_at(station, call)?;
        self.hold(now, station, Some(id))?;
        let original = self.original_of(id, Original::Consultation);
        let user_data = self.call(id)?.user_data.clone();
        match self.dial(station, digits, &user_data, original) {
            Ok(serial) => Ok(serial),
            Err(refusal) => {
                self.retrieve(now, station, Some(id))?;
                Err(refusal)
            }
        }
    }

    /// Drops the active call and takes the held one back.
    ///
    /// # Errors
    /// It has no active or no held call.
    pub fn reconnect(
        &mut self,
        now: Time,
        station: &Extension,
        active: CallId,
        held: CallId,
    ) -> Result<(), Refusal> {
        let held = self.held_at(station, Some(held))?;
        let active = self.any_at(station, active)?;
        self.now = now;
        self.leave(active, &Device::Extension(station.clone()), "normalClearing")?;
        self.retrieve(now, station, Some(held))
    }

    /// A station hangs up: it leaves the call that it talks in, else the one that is not on hold.
    ///
    /// # Errors
    /// It has no call but held ones.
    pub fn hang_up(&mut self, now: Time, station: &Extension) -> Result<(), Refusal> {
        self.now = now;
        let other = [
            ConnectionState::Connected,
            ConnectionState::Failed,
            ConnectionState::Initiated,
            ConnectionState::Alerting,
        ];
        let id = other
            .into_iter()
            .find_map(|state| self.find_at(station, state))
            .ok_or_else(|| Refusal::NoActiveCall(station.clone()))?;
        self.leave(id, &Device::Extension(station.clone()), "normalClearing")
    }

    /// The outside party hangs up.
    ///
    /// # Errors
    /// The interaction is over or has no outside party.
    pub fn hang_up_outside(&mut self, now: Time, serial: Serial) -> Result<(), Refusal> {
        self.now = now;
        let call = self.call_of(serial)?;
        let id = call.id;
        let device = call
            .outside()
            .map(|party| party.device.clone())
            .ok_or_else(|| Refusal::NotInCall("an outside party".to_owned()))?;
        self.leave(id, &device, "normalClearing")
    }

    /// Every person leaves, in the order they came.
    pub fn hang_up_people(&mut self, now: Time, serial: Serial) {
        self.now = now;
        let Ok(call) = self.call_of(serial) else { return };
        let id = call.id;
        let people = call.parties.iter().filter(|party| !party.recorder);
        let devices: Vec<_> = people.map(|party| party.device.clone()).collect();
        for device in devices {
            // The last two may have been cleared together.
            let _ = self.leave(id, &device, "normalClearing");
        }
    }

    /// The active call of a station, which must be the one given if one is given.
    pub(super) fn active_at(
        &self,
        station: &Extension,
        call: Option<CallId>,
    ) -> Result<CallId, Refusal> {
        let found = match call {
            Some(id) => {
                let state = self.state_at(station, id)?;
                (state == ConnectionState::Connected).then_some(id)
            }
            None => self.find_at(station, ConnectionState::Connected),
        };
        found.ok_or_else(|| Refusal::NoActiveCall(station.clone()))
    }

    /// The held call of a station, likewise.
    pub(super) fn held_at(
        &self,
        station: &Extension,
        call: Option<CallId>,
    ) -> Result<CallId, Refusal> {
        let found = match call {
            Some(id) => {
                let state = self.state_at(station, id)?;
                (state == ConnectionState::Held).then_some(id)
            }
            None => self.find_at(station, ConnectionState::Held),
        };
        found.ok_or_else(|| Refusal::NoHeldCall(station.clone()))
    }

    fn any_at(&self, station: &Extension, id: CallId) -> Result<CallId, Refusal> {
        self.state_at(station, id).map(|_| id)
    }

    fn state_at(&self, station: &Extension, id: CallId) -> Result<ConnectionState, Refusal> {
        let party = self.call(id)?.at(station);
        party
            .map(|party| party.state)
            .ok_or_else(|| Refusal::NotInCall(station.as_str().to_owned()))
    }
}
