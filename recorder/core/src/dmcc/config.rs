//! What the link must know to begin. It is plain values: where they come from and whether they
//! make sense together is the business of the configuration file's reader.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use storage_core::Extension;
use storage_core::record::Side;
use zeroize::Zeroize;

use super::register::{self, Dialect};
use crate::Receiver;

/// A password, a security code or a key. It is never printed, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the wire only, or to read a key from.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a device comes to be sent the audio of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attachment {
    /// A phantom, registered as MAIN, that is added to calls (dossier 7.2).
    #[default]
    Conference,
    /// One more registration, INDEPENDENT, on a station's own extension (dossier 7.4).
    Station {
        /// The side of the station's calls that it is to be sent (7.5); absent: all in one. Of one that
        /// is registered for each side there are two.
        side: Option<Side>,
    },
    /// A phantom, registered as MAIN, that observes a station (dossier 7.3).
    Observer {
        /// The station.
        station: Extension,
        /// The feature's access code: `0` to `9`, `*` and `#`.
        code: String,
    },
}

/// A phantom, or a registration on a station, and where its media shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhantomConfig {
    /// Its number on the switch.
    pub extension: Extension,
    /// How it comes to hear calls.
    pub attachment: Attachment,
    /// Its station security code.
    pub password: Secret,
    /// Where it receives RTP: an address that the switch can reach, and an even port.
    pub rtp: SocketAddr,
    /// Where it receives RTCP, normally the next port.
    pub rtcp: SocketAddr,
}

impl PhantomConfig {
    /// The name under which its media and its state are told.
    #[must_use]
    pub fn receiver(&self) -> Receiver {
        let side = match self.attachment {
            Attachment::Station { side } => side,
            Attachment::Conference | Attachment::Observer { .. } => None,
        };
        Receiver { device: self.extension.clone(), side }
    }
}

/// The instances of a station's extension that further registrations may have (dossier 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Tried in turn, without taking one from anybody: another recorder may have it.
    pub instances: Vec<u8>,
    /// Whether the first is this node's own by agreement: where all are taken, whoever has it is what
    /// is left of an earlier session, and gives way.
    pub first_is_own: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self { instances: register::STATION_INSTANCES.into(), first_is_own: false }
    }
}

impl Places {
    /// Of the recorder that has this place among those of its group, counted from 0.
    #[must_use]
    pub fn of_member(place: usize) -> Self {
        let mut instances = Vec::from(register::STATION_INSTANCES);
        instances.rotate_left(place % register::STATION_INSTANCES.len());
        Self { instances, first_is_own: true }
    }

    /// The try of this number: which instance, and whether it is taken from whoever has it.
    fn get(&self, number: usize) -> Option<(u8, bool)> {
        match self.instances.get(number) {
            Some(instance) => Some((*instance, false)),
            None if number == self.instances.len() && self.first_is_own => {
                self.instances.first().map(|own| (*own, true))
            }
            None => None,
        }
    }
}

/// How to reach the switch through one AES, and what to watch there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Name of the switch connection on the AES.
    pub switch_name: String,
    /// CTI user of the AES.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Free text, shown on the AES's status page.
    pub application_id: String,
    /// Protocol versions in order of preference (register no. 18).
    pub protocol_versions: Vec<String>,
    /// Session duration to ask for, in seconds.
    pub session_seconds: u64,
    /// How long the AES shall keep the session without a socket, in seconds.
    pub cleanup_seconds: u64,
    /// Phantoms to register.
    pub phantoms: Vec<PhantomConfig>,
    /// Stations to watch.
    pub stations: Vec<Extension>,
    /// Agents, by login ID: the stations at which they are logged in are watched for as long.
    pub agents: BTreeSet<Extension>,
    /// VDNs to watch.
    pub vdns: Vec<Extension>,
    /// Skills to watch, by the number of their hunt group.
    pub skills: Vec<Extension>,
    /// `al_codecs` names in order of preference.
    pub codecs: Vec<String>,
    /// `al_mediaencryption` names in order of preference.
    pub encryption: Vec<String>,
    /// Milliseconds of audio in one packet.
    pub packet_ms: u32,
    /// Open registration requests at once.
    pub registration_window: usize,
    /// Registration requests per second; 0 for no limit.
    pub registration_rate: u32,
    /// Where further registrations on stations are tried, in this order; those of one side are not.
    pub places: Places,
    /// The protocol's open questions.
    pub dialect: Dialect,
}

impl LinkConfig {
    /// A link that watches nothing yet, with the defaults of the outside contract.
    #[must_use]
    pub fn new(switch_name: &str, user: &str, password: Secret) -> Self {
        Self {
            switch_name: switch_name.to_owned(),
            user: user.to_owned(),
            password,
            application_id: "astlogger".to_owned(),
            protocol_versions: register::protocol_versions(),
            session_seconds: register::SESSION_SECONDS,
            cleanup_seconds: register::CLEANUP_SECONDS,
            phantoms: Vec::new(),
            stations: Vec::new(),
            agents: BTreeSet::new(),
            vdns: Vec::new(),
            skills: Vec::new(),
            codecs: ["g711a", "g711u", "g729a", "g729"].map(str::to_owned).into(),
            encryption: vec!["none".to_owned()],
            packet_ms: 20,
            registration_window: 20,
            registration_rate: 0,
            places: Places::default(),
            dialect: Dialect::default(),
        }
    }

    /// The phantom of this name.
    #[must_use]
    pub fn phantom(&self, receiver: &Receiver) -> Option<&PhantomConfig> {
        let of_number = self.phantoms.iter().filter(|one| one.extension == receiver.device);
        of_number.into_iter().find(|one| one.receiver() == *receiver)
    }

    /// The try of this number to find a place on a station's extension: which instance, and whether it is
    /// taken from whoever has it. A registration of one side has an instance of its own.
    pub(super) fn place(&self, side: Option<Side>, number: usize) -> Option<(u8, bool)> {
        match (side, number) {
            (None, _) => self.places.get(number),
            (Some(side), 0) => Some((register::side_instance(side), false)),
            (Some(side), 1) => Some((register::side_instance(side), true)),
            (Some(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_can_be_printed_without_its_secrets() {
        let mut config = LinkConfig::new("cm1", "recuser", Secret::new("Secret1!"));
        config.phantoms.push(PhantomConfig {
            extension: "41001".into(),
            attachment: Attachment::Conference,
            password: Secret::new("123456"),
            rtp: "192.0.2.20:40000".parse().unwrap(),
            rtcp: "192.0.2.20:40001".parse().unwrap(),
        });
        let text = format!("{config:?}");
        assert!(!text.contains("Secret1!") && !text.contains("123456"), "{text}");
    }
}
