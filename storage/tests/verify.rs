//! `storage::verify`: everything that can be wrong with a voice folder is named, and nothing else.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{keys, recording, recording_id};
use storage::lock::DataLock;
use storage::verify::{Fault, FaultKind, Told, Verified, VerifyError, verify};
use storage::wav::Channels;
use storage::{Keys, VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::{Recording, naming};
use tempfile::TempDir;

const DAY: i64 = 1_795_000_000_000;

struct Folder {
    dir: TempDir,
    keys: Keys,
    records: Vec<Recording>,
}

impl Folder {
    /// Three recordings of two days; two of them are of one length.
    fn new(keys: Keys) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = VoiceStore::open(dir.path()).unwrap().with_keys(keys.clone());
        let mut records = Vec::new();
        for (number, started, length) in [(1, DAY, 900), (2, DAY, 900), (3, DAY + 86_400_000, 50)] {
            let form = VoiceForm::G711(Law::A);
            let mut writer =
                store.write(recording_id(number), form, Channels::Mono, length).unwrap();
            let audio = vec![u8::try_from(number).unwrap(); usize::try_from(length).unwrap()];
            writer.write_g711(Law::A, &audio).unwrap();
            let staged = store.stage(writer.finish().unwrap(), recording(number, started)).unwrap();
            records.push(store.publish_staged(&staged).unwrap());
        }
        Self { dir, keys, records }
    }

    fn store(&self) -> VoiceStore {
        VoiceStore::open(self.dir.path()).unwrap().with_keys(self.keys.clone())
    }

    fn voice(&self, number: usize) -> PathBuf {
        self.store().voice_path(&self.records[number - 1])
    }

    fn record(&self, number: usize) -> PathBuf {
        self.store().record_path(&self.records[number - 1])
    }

    fn key(&self, number: usize) -> PathBuf {
        self.store().keys_path(&self.records[number - 1])
    }

    fn check(&self) -> (Verified, Vec<Fault>) {
        checked(self.dir.path(), &self.keys)
    }

    /// That exactly these are named.
    fn names(&self, expected: &[(FaultKind, &Path)]) {
        let (done, faults) = self.check();
        let root = self.dir.path().canonicalize().unwrap();
        let relative = |path: &Path| {
            let path = path.strip_prefix(&root).or(path.strip_prefix(self.dir.path()));
            path.unwrap().to_owned()
        };
        let mut named: Vec<_> = faults.iter().map(|f| (f.kind, relative(&f.path))).collect();
        let mut expected: Vec<_> = expected.iter().map(|(k, path)| (*k, relative(path))).collect();
        named.sort();
        expected.sort();
        assert_eq!(named, expected, "{faults:#?}");
        assert_eq!(done.faults.values().sum::<u64>(), faults.len() as u64);
        assert_eq!(done.is_clean(), faults.is_empty());
    }
}

fn checked(path: &Path, keys: &Keys) -> (Verified, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut tell = |told: Told<'_>| {
        if let Told::Fault(fault) = told {
            faults.push(fault.clone());
        }
    };
    let done = verify(&[path.to_owned()], keys, &mut tell).unwrap();
    (done, faults)
}

fn both() -> [Folder; 2] {
    [Folder::new(Keys::default()), Folder::new(keys(&["k1"]))]
}

#[test]
fn a_sound_folder_is_clean_from_wherever_it_is_looked_at() {
    for folder in both() {
        folder.names(&[]);
        let bytes: u64 = folder.records.iter().map(|record| record.bytes).sum();
        let voice = folder.dir.path().join(naming::VOICE_FOLDER);
        for path in [folder.dir.path(), &voice] {
            let (done, _) = checked(path, &folder.keys);
            assert_eq!((done.recordings, done.bytes), (3, bytes), "{}", path.display());
        }
        let day = folder.voice(3);
        let (done, faults) = checked(day.parent().unwrap(), &folder.keys);
        assert_eq!((done.recordings, faults.len()), (1, 0));
        // Files that somebody has put elsewhere.
        let flat = tempfile::tempdir().unwrap();
        for path in fs::read_dir(folder.voice(1).parent().unwrap()).unwrap().flatten() {
            fs::copy(path.path(), flat.path().join(path.file_name())).unwrap();
        }
        let (done, faults) = checked(flat.path(), &folder.keys);
        assert_eq!((done.recordings, faults.len()), (2, 0), "{faults:?}");
    }
    let error = verify(&["/no/such/folder".into()], &Keys::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, VerifyError::NoFolder(_)), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    for folder in both() {
        fs::remove_file(folder.voice(1)).unwrap();
        fs::remove_file(folder.record(3)).unwrap();
        let mut expected = vec![
            (FaultKind::Missing, folder.voice(1)),
            // Nothing tells whether this one was added, or its record was removed.
            (FaultKind::Added, folder.voice(3)),
        ];
        if folder.keys.encrypt() {
            fs::remove_file(folder.key(2)).unwrap();
            expected.push((FaultKind::Added, folder.key(3)));
            expected.push((FaultKind::Missing, folder.key(2)));
        }
        let expected: Vec<_> = expected.iter().map(|(k, path)| (*k, path.as_path())).collect();
        folder.names(&expected);
    }
}

#[test]
fn what_is_altered_is_named() {
    for folder in both() {
        for number in [1, 3] {
            let mut bytes = fs::read(folder.voice(number)).unwrap();
            if number == 1 {
                // The same length; of an encrypted one in a chunk.
                bytes[100] ^= 1;
            } else {
                bytes.pop();
            }
            fs::write(folder.voice(number), bytes).unwrap();
        }
        fs::write(folder.record(2), "{}").unwrap();
        fn altered(path: &Path) -> (FaultKind, &Path) {
            (FaultKind::Altered, path)
        }
        folder.names(&[
            altered(&folder.voice(1)),
            altered(&folder.record(2)),
            altered(&folder.voice(3)),
        ]);
        if folder.keys.encrypt() {
            fs::write(folder.key(1), "x").unwrap();
            folder.names(&[
                altered(&folder.key(1)),
                altered(&folder.record(2)),
                altered(&folder.voice(3)),
            ]);
        }
    }
}

#[test]
fn another_recordings_audio_is_named_as_that() {
    for folder in both() {
        // Of one length, and of another.
        for (one, two) in [(1, 2), (1, 3)] {
            let before = [one, two].map(|number| fs::read(folder.voice(number)).unwrap());
            fs::write(folder.voice(one), &before[1]).unwrap();
            fs::write(folder.voice(two), &before[0]).unwrap();
            let (first, second) = (folder.voice(one), folder.voice(two));
            folder.names(&[(FaultKind::Swapped, &first), (FaultKind::Swapped, &second)]);
            let (_, faults) = folder.check();
            let other = recording_id(two as u64).to_string();
            let named =
                faults.iter().find(|fault| fault.path.ends_with(file_name(&folder.voice(one))));
            assert!(named.is_some_and(|fault| fault.what.contains(&other)), "{faults:?}");
            for (number, bytes) in [one, two].into_iter().zip(before) {
                fs::write(folder.voice(number), bytes).unwrap();
            }
        }
        fs::copy(folder.record(1), folder.record(2)).unwrap();
        let elsewhere = folder.record(3).with_file_name(file_name(&folder.record(1)));
        fs::copy(folder.record(1), &elsewhere).unwrap();
        let voice = folder.voice(3).with_file_name(file_name(&folder.voice(1)));
        folder.names(&[
            (FaultKind::Swapped, &folder.record(2)),
            // In the folder of another day, and without a voice file.
            (FaultKind::Swapped, &elsewhere),
            (FaultKind::Missing, &voice),
        ]);
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn what_no_record_speaks_of_is_named() {
    for folder in both() {
        let day = folder.voice(1);
        let day = day.parent().unwrap();
        let other = if folder.keys.encrypt() { "wav" } else { "wav.enc" };
        let added = [
            day.join("notes.txt"),
            day.join(format!("{}.wav", recording_id(9))),
            day.join(format!("{}.{other}", recording_id(1))),
            day.join(format!("{}.opus", recording_id(2))),
            folder.dir.path().join("voice/2026/list"),
        ];
        for path in &added {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let expected: Vec<_> =
            added.iter().map(|path| (FaultKind::Added, path.as_path())).collect();
        folder.names(&expected);
    }
}

#[test]
fn what_was_never_published_is_named_unless_a_node_is_at_work() {
    let folder = Folder::new(Keys::default());
    let left = [
        folder.dir.path().join("voice/.staged").join(format!("{}.1.wav", recording_id(7))),
        folder.dir.path().join("voice/.copies/.sealing").join(format!("{}.wav", recording_id(8))),
    ];
    for path in &left {
        fs::write(path, "x").unwrap();
    }
    let expected: Vec<_> = left.iter().map(|path| (FaultKind::Leftover, path.as_path())).collect();
    folder.names(&expected);
    let lock = DataLock::take(folder.dir.path()).unwrap();
    folder.names(&[]);
    drop(lock);
    folder.names(&expected);
}

/// While a node publishes a later revision the file is not what its record says, for a moment.
#[test]
fn what_a_running_node_is_publishing_is_looked_at_once_more() {
    let folder = Folder::new(Keys::default());
    let _lock = DataLock::take(folder.dir.path()).unwrap();
    let voice = folder.voice(1);
    let whole = fs::read(&voice).unwrap();
    let mut other = whole.clone();
    other[100] ^= 1;
    fs::write(&voice, &other).unwrap();
    folder.names(&[(FaultKind::Altered, &voice)]);
    let note = naming::publishing_record_file(recording_id(1), 2);
    let note = folder.dir.path().join(naming::of_copies(&note));
    fs::write(&note, "x").unwrap();
    let publishing = std::thread::spawn(move || {
        // It is looked at meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::write(&voice, whole).unwrap();
        fs::remove_file(note).unwrap();
    });
    folder.names(&[]);
    publishing.join().unwrap();
}

#[test]
fn without_the_keys_it_is_said_what_was_not_checked() {
    let folder = Folder::new(keys(&["k1"]));
    let (done, faults) = checked(folder.dir.path(), &Keys::default());
    let kinds: Vec<_> = faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Unchecked; 3]);
    assert_eq!((done.bytes, done.is_clean()), (0, false));
    assert!(faults[0].what.contains("\"k1\""), "{faults:?}");
    let (_, faults) = checked(folder.dir.path(), &keys(&["k2"]));
    assert_eq!(faults.len(), 3, "{faults:?}");
}
