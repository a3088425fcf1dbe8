//! Two primitive recorders behind two AES put a phantom into every call, while people telephone in
//! every way. In the end the switch's books and what came over the sockets agree frame by frame.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CSTA, Client, root, text};
use simulator::tone::{self, Law};
use simulator::{Mix, Site, SiteConfig, TrafficPlan};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

/// Frames heard: phantom and serial to frame numbers in order of arrival.
type Heard = Arc<Mutex<BTreeMap<(String, u32), Vec<u32>>>>;

/// A recorder without any finesse: it asks the switch about everything all the time.
struct Robot {
    client: Client,
    free: Vec<String>,
    /// Phantom extension to the call it is in.
    busy: BTreeMap<String, String>,
    prefix: &'static str,
}

impl Robot {
    async fn start(
        site: &Site,
        aes: usize,
        first: u32,
        prefix: &'static str,
        heard: &Heard,
    ) -> Self {
        let mut client = Client::login(site.aes_address(aes)).await;
        let mut free = Vec::new();
        for number in first..first + 12 {
            let extension = number.to_string();
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = socket.local_addr().unwrap().port();
            client.phantom(&extension, port).await;
            tokio::spawn(listen(extension.clone(), socket, Arc::clone(heard)));
            free.push(extension);
        }
        for station in &site.config().station_list().unwrap() {
            client.station(station).await;
        }
        Self { client, free, busy: BTreeMap::new(), prefix }
    }

    async fn run(mut self, done: Arc<Mutex<bool>>) {
        while !*done.lock().unwrap() || !self.busy.is_empty() {
            self.join_new_calls().await;
            self.leave_old_calls().await;
        }
    }

    async fn join_new_calls(&mut self) {
        if let Ok(message) = timeout(Duration::from_millis(2), self.client.read()).await {
            self.client.events.push_back(message.1);
        }
        let events: Vec<String> = self.client.events.drain(..).collect();
        for event in events.iter().filter(|event| root(event) == "EstablishedEvent") {
            let call = text(event, "callID");
            let recorder = text(event, "deviceID").starts_with("78");
            if recorder || self.busy.values().any(|other| *other == call) {
                continue;
            }
            let phantom = self.free.pop().expect("a free phantom");
            let answer = self.client.join(&call, &format!("{phantom}:cm1:0.0.0.0:0")).await;
            if root(&answer) == "SingleStepConferenceCallResponse" {
                self.busy.insert(phantom, call);
            } else {
                self.free.push(phantom);
            }
        }
    }

    /// A phantom leaves with the last but one person, or when another of ours is in the call.
    async fn leave_old_calls(&mut self) {
        for phantom in self.busy.keys().cloned().collect::<Vec<_>>() {
            let device = format!("{phantom}:cm1:0.0.0.0:0");
            let place = self
                .client
                .request(&format!(
                    "<SnapshotDevice xmlns=\"{CSTA}\"><snapshotObject>{device}</snapshotObject>\
                     </SnapshotDevice>"
                ))
                .await;
            let call = text(&place, "callID");
            let all = self
                .client
                .request(&format!(
                    "<SnapshotCall xmlns=\"{CSTA}\"><snapshotObject><callID>{call}</callID>\
                     </snapshotObject></SnapshotCall>"
                ))
                .await;
            // Calling and called number come behind the parties.
            let all = all.split("</crossRefIDorSnapshotData>").next().unwrap();
            let parties: BTreeSet<&str> = all
                .split("bitRate=\"constant\">")
                .skip(1)
                .filter_map(|rest| rest.split('<').next())
                .collect();
            let (ours, people): (Vec<&str>, Vec<&str>) =
                parties.iter().partition(|device| device.starts_with("78"));
            let people = people.len();
            let double = ours
                .iter()
                .any(|other| other.starts_with(self.prefix) && **other < *phantom.as_str());
            self.busy.insert(phantom.clone(), call.clone());
            if people < 2 || double {
                let answer = self.client.clear(&call, &device).await;
                if !call.is_empty() && root(&answer) == "CSTAErrorCode" {
                    // The call has just been merged into another: look again.
                    continue;
                }
                self.busy.remove(&phantom);
                self.free.insert(0, phantom);
            }
        }
    }
}

async fn listen(phantom: String, socket: UdpSocket, heard: Heard) {
    let mut buffer = [0; 400];
    while let Ok(len) = socket.recv(&mut buffer).await {
        if let Some(code) = tone::read_at(Law::A, &buffer[12..len]) {
            let mut heard = heard.lock().unwrap();
            heard.entry((phantom.clone(), code.serial)).or_default().push(code.frame);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_of_the_switch_agree_with_what_was_heard() {
    let site = Site::start(SiteConfig::demo(14, 2)).await.unwrap();
    let heard = Heard::default();
    let done = Arc::new(Mutex::new(false));
    let mut robots = Vec::new();
    for (aes, first, prefix) in [(0, 78001, "780"), (1, 78501, "785")] {
        let robot = Robot::start(&site, aes, first, prefix, &heard).await;
        robots.push(tokio::spawn(robot.run(Arc::clone(&done))));
    }
    let plan = TrafficPlan {
        calls: 30,
        concurrent: 5,
        seed: 11,
        mix: Mix::EVERYTHING,
        talk_ms: (300, 700),
        ring_ms: 10,
        pace_ms: 20,
        linger_ms: (10, 50),
        dial: String::new(),
    };
    let outcome = site.run_traffic(plan).wait().await;
    *done.lock().unwrap() = true;
    for robot in robots {
        let ended = timeout(Duration::from_secs(10), robot).await;
        ended.unwrap_or_else(|_| panic!("calls that do not end: {:#?}", site.calls())).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while !site.calls().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.calls(), []);
    assert_eq!(site.stuck_phantoms(), Vec::<String>::new());
    assert_eq!(outcome.answered.len(), 30);

    // Whatever the books say was sent has been heard, in order and once.
    let mut heard = heard.lock().unwrap().clone();
    let mut expected: BTreeMap<(String, u32), Vec<u32>> = BTreeMap::new();
    for stream in site.streams().iter().filter(|stream| stream.sent > 0) {
        let (first, last) = (stream.first_frame.unwrap(), stream.last_frame.unwrap());
        assert_eq!(u64::from(last - first + 1), stream.sent, "{stream:?}");
        expected.entry((stream.phantom.clone(), stream.serial)).or_default().extend(first..=last);
    }
    for frames in heard.values_mut().chain(expected.values_mut()) {
        assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "{frames:?}");
    }
    assert_eq!(heard, expected);
    let recorded = site.history().iter().filter(|call| !call.streams.is_empty()).count();
    assert!(recorded >= 30, "{recorded} of {}", site.history().len());
    site.stop().await;
}
