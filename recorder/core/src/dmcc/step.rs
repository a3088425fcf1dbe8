//! The steps of a device's set-up as requests, and its way out. Which step is due, and what its answer
//! means, is decided in `device` and `setup`.

use std::time::Duration;

use super::context::{Context, Purpose};
use super::device::{Device, DeviceKey, Role, Step};
use super::devices::PATIENCE;
use super::error::{CstaError, ErrorCategory};
use super::fields::CrossRef;
use super::observe::Act;
use super::request::{Registration, Request};

/// H.323 retries may lie behind a registration (dossier 4.2).
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(60);

/// Unregister, stop monitors, release: the order of Avaya's samples (dossier 3.4; register
/// no. 21). What cannot be sent is left to the session's end.
pub(super) fn clean_up(cx: &mut Context, device: &Device, crossrefs: &[CrossRef], standing: bool) {
    let Some(id) = &device.id else { return };
    let mut requests = Vec::new();
    if standing {
        requests.push(Request::UnregisterTerminal { device: id });
    }
    requests.extend(crossrefs.iter().map(|crossref| Request::MonitorStop { crossref }));
    requests.push(Request::ReleaseDeviceId { device: id });
    for request in requests {
        let _ = cx.wire.send(cx.now, &request, PATIENCE, Purpose::Nothing);
    }
}

/// Sends the request of one step.
///
/// # Errors
/// If the device lacks what the step needs, or the request cannot be sent.
pub(super) fn send_step(
    cx: &mut Context,
    key: &DeviceKey,
    device: &Device,
    step: &Step,
    purpose: Purpose,
) -> Result<(), CstaError> {
    let missing = || CstaError::new(ErrorCategory::NotSent, "the device is not set up");
    let (switch_name, extension) = (cx.config.switch_name.as_str(), &key.extension);
    let id = || device.id.as_ref().ok_or_else(missing);
    let receiver = key.receiver();
    let further = matches!(key.role, Role::Further(_));
    let place = cx.config.place(receiver.side, device.place).filter(|_| further);
    let request = match step {
        Step::AskId if key.is_terminal() => Request::GetDeviceId {
            switch_name,
            extension,
            instance: place.map(|(instance, _)| instance),
        },
        Step::AskId => Request::GetThirdPartyDeviceId { switch_name, extension },
        Step::StartMonitor(kind) => Request::MonitorStart { device: id()?, kind: *kind },
        Step::StopMonitor(_, crossref) => Request::MonitorStop { crossref },
        Step::SnapshotDevice => Request::SnapshotDevice { device: id()? },
        Step::SnapshotCall(call) => Request::SnapshotCall { party: id()?, call },
        Step::CheckRegistration => Request::GetRegistrationState { device: id()? },
        Step::AskAgent => Request::GetAgentState { device: id()? },
        Step::AskLogins => Request::GetAgentLogin { device: id()? },
        Step::Observe(Act::Hook { off }) => Request::SetHookswitch { device: id()?, off: *off },
        Step::Observe(Act::Press(button)) => Request::PressButton { device: id()?, button },
        Step::Register => {
            let phantom = cx.config.phantom(&receiver).ok_or_else(missing)?;
            Request::RegisterTerminal(Registration {
                device: id()?,
                independent: further,
                side: receiver.side,
                force: place.is_none_or(|(_, force)| force),
                password: &phantom.password,
                rtp: phantom.rtp,
                rtcp: phantom.rtcp,
                codecs: &cx.config.codecs,
                packet_ms: cx.config.packet_ms,
                encryption: &cx.config.encryption,
            })
        }
    };
    let patience = if *step == Step::Register { REGISTRATION_PATIENCE } else { PATIENCE };
    cx.wire.send(cx.now, &request, patience, purpose)
}
