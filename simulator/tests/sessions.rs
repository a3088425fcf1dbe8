//! Sessions, devices and terminals as a client sees them, over TCP and TLS.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{APP, AV, CSTA, Client, LIMIT, register_request, root, text};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use simulator::{Site, SiteConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn logging_in_and_out() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::connect(site.aes_address(0)).await;
    let early = client.request(&format!("<GetDeviceId xmlns=\"{AV}\"/>")).await;
    assert_eq!(root(&early), "CSTAErrorCode");
    let wrong = client.start_as("wrong", "", 60, 180).await;
    assert_eq!(text(&wrong, "definedError"), "invalidApplicationInfo");
    let right = client.start("", 60).await;
    assert_eq!(text(&right, "actualProtocolVersion"), format!("{CSTA}/privC"));
    assert_eq!(text(&right, "actualSessionDuration"), "180");
    let reset = |id: &str| {
        format!(
            "<ResetApplicationSessionTimer xmlns=\"{APP}\"><sessionID>{id}</sessionID>\
             <requestedSessionDuration>90</requestedSessionDuration></ResetApplicationSessionTimer>"
        )
    };
    let session = client.session.clone();
    let answer = client.request(&reset(&session)).await;
    assert_eq!(text(&answer, "actualSessionDuration"), "90");
    let answer = client.request(&reset("nonsense")).await;
    assert_eq!(text(&answer, "definedError"), "invalidSessionID");
    let unknown = client.request("<GetLampMode/>").await;
    assert_eq!(text(&unknown, "operation"), "serviceNotSupported");
    let stopped = client
        .request(&format!(
            "<StopApplicationSession xmlns=\"{APP}\"><sessionID>{session}</sessionID>\
             <sessionEndReason><definedEndReason>normal</definedEndReason></sessionEndReason>\
             </StopApplicationSession>"
        ))
        .await;
    assert_eq!(root(&stopped), "StopApplicationSessionPosResponse");
    assert_eq!(site.aes_counters(0).logins_refused, 1);
    site.stop().await;
}

#[tokio::test]
async fn a_session_is_taken_back_after_its_socket_was_cut() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    client.phantom("78001", 40000).await;
    client.station("31001").await;
    let session = client.session.clone();
    site.faults().cut_aes(0, Duration::from_millis(100));
    assert_eq!(timeout(LIMIT, client.try_read()).await.unwrap(), None, "cut");
    until("the loss is noticed", || site.clients(0) == 0).await;
    // Refused for a while; events of the gap are lost.
    let mut refused = Client::connect(site.aes_address(0)).await;
    assert_eq!(timeout(LIMIT, refused.try_read()).await.unwrap(), None, "refused");
    site.switch().inbound_call("5551230001", "31001").unwrap();
    sleep(Duration::from_millis(150)).await;
    let mut again = Client::connect(site.aes_address(0)).await;
    let answer = again.start(&session, 60).await;
    assert_eq!(text(&answer, "sessionID"), session);
    assert_eq!(site.registrations("78001"), 1);
    // The monitor still stands: the answer is seen, the ringing was not.
    site.switch().answer("31001").unwrap();
    let event = timeout(LIMIT, again.read()).await.unwrap().1;
    assert_eq!(root(&event), "EstablishedEvent");
    assert_eq!(site.aes_counters(0).sessions_taken_back, 1);
    // A third socket wins against the second.
    let mut third = Client::connect(site.aes_address(0)).await;
    assert_eq!(text(&third.start(&session, 60).await, "sessionID"), session);
    assert_eq!(timeout(LIMIT, again.try_read()).await.unwrap(), None);
    site.stop().await;
}

#[tokio::test]
async fn after_the_clean_up_delay_everything_is_gone() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::connect(site.aes_address(0)).await;
    client.start("", 1).await;
    client.phantom("78001", 40000).await;
    let session = client.session.clone();
    drop(client);
    until("clean-up", || site.registrations("78001") == 0).await;
    let mut again = Client::connect(site.aes_address(0)).await;
    let answer = again.start(&session, 60).await;
    assert_eq!(root(&answer), "StartApplicationSessionNegResponse");
    site.stop().await;
}

#[tokio::test]
async fn a_session_without_keep_alive_is_ended_with_a_word() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::connect(site.aes_address(0)).await;
    client.start_as("Secret1!", "", 60, 1).await;
    let event = client.event("ApplicationSessionTerminated").await;
    assert_eq!(text(&event, "definedTermReason"), "sessionTimerExpired");
    client.start("", 60).await;
    site.faults().end_sessions(0);
    let event = client.event("ApplicationSessionTerminated").await;
    assert!(!text(&event, "serverTermReason").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn registrations_and_their_refusals() {
    let mut config = SiteConfig::demo(2, 1);
    config.aes[0].registration_ms = 250;
    config.aes[0].registrations_open_max = 3;
    let site = Site::start(config).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let foreign = client.register("78001:cm1:0.0.0.0:0", "123456", 40000).await;
    assert_eq!(text(&foreign, "operation"), "invalidDeviceID");
    let device = client.device("78001").await;
    let wrong = client.register(&device, "000000", 40000).await;
    assert_eq!(text(&wrong, "code"), "63773");
    assert!(text(&wrong, "reason").contains("securityDenial"));
    assert!(!wrong.contains("signalingEncryption"));
    assert_eq!(site.wrong_passwords("78001"), 1);

    // Five at once where three may be open.
    let mut devices = Vec::new();
    for number in 78002..78007 {
        devices.push(client.device(&number.to_string()).await);
    }
    let mut open = Vec::new();
    for device in &devices {
        let body = register_request(device, "123456", 40000, "MAIN", "g711A");
        open.push(client.send(&body).await);
    }
    let mut registered = 0;
    for _ in &open {
        let (_, answer) = timeout(LIMIT, client.read()).await.unwrap();
        match root(&answer).as_str() {
            "RegisterTerminalResponse" => registered += 1,
            _ => assert_eq!(
                text(&answer, "subscribedResourceAvailability"),
                "outstandingReqLimitExceeded"
            ),
        }
    }
    assert_eq!(registered, 3);
    let counters = site.aes_counters(0);
    assert_eq!((counters.registrations_open_high, counters.registrations_throttled), (3, 2));
    site.faults().refuse_registrations(0, 1);
    let refused = client.register(&device, "123456", 40000).await;
    assert!(!refused.contains("signalingEncryption"), "{refused}");
    let right = client.register(&device, "123456", 40000).await;
    assert_eq!(text(&right, "code"), "1");
    site.stop().await;
}

#[tokio::test]
async fn losing_a_registration_with_and_without_a_word() {
    let site = Site::start(SiteConfig::demo(2, 2)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let device = client.phantom("78001", 40000).await;
    let state = format!(
        "<GetRegistrationState xmlns=\"{AV}\"><device>{device}</device></GetRegistrationState>"
    );
    assert_eq!(text(&client.request(&state).await, "registrationState"), "REGISTERED");
    // Busied out: not a word until it is released.
    site.faults().busy_out("78001");
    assert_eq!(text(&client.request(&state).await, "registrationState"), "REGISTERED");
    assert_eq!(client.events.len(), 0);
    site.faults().release_busy_out("78001");
    let event = client.event("TerminalUnregisteredEvent").await;
    assert_eq!(text(&event, "code"), "2018");
    assert_eq!(text(&client.request(&state).await, "registrationState"), "IDLE");
    // Forced out through the other AES.
    client.register(&device, "123456", 40000).await;
    let mut other = Client::login(site.aes_address(1)).await;
    other.phantom("78001", 41000).await;
    client.event("TerminalUnregisteredEvent").await;
    assert_eq!(site.registrations("78001"), 1);
    site.stop().await;
}

#[tokio::test]
async fn another_instance_of_an_agents_telephone_hears_it() {
    let site = Site::start(SiteConfig::demo(2, 1)).await.unwrap();
    let mut client = Client::login(site.aes_address(0)).await;
    let rtp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let device = client.device_instance("31001", 1).await;
    client.monitor(&device, "device").await;
    let port = rtp.local_addr().unwrap().port();
    let answer = client.register_as(&device, "31001", port, "INDEPENDENT", "g711U").await;
    assert!(answer.contains("signalingEncryption"), "{answer}");
    let call = site.switch().inbound_call("5551230001", "31001").unwrap();
    site.switch().answer("31001").unwrap();
    assert_eq!(text(&client.event("MediaStartEvent").await, "codec"), "g711U");
    let mut buffer = [0; 400];
    let len = timeout(LIMIT, rtp.recv(&mut buffer)).await.unwrap().unwrap();
    let code = simulator::tone::read_at(simulator::tone::Law::Mu, &buffer[12..len]).unwrap();
    assert_eq!(code.serial, call.serial);
    assert_eq!(buffer[1] & 0x7f, 0, "payload type of mu-law");
    site.switch().hold("31001").unwrap();
    client.event("MediaStopEvent").await;
    site.switch().retrieve("31001").unwrap();
    client.event("MediaStartEvent").await;
    site.stop().await;
}

#[tokio::test]
async fn over_tls() {
    let mut config = SiteConfig::demo(2, 1);
    config.aes[0].tls = true;
    let site = Site::start(config).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let pem = site.tls_ca_pem(0);
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(tls));
    let socket = TcpStream::connect(site.aes_address(0)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = Client::over(connector.connect(name, socket).await.unwrap());
    client.start("", 60).await;
    client.station("31001").await;
    site.switch().inbound_call("5551230001", "31001").unwrap();
    client.event("DeliveredEvent").await;
    site.stop().await;
}
