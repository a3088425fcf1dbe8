//! Questions about the state of things: devices, calls, linkage, agents, the link.

use super::call_requests::call_id;
use super::filter::private;
use super::naming::linkage;
use super::{Aes, CstaError};
use crate::switch::{AgentState, Call, ConnectionState, Device, Extension, Switch};
use crate::wire::{Element, Node, av, csta};

/// Longer lists of agents come in parts.
const LOGINS_IN_ONE_EVENT: usize = 8;

impl Aes {
    pub(super) fn snapshot_device(
        &self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["snapshotObject"]))?;
        self.check_link()?;
        let items: Vec<Node> = if switch.is_group(&device.extension) {
            // A skill has the calls that wait there; a VDN keeps none.
            let waits = |call: &&Call| call.queued_at.as_ref() == Some(&device.extension);
            let calls = switch.calls().values().filter(waits);
            calls.map(|call| self.device_item(call, &device.extension)).collect()
        } else if switch.station_kind(&device.extension).is_some() {
            let calls = switch.calls_at(&device.extension).iter();
            calls
                .filter_map(|id| switch.call(*id).ok())
                .map(|call| self.device_item(call, &device.extension))
                .collect()
        } else {
            return Err(CstaError::Operation("invalidDeviceID"));
        };
        let status = if items.is_empty() { "idle" } else { "busy" };
        let station = request.find("getStationStatus").map(|_| {
            private(av("SnapshotDeviceResponsePrivateData").leaf(av("stationStatus"), status))
        });
        Ok(csta("SnapshotDeviceResponse")
            .with(csta("crossRefIDorSnapshotData").with(csta("snapshotData").with_all(items)))
            .maybe(station))
    }

    fn device_item(&self, call: &Call, extension: &Extension) -> Node {
        let device = Device::Extension(extension.clone());
        // Own state first, then those of the others.
        let own = call.at(extension).map_or(ConnectionState::Queued, |party| party.state);
        let others = call.parties.iter().filter(|party| !party.device.is(extension));
        let states = std::iter::once(own).chain(others.map(|party| party.state));
        let states = states.map(|state| csta("localConnectionState").text(state.word()));
        csta("snapshotDeviceResponseInfo")
            .with(self.naming.connection(csta("connectionIdentifier"), call.id, &device))
            .with(csta("localCallState").with(csta("compoundCallState").with_all(states)))
    }

    pub(super) fn snapshot_call(
        &self,
        switch: &Switch,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let id = call_id(request, "snapshotObject")?;
        self.check_link()?;
        let call = switch.call(id)?;
        let parties = call.parties.iter().map(|party| {
            let on_call = csta("deviceOnCall");
            let on_call = match &party.device {
                Device::Extension(extension) => self.naming.extension(on_call, extension),
                Device::Trunk(_) => on_call.with(csta("notKnown")),
            };
            csta("snapshotCallResponseInfo")
                .with(on_call)
                .with(self.naming.connection(csta("callIdentifier"), id, &party.device))
                .leaf(csta("localConnectionInfo"), party.state.word())
        });
        let inner = csta("snapshotData").with_all(parties);
        Ok(csta("SnapshotCallResponse")
            .with(csta("crossRefIDorSnapshotData").with(inner))
            .with(self.naming.subject(csta("callingDevice"), &call.calling))
            .with(self.naming.subject(csta("calledDevice"), &call.called))
            .maybe(self.naming.linkage(csta("callLinkageData"), &call.ucid)))
    }

    pub(super) fn call_linkage(
        &self,
        switch: &Switch,
        request: &Element,
    ) -> Result<Node, CstaError> {
        self.check_link()?;
        let call = switch.call(call_id(request, "call")?)?;
        if !self.naming.ucid {
            return Err(CstaError::Operation("generic"));
        }
        Ok(av("GetCallLinkageDataResponse").with(linkage(av("callLinkageData"), &call.ucid)))
    }

    pub(super) fn agent_state(
        &self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        self.check_link()?;
        let Some((id, agent)) = switch.agent_at(&device.extension) else {
            let entry = csta("agentStateEntry").leaf(csta("loggedOnState"), false);
            return Ok(csta("GetAgentStateResponse").with(csta("agentStateList").with(entry)));
        };
        let talks = !switch.calls_at(&device.extension).is_empty();
        let state = match agent.state {
            AgentState::Ready if talks => "agentBusy",
            AgentState::Ready => "agentReady",
            AgentState::NotReady(_) => "agentNotReady",
            AgentState::AfterCall => "agentWorkingAfterCall",
            AgentState::LoggedOff => "agentNull",
        };
        let mode = match agent.state {
            AgentState::Ready => "autoIn",
            AgentState::AfterCall => "afterCallWork",
            AgentState::NotReady(_) | AgentState::LoggedOff => "auxWork",
        };
        let items = agent.skills.iter().map(|skill| {
            csta("agentInfoItem")
                .leaf(csta("acdGroup"), self.naming.id(skill.as_str()))
                .leaf(csta("agentState"), state)
        });
        let entry = csta("agentStateEntry")
            .leaf(csta("agentID"), id)
            .leaf(csta("loggedOnState"), true)
            .with(csta("agentInfo").with_all(items));
        let details = av("GetAgentStateResponsePrivateData")
            .leaf(av("workMode"), mode)
            .leaf(av("talkState"), if talks { "onCall" } else { "idle" });
        Ok(csta("GetAgentStateResponse")
            .with(csta("agentStateList").with(entry))
            .with(private(details)))
    }

    /// The answer is empty: the skill's monitors of this session that asked for it are told who is logged in, in
    /// parts as long lists are.
    pub(super) fn agent_logins(
        &mut self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let skill = self.owned(session, request.text_at(&["device"]))?.extension;
        self.check_link()?;
        if !switch.is_skill(&skill) {
            return Err(CstaError::Operation("invalidDeviceID"));
        }
        let stations = switch.logged_on(&skill);
        let mut parts: Vec<_> = stations.chunks(LOGINS_IN_ONE_EVENT).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let mut events = Vec::new();
        for monitor in self.monitors_of_skill(session, &skill) {
            for (number, part) in parts.iter().enumerate() {
                let name = |station: &&Extension| self.naming.id(station.as_str());
                let entries = part.iter().map(|station| av("agentExtension").text(name(station)));
                events.push(
                    av("AgentLoginExtensionEvent")
                        .leaf(csta("monitorCrossRefID"), monitor)
                        .with(av("agentLoginExtensionList").with_all(entries))
                        .leaf(av("isFinalResponse"), number + 1 == parts.len()),
                );
            }
        }
        for event in events {
            self.send_event(session, event);
        }
        Ok(av("GetAgentLoginResponse"))
    }

    pub(super) fn system_register(&mut self, session: u32) -> Node {
        let id = self.next_cross_ref;
        self.next_cross_ref += 1;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.status_registrations.insert(id);
        }
        csta("SystemRegisterResponse").leaf(csta("sysStatRegisterID"), id)
    }

    pub(super) fn system_status_now(&self) -> Node {
        csta("RequestSystemStatusResponse")
            .leaf(csta("systemStatus"), if self.link_up { "normal" } else { "disabled" })
            .with(self.link_status())
    }

    /// The link to the switch goes down or comes up. While it is down there are no call events and
    /// no call control; media goes on.
    pub fn set_link(&mut self, up: bool) {
        if self.link_up == up {
            return;
        }
        self.link_up = up;
        let registered: Vec<(u32, u32)> = self
            .sessions
            .iter()
            .flat_map(|(number, session)| {
                session.status_registrations.iter().map(|id| (*number, *id))
            })
            .collect();
        for (session, id) in registered {
            let event = csta("SystemStatus")
                .leaf(csta("sysStatRegisterID"), id)
                .leaf(csta("systemStatus"), if up { "normal" } else { "disabled" })
                .with(self.link_status());
            self.send_event(session, event);
        }
    }

    fn link_status(&self) -> Node {
        let status = if self.link_up { "tlinkUp" } else { "tlinkDown" };
        private(
            av("SystemStatusPrivateData").with(
                av("switchTlinkStatus")
                    .leaf(av("switchName"), &self.naming.switch_name)
                    .leaf(av("tlinkStatus"), status),
            ),
        )
    }

    fn check_link(&self) -> Result<(), CstaError> {
        if self.link_up { Ok(()) } else { Err(CstaError::Resource("generic")) }
    }
}
