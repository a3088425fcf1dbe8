//! From the configuration to what the parts want to know. It decides only how the parameters map;
//! whether they make sense together was checked when they were read.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use cluster::GroupConfig;
use cluster_core::Patience;
use recorder::aes_link::{AesEndpoint, AesTls, TlsError};
use recorder_core::Receiver;
use recorder_core::call::roster::Roster;
use recorder_core::call::{self, TriggerConfig};
use recorder_core::dmcc::{Attachment, LinkConfig, PhantomConfig, Places, Secret};
use storage_core::{NodeId, SegmentId};

use crate::bridge::words;
use crate::config::{Aes, Codec, Config, Device, MediaEncryption, Method, Recorder, TlsFiles};

/// The group's log, below `al_datadir`.
const GROUP_FOLDER: &str = "group";

/// What this node is as a member of its group; `None` if it has no peers.
pub fn group_config(config: &Config) -> Option<GroupConfig> {
    let cluster = &config.cluster;
    if cluster.peers.len() < 2 {
        return None;
    }
    let tls = cluster.tls.as_ref().and_then(|files| {
        let TlsFiles { cert, key, ca } = files.clone();
        Some(cluster::TlsFiles { certificate: cert, key, authority: ca? })
    });
    let phantoms = config.recorder.as_ref().map(|recorder| words::ranges(&recorder.phantoms));
    Some(GroupConfig {
        node: config.nodeid,
        role: config.role,
        listen: cluster.listen.to_string(),
        peers: cluster.peers.iter().map(|(node, place)| (*node, place.to_string())).collect(),
        tls,
        heartbeat: cluster.heartbeat,
        election: cluster.election,
        dir: config.datadir.join(GROUP_FOLDER),
        phantoms: phantoms.unwrap_or_default(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        patience: Patience::default(),
    })
}

/// Where the AES is and how to speak to it.
///
/// # Errors
/// If the certificates or the name cannot be used.
pub fn aes_endpoint(aes: &Aes) -> Result<AesEndpoint, TlsError> {
    let tls = match aes.tls {
        true => Some(AesTls::new(aes.ca.as_deref(), &aes.servername)?),
        false => None,
    };
    Ok(AesEndpoint { host: aes.place.host.clone(), port: aes.place.port, tls })
}

/// Each device with the address where it receives RTP; RTCP has the next port.
pub fn phantom_addresses(recorder: &Recorder) -> Vec<(Receiver, SocketAddr)> {
    let devices = recorder.devices().into_iter().map(|device| device.receiver());
    devices.zip(addresses(recorder)).collect()
}

/// The configuration has at least a pair of ports for each device.
fn addresses(recorder: &Recorder) -> impl Iterator<Item = SocketAddr> {
    let ports = (0..).map_while(|pair| recorder.rtp_ports.pair(pair));
    ports.map(|port| SocketAddr::new(recorder.rtp_address, port))
}

/// Each member of a group has a place of its own on the stations' extensions.
fn places(config: &Config) -> Places {
    let cluster = &config.cluster;
    match cluster.peers.keys().position(|node| *node == config.nodeid) {
        Some(place) if cluster.peers.len() > 1 => Places::of_member(place),
        _ => Places::default(),
    }
}

fn attachment(method: &Method, device: &Device) -> Attachment {
    match (method, device.station.clone()) {
        (Method::MultipleRegistration { .. }, _) => Attachment::Station { side: device.side },
        (Method::ServiceObserving { code }, Some(station)) => {
            Attachment::Observer { station, code: code.clone() }
        }
        (Method::SingleStepConference | Method::ServiceObserving { .. }, _) => {
            Attachment::Conference
        }
    }
}

/// Whether the switch may encrypt the media of this node's phantoms.
pub fn offers_encryption(recorder: &Recorder) -> bool {
    recorder.mediaencryption.iter().any(|offered| *offered != MediaEncryption::None)
}

/// What the link to the AES is to do.
pub fn link_config(config: &Config, recorder: &Recorder) -> LinkConfig {
    let aes = &recorder.aes;
    let devices = recorder.devices().into_iter().zip(addresses(recorder));
    let phantoms = devices
        .map(|(device, rtp)| PhantomConfig {
            attachment: attachment(&recorder.method, &device),
            extension: device.extension,
            password: device.password,
            rtp,
            rtcp: SocketAddr::new(rtp.ip(), rtp.port() + 1),
        })
        .collect();
    let monitored = &recorder.monitored;
    LinkConfig {
        application_id: format!("astlogger-{}", config.nodeid),
        phantoms,
        stations: monitored.stations.iter().cloned().collect(),
        agents: monitored.agents.clone(),
        vdns: monitored.vdns.iter().cloned().collect(),
        skills: monitored.skills.iter().cloned().collect(),
        codecs: recorder.codecs.iter().copied().map(Codec::as_str).map(str::to_owned).collect(),
        encryption: recorder
            .mediaencryption
            .iter()
            .copied()
            .map(MediaEncryption::as_str)
            .map(str::to_owned)
            .collect(),
        registration_window: recorder.registration_window as usize,
        registration_rate: recorder.registration_rate.unwrap_or(0),
        places: places(config),
        ..LinkConfig::new(&aes.switchname, &aes.user, Secret::new(aes.password.expose()))
    }
}

/// How calls come to be heard.
fn call_method(recorder: &Recorder) -> call::Method {
    let devices = recorder.devices();
    let stations =
        devices.into_iter().filter_map(|device| Some((device.station?, device.extension)));
    match recorder.method {
        Method::SingleStepConference => call::Method::Join,
        Method::MultipleRegistration { .. } | Method::ServiceObserving { .. } => {
            let sides = recorder.method.sides().len() > 1;
            call::Method::Listen { devices: stations.collect(), sides }
        }
    }
}

/// What is recorded. `first_segment` is above everything that the capture journal holds.
pub fn trigger_config(
    node: NodeId,
    recorder: &Recorder,
    first_segment: SegmentId,
    id_seed: u128,
) -> TriggerConfig {
    let monitored = &recorder.monitored;
    TriggerConfig {
        node,
        roster: Roster {
            phantoms: recorder.phantoms.clone(),
            peer_phantoms: recorder.peerphantoms.clone().unwrap_or_default(),
            stations: monitored.stations.clone(),
            agents: monitored.agents.clone(),
            followed: BTreeSet::new(),
            vdns: monitored.vdns.clone(),
            skills: monitored.skills.clone(),
        },
        method: call_method(recorder),
        rules: recorder.rules.clone(),
        max_parties: recorder.maxparties as usize,
        patience: call::Patience { rescue: recorder.rescue, follow: recorder.follow },
        ring: recorder.standby_ring,
        id_seed,
        first_segment,
    }
}
