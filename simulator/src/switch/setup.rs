//! Setting calls up: from a trunk, from a station, ringing, answering, diverting, picking up.

use super::routing::Target;
use super::{
    Body, CallId, Cause, ConnectionState, Device, Direction, Extension, Number, Original,
    OriginalCall, Participation, Party, Refusal, Serial, Switch,
};
use crate::time::Time;

impl Switch {
    /// A call comes in over the first free trunk to a VDN, a skill or a station.
    ///
    /// # Errors
    /// No trunk is free, nothing has the dialled number, or the station dialled is busy (a caller
    /// hears the busy tone and CTI sees nothing).
    pub fn inbound(
        &mut self,
        now: Time,
        caller: &str,
        dialled: &str,
        user_data: &[u8],
    ) -> Result<Serial, Refusal> {
        self.now = now;
        let target = self.target(dialled)?;
        if let Target::Station(station) = &target {
            self.check_can_ring(station)?;
        }
        if matches!(target, Target::Outside) {
            return Err(Refusal::NoSuchNumber(dialled.to_owned()));
        }
        let trunk = self.take_trunk()?;
        let calling = Number(caller.to_owned());
        let id = self.new_call(Direction::Inbound, calling.clone(), Number(dialled.to_owned()));
        let state = ConnectionState::Connected;
        self.add_party(id, Party::person(Device::Trunk(trunk), calling, state));
        if let Some(call) = self.calls.get_mut(&id) {
            call.user_data = user_data.to_vec();
        }
        let serial = self.call(id)?.serial;
        self.route(id, target);
        Ok(serial)
    }

    /// A station goes off-hook and dials a station, a VDN or an outside number.
    ///
    /// # Errors
    /// The station is busy or unknown. A destination that is busy or has no trunk is a call that
    /// fails, not an error.
    pub fn originate(
        &mut self,
        now: Time,
        station: &Extension,
        digits: &str,
        user_data: &[u8],
    ) -> Result<Serial, Refusal> {
        self.now = now;
        self.check_free(station)?;
        self.dial(station, digits, user_data, None)
    }

    /// Off-hook and dial, whatever else the station holds.
    pub(super) fn dial(
        &mut self,
        station: &Extension,
        digits: &str,
        user_data: &[u8],
        original: Option<Box<OriginalCall>>,
    ) -> Result<Serial, Refusal> {
        let target = self.target(digits)?;
        let cause: Cause = if original.is_some() { "consultation" } else { "makeCall" };
        let direction = match target {
            Target::Outside => Direction::Outbound,
            _ => Direction::Internal,
        };
        let calling = Number(station.as_str().to_owned());
        let id = self.new_call(direction, calling, Number(digits.to_owned()));
        let serial = self.call(id)?.serial;
        if let Some(call) = self.calls.get_mut(&id) {
            call.user_data = user_data.to_vec();
            call.original = original;
        }
        self.add_party(id, Party::at_station(station, ConnectionState::Initiated));
        self.emit(id, Body::ServiceInitiated { device: station.clone(), cause });
        self.set_state(id, station, ConnectionState::Connected);
        let agent = self.agent_at(station).map(|(agent, _)| agent.to_owned());
        let cause = if cause == "makeCall" { "newCall" } else { cause };
        self.emit(id, Body::Originated { device: station.clone(), agent, cause });
        self.route(id, target);
        Ok(serial)
    }

    /// A ringing station answers.
    ///
    /// # Errors
    /// Nothing rings there.
    pub fn answer(&mut self, now: Time, station: &Extension) -> Result<Serial, Refusal> {
        self.now = now;
        let id = self
            .find_at(station, ConnectionState::Alerting)
            .ok_or_else(|| Refusal::NothingToAnswer(station.clone()))?;
        // Answering while talking is what a person does by first leaving or holding the other call.
        if let Some(active) = self.find_at(station, ConnectionState::Connected) {
            return Err(Refusal::WrongState(format!("{station} (active in call {active})")));
        }
        self.connect(id, &Device::Extension(station.clone()), "newCall", None);
        Ok(self.call(id)?.serial)
    }

    /// The outside party of an outbound call answers.
    ///
    /// # Errors
    /// It is not ringing.
    pub fn answer_outside(&mut self, now: Time, serial: Serial) -> Result<(), Refusal> {
        self.now = now;
        let call = self.call_of(serial)?;
        let id = call.id;
        let device = call
            .parties
            .iter()
            .find(|party| {
                party.device.extension().is_none() && party.state == ConnectionState::Alerting
            })
            .map(|party| party.device.clone())
            .ok_or_else(|| Refusal::WrongState("the outside party".to_owned()))?;
        self.connect(id, &device, "newCall", None);
        Ok(())
    }

    /// A ringing call goes elsewhere (cover, forward).
    ///
    /// # Errors
    /// Nothing rings there, or the new station cannot ring.
    pub fn divert(&mut self, now: Time, from: &Extension, to: &Extension) -> Result<(), Refusal> {
        self.now = now;
        let id = self
            .find_at(from, ConnectionState::Alerting)
            .ok_or_else(|| Refusal::NothingToAnswer(from.clone()))?;
        self.check_can_ring(to)?;
        self.divert_away(id, from, Number(to.as_str().to_owned()), "redirected");
        self.ring(id, to, "redirected");
        Ok(())
    }

    /// A station picks up a call that rings at another.
    ///
    /// # Errors
    /// Nothing rings there, or the station is busy.
    pub fn pickup(
        &mut self,
        now: Time,
        station: &Extension,
        alerting: &Extension,
    ) -> Result<Serial, Refusal> {
        self.now = now;
        self.check_free(station)?;
        let id = self
            .find_at(alerting, ConnectionState::Alerting)
            .ok_or_else(|| Refusal::NothingToAnswer(alerting.clone()))?;
        self.divert_away(id, alerting, Number(station.as_str().to_owned()), "callPickup");
        let device = Device::Extension(station.clone());
        self.add_party(id, Party::at_station(station, ConnectionState::Alerting));
        self.connect(id, &device, "callPickup", None);
        Ok(self.call(id)?.serial)
    }

    /// Makes a device a full party and sets the start of the talk.
    pub(super) fn connect(
        &mut self,
        id: CallId,
        device: &Device,
        cause: Cause,
        recorder: Option<Participation>,
    ) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(party) = call.parties.iter_mut().find(|party| party.device == *device) else {
            return;
        };
        party.state = ConnectionState::Connected;
        let answering = party.number.clone();
        if recorder.is_none() {
            call.established.get_or_insert(now);
            if let Device::Extension(extension) = device {
                call.answered_by.push(extension.clone());
            }
            if call.direction != Direction::Inbound {
                let caller = call.parties.first().and_then(|party| party.device.extension());
                if let Some(caller) = caller.cloned().filter(|c| !call.answered_by.contains(c)) {
                    call.answered_by.push(caller);
                }
            }
        }
        let body = Body::Established { device: device.clone(), answering, cause, recorder };
        self.emit(id, body);
    }

    /// Lets it ring at a station.
    pub(super) fn ring(&mut self, id: CallId, station: &Extension, cause: Cause) {
        let device = Device::Extension(station.clone());
        let number = Number(station.as_str().to_owned());
        self.add_party(id, Party::at_station(station, ConnectionState::Alerting));
        self.emit(id, Body::Delivered { device, alerting: number, cause });
    }

    /// Whether it can ring there.
    pub(super) fn check_can_ring(&self, station: &Extension) -> Result<(), Refusal> {
        self.check_free(station)?;
        if self.is_phantom(station) && self.main_registration(station).is_none() {
            return Err(Refusal::OutOfService(station.clone()));
        }
        Ok(())
    }

    /// Whether the station is there and has no call but held ones.
    pub(super) fn check_free(&self, station: &Extension) -> Result<(), Refusal> {
        let known = self
            .stations
            .get(station)
            .ok_or_else(|| Refusal::NoSuchNumber(station.as_str().to_owned()))?;
        if known.busied_out {
            return Err(Refusal::OutOfService(station.clone()));
        }
        let busy = self.calls_at(station).iter().any(|id| {
            let party = self.calls.get(id).and_then(|call| call.at(station));
            party.is_some_and(|party| party.state != ConnectionState::Held)
        });
        if busy { Err(Refusal::Busy(station.clone())) } else { Ok(()) }
    }

    /// The call in which a station's connection has that state.
    pub(super) fn find_at(&self, station: &Extension, state: ConnectionState) -> Option<CallId> {
        self.calls_at(station).iter().copied().find(|id| {
            let party = self.calls.get(id).and_then(|call| call.at(station));
            party.is_some_and(|party| party.state == state)
        })
    }

    pub(super) fn set_state(&mut self, id: CallId, station: &Extension, state: ConnectionState) {
        if let Some(party) = self.calls.get_mut(&id).and_then(|call| call.at_mut(station)) {
            party.state = state;
        }
    }

    /// What an event of a new call tells of the call it came from.
    pub(super) fn original_of(&self, id: CallId, reason: Original) -> Option<Box<OriginalCall>> {
        let call = self.calls.get(&id)?;
        Some(Box::new(OriginalCall {
            reason,
            calling: call.calling.clone(),
            called: call.called.clone(),
            trunk: call.trunk(),
            ucid: call.ucid.clone(),
            user_data: call.user_data.clone(),
        }))
    }

    fn divert_away(&mut self, id: CallId, from: &Extension, to: Number, cause: Cause) {
        let device = Device::Extension(from.clone());
        let body = Body::Diverted { device: from.clone(), to, cause };
        self.emit_leaving(id, body, Some(&device));
        self.remove_party(id, &device);
        if let Some(call) = self.calls.get_mut(&id) {
            call.last_redirection = Some(from.clone());
        }
    }
}
