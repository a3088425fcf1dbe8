//! How a member comes into its group: from its disk, as one of the first, or as a newcomer; and how
//! it says what it is. Part of the driver's thread.

use std::sync::PoisonError;
use std::time::Duration;

use cluster_core::node::Write;
use cluster_core::{Command, Node, Outcome, Refusal, Stored};
use storage_core::{MonoTime, NodeId};

use crate::alarm::{GroupAlarm, GroupFailure};
use crate::driver::{AlarmKey, Driver, ProposeResult};
use crate::hello::Stage;
use crate::links::members;
use crate::marker::ClusterId;

impl Driver {
    /// Begins with what is stored, or with what a group begins with.
    pub(crate) fn begin(&mut self, stored: Stored) -> Result<(), GroupFailure> {
        let node = Node::new(self.start.config, stored)?;
        *self.published.state.write().unwrap_or_else(PoisonError::into_inner) =
            node.state().clone();
        self.node = Some(node);
        self.join_gate()?;
        for (command, deadline, reply) in std::mem::take(&mut self.early) {
            self.propose(command, deadline, reply);
        }
        self.publish();
        Ok(())
    }

    fn join_gate(&self) -> Result<(), GroupFailure> {
        let members = self.members().keys().copied().collect();
        Ok(self.start.shared.gate.join(self.start.cluster, members)?)
    }

    /// A member without a log asks before it makes one: the group may exist, and may know this
    /// number with another disk.
    pub(crate) fn consider_beginning(&mut self) -> Result<(), GroupFailure> {
        let own = self.start.config.id;
        let established = self.met.values().find_map(|(cluster, stage)| {
            members(stage).map(|members| (*cluster, members.contains(&own)))
        });
        match established {
            Some((cluster, true)) => {
                self.alarms.remove(&AlarmKey::NotMember);
                tracing::info!(%cluster, "joining the group");
                self.start.cluster = cluster;
                self.first_write(Stored::joining())
            }
            Some((_, false)) => {
                self.alarms.insert(AlarmKey::NotMember, GroupAlarm::NotMember { node: own });
                // What was said may be old by now: hear it again.
                self.met.clear();
                Ok(())
            }
            None => {
                let peers = &self.start.peers;
                let fresh = 1 + self.met.keys().filter(|node| peers.contains_key(node)).count();
                if fresh * 2 <= peers.len() {
                    return Ok(());
                }
                tracing::info!(cluster = %self.start.cluster, "beginning a new group");
                let first = Stored::first(peers);
                self.first_write(first)
            }
        }
    }

    /// The log first, then the mark that there is one; nothing was said before both.
    fn first_write(&mut self, stored: Stored) -> Result<(), GroupFailure> {
        let write = Write { base: Some(stored.clone()), ..Default::default() };
        self.start.store.write(write)?;
        self.begin(stored)
    }

    pub(crate) fn meet(
        &mut self,
        node: NodeId,
        cluster: ClusterId,
        stage: Stage,
        address: Option<String>,
    ) -> Result<(), GroupFailure> {
        self.alarms.remove(&AlarmKey::Peer(node));
        if let Some(address) = address
            && !self.addresses().contains_key(&node)
            && self.guests.len() < 64
        {
            self.guests.insert(node, address);
            self.relink();
        }
        if self.node.is_none() {
            self.met.insert(node, (cluster, stage));
            self.consider_beginning()?;
        }
        Ok(())
    }

    /// Says what this member is, until the group has taken notice of this start.
    pub(crate) fn announce(&mut self, now: MonoTime) {
        let Some(node) = &mut self.node else { return };
        if self.announced.is_none() && !node.voters().is_empty() {
            let command = Command::Announce(self.start.announce.clone());
            let deadline = now + Duration::from_secs(3600);
            self.announced = node.propose(now, command, deadline).ok();
        }
    }

    /// What the group makes of it. With another's phantoms this member would take them away from
    /// that one, registration by registration: where the other lives, this one must not go on.
    pub(crate) fn announcement(&mut self, result: &ProposeResult) -> Result<(), GroupFailure> {
        match result {
            Ok(Outcome::Refused(refusal)) => {
                let reason = refusal.clone();
                let lives = match refusal {
                    Refusal::PhantomsOverlap { with, .. } => self.answers(*with),
                    _ => false,
                };
                if lives {
                    return Err(GroupFailure::Misconfigured { reason });
                }
                let alarm = GroupAlarm::AnnounceRefused { reason };
                tracing::error!(%alarm, "the group refuses this member's configuration");
                self.alarms.insert(AlarmKey::Announce, alarm);
            }
            Ok(_) => {
                self.alarms.remove(&AlarmKey::Announce);
            }
            Err(_) => self.announced = None,
        }
        Ok(())
    }

    fn answers(&self, peer: NodeId) -> bool {
        let view = self.node.as_ref().map(|node| node.view(self.now()));
        view.is_some_and(|view| view.member(peer).is_some_and(|member| member.reachable))
    }
}
