//! Who is registered at which extension: the H.323 side of the switch, common to all AES servers.

use std::net::SocketAddr;

use super::{Device, Extension, StationKind, Switch};
use crate::time::Time;

/// What identifies a registration: extension and device instance.
pub type RegistrationKey = (Extension, u8);

/// Which AES and which of its sessions made a registration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Owner {
    /// Number of the AES.
    pub aes: usize,
    /// Number of the session on it.
    pub session: u32,
}

/// Dependency mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dependency {
    /// Like the telephone itself.
    Main,
    /// Falls with the main one.
    Dependent,
    /// Stands alone.
    Independent,
}

/// Media mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaMode {
    /// No media.
    None,
    /// RTP goes to the client.
    Client,
    /// The AES plays and records.
    Server,
    /// Another telephone carries the speech.
    Telecommuter,
}

/// Whose voices a registration is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Content {
    /// Everybody's in one.
    #[default]
    Full,
    /// Those of the station that it is registered at.
    MainStationOnly,
    /// Everybody's but that station's.
    AllButMainStation,
}

/// Where and how a client wants its media.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalMedia {
    /// RTP address.
    pub rtp: SocketAddr,
    /// Codecs in order of preference, as the client spells them.
    pub codecs: Vec<String>,
    /// Media encryptions in order of preference, as the client spells them.
    pub encryption: Vec<String>,
}

/// One registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Who made it.
    pub owner: Owner,
    /// Dependency mode.
    pub dependency: Dependency,
    /// Media mode.
    pub mode: MediaMode,
    /// What is in its media.
    pub content: Content,
    /// Media, for mode CLIENT.
    pub media: Option<LocalMedia>,
}

/// What changed about registrations, for the endpoint events of all AES servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistrationChange {
    /// Somebody has registered.
    Registered {
        /// Which place.
        key: RegistrationKey,
        /// As what.
        dependency: Dependency,
        /// With which media.
        mode: MediaMode,
    },
    /// A registration has ended.
    Ended(Unregistered),
}

/// A registration that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unregistered {
    /// What it was.
    pub key: RegistrationKey,
    /// Who had it.
    pub owner: Owner,
    /// Its modes, for the endpoint event.
    pub dependency: Dependency,
    /// Whether its owner asked for it himself (then only endpoint events are due).
    pub asked: bool,
    /// Code for `TerminalUnregisteredEvent`.
    pub code: i32,
    /// Reason in words.
    pub reason: String,
    /// Code word for `EndpointUnregisteredEvent`.
    pub word: &'static str,
}

/// Why a registration is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegisterRefusal {
    /// No such station.
    Unknown,
    /// Wrong security code.
    WrongPassword,
    /// Too many wrong security codes: locked.
    Locked,
    /// The extension has as many registrations as it may.
    TooMany,
    /// Somebody has that place, and force was not asked for.
    Taken,
    /// DEPENDENT without a MAIN.
    NoMain,
    /// Refused on request.
    OnRequest,
    /// Busied out.
    OutOfService,
}

impl Switch {
    /// Registers an endpoint.
    ///
    /// # Errors
    /// See `RegisterRefusal`.
    pub fn register(
        &mut self,
        now: Time,
        key: &RegistrationKey,
        password: &str,
        force: bool,
        registration: Registration,
    ) -> Result<(), RegisterRefusal> {
        self.now = now;
        self.check_password(&key.0, password)?;
        let others = self.registrations_of(&key.0);
        let same_place: Vec<RegistrationKey> = others
            .iter()
            .filter(|(other, held)| {
                let both_main = held.dependency == Dependency::Main
                    && registration.dependency == Dependency::Main;
                other == key || both_main
            })
            .map(|(other, _)| other.clone())
            .collect();
        let own = same_place.iter().all(|other| {
            self.registrations.get(other).is_some_and(|held| held.owner == registration.owner)
        });
        if !same_place.is_empty() && !force && !own {
            return Err(RegisterRefusal::Taken);
        }
        // The telephone itself is one of them.
        let set = usize::from(self.station_kind(&key.0) == Some(StationKind::Telephone));
        if set + others.len() - same_place.len() >= self.max_registrations {
            return Err(RegisterRefusal::TooMany);
        }
        if registration.dependency == Dependency::Dependent
            && self.station_kind(&key.0) == Some(StationKind::Phantom)
            && self.main_registration(&key.0).is_none()
        {
            return Err(RegisterRefusal::NoMain);
        }
        for other in same_place {
            let asked = other == *key && own;
            self.take_down(&other, asked, 0, "Forced out by another registration", "FORCE_LOGIN");
        }
        self.touched.insert(key.0.clone());
        self.registration_changes.push_back(RegistrationChange::Registered {
            key: key.clone(),
            dependency: registration.dependency,
            mode: registration.mode,
        });
        self.registrations.insert(key.clone(), registration);
        Ok(())
    }

    /// Ends a registration at its owner's wish or because he is gone.
    pub fn unregister(&mut self, now: Time, key: &RegistrationKey) {
        self.now = now;
        self.take_down(key, true, 1, "Unregistered", "LOGOFF");
        self.hang_up_unregistered(&key.0);
    }

    /// The switch itself ends all registrations of an extension.
    pub fn force_unregister(&mut self, now: Time, extension: &Extension, code: i32, reason: &str) {
        self.now = now;
        for (key, _) in self.registrations_of(extension) {
            self.take_down(&key, false, code, reason, "STATION_MTC");
        }
        self.hang_up_unregistered(extension);
    }

    /// Takes a station out of service without a word; its media stops. Its call is not touched.
    pub fn busy_out(&mut self, now: Time, extension: &Extension) {
        self.now = now;
        if let Some(station) = self.stations.get_mut(extension) {
            station.busied_out = true;
            self.touched.insert(extension.clone());
        }
    }

    /// Puts it back; only now does the owner of a registration learn that it is gone.
    pub fn release_busy_out(&mut self, now: Time, extension: &Extension) {
        if let Some(station) = self.stations.get_mut(extension) {
            station.busied_out = false;
        }
        let reason = "Received unregistration request from switch reason=2018 text=2018-Rebooting Ext released";
        self.force_unregister(now, extension, 2018, reason);
    }

    /// Whether a station is busied out.
    #[must_use]
    pub fn is_busied_out(&self, extension: &Extension) -> bool {
        self.stations.get(extension).is_some_and(|station| station.busied_out)
    }

    /// One registration.
    #[must_use]
    pub fn registration(&self, key: &RegistrationKey) -> Option<&Registration> {
        self.registrations.get(key)
    }

    /// All registrations.
    #[must_use]
    pub const fn registrations(
        &self,
    ) -> &std::collections::BTreeMap<RegistrationKey, Registration> {
        &self.registrations
    }

    /// All registrations of an extension.
    #[must_use]
    pub fn registrations_of(&self, extension: &Extension) -> Vec<(RegistrationKey, Registration)> {
        let keys = (extension.clone(), 0)..=(extension.clone(), u8::MAX);
        self.registrations.range(keys).map(|(key, held)| (key.clone(), held.clone())).collect()
    }

    /// Sends the media of a registration elsewhere.
    pub fn redirect(&mut self, now: Time, key: &RegistrationKey, media: LocalMedia) -> bool {
        self.now = now;
        let Some(registration) = self.registrations.get_mut(key) else { return false };
        registration.media = Some(media);
        self.touched.insert(key.0.clone());
        true
    }

    /// How many wrong security codes an extension has seen.
    #[must_use]
    pub fn wrong_passwords(&self, extension: &Extension) -> u32 {
        self.stations.get(extension).map_or(0, |station| station.wrong_passwords)
    }

    /// The registration that stands for the set itself.
    pub(super) fn main_registration(&self, extension: &Extension) -> Option<RegistrationKey> {
        self.registrations_of(extension)
            .into_iter()
            .find(|(_, held)| held.dependency == Dependency::Main)
            .map(|(key, _)| key)
    }

    fn check_password(
        &mut self,
        extension: &Extension,
        password: &str,
    ) -> Result<(), RegisterRefusal> {
        let lock_after = self.switches.lock_after_wrong_passwords;
        let station = self.stations.get_mut(extension).ok_or(RegisterRefusal::Unknown)?;
        if lock_after > 0 && station.wrong_in_a_row >= lock_after {
            station.wrong_passwords += 1;
            return Err(RegisterRefusal::Locked);
        }
        if station.password != *password {
            station.wrong_passwords += 1;
            station.wrong_in_a_row += 1;
            return Err(RegisterRefusal::WrongPassword);
        }
        if station.busied_out {
            return Err(RegisterRefusal::OutOfService);
        }
        station.wrong_in_a_row = 0;
        Ok(())
    }

    fn take_down(
        &mut self,
        key: &RegistrationKey,
        asked: bool,
        code: i32,
        reason: &str,
        word: &'static str,
    ) {
        let Some(held) = self.registrations.remove(key) else { return };
        self.touched.insert(key.0.clone());
        self.registration_changes.push_back(RegistrationChange::Ended(Unregistered {
            key: key.clone(),
            owner: held.owner,
            dependency: held.dependency,
            asked,
            code,
            reason: reason.to_owned(),
            word,
        }));
        if held.dependency != Dependency::Main {
            return;
        }
        self.forget_keypad(&key.0);
        if word == "FORCE_LOGIN" && !self.switches.reregistration_keeps_call {
            self.hang_up_all(&key.0);
        }
        for (other, dependent) in self.registrations_of(&key.0) {
            if dependent.dependency == Dependency::Dependent {
                self.take_down(&other, false, code, reason, word);
            }
        }
    }

    /// A phantom that nobody stands for any more is dropped from its calls.
    fn hang_up_unregistered(&mut self, extension: &Extension) {
        if self.is_phantom(extension) && self.main_registration(extension).is_none() {
            self.hang_up_all(extension);
        }
    }

    fn hang_up_all(&mut self, extension: &Extension) {
        if !self.is_phantom(extension) {
            return;
        }
        for id in self.calls_at(extension).to_vec() {
            // It is in each of them, so leaving cannot be refused.
            let _ = self.leave(id, &Device::Extension(extension.clone()), "normalClearing");
        }
    }
}
