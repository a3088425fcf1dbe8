//! Whole members: real sockets, real files, real threads.

mod clock_door;
mod site;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cluster::{CHUNK_MAX, Group, GroupAlarm, GroupFailure, JoinError, RequestError};
use cluster_core::{
    CallRef, Cause, Change, Claim, Command, Health, Outcome, Seal, Standing, Terms,
};
use storage_core::{CallId, Duty, NodeId, RecordingId, Role, SegmentId, WallTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use site::{Site, certify, files, until};

const SOON: Duration = Duration::from_secs(5);

fn claim(node: u16, number: u64, epoch: u64) -> Claim {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    entropy[9] = u8::try_from(node).unwrap();
    let from = WallTime::from_millis(i64::try_from(number).unwrap());
    Claim {
        terms: Terms::default(),
        call: CallRef {
            ucid: format!("0000100001{:010}", number + 1).parse().ok(),
            callid: CallId::new(&(number % 1000).to_string()),
            began: Some(from),
        },
        copy: 1,
        take: 1,
        node: NodeId(node),
        segment: SegmentId(number),
        recording: RecordingId::new(from, entropy),
        from,
        epoch,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_lead_dies_the_next_acts_at_once_and_the_lead_comes_back_for_new_calls() {
    let site = Site::new(3, false);
    let [active, backup, witness] = site.hot_standby().await;
    assert_eq!((active.duty(), backup.duty()), (Duty::Lead, Duty::Standby));
    assert_eq!(witness.duty(), Duty::None);

    let epoch = active.view().epoch;
    let outcome = active.claim(claim(1, 7, epoch), SOON).outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Claimed { standing: Standing::Holds, .. }), "{outcome:?}");

    let died = Instant::now();
    drop(active);
    let mut duty = backup.duty_watch();
    let grant = duty.wait_for(|grant| grant.duty == Duty::Lead).await.map(|grant| *grant).unwrap();
    let took = died.elapsed();
    println!("the backup acts after {took:?} ({grant:?})");
    assert!(took < Duration::from_millis(150), "{took:?}");
    assert!(grant.moves);
    until("it is granted", || !backup.view().duty.provisional).await;
    println!("granted after {:?}", died.elapsed());
    assert_eq!(backup.view().takeover.map(|takeover| takeover.cause), Some(Cause::Down));
    until("the call is to be joined", || {
        let grant = backup.view().duty;
        backup.ledger(|l| l.to_take_over(NodeId(2), &grant, |node| node != NodeId(1)).count()) == 1
    })
    .await;
    let again = claim(2, 7, backup.view().epoch);
    let outcome = backup.claim(Claim { segment: SegmentId(1), ..again }, SOON).outcome().await;
    let Ok(Outcome::Claimed { recording, standing: Standing::Holds, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(recording, claim(1, 7, 0).recording, "the same recording goes on");

    // From its disk, under its number, it becomes standby, proves itself, and leads new calls.
    let active = site.start(1, Role::Active).await;
    until("the active leads again", || active.duty() == Duty::Lead).await;
    until("everybody knows", || backup.duty() == Duty::Standby).await;
    let grant = *active.duty_watch().borrow();
    let cause = active.view().takeover.map(|takeover| takeover.cause);
    assert_eq!((cause, grant.moves), (Some(Cause::HandBack), false));
    let holder = active.ledger(|ledger| {
        ledger.recording(recording).and_then(|slot| slot.holder().map(|stretch| stretch.node))
    });
    assert_eq!(holder, Some(NodeId(2)), "the call in progress stays where it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_restarted_as_a_whole_remembers_its_ledger() {
    let site = Site::new(3, false);
    let groups = site.hot_standby().await;
    let claimed = groups[0].claim(claim(1, 1, 1), SOON).outcome().await.unwrap();
    let Outcome::Claimed { recording, .. } = claimed else { panic!("{claimed:?}") };
    let epoch = groups[1].view().epoch;
    drop(groups);
    let groups = [
        site.start(1, Role::Active).await,
        site.start(2, Role::Backup).await,
        site.start(3, Role::Witness).await,
    ];
    for group in &groups {
        until("it is in the group again", || group.view().quorum).await;
        until("the call is there", || group.ledger(|l| l.recording(recording).is_some())).await;
        assert!(group.view().epoch >= epoch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_claims_a_second_go_through() {
    let site = Site::new(3, false);
    let [active, backup, _witness] = site.hot_standby().await;
    let mut changes = backup.subscribe();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let mut answers = Vec::new();
    for number in 0..400 {
        beat.tick().await;
        let asked = Instant::now();
        let pending = active.claim(claim(1, number, 1), SOON);
        let submitted = asked.elapsed();
        answers.push(tokio::spawn(async move {
            let outcome = pending.outcome().await.unwrap();
            assert!(matches!(outcome, Outcome::Claimed { .. }));
            (submitted, asked.elapsed())
        }));
    }
    let mut took = Vec::new();
    let mut longest_submit = Duration::ZERO;
    for answer in answers {
        let (submitted, elapsed) = answer.await.unwrap();
        longest_submit = longest_submit.max(submitted);
        took.push(elapsed);
    }
    took.sort();
    println!(
        "claim confirmed: median {:?}, p99 {:?}; longest submit {longest_submit:?}",
        took[200], took[395]
    );
    assert!(took[395] < Duration::from_secs(1));
    let mut claimed = 0;
    while claimed < 400 {
        if let Change::Claimed { .. } = changes.recv().await.unwrap() {
            claimed += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_leaves_the_ledger_once_all_catalogs_list_it() {
    let site = Site::new(3, false);
    let [active, backup, _witness] = site.hot_standby().await;
    let claimed = active.claim(claim(1, 5, 1), SOON).outcome().await.unwrap();
    let Outcome::Claimed { recording, .. } = claimed else { panic!("{claimed:?}") };
    let stretch = cluster_core::StretchRef { recording, node: NodeId(1), segment: SegmentId(5) };
    let to = WallTime::from_millis(90_000);
    assert_eq!(active.end(stretch, to, SOON).outcome().await, Ok(Outcome::Done));
    let seal = Seal {
        recording,
        node: NodeId(1),
        revision: 1,
        from: WallTime::from_millis(5),
        to,
        used: vec![(NodeId(1), SegmentId(5))],
        covered: Vec::new(),
        sha256: [1; 32],
    };
    assert_eq!(active.seal(seal, SOON).outcome().await, Ok(Outcome::Done));
    assert_eq!(active.tasks(10).len(), 2, "drop the capture, list the recording");
    let listed = vec![(recording, 1)];
    assert_eq!(active.acknowledge(listed.clone(), SOON).outcome().await, Ok(Outcome::Done));
    assert!(!active.ledger(cluster_core::Ledger::is_empty));
    assert_eq!(backup.acknowledge(listed, SOON).outcome().await, Ok(Outcome::Done));
    until("the ledger is empty", || active.ledger(cluster_core::Ledger::is_empty)).await;
    // Whoever comes late meets the recording.
    let late = backup.claim(claim(2, 5, 1), SOON).outcome().await.unwrap();
    assert!(matches!(late, Outcome::Claimed { recording: r, .. } if r == recording), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_through_the_log() {
    let mut site = Site::new(3, true);
    let [active, backup, _witness] = site.hot_standby().await;
    let address = site.peers[&NodeId(3)].replace(":17403", ":17404");
    let add = Command::AddMember { node: NodeId(4), address: address.clone() };
    assert_eq!(backup.propose(add, SOON).await, Ok(Outcome::Done));
    let again = Command::AddMember { node: NodeId(4), address: address.clone() };
    assert!(matches!(backup.propose(again, SOON).await, Ok(Outcome::Refused(_))));
    site.peers.insert(NodeId(4), address);
    let more = [(NodeId(4), "127.0.0.1".to_owned())];
    let now = WallTime::from_millis(1_790_000_000_000);
    cluster::identity::init(&site.folder().join("pki"), &more, 3650, now).unwrap();
    let fourth = site.start(4, Role::Witness).await;
    until("the fourth votes", || {
        active.view().member(NodeId(4)).is_some_and(|member| member.voter)
    })
    .await;
    until("the fourth knows", || fourth.view().members.len() == 4).await;

    let remove = Command::RemoveMember { node: NodeId(2) };
    assert_eq!(active.propose(remove, SOON).await, Ok(Outcome::Done));
    until("the removed is told", || backup.failed().borrow().is_some() || backup.view().removed)
        .await;
    drop(backup);
    let removed = site.start(2, Role::Backup).await;
    let mut failed = removed.failed();
    let failure = tokio::time::timeout(SOON, failed.wait_for(Option::is_some)).await.unwrap();
    assert!(matches!(failure.unwrap().as_deref(), Some(GroupFailure::Removed { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_disk_under_an_old_number_is_refused() {
    let site = Site::new(3, false);
    let [_active, _backup, witness] = site.hot_standby().await;
    drop(witness);
    std::fs::remove_dir_all(site.dir(NodeId(3))).unwrap();
    let back = site.start(3, Role::Witness).await;
    let mut failed = back.failed();
    let failure = tokio::time::timeout(SOON, failed.wait_for(Option::is_some)).await.unwrap();
    let text = failure.unwrap().as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("another disk") && text.contains("never used"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_do_not_get_in() {
    let site = Site::new(3, true);
    let [active, backup, witness] = site.hot_standby().await;
    drop(witness);
    let foreign = site.folder().join("foreign");
    certify(&foreign, 3);
    let mut config = site.config(3, Role::Witness);
    config.dir = site.folder().join("intruder");
    config.tls = Some(files(&foreign, NodeId(3)));
    let intruder = Group::join(config).await.unwrap();
    let says = |group: &Group, words: &str| {
        group.alarms().borrow().iter().any(|alarm| alarm.to_string().contains(words))
    };
    until("the intruder is told why", || says(&intruder, "al_clusterca")).await;
    until("the members tell of it", || says(&active, "al_clusterca")).await;
    assert!(!intruder.view().quorum);
    until("the group goes on", || backup.view().quorum).await;

    // The right authority and another member's certificate.
    let mut config = site.config(3, Role::Witness);
    config.tls = Some(files(&site.folder().join("pki"), NodeId(2)));
    let error = Group::join(config).await.unwrap_err();
    assert!(matches!(error, JoinError::Tls(_)) && error.to_string().contains("node-3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_with_the_same_number_is_refused() {
    let site = Site::new(3, false);
    let [active, backup, witness] = site.hot_standby().await;
    // Whoever has not heard of the first yet cannot know that there is one.
    let is_heard = |group: &Group| group.view().members.iter().all(|member| member.reachable);
    until("all hear all", || [&active, &backup, &witness].into_iter().all(is_heard)).await;
    let mut config = site.config(3, Role::Witness);
    config.listen = config.listen.replace(":17403", ":17409");
    config.dir = site.folder().join("second");
    let second = Group::join(config).await.unwrap();
    let mut failed = second.failed();
    let failure = tokio::time::timeout(SOON, failed.wait_for(Option::is_some)).await.unwrap();
    let text = failure.unwrap().as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("two nodes have the number 3"), "{text}");
    // A vote under load may leave them without a leader for a moment.
    let goes_on = |group: &Group| group.view().quorum && group.view().leader.is_some();
    until("the group goes on", || [&active, &backup, &witness].into_iter().all(goes_on)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_and_garbage_are_answered_or_dropped() {
    let site = Site::new(3, false);
    let [active, _backup, _witness] = site.hot_standby().await;
    let address = active.listens().unwrap();
    // length, kind "hello", magic, version 9
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x0b\0\0\0\x01ALGP\x09\0rest").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("version 9") && text.contains("speaks 1"), "{text}");
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 64], b"\x05\0\0\0\x03abcd"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    let counters = active.counters().unwrap();
    until("all are counted", || counters.connections_refused.load(Ordering::Relaxed) >= 5).await;
    assert!(active.view().quorum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phantoms_that_overlap_are_refused_with_both_names() {
    let site = Site::new(3, false);
    let [_active, backup, _witness] = site.hot_standby().await;
    drop(backup);
    let mut config = site.config(2, Role::Backup);
    config.phantoms = vec!["78140-78160".to_owned()];
    let backup = Group::join(config).await.unwrap();
    let mut failed = backup.failed();
    let failure = tokio::time::timeout(SOON, failed.wait_for(Option::is_some)).await.unwrap();
    let text = failure.unwrap().as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("78140-78160") && text.contains("78101-78150"), "{text}");
    assert!(text.contains("Correct al_phantoms"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phantoms_that_were_those_of_a_member_that_is_gone_are_an_alarm_only() {
    let site = Site::new(3, false);
    let [active, backup, witness] = site.hot_standby().await;
    drop(active);
    until("the active is down", || witness.view().lead == Some(NodeId(2))).await;
    drop(backup);
    let mut config = site.config(2, Role::Backup);
    config.phantoms = vec!["78140-78160".to_owned()];
    let backup = Group::join(config).await.unwrap();
    until("it is told", || {
        let alarms = backup.alarms();
        let alarms = alarms.borrow();
        let refused = |alarm: &GroupAlarm| matches!(alarm, GroupAlarm::AnnounceRefused { .. });
        alarms.iter().any(refused)
    })
    .await;
    assert!(backup.failed().borrow().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_with_back_pressure_and_told_when_they_fail() {
    let site = Site::new(3, true);
    let [active, backup, witness] = site.hot_standby().await;
    let early = backup.request(NodeId(1), b"early".to_vec()).await.unwrap().whole(10).await;
    assert!(matches!(early, Err(RequestError::Failed { .. })));
    active.set_request_handler(|from, request, mut reply| async move {
        assert_eq!(from, NodeId(2));
        match &request[..] {
            b"long" => {
                for number in 0..64_u8 {
                    if reply.send(&vec![number; CHUNK_MAX]).await.is_err() {
                        return;
                    }
                }
                reply.end().await.unwrap();
            }
            b"broken" => {
                reply.send(b"half").await.unwrap();
            }
            b"talk" => {
                let (mut talk, mut ears) = reply.listen();
                talk.send(b"well?").await.unwrap();
                while let Ok(word) = ears.word().await {
                    talk.send(&word.repeat(2)).await.unwrap();
                }
            }
            _ => reply.fail("no such thing").await.unwrap(),
        }
    });
    let mut long = backup.request(NodeId(1), b"long".to_vec()).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = long.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert_eq!(bytes, 64 * CHUNK_MAX);
    let whole = backup.request(NodeId(1), b"long".to_vec()).await.unwrap().whole(1000).await;
    assert!(matches!(whole, Err(RequestError::AnswerTooLong(_))));
    let failed = backup.request(NodeId(1), b"?".to_vec()).await.unwrap().whole(1000).await;
    assert!(
        matches!(failed, Err(RequestError::Failed { reason, .. }) if reason == "no such thing")
    );
    // An answer to which the asker says something back, for as long as he likes.
    let mut talk = backup.request(NodeId(1), b"talk".to_vec()).await.unwrap();
    assert_eq!(talk.chunk().await.unwrap(), Some(b"well?".to_vec()));
    for word in [&b"one"[..], b"two"] {
        talk.tell(word).await.unwrap();
        assert_eq!(talk.chunk().await.unwrap(), Some(word.repeat(2)));
    }
    // More than a word is refused.
    talk.tell(&[0; 5000]).await.unwrap();
    assert!(matches!(talk.chunk().await, Err(RequestError::Broken { .. })));
    let broken = backup.request(NodeId(1), b"broken".to_vec()).await.unwrap().whole(1000).await;
    assert!(matches!(broken, Err(RequestError::Broken { .. })));
    drop(witness);
    let gone = backup.request(NodeId(3), Vec::new()).await;
    assert!(matches!(gone, Err(RequestError::Unreachable { .. })));
    assert!(matches!(backup.request(NodeId(9), Vec::new()).await, Err(RequestError::NoPeer(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_thread_is_held_up_for_a_moment_is_heard_all_the_same() {
    const HELD_UP: Duration = Duration::from_millis(750);
    let site = Site::new(3, false);
    let [active, backup, witness] = site.hot_standby().await;
    let epoch = backup.view().epoch;
    // It waits where it applies the next entry, as it would for a slow disk.
    let reader = active.clone();
    let held = tokio::task::spawn_blocking(move || reader.read(|_| std::thread::sleep(HELD_UP)));
    backup.claim(claim(2, 1, epoch), SOON).outcome().await.unwrap();
    let seen = |group: &Group| group.view().member(NodeId(1)).is_some_and(|m| m.reachable && m.up);
    while !held.is_finished() {
        assert!(seen(&backup) && seen(&witness) && backup.duty() == Duty::Standby);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    held.await.unwrap();
    assert_eq!((backup.view().epoch, active.duty()), (epoch, Duty::Lead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_clock_is_minutes_off_is_named_and_stays_a_member() {
    const AHEAD_US: i64 = 180_000_000;
    let mut site = Site::new(3, false);
    let door = site.peers[&NodeId(2)].clone();
    let (host, port) = door.rsplit_once(':').unwrap();
    let listen = format!("{host}:{}", port.parse::<u16>().unwrap() + 100);
    clock_door::open(&door, listen.clone(), AHEAD_US).await;
    site.listen.insert(NodeId(2), listen);
    let [active, backup, witness] = site.hot_standby().await;
    let is_named = |group: &Group| {
        group.alarms().borrow().iter().any(|alarm| match alarm {
            GroupAlarm::ClockOff { node, offset_ms } => {
                *node == NodeId(2) && (offset_ms - AHEAD_US / 1000).abs() < 1_000
            }
            _ => false,
        })
    };
    for group in [&active, &witness] {
        until("the alarm is raised", || is_named(group)).await;
    }
    assert!(!is_named(&backup), "its own clock is no peer's");
    let offset = active.view().clock_offset_us[&NodeId(2)];
    assert!((offset - AHEAD_US).abs() < 1_000_000, "{offset}");
    // It is one group all the same, and the member takes over when it has to.
    let epoch = active.view().epoch;
    let outcome = backup.claim(claim(2, 1, epoch), SOON).outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Claimed { .. }), "{outcome:?}");
    until("all know of it", || active.ledger(|l| l.len()) == 1).await;
    drop(active);
    until("the backup leads", || backup.duty() == Duty::Lead).await;
    until("by the word of the group", || !backup.view().duty.provisional).await;
    assert!(is_named(&witness));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_group_of_three_costs_little_and_knows_its_clocks() {
    let site = Site::new(3, true);
    let [active, _backup, _witness] = site.hot_standby().await;
    let (before, began) = (cpu_ticks(), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = (cpu_ticks() - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    println!("idle: {:.1} % of a core for three members", used * 100.0);
    // Other tests may run in this process; the figure itself is a benchmark's matter.
    assert!(used < 0.6, "{used}");
    let view = active.view();
    for peer in [NodeId(2), NodeId(3)] {
        assert!(view.clock_offset_us[&peer].abs() < 20_000, "{:?}", view.clock_offset_us);
        assert!(view.round_trip_us[&peer] < 50_000);
    }
}

/// A member in a process of its own; see below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run as a child by other tests"]
async fn a_child() {
    let Ok(folder) = std::env::var("CHILD_FOLDER") else { return };
    let peers = std::env::var("CHILD_PEERS").unwrap();
    let peers = peers.split(',').zip(1..).map(|(address, n)| (NodeId(n), address.to_owned()));
    let site = Site::of(std::path::Path::new(&folder), peers.collect());
    let _group = site.start(1, Role::Active).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
}

struct Child(std::process::Child);

impl Child {
    fn start(site: &Site) -> Self {
        let peers: Vec<_> = site.peers.values().cloned().collect();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child", "--ignored"])
            .env("CHILD_FOLDER", site.folder())
            .env("CHILD_PEERS", peers.join(","))
            .stdout(std::process::Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let killed = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_lead_and_a_killed_one_are_replaced_in_time() {
    let site = Site::new(3, false);
    let mut child = Child::start(&site);
    let backup = site.start(2, Role::Backup).await;
    let witness = site.start(3, Role::Witness).await;
    let leads = |node| {
        let view = backup.view();
        view.lead == Some(NodeId(node)) && view.leader.is_some() && view.leader != view.lead
    };
    until("the child leads", || leads(1)).await;
    until("it is healthy", || backup.view().members.iter().all(|m| m.health == Some(Health::GOOD)))
        .await;
    child.signal("-STOP");
    let took = until("the backup acts for the hung", || backup.duty() == Duty::Lead).await;
    println!("hung: {took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
    child.signal("-CONT");
    until("the hung comes back and proves itself", || leads(1)).await;
    child.signal("-KILL");
    let took = until("the backup acts for the killed", || backup.duty() == Duty::Lead).await;
    println!("killed: {took:?}");
    assert!(took < Duration::from_millis(150), "{took:?}");
    child.0.wait().unwrap();
    child = Child::start(&site);
    until("the killed comes back", || leads(1)).await;
    drop((child, witness));
}

/// User and system time of this process in hundredths of a second (proc(5), `/proc/[pid]/stat`).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_node_alone_has_the_same_ledger() {
    let group = Group::alone(NodeId(1), Role::Backup);
    assert_eq!(group.duty(), Duty::Lead);
    let claimed = group.claim(claim(1, 3, 0), SOON).outcome().await.unwrap();
    assert!(matches!(claimed, Outcome::Claimed { standing: Standing::Holds, .. }));
    assert_eq!(group.report_health(Health::GOOD, SOON).outcome().await, Ok(Outcome::Done));
    assert!(matches!(group.request(NodeId(2), Vec::new()).await, Err(RequestError::Alone)));
}
