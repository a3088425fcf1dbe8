//! Call events as messages: fields in schema order, private data where Avaya puts it.

use super::Aes;
use super::filter::private;
use super::naming::{dynamic, linkage, trunk_fields, trunk_name, user_data};
use crate::switch::{
    Body, CallFacts, ConnectionState, Device, Event, Extension, Merge, MergedConnection, Original,
    OriginalCall,
};
use crate::wire::{Node, av, csta};

impl Aes {
    /// The message of an event for one monitor, whose own connection is in `local` state.
    pub(super) fn call_event(
        &self,
        cross_ref: u32,
        event: &Event,
        local: Option<ConnectionState>,
    ) -> Node {
        let call = &event.call;
        let start = |name| csta(name).leaf(csta("monitorCrossRefID"), cross_ref);
        let local = local.map(|state| csta("localConnectionInfo").text(state.word()));
        match &event.body {
            Body::ServiceInitiated { device, cause } => start("ServiceInitiatedEvent")
                .with(self.own(csta("initiatedConnection"), call, device))
                .with(self.naming.extension(csta("initiatingDevice"), device))
                .with_all(local)
                .leaf(csta("cause"), cause)
                .maybe(self.call_linkage_data(call)),
            Body::Originated { device, agent, cause } => self
                .originated(start("OriginatedEvent"), call, device)
                .with_all(local)
                .leaf(csta("cause"), cause)
                .maybe(self.call_linkage_data(call))
                .with(private(originated_private(agent.as_deref(), call))),
            Body::NetworkReached { trunk } => {
                let outer = csta("outboundConnection");
                start("NetworkReachedEvent")
                    .with(self.naming.connection(outer, call.id, &Device::Trunk(*trunk)))
                    .with(
                        csta("networkInterfaceUsed")
                            .with(dynamic(csta("deviceIdentifier")).text(trunk_name(*trunk))),
                    )
                    .with(self.naming.subject(csta("callingDevice"), &call.calling))
                    .with(self.naming.subject(csta("calledDevice"), &call.called))
                    .with(self.naming.redirection(call.last_redirection.as_ref()))
                    .with_all(local)
                    .leaf(csta("cause"), "networkSignal")
                    .maybe(self.call_linkage_data(call))
                    .with(private(
                        av("NetworkReachedEventPrivateData")
                            .leaf(av("progressLocation"), "publicLocal")
                            .leaf(av("progressDescription"), "inband"),
                    ))
            }
            Body::Delivered { device, alerting, cause } => {
                let head = start("DeliveredEvent")
                    .with(self.naming.connection(csta("connection"), call.id, device))
                    .with(self.naming.subject(csta("alertingDevice"), alerting));
                let inner = av("DeliveredEventPrivateData");
                self.arrival(head, call, local, cause, inner)
            }
            Body::Established { device, answering, cause, .. } => {
                let outer = csta("establishedConnection");
                let head = start("EstablishedEvent")
                    .with(self.naming.connection(outer, call.id, device))
                    .with(self.naming.subject(csta("answeringDevice"), answering));
                let inner = av("EstablishedEventPrivateData");
                self.arrival(head, call, local, cause, inner)
            }
            Body::Queued { skill, waiting } => start("QueuedEvent")
                .with(self.own(csta("queuedConnection"), call, skill))
                .with(self.naming.extension(csta("queue"), skill))
                .with(self.naming.subject(csta("callingDevice"), &call.calling))
                .with(self.naming.subject(csta("calledDevice"), &call.called))
                .with(self.naming.redirection(call.vdn.as_ref()))
                .leaf(csta("numberQueued"), waiting)
                .with_all(local)
                .maybe(user_data(csta("userData"), &call.user_data))
                .leaf(csta("cause"), "enteringDistribution")
                .maybe(self.call_linkage_data(call)),
            Body::Held { device } => start("HeldEvent")
                .with(self.own(csta("heldConnection"), call, device))
                .with(self.naming.extension(csta("holdingDevice"), device))
                .with_all(local)
                .leaf(csta("cause"), "keyOperation")
                .maybe(self.call_linkage_data(call)),
            Body::Retrieved { device } => start("RetrievedEvent")
                .with(self.own(csta("retrievedConnection"), call, device))
                .with(self.naming.extension(csta("retrievingDevice"), device))
                .with_all(local)
                .leaf(csta("cause"), "keyOperation")
                .maybe(self.call_linkage_data(call)),
            Body::Diverted { device, to, cause } => start("DivertedEvent")
                .with(self.own(csta("connection"), call, device))
                .with(self.naming.extension(csta("divertingDevice"), device))
                .with(self.naming.subject(csta("newDestination"), to))
                .with(self.naming.subject(csta("callingDevice"), &call.calling))
                .with(self.naming.subject(csta("calledDevice"), &call.called))
                .with(self.naming.redirection(call.last_redirection.as_ref()))
                .with_all(local)
                .leaf(csta("cause"), cause)
                .maybe(self.call_linkage_data(call)),
            Body::Failed { device, failing, cause } => start("FailedEvent")
                .with(self.own(csta("failedConnection"), call, device))
                .with(self.naming.subject(csta("failingDevice"), failing))
                .with(self.naming.subject(csta("callingDevice"), &call.calling))
                .with(self.naming.subject(csta("calledDevice"), &call.called))
                .with(self.naming.redirection(call.last_redirection.as_ref()))
                .with_all(local)
                .leaf(csta("cause"), cause)
                .maybe(self.call_linkage_data(call)),
            Body::Conferenced(merge) => {
                let head = self
                    .merge_head(start("ConferencedEvent"), merge)
                    .with(self.naming.extension(csta("conferencingDevice"), &merge.by))
                    .with(self.naming.subject(csta("addedParty"), &merge.other))
                    .with(self.connections(csta("conferenceConnections"), call, merge));
                self.merge_tail(head, call, merge, local, av("ConferencedEventPrivateData"))
            }
            Body::Transferred(merge) => {
                // One r in the event, two in its private data.
                let head = self
                    .merge_head(start("TransferedEvent"), merge)
                    .with(self.naming.extension(csta("transferringDevice"), &merge.by))
                    .with(self.naming.subject(csta("transferredToDevice"), &merge.other))
                    .with(self.connections(csta("transferredConnections"), call, merge));
                self.merge_tail(head, call, merge, local, av("TransferredEventPrivateData"))
            }
            Body::ConnectionCleared { device, releasing, cause } => {
                let outer = csta("droppedConnection");
                start("ConnectionClearedEvent")
                    .with(self.naming.connection(outer, call.id, device))
                    .with(self.naming.subject(csta("releasingDevice"), releasing))
                    .with_all(local)
                    .leaf(csta("cause"), cause)
                    .maybe(self.call_linkage_data(call))
            }
            Body::CallCleared { cause } => start("CallClearedEvent")
                .with(csta("clearedCall").leaf(csta("callID"), call.id))
                .leaf(csta("cause"), cause)
                .maybe(self.call_linkage_data(call)),
        }
    }

    /// A connection of an extension in the event's call.
    fn own(&self, outer: Node, call: &CallFacts, extension: &Extension) -> Node {
        self.naming.connection(outer, call.id, &Device::Extension(extension.clone()))
    }

    fn call_linkage_data(&self, call: &CallFacts) -> Option<Node> {
        self.naming.linkage(csta("callLinkageData"), &call.ucid)
    }

    fn originated(&self, head: Node, call: &CallFacts, device: &Extension) -> Node {
        head.with(self.own(csta("originatedConnection"), call, device))
            .with(self.naming.extension(csta("callingDevice"), device))
            .with(self.naming.subject(csta("calledDevice"), &call.called))
    }

    /// What Delivered and Established have in common after their own device.
    fn arrival(
        &self,
        head: Node,
        call: &CallFacts,
        local: Option<Node>,
        cause: &str,
        inner: Node,
    ) -> Node {
        let odd = self.faults.odd_names.then(|| {
            av("lookAheadInfo")
                .leaf(av("type"), "noInterflow")
                .leaf(av("priority"), "medium")
                .leaf(av("sourceVDN"), "Zürich Müller & Söhne")
        });
        let inner = inner
            .with_all(trunk_fields(call.trunk))
            .maybe(
                call.skill
                    .as_ref()
                    .map(|skill| av("acdGroup").text(self.naming.id(skill.as_str()))),
            )
            .maybe(odd)
            .maybe(call.vdn.as_ref().map(|vdn| self.naming.extension(av("distributingVDN"), vdn)))
            .maybe(call.original.as_deref().map(|original| self.original(original)));
        head.with(self.naming.subject(csta("callingDevice"), &call.calling))
            .with(self.naming.subject(csta("calledDevice"), &call.called))
            .with(self.naming.redirection(call.last_redirection.as_ref()))
            .maybe(local)
            .maybe(user_data(csta("userData"), &call.user_data))
            .leaf(csta("cause"), cause)
            .maybe(self.call_linkage_data(call))
            .with(private(inner))
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

    fn merge_head(&self, head: Node, merge: &Merge) -> Node {
        let by = Device::Extension(merge.by.clone());
        let secondary =
            merge.secondary.map(|id| self.naming.connection(csta("secondaryOldCall"), id, &by));
        head.with(self.naming.connection(csta("primaryOldCall"), merge.primary, &by))
            .maybe(secondary)
    }

    fn merge_tail(
        &self,
        head: Node,
        call: &CallFacts,
        merge: &Merge,
        local: Option<Node>,
        inner: Node,
    ) -> Node {
        let linkages = self.naming.ucid.then(|| {
            csta("callLinkageDataList")
                .with(linkage(csta("newCallLinkageData"), &call.ucid))
                .maybe(merge.old_ucid.as_ref().map(|old| linkage(csta("oldCallLinkageData"), old)))
        });
        let trunks = merge.connections.iter().filter_map(|item| self.trunk_item(call, item));
        let trunks: Vec<Node> = trunks.collect();
        let list = (!trunks.is_empty()).then(|| av("trunkList").with_all(trunks));
        let inner = inner
            .maybe(call.vdn.as_ref().map(|vdn| self.naming.extension(av("distributingVDN"), vdn)))
            .maybe(list)
            .maybe(call.original.as_deref().map(|original| self.original(original)));
        head.maybe(local)
            .maybe(user_data(csta("userData"), &call.user_data))
            .leaf(csta("cause"), merge.cause)
            .maybe(linkages)
            .with(private(inner))
    }

    fn trunk_item(&self, call: &CallFacts, item: &MergedConnection) -> Option<Node> {
        let Device::Trunk(trunk) = item.device else { return None };
        Some(
            av("trunkInterfaceInfoItem")
                .with(self.naming.connection(av("connection_asn"), call.id, &item.device))
                .with_all(trunk_fields(Some(trunk))),
        )
    }

    fn connections(&self, outer: Node, call: &CallFacts, merge: &Merge) -> Node {
        outer.with_all(self.connection_items(call.id, &merge.connections))
    }

    /// `connectionListItem`s of a merged call.
    pub(super) fn connection_items(
        &self,
        id: crate::switch::CallId,
        connections: &[MergedConnection],
    ) -> Vec<Node> {
        connections
            .iter()
            .map(|item| {
                let endpoint = match &item.device {
                    Device::Extension(_) => self.naming.device_id(&item.device),
                    Device::Trunk(_) => csta("notKnown"),
                };
                let old = item
                    .old
                    .map(|old| self.naming.connection(csta("oldConnection"), old, &item.device));
                csta("connectionListItem")
                    .with(self.naming.connection(csta("newConnection"), id, &item.device))
                    .maybe(old)
                    .with(csta("endpoint").with(endpoint))
            })
            .collect()
    }
}

fn originated_private(agent: Option<&str>, call: &CallFacts) -> Node {
    av("OriginatedEventPrivateData")
        .maybe(agent.map(|agent| av("logicalAgent").text(agent)))
        .maybe(user_data(av("userData"), &call.user_data))
}
