//! An archive behind SFTP, set up with the commands of `docs/archive.md`: recorders under the unit of their package put
//! recordings onto another machine's SSH server, and play from there what has gone from their disks.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use astlogger::demo::Published;
use serde_json::{Value, json};
use storage_core::{NodeId, Recording};

use super::common::group::sha256;
use super::site::{Machines, NAS, ONE, TWO};

/// The archive there.
const FOLDER: &str = "/srv/recordings";
/// More than any disk has: room is always short.
const MORE_THAN_ANY: &str = "900 TiB";

/// What the kernel says of each `ssh` that runs on a machine.
const SSH_PROCESSES: &str = "for one in /proc/[0-9]*; do \
    [ \"$(cat $one/comm 2>&1)\" != ssh ] || cat $one/cgroup $one/status; done";

/// From the commands of the page to a recording that is heard from the archive.
pub async fn archived(machines: &mut Machines) {
    machines.at(NAS).run("ssh-keygen -q -A && systemctl start ssh");
    machines.follow("archive.md");
    for node in [ONE, TWO] {
        machines.at(node).run("systemctl restart astlogger");
        machines.serves(node).await;
    }
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 1).await;
    machines.hang_up(&calls);
    machines.published(2).await;
    // The first was there before the archive was.
    machines.until("all are archived", |all| is_archived(all, 2)).await;
    let heard: Vec<_> = machines.recordings_at(lead).into_iter().map(|(_, own)| own).collect();
    for record in &heard {
        assert_lies(&machines.at(NAS).file(FOLDER), record);
    }
    machines.assert_right().await;
    machines.tell("archived");

    for node in [other, lead] {
        machines.keep_free(node, MORE_THAN_ANY);
        machines.at(node).run("systemctl daemon-reload && systemctl restart astlogger");
        machines.serves(node).await;
    }
    machines.until("they make room", |all| voices(all) == 0).await;
    for node in [ONE, TWO] {
        for record in &heard {
            let audio = fetched(machines, node, record);
            assert_eq!(sha256(&audio), record.sha256, "node {node}: {record:?}");
        }
        assert_shut_in(&machines.at(node).run(SSH_PROCESSES));
    }
    assert_eq!(voices(machines), 0, "nothing is fetched back");
    machines.tell("heard from the archive");
}

fn is_archived(machines: &Machines, count: usize) -> bool {
    [ONE, TWO].into_iter().all(|node| {
        let own = machines.recordings_at(node);
        own.len() == count && own.iter().all(|(_, record)| record.archived.is_some())
    })
}

/// How many voice files the recorders have.
fn voices(machines: &Machines) -> usize {
    let own = |node| machines.recordings_at(node).into_iter();
    own(ONE).chain(own(TWO)).filter(|(voice, _): &Published| voice.exists()).count()
}

/// The server has the voice file.
fn assert_lies(folder: &Path, record: &Recording) {
    let noted = record.archived.as_ref().expect("it is archived");
    let below = format!("sftp://recorder@nas:22{FOLDER}/");
    let name = noted.place.strip_prefix(&below).unwrap_or_else(|| panic!("{noted:?}"));
    let place: PathBuf = folder.join(name);
    let bytes = std::fs::read(&place).unwrap_or_else(|error| panic!("{place:?}: {error}"));
    assert_eq!((sha256(&bytes), bytes.len() as u64), (record.sha256.clone(), noted.bytes));
}

/// The `ssh` that the recorder has started lives under its unit, and may as little.
fn assert_shut_in(process: &str) {
    for so in
        ["/astlogger.service", "\nNoNewPrivs:\t1", "\nSeccomp:\t2", "\nCapBnd:\t0000000000000000"]
    {
        assert!(process.contains(so), "{so:?} is not in {process}");
    }
}

/// What the node plays.
fn fetched(machines: &Machines, node: NodeId, record: &Recording) -> Vec<u8> {
    let user = json!({ "user": "anna", "password": "a long sentence is a good password" });
    let said = asked(machines, node, "POST /api/signin", "", &user.to_string());
    let said: Value = serde_json::from_slice(&said).expect("JSON");
    let header = format!("Authorization: Bearer {}\r\n", said["token"].as_str().expect("a token"));
    let line = format!("GET /api/recordings/{}/audio", record.recordingid);
    asked(machines, node, &line, &header, "")
}

fn asked(machines: &Machines, node: NodeId, line: &str, header: &str, body: &str) -> Vec<u8> {
    let mut stream = machines.at(node).connect(8080);
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {header}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    answer.split_off(end + 4)
}
