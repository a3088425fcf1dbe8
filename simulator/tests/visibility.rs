//! Who sees which event: station, VDN and phantom monitors over one call's life.

mod common;

use std::collections::BTreeMap;

use common::{CSTA, Client, root, text};
use simulator::{Site, SiteConfig};

/// Reads events until `last` has come to `monitor`; gives back the names each monitor saw.
async fn seen(client: &mut Client, last: &str, monitor: &str) -> BTreeMap<String, Vec<String>> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let event = match client.events.pop_front() {
            Some(event) => event,
            None => tokio::time::timeout(common::LIMIT, client.read()).await.expect("in time").1,
        };
        let cross_ref = text(&event, "monitorCrossRefID");
        let name = root(&event).trim_end_matches("Event").to_owned();
        let done = name == last && cross_ref == monitor;
        seen.entry(cross_ref).or_default().push(name);
        if done {
            return seen;
        }
    }
}

#[tokio::test]
async fn each_monitor_sees_its_part_of_a_transferred_call() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let phantom_device = client.device("78001").await;
    let phantom = client.monitor(&phantom_device, "device").await;
    client.register(&phantom_device, "123456", 40000).await;
    let first = client.station("31001").await;
    let second = client.station("31002").await;
    let vdn_device = client.third_party("50100").await;
    let vdn = client.monitor(&vdn_device, "call").await;

    let people = site.switch();
    let call = people.inbound_call("5551230001", "50100").unwrap();
    people.answer("31001").unwrap();
    let id = people.call(call).unwrap().call_id.to_string();
    client.join(&id, &phantom_device).await;
    people.consult("31001", "31002").unwrap();
    people.answer("31002").unwrap();
    people.transfer("31001").unwrap();
    people.hangup_outside(call).unwrap();
    people.hangup("31002").unwrap();
    client.clear(&id, &phantom_device).await;

    let seen = seen(&mut client, "CallCleared", &vdn).await;
    assert_eq!(
        seen[&first],
        [
            "Delivered",
            "Established",
            "Established",
            "Held",
            "ServiceInitiated",
            "Originated",
            "Delivered",
            "Established",
            "Transfered",
        ],
        "until it leaves"
    );
    assert_eq!(
        seen[&second],
        ["Delivered", "Established", "Transfered", "ConnectionCleared", "ConnectionCleared"],
        "from its own ringing on"
    );
    assert_eq!(
        seen[&vdn],
        [
            "Delivered",
            "Queued",
            "Delivered",
            "Established",
            "Established",
            "Held",
            "Transfered",
            "ConnectionCleared",
            "ConnectionCleared",
            "ConnectionCleared",
            "CallCleared",
        ],
        "the call for its whole life, the consultation not"
    );
    assert_eq!(
        seen[&phantom],
        [
            "Established",
            "MediaStart",
            "Held",
            "Transfered",
            "ConnectionCleared",
            "ConnectionCleared",
            "ConnectionCleared"
        ],
        "all of the call it is in"
    );
    site.stop().await;
}

#[tokio::test]
async fn a_vdn_monitor_follows_only_calls_that_enter_later() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    site.switch().inbound_call("5550000001", "50100").unwrap();
    let device = client.third_party("50100").await;
    client.monitor(&device, "call").await;
    site.switch().answer("31001").unwrap();
    let second = site.switch().inbound_call("5550000002", "50100").unwrap();
    let event = client.event("DeliveredEvent").await;
    let id = site.switch().call(second).unwrap().call_id.to_string();
    assert_eq!(text(&event, "callID"), id, "nothing of the first call came before");
    site.stop().await;
}

#[tokio::test]
async fn a_call_monitor_goes_over_to_the_surviving_call() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let people = site.switch();
    people.inbound_call("5550000001", "50100").unwrap();
    people.answer("31001").unwrap();
    let second = people.consult("31001", "31002").unwrap();
    people.answer("31002").unwrap();
    let id = people.call(second).unwrap().call_id;
    let answer = client
        .request(&format!(
            "<MonitorStart xmlns=\"{CSTA}\"><monitorObject><callObject><callID>{id}</callID>\
             <deviceID>31002:cm1::0</deviceID></callObject></monitorObject>\
             <monitorType>call</monitorType></MonitorStart>"
        ))
        .await;
    assert_eq!(root(&answer), "MonitorStartResponse");
    people.transfer("31001").unwrap();
    client.event("TransferedEvent").await;
    people.hold("31002").unwrap();
    client.event("HeldEvent").await;
    site.stop().await;
}

#[tokio::test]
async fn both_senses_of_the_filter() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let device = client.third_party("31001").await;
    // Without inversion a true flag leaves the event out.
    client
        .request(&format!(
            "<MonitorStart xmlns=\"{CSTA}\"><monitorObject><deviceObject>{device}</deviceObject>\
             </monitorObject><requestedMonitorFilter><callcontrol><delivered>true</delivered>\
             </callcontrol></requestedMonitorFilter><monitorType>device</monitorType></MonitorStart>"
        ))
        .await;
    site.switch().inbound_call("5550000001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    site.switch().hangup("31001").unwrap();
    let names = client.events_until("ConnectionClearedEvent").await;
    assert_eq!(names, ["EstablishedEvent", "ConnectionClearedEvent"]);
    site.stop().await;
}

#[tokio::test]
async fn snapshots_show_calls_already_up() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let call = site.switch().inbound_call("5551230001", "50100").unwrap();
    site.switch().answer("31001").unwrap();
    let phantom = client.phantom("78001", 40000).await;
    let id = site.switch().call(call).unwrap().call_id.to_string();
    client.join(&id, &phantom).await;
    let device = client.third_party("31001").await;
    let answer = client
        .request(&format!(
            "<SnapshotDevice xmlns=\"{CSTA}\"><snapshotObject>{device}</snapshotObject>\
             </SnapshotDevice>"
        ))
        .await;
    assert_eq!(text(&answer, "callID"), id);
    assert_eq!(answer.matches("connected</localConnectionState>").count(), 3);
    let answer = client
        .request(&format!(
            "<SnapshotCall xmlns=\"{CSTA}\"><snapshotObject><callID>{id}</callID></snapshotObject>\
             </SnapshotCall>"
        ))
        .await;
    for part in ["T12#1", "31001:cm1::0", "78001:cm1::0", "<notKnown/>", "5551230001:cm1::0"] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    let again = client.join(&id, &phantom).await;
    assert_eq!(text(&again, "stateIncompatibility"), "connectedCallExists");
    site.stop().await;
}
