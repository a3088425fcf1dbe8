//! A tiny DMCC client, written by hand for the tests: strings in, strings out.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const CSTA: &str = "http://www.ecma-international.org/standards/ecma-323/csta/ed3";
pub const APP: &str = "http://www.ecma-international.org/standards/ecma-354/appl_session";
pub const AV: &str = "http://www.avaya.com/csta";
pub const LIMIT: Duration = Duration::from_secs(5);

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

pub struct Client {
    socket: Box<dyn Socket>,
    next: u32,
    buffer: Vec<u8>,
    pub events: VecDeque<String>,
    pub session: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            next: 1,
            buffer: Vec::new(),
            events: VecDeque::new(),
            session: String::new(),
        }
    }

    /// Connects and logs in.
    pub async fn login(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.start("", 60).await;
        client
    }

    pub async fn start(&mut self, old: &str, cleanup: u32) -> String {
        self.start_as("Secret1!", old, cleanup, 180).await
    }

    pub async fn start_as(
        &mut self,
        password: &str,
        old: &str,
        cleanup: u32,
        duration: u32,
    ) -> String {
        let old = if old.is_empty() {
            String::new()
        } else {
            format!("<av:sessionID>{old}</av:sessionID>")
        };
        let answer = self
            .request(&format!(
                "<StartApplicationSession xmlns=\"{APP}\"><applicationInfo><applicationID>test\
                 </applicationID><applicationSpecificInfo><av:SessionLoginInfo xmlns:av=\"{AV}\">\
                 <av:userName>recuser</av:userName><av:password>{password}</av:password>\
                 <av:sessionCleanupDelay>{cleanup}</av:sessionCleanupDelay>{old}\
                 </av:SessionLoginInfo></applicationSpecificInfo></applicationInfo>\
                 <requestedProtocolVersions><protocolVersion>{CSTA}/privC</protocolVersion>\
                 </requestedProtocolVersions><requestedSessionDuration>{duration}\
                 </requestedSessionDuration></StartApplicationSession>"
            ))
            .await;
        self.session = text(&answer, "sessionID");
        answer
    }

    /// Sends one request and waits for its answer; events that come meanwhile are kept.
    pub async fn request(&mut self, body: &str) -> String {
        let invoke = self.send(body).await;
        loop {
            let (id, message) = timeout(LIMIT, self.read()).await.expect("an answer in time");
            if id == invoke {
                return message;
            }
            assert_eq!(id, "9999", "{message}");
            self.events.push_back(message);
        }
    }

    /// Sends one request without waiting.
    pub async fn send(&mut self, body: &str) -> String {
        let invoke = format!("{:04}", self.next);
        self.next = self.next % 9998 + 1;
        let mut frame = vec![0, 0];
        frame.extend(u16::try_from(body.len() + 8).unwrap().to_be_bytes());
        frame.extend(invoke.as_bytes());
        frame.extend(body.as_bytes());
        self.socket.write_all(&frame).await.unwrap();
        self.socket.flush().await.unwrap();
        invoke
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// The next message, whatever it is. Panics at the end of the stream.
    pub async fn read(&mut self) -> (String, String) {
        self.try_read().await.expect("the stream goes on")
    }

    pub async fn try_read(&mut self) -> Option<(String, String)> {
        // What has been read stays in the buffer, so that a caller may give up in between.
        loop {
            if let Some(header) = self.buffer.first_chunk::<8>() {
                assert_eq!(header[..2], [0, 0]);
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                if self.buffer.len() >= length {
                    let frame: Vec<u8> = self.buffer.drain(..length).collect();
                    let invoke = String::from_utf8(frame[4..8].to_vec()).unwrap();
                    return Some((invoke, String::from_utf8_lossy(&frame[8..]).into_owned()));
                }
            }
            if self.socket.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next event of that name; others before it are dropped.
    pub async fn event(&mut self, name: &str) -> String {
        let wanted = |message: &str| root(message) == name;
        timeout(LIMIT, async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    if wanted(&event) {
                        return event;
                    }
                }
                let (_, message) = self.read().await;
                self.events.push_back(message);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {name} in time"))
    }

    /// Root names of all events that come until `last`, that one included.
    pub async fn events_until(&mut self, last: &str) -> Vec<String> {
        let mut names = Vec::new();
        timeout(LIMIT, async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    names.push(root(&event));
                    if root(&event) == last {
                        return;
                    }
                }
                let (_, message) = self.read().await;
                self.events.push_back(message);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {last} in time"));
        names
    }

    pub async fn device(&mut self, extension: &str) -> String {
        self.device_instance(extension, 0).await
    }

    pub async fn device_instance(&mut self, extension: &str, instance: u8) -> String {
        let answer = self
            .request(&format!(
                "<GetDeviceId xmlns=\"{AV}\"><switchName>cm1</switchName><extension>{extension}\
                 </extension><deviceInstance>{instance}</deviceInstance></GetDeviceId>"
            ))
            .await;
        text(&answer, "device")
    }

    pub async fn third_party(&mut self, extension: &str) -> String {
        let answer = self
            .request(&format!(
                "<GetThirdPartyDeviceId xmlns=\"{AV}\"><switchName>cm1</switchName><extension>\
                 {extension}</extension></GetThirdPartyDeviceId>"
            ))
            .await;
        text(&answer, "device")
    }

    /// Monitors a device for everything.
    pub async fn monitor(&mut self, device: &str, kind: &str) -> String {
        let flags: String = [
            "callCleared",
            "conferenced",
            "connectionCleared",
            "delivered",
            "diverted",
            "established",
            "failed",
            "held",
            "networkReached",
            "originated",
            "queued",
            "retrieved",
            "serviceInitiated",
            "transferred",
        ]
        .iter()
        .map(|flag| format!("<{flag}>true</{flag}>"))
        .collect();
        let answer = self
            .request(&format!(
                "<MonitorStart xmlns=\"{CSTA}\"><monitorObject><deviceObject>{device}\
                 </deviceObject></monitorObject><requestedMonitorFilter><callcontrol>{flags}\
                 </callcontrol><logicalDeviceFeature><agentLoggedOn>true</agentLoggedOn>\
                 <agentReady>true</agentReady><agentNotReady>true</agentNotReady>\
                 </logicalDeviceFeature></requestedMonitorFilter><monitorType>{kind}</monitorType>\
                 <extensions><privateData><private><AvayaEvents xmlns=\"{AV}\">\
                 <invertFilter>true</invertFilter><terminalUnregisteredEvent>\
                 <unregistered>true</unregistered></terminalUnregisteredEvent><mediaControl>\
                 <mediaStarted>true</mediaStarted><mediaStopped>true</mediaStopped></mediaControl>\
                 </AvayaEvents></private></privateData></extensions></MonitorStart>"
            ))
            .await;
        text(&answer, "monitorCrossRefID")
    }

    pub async fn register(&mut self, device: &str, password: &str, port: u16) -> String {
        self.register_as(device, password, port, "MAIN", "g711A").await
    }

    pub async fn register_as(
        &mut self,
        device: &str,
        password: &str,
        port: u16,
        dependency: &str,
        codec: &str,
    ) -> String {
        let body = register_request(device, password, port, dependency, codec);
        self.request(&body).await
    }

    /// Joins a phantom silently.
    pub async fn join(&mut self, call: &str, phantom: &str) -> String {
        self.request(&format!(
            "<SingleStepConferenceCall xmlns=\"{CSTA}\"><activeCall><callID>{call}</callID>\
             <deviceID>31001:cm1::0</deviceID></activeCall><deviceToJoin>{phantom}</deviceToJoin>\
             <participationType>silent</participationType></SingleStepConferenceCall>"
        ))
        .await
    }

    pub async fn clear(&mut self, call: &str, device: &str) -> String {
        self.request(&format!(
            "<ClearConnection xmlns=\"{CSTA}\"><connectionToBeCleared><deviceID>{device}\
             </deviceID><callID>{call}</callID></connectionToBeCleared></ClearConnection>"
        ))
        .await
    }

    /// Device, monitor and registration of a phantom, in that order.
    pub async fn phantom(&mut self, extension: &str, port: u16) -> String {
        let device = self.device(extension).await;
        self.monitor(&device, "device").await;
        let answer = self.register(&device, "123456", port).await;
        assert!(answer.contains("<signalingEncryption>"), "{answer}");
        device
    }

    /// Third-party device and monitor of a station.
    pub async fn station(&mut self, extension: &str) -> String {
        let device = self.third_party(extension).await;
        self.monitor(&device, "device").await
    }
}

pub fn register_request(
    device: &str,
    password: &str,
    port: u16,
    dependency: &str,
    codec: &str,
) -> String {
    format!(
        "<RegisterTerminalRequest xmlns=\"{AV}\"><device>{device}</device><loginInfo>\
         <forceLogin>true</forceLogin><password>{password}</password><mediaMode>CLIENT</mediaMode>\
         <dependencyMode>{dependency}</dependencyMode></loginInfo><localMediaInfo><rtpAddress>\
         <address>127.0.0.1</address><port>{port}</port></rtpAddress><rtcpAddress><address>\
         127.0.0.1</address><port>{}</port></rtcpAddress><codecs>{codec}</codecs>\
         <packetSize>20</packetSize><encryptionList>none</encryptionList></localMediaInfo>\
         </RegisterTerminalRequest>",
        port + 1
    )
}

/// Name of the root element.
pub fn root(message: &str) -> String {
    let start = message.rfind("?>").map_or(0, |at| at + 2);
    let name: String = message[start..]
        .trim_start()
        .trim_start_matches('<')
        .chars()
        .take_while(|c| !matches!(c, ' ' | '>' | '/'))
        .collect();
    name.rsplit(':').next().unwrap().to_owned()
}

/// Text of the first element of that name.
pub fn text(message: &str, name: &str) -> String {
    let open = format!("<{name}");
    let mut from = 0;
    while let Some(at) = message[from..].find(&open) {
        let rest = &message[from + at + open.len()..];
        if rest.starts_with([' ', '>']) {
            let inner = &rest[rest.find('>').unwrap() + 1..];
            return inner[..inner.find('<').unwrap()].to_owned();
        }
        from += at + open.len();
    }
    String::new()
}
