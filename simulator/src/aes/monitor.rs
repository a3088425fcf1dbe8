//! Monitors: what a session has asked to hear of, and who sees which event.

use super::call_events::Telling;
use super::filter::{Filter, private};
use super::naming::extension_part;
use super::{Aes, CstaError};
use crate::switch::{
    AgentChange, AgentEvent, AgentState, Body, CallId, Event, Extension, Serial, Switch,
};
use crate::wire::{Element, Node, av, csta};

/// What a monitor looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// What happens at one device.
    Device { extension: Extension, instance: u8 },
    /// Calls that go through a VDN or a skill, for their whole life.
    Via { extension: Extension },
    /// One call for its whole life.
    Call { serial: Serial },
    /// The session itself.
    Session,
}

/// One monitor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Monitor {
    pub target: Target,
    pub filter: Filter,
    /// Event number of the switch at its start: calls that entered before are not followed.
    since: u64,
}

impl Aes {
    pub(super) fn start_monitor(
        &mut self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let object = request.child("monitorObject").ok_or(CstaError::Operation("generic"))?;
        let kind = request.text_at(&["monitorType"]);
        let target = self.monitor_target(switch, session, object, kind)?;
        let filter = Filter::read(request);
        let cross_ref = self.next_cross_ref;
        self.next_cross_ref += 1;
        let echo = filter.echo();
        let monitor = Monitor { target, filter, since: switch.sequence() };
        if let Some(session) = self.sessions.get_mut(&session) {
            session.monitors.insert(cross_ref, monitor);
        }
        Ok(csta("MonitorStartResponse")
            .leaf(csta("monitorCrossRefID"), cross_ref)
            .with(private(echo)))
    }

    fn monitor_target(
        &self,
        switch: &Switch,
        session: u32,
        object: &Element,
        kind: &str,
    ) -> Result<Target, CstaError> {
        if let Some(call) = object.child("callObject") {
            let id = call
                .text_at(&["callID"])
                .parse()
                .map_err(|_| CstaError::Operation("invalidCallID"))?;
            let call = switch.call(CallId(id))?;
            return Ok(Target::Call { serial: call.serial });
        }
        let id = object.text_at(&["deviceObject"]).trim();
        // Some clients wrap the device ID once more.
        let id =
            if id.is_empty() { object.text_at(&["deviceObject", "deviceIdentifier"]) } else { id };
        if id.is_empty() {
            return Ok(Target::Session);
        }
        let device = self.owned(session, id)?;
        let extension = device.extension;
        if switch.is_group(&extension) {
            return Ok(Target::Via { extension });
        }
        if switch.station_kind(&extension).is_none() {
            return Err(CstaError::Operation("invalidMonitorObject"));
        }
        // Calls are followed through VDNs and skills only.
        if kind == "call" {
            return Err(CstaError::Operation("invalidMonitorObject"));
        }
        Ok(Target::Device { extension, instance: device.instance })
    }

    pub(super) fn stop_monitor(
        &mut self,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        self.sessions
            .get_mut(&session)
            .and_then(|session| session.monitors.remove(&cross_ref_of(request)?))
            .ok_or(CstaError::Operation("invalidCrossRefID"))?;
        Ok(csta("MonitorStopResponse"))
    }

    pub(super) fn change_filter(
        &mut self,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let monitor = self
            .sessions
            .get_mut(&session)
            .and_then(|session| session.monitors.get_mut(&cross_ref_of(request)?))
            .ok_or(CstaError::Operation("invalidCrossRefID"))?;
        monitor.filter = Filter::read(request);
        Ok(csta("ChangeMonitorFilterResponse").with(csta("actualFilterList")))
    }

    /// The server ends monitors of its own accord: the next so many, lowest cross-reference first.
    pub fn drop_monitors(&mut self, count: usize) {
        let doomed: Vec<(u32, u32)> = self
            .sessions
            .iter()
            .flat_map(|(session, held)| {
                held.monitors.keys().map(|cross_ref| (*session, *cross_ref))
            })
            .take(count)
            .collect();
        for (session, cross_ref) in doomed {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.monitors.remove(&cross_ref);
            }
            self.send_event(
                session,
                csta("MonitorStop").leaf(csta("monitorCrossRefID"), cross_ref),
            );
        }
    }

    /// Tells a call event to all monitors that see and want it.
    pub fn on_event(&mut self, event: &Event) {
        self.follow_merge(event);
        if !self.link_up {
            return;
        }
        let flag = flag_of(&event.body);
        let mut messages = Vec::new();
        for (number, session) in &self.sessions {
            for (cross_ref, monitor) in &session.monitors {
                // Most monitors have nothing to do with a call: that is asked first.
                let Some(state) = monitor.sees(event) else { continue };
                if monitor.filter.wants("callcontrol", flag) {
                    let telling = Telling {
                        naming: &self.naming,
                        odd_names: self.faults.odd_names,
                        cross_ref: *cross_ref,
                        event,
                        local: state,
                    };
                    messages.push((*number, telling.message()));
                }
            }
        }
        for (session, message) in messages {
            self.send_event(session, message);
        }
    }

    /// A monitor of a call goes over to the call that it was merged into.
    fn follow_merge(&mut self, event: &Event) {
        if event.audience.serials.len() < 2 {
            return;
        }
        for session in self.sessions.values_mut() {
            for monitor in session.monitors.values_mut() {
                if let Target::Call { serial } = &mut monitor.target
                    && event.audience.serials.contains(serial)
                {
                    *serial = event.call.serial;
                }
            }
        }
    }

    /// Tells an agent event.
    pub fn on_agent_event(&mut self, event: &AgentEvent) {
        if !self.link_up {
            return;
        }
        let (flag, log_event) = match event.change {
            AgentChange::LoggedOn => ("agentLoggedOn", true),
            AgentChange::LoggedOff => ("agentLoggedOff", true),
            AgentChange::State(AgentState::Ready) => ("agentReady", false),
            AgentChange::State(AgentState::AfterCall) => ("agentWorkingAfterCall", false),
            AgentChange::State(_) => ("agentNotReady", false),
        };
        let mut messages = Vec::new();
        for (number, session) in &self.sessions {
            for (cross_ref, monitor) in &session.monitors {
                let sees = match &monitor.target {
                    Target::Via { extension } => *extension == event.skill,
                    // Log-on and log-off are told by the skill, states by the station.
                    Target::Device { extension, .. } => {
                        *extension == event.station && self.agent_events && !log_event
                    }
                    Target::Call { .. } | Target::Session => false,
                };
                if sees && monitor.filter.wants("logicalDeviceFeature", flag) {
                    messages.push((*number, self.agent_event(*cross_ref, event)));
                }
            }
        }
        for (session, message) in messages {
            self.send_event(session, message);
        }
    }

    fn agent_event(&self, cross_ref: u32, event: &AgentEvent) -> Node {
        let name = match event.change {
            AgentChange::LoggedOn => "AgentLoggedOnEvent",
            AgentChange::LoggedOff => "AgentLoggedOffEvent",
            AgentChange::State(AgentState::Ready) => "AgentReadyEvent",
            AgentChange::State(AgentState::AfterCall) => "AgentWorkingAfterCallEvent",
            AgentChange::State(_) => "AgentNotReadyEvent",
        };
        let reason = match event.change {
            AgentChange::State(AgentState::NotReady(code)) => {
                Some(private(av("AgentNotReadyEventPrivateData").leaf(av("reasonCode"), code)))
            }
            _ => None,
        };
        csta(name)
            .leaf(csta("monitorCrossRefID"), cross_ref)
            .with(self.naming.extension(csta("agentDevice"), &event.station))
            .leaf(csta("agentID"), &event.agent)
            .leaf(csta("acdGroup"), self.naming.id(event.skill.as_str()))
            .maybe(reason)
    }

    /// Cross-references of a session's monitors on a skill that want to be told who is logged in.
    pub(super) fn monitors_of_skill(&self, session: u32, skill: &Extension) -> Vec<u32> {
        let monitors = self.sessions.get(&session).into_iter().flat_map(|held| &held.monitors);
        let wants = |monitor: &Monitor| {
            matches!(&monitor.target, Target::Via { extension } if extension == skill)
                && monitor.filter.wants("logicalDeviceFeaturePrivate", "agentLoginExtension")
        };
        monitors.filter(|(_, monitor)| wants(monitor)).map(|(number, _)| *number).collect()
    }

    /// Sessions and cross-references of device monitors on an extension that want a first-party
    /// event; `owner` restricts to one session and one device instance.
    pub(super) fn device_monitors(
        &self,
        extension: &Extension,
        owner: Option<(u32, u8)>,
        group: &str,
        flag: &str,
    ) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        for (number, session) in &self.sessions {
            if owner.is_some_and(|(session, _)| session != *number) {
                continue;
            }
            for (cross_ref, monitor) in &session.monitors {
                let Target::Device { extension: at, instance } = &monitor.target else { continue };
                let same = at == extension && owner.is_none_or(|(_, own)| own == *instance);
                if same && monitor.filter.wants(group, flag) {
                    found.push((*number, *cross_ref));
                }
            }
        }
        found
    }
}

impl Monitor {
    /// Whether it sees the event, and the state of its own connection.
    fn sees(&self, event: &Event) -> Option<Option<crate::switch::ConnectionState>> {
        let audience = &event.audience;
        match &self.target {
            Target::Device { extension, .. } => audience.stations.get(extension).copied(),
            Target::Via { extension } => {
                let entered = audience.via.get(extension)?;
                (*entered > self.since).then_some(None)
            }
            Target::Call { serial } => {
                let mine = audience.serials.contains(serial) || event.call.serial == *serial;
                mine.then_some(None)
            }
            Target::Session => None,
        }
    }
}

/// Reads the cross-reference of a request.
fn cross_ref_of(request: &Element) -> Option<u32> {
    extension_part(request.text_at(&["monitorCrossRefID"])).parse().ok()
}

/// The filter flag of an event.
const fn flag_of(body: &Body) -> &'static str {
    match body {
        Body::ServiceInitiated { .. } => "serviceInitiated",
        Body::Originated { .. } => "originated",
        Body::NetworkReached { .. } => "networkReached",
        Body::Delivered { .. } => "delivered",
        Body::Queued { .. } => "queued",
        Body::Established { .. } => "established",
        Body::Held { .. } => "held",
        Body::Retrieved { .. } => "retrieved",
        Body::Diverted { .. } => "diverted",
        Body::Failed { .. } => "failed",
        Body::Conferenced(_) => "conferenced",
        Body::Transferred(_) => "transferred",
        Body::ConnectionCleared { .. } => "connectionCleared",
        Body::CallCleared { .. } => "callCleared",
    }
}
