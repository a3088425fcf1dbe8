//! Terminals: register, unregister, redirect, ask; events about registration and media.

use std::net::{IpAddr, SocketAddr};

use super::device::OwnedDevice;
use super::naming::ordinary;
use super::{Aes, ConnId, CstaError, Output, Reply};
use crate::secret::Secret;
use crate::switch::{
    Dependency, LocalMedia, MediaMode, Owner, RegisterRefusal, Registration, RegistrationKey,
    StationKind, Switch, Unregistered,
};
use crate::time::Time;
use crate::wire::{Element, Node, av, csta};

/// The number AES gives for a good registration (its value is a guess of the protocol description).
const CODE_NORMAL: i32 = 1;
/// The number that comes with a wrong security code.
const CODE_SECURITY: i32 = 63773;

/// Something that is due later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Pending {
    /// A registration whose answer is on its way.
    Registration { due: Time, to: (ConnId, [u8; 4], u32), device: OwnedDevice, ask: Box<Ask> },
    /// A media event that comes late on request.
    MediaEvent { due: Time, session: u32, event: Node },
}

/// What a registration asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    password: Secret,
    force: bool,
    dependency: Dependency,
    mode: MediaMode,
    media: Option<LocalMedia>,
}

/// What a media event tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media<'a> {
    /// Media is so from now on; the codec's name.
    Started(&'a str),
    /// Media has stopped.
    Stopped,
}

impl Pending {
    pub const fn due(&self) -> Time {
        match self {
            Self::Registration { due, .. } | Self::MediaEvent { due, .. } => *due,
        }
    }

    pub const fn session(&self) -> u32 {
        match self {
            Self::Registration { to, .. } => to.2,
            Self::MediaEvent { session, .. } => *session,
        }
    }
}

impl Aes {
    /// Takes a registration request; the answer comes after the time a registration takes.
    pub(super) fn begin_registration(
        &mut self,
        now: Time,
        switch: &mut Switch,
        to: (ConnId, [u8; 4], u32),
        request: &Element,
    ) -> Reply {
        let refuse = |error: CstaError| Reply::Now(error.node());
        let device = match self.owned(to.2, request.text_at(&["device"])) {
            Ok(device) if device.first_party => device,
            _ => return refuse(CstaError::Operation("invalidDeviceID")),
        };
        let ask = match read_ask(request) {
            Ok(ask) => ask,
            Err(error) => return refuse(error),
        };
        if let Err(error) = self.throttle(now) {
            self.counters.registrations_throttled += 1;
            return refuse(error);
        }
        if self.config.registration_ms == 0 {
            return Reply::Now(self.register(now, switch, to.2, &device, ask));
        }
        let due = now.after_millis(self.config.registration_ms);
        self.pending.push(Pending::Registration { due, to, device, ask: Box::new(ask) });
        self.counters.registrations_open_high =
            self.counters.registrations_open_high.max(self.registrations_open());
        Reply::Later
    }

    fn registrations_open(&self) -> usize {
        let open = |pending: &&Pending| matches!(pending, Pending::Registration { .. });
        self.pending.iter().filter(open).count()
    }

    fn throttle(&mut self, now: Time) -> Result<(), CstaError> {
        if self.registrations_open() >= self.config.registrations_open_max {
            return Err(CstaError::Subscribed("outstandingReqLimitExceeded"));
        }
        let second = now.nanos() / 1_000_000_000;
        if self.registrations_this_second.0 != second {
            self.registrations_this_second = (second, 0);
        }
        let limit = self.config.registrations_per_second;
        if limit > 0 && self.registrations_this_second.1 >= limit {
            return Err(CstaError::Performance("performanceLimitExceeded"));
        }
        self.registrations_this_second.1 += 1;
        Ok(())
    }

    /// Does what has become due.
    pub(super) fn finish_pending(&mut self, now: Time, switch: &mut Switch) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|p| p.due() <= now);
        self.pending = rest;
        for pending in due {
            match pending {
                Pending::MediaEvent { session, event, .. } => self.send_event(session, event),
                Pending::Registration { to: (conn, invoke, session), device, ask, .. } => {
                    let message = self.register(now, switch, session, &device, *ask);
                    self.output.push(Output::Send { conn, invoke, message });
                }
            }
        }
    }

    fn register(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        device: &OwnedDevice,
        ask: Ask,
    ) -> Node {
        let key = device.key();
        let registration = Registration {
            owner: Owner { aes: self.index, session },
            dependency: ask.dependency,
            mode: ask.mode,
            media: ask.media,
            since: now,
        };
        let outcome = if self.faults.refuse_registrations > 0 {
            self.faults.refuse_registrations -= 1;
            Err(RegisterRefusal::OnRequest)
        } else {
            switch.register(now, &key, ask.password.expose(), ask.force, registration)
        };
        let answer = av("RegisterTerminalResponse").with(terminal(&device.text));
        match outcome {
            Ok(()) => {
                self.tell_registered(switch, &key);
                answer.leaf(av("signalingEncryption"), "none").leaf(av("code"), CODE_NORMAL)
            }
            Err(refusal) => {
                let (code, reason) = explain(&refusal);
                answer.leaf(av("code"), code).leaf(av("reason"), reason)
            }
        }
    }

    pub(super) fn unregister(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        if !self.owns_registration(switch, session, &device.key()) {
            return Err(CstaError::State("invalidDeviceState"));
        }
        switch.unregister(now, &device.key());
        Ok(av("UnregisterTerminalResponse")
            .with(terminal(&device.text))
            .leaf(av("code"), CODE_NORMAL))
    }

    pub(super) fn redirect_media(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        if !self.owns_registration(switch, session, &device.key()) {
            return Err(CstaError::State("invalidDeviceState"));
        }
        let info = request.child("localMediaInfo").ok_or(CstaError::Operation("generic"))?;
        switch.redirect(now, &device.key(), read_media(info)?);
        Ok(av("RedirectMediaResponse"))
    }

    pub(super) fn registration_state(
        &self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        let registered = self.owns_registration(switch, session, &device.key());
        let state = if registered { "REGISTERED" } else { "IDLE" };
        Ok(av("GetRegistrationStateResponse")
            .leaf(av("registrationState"), state)
            .leaf(av("gatekeeperAddress"), self.media_address.ip()))
    }

    pub(super) fn endpoint_info(
        &self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        let kind = switch.station_kind(&device.extension);
        let mut endpoints = Vec::new();
        if kind == Some(StationKind::Telephone) {
            let set = self.endpoint_id(&device.extension, 0);
            endpoints.push(endpoint(&set, "MAIN", "CLIENT", "IP_Phone"));
        }
        for (key, held) in switch.registrations_of(&device.extension) {
            let id = self.endpoint_id(&key.0, key.1);
            let (dependency, mode) = (dependency_word(held.dependency), mode_word(held.mode));
            endpoints.push(endpoint(&id, dependency, mode, "IP_API_A"));
        }
        let service = if switch.is_busied_out(&device.extension) || endpoints.is_empty() {
            "outOfService"
        } else {
            "inService"
        };
        let endpoints =
            endpoints.into_iter().map(|fields| av("endpointRegistrationInfo").with_all(fields));
        Ok(av("EndpointRegistrationInfoResponse")
            .with(terminal(&device.text))
            .leaf(av("serviceState"), service)
            .with_all(endpoints))
    }

    /// A registration has ended: tells its former owner and all who watch the extension.
    pub fn on_unregistered(&mut self, event: &Unregistered) {
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

    fn tell_registered(&mut self, switch: &Switch, key: &RegistrationKey) {
        let Some(held) = switch.registration(key).cloned() else { return };
        let text = self.endpoint_id(&key.0, key.1);
        let group = "endpointRegistrationStateEvents";
        for (session, cross_ref) in self.device_monitors(&key.0, None, group, "registered") {
            let fields =
                endpoint(&text, dependency_word(held.dependency), mode_word(held.mode), "IP_API_A");
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
                Media::Started(codec) => self.media_start(cross_ref, connection, codec),
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

    fn media_start(&self, cross_ref: u32, connection: Node, codec: &str) -> Node {
        let from = self.media_address;
        let rtcp = SocketAddr::new(from.ip(), from.port().saturating_add(1));
        av("MediaStartEvent")
            .leaf(csta("monitorCrossRefID"), cross_ref)
            .with(connection)
            .with(address(av("rtpAddress"), from))
            .with(address(av("rtcpAddress"), rtcp))
            .leaf(av("codec"), codec)
            .leaf(av("packetSize"), 20)
            .with(
                av("encryption")
                    .leaf(av("protocol"), "none")
                    .with(av("transmitKey"))
                    .with(av("receiveKey"))
                    .leaf(av("payloadType"), 0),
            )
    }

    /// Delay of media events, changed while running.
    pub const fn set_media_event_delay(&mut self, millis: u64) {
        self.media_event_delay_ms = millis;
    }

    pub(super) fn owns_registration(
        &self,
        switch: &Switch,
        session: u32,
        key: &RegistrationKey,
    ) -> bool {
        let owner = Owner { aes: self.index, session };
        switch.registration(key).is_some_and(|held| held.owner == owner)
    }

    /// The ID that a session was given for an endpoint, or the usual one.
    fn endpoint_id(&self, extension: &crate::switch::Extension, instance: u8) -> String {
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

fn read_ask(request: &Element) -> Result<Ask, CstaError> {
    let bad = CstaError::Operation("invalidParameterValue");
    let login = request.child("loginInfo").ok_or(bad)?;
    let mode = match login.text_at(&["mediaMode"]) {
        "CLIENT" => MediaMode::Client,
        "SERVER" => MediaMode::Server,
        "TELECOMMUTER" => MediaMode::Telecommuter,
        "NONE" | "" => MediaMode::None,
        _ => return Err(bad),
    };
    let dependency = match login.text_at(&["dependencyMode"]) {
        "MAIN" | "" => Dependency::Main,
        "DEPENDENT" => Dependency::Dependent,
        "INDEPENDENT" => Dependency::Independent,
        _ => return Err(bad),
    };
    let media = match request.child("localMediaInfo") {
        Some(info) if mode == MediaMode::Client => Some(read_media(info)?),
        None if mode == MediaMode::Client => return Err(bad),
        _ => None,
    };
    Ok(Ask {
        password: Secret::from(login.text_at(&["password"])),
        force: login.flag("forceLogin").unwrap_or(false),
        dependency,
        mode,
        media,
    })
}

fn read_media(info: &Element) -> Result<LocalMedia, CstaError> {
    let bad = CstaError::Operation("invalidParameterValue");
    let ip: IpAddr = info.text_at(&["rtpAddress", "address"]).parse().map_err(|_| bad)?;
    let port: u16 = info.text_at(&["rtpAddress", "port"]).parse().map_err(|_| bad)?;
    let codecs = info.all("codecs").map(|codec| codec.text.clone()).collect();
    Ok(LocalMedia { rtp: SocketAddr::new(ip, port), codecs })
}

fn explain(refusal: &RegisterRefusal) -> (i32, &'static str) {
    match refusal {
        RegisterRefusal::WrongPassword => (
            CODE_SECURITY,
            "Registration Reject reason: securityDenial Login Denied - Access Code invalid",
        ),
        RegisterRefusal::Locked => (
            CODE_SECURITY,
            "Registration Reject reason: securityDenial Login Denied - station locked",
        ),
        RegisterRefusal::Unknown => {
            (63772, "Registration Reject reason: invalidAlias Extension not administered")
        }
        RegisterRefusal::TooMany => {
            (63774, "Registration Reject reason: resourceUnavailable Maximum registrations reached")
        }
        RegisterRefusal::Taken => {
            (63775, "Registration Reject reason: duplicateAlias Extension in use")
        }
        RegisterRefusal::NoMain => {
            (63776, "Registration Reject reason: undefinedReason No main terminal registered")
        }
        RegisterRefusal::OutOfService => {
            (63777, "Registration Reject reason: undefinedReason Station out of service")
        }
        RegisterRefusal::OnRequest => {
            (63778, "Registration Reject reason: resourceUnavailable Try again later")
        }
    }
}

/// `device` of terminal services: the ID one level deeper, in CSTA.
fn terminal(text: &str) -> Node {
    av("device").with(ordinary(csta("deviceIdentifier")).text(text))
}

fn eptdevice(text: &str) -> Node {
    av("eptDevice").with(ordinary(csta("deviceIdentifier")).text(text))
}

fn address(outer: Node, address: SocketAddr) -> Node {
    outer.leaf(av("address"), address.ip()).leaf(av("port"), address.port())
}

fn endpoint(id: &str, dependency: &str, mode: &str, product: &str) -> Vec<Node> {
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

const fn dependency_word(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Main => "MAIN",
        Dependency::Dependent => "DEPENDENT",
        Dependency::Independent => "INDEPENDENT",
    }
}

const fn mode_word(mode: MediaMode) -> &'static str {
    match mode {
        MediaMode::None => "NONE",
        MediaMode::Client => "CLIENT",
        MediaMode::Server => "SERVER",
        MediaMode::Telecommuter => "TELECOMMUTER",
    }
}
