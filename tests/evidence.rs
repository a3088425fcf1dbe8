//! Evidence as people use it: `astlogger evidence` writes a bundle, and what its page says is done with the real
//! openssl and sha256sum, on a bundle that is whole and on ones that were changed; `astlogger verify` names what was
//! done to a manifest and to what it states.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use storage::audit_log::AuditLog;
use storage::countersigned::folder_of;
use storage::disk::RealDisk;
use storage::wav::Channels;
use storage::{Countersigned, Keys, Manifest, VoiceForm, VoiceStore};
use storage_core::audit::Entry;
use storage_core::g711::Law;
use storage_core::tombstone::{Deletion, Tombstone};
use storage_core::{NodeId, Recording, RecordingId, WallTime};
use tempfile::TempDir;

/// After the manifest began, so that what it does not state is seen to be added.
const MADE_MS: i64 = 4_000_000_000_000;

/// A data folder in which recordings are published.
struct Site {
    folder: TempDir,
    manifest: Arc<Manifest>,
    store: VoiceStore,
}

/// Another node of the group, which signs what it sees.
struct Peer {
    folder: TempDir,
    kept: Countersigned,
    seen: u64,
}

impl Peer {
    fn new(node: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let manifest = Arc::new(Manifest::open(folder.path(), NodeId(node)).unwrap());
        VoiceStore::open(folder.path()).unwrap();
        Self { kept: kept_in(folder.path(), &manifest), folder, seen: 0 }
    }

    /// Signs the node's newest checkpoint, and the node hears of it.
    fn signs(&mut self, site: &Site) {
        self.seen += 1;
        let newest = site.manifest.last_checkpoint().unwrap();
        assert!(self.kept.checkpoint(self.seen, NodeId(1), newest, false));
        let mut own = kept_in(site.folder.path(), &site.manifest);
        for answer in self.kept.settle().unwrap() {
            assert!(own.countersigned(answer.signed, answer.before).unwrap());
        }
        own.settle().unwrap();
    }

    fn dir(&self) -> &str {
        text_of(self.folder.path())
    }
}

fn kept_in(dir: &Path, manifest: &Arc<Manifest>) -> Countersigned {
    let kept = Countersigned::open(RealDisk::shared(), dir, Arc::clone(manifest), |path| {
        panic!("{} cannot be read", path.display());
    });
    kept.unwrap()
}

impl Site {
    fn new(keys: Keys) -> Self {
        let folder = TempDir::new().unwrap();
        let manifest = Arc::new(Manifest::open(folder.path(), NodeId(1)).unwrap());
        let store = VoiceStore::open(folder.path()).unwrap().with_keys(keys);
        let store = store.with_manifest(Arc::clone(&manifest));
        Self { folder, manifest, store }
    }

    /// Three recordings with a checkpoint after each, the first one not the first line.
    fn with_three() -> (Self, [Recording; 3]) {
        let site = Self::new(Keys::default());
        assert!(site.manifest.checkpoint().unwrap());
        let records = [1, 2, 3].map(|number| {
            let record = publish(&site.store, number, 1);
            assert!(site.manifest.checkpoint().unwrap());
            assert!(!site.manifest.checkpoint().unwrap(), "there is nothing new");
            record
        });
        (site, records)
    }

    /// The same, and two other nodes have signed the last two checkpoints, one of them both.
    fn countersigned() -> (Self, [Recording; 3], [Peer; 2]) {
        let site = Self::new(Keys::default());
        assert!(site.manifest.checkpoint().unwrap());
        let mut peers = [Peer::new(2), Peer::new(3)];
        let records = [1, 2, 3].map(|number| {
            let record = publish(&site.store, number, 1);
            assert!(site.manifest.checkpoint().unwrap());
            if number > 1 {
                peers[0].signs(&site);
            }
            if number > 2 {
                peers[1].signs(&site);
            }
            record
        });
        (site, records, peers)
    }

    fn dir(&self) -> &str {
        text_of(self.folder.path())
    }

    /// The only file with the manifest's lines.
    fn lines_file(&self) -> PathBuf {
        let listed = fs::read_dir(self.folder.path().join("manifest")).unwrap();
        let mut paths = listed.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|ending| ending == "jsonl")).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.lines_file()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn verify(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = astlogger(&[&["verify"], more, &[self.dir()]].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn astlogger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astlogger")).args(arguments).output().unwrap()
}

fn publish(store: &VoiceStore, number: i64, revision: u32) -> Recording {
    let id = RecordingId::new(WallTime::from_millis(MADE_MS + number), [7; 10]);
    let samples = vec![u8::try_from(number).unwrap(); 8000];
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(id, form, Channels::Mono, samples.len() as u64).unwrap();
    writer.write_g711(Law::A, &samples).unwrap();
    let started = id.made();
    let record: Recording = serde_json::from_value(json!({
        "recordingid": id, "revision": revision, "callids": ["1"], "extension": "2611", "agentid": "",
        "calling": "", "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "",
        "vdn": "", "split": "", "userdata": "", "parties": [], "started": started, "ended": started,
        "durationms": 1000, "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.1, "jitterms": 0.3, "clockdriftppm": 17.123_456_789 },
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false,
    }))
    .unwrap();
    store.publish_staged(&store.stage(writer.finish().unwrap(), record).unwrap()).unwrap()
}

/// The bundle of a recording, unpacked with the real tar.
fn bundle(site: &Site, id: RecordingId, more: &[&str]) -> (TempDir, PathBuf) {
    let out = TempDir::new().unwrap();
    let tar = out.path().join("evidence.tar");
    let id = id.to_string();
    let whole = [&["evidence", &id, "--dir", site.dir(), "--out", text_of(&tar)], more].concat();
    let made = astlogger(&whole);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let unpacked =
        Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(out.path()).output().unwrap();
    assert!(unpacked.status.success() && unpacked.stderr.is_empty(), "{unpacked:?}");
    let folder = out.path().join(&id);
    (out, folder)
}

/// Does what the page says, and tells what came of it.
fn follow_page(folder: &Path) -> (bool, String) {
    let page = fs::read_to_string(folder.join("INSTRUCTIONS.txt")).unwrap();
    let (_, rest) = page.split_once("--- begin of commands ---\n").unwrap();
    let (commands, _) = rest.split_once("--- end of commands ---").unwrap();
    let ran = Command::new("bash").args(["-c", commands]).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    (ran.status.success() && said.trim_end().ends_with("all in order"), said)
}

#[test]
fn a_third_party_finds_a_bundle_in_order_by_what_the_page_says() {
    let (site, records) = Site::with_three();
    for record in &records {
        let (_out, folder) = bundle(&site, record.recordingid, &[]);
        let (sound, said) = follow_page(&folder);
        assert!(sound, "{said}");
        assert!(folder.join("before.txt").exists());
    }
    let key =
        String::from_utf8(astlogger(&["evidence", "--public-key", "--dir", site.dir()]).stdout);
    let (_out, folder) = bundle(&site, records[0].recordingid, &[]);
    let page = fs::read_to_string(folder.join("INSTRUCTIONS.txt")).unwrap();
    let command = page.lines().find(|line| line.contains("od -An")).unwrap();
    let shown = Command::new("bash").args(["-c", command]).current_dir(&folder).output().unwrap();
    assert_eq!(key.unwrap().trim_end(), String::from_utf8(shown.stdout).unwrap());
}

#[test]
fn a_manifest_that_begins_with_the_recording_has_no_checkpoint_before() {
    let site = Site::new(Keys::default());
    let record = publish(&site.store, 1, 1);
    let early = astlogger(&["evidence", &record.recordingid.to_string(), "--dir", site.dir()]);
    assert_eq!(early.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&early.stderr).contains("not covered by a checkpoint yet"));
    site.manifest.checkpoint().unwrap();
    let (_out, folder) = bundle(&site, record.recordingid, &[]);
    assert!(!folder.join("before.txt").exists());
    let (sound, said) = follow_page(&folder);
    assert!(sound, "{said}");
}

#[test]
fn of_several_revisions_the_last_one_is_in_the_bundle() {
    let (site, records) = Site::with_three();
    publish(&site.store, 1, 2);
    site.manifest.checkpoint().unwrap();
    let (_out, folder) = bundle(&site, records[0].recordingid, &[]);
    let (sound, said) = follow_page(&folder);
    assert!(sound, "{said}");
    let record: Value =
        serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!(record["revision"], 2);
    assert_eq!(site.verify(&[]).0, Some(0));
}

#[test]
fn an_encrypted_recording_is_handed_out_plain() {
    let keys = TempDir::new().unwrap();
    let file = keys.path().join("keys");
    let made = astlogger(&["key", "new", "--file", text_of(&file), "--name", "k1"]);
    assert!(made.status.success());
    let site = Site::new(Keys::load(&file).unwrap());
    let record = publish(&site.store, 1, 1);
    site.manifest.checkpoint().unwrap();
    let (_out, folder) = bundle(&site, record.recordingid, &["--key-file", text_of(&file)]);
    let (sound, said) = follow_page(&folder);
    assert!(sound, "{said}");
    assert_eq!(site.verify(&["--key-file", text_of(&file)]).0, Some(0));
}

/// Changes one file of a bundle.
fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    edit_file(&folder.join(name), change);
}

fn edit_file(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "nothing was changed in {}", path.display());
    fs::write(path, bytes).unwrap();
}

/// Something else for a digit of a hash or of a number.
fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
}

#[test]
fn the_page_finds_each_kind_of_change() {
    let (site, records) = Site::with_three();
    type Change = fn(&Path);
    let changes: [(&str, &str, Change); 9] = [
        ("audio", "voice.wav", |folder| edit(folder, "voice.wav", |bytes| bytes[5000] ^= 1)),
        ("record", "record.json", |folder| {
            edit(folder, "record.json", |bytes| flip(bytes, 60));
        }),
        ("line", "line of manifest.jsonl", |folder| {
            edit(folder, "manifest.jsonl", |bytes| {
                let at = bytes.len() - 150;
                flip(bytes, at);
            });
        }),
        ("removed line", "line of manifest.jsonl", |folder| {
            edit(folder, "manifest.jsonl", |bytes| {
                let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                bytes.drain(..=end);
            });
        }),
        ("removed last line", "another list", |folder| {
            edit(folder, "manifest.jsonl", |bytes| {
                let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                bytes.truncate(end + 1);
            });
        }),
        ("checkpoint", "signature of checkpoint", |folder| {
            edit(folder, "checkpoint.txt", |bytes| flip(bytes, 40));
        }),
        ("signature", "signature of checkpoint", |folder| {
            edit(folder, "checkpoint.sig", |bytes| bytes[20] ^= 1);
        }),
        ("signature before", "signature of before", |folder| {
            edit(folder, "before.sig", |bytes| bytes[20] ^= 1);
        }),
        ("rolled back", "another list", |folder| {
            fs::copy(folder.join("before.txt"), folder.join("checkpoint.txt")).unwrap();
            fs::copy(folder.join("before.sig"), folder.join("checkpoint.sig")).unwrap();
        }),
    ];
    for (name, word, change) in changes {
        let (_out, folder) = bundle(&site, records[1].recordingid, &[]);
        change(&folder);
        let (sound, said) = follow_page(&folder);
        assert!(!sound && said.contains("NOT IN ORDER") && said.contains(word), "{name}: {said}");
    }
}

#[test]
fn the_page_says_who_has_countersigned_and_finds_what_was_done_to_that() {
    let (site, records, _) = Site::countersigned();
    // Nobody has signed the first one's own checkpoint: its list goes on to the next.
    for (record, said_by) in records.iter().zip(["node 2", "node 2", "node 2 3"]) {
        let (_out, folder) = bundle(&site, record.recordingid, &[]);
        let (sound, said) = follow_page(&folder);
        assert!(sound && said.contains(&format!("countersigned by {said_by}\n")), "{said}");
    }
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("the signature of countersigned-3.txt", |folder| {
            edit(folder, "countersigned-3.sig", |bytes| bytes[9] ^= 1);
        }),
        ("the signature of countersigned-3.txt", |folder| {
            edit(folder, "countersigned-3.txt", |bytes| flip(bytes, 120));
        }),
        ("the signature of countersigned-2.txt", |folder| {
            fs::copy(folder.join("node-3.der"), folder.join("node-2.der")).unwrap();
        }),
        ("countersigned-2.txt is of another node", |folder| {
            for ending in ["txt", "sig"] {
                let from = folder.join(format!("countersigned-3.{ending}"));
                fs::copy(from, folder.join(format!("countersigned-2.{ending}"))).unwrap();
            }
            fs::copy(folder.join("node-3.der"), folder.join("node-2.der")).unwrap();
        }),
        ("another list", |folder| {
            // Back to the checkpoint before, which is signed as well.
            fs::copy(folder.join("before.txt"), folder.join("checkpoint.txt")).unwrap();
            fs::copy(folder.join("before.sig"), folder.join("checkpoint.sig")).unwrap();
        }),
        ("line of manifest.jsonl", |folder| {
            edit(folder, "manifest.jsonl", |bytes| {
                let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                bytes.drain(..=end);
            });
        }),
    ];
    for (word, change) in changes {
        let (_out, folder) = bundle(&site, records[2].recordingid, &[]);
        change(&folder);
        let (sound, said) = follow_page(&folder);
        assert!(!sound && said.contains("NOT IN ORDER") && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_countersignature_of_another_checkpoint_vouches_for_nothing() {
    let (site, records, _) = Site::countersigned();
    let (_out, third) = bundle(&site, records[2].recordingid, &[]);
    let (_other, second) = bundle(&site, records[1].recordingid, &[]);
    for ending in ["txt", "sig"] {
        let name = format!("countersigned-2.{ending}");
        fs::copy(second.join(&name), third.join(&name)).unwrap();
    }
    let (sound, said) = follow_page(&third);
    assert!(!sound && said.contains("countersigned-2.txt is of another checkpoint"), "{said}");
}

#[test]
fn countersignatures_that_were_removed_are_said_to_be_missing() {
    let (site, records, _) = Site::countersigned();
    let (_out, folder) = bundle(&site, records[2].recordingid, &[]);
    for name in ["countersigned-2.txt", "countersigned-2.sig", "countersigned-3.txt"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let (sound, said) = follow_page(&folder);
    assert!(sound && said.contains("not countersigned\n"), "{said}");

    let (code, said) = site.verify(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("2 of the checkpoints are countersigned (0 lines after the last), by node 2"),
        "{said}"
    );
    fs::remove_dir_all(folder_of(site.folder.path())).unwrap();
    let (code, said) = site.verify(&[]);
    assert!(code == Some(0) && said.contains("not countersigned: no other node"), "{said}");
    let (_out, folder) = bundle(&site, records[2].recordingid, &[]);
    let (sound, said) = follow_page(&folder);
    assert!(sound && said.contains("not countersigned\n"), "{said}");
}

#[test]
fn verify_knows_a_roll_back_by_what_others_have_signed_here_and_there() {
    let (site, _, peers) = Site::countersigned();
    let against = ["--against", peers[0].dir()];
    assert_eq!(site.verify(&against).0, Some(0));
    // Back to the first recording, with head and files, and signed anew with the right key.
    let lines = site.lines();
    fs::write(site.lines_file(), lines[..3].join("\n") + "\n").unwrap();
    fs::remove_file(site.folder.path().join("manifest/head")).unwrap();
    for number in [2, 3] {
        let id = RecordingId::new(WallTime::from_millis(MADE_MS + number), [7; 10]);
        let record = site.store.record(id, id.made()).unwrap();
        fs::remove_file(site.store.voice_path(&record)).unwrap();
        fs::remove_file(site.store.record_path(&record)).unwrap();
    }
    assert!(Manifest::open(site.folder.path(), NodeId(1)).unwrap().checkpoint().unwrap());
    let (code, said) = site.verify(&[]);
    assert!(
        code == Some(1) && said.contains("lacks 2 checkpoints that other nodes have countersigned"),
        "{said}"
    );
    fs::remove_dir_all(folder_of(site.folder.path())).unwrap();
    assert_eq!(site.verify(&[]).0, Some(0), "by itself it cannot be noticed");
    let (code, said) = site.verify(&against);
    assert!(code == Some(1) && said.contains("by node 2: it was rolled back"), "{said}");
    let stranger = TempDir::new().unwrap();
    let (code, _) = site.verify(&["--against", text_of(stranger.path())]);
    assert_eq!(code, Some(64), "there is nothing to compare with");
    let (code, said) = site.verify(&["--against", Peer::new(4).dir()]);
    assert!(code == Some(1) && said.contains("keeps nothing of node 1"), "{said}");
}

#[test]
fn verify_says_what_a_node_has_seen_of_another_and_names_altered_countersignatures() {
    let (site, _, mut peers) = Site::countersigned();
    let key = site.manifest.public_key();
    fs::remove_dir_all(site.folder.path().join("manifest")).unwrap();
    let anew =
        Site { manifest: Arc::new(Manifest::open(site.folder.path(), NodeId(1)).unwrap()), ..site };
    assert_ne!(anew.manifest.public_key(), key);
    anew.manifest.checkpoint().unwrap();
    assert!(peers[0].kept.checkpoint(
        9,
        NodeId(1),
        anew.manifest.last_checkpoint().unwrap(),
        false
    ));
    peers[0].kept.settle().unwrap();
    let output = astlogger(&["verify", peers[0].dir()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("of node 1 this node has seen that it signs with another key"), "{said}");
    let (code, said) = anew.verify(&["--against", peers[0].dir()]);
    assert!(
        code == Some(1) && said.contains("says of node 1 that it signs with another"),
        "{said}"
    );

    let (site, ..) = Site::countersigned();
    let folder = fs::read_dir(folder_of(site.folder.path())).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    edit_file(&file.unwrap(), |bytes| {
        // In JSON the end of a line is two characters.
        let at = bytes.windows(11).position(|word| word == b"\\nmanifest ").unwrap();
        flip(bytes, at + 11);
    });
    let (code, said) = site.verify(&[]);
    assert!(code == Some(1) && said.contains("holds 1 countersignatures that are wrong"), "{said}");
}

#[test]
fn verify_finds_a_sound_node_sound_and_says_how_far_it_is_signed() {
    let (site, _) = Site::with_three();
    publish(&site.store, 4, 1);
    let (code, said) = site.verify(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("8 lines of manifests with 4 signed checkpoints (1 lines after"),
        "{said}"
    );
    let (_, said) = site.verify(&["--json"]);
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&report["manifestlines"], &report["checkpoints"]), (&json!(8), &json!(4)));
}

#[test]
fn verify_says_what_became_of_a_recording() {
    type Change = fn(&Site, &[Recording; 3]);
    let cases: [(&str, Change); 5] = [
        ("was published here and removed since", |site, records| {
            fs::remove_file(site.store.record_path(&records[1])).unwrap();
            fs::remove_file(site.store.voice_path(&records[1])).unwrap();
        }),
        ("is another record than was published", |site, records| {
            edit_file(&site.store.record_path(&records[1]), |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace("2611", "2612").into_bytes();
            });
        }),
        ("names another voice file than was published", |site, records| {
            // Record and audio together, so that they agree with each other.
            let (one, two) = (&records[0], &records[1]);
            fs::copy(site.store.voice_path(one), site.store.voice_path(two)).unwrap();
            edit_file(&site.store.record_path(two), |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace(&two.sha256, &one.sha256).into_bytes();
            });
        }),
        ("has no line in the manifest", |site, _| {
            publish(&VoiceStore::open(site.folder.path()).unwrap(), 9, 1);
        }),
        ("is no public key", |site, _| {
            edit_file(&site.folder.path().join("manifest/node.der"), |bytes| bytes.truncate(7));
        }),
    ];
    for (word, change) in cases {
        let (site, records) = Site::with_three();
        change(&site, &records);
        let output = astlogger(&["verify", site.dir()]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_deletion_is_stated_and_what_lies_here_all_the_same_is_named() {
    let (site, records) = Site::with_three();
    let kept = [site.store.record_path(&records[1]), site.store.voice_path(&records[1])]
        .map(|path| (fs::read(&path).unwrap(), path));
    let (by, reason) = ("adam".to_owned(), "told to".to_owned());
    let deletion = Deletion { at: records[1].ended, node: NodeId(1), by, reason };
    site.store.delete(&Tombstone::of(&records[1], deletion)).unwrap();
    site.store.deletion_done(records[1].recordingid).unwrap();
    let (code, said) = site.verify(&[]);
    assert!(code == Some(0) && said.contains("1 recordings were deleted on purpose"), "{said}");
    let id = records[1].recordingid.to_string();
    let none = astlogger(&["evidence", &id, "--dir", site.dir()]);
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && said.contains("was deleted at") && said.contains("adam"));
    // A line of a deletion is a line like another: the bundle of what was published after it is in order.
    let record = publish(&site.store, 4, 1);
    site.manifest.checkpoint().unwrap();
    let (_out, folder) = bundle(&site, record.recordingid, &[]);
    let (sound, said) = follow_page(&folder);
    assert!(sound, "{said}");
    for (bytes, path) in kept {
        fs::write(path, bytes).unwrap();
    }
    let (code, said) = site.verify(&[]);
    assert!(code == Some(1) && said.contains("lies here again"), "{said}");
}

#[test]
fn tags_notes_and_legal_hold_are_nobodys_fault() {
    let (site, records) = Site::with_three();
    edit_file(&site.store.record_path(&records[1]), |bytes| {
        let mut record: Recording = serde_json::from_slice(bytes).unwrap();
        (record.tags, record.hold) = (vec!["fraud".to_owned()], true);
        *bytes = serde_json::to_vec_pretty(&record).unwrap();
    });
    let (code, said) = site.verify(&[]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn verify_names_what_was_done_to_the_manifest() {
    type Change = fn(&mut Vec<String>);
    let cases: [(&str, Change); 4] = [
        ("line 4 was altered", |lines| {
            lines[3] = lines[3].replace("\"revision\":1", "\"revision\":2");
        }),
        ("comes after lines that were removed: numbers 3 to 4", |lines| drop(lines.drain(2..4))),
        ("was cut: 3 lines are there, and 7 were written", |lines| lines.truncate(3)),
        ("was inserted", |lines| lines.push(lines[1].clone())),
    ];
    for (word, change) in cases {
        let (site, _) = Site::with_three();
        let mut lines = site.lines();
        change(&mut lines);
        fs::write(site.lines_file(), lines.join("\n") + "\n").unwrap();
        let (code, said) = site.verify(&[]);
        assert!(code == Some(1) && said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_manifest_that_was_written_anew_is_noticed_by_its_key_and_by_a_checkpoint_kept_elsewhere() {
    let (site, records) = Site::with_three();
    let (_out, folder) = bundle(&site, records[1].recordingid, &[]);
    let kept = folder.join("checkpoint.txt");
    let kept = ["--checkpoint", text_of(&kept)];
    let key = site.manifest.public_key().unwrap().to_string();
    assert_eq!(site.verify(&[&kept[..], &["--public-key", &key]].concat()).0, Some(0));
    publish(&site.store, 4, 1);
    site.manifest.checkpoint().unwrap();
    assert_eq!(site.verify(&kept).0, Some(0), "it goes on behind the one that was kept");

    // Back to the first recording: manifest, head and files, signed with the right key.
    let lines = site.lines();
    fs::write(site.lines_file(), lines[..3].join("\n") + "\n").unwrap();
    fs::remove_file(site.folder.path().join("manifest/head")).unwrap();
    for number in [2, 3, 4] {
        let id = RecordingId::new(WallTime::from_millis(MADE_MS + number), [7; 10]);
        let record = site.store.record(id, id.made()).unwrap();
        fs::remove_file(site.store.voice_path(&record)).unwrap();
        fs::remove_file(site.store.record_path(&record)).unwrap();
    }
    let again = Manifest::open(site.folder.path(), NodeId(1)).unwrap();
    assert!(again.checkpoint().unwrap());
    assert_eq!(site.verify(&[]).0, Some(0), "by itself it cannot be noticed");
    let (code, said) = site.verify(&kept);
    assert!(code == Some(1) && said.contains("was rolled back or written anew"), "{said}");

    // All of it anew, with another key.
    fs::remove_dir_all(site.folder.path().join("manifest")).unwrap();
    let forged = Manifest::open(site.folder.path(), NodeId(1)).unwrap();
    forged.published(&records[0]).unwrap();
    forged.checkpoint().unwrap();
    assert_eq!(site.verify(&[]).0, Some(0), "whoever has no key to compare believes it");
    let (code, said) = site.verify(&["--public-key", &key]);
    assert!(code == Some(1) && said.contains("is signed with the key"), "{said}");
}

fn asked_by(user: &str) -> Entry {
    Entry {
        at: WallTime::from_millis(1_795_000_000_000),
        node: NodeId(1),
        user: user.to_owned(),
        role: None,
        address: "127.0.0.1".to_owned(),
        action: "fetchrecording".to_owned(),
        recordingid: None,
        arguments: Value::Null,
        outcome: "success".to_owned(),
    }
}

#[test]
fn the_audit_log_is_signed_with_it() {
    let (site, _) = Site::with_three();
    let mut log = AuditLog::new(site.folder.path());
    for user in ["quentin", "susan", "otto"] {
        log.append(&asked_by(user)).unwrap();
    }
    assert!(site.manifest.checkpoint().unwrap(), "the audit log has grown");
    assert_eq!(site.verify(&[]).0, Some(0));
    // Chain and head are made anew, without the last two lines.
    let audit = site.folder.path().join("audit");
    let file = fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some()).unwrap();
    let first = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned() + "\n";
    fs::write(&file, first).unwrap();
    fs::remove_file(audit.join("head")).unwrap();
    let mut log = AuditLog::new(site.folder.path());
    log.append(&asked_by("nobody")).unwrap();
    let (code, said) = site.verify(&[]);
    assert!(code == Some(1) && said.contains("lacks line 3, which a checkpoint signs"), "{said}");
    log.append(&asked_by("nobody")).unwrap();
    let (code, said) = site.verify(&[]);
    assert!(code == Some(1) && said.contains("line 3 is not the one that was signed"), "{said}");
}
