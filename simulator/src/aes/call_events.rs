//! Call events as messages: fields in schema order, private data where Avaya puts it.

use super::filter::private;
use super::naming::{Naming, dynamic, linkage, trunk_fields, trunk_name, user_data};
use crate::switch::{
    Body, CallFacts, CallId, Cause, ConnectionState, Device, Event, Extension, Merge,
    MergedConnection, Number, Original, OriginalCall, Trunk,
};
use crate::wire::{Node, av, csta};

/// What the messages of one event have in common, for one monitor.
pub(super) struct Telling<'a> {
    pub naming: &'a Naming,
    /// Put a name that is not ASCII into the private data.
    pub odd_names: bool,
    pub cross_ref: u32,
    pub event: &'a Event,
    /// State of the monitored device's own connection.
    pub local: Option<ConnectionState>,
}

impl Telling<'_> {
    /// The message.
    pub fn message(&self) -> Node {
        match &self.event.body {
            Body::ServiceInitiated { device, cause } => self.service_initiated(device, cause),
            Body::Originated { device, agent, cause } => {
                self.originated(device, agent.as_deref(), cause)
            }
            Body::NetworkReached { trunk } => self.network_reached(*trunk),
            Body::Delivered { device, alerting, cause } => self.delivered(device, alerting, cause),
            Body::Established { device, answering, cause, .. } => {
                self.established(device, answering, cause)
            }
            Body::Queued { skill, waiting } => self.queued(skill, *waiting),
            Body::Held { device } => {
                self.keyed("HeldEvent", "heldConnection", "holdingDevice", device)
            }
            Body::Retrieved { device } => {
                self.keyed("RetrievedEvent", "retrievedConnection", "retrievingDevice", device)
            }
            Body::Diverted { device, to, cause } => self.diverted(device, to, cause),
            Body::Failed { device, failing, cause } => self.failed(device, failing, cause),
            Body::Conferenced(merge) => self.conferenced(merge),
            Body::Transferred(merge) => self.transferred(merge),
            Body::ConnectionCleared { device, releasing, cause } => {
                self.connection_cleared(device, releasing, cause)
            }
            Body::CallCleared { cause } => self
                .start("CallClearedEvent")
                .with(csta("clearedCall").leaf(csta("callID"), self.call().id))
                .leaf(csta("cause"), cause)
                .maybe(self.linkage()),
        }
    }

    fn service_initiated(&self, device: &Extension, cause: Cause) -> Node {
        self.start("ServiceInitiatedEvent")
            .with(self.own("initiatedConnection", device))
            .with(self.naming.extension(csta("initiatingDevice"), device))
            .maybe(self.local())
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
    }

    fn originated(&self, device: &Extension, agent: Option<&str>, cause: Cause) -> Node {
        let details = av("OriginatedEventPrivateData")
            .maybe(agent.map(|agent| av("logicalAgent").text(agent)))
            .maybe(user_data(av("userData"), &self.call().user_data));
        self.start("OriginatedEvent")
            .with(self.own("originatedConnection", device))
            .with(self.naming.extension(csta("callingDevice"), device))
            .with(self.naming.subject(csta("calledDevice"), &self.call().called))
            .maybe(self.local())
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
            .with(private(details))
    }

    fn network_reached(&self, trunk: Trunk) -> Node {
        let interface = dynamic(csta("deviceIdentifier")).text(trunk_name(trunk));
        let details = av("NetworkReachedEventPrivateData")
            .leaf(av("progressLocation"), "publicLocal")
            .leaf(av("progressDescription"), "inband");
        self.start("NetworkReachedEvent")
            .with(self.connection("outboundConnection", &Device::Trunk(trunk)))
            .with(csta("networkInterfaceUsed").with(interface))
            .with_all(self.numbers(self.call().last_redirection.as_ref()))
            .maybe(self.local())
            .leaf(csta("cause"), "networkSignal")
            .maybe(self.linkage())
            .with(private(details))
    }

    fn delivered(&self, device: &Device, alerting: &Number, cause: Cause) -> Node {
        let head = self
            .start("DeliveredEvent")
            .with(self.connection("connection", device))
            .with(self.naming.subject(csta("alertingDevice"), alerting));
        self.arrival(head, cause, av("DeliveredEventPrivateData"))
    }

    fn established(&self, device: &Device, answering: &Number, cause: Cause) -> Node {
        let head = self
            .start("EstablishedEvent")
            .with(self.connection("establishedConnection", device))
            .with(self.naming.subject(csta("answeringDevice"), answering));
        self.arrival(head, cause, av("EstablishedEventPrivateData"))
    }

    fn queued(&self, skill: &Extension, waiting: usize) -> Node {
        self.start("QueuedEvent")
            .with(self.own("queuedConnection", skill))
            .with(self.naming.extension(csta("queue"), skill))
            .with_all(self.numbers(self.call().vdn.as_ref()))
            .leaf(csta("numberQueued"), waiting)
            .maybe(self.local())
            .maybe(user_data(csta("userData"), &self.call().user_data))
            .leaf(csta("cause"), "enteringDistribution")
            .maybe(self.linkage())
    }

    /// Hold and retrieve, which a key of the telephone does.
    fn keyed(
        &self,
        name: &'static str,
        connection: &'static str,
        by: &'static str,
        device: &Extension,
    ) -> Node {
        self.start(name)
            .with(self.own(connection, device))
            .with(self.naming.extension(csta(by), device))
            .maybe(self.local())
            .leaf(csta("cause"), "keyOperation")
            .maybe(self.linkage())
    }

    fn diverted(&self, device: &Extension, to: &Number, cause: Cause) -> Node {
        self.start("DivertedEvent")
            .with(self.own("connection", device))
            .with(self.naming.extension(csta("divertingDevice"), device))
            .with(self.naming.subject(csta("newDestination"), to))
            .with_all(self.numbers(self.call().last_redirection.as_ref()))
            .maybe(self.local())
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
    }

    fn failed(&self, device: &Extension, failing: &Number, cause: Cause) -> Node {
        self.start("FailedEvent")
            .with(self.own("failedConnection", device))
            .with(self.naming.subject(csta("failingDevice"), failing))
            .with_all(self.numbers(self.call().last_redirection.as_ref()))
            .maybe(self.local())
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
    }

    fn conferenced(&self, merge: &Merge) -> Node {
        let items = connection_items(self.naming, self.call().id, &merge.connections);
        let head = self
            .merge_head("ConferencedEvent", merge)
            .with(self.naming.extension(csta("conferencingDevice"), &merge.by))
            .with(self.naming.subject(csta("addedParty"), &merge.other))
            .with(csta("conferenceConnections").with_all(items));
        self.merge_tail(head, merge, av("ConferencedEventPrivateData"))
    }

    /// One r in the event's name, two in that of its private data.
    fn transferred(&self, merge: &Merge) -> Node {
        let items = connection_items(self.naming, self.call().id, &merge.connections);
        let head = self
            .merge_head("TransferedEvent", merge)
            .with(self.naming.extension(csta("transferringDevice"), &merge.by))
            .with(self.naming.subject(csta("transferredToDevice"), &merge.other))
            .with(csta("transferredConnections").with_all(items));
        self.merge_tail(head, merge, av("TransferredEventPrivateData"))
    }

    fn connection_cleared(&self, device: &Device, releasing: &Number, cause: Cause) -> Node {
        self.start("ConnectionClearedEvent")
            .with(self.connection("droppedConnection", device))
            .with(self.naming.subject(csta("releasingDevice"), releasing))
            .maybe(self.local())
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
    }

    // ---- parts ----

    fn start(&self, name: &'static str) -> Node {
        csta(name).leaf(csta("monitorCrossRefID"), self.cross_ref)
    }

    const fn call(&self) -> &CallFacts {
        &self.event.call
    }

    fn local(&self) -> Option<Node> {
        self.local.map(|state| csta("localConnectionInfo").text(state.word()))
    }

    fn linkage(&self) -> Option<Node> {
        self.naming.linkage(csta("callLinkageData"), &self.call().ucid)
    }

    fn connection(&self, name: &'static str, device: &Device) -> Node {
        self.naming.connection(csta(name), self.call().id, device)
    }

    fn own(&self, name: &'static str, extension: &Extension) -> Node {
        self.connection(name, &Device::Extension(extension.clone()))
    }

    /// Calling, called and last redirection device.
    fn numbers(&self, redirection: Option<&Extension>) -> Vec<Node> {
        vec![
            self.naming.subject(csta("callingDevice"), &self.call().calling),
            self.naming.subject(csta("calledDevice"), &self.call().called),
            self.naming.redirection(redirection),
        ]
    }

    /// What Delivered and Established have in common after their own device.
    fn arrival(&self, head: Node, cause: Cause, details: Node) -> Node {
        let call = self.call();
        let odd = self.odd_names.then(|| {
            av("lookAheadInfo")
                .leaf(av("type"), "noInterflow")
                .leaf(av("priority"), "medium")
                .leaf(av("sourceVDN"), "Zürich Müller & Söhne")
        });
        let skill = call.skill.as_ref();
        let details = details
            .with_all(trunk_fields(call.trunk))
            .maybe(skill.map(|skill| av("acdGroup").text(self.naming.id(skill.as_str()))))
            .maybe(odd)
            .maybe(self.distributing_vdn())
            .maybe(call.original.as_deref().map(|original| self.original(original)));
        head.with_all(self.numbers(call.last_redirection.as_ref()))
            .maybe(self.local())
            .maybe(user_data(csta("userData"), &call.user_data))
            .leaf(csta("cause"), cause)
            .maybe(self.linkage())
            .with(private(details))
    }

    fn distributing_vdn(&self) -> Option<Node> {
        let vdn = self.call().vdn.as_ref();
        vdn.map(|vdn| self.naming.extension(av("distributingVDN"), vdn))
    }

    fn original(&self, original: &OriginalCall) -> Node {
        let reason = match original.reason {
            Original::Consultation => "consultation",
            Original::Transfer => "transferred",
            Original::Conference => "conferenced",
        };
        av("originalCallInfo")
            .leaf(av("reason"), reason)
            .with(self.naming.subject(av("networkCallingDevice"), &original.calling))
            .with(self.naming.subject(av("networkCalledDevice"), &original.called))
            .with_all(trunk_fields(original.trunk))
            .maybe(user_data(av("userData"), &original.user_data))
            .maybe(self.naming.linkage(av("callLinkageData"), &original.ucid))
    }

    fn merge_head(&self, name: &'static str, merge: &Merge) -> Node {
        let by = Device::Extension(merge.by.clone());
        let old = |field, id| self.naming.connection(csta(field), id, &by);
        self.start(name)
            .with(old("primaryOldCall", merge.primary))
            .maybe(merge.secondary.map(|id| old("secondaryOldCall", id)))
    }

    fn merge_tail(&self, head: Node, merge: &Merge, details: Node) -> Node {
        let call = self.call();
        let linkages = self.naming.ucid.then(|| {
            csta("callLinkageDataList")
                .with(linkage(csta("newCallLinkageData"), &call.ucid))
                .maybe(merge.old_ucid.as_ref().map(|old| linkage(csta("oldCallLinkageData"), old)))
        });
        let trunks = merge.connections.iter().filter_map(|item| self.trunk_item(item));
        let trunks: Vec<Node> = trunks.collect();
        let list = (!trunks.is_empty()).then(|| av("trunkList").with_all(trunks));
        let details = details
            .maybe(self.distributing_vdn())
            .maybe(list)
            .maybe(call.original.as_deref().map(|original| self.original(original)));
        head.maybe(self.local())
            .maybe(user_data(csta("userData"), &call.user_data))
            .leaf(csta("cause"), merge.cause)
            .maybe(linkages)
            .with(private(details))
    }

    fn trunk_item(&self, item: &MergedConnection) -> Option<Node> {
        let Device::Trunk(trunk) = item.device else { return None };
        let connection = self.naming.connection(av("connection_asn"), self.call().id, &item.device);
        Some(av("trunkInterfaceInfoItem").with(connection).with_all(trunk_fields(Some(trunk))))
    }
}

/// `connectionListItem`s of a merged call.
pub(super) fn connection_items(
    naming: &Naming,
    id: CallId,
    connections: &[MergedConnection],
) -> Vec<Node> {
    connections
        .iter()
        .map(|item| {
            let endpoint = match &item.device {
                Device::Extension(_) => naming.device_id(&item.device),
                Device::Trunk(_) => csta("notKnown"),
            };
            let old =
                item.old.map(|old| naming.connection(csta("oldConnection"), old, &item.device));
            csta("connectionListItem")
                .with(naming.connection(csta("newConnection"), id, &item.device))
                .maybe(old)
                .with(csta("endpoint").with(endpoint))
        })
        .collect()
}
