//! TLS: with it, without it where it is needed, and with files that cannot be used.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use astlogger::audit::Clerk;
use astlogger::config::DiskShare;
use astlogger::web::{Limits, TlsFiles, WebConfig, WebError, serve};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use storage_core::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Client, answer, raw, within};
use super::node::{FakeNode, PASSWORD, users};

fn config(folder: &Path, listen: &str, tls: bool) -> WebConfig {
    let users_file = folder.join("users.toml");
    std::fs::write(&users_file, users()).unwrap();
    let tls = tls.then(|| TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") });
    let listen = listen.parse().unwrap();
    let clerk = Clerk::new(NodeId(1), folder);
    let (drills, limits) = (FakeNode::new(), Limits::default());
    WebConfig {
        listen,
        tls,
        insecure: false,
        users_file,
        oidc: None,
        clerk,
        drills,
        datadir: folder.to_owned(),
        mindiskfree: DiskShare::Bytes(0),
        limits,
    }
}

fn connector(folder: &Path) -> TlsConnector {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(connector.connect(name, tcp)).await.unwrap()
}

#[tokio::test]
async fn everything_works_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let connector = connector(folder.path());
    let config = config(folder.path(), "127.0.0.1:0", true);
    let server = serve(config, FakeNode::new()).await.unwrap();
    let address = server.address();

    let body = json!({ "user": "quentin", "password": PASSWORD }).to_string();
    let request = format!(
        "POST /api/signin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = connect(&connector, address).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    within(stream.read_to_end(&mut got)).await.unwrap();
    let signed_in = answer(&got);
    assert_eq!(signed_in.status, 200);
    assert!(signed_in.headers["set-cookie"].contains("; Secure"));

    let stream = connect(&connector, address).await;
    let mut client = Client::over(stream, "ws://localhost/ws").await.unwrap();
    let token = signed_in.json()["token"].clone();
    let reply = client.ask(json!({ "request": "authenticate", "token": token })).await;
    assert_eq!(reply["role"], "qa");

    // Who speaks in the clear is not understood, and harms nobody.
    let got = raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!got.starts_with(b"HTTP"), "{got:?}");
    assert_eq!(client.ask(json!({ "request": "clusterstatus" })).await["result"], "success");
    let stopping = tokio::spawn(server.stop());
    assert_eq!(client.closed().await, 1001);
    drop(client);
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn passwords_do_not_travel_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = config(folder.path(), "0.0.0.0:0", false);
    let refused = serve(open.clone(), FakeNode::new()).await.err().unwrap();
    assert!(matches!(refused, WebError::TlsNeeded(_)));
    assert!(refused.to_string().contains("al_insecure"));
    open.insecure = true;
    assert!(serve(open, FakeNode::new()).await.is_ok());
}

#[tokio::test]
async fn files_and_addresses_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let _connector = connector(folder.path());
    let good = config(folder.path(), "127.0.0.1:0", true);
    let server = serve(good.clone(), FakeNode::new()).await.unwrap();
    let taken = config(folder.path(), &server.address().to_string(), true);
    let error = serve(taken, FakeNode::new()).await.err().unwrap();
    assert!(matches!(error, WebError::Listen { .. }));
    assert!(error.to_string().contains(&server.address().to_string()));

    let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    for (file, text) in [
        ("key.pem", other.signing_key.serialize_pem()),
        ("key.pem", "nothing".to_owned()),
        ("cert.pem", String::new()),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
        let error = serve(good.clone(), FakeNode::new()).await.err().unwrap();
        assert!(matches!(error, WebError::Tls { .. }), "{error}");
    }
    std::fs::remove_file(folder.path().join("cert.pem")).unwrap();
    let error = serve(good, FakeNode::new()).await.err().unwrap();
    assert!(error.to_string().contains("cert.pem"), "{error}");
}

#[tokio::test]
async fn new_files_are_shown_to_new_connections_and_broken_ones_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let first = connector(folder.path());
    let server = serve(config(folder.path(), "127.0.0.1:0", true), FakeNode::new()).await.unwrap();
    let address = server.address();
    let certificate = server.certificate().unwrap();
    let stream = connect(&first, address).await;
    let mut client = Client::over(stream, "ws://localhost/ws").await.unwrap();
    assert_eq!(client.authenticate("quentin", PASSWORD).await["result"], "success");

    let second = connector(folder.path());
    certificate.renew().unwrap();
    connect(&second, address).await;
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    assert!(within(first.connect(name, tcp)).await.is_err(), "who trusts the old one only");
    assert_eq!(client.ask(json!({ "request": "clusterstatus" })).await["result"], "success");

    std::fs::write(folder.path().join("key.pem"), "nothing").unwrap();
    let error = certificate.renew().unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    connect(&second, address).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off_and_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let connector = connector(folder.path());
    let mut config = config(folder.path(), "127.0.0.1:0", true);
    config.limits.head_within = Duration::from_secs(1);
    let server = serve(config, FakeNode::new()).await.unwrap();
    let address = server.address();
    // Nothing, and the head of a ClientHello of 256 bytes.
    let mut held = Vec::new();
    for begun in [&[][..], &[0x16, 0x03, 0x01, 0x01, 0x00, 0x01]] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(begun).await.unwrap();
        held.push(tcp);
    }
    connect(&connector, address).await;
    for mut tcp in held {
        let mut got = Vec::new();
        within(tcp.read_to_end(&mut got)).await.unwrap();
        assert!(got.is_empty(), "{got:?}");
    }
}
