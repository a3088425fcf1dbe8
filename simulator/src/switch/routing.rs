//! Where a call goes: the dialling plan, VDNs, skills and their queues, trunks out.

use super::{
    Body, CallId, Cause, ConnectionState, Device, Extension, Number, Party, Refusal, Switch, Trunk,
};

/// Where digits lead.
pub(super) enum Target {
    Station(Extension),
    Vdn(Extension),
    Skill(Extension),
    Outside,
}

impl Switch {
    /// Gives waiting calls to agents that are free. Called after anything that may free one.
    pub(super) fn serve_queues(&mut self) {
        // Each turn takes one call out of a queue, so there are at most as many turns as calls.
        for _ in 0..self.calls.len() {
            let Some((id, agent)) = self.next_to_serve() else { return };
            if let Some(call) = self.calls.get_mut(&id) {
                call.last_redirection = call.queued_at.take();
            }
            self.ring(id, &agent, "distributed");
        }
    }

    /// The oldest waiting call for which an agent is free, and that agent's station.
    fn next_to_serve(&self) -> Option<(CallId, Extension)> {
        let mut waiting: Vec<_> =
            self.calls.values().filter(|call| call.queued_at.is_some()).collect();
        waiting.sort_by_key(|call| (call.started, call.serial));
        waiting.into_iter().find_map(|call| {
            let skill = call.queued_at.as_ref()?;
            Some((call.id, self.longest_idle(skill)?))
        })
    }

    pub(super) fn target(&self, digits: &str) -> Result<Target, Refusal> {
        let extension = Extension::from(digits);
        if self.stations.contains_key(&extension) {
            return Ok(Target::Station(extension));
        }
        if self.vdns.contains_key(&extension) {
            return Ok(Target::Vdn(extension));
        }
        if self.skills.contains(&extension) {
            return Ok(Target::Skill(extension));
        }
        // The dialling plan: six digits and more go out.
        if digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Target::Outside);
        }
        Err(Refusal::NoSuchNumber(digits.to_owned()))
    }

    pub(super) fn route(&mut self, id: CallId, target: Target) {
        match target {
            Target::Station(station) => match self.check_can_ring(&station) {
                Ok(()) => self.ring(id, &station, "newCall"),
                Err(_) => self.fail(id, Number(station.as_str().to_owned()), "busy"),
            },
            Target::Vdn(vdn) => self.through_vdn(id, &vdn),
            Target::Skill(skill) => self.queue(id, &skill),
            Target::Outside => self.go_out(id),
        }
    }

    fn through_vdn(&mut self, id: CallId, vdn: &Extension) {
        let next = self.sequence + 1;
        if let Some(call) = self.calls.get_mut(&id) {
            call.vdn = Some(vdn.clone());
            call.via.insert(vdn.clone(), next);
        }
        self.emit(
            id,
            Body::Delivered {
                device: Device::Extension(vdn.clone()),
                alerting: Number(vdn.as_str().to_owned()),
                cause: "newCall",
            },
        );
        let Some(to) = self.vdns.get(vdn).cloned() else { return };
        if self.skills.contains(&to) {
            self.queue(id, &to);
            return;
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.last_redirection = Some(vdn.clone());
        }
        match self.check_can_ring(&to) {
            Ok(()) => self.ring(id, &to, "redirected"),
            Err(_) => self.fail(id, Number(to.as_str().to_owned()), "busy"),
        }
    }

    pub(super) fn queue(&mut self, id: CallId, skill: &Extension) {
        let next = self.sequence + 1;
        if let Some(call) = self.calls.get_mut(&id) {
            call.skill = Some(skill.clone());
            call.queued_at = Some(skill.clone());
            call.via.entry(skill.clone()).or_insert(next);
        }
        let waiting =
            self.calls.values().filter(|call| call.queued_at.as_ref() == Some(skill)).count();
        self.emit(id, Body::Queued { skill: skill.clone(), waiting });
        self.serve_queues();
    }

    fn go_out(&mut self, id: CallId) {
        let called = self.calls.get(&id).map(|call| call.called.clone());
        let Some(number) = called else { return };
        let Ok(trunk) = self.take_trunk() else {
            self.fail(id, number, "trunksBusy");
            return;
        };
        let isdn = self.trunks.get(&trunk.group).is_some_and(|group| group.isdn);
        let state = if isdn { ConnectionState::Alerting } else { ConnectionState::Connected };
        let device = Device::Trunk(trunk);
        self.add_party(id, Party::person(device.clone(), number.clone(), state));
        if isdn {
            self.emit(id, Body::Delivered { device, alerting: number, cause: "newCall" });
            return;
        }
        let now = self.now;
        if let Some(call) = self.calls.get_mut(&id) {
            call.established = Some(now);
            let caller = call.parties.first().and_then(|party| party.device.extension().cloned());
            call.answered_by.extend(caller);
        }
        self.emit(id, Body::NetworkReached { trunk });
    }

    /// The caller hears a tone and stays off-hook until he hangs up; a trunk is released at once.
    fn fail(&mut self, id: CallId, failing: Number, cause: Cause) {
        let caller = self.calls.get(&id).and_then(|call| call.parties.first());
        let Some(device) = caller.map(|party| party.device.clone()) else { return };
        match device {
            Device::Extension(station) => {
                self.set_state(id, &station, ConnectionState::Failed);
                self.emit(id, Body::Failed { device: station, failing, cause });
            }
            Device::Trunk(_) => {
                let _ = self.leave(id, &device, cause);
            }
        }
    }

    pub(super) fn take_trunk(&mut self) -> Result<Trunk, Refusal> {
        let free = self.trunks.values().find_map(|group| {
            (1..=group.members)
                .map(|member| Trunk { group: group.group, member })
                .find(|trunk| !self.trunks_busy.contains(trunk))
        });
        let trunk = free.ok_or(Refusal::NoTrunk)?;
        self.trunks_busy.insert(trunk);
        Ok(trunk)
    }
}
