//! One call as the tracker knows it: its names, its numbers, who is in it and who sees it. It
//! answers questions about the call; what changes it is the tracker's matter.

use std::collections::{BTreeSet, VecDeque};

use storage_core::record::Direction;
use storage_core::{CallId, Extension, MonoTime, Now, RecordingId, Ucid, WallTime};

use super::event::{CallFacts, Device, Monitor, OriginalCall, PartyState};
use super::party::{Identity, Parties, Party, PartyKind, Trunk};
use super::roster::Roster;
use super::tracker::Start;

/// Former identities and call IDs kept per call.
const NAMES_MAX: usize = 64;
/// Departures remembered per call, to recognise late reports.
const GONE_MAX: usize = 16;

/// Our name of a call, from its first ring to the last party's release. The switch's call IDs come
/// back within seconds (dossier 6.2, 8.4), so they name no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(pub u64);

/// A party that has left, remembered so that another monitor's late report does not bring it back.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    pub name: Identity,
    pub at: MonoTime,
    pub told_by: Monitor,
}

/// A merge that was applied, so that the other monitors' reports of it change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MergeSign {
    pub old: BTreeSet<CallId>,
    pub new: CallId,
    pub by: Device,
}

/// A call.
#[derive(Clone, Debug)]
pub struct TrackedCall {
    /// Our name of it.
    pub key: CallKey,
    /// The switch's numbers of it, in order; the last one is valid.
    pub ids: Vec<CallId>,
    /// Its identity, if the switch has told one.
    pub ucid: Option<Ucid>,
    /// Identities that parts of it had before a merge.
    pub former: Vec<Ucid>,
    /// When it was first seen.
    pub seen: Now,
    /// When it was last told of, by an event or a snapshot.
    pub(super) told: WallTime,
    /// When somebody answered; for a call that was found by a snapshot, when it was found.
    pub established: Option<Now>,
    /// Whether it was found by a snapshot when somebody had answered already.
    pub(super) found: bool,
    /// Who called.
    pub calling: Option<Device>,
    /// Who was called.
    pub called: Option<Device>,
    /// Trunk group and member.
    pub trunkgroup: Option<String>,
    /// See `trunkgroup`.
    pub trunkmember: Option<String>,
    /// VDN that distributed it last.
    pub vdn: Option<Extension>,
    /// Split or skill.
    pub split: Option<Extension>,
    /// User-to-user information as text.
    pub userdata: Option<String>,
    /// The call before a consultation, as the switch tells it.
    pub original: Option<OriginalCall>,
    /// Who is and was in it.
    pub parties: Parties,
    /// Whether it waits at a VDN or skill.
    pub waiting: bool,
    pub(super) direction: Option<Direction>,
    /// Whether somebody was seen dialling, so that the call came from inside.
    pub(super) originated: bool,
    /// Whether the caller has been put in; later events go on naming one who may have left.
    pub(super) caller_known: bool,
    /// Inside numbers in the call, as the tracker's index has them.
    pub(super) stations_named: BTreeSet<Extension>,
    pub(super) viewers: BTreeSet<Monitor>,
    pub(super) gone: VecDeque<Gone>,
    pub(super) merged: Option<(MergeSign, MonoTime)>,
    /// Whether something was heard of it since the link was last in doubt.
    pub(super) confirmed: bool,
    /// When nobody could see it any more.
    pub(super) unseen: Option<MonoTime>,
    /// When it reached a network that may tell nothing more.
    pub(super) network: Option<MonoTime>,
    /// The group's name of the recording that is made of it, which tells when it was opened: it
    /// decides which of two merging calls goes on.
    pub(super) recorded: Option<RecordingId>,
}

impl TrackedCall {
    pub(super) fn new(now: Now, key: CallKey, id: CallId) -> Self {
        Self {
            key,
            ids: vec![id],
            ucid: None,
            former: Vec::new(),
            seen: now,
            told: now.wall,
            established: None,
            found: false,
            calling: None,
            called: None,
            trunkgroup: None,
            trunkmember: None,
            vdn: None,
            split: None,
            userdata: None,
            original: None,
            parties: Parties::default(),
            waiting: false,
            direction: None,
            originated: false,
            caller_known: false,
            stations_named: BTreeSet::new(),
            viewers: BTreeSet::new(),
            gone: VecDeque::new(),
            merged: None,
            confirmed: true,
            unseen: None,
            network: None,
            recorded: None,
        }
    }

    /// The switch's number of it now.
    #[must_use]
    pub fn id(&self) -> &CallId {
        self.ids.last().expect("a call is made with an ID and never loses its last one")
    }

    /// Whether this call has or had that identity.
    #[must_use]
    pub fn is(&self, ucid: &Ucid) -> bool {
        self.ucid.as_ref() == Some(ucid) || self.former.contains(ucid)
    }

    /// Parties that are people, ringing ones included.
    pub fn real(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().filter(|party| party.is_real())
    }

    /// When somebody answered, if that was seen.
    #[must_use]
    pub fn began(&self) -> Option<Now> {
        self.established.filter(|_| !self.found)
    }

    /// People who talk or have the call on hold.
    pub fn talking(&self) -> impl Iterator<Item = &Party> {
        self.real().filter(|party| party.is_in_call())
    }

    /// Monitored stations that talk or have the call on hold.
    pub fn stations(&self) -> impl Iterator<Item = &Party> {
        self.talking().filter(|party| party.kind == PartyKind::Station)
    }

    /// Whether an outside party is in the call.
    #[must_use]
    pub fn has_outside(&self) -> bool {
        self.real().any(|party| party.kind == PartyKind::Outside)
    }

    /// Whether a recorder of another node is in it, and nobody else ever was as far as is known here.
    #[must_use]
    pub fn is_known_by_recorders_only(&self) -> bool {
        let recorder = self.parties.iter().any(|party| party.kind == PartyKind::PeerPhantom);
        recorder && self.real().next().is_none() && self.parties.presences().is_empty()
    }

    /// How many places of the switch's party limit are taken, recorders included.
    #[must_use]
    pub fn places(&self) -> usize {
        self.parties.iter().filter(|party| party.is_real() || party.is_recorder()).count()
    }

    /// Our phantoms in the call.
    pub fn phantoms(&self) -> impl Iterator<Item = &Extension> {
        self.parties
            .iter()
            .filter(|party| party.kind == PartyKind::Phantom)
            .filter_map(|party| party.name.number.as_ref())
    }

    /// The party with that number, if it is in the call.
    #[must_use]
    pub fn party(&self, number: &Extension) -> Option<&Party> {
        self.parties.iter().find(|party| party.is(number))
    }

    /// Whether the call is certainly up: no link trouble since it was last heard of.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Which way it goes: settled when it is answered, because a later conference with an outside
    /// number does not turn a call round.
    #[must_use]
    pub fn direction(&self, roster: &Roster) -> Direction {
        self.direction.unwrap_or_else(|| self.guess_direction(roster))
    }

    /// Who called, as text; empty if not told.
    #[must_use]
    pub fn calling_text(&self) -> String {
        device_text(self.calling.as_ref())
    }

    /// Who was called, as text; empty if not told.
    #[must_use]
    pub fn called_text(&self) -> String {
        device_text(self.called.as_ref())
    }

    /// From whom a call comes: a listed station, somebody seen dialling, or an extension without a
    /// trunk called from inside. From inside it goes outside if anybody there is or a trunk is.
    fn guess_direction(&self, roster: &Roster) -> Direction {
        let calling = match &self.calling {
            Some(device @ Device::Number(number)) => {
                roster.is_listed_inside(number)
                    || (self.trunkgroup.is_none() && roster.kind(device) != PartyKind::Outside)
            }
            _ => false,
        };
        if !calling && !self.originated {
            Direction::Inbound
        } else if self.trunkgroup.is_some() || self.network.is_some() || self.has_outside() {
            Direction::Outbound
        } else {
            Direction::Internal
        }
    }

    /// Whether an event with this call's number speaks of another call. Identities tell; without
    /// them, a call that nobody sees any more and that begins anew from another number.
    pub(super) fn is_other(&self, facts: &CallFacts, start: Start) -> bool {
        match (&self.ucid, &facts.ucid) {
            (Some(_), Some(ucid)) => !self.is(ucid),
            _ if self.unseen.is_some() && start == Start::Begin => match &facts.calling {
                Some(calling @ Device::Number(_)) => self.calling.as_ref() != Some(calling),
                _ => false,
            },
            _ => false,
        }
    }

    /// Takes over what an event says of the call; what is absent has not changed.
    pub(super) fn learn(&mut self, facts: &CallFacts) {
        if facts.ucid.is_some() {
            self.adopt_ucid(facts.ucid.clone());
        }
        learn_device(&mut self.calling, facts.calling.as_ref());
        learn_device(&mut self.called, facts.called.as_ref());
        for (mine, told) in
            [(&mut self.trunkgroup, &facts.trunkgroup), (&mut self.trunkmember, &facts.trunkmember)]
        {
            if mine.is_none() {
                mine.clone_from(told);
            }
        }
        for (mine, told) in [(&mut self.vdn, &facts.vdn), (&mut self.split, &facts.split)] {
            if told.is_some() {
                mine.clone_from(told);
            }
        }
        if let Some(bytes) = facts.userdata.as_deref().filter(|bytes| !bytes.is_empty()) {
            self.userdata = Some(text_of(bytes));
        }
        if facts.original.is_some() {
            self.original.clone_from(&facts.original);
        }
    }

    /// Gives the call its identity; the one it had stays findable.
    pub(super) fn adopt_ucid(&mut self, ucid: Option<Ucid>) {
        let Some(ucid) = ucid else { return };
        if self.ucid.as_ref() == Some(&ucid) {
            return;
        }
        let before = self.ucid.replace(ucid);
        self.add_former(before);
    }

    /// Keeps an identity findable.
    pub(super) fn add_former(&mut self, ucid: Option<Ucid>) {
        if let Some(ucid) = ucid
            && !self.former.contains(&ucid)
            && self.former.len() < NAMES_MAX
        {
            self.former.push(ucid);
        }
        self.former.retain(|former| Some(former) != self.ucid.as_ref());
    }

    /// Notes the number that the call has now.
    pub(super) fn rename(&mut self, id: &CallId) {
        if self.id() == id {
            return;
        }
        self.ids.retain(|old| old != id);
        self.ids.push(id.clone());
        if self.ids.len() > NAMES_MAX {
            self.ids.remove(0);
        }
    }

    /// The trunk that brought or takes the call.
    pub(super) fn trunk(&self) -> Option<Trunk> {
        Some((self.trunkgroup.clone()?, self.trunkmember.clone()?))
    }

    /// Where no event names a trunk as such, the outside party's connection does.
    pub(super) fn learn_trunk(&mut self) {
        if self.trunkgroup.is_some() || self.direction == Some(Direction::Internal) {
            return;
        }
        let trunk = self.real().find_map(|party| party.name.trunk.clone());
        (self.trunkgroup, self.trunkmember) = trunk.unzip();
    }

    /// Marks the call as answered.
    pub(super) fn establish(&mut self, now: Now, roster: &Roster) {
        self.waiting = false;
        if self.established.is_none() {
            self.direction = Some(self.guess_direction(roster));
            self.established = Some(now);
        }
    }

    /// Removes parties that rang in vain when somebody else answered: one answer ends the ringing
    /// of all the others, and the switch says so only to their own monitors.
    pub(super) fn silence_others(&mut self, now: Now, answering: &Identity) {
        self.parties.leave_all(now.wall, |party| {
            party.kind == PartyKind::Inside
                && party.state == PartyState::Alerting
                && party.name != *answering
        });
    }

    /// After the switch has listed the parties: a device that is not in the call sees nothing of it,
    /// whether or not its leaving was told.
    pub(super) fn forget_absent_viewers(&mut self) {
        let Self { viewers, parties, .. } = self;
        viewers.retain(|monitor| match monitor {
            Monitor::Station(number) | Monitor::Phantom(number) => {
                parties.iter().any(|party| party.is(number))
            }
            Monitor::Via(_) => true,
        });
    }

    pub(super) fn remember_gone(&mut self, now: Now, name: Identity, told_by: &Monitor) {
        self.gone.push_back(Gone { name, at: now.mono, told_by: told_by.clone() });
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// Whether that name is one under which a party has already left.
    pub(super) fn has_left(&self, name: &Identity) -> bool {
        self.gone.iter().any(|gone| gone.name.shares(name))
    }
}

fn device_text(device: Option<&Device>) -> String {
    device.map_or_else(String::new, |device| match device {
        Device::Number(number) => number.to_string(),
        Device::Trunk { group, member } => format!("T{group}#{member}"),
        Device::Unknown => String::new(),
    })
}

/// The first number told counts: after a transfer the switch names the transferring station as
/// caller, which is not who called.
fn learn_device(mine: &mut Option<Device>, told: Option<&Device>) {
    if matches!(mine, None | Some(Device::Unknown | Device::Trunk { .. }))
        && let Some(told) = told
        && !(mine.is_some() && *told == Device::Unknown)
    {
        *mine = Some(told.clone());
    }
}

/// Applications put text of either kind there (register no. 24); every byte is a Latin-1 letter.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.stations.insert("31002".into());
        roster.vdns.insert("50100".into());
        roster
    }

    #[test]
    fn direction_follows_caller_and_trunk() {
        let cases = [
            (Some("5551230001"), true, false, Direction::Inbound),
            (Some("5551230001"), false, false, Direction::Inbound),
            (None, false, false, Direction::Inbound),
            (Some("31002"), false, false, Direction::Internal),
            (Some("31002"), true, false, Direction::Outbound),
            (Some("32000"), false, false, Direction::Internal),
            (Some("32000"), true, false, Direction::Inbound),
            (Some("32000"), true, true, Direction::Outbound),
        ];
        for (calling, trunk, originated, direction) in cases {
            let mut call = TrackedCall::new(Now::default(), CallKey(1), CallId::new("1207"));
            call.calling = calling.map(Device::parse);
            call.trunkgroup = trunk.then(|| "12".to_owned());
            call.originated = originated;
            assert_eq!(call.direction(&roster()), direction, "{calling:?} {trunk} {originated}");
        }
    }

    #[test]
    fn user_data_is_text_whatever_its_bytes() {
        assert_eq!(text_of("Grüße".as_bytes()), "Grüße");
        assert_eq!(text_of(b"Gr\xfc\xdfe"), "Grüße");
    }

    #[test]
    fn the_present_identity_is_not_a_former_one() {
        let mut call = TrackedCall::new(Now::default(), CallKey(1), CallId::new("1207"));
        let (a, b) = ("00001012071700000000", "00001012081700000042");
        call.adopt_ucid(a.parse().ok());
        call.adopt_ucid(b.parse().ok());
        assert_eq!(call.former, [a.parse().unwrap()]);
        call.adopt_ucid(a.parse().ok());
        assert_eq!(call.former, [b.parse().unwrap()]);
    }
}
