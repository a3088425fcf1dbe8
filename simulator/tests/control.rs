//! The control port: calls and faults by lines of JSON.

use serde_json::Value;
use simulator::{Site, SiteConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

struct Port(BufReader<TcpStream>);

impl Port {
    async fn ask(&mut self, line: &str) -> Value {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

#[tokio::test]
async fn calls_and_faults_by_json() {
    let mut config = SiteConfig::demo(3, 1);
    config.control_port = Some(0);
    let site = Site::start(config).await.unwrap();
    let address = site.control_address().unwrap();
    let mut port = Port(BufReader::new(TcpStream::connect(address).await.unwrap()));

    let call = port.ask(r#"{"do":"call","from":"5551230001","to":"50100"}"#).await;
    assert_eq!(call["ok"], true);
    let answered = port.ask(r#"{"do":"answer","station":"31001"}"#).await;
    assert_eq!(answered["call"], call["call"]);
    let calls = port.ask(r#"{"do":"calls"}"#).await;
    assert_eq!(calls["calls"][0]["parties"][1]["device"], "31001");
    assert_eq!(calls["calls"][0]["parties"][1]["state"], "connected");
    let busy = port.ask(r#"{"do":"hold","station":"31002"}"#).await;
    assert_eq!(busy["error"], "station 31002 has no active call");
    for fine in [
        r#"{"do":"help"}"#,
        r#"{"do":"droprtp","share":0.1}"#,
        r#"{"do":"cut","aes":7,"ms":5}"#,
        r#"{"do":"agent","agent":"7002","state":"notready","reason":3}"#,
        r#"{"do":"hangup","station":"31001"}"#,
    ] {
        assert_eq!(port.ask(fine).await["ok"], true, "{fine}");
    }
    for bad in [
        "",
        "x",
        "{}",
        r#"{"do":"fly"}"#,
        r#"{"do":"hold"}"#,
        r#"{"do":"answer","station":"1","x":1}"#,
    ] {
        assert_eq!(port.ask(bad).await["ok"], false, "{bad}");
    }
    let broken = port.ask(r#"{"do":"cut","aes":"x"}"#).await;
    assert!(broken["error"].as_str().unwrap().starts_with("invalid type"), "{broken}");
    let history = port.ask(r#"{"do":"history"}"#).await;
    assert_eq!(history["calls"][0]["answered"], true);
    site.stop().await;
}
