//! A real Chromium without a window, driven over the DevTools protocol. It knows the browser, and nothing of
//! the pages. Each wait has a deadline.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Within this everything that a test waits for must have happened.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Processes that were killed are gone within this.
const GONE_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(30);

const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--window-size=1400,1000",
];

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Value>>>>;

/// The browser; it ends with this value.
pub struct Browser {
    process: Child,
    /// It and all that it starts.
    processes: Option<Pid>,
    _profile: tempfile::TempDir,
    wire: Wire,
}

#[derive(Clone)]
struct Wire {
    out: mpsc::UnboundedSender<String>,
    waiting: Waiting,
    events: Arc<Mutex<Vec<Value>>>,
    next: Arc<AtomicU64>,
}

impl Browser {
    /// Starts one with a profile of its own.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(program())
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it leaves behind goes with the profile.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .expect("chromium can be started; `./setup tests` installs it");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = timeout(LIMIT, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, address)) = line.split_once("DevTools listening on ") {
                    return address.trim().to_owned();
                }
            }
            panic!("the browser ended before it listened");
        });
        let address = address.await.expect("the browser says where it listens");
        // It must not block on what it still says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let processes = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let wire = Wire::connect(&address).await;
        Self { process, processes, _profile: profile, wire }
    }

    /// A page in a window of its own cookies, at this address.
    pub async fn open(&self, address: &str) -> Page {
        let context = self.wire.call(None, "Target.createBrowserContext", json!({})).await;
        let target =
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.wire.call(None, "Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.wire.call(None, "Target.attachToTarget", attach).await;
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { wire: self.wire.clone(), session };
        for domain in ["Page", "Runtime", "Log", "Audits", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.go(address).await;
        page
    }
}

impl Drop for Browser {
    /// Whoever lives of it writes into the profile that is removed next.
    fn drop(&mut self) {
        let Some(processes) = self.processes else { return };
        // It may have ended by itself.
        let _ = killpg(processes, Signal::SIGKILL);
        let deadline = Instant::now() + GONE_MAX;
        let lives = |process: &mut Child| process.try_wait().is_ok_and(|ended| ended.is_none());
        while (lives(&mut self.process) || killpg(processes, None).is_ok())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Wire {
    async fn connect(address: &str) -> Self {
        let host = address.trim_start_matches("ws://").split('/').next().expect("a host");
        let tcp = TcpStream::connect(host).await.expect("the browser listens");
        // Screenshots are great.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let connected = tokio_tungstenite::client_async_with_config(address, tcp, Some(config));
        let (socket, _) = connected.await.expect("DevTools answers");
        let (mut sink, mut stream) = socket.split();
        let (out, mut outgoing) = mpsc::unbounded_channel::<String>();
        let waiting = Waiting::default();
        let events = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(async move {
            while let Some(text) = outgoing.recv().await {
                if sink.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        });
        let (answers, heard) = (Arc::clone(&waiting), Arc::clone(&events));
        tokio::spawn(async move {
            while let Some(Ok(Message::Text(text))) = stream.next().await {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                match value["id"].as_u64() {
                    Some(id) => {
                        let waiting = answers.lock().unwrap().remove(&id);
                        // Who does not wait any more has failed already.
                        waiting.map(|waiting| waiting.send(value));
                    }
                    None => heard.lock().unwrap().push(value),
                }
            }
        });
        Self { out, waiting, events, next: Arc::default() }
    }

    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, answer);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.out.send(message.to_string()).expect("the browser runs");
        let answer = timeout(LIMIT, answered).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} is not answered"));
        let mut answer = answer.expect("the browser runs");
        assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }
}

/// A page in the browser.
pub struct Page {
    wire: Wire,
    session: String,
}

impl Page {
    /// A method of the protocol.
    pub async fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire.call(Some(&self.session), method, parameters).await
    }

    /// Loads an address.
    pub async fn go(&self, address: &str) {
        let gone = self.call("Page.navigate", json!({ "url": address })).await;
        assert!(gone.get("errorText").is_none(), "{address}: {gone}");
        // An address with another fragment only is the same document.
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// What an expression comes to; a promise is waited for.
    pub async fn eval(&self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", parameters).await;
        if let Some(thrown) = answer.get("exceptionDetails") {
            panic!("{expression}: {thrown}");
        }
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let deadline = Instant::now() + LIMIT;
        let asked = format!("try {{ Boolean({expression}) }} catch {{ false }}");
        while self.eval(&asked).await != json!(true) {
            if Instant::now() >= deadline {
                let shows = self.eval("document.body.innerText").await;
                panic!("never: {expression}; the page shows: {shows}; {:?}", self.complaints());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The text of an element.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?}).innerText")).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Clicks as a person does: at a place on the screen.
    pub async fn click(&self, selector: &str) {
        self.click_at(selector, 0.5).await;
    }

    /// Clicks so far from the left of an element, 0 to 1.
    pub async fn click_at(&self, selector: &str, share: f64) {
        self.until(&format!("document.querySelector({selector:?})")).await;
        let found = format!(
            "(() => {{ const e = document.querySelector({selector:?});
             e.scrollIntoView({{ block: 'center', behavior: 'instant' }});
             const r = e.getBoundingClientRect();
             return [r.left + r.width * {share}, r.top + r.height / 2]; }})()"
        );
        let place = self.eval(&found).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let pressed = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1,
                "buttons": i32::from(kind == "mousePressed"),
            });
            self.call("Input.dispatchMouseEvent", pressed).await;
        }
    }

    /// Puts a text into a field in the place of what is there.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.until(&format!("document.querySelector({selector:?})")).await;
        self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.focus(); e.select(); }})()"
        ))
        .await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Chooses from a list.
    pub async fn choose(&self, selector: &str, value: &str) {
        self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.value = {value:?};
             e.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
        ))
        .await;
    }

    /// Presses a key: its name, and the text that it makes, if any.
    pub async fn key(&self, key: &str, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut pressed = json!({ "type": kind, "key": key });
            if kind == "keyDown" && !text.is_empty() {
                pressed["text"] = text.into();
            }
            if key == "Enter" || key == "Tab" {
                pressed["windowsVirtualKeyCode"] = if key == "Tab" { 9 } else { 13 }.into();
            }
            self.call("Input.dispatchKeyEvent", pressed).await;
        }
    }

    /// How wide the window is, and whether the system is dark.
    pub async fn look(&self, width: u32, height: u32, dark: bool) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// Everything that the browser has complained of: errors on the console, exceptions, refused loads, and
    /// whatever the page's policy forbids. Answers with an error status count, too.
    pub fn complaints(&self) -> Vec<String> {
        let events = self.wire.events.lock().unwrap();
        let own = events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        own.filter_map(complaint).collect()
    }
}

fn complaint(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" => {
            let kind = parameters["type"].as_str()?;
            ["error", "warning", "assert"].contains(&kind).then(|| parameters["args"].to_string())
        }
        "Log.entryAdded" => {
            let entry = &parameters["entry"];
            (entry["level"] == "error").then(|| format!("{} {}", entry["text"], entry["url"]))
        }
        "Audits.issueAdded" => {
            let code = parameters["issue"]["code"].as_str()?;
            (code == "ContentSecurityPolicyIssue").then(|| parameters["issue"].to_string())
        }
        _ => None,
    }
}

fn program() -> String {
    std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned())
}
