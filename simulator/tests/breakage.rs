//! Faults on request: what a client sees of each.

mod common;

use std::time::Duration;

use common::{CSTA, Client, LIMIT, root, text};
use simulator::tone::{self, Code, Law};
use simulator::{Site, SiteConfig};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn odd_bytes_say_the_same() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    client.station("31001").await;
    let faults = site.faults();
    faults.wire(0, |wire| {
        wire.piece_len = 1;
        wire.odd_prefixes = true;
        wire.latin1 = true;
    });
    faults.aes_faults(0, |aes| {
        aes.odd_names = true;
        aes.unknown_elements = true;
    });
    site.switch().inbound_call_with("5551230001", "31001", &[7; 2000]).unwrap();
    let event = client.event("DeliveredEvent").await;
    assert!(event.contains("M\u{fffd}ller"), "Latin-1 is not UTF-8: {event}");
    assert!(event.contains(":somethingNew>"));
    assert!(event.contains(&"07".repeat(2000)), "big user-to-user information");
    site.stop().await;
}

#[tokio::test]
async fn broken_messages_and_injected_bytes() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    client.station("31001").await;
    site.faults().wire(0, |wire| wire.break_next = 1);
    site.switch().inbound_call("5551230001", "31001").unwrap();
    let (_, broken) = timeout(LIMIT, client.read()).await.unwrap();
    assert!(!broken.ends_with('>') || !broken.contains("</DeliveredEvent>"), "{broken}");
    site.faults().wire(0, |wire| wire.inject = Some(b"\0\0\0\x0c9999<a/>".to_vec()));
    site.switch().answer("31001").unwrap();
    assert_eq!(timeout(LIMIT, client.read()).await.unwrap().1, "<a/>");
    assert_eq!(root(&timeout(LIMIT, client.read()).await.unwrap().1), "EstablishedEvent");
    // And the other way round: the server answers what it cannot read, and closes on nonsense.
    client.send("<a><b></a>").await;
    let (_, answer) = timeout(LIMIT, client.read()).await.unwrap();
    assert_eq!(root(&answer), "CSTAErrorCode");
    client.raw(b"\0\0\0\x030001").await;
    assert_eq!(timeout(LIMIT, client.try_read()).await.unwrap(), None);
    site.stop().await;
}

#[tokio::test]
async fn refusals_losses_delays_and_order() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let phantom = client.phantom("78001", 40000).await;
    client.station("31001").await;
    let faults = site.faults();
    faults.lose_events(0, "DeliveredEvent", 1);
    site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    let (_, first) = timeout(LIMIT, client.read()).await.unwrap();
    assert_eq!(root(&first), "EstablishedEvent", "the one before was lost");
    let id = text(&first, "callID");

    faults.refuse_joins(0, 1);
    let refused = client.join(&id, &phantom).await;
    assert_eq!(root(&refused), "CSTAErrorCode");
    faults.delay_requests(0, 60);
    faults.switches(|switches| switches.events_before_response = true);
    let started = Instant::now();
    let joined = client.join(&id, &phantom).await;
    assert_eq!(root(&joined), "SingleStepConferenceCallResponse");
    assert!(started.elapsed() >= Duration::from_millis(60));
    let before: Vec<String> = client.events.iter().map(|event| root(event)).collect();
    assert_eq!(before, ["EstablishedEvent", "EstablishedEvent", "MediaStartEvent"]);
    faults.delay_requests(0, 0);
    faults.switches(|switches| switches.events_before_response = false);
    client.clear(&id, &phantom).await;
    client.event("MediaStopEvent").await;

    // The link to the switch: no call control, no events, but a word.
    let answer = client
        .request(&format!("<SystemRegister xmlns=\"{CSTA}\"><requestTypes/></SystemRegister>"))
        .await;
    assert_eq!(root(&answer), "SystemRegisterResponse");
    faults.set_tlink(0, false);
    assert!(client.event("SystemStatus").await.contains("tlinkDown"));
    assert_eq!(root(&client.join(&id, &phantom).await), "CSTAErrorCode");
    faults.set_tlink(0, true);
    assert!(client.event("SystemStatus").await.contains("tlinkUp"));
    // A hanging server answers later.
    faults.hang_aes(0, Duration::from_millis(80));
    let started = Instant::now();
    client.third_party("31002").await;
    assert!(started.elapsed() >= Duration::from_millis(70));
    // The server ends a monitor by itself.
    faults.drop_monitors(0, 1);
    client.event("MonitorStop").await;
    site.stop().await;
}

#[tokio::test]
async fn media_faults() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let rtp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let phantom = client.phantom("78001", rtp.local_addr().unwrap().port()).await;
    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    let id = site.switch().call(call).unwrap().call_id.to_string();
    let faults = site.faults();
    // Late event: media is there before it.
    faults.switches(|switches| switches.media_event_delay_ms = 100);
    client.join(&id, &phantom).await;
    let first = receive(&rtp).await;
    assert_eq!(first.code.unwrap().serial, call.serial);
    assert!(client.events.is_empty());
    client.event("MediaStartEvent").await;

    faults.change_ssrc("78001");
    let ssrc = loop {
        let packet = receive(&rtp).await;
        if packet.ssrc != first.ssrc {
            break packet.ssrc;
        }
    };
    faults.stranger_rtp("78001", 3);
    faults.garbage_rtp("78001", 3);
    let mut others = 0;
    while others < 6 {
        let packet = receive(&rtp).await;
        others += usize::from(packet.from != first.from);
        if packet.from == first.from {
            assert_eq!(packet.ssrc, ssrc);
        }
    }
    faults.mute_phantom("78001", 5);
    let mut before = receive(&rtp).await.code.unwrap();
    loop {
        let code = receive(&rtp).await.code.unwrap();
        if code.frame != before.frame + 1 {
            assert_eq!(code.frame, before.frame + 6, "five frames are missing");
            break;
        }
        before = code;
    }
    // Hold with a restart: stop and start, the same call.
    faults.switches(|switches| {
        switches.media_event_delay_ms = 0;
        switches.media_restart_on_hold = true;
    });
    site.switch().hold("31001").unwrap();
    client.event("MediaStopEvent").await;
    client.event("MediaStartEvent").await;
    // A silent busyout: media just stops.
    faults.busy_out("78001");
    while timeout(Duration::from_millis(100), rtp.recv(&mut [0; 400])).await.is_ok() {}
    let streams = site.streams();
    assert_eq!(streams.iter().map(|stream| stream.dropped).sum::<u64>(), 5);
    site.stop().await;
}

struct Packet {
    from: std::net::SocketAddr,
    ssrc: u32,
    code: Option<Code>,
}

async fn receive(rtp: &UdpSocket) -> Packet {
    let mut buffer = [0; 2000];
    let (len, from) = timeout(LIMIT, rtp.recv_from(&mut buffer)).await.unwrap().unwrap();
    let ssrc = u32::from_be_bytes(buffer[8..12].try_into().unwrap());
    let code = (len == 172).then(|| tone::read_at(Law::A, &buffer[12..len])).flatten();
    Packet { from, ssrc, code }
}
