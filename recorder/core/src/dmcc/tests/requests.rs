//! What we say, compared with the dossier's examples: same elements, same order, same namespaces.

use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use storage_core::{CallId, Extension};

use super::example;
use crate::dmcc::config::{LinkConfig, Secret};
use crate::dmcc::fields::{CrossRef, DeviceId};
use crate::dmcc::register::Dialect;
use crate::dmcc::request::{MonitorKind, Registration, Request};

/// Elements with their namespaces, one a line, indented, without those named in `left_out`.
fn outline(text: &str, left_out: &[&str]) -> String {
    let mut reader = NsReader::from_str(text);
    let (mut lines, mut depth, mut skipped) = (Vec::<String>::new(), 0_usize, None);
    loop {
        let (namespace, event) = reader.read_resolved_event().unwrap();
        let namespace = match namespace {
            ResolveResult::Bound(namespace) => format!("{namespace:?}"),
            _ => String::new(),
        };
        let (name, ends) = match &event {
            Event::Start(start) => (start.local_name().as_ref().to_owned(), false),
            Event::Empty(start) => (start.local_name().as_ref().to_owned(), true),
            Event::End(_) => {
                depth -= 1;
                if skipped == Some(depth) {
                    skipped = None;
                }
                continue;
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                if skipped.is_none() && !text.trim().is_empty() {
                    lines.push(format!("{}={}", " ".repeat(depth), text.trim()));
                }
                continue;
            }
            Event::Eof => return lines.join("\n"),
            _ => continue,
        };
        if skipped.is_none() && left_out.contains(&name.as_str()) {
            skipped = Some(depth);
        }
        if skipped.is_none() {
            lines.push(format!("{}{namespace} {name}", " ".repeat(depth)));
        }
        depth += 1;
        if ends {
            depth -= 1;
            if skipped == Some(depth) {
                skipped = None;
            }
        }
    }
}

/// `left_out` are elements that only one of the two has, on purpose.
fn same(request: &Request, name: &str, number: usize, left_out: &[&str]) {
    let ours = request.to_xml(&Dialect::default(), None);
    assert_eq!(outline(&ours, left_out), outline(example(name, number), left_out), "{name}");
}

fn config() -> LinkConfig {
    let mut config = LinkConfig::new("cm1", "recuser", Secret::new("Secret1!"));
    config.application_id = "recorder-a".to_owned();
    config.protocol_versions = ["privC", "priv7"]
        .map(|suffix| {
            format!("http://www.ecma-international.org/standards/ecma-323/csta/ed3/{suffix}")
        })
        .into();
    config
}

#[test]
fn session_requests() {
    let mut config = config();
    same(
        &Request::StartSession { config: &config, session: None },
        "StartApplicationSession",
        1,
        &[],
    );
    config.protocol_versions.pop();
    let session = "0F3A5C7E91B2D4F6081A2C3E4D5F6A7B-0";
    let back = Request::StartSession { config: &config, session: Some(session) };
    same(&back, "StartApplicationSession", 2, &[]);
    same(&Request::KeepAlive { session, seconds: 180 }, "ResetApplicationSessionTimer", 1, &[]);
    same(&Request::StopSession { session }, "StopApplicationSession", 1, &[]);
}

#[test]
fn device_requests() {
    let (phantom, station) = (Extension::new("41001"), Extension::new("31002"));
    let ask = Request::GetDeviceId { switch_name: "cm1", extension: &phantom, instance: None };
    same(&ask, "GetDeviceId", 1, &["deviceInstance"]);
    let ask = Request::GetDeviceId { switch_name: "cm1", extension: &phantom, instance: Some(1) };
    same(&ask, "GetDeviceId", 1, &[]);
    let ask = Request::GetThirdPartyDeviceId { switch_name: "cm1", extension: &station };
    same(&ask, "GetThirdPartyDeviceId", 1, &[]);
    let device = DeviceId::new("41001:cm1:0.0.0.0:1");
    same(&Request::ReleaseDeviceId { device: &device }, "ReleaseDeviceId", 1, &[]);
    let device = DeviceId::new("41001:cm1:0.0.0.0:0");
    same(&Request::UnregisterTerminal { device: &device }, "UnregisterTerminalRequest", 1, &[]);
}

#[test]
fn a_registration() {
    let device = DeviceId::new("41001:cm1:0.0.0.0:0");
    let codecs = ["g711a", "g711u", "g729"].map(str::to_owned);
    let encryption = ["aes", "none"].map(str::to_owned);
    let request = Request::RegisterTerminal(Registration {
        device: &device,
        independent: false,
        side: None,
        force: true,
        password: &Secret::new("123456"),
        rtp: "192.0.2.20:40000".parse().unwrap(),
        rtcp: "192.0.2.20:40001".parse().unwrap(),
        codecs: &codecs,
        packet_ms: 20,
        encryption: &encryption,
    });
    same(&request, "RegisterTerminalRequest", 1, &[]);
}

#[test]
fn one_more_registration_on_a_station() {
    let device = DeviceId::new("31002:cm1:0.0.0.0:1");
    let request = Request::RegisterTerminal(Registration {
        device: &device,
        independent: true,
        side: None,
        force: true,
        password: &Secret::new("31002"),
        rtp: "192.0.2.20:40002".parse().unwrap(),
        rtcp: "192.0.2.20:40003".parse().unwrap(),
        codecs: &["g711a".to_owned()],
        packet_ms: 20,
        encryption: &["none".to_owned()],
    });
    same(&request, "RegisterTerminalRequest", 2, &[]);
}

#[test]
fn hookswitch_and_buttons() {
    let device = DeviceId::new("41001:cm1:0.0.0.0:0");
    same(&Request::SetHookswitch { device: &device, off: true }, "SetHookswitchStatus", 1, &[]);
    same(&Request::PressButton { device: &device, button: "5" }, "ButtonPress", 1, &[]);
    let down = Request::SetHookswitch { device: &device, off: false };
    assert!(down.to_xml(&Dialect::default(), None).contains("<hookswitchOnhook>true<"));
}

#[test]
fn monitors() {
    let phantom = DeviceId::new("41001:cm1:0.0.0.0:0");
    let request = Request::MonitorStart { device: &phantom, kind: MonitorKind::Media };
    same(&request, "MonitorStart", 1, &[]);
    let station = DeviceId::new("31002:cm1::0");
    let request = Request::MonitorStart { device: &station, kind: MonitorKind::Calls };
    same(&request, "MonitorStart", 2, &["callControlPrivate"]);
    let vdn = DeviceId::new("50100:cm1::0");
    let request = Request::MonitorStart { device: &vdn, kind: MonitorKind::CallsVia };
    same(&request, "MonitorStart", 3, &[]);
    let crossref = CrossRef::new("12");
    same(&Request::MonitorStop { crossref: &crossref }, "MonitorStop", 1, &[]);
}

#[test]
fn call_requests() {
    let (call, party) = (CallId::new("1207"), DeviceId::new("31002:cm1::0"));
    let phantom = DeviceId::new("41001:cm1:0.0.0.0:0");
    let join = Request::Join { party: &party, call: &call, phantom: &phantom };
    same(&join, "SingleStepConferenceCall", 1, &[]);
    same(&Request::Leave { call: &call, phantom: &phantom }, "ClearConnection", 1, &[]);
    same(&Request::SnapshotDevice { device: &party }, "SnapshotDevice", 1, &[]);
    same(&Request::SnapshotCall { party: &party, call: &call }, "SnapshotCall", 1, &[]);
    same(&Request::GetCallLinkage { party: &party, call: &call }, "GetCallLinkageData", 1, &[]);
    same(&Request::GetAgentState { device: &party }, "GetAgentState", 1, &[]);
    same(&Request::SystemRegister { switch_name: "cm1" }, "SystemRegister", 1, &[]);
}

#[test]
fn the_switches_of_the_register() {
    let (station, config) = (DeviceId::new("31002:cm1::0"), config());
    let dialect = Dialect {
        type_attributes: true,
        version_as_namespace: true,
        shared_devices: false,
        ..Dialect::default()
    };
    let request = Request::MonitorStart { device: &station, kind: MonitorKind::Calls };
    let version = "http://www.ecma-international.org/standards/ecma-323/csta/ed3/priv6";
    let text = request.to_xml(&dialect, Some(version));
    assert!(text.starts_with(&format!("<MonitorStart xmlns=\"{version}\">")), "{text}");
    assert!(text.contains("xsi:type=\"av:AvayaEvents\""), "{text}");
    let start = Request::StartSession { config: &config, session: None };
    assert!(start.to_xml(&dialect, None).contains("xsi:type=\"av:SessionLoginInfo\""));
    let extension = Extension::new("41001");
    let ask = Request::GetDeviceId { switch_name: "cm1", extension: &extension, instance: None };
    assert!(!ask.to_xml(&dialect, None).contains("controllable"));
}

#[test]
fn values_are_escaped() {
    let mut config = config();
    config.password = Secret::new("a<b>&\"c'");
    let text =
        Request::StartSession { config: &config, session: None }.to_xml(&Dialect::default(), None);
    assert!(text.contains("<av:password>a&lt;b&gt;&amp;&quot;c&apos;</av:password>"), "{text}");
}
