//! Joining a recorder by single-step conference, and leaving a call.
//!
//! A recorder keeps a call up: as long as one is in it, nobody is cleared because he is alone.

use super::{
    Body, CallId, Cause, ConnectionState, Device, Extension, Number, Participation, Party, Refusal,
    StationKind, Switch,
};
use crate::time::Time;

impl Switch {
    /// Adds a station to a call without ringing it.
    ///
    /// # Errors
    /// Whatever the switch has against it: no such call, not a station, out of service, busy,
    /// already there, party limit, mixed participation, vector processing.
    pub fn join(
        &mut self,
        now: Time,
        id: CallId,
        station: &Extension,
        participation: Participation,
    ) -> Result<(), Refusal> {
        self.now = now;
        self.check_join(id, station, participation)?;
        let device = Device::Extension(station.clone());
        let recorder = self.is_phantom(station);
        self.add_party(
            id,
            Party {
                device: device.clone(),
                number: Number(station.as_str().to_owned()),
                state: ConnectionState::Connected,
                joined_as: Some(participation),
                recorder,
            },
        );
        let cause: Cause = match participation {
            Participation::Active => "activeParticipation",
            Participation::Silent => "silentParticipation",
        };
        self.connect(id, &device, cause, Some(participation));
        Ok(())
    }

    fn check_join(
        &self,
        id: CallId,
        station: &Extension,
        participation: Participation,
    ) -> Result<(), Refusal> {
        let call = self.call(id)?;
        if self.is_group(station) {
            return Err(Refusal::NotAStation(station.clone()));
        }
        if call.at(station).is_some() {
            return Err(Refusal::AlreadyInCall(station.clone()));
        }
        let kind = self
            .station_kind(station)
            .ok_or_else(|| Refusal::NoSuchNumber(station.as_str().to_owned()))?;
        if kind == StationKind::Phantom && self.main_registration(station).is_none() {
            return Err(Refusal::OutOfService(station.clone()));
        }
        self.check_free(station)?;
        if call.queued_at.is_some() && participation == Participation::Active {
            return Err(Refusal::InVector);
        }
        if call.parties.iter().any(|p| p.joined_as.is_some_and(|as_| as_ != participation)) {
            return Err(Refusal::Mixed);
        }
        if call.parties.len() >= self.max_parties {
            return Err(Refusal::PartyLimit(self.max_parties));
        }
        Ok(())
    }

    /// Takes one connection out of a call.
    ///
    /// # Errors
    /// It is not in that call.
    pub fn clear_connection(
        &mut self,
        now: Time,
        id: CallId,
        device: &Device,
    ) -> Result<(), Refusal> {
        self.now = now;
        self.leave(id, device, "normalClearing")
    }

    /// Ends a call for all its parties.
    ///
    /// # Errors
    /// No such call.
    pub fn clear_call(&mut self, now: Time, id: CallId) -> Result<(), Refusal> {
        self.now = now;
        let devices: Vec<_> =
            self.call(id)?.parties.iter().map(|party| party.device.clone()).collect();
        for device in devices {
            self.drop_party(id, &device, "normalClearing");
        }
        self.end(id, "normalClearing");
        Ok(())
    }

    /// One party leaves; what follows from that happens too.
    pub(super) fn leave(
        &mut self,
        id: CallId,
        device: &Device,
        cause: Cause,
    ) -> Result<(), Refusal> {
        if self.call(id)?.party(device).is_none() {
            let name = match device {
                Device::Extension(extension) => extension.as_str().to_owned(),
                Device::Trunk(trunk) => format!("T{}#{}", trunk.group, trunk.member),
            };
            return Err(Refusal::NotInCall(name));
        }
        self.drop_party(id, device, cause);
        self.settle(id, cause);
        Ok(())
    }

    /// Without a recorder, a party that is alone is cleared. With one, nobody is.
    fn settle(&mut self, id: CallId, cause: Cause) {
        let Some(call) = self.calls.get(&id) else { return };
        let recorders = call.parties.len() - call.people();
        let alone = match call.parties.as_slice() {
            [party] if recorders == 0 => Some(party.device.clone()),
            _ => None,
        };
        if let Some(device) = alone {
            self.drop_party(id, &device, cause);
        }
        self.end(id, cause);
    }

    fn drop_party(&mut self, id: CallId, device: &Device, cause: Cause) {
        let party = self.calls.get(&id).and_then(|call| call.party(device));
        let Some(releasing) = party.map(|party| party.number.clone()) else { return };
        let body = Body::ConnectionCleared { device: device.clone(), releasing, cause };
        self.emit_leaving(id, body, Some(device));
        self.remove_party(id, device);
    }

    /// Ends the call if nobody is left in it.
    fn end(&mut self, id: CallId, cause: Cause) {
        if self.calls.get(&id).is_some_and(|call| call.parties.is_empty()) {
            self.emit(id, Body::CallCleared { cause });
            self.finish(id, None);
        }
        self.serve_queues();
    }
}
