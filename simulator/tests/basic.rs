//! The way of a recorder over real sockets: log in, register a phantom, see a call, join it, hear
//! its frames, leave it.

mod common;

use common::{Client, LIMIT, text};
use simulator::tone::{self, Law};
use simulator::{Site, SiteConfig};
use tokio::net::UdpSocket;
use tokio::time::timeout;

#[tokio::test]
async fn a_phantom_hears_the_call_it_joins() {
    let site = Site::start(SiteConfig::demo(3, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let rtp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let phantom = client.phantom("78001", rtp.local_addr().unwrap().port()).await;
    client.station("31001").await;

    let call = site.switch().inbound_call("5551230001", "50100").unwrap();
    let delivered = client.event("DeliveredEvent").await;
    assert_eq!(text(&delivered, "deviceID"), "31001:cm1::0");
    assert!(delivered.contains("acdGroup>60001:cm1::0"));
    assert!(delivered.contains("50100:cm1::0"));
    site.switch().answer("31001").unwrap();
    let established = client.event("EstablishedEvent").await;
    let id = text(&established, "callID");
    let ucid = text(&established, "globallyUniqueCallLinkageID");
    assert_eq!(ucid.len(), 20);

    let joined = client.join(&id, &phantom).await;
    assert!(joined.contains("SingleStepConferenceCallResponse"), "{joined}");
    assert_eq!(text(&joined, "globallyUniqueCallLinkageID"), ucid);
    let ours = client.event("EstablishedEvent").await;
    assert!(ours.contains("<answeringDevice>"), "{ours}");
    assert!(ours.contains("silentParticipation"));
    let media = client.event("MediaStartEvent").await;
    assert_eq!(text(&media, "codec"), "g711A");
    let port = text(&media, "port");

    let mut frames = Vec::new();
    let mut buffer = [0; 2000];
    for _ in 0..20 {
        let (len, from) = timeout(LIMIT, rtp.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(len, 172);
        assert_eq!(from.port().to_string(), port, "RTP comes from where the event says");
        let code = tone::read_at(Law::A, &buffer[12..len]).unwrap();
        assert_eq!(code.serial, call.serial);
        frames.push(code.frame);
    }
    assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 1), "{frames:?}");

    // Both persons leave; only the recorder's own leaving ends the call.
    site.switch().hangup_outside(call).unwrap();
    site.switch().hangup("31001").unwrap();
    assert_eq!(site.stuck_phantoms(), ["78001"]);
    let cleared = client.clear(&id, &phantom).await;
    assert!(cleared.contains("ClearConnectionResponse"), "{cleared}");
    client.event("MediaStopEvent").await;
    assert!(site.stuck_phantoms().is_empty());
    let over = site.history();
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].serial, &over[0].ucid), (call.serial, &ucid));
    let stream = &over[0].streams[0];
    assert_eq!(stream.phantom, "78001");
    assert_eq!(stream.first_frame, Some(frames[0]));
    assert!(stream.sent >= 20);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_at_once() {
    let site = Site::start(SiteConfig::demo(100, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    for station in 31001..31101 {
        client.station(&station.to_string()).await;
    }
    let mut best = std::time::Duration::MAX;
    for _ in 0..20 {
        let call = site.switch().inbound_call("5551230001", "31050").unwrap();
        client.event("DeliveredEvent").await;
        let started = std::time::Instant::now();
        site.switch().answer("31050").unwrap();
        client.event("EstablishedEvent").await;
        best = best.min(started.elapsed());
        site.switch().hangup_outside(call).unwrap();
    }
    // The best of twenty, as the machine may be busy with something else.
    assert!(best.as_micros() < 2000, "{best:?}");
    println!("Established to client in {best:?}");
    site.stop().await;
}

#[tokio::test]
async fn waiting_for_frames_does_not_wait_for_events() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    let enough = |view: Option<&simulator::CallView>| view.is_some_and(|view| view.frames >= 5);
    let started = std::time::Instant::now();
    assert!(site.switch().wait(call, LIMIT, enough).await);
    assert!(started.elapsed() < LIMIT / 2, "nothing else happens on this switch");
    site.stop().await;
}
