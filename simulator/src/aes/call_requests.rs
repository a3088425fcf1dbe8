//! Call control on behalf of a client.

use super::call_events::connection_items;
use super::filter::private;
use super::naming::{extension_part, linkage, ordinary, read_device, unhex};
use super::{Aes, CstaError};
use crate::switch::{
    CallId, Device, Extension, MergedConnection, Participation, Refusal, Switch, Ucid,
};
use crate::time::Time;
use crate::wire::{Element, Node, av, csta};

impl Aes {
    /// Answers a request of call control; what is not known is not supported.
    pub(super) fn call_request(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        if !self.link_up {
            return Err(CstaError::Resource("generic"));
        }
        match request.name.as_str() {
            "SingleStepConferenceCall" => {
                self.single_step_conference(now, switch, session, request)
            }
            "ClearConnection" => {
                let (call, device) = connection(request, "connectionToBeCleared")?;
                let person = switch.call(call)?.party(&device).is_some_and(|party| !party.recorder);
                switch.clear_connection(now, call, &device)?;
                self.counters.people_cleared += u64::from(person);
                Ok(csta("ClearConnectionResponse"))
            }
            "ClearCall" => {
                let call = call_id(request, "callToBeCleared")?;
                switch.clear_call(now, call)?;
                Ok(csta("ClearCallResponse"))
            }
            "MakeCall" => self.make_call(now, switch, session, request),
            "AnswerCall" => {
                let (call, station) = station(request, "callToBeAnswered")?;
                if switch.call(call)?.at(&station).is_none() {
                    return Err(CstaError::Operation("invalidConnectionID"));
                }
                switch.answer(now, &station)?;
                Ok(csta("AnswerCallResponse"))
            }
            "HoldCall" => {
                let (call, station) = station(request, "callToBeHeld")?;
                switch.hold(now, &station, Some(call))?;
                Ok(csta("HoldCallResponse"))
            }
            "RetrieveCall" => {
                let (call, station) = station(request, "callToBeRetrieved")?;
                switch.retrieve(now, &station, Some(call))?;
                Ok(csta("RetrieveCallResponse"))
            }
            "ReconnectCall" => {
                let (active, who) = station(request, "activeCall")?;
                let (held, _) = station(request, "heldCall")?;
                switch.reconnect(now, &who, active, held)?;
                Ok(csta("ReconnectCallResponse"))
            }
            "ConsultationCall" => self.consultation(now, switch, request),
            "TransferCall" => self.merge_call(now, switch, request, true),
            "ConferenceCall" => self.merge_call(now, switch, request, false),
            "SingleStepTransferCall" => self.single_step_transfer(now, switch, request),
            _ => Err(CstaError::Operation("serviceNotSupported")),
        }
    }

    fn single_step_conference(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let call = call_id(request, "activeCall")?;
        let device = self.owned(session, request.text_at(&["deviceToJoin"]))?;
        let participation = match request.text_at(&["participationType"]) {
            "" | "active" => Participation::Active,
            "silent" | "none" => Participation::Silent,
            _ => return Err(CstaError::Operation("invalidParameterValue")),
        };
        switch.join(now, call, &device.extension, participation)?;
        let joined = switch.call(call)?;
        let own = |outer: Node| {
            outer.leaf(csta("callID"), call).with(ordinary(csta("deviceID")).text(&device.text))
        };
        // The acknowledgment lists at most six parties.
        let connections = joined.parties.iter().take(6).map(|party| {
            if party.device.is(&device.extension) {
                own(av("connection"))
            } else {
                self.naming.connection(av("connection"), call, &party.device)
            }
        });
        let details = av("SingleStepConferenceCallResponsePrivateData")
            .maybe(
                self.naming
                    .ucid
                    .then(|| av("globallyUniqueCallLinkageID").text(joined.ucid.as_str())),
            )
            .with(av("resultingConnections").with_all(connections));
        Ok(csta("SingleStepConferenceCallResponse")
            .with(own(csta("conferencedCall")))
            .with(private(details)))
    }

    fn make_call(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["callingDevice"]))?;
        let digits = extension_part(request.text_at(&["calledDirectoryNumber"])).to_owned();
        let uui = unhex(request.text_at(&["userData", "string"]));
        let unknown = CstaError::Operation("invalidDestination");
        let placed = switch.originate(now, &device.extension, &digits, &uui);
        let serial = placed.map_err(|refusal| match refusal {
            Refusal::NoSuchNumber(number) if number == digits => unknown,
            other => other.into(),
        })?;
        let call = switch.call_of(serial)?;
        let own = csta("callingDevice")
            .leaf(csta("callID"), call.id)
            .with(ordinary(csta("deviceID")).text(&device.text));
        Ok(csta("MakeCallResponse")
            .with(own)
            .maybe(self.linkage_answer(av("MakeCallResponsePrivateData"), &call.ucid)))
    }

    fn consultation(
        &mut self,
        now: Time,
        switch: &mut Switch,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let (call, station) = station(request, "existingCall")?;
        let digits = extension_part(request.text_at(&["consultedDevice"])).to_owned();
        let serial = switch.consult(now, &station, Some(call), &digits)?;
        let new = switch.call_of(serial)?;
        let own =
            self.naming.connection(csta("initiatedCall"), new.id, &Device::Extension(station));
        Ok(csta("ConsultationCallResponse")
            .with(own)
            .maybe(self.linkage_answer(av("ConsultationCallResponsePrivateData"), &new.ucid)))
    }

    fn merge_call(
        &mut self,
        now: Time,
        switch: &mut Switch,
        request: &Element,
        transfer: bool,
    ) -> Result<Node, CstaError> {
        let (held, who) = station(request, "heldCall")?;
        let (active, _) = station(request, "activeCall")?;
        let calls = Some((held, active));
        let (id, name, field, details) = if transfer {
            let id = switch.transfer(now, &who, calls)?;
            (id, "TransferCallResponse", "transferredCall", "TransferCallResponsePrivateData")
        } else {
            let id = switch.conference(now, &who, calls)?;
            (id, "ConferenceCallResponse", "conferenceCall", "ConferenceCallResponsePrivateData")
        };
        self.merged_answer(switch, id, &who, (name, field, details))
    }

    fn single_step_transfer(
        &mut self,
        now: Time,
        switch: &mut Switch,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let (call, who) = station(request, "activeCall")?;
        let to = Extension::from(extension_part(request.text_at(&["transferredTo"])));
        let id = switch.single_step_transfer(now, &who, Some(call), &to)?;
        let names = (
            "SingleStepTransferCallResponse",
            "transferredCall",
            "SingleStepTransferCallResponsePrivateData",
        );
        self.merged_answer(switch, id, &who, names)
    }

    /// The answer to a merge: the connection that matters, all connections, the UCID.
    fn merged_answer(
        &self,
        switch: &Switch,
        id: CallId,
        who: &Extension,
        (name, field, details): (&'static str, &'static str, &'static str),
    ) -> Result<Node, CstaError> {
        let call = switch.call(id)?;
        let stays = Device::Extension(who.clone());
        let shown = if call.party(&stays).is_some() {
            Some(stays)
        } else {
            call.parties.iter().rev().find(|p| !p.recorder).map(|party| party.device.clone())
        };
        let connections: Vec<MergedConnection> = call
            .parties
            .iter()
            .map(|party| MergedConnection {
                device: party.device.clone(),
                number: party.number.clone(),
                old: None,
                state: party.state,
            })
            .collect();
        Ok(csta(name)
            .maybe(shown.map(|device| self.naming.connection(csta(field), id, &device)))
            .with(csta("connections").with_all(connection_items(&self.naming, id, &connections)))
            .maybe(self.linkage_answer(av(details), &call.ucid)))
    }

    fn linkage_answer(&self, details: Node, ucid: &Ucid) -> Option<Node> {
        self.naming.ucid.then(|| private(details.with(linkage(av("callLinkageData"), ucid))))
    }
}

/// The call ID of a connection; the device is not looked at.
pub(super) fn call_id(request: &Element, field: &str) -> Result<CallId, CstaError> {
    let text = request.text_at(&[field, "callID"]);
    text.parse().map(CallId).map_err(|_| CstaError::Operation("invalidCallID"))
}

/// Call and device of a connection.
fn connection(request: &Element, field: &str) -> Result<(CallId, Device), CstaError> {
    let id = request.text_at(&[field, "deviceID"]);
    if id.is_empty() {
        return Err(CstaError::Operation("invalidConnectionID"));
    }
    Ok((call_id(request, field)?, read_device(id)))
}

/// Call and station of a connection.
fn station(request: &Element, field: &str) -> Result<(CallId, Extension), CstaError> {
    match connection(request, field)? {
        (call, Device::Extension(station)) => Ok((call, station)),
        (_, Device::Trunk(_)) => Err(CstaError::Operation("invalidConnectionID")),
    }
}
