//! What a simulated site consists of. Reads TOML; decides only defaults and what is contradictory.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::media::KeyText;
use crate::secret::Secret;

/// A whole site: one switch and its AES servers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteConfig {
    /// Switch connection name on every AES.
    pub switch_name: String,
    /// Seed of RTP numbers and of RTP faults; absent: from the clock.
    pub seed: Option<u64>,
    /// First five digits of each UCID.
    pub ucid_node: u32,
    /// Call IDs go round in this range and are soon used again.
    pub call_id_first: u32,
    /// Last call ID of the range.
    pub call_id_last: u32,
    /// Most parties of a call, recorders included.
    pub max_parties: usize,
    /// Most H.323 registrations of one extension.
    pub max_registrations: usize,
    /// Telephones: extensions and ranges such as `31001-31050`.
    pub stations: Vec<String>,
    /// Security code of the telephones, for multiple registration; empty: the extension itself.
    pub station_password: Secret,
    /// Softphone stations without hardware that recorders register.
    pub phantoms: Vec<PhantomRange>,
    /// Agents and the telephones where they are logged in.
    pub agents: Vec<AgentConfig>,
    /// Vector directory numbers.
    pub vdns: Vec<VdnConfig>,
    /// Skills (hunt groups).
    pub skills: Vec<String>,
    /// Trunk groups, used in both directions.
    pub trunks: Vec<TrunkConfig>,
    /// The AES servers in front of the switch.
    pub aes: Vec<AesConfig>,
    /// Certificate and key for TLS; self-made if absent.
    pub tls: Option<TlsConfig>,
    /// The control port on loopback; 0 takes a free one, absent: none.
    pub control_port: Option<u16>,
    /// How the switch and the AES behave where releases differ.
    pub switches: Switches,
}

/// A range of phantoms with one security code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhantomRange {
    /// An extension or a range such as `78001-78050`.
    pub extensions: String,
    /// Security code.
    pub password: Secret,
}

/// One agent, logged in from the start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Login ID.
    pub id: String,
    /// Telephone.
    pub station: String,
    /// Skills served.
    pub skills: Vec<String>,
}

/// One VDN.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VdnConfig {
    /// Its number.
    pub extension: String,
    /// Where its vector sends the call: a skill or a station.
    pub destination: String,
}

/// One trunk group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// Number of the group.
    pub group: u16,
    /// How many members it has.
    pub members: u16,
    /// ISDN tells alerting and answer of the far end; other trunks end at `NetworkReached`.
    #[serde(default = "yes")]
    pub isdn: bool,
}

/// One AES server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AesConfig {
    /// Address of its ports and of its media processor.
    pub address: IpAddr,
    /// DMCC port; 0 takes a free one.
    pub port: u16,
    /// TLS instead of plain TCP.
    pub tls: bool,
    /// CTI user.
    pub user: String,
    /// His password.
    pub password: Secret,
    /// Protocol versions it speaks, as suffixes such as `privC`.
    pub versions: Vec<String>,
    /// Longest session duration and clean-up delay it grants, seconds.
    pub session_seconds_max: u32,
    /// Most sessions at once.
    pub sessions_max: usize,
    /// Most registration requests that may be open at once.
    pub registrations_open_max: usize,
    /// Most registration requests in one second; 0: no limit.
    pub registrations_per_second: u32,
    /// How long a registration takes.
    pub registration_ms: u64,
}

/// Files for TLS.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: String,
}

/// Which of two calls of a merge gives its name to the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Survivor {
    /// The held call (the first one).
    #[default]
    Held,
    /// The active call (the consultation).
    Active,
}

/// Behaviour where releases differ or nothing is documented.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// Call ID that survives a transfer or conference.
    pub merge_call_id: Survivor,
    /// UCID that survives a transfer or conference; the time code follows it.
    pub merge_ucid: Survivor,
    /// Codecs of the switch, in its spelling.
    pub codecs: Vec<String>,
    /// Media encryptions that the switch allows, in its spelling and its order of preference: the
    /// first that a client offers, too, is taken. `aes` and SRTP as the codec-set form names it.
    pub encryption: Vec<String>,
    /// How keys are written in events.
    pub key_text: KeyText,
    /// Sequence number of a stream's first packet, with the rollovers before it above 16 bits;
    /// absent: by chance, without rollovers.
    pub rtp_first_index: Option<u64>,
    /// An RTCP sender report each so many packets; 0: none.
    pub report_packets: u32,
    /// RTP begins this much later than the join.
    pub rtp_delay_ms: u64,
    /// `MediaStartEvent` comes this much later than the join.
    pub media_event_delay_ms: u64,
    /// Hold and retrieve send a stop and a new start to recorders in the call.
    pub media_restart_on_hold: bool,
    /// A merge sends a new start to recorders in the call.
    pub media_restart_on_merge: bool,
    /// Hold stops the media of recorders in the call until retrieve.
    pub media_pause_on_hold: bool,
    /// Events of a request leave before its response.
    pub events_before_response: bool,
    /// Device IDs inside events without the colon parts.
    pub bare_device_ids: bool,
    /// Whether events carry a UCID at all.
    pub send_ucid: bool,
    /// A new socket may take a session over while the old socket is still open.
    pub new_socket_wins: bool,
    /// A recorder's forced registration keeps the call its phantom was in.
    pub reregistration_keeps_call: bool,
    /// Agents answer after so long by themselves; absent: only scripts answer.
    pub auto_answer_ms: Option<u64>,
    /// Outside parties answer after so long by themselves; absent: only scripts answer.
    pub outside_answer_ms: Option<u64>,
    /// Agent state events go to station monitors too (old releases send none).
    pub agent_events: bool,
    /// A station is locked after so many wrong security codes in a row; 0: never.
    pub lock_after_wrong_passwords: u32,
    /// Feature access codes of service observing, listen-only or no-talk.
    pub observe_codes: Vec<String>,
    /// Telephones whose class of restriction does not let them be observed.
    pub not_observable: Vec<String>,
    /// Most observers of a telephone, and in a call: 1, or 2 where the switch is set so.
    pub observers_max: usize,
    /// A button that is pressed sooner after the one before is lost, although it is acknowledged.
    pub button_pace_ms: u64,
    /// The same for the first digit after a feature access code.
    pub feature_pace_ms: u64,
}

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// A range that cannot be read.
    #[error(
        "`{0}` is neither an extension nor a range FIRST-LAST of at most 10000 of equal length"
    )]
    Range(String),
    /// The same number given to two things.
    #[error("extension {0} is used twice")]
    Twice(String),
    /// An agent at a telephone that is not there.
    #[error("agent {agent} is at station {station}, which is not in `stations`")]
    AgentStation {
        /// Login ID.
        agent: String,
        /// Telephone named.
        station: String,
    },
    /// An agent or a VDN that names an unknown skill or station.
    #[error("`{who}` names {target}, which is neither a skill nor a station")]
    Unknown {
        /// Who names it.
        who: String,
        /// What is not there.
        target: String,
    },
    /// No AES at all.
    #[error("`aes` is empty: at least one AES is needed")]
    NoAes,
    /// First call ID behind the last.
    #[error("call_id_first must be at least 1 and below call_id_last")]
    CallIds,
    /// Not TOML, or an unknown key.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
}

const fn yes() -> bool {
    true
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self::demo(10, 1)
    }
}

impl Default for AesConfig {
    fn default() -> Self {
        Self {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            tls: false,
            user: "recuser".to_owned(),
            password: Secret::from("Secret1!"),
            versions: ["privE", "privC", "privA", "priv9", "priv8", "priv7"]
                .map(str::to_owned)
                .to_vec(),
            session_seconds_max: 7200,
            sessions_max: 64,
            registrations_open_max: 20,
            registrations_per_second: 0,
            registration_ms: 2,
        }
    }
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            merge_call_id: Survivor::Held,
            merge_ucid: Survivor::Held,
            codecs: ["g711A", "g711U"].map(str::to_owned).to_vec(),
            encryption: vec!["none".to_owned()],
            key_text: KeyText::Hex,
            rtp_first_index: None,
            report_packets: 0,
            rtp_delay_ms: 0,
            media_event_delay_ms: 0,
            media_restart_on_hold: false,
            media_restart_on_merge: false,
            media_pause_on_hold: false,
            events_before_response: false,
            bare_device_ids: false,
            send_ucid: true,
            new_socket_wins: true,
            reregistration_keeps_call: false,
            auto_answer_ms: None,
            outside_answer_ms: Some(50),
            agent_events: true,
            lock_after_wrong_passwords: 0,
            observe_codes: vec!["*55".to_owned()],
            not_observable: Vec::new(),
            observers_max: 1,
            button_pace_ms: 150,
            feature_pace_ms: 450,
        }
    }
}

impl SiteConfig {
    /// A site to show or to test with: stations 31001…, agents 7001…, VDN 50100, skill 60001, trunk
    /// group 12, one AES for each recorder, and a range of phantoms of its own for each: 78001…,
    /// 78501…, and so on, all with security code `123456`.
    #[must_use]
    pub fn demo(agents: usize, recorders: usize) -> Self {
        let agents = agents.clamp(1, 900);
        let phantoms_each = (agents + agents / 2 + 10).min(450);
        Self {
            switch_name: "cm1".to_owned(),
            seed: None,
            ucid_node: 1,
            call_id_first: 1,
            call_id_last: 500,
            max_parties: 6,
            max_registrations: 3,
            stations: vec![range(31001, agents)],
            station_password: Secret::from(""),
            phantoms: (0..recorders.max(1))
                .map(|index| PhantomRange {
                    extensions: range(78001 + 500 * index, phantoms_each),
                    password: Secret::from("123456"),
                })
                .collect(),
            agents: (0..agents)
                .map(|index| AgentConfig {
                    id: (7001 + index).to_string(),
                    station: (31001 + index).to_string(),
                    skills: vec!["60001".to_owned()],
                })
                .collect(),
            vdns: vec![VdnConfig {
                extension: "50100".to_owned(),
                destination: "60001".to_owned(),
            }],
            skills: vec!["60001".to_owned()],
            trunks: vec![TrunkConfig {
                group: 12,
                members: u16::try_from(agents * 2 + 10).unwrap_or(u16::MAX),
                isdn: true,
            }],
            aes: vec![AesConfig::default(); recorders.max(1)],
            tls: None,
            control_port: None,
            switches: Switches::default(),
        }
    }

    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// Not TOML, an unknown key, or a contradiction that `check` finds.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Looks for contradictions.
    ///
    /// # Errors
    /// The first one found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.aes.is_empty() {
            return Err(ConfigError::NoAes);
        }
        if self.call_id_first == 0 || self.call_id_first >= self.call_id_last {
            return Err(ConfigError::CallIds);
        }
        let stations = self.station_list()?;
        let mut taken = std::collections::BTreeSet::new();
        let phantoms = self.phantom_list()?.into_iter().map(|(extension, _)| extension);
        let groups = self.skills.iter().cloned();
        let vdns = self.vdns.iter().map(|vdn| vdn.extension.clone());
        for number in stations.iter().cloned().chain(phantoms).chain(groups).chain(vdns) {
            if !taken.insert(number.clone()) {
                return Err(ConfigError::Twice(number));
            }
        }
        self.check_names(&stations)
    }

    /// All telephones, in order.
    ///
    /// # Errors
    /// A range that cannot be read.
    pub fn station_list(&self) -> Result<Vec<String>, ConfigError> {
        let mut all = Vec::new();
        for text in &self.stations {
            all.extend(expand(text)?);
        }
        Ok(all)
    }

    /// All phantoms with their security codes, in order.
    ///
    /// # Errors
    /// A range that cannot be read.
    pub fn phantom_list(&self) -> Result<Vec<(String, Secret)>, ConfigError> {
        let mut all = Vec::new();
        for range in &self.phantoms {
            all.extend(
                expand(&range.extensions)?
                    .into_iter()
                    .map(|extension| (extension, range.password.clone())),
            );
        }
        Ok(all)
    }

    fn check_names(&self, stations: &[String]) -> Result<(), ConfigError> {
        for agent in &self.agents {
            if !stations.contains(&agent.station) {
                return Err(ConfigError::AgentStation {
                    agent: agent.id.clone(),
                    station: agent.station.clone(),
                });
            }
            if let Some(missing) = agent.skills.iter().find(|skill| !self.skills.contains(skill)) {
                return Err(ConfigError::Unknown {
                    who: agent.id.clone(),
                    target: missing.clone(),
                });
            }
        }
        for vdn in &self.vdns {
            let to = &vdn.destination;
            if !self.skills.contains(to) && !stations.contains(to) {
                return Err(ConfigError::Unknown {
                    who: vdn.extension.clone(),
                    target: to.clone(),
                });
            }
        }
        Ok(())
    }
}

fn range(first: usize, count: usize) -> String {
    format!("{first}-{}", first + count - 1)
}

/// `31001` or `31001-31050`.
fn expand(text: &str) -> Result<Vec<String>, ConfigError> {
    let bad = || ConfigError::Range(text.to_owned());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim(), last.trim());
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) || first.len() != last.len() {
        return Err(bad());
    }
    let from: u64 = first.parse().map_err(|_| bad())?;
    let to: u64 = last.parse().map_err(|_| bad())?;
    if to < from || to - from >= 10_000 {
        return Err(bad());
    }
    let width = first.len();
    Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_site_is_consistent_and_round_trips() {
        for (agents, recorders) in [(1, 1), (10, 2), (100, 2), (300, 3)] {
            let config = SiteConfig::demo(agents, recorders);
            config.check().unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(SiteConfig::from_toml(&text).unwrap(), config);
        }
    }

    #[test]
    fn the_shipped_example_is_right() {
        let config = SiteConfig::from_toml(include_str!("../examples/site.toml")).unwrap();
        assert_eq!(config.aes.len(), 2);
        assert_eq!(config.switches.auto_answer_ms, Some(2000));
    }

    #[test]
    fn ranges() {
        assert_eq!(expand("0098-0101").unwrap(), ["0098", "0099", "0100", "0101"]);
        assert_eq!(expand("7").unwrap(), ["7"]);
        for bad in ["", "a", "1-", "9-8", "1-10", "00001-99999"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let mut config = SiteConfig::demo(2, 1);
        config.skills.push("31001".to_owned());
        assert_eq!(config.check(), Err(ConfigError::Twice("31001".to_owned())));
        let error = SiteConfig::from_toml("swich_name = 'x'").unwrap_err();
        assert!(error.to_string().contains("swich_name"), "{error}");
    }
}
