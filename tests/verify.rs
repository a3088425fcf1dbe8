//! `astlogger verify` on the command line: what it says of a voice folder, on which stream, and with which
//! code it ends. What it finds is tried in `storage/tests/verify.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use storage::audit_log::AuditLog;
use storage::wav::Channels;
use storage::{Keys, Manifest, VoiceForm, VoiceStore};
use storage_core::audit::Entry;
use storage_core::g711::Law;
use storage_core::{NodeId, Recording, RecordingId, WallTime};
use tempfile::TempDir;

fn astlogger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astlogger")).args(arguments).output().unwrap()
}

fn verify(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = astlogger(&[&["verify"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A recording of these samples, published below a data folder; its voice file.
fn published(dir: &Path, keys: Keys, number: i64, samples: &[u8]) -> PathBuf {
    let id = RecordingId::new(WallTime::from_millis(1_795_000_000_000 + number), [7; 10]);
    let store = VoiceStore::open(dir).unwrap().with_keys(keys);
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(id, form, Channels::Mono, samples.len() as u64).unwrap();
    writer.write_g711(Law::A, samples).unwrap();
    let started = id.made();
    let record: Recording = serde_json::from_value(json!({
        "recordingid": id, "callids": ["1"], "extension": "2611", "agentid": "", "calling": "",
        "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "",
        "split": "", "userdata": "", "parties": [], "started": started, "ended": started,
        "durationms": 1, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0 },
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
    }))
    .unwrap();
    let record = store.publish_staged(&store.stage(writer.finish().unwrap(), record).unwrap());
    store.voice_path(&record.unwrap())
}

#[test]
fn a_sound_folder_ends_with_0_and_each_fault_is_a_line_and_ends_with_1() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (
        published(dir.path(), Keys::default(), 1, &[1; 100]),
        published(dir.path(), Keys::default(), 2, &[2; 100]),
    );
    let place = path(dir.path());
    let (code, out, err) = verify(&[place]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("2 recordings, "), "{out}");
    assert!(out.ends_with(": as their records say\n"), "{out}");

    let bytes = fs::read(&one).unwrap();
    fs::write(&one, fs::read(&two).unwrap()).unwrap();
    fs::remove_file(&two).unwrap();
    let added = one.with_file_name("cat.jpg");
    fs::write(&added, "x").unwrap();
    let (code, out, _) = verify(&[place]);
    assert_eq!(code, Some(1), "{out}");
    for line in [
        format!("swapped: {} is the voice file of", one.display()),
        format!("missing: {} is missing", two.display()),
        format!("added: {} ", added.display()),
        "2 recordings, 0 bytes of audio, 1 missing, 1 swapped, 1 added".to_owned(),
    ] {
        assert!(out.lines().any(|said| said.starts_with(&line)), "{line}\n{out}");
    }
    let (code, out, err) = verify(&["--json", place]);
    let said: Value = serde_json::from_str(out.trim_end()).expect("one line");
    assert_eq!((code, &said["ok"], &said["recordings"]), (Some(1), &json!(false), &json!(2)));
    let counts: Vec<_> = ["missing", "altered", "swapped", "added", "leftover", "unchecked"]
        .map(|kind| said[kind].as_u64())
        .to_vec();
    assert_eq!(counts, [Some(1), Some(0), Some(1), Some(1), Some(0), Some(0)], "{said}");
    assert_eq!((said["faults"].as_array().map(Vec::len), err.lines().count()), (Some(3), 3));

    fs::write(&one, bytes).unwrap();
    // A folder inside, and two at once.
    fs::remove_file(added).unwrap();
    let inside = path(one.parent().unwrap());
    assert_eq!(verify(&[inside, inside]).0, Some(1), "one is still missing");
    fs::remove_file(two.with_extension("json")).unwrap();
    let (code, out, _) = verify(&[inside, inside]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn what_is_named_twice_is_counted_once() {
    let dir = TempDir::new().unwrap();
    let file = published(dir.path(), Keys::default(), 1, &[1; 100]);
    audited(dir.path());
    assert!(Manifest::open(dir.path(), NodeId(1)).unwrap().checkpoint().unwrap());
    let (place, audit) = (dir.path(), dir.path().join("audit"));
    let link = dir.path().with_extension("link");
    std::os::unix::fs::symlink(place, &link).unwrap();
    let (voice, inside, dotted) = (place.join("voice"), file.parent().unwrap(), place.join("."));
    let counts = |places: &[&Path]| {
        let places: Vec<&str> = places.iter().map(|place| path(place)).collect();
        let (_, out, _) = verify(&[&["--json"], &places[..]].concat());
        let said: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        ["recordings", "auditlines", "manifestlines", "added"].map(|name| said[name].as_u64())
    };
    let alone = counts(&[place]);
    assert_eq!(alone[..2], [Some(1), Some(3)]);
    assert!(alone[2] > Some(0), "{alone:?}");
    let cases: [&[&Path]; 4] = [
        &[place, place],
        &[place, &link, &dotted],
        &[place, &voice, inside, &audit],
        &[inside, &audit, place],
    ];
    for places in cases {
        assert_eq!(counts(places), alone, "{places:?}");
    }
    fs::remove_file(link).unwrap();
    assert_eq!(counts(&[inside, &voice])[..2], [Some(1), Some(0)]);
}

#[test]
fn what_it_cannot_do_is_said() {
    let dir = TempDir::new().unwrap();
    let key = dir.path().join("keys");
    assert!(astlogger(&["key", "new", "--file", path(&key), "--name", "k1"]).status.success());
    let data = dir.path().join("data");
    published(&data, Keys::load(&key).unwrap(), 1, &[1; 100]);
    let (code, out, _) = verify(&[path(&data)]);
    assert_eq!(code, Some(1));
    assert!(out.contains("unchecked: ") && out.contains("\"k1\""), "{out}");
    assert_eq!(verify(&["--key-file", path(&key), path(&data)]).0, Some(0));

    let (code, _, err) = verify(&[path(&dir.path().join("nowhere"))]);
    assert_eq!(code, Some(64));
    assert!(err.contains("nowhere is no folder"), "{err}");
    assert_eq!(verify(&[]).0, Some(64));
    assert_eq!(verify(&["--key-file", "k", "--config", "c", "."]).0, Some(64));
    assert_eq!(verify(&["--config", path(&dir.path().join("none.toml")), "."]).0, Some(78));
    let (code, help, _) = verify(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("is only noticed by what other nodes keep of it"), "{help}");
}

/// An audit log of three lines below a data folder; its file.
fn audited(dir: &Path) -> PathBuf {
    let mut log = AuditLog::new(dir);
    for user in ["quentin", "susan", "otto"] {
        let entry = Entry {
            at: WallTime::from_millis(1_795_000_000_000),
            node: NodeId(1),
            user: user.to_owned(),
            role: Some("qa".to_owned()),
            address: "127.0.0.1".to_owned(),
            action: "listrecordings".to_owned(),
            recordingid: None,
            arguments: Value::Null,
            outcome: "success".to_owned(),
        };
        log.append(&entry).unwrap();
    }
    let names = fs::read_dir(dir.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    names.into_iter().find(|path| path.extension().is_some()).unwrap()
}

#[test]
fn an_audit_log_that_was_changed_is_named_by_file_and_line() {
    let dir = TempDir::new().unwrap();
    published(dir.path(), Keys::default(), 1, &[1; 100]);
    let file = audited(dir.path());
    let folder = dir.path().join("audit");
    let (code, out, _) = verify(&[path(dir.path())]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("3 lines of audit logs, 0 of them wrong"), "{out}");
    let (code, _, _) = verify(&[path(&folder)]);
    assert_eq!(code, Some(0));

    let sound = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = sound.lines().collect();
    let cases = [
        (sound.replace("susan", "sonja"), "line 2 was altered"),
        (format!("{}\n{}\n", lines[0], lines[2]), "line 2 comes after lines that were removed"),
        (format!("{sound}{}\n", lines[0]), "line 4 was inserted"),
        (format!("{}\n", lines[0]), "was cut: 1 lines are there, and 3 were written"),
        (String::new(), "was cut: 0 lines"),
    ];
    for (text, said) in cases {
        fs::write(&file, text).unwrap();
        for place in [dir.path(), &folder] {
            let (code, out, _) = verify(&[path(place)]);
            assert_eq!(code, Some(1), "{said}");
            assert!(out.contains("altered: ") && out.contains(said), "{said}: {out}");
        }
    }
    let (code, out, _) = verify(&["--json", path(&folder)]);
    let report: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((code, &report["ok"], &report["altered"]), (Some(1), &json!(false), &json!(1)));
}
