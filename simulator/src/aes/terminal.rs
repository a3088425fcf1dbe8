//! Requests about terminals: register, unregister, redirect media, ask for the state.

use std::net::{IpAddr, SocketAddr};

use super::device::OwnedDevice;
use super::terminal_events::{dependency_word, endpoint, mode_word, terminal};
use super::{Aes, ConnId, CstaError, Output, Reply};
use crate::secret::Secret;
use crate::switch::{
    Content, Dependency, LocalMedia, MediaMode, Owner, RegisterRefusal, Registration,
    RegistrationKey, StationKind, Switch,
};
use crate::time::Time;
use crate::wire::{Element, Node, av};

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
    content: Content,
    media: Option<LocalMedia>,
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
            content: ask.content,
            media: ask.media,
        };
        let outcome = if self.faults.refuse_registrations > 0 {
            self.faults.refuse_registrations -= 1;
            Err(RegisterRefusal::OnRequest)
        } else {
            switch.register(now, &key, ask.password.expose(), ask.force, registration)
        };
        let answer = av("RegisterTerminalResponse").with(terminal(&device.text));
        match outcome {
            Ok(()) => answer.leaf(av("signalingEncryption"), "none").leaf(av("code"), CODE_NORMAL),
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
        let device = self.registered(switch, session, request)?;
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
        let device = self.registered(switch, session, request)?;
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

    pub(super) fn owns_registration(
        &self,
        switch: &Switch,
        session: u32,
        key: &RegistrationKey,
    ) -> bool {
        let owner = Owner { aes: self.index, session };
        switch.registration(key).is_some_and(|held| held.owner == owner)
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
    let content = match login.text_at(&["mediaContent"]) {
        "FULL" | "" => Content::Full,
        "MAIN_STATION_ONLY" => Content::MainStationOnly,
        "ALL_BUT_MAIN_STATION" => Content::AllButMainStation,
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
        content,
        media,
    })
}

fn read_media(info: &Element) -> Result<LocalMedia, CstaError> {
    let bad = CstaError::Operation("invalidParameterValue");
    let ip: IpAddr = info.text_at(&["rtpAddress", "address"]).parse().map_err(|_| bad)?;
    let port: u16 = info.text_at(&["rtpAddress", "port"]).parse().map_err(|_| bad)?;
    let texts = |name| info.all(name).map(|element| element.text.clone()).collect();
    let (codecs, encryption) = (texts("codecs"), texts("encryptionList"));
    Ok(LocalMedia { rtp: SocketAddr::new(ip, port), codecs, encryption })
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
