//! Events about terminals: registered, unregistered, media started and stopped.

use std::net::SocketAddr;

use super::Aes;
use super::naming::ordinary;
use super::terminal::Pending;
use crate::media::{KeyText, Protection, Started};
use crate::switch::{
    Dependency, Extension, MediaMode, Owner, RegistrationChange, RegistrationKey, Unregistered,
};
use crate::time::Time;
use crate::wire::{Node, av, csta};

/// What a media event tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media<'a> {
    /// Media is so from now on.
    Started(&'a Started),
    /// Media has stopped.
    Stopped,
}

impl Aes {
    /// Tells a change of a registration to its former owner and to all who watch the extension.
    pub fn on_registration(&mut self, change: &RegistrationChange) {
        match change {
            RegistrationChange::Registered { key, dependency, mode } => {
                self.tell_registered(key, *dependency, *mode);
            }
            RegistrationChange::Ended(ended) => self.tell_ended(ended),
        }
    }

    fn tell_ended(&mut self, event: &Unregistered) {
        let (extension, instance) = &event.key;
        let text = self.endpoint_id(extension, *instance);
        if !event.asked && event.owner.aes == self.index {
            let to = Some((event.owner.session, *instance));
            let group = "terminalUnregisteredEvent";
            for (session, cross_ref) in self.device_monitors(extension, to, group, "unregistered") {
                let message = av("TerminalUnregisteredEvent")
                    .leaf(csta("monitorCrossRefID"), cross_ref)
                    .with(terminal(&text))
                    .leaf(av("reason"), &event.reason)
                    .leaf(av("code"), event.code);
                self.send_event(session, message);
            }
        }
        let group = "endpointRegistrationStateEvents";
        for (session, cross_ref) in self.device_monitors(extension, None, group, "unregistered") {
            let message = av("EndpointUnregisteredEvent")
                .leaf(csta("monitorCrossRefID"), cross_ref)
                .with(terminal(&text))
                .with(eptdevice(&text))
                .leaf(av("endpointAddress"), self.media_address.ip())
                .leaf(av("dependencyMode"), dependency_word(event.dependency))
                .leaf(av("reason"), &event.reason)
                .leaf(av("code"), event.word)
                .leaf(av("setType"), "4624")
                .leaf(av("signallingProtocolType"), "H323");
            self.send_event(session, message);
        }
    }

    fn tell_registered(&mut self, key: &RegistrationKey, dependency: Dependency, mode: MediaMode) {
        let text = self.endpoint_id(&key.0, key.1);
        let group = "endpointRegistrationStateEvents";
        for (session, cross_ref) in self.device_monitors(&key.0, None, group, "registered") {
            let fields = endpoint(&text, dependency_word(dependency), mode_word(mode), "IP_API_A");
            let message = av("EndpointRegisteredEvent")
                .leaf(csta("monitorCrossRefID"), cross_ref)
                .with(terminal(&text))
                .with_all(fields);
            self.send_event(session, message);
        }
    }

    /// Media of a registration has changed: tells the monitors of its owner.
    pub fn on_media(&mut self, now: Time, key: &RegistrationKey, owner: Owner, media: Media<'_>) {
        let flag = match media {
            Media::Started(_) => "mediaStarted",
            Media::Stopped => "mediaStopped",
        };
        let to = Some((owner.session, key.1));
        let text = self.endpoint_id(&key.0, key.1);
        for (session, cross_ref) in self.device_monitors(&key.0, to, "mediaControl", flag) {
            let connection = av("connection").with(ordinary(csta("deviceID")).text(&text));
            let event = match media {
                Media::Started(started) => self.media_start(cross_ref, connection, started),
                Media::Stopped => {
                    av("MediaStopEvent").leaf(csta("monitorCrossRefID"), cross_ref).with(connection)
                }
            };
            if self.media_event_delay_ms == 0 {
                self.send_event(session, event);
            } else {
                let due = now.after_millis(self.media_event_delay_ms);
                self.pending.push(Pending::MediaEvent { due, session, event });
            }
        }
    }

    fn media_start(&self, cross_ref: u32, connection: Node, started: &Started) -> Node {
        let from = self.media_address;
        let rtcp = SocketAddr::new(from.ip(), from.port().saturating_add(1));
        av("MediaStartEvent")
            .leaf(csta("monitorCrossRefID"), cross_ref)
            .with(connection)
            .with(address(av("rtpAddress"), from))
            .with(address(av("rtcpAddress"), rtcp))
            .leaf(av("codec"), &started.codec)
            .leaf(av("packetSize"), 20)
            .with(self.encryption(started.protection.as_ref()))
    }

    fn encryption(&self, protection: Option<&Protection>) -> Node {
        let encryption = av("encryption");
        let Some(protection) = protection else {
            return encryption
                .leaf(av("protocol"), "none")
                .with(av("transmitKey"))
                .with(av("receiveKey"))
                .leaf(av("payloadType"), 0);
        };
        let [transmit, receive] = protection.texts(self.key_text);
        encryption
            .leaf(av("protocol"), &protection.name)
            .leaf(av("transmitKey"), transmit.key)
            .leaf(av("receiveKey"), receive.key)
            .leaf(av("payloadType"), 0)
            .leaf(av("transmitSalt"), transmit.salt)
            .leaf(av("receiveSalt"), receive.salt)
    }

    /// Delay of media events and the writing of their keys, changed while running.
    pub const fn set_media_events(&mut self, delay_ms: u64, key_text: KeyText) {
        self.media_event_delay_ms = delay_ms;
        self.key_text = key_text;
    }

    /// The ID that a session was given for an endpoint, or the usual one.
    pub(super) fn endpoint_id(&self, extension: &Extension, instance: u8) -> String {
        let given = self.sessions.values().find_map(|session| {
            session.devices.values().find(|device| {
                device.first_party && device.extension == *extension && device.instance == instance
            })
        });
        given.map_or_else(
            || format!("{extension}:{}:0.0.0.0:{instance}", self.naming.switch_name),
            |device| device.text.clone(),
        )
    }
}

/// `device` of terminal services: the ID one level deeper, in CSTA.
pub(super) fn terminal(text: &str) -> Node {
    av("device").with(ordinary(csta("deviceIdentifier")).text(text))
}

pub(super) fn eptdevice(text: &str) -> Node {
    av("eptDevice").with(ordinary(csta("deviceIdentifier")).text(text))
}

pub(super) fn address(outer: Node, address: SocketAddr) -> Node {
    outer.leaf(av("address"), address.ip()).leaf(av("port"), address.port())
}

pub(super) fn endpoint(id: &str, dependency: &str, mode: &str, product: &str) -> Vec<Node> {
    vec![
        eptdevice(id),
        av("productType").text(product),
        av("networkRegion").text(1),
        av("dependencyMode").text(dependency),
        av("mediaMode").text(mode),
        av("setType").text("4624"),
        av("signallingProtocolType").text("H323"),
    ]
}

pub(super) const fn dependency_word(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Main => "MAIN",
        Dependency::Dependent => "DEPENDENT",
        Dependency::Independent => "INDEPENDENT",
    }
}

pub(super) const fn mode_word(mode: MediaMode) -> &'static str {
    match mode {
        MediaMode::None => "NONE",
        MediaMode::Client => "CLIENT",
        MediaMode::Server => "SERVER",
        MediaMode::Telecommuter => "TELECOMMUTER",
    }
}
