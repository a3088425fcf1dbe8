//! Who is who: the numbers that the configuration names, and what a device in an event is because
//! of them. It knows lists, not calls; of one of them the agents who log in make the entries.

use std::collections::BTreeSet;

use storage_core::Extension;

use super::event::Device;
use super::party::PartyKind;

/// The configured numbers.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Our phantoms (`al_phantoms`).
    pub phantoms: BTreeSet<Extension>,
    /// The other nodes' phantoms (`al_peerphantoms`).
    pub peer_phantoms: BTreeSet<Extension>,
    /// Stations whose calls are recorded (`al_stations`). Empty: every station that a monitored
    /// VDN or skill leads a call to, if no agents are named.
    pub stations: BTreeSet<Extension>,
    /// Agents whose calls are recorded, by login ID (`al_agents`), at whichever station. Where some are named and
    /// no station is, nobody else's are.
    pub agents: BTreeSet<Extension>,
    /// Where they are logged in now.
    pub followed: BTreeSet<Extension>,
    /// VDNs that are monitored (`al_vdns`).
    pub vdns: BTreeSet<Extension>,
    /// Skills that are monitored (`al_skills`).
    pub skills: BTreeSet<Extension>,
}

impl Roster {
    /// What a device is. Phantoms come first: a recorder is never recorded, whatever else a list
    /// says of it. A number that no list names is taken for a station of the switch if it is as
    /// long as one of the listed numbers, since extensions of one dial plan are, and for an
    /// outside number otherwise.
    #[must_use]
    pub fn kind(&self, device: &Device) -> PartyKind {
        let Device::Number(number) = device else { return PartyKind::Outside };
        if self.phantoms.contains(number) {
            PartyKind::Phantom
        } else if self.peer_phantoms.contains(number) {
            PartyKind::PeerPhantom
        } else if self.vdns.contains(number) || self.skills.contains(number) {
            PartyKind::Queue
        } else if self.stations.contains(number) || self.followed.contains(number) {
            PartyKind::Station
        } else if !self.is_extension_like(number) {
            PartyKind::Outside
        } else if self.stations.is_empty() && self.agents.is_empty() {
            PartyKind::Station
        } else {
            PartyKind::Inside
        }
    }

    /// Whether a list names this number as a station or recorder, so that it is surely inside.
    #[must_use]
    pub fn is_listed_inside(&self, number: &Extension) -> bool {
        self.stations.contains(number)
            || self.followed.contains(number)
            || self.phantoms.contains(number)
            || self.peer_phantoms.contains(number)
    }

    /// Notes who is logged in at a station. `true` if its calls are recorded from now on, because of him.
    pub fn note_agent(&mut self, station: &Extension, agentid: Option<&str>) -> bool {
        let follows = agentid.is_some_and(|id| self.agents.contains(&Extension::new(id)));
        if !follows {
            self.followed.remove(station);
        }
        follows && self.followed.insert(station.clone())
    }

    fn is_extension_like(&self, number: &Extension) -> bool {
        let text = number.as_str();
        text.bytes().all(|b| b.is_ascii_digit())
            && [&self.stations, &self.followed, &self.vdns, &self.skills, &self.phantoms]
                .into_iter()
                .any(|list| list.iter().any(|listed| listed.as_str().len() == text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_what_the_lists_and_its_length_say() {
        let set = |numbers: &[&str]| numbers.iter().map(|&n| Extension::new(n)).collect();
        let mut roster = Roster {
            phantoms: set(&["78001"]),
            peer_phantoms: set(&["79001"]),
            stations: set(&["31002", "78001"]),
            vdns: set(&["50100"]),
            skills: set(&["60001"]),
            ..Roster::default()
        };
        let cases = [
            ("78001", PartyKind::Phantom),
            ("79001", PartyKind::PeerPhantom),
            ("31002", PartyKind::Station),
            ("50100", PartyKind::Queue),
            ("60001", PartyKind::Queue),
            ("32000", PartyKind::Inside),
            ("5551230001", PartyKind::Outside),
            ("+3100", PartyKind::Outside),
            ("T12#3", PartyKind::Outside),
            ("", PartyKind::Outside),
        ];
        for (device, kind) in cases {
            assert_eq!(roster.kind(&Device::parse(device)), kind, "{device}");
        }
        roster.stations.clear();
        assert_eq!(roster.kind(&Device::parse("32000")), PartyKind::Station);
    }

    #[test]
    fn a_station_is_recorded_while_an_agent_who_is_named_is_logged_in() {
        let mut roster = Roster::default();
        roster.skills.insert("60001".into());
        roster.agents.insert("7002".into());
        let kind = |roster: &Roster, number: &str| roster.kind(&Device::parse(number));
        assert_eq!(kind(&roster, "32000"), PartyKind::Inside, "nobody is there");
        let steps = [
            ("32000", Some("7001"), false, PartyKind::Inside),
            ("32000", Some("7002"), true, PartyKind::Station),
            ("32000", Some("7002"), false, PartyKind::Station),
            ("32000", Some("7001"), false, PartyKind::Inside),
            // As long as nothing else, and it is a station all the same.
            ("320", Some("7002"), true, PartyKind::Station),
            ("320", None, false, PartyKind::Outside),
            ("60001", Some("7002"), true, PartyKind::Queue),
        ];
        for (station, agent, begins, becomes) in steps {
            assert_eq!(roster.note_agent(&station.into(), agent), begins, "{station} {agent:?}");
            assert_eq!(kind(&roster, station), becomes, "{station} {agent:?}");
        }
    }
}
