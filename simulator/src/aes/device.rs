//! Device IDs: objects of a session. Asking for one does not touch the switch.

use super::naming::{extension_part, ordinary};
use super::{Aes, CstaError};
use crate::switch::{Extension, RegistrationKey, Switch};
use crate::time::Time;
use crate::wire::{Element, Node, av};

/// A device that a session has asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnedDevice {
    /// As it was given out.
    pub text: String,
    pub extension: Extension,
    pub instance: u8,
    /// From `GetDeviceId`, so that it may be registered.
    pub first_party: bool,
    /// Other sessions may have it too.
    pub shared: bool,
}

impl OwnedDevice {
    pub fn key(&self) -> RegistrationKey {
        (self.extension.clone(), self.instance)
    }
}

impl Aes {
    pub(super) fn device_id(&mut self, session: u32, request: &Element) -> Result<Node, CstaError> {
        let (extension, instance) = self.named_device(request)?;
        let interface = request.text_at(&["switchIPInterface"]);
        let name = request.text_at(&["switchName"]);
        if name.is_empty() && interface.is_empty() {
            return Err(CstaError::Operation("invalidParameterValue"));
        }
        let address = if interface.is_empty() { "0.0.0.0" } else { interface };
        let shared = request.flag("controllableByOtherSessions").unwrap_or(false);
        let text = format!("{extension}:{name}:{address}:{instance}");
        let taken = self.sessions.iter().any(|(other, held)| {
            *other != session
                && held.devices.values().any(|device| {
                    let same = (&device.extension, device.instance) == (&extension, instance);
                    device.first_party && same && !device.shared
                })
        });
        if taken {
            return Err(CstaError::Resource("resourceBusy"));
        }
        self.keep_device(
            session,
            &text,
            OwnedDevice { text: text.clone(), extension, instance, first_party: true, shared },
        );
        Ok(av("GetDeviceIdResponse").with(ordinary(av("device")).text(text)))
    }

    pub(super) fn third_party_device_id(
        &mut self,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let (extension, instance) = self.named_device(request)?;
        let text = format!("{extension}:{}::{instance}", request.text_at(&["switchName"]));
        self.keep_device(
            session,
            &text,
            OwnedDevice {
                text: text.clone(),
                extension,
                instance,
                first_party: false,
                shared: true,
            },
        );
        Ok(av("GetThirdPartyDeviceIdResponse").with(ordinary(av("device")).text(text)))
    }

    pub(super) fn release_device(
        &mut self,
        now: Time,
        switch: &mut Switch,
        session: u32,
        request: &Element,
    ) -> Result<Node, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        if device.first_party && self.owns_registration(switch, session, &device.key()) {
            switch.unregister(now, &device.key());
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.devices.remove(&device.text.to_ascii_lowercase());
        }
        Ok(av("ReleaseDeviceIdResponse"))
    }

    /// The device of a session with that ID, compared without case.
    pub(super) fn owned(&self, session: u32, id: &str) -> Result<OwnedDevice, CstaError> {
        self.sessions
            .get(&session)
            .and_then(|session| session.devices.get(&id.to_ascii_lowercase()))
            .cloned()
            .ok_or(CstaError::Operation("invalidDeviceID"))
    }

    /// The device that a request names, which this session must have registered.
    pub(super) fn registered(
        &self,
        switch: &Switch,
        session: u32,
        request: &Element,
    ) -> Result<OwnedDevice, CstaError> {
        let device = self.owned(session, request.text_at(&["device"]))?;
        if self.owns_registration(switch, session, &device.key()) {
            Ok(device)
        } else {
            Err(CstaError::State("invalidDeviceState"))
        }
    }

    fn keep_device(&mut self, session: u32, text: &str, device: OwnedDevice) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.devices.insert(text.to_ascii_lowercase(), device);
        }
    }

    fn named_device(&self, request: &Element) -> Result<(Extension, u8), CstaError> {
        let name = request.text_at(&["switchName"]);
        if !name.is_empty() && !name.eq_ignore_ascii_case(&self.naming.switch_name) {
            return Err(CstaError::Operation("invalidParameterValue"));
        }
        let extension = extension_part(request.text_at(&["extension"]));
        if extension.is_empty() {
            return Err(CstaError::Operation("invalidParameterValue"));
        }
        let instance = match request.text_at(&["deviceInstance"]) {
            "" => 0,
            text => text
                .parse()
                .ok()
                .filter(|instance| *instance <= 9)
                .ok_or(CstaError::Operation("invalidParameterValue"))?,
        };
        Ok((Extension::from(extension), instance))
    }
}
