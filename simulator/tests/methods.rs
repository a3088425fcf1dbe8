//! Other ways to hear calls than single-step conference, over real sockets: more registrations on a
//! telephone, and service observing.

mod common;

use std::time::Duration;

use common::{AV, CSTA, Client, LIMIT, root, text};
use simulator::tone::{self, Law, Part};
use simulator::{Site, SiteConfig};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

async fn socket() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// The next frame of this call.
async fn hears(rtp: &UdpSocket, serial: u32) {
    let mut buffer = [0; 2000];
    let heard = timeout(LIMIT, async {
        loop {
            let (len, _) = rtp.recv_from(&mut buffer).await.unwrap();
            let code = tone::read_at(Law::A, &buffer[12..len]);
            if code.is_some_and(|code| code.serial == serial) {
                return;
            }
        }
    });
    heard.await.expect("frames of the call");
}

#[tokio::test]
async fn two_more_registrations_of_a_telephone_hear_it_and_a_third_has_no_place() {
    let site = Site::start(SiteConfig::demo(3, 2)).await.unwrap();
    let mut clients =
        [Client::login(site.aes_address(0)).await, Client::login(site.aes_address(1)).await];
    let mut sockets = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let (rtp, port) = socket().await;
        let device = client.device_instance("31001", 1).await;
        client.monitor(&device, "device").await;
        let request = common::register_request(&device, "31001", port, "INDEPENDENT", "g711A");
        let request = request.replace("<forceLogin>true", "<forceLogin>false");
        let answer = client.request(&request).await;
        // The place is the other's, whichever AES it came by.
        assert_eq!(answer.contains("duplicateAlias"), number == 1, "{answer}");
        if number == 1 {
            let device = client.device_instance("31001", 2).await;
            client.monitor(&device, "device").await;
            let answer = client.register_as(&device, "31001", port, "INDEPENDENT", "g711A").await;
            assert!(answer.contains("<signalingEncryption>"), "{answer}");
        }
        sockets.push(rtp);
    }
    let device = clients[0].device_instance("31001", 0).await;
    let answer = clients[0].register_as(&device, "31001", 4000, "INDEPENDENT", "g711A").await;
    assert!(answer.contains("Maximum registrations"), "{answer}");

    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    for (client, rtp) in clients.iter_mut().zip(&sockets) {
        client.event("MediaStartEvent").await;
        hears(rtp, call.serial).await;
    }
    assert!(site.switch().call(call).unwrap().recorders().is_empty());
    // On hold there is nothing, then the consultation, then the call again.
    site.switch().hold("31001").unwrap();
    clients[0].event("MediaStopEvent").await;
    site.switch().retrieve("31001").unwrap();
    clients[0].event("MediaStartEvent").await;
    let consultation = site.switch().consult("31001", "31002").unwrap();
    site.switch().answer("31002").unwrap();
    hears(&sockets[0], consultation.serial).await;
    site.switch().transfer("31001").unwrap();
    clients[0].event("MediaStopEvent").await;
}

/// The next coded frame of this part is of this call.
async fn hears_part(rtp: &UdpSocket, serial: u32, part: Part) {
    let mut buffer = [0; 2000];
    let heard = timeout(LIMIT, async {
        loop {
            let (len, _) = rtp.recv_from(&mut buffer).await.unwrap();
            if let Some(code) = tone::read_at(Law::A, &buffer[12..len]) {
                assert_eq!((code.serial, code.part), (serial, part));
                return;
            }
        }
    });
    heard.await.expect("frames of the call");
}

#[tokio::test]
async fn two_registrations_of_a_telephone_hear_one_side_each() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let contents = [("MAIN_STATION_ONLY", Part::Station), ("ALL_BUT_MAIN_STATION", Part::Others)];
    let mut sockets = Vec::new();
    for (instance, (content, part)) in (1..).zip(contents) {
        let (rtp, port) = socket().await;
        let device = client.device_instance("31001", instance).await;
        client.monitor(&device, "device").await;
        let request = common::register_request(&device, "31001", port, "INDEPENDENT", "g711A");
        let content = format!("</dependencyMode><mediaContent>{content}</mediaContent>");
        let answer = client.request(&request.replace("</dependencyMode>", &content)).await;
        assert!(answer.contains("<signalingEncryption>"), "{answer}");
        sockets.push((rtp, part));
    }
    let device = client.device_instance("31002", 1).await;
    let request = common::register_request(&device, "31002", 4000, "INDEPENDENT", "g711A");
    let content = "</dependencyMode><mediaContent>LEFT</mediaContent>";
    let answer = client.request(&request.replace("</dependencyMode>", content)).await;
    assert_eq!(root(&answer), "CSTAErrorCode", "{answer}");

    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    for (rtp, part) in &sockets {
        client.event("MediaStartEvent").await;
        hears_part(rtp, call.serial, *part).await;
    }
}

async fn press(client: &mut Client, device: &str, button: &str) -> String {
    let body = format!(
        "<ButtonPress xmlns=\"{CSTA}\"><device>{device}</device><button>{button}</button></ButtonPress>"
    );
    client.request(&body).await
}

async fn hook(client: &mut Client, device: &str, on: bool) -> String {
    client
        .request(&format!(
            "<SetHookswitchStatus xmlns=\"{CSTA}\"><device>{device}</device><hookswitch>0\
             </hookswitch><hookswitchOnhook>{on}</hookswitchOnhook></SetHookswitchStatus>"
        ))
        .await
}

#[tokio::test]
async fn an_observer_dials_its_station_and_is_bridged_to_its_calls() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let (rtp, port) = socket().await;
    let phantom = client.phantom("78001", port).await;
    assert_eq!(root(&press(&mut client, &phantom, "5").await), "CSTAErrorCode", "on the hook");
    assert_eq!(root(&hook(&mut client, &phantom, false).await), "SetHookswitchStatusResponse");
    client.event("ServiceInitiatedEvent").await;
    for (number, button) in ["10", "5", "5", "3", "1", "0", "0", "1"].iter().enumerate() {
        // The switch's own pace is what is tried here, so time must pass.
        sleep(Duration::from_millis(if number == 3 { 500 } else { 200 })).await;
        assert_eq!(root(&press(&mut client, &phantom, button).await), "ButtonPressResponse");
    }
    client.event("ConnectionClearedEvent").await;
    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    let joined = client.event("EstablishedEvent").await;
    assert!(joined.contains("78001"), "{joined}");
    let media = client.event("MediaStartEvent").await;
    assert_eq!(text(&media, "codec"), "g711A");
    hears(&rtp, call.serial).await;
    site.switch().hangup("31001").unwrap();
    client.event("MediaStopEvent").await;
    assert!(site.stuck_phantoms().is_empty(), "the observer does not keep the call up");
    let unowned = format!(
        "<GetDeviceId xmlns=\"{AV}\"><switchName>cm1</switchName><extension>78002</extension></GetDeviceId>"
    );
    let other = text(&client.request(&unowned).await, "device");
    assert_eq!(root(&hook(&mut client, &other, false).await), "CSTAErrorCode", "not registered");
}
