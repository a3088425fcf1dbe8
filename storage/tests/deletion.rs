//! A deleted recording goes as a whole, whenever the power fails or the disk does; what has gone is stated, and
//! nothing brings it back.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{dir, keys, recording, recording_id};
use storage::chain_log::ChainLog;
use storage::disk::Disk;
use storage::reindex::{BrokenPair, rebuild};
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{
    Catalog, CopyError, DurableCatalog, Keys, Manifest, Staged, VoiceError, VoiceForm, VoiceStore,
};
use storage_core::g711::Law;
use storage_core::manifest::{Deed, Entry};
use storage_core::tombstone::{Deletion, Tombstone};
use storage_core::{NodeId, Recording, WallTime, chain, naming};

const STARTED: i64 = 1_795_000_000_000;
const VOICE: [u8; 4] = [1, 2, 3, 4];

/// Opens everything as a start does, and ends what had begun.
fn start(disk: &FaultDisk, keys: &Keys) -> Result<(VoiceStore, Vec<Tombstone>), VoiceError> {
    let manifest = Arc::new(Manifest::open_on(&disk.shared(), dir(), NodeId(1))?);
    let store = VoiceStore::open_on(disk.shared(), dir())?.with_keys(keys.clone());
    let store = store.with_manifest(manifest);
    let deleted = store.finish()?.deleted;
    Ok((store, deleted))
}

fn stage(store: &VoiceStore, number: u64, revision: u32) -> Result<Staged, VoiceError> {
    let mut record = recording(number, STARTED);
    record.revision = revision;
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(record.recordingid, form, Channels::Mono, 4).unwrap();
    writer.write_g711(Law::A, &VOICE).unwrap();
    store.stage(writer.finish().unwrap(), record)
}

fn publish(store: &VoiceStore, number: u64) -> Recording {
    store.publish_staged(&stage(store, number, 1).unwrap()).unwrap()
}

fn tombstone(record: &Recording) -> Tombstone {
    let (by, reason) = ("adam".to_owned(), "told to".to_owned());
    let at = WallTime::from_millis(STARTED + 9_000);
    Tombstone::of(record, Deletion { at, node: NodeId(1), by, reason })
}

/// The files below the voice folder that are of a recording.
fn files_of(disk: &dyn Disk, number: u64) -> Vec<PathBuf> {
    let id = recording_id(number).to_string();
    let (mut found, mut folders) = (Vec::new(), vec![dir().join(naming::VOICE_FOLDER)]);
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap() {
            let path = folder.join(&entry.name);
            if entry.folder {
                folders.push(path);
            } else if entry.name.starts_with(&id) {
                found.push(path);
            }
        }
    }
    found
}

/// How often the manifest states that a recording was deleted; its chain is in order.
fn stated(disk: &FaultDisk, number: u64) -> usize {
    let mut count = 0;
    let log = ChainLog::<Entry>::on(disk.shared(), dir());
    let (_, faults) = log
        .each(|line, _| {
            let deed = chain::entry::<Entry>(line).map(|numbered| numbered.entry.deed);
            if let Some(Deed::Deleted(deleted)) = deed {
                count += usize::from(deleted.recordingid == recording_id(number));
            }
            None
        })
        .unwrap();
    assert_eq!(faults, []);
    count
}

#[test]
fn wherever_power_fails_a_recording_is_whole_or_goes_for_good() {
    for keys in [Keys::default(), keys(&["k1"])] {
        let (mut whole, mut gone) = (0, 0);
        for sync in 0.. {
            let disk = FaultDisk::new();
            let (store, _) = start(&disk, &keys).unwrap();
            let record = publish(&store, 1);
            let other = publish(&store, 2);
            disk.off_at_sync(disk.syncs() + sync);
            let id = record.recordingid;
            let done = store.delete(&tombstone(&record)).is_ok() && store.deletion_done(id).is_ok();
            for survivors in (0..6).map(Survivors::of) {
                let disk = disk.power_cut(survivors);
                let (store, finished) = start(&disk, &keys).expect("it starts again");
                if store.is_deleted(id) {
                    let notes = files_of(&*disk.shared(), 1);
                    let note = dir().join(naming::deleting_file(id));
                    assert!(notes.iter().all(|path| *path == note), "sync {sync}: {notes:?}");
                    // Who takes it out of the list is told of it as long as the note is there.
                    assert_eq!(!notes.is_empty(), finished.iter().any(|one| one.recordingid == id));
                    assert!(stated(&disk, 1) > 0, "sync {sync}: it is not stated");
                    assert_eq!(store.tombstone(id).unwrap(), Some(tombstone(&record)));
                    store.deletion_done(id).unwrap();
                    assert_eq!(files_of(&*disk.shared(), 1), [] as [PathBuf; 0]);
                    gone += 1;
                } else {
                    assert!(!done, "sync {sync}: it was deleted, and is back");
                    store.verify(&record).unwrap();
                    assert_eq!(stated(&disk, 1), 0);
                    whole += 1;
                }
                store.verify(&other).unwrap();
            }
            if done {
                break;
            }
        }
        assert!(whole > 3 && gone > 10, "{whole} {gone}");
    }
}

#[test]
fn a_disk_that_fails_once_lets_it_go_at_the_next_try() {
    let keys = keys(&["k1"]);
    let mut refused = 0;
    for operation in 1.. {
        let disk = FaultDisk::new();
        let (store, _) = start(&disk, &keys).unwrap();
        let record = publish(&store, 1);
        let before = disk.operations();
        disk.fail_at(before + operation);
        let first = store.delete(&tombstone(&record));
        refused += usize::from(first.is_err());
        if disk.operations() < before + operation {
            assert!(refused > 10, "{refused}");
            return;
        }
        store.delete(&tombstone(&record)).unwrap();
        store.deletion_done(record.recordingid).unwrap();
        assert_eq!(files_of(&*disk.shared(), 1), [] as [PathBuf; 0], "operation {operation}");
        assert!(stated(&disk, 1) > 0, "operation {operation}: it is not stated");
    }
}

#[test]
fn the_key_goes_first() {
    let keys = keys(&["k1"]);
    let disk = FaultDisk::new();
    let (store, _) = start(&disk, &keys).unwrap();
    let record = publish(&store, 1);
    let (key, voice) = (store.keys_path(&record), store.voice_path(&record));
    let there = |path: &Path| disk.shared().open(path).is_ok();
    assert!(there(&key) && there(&voice));
    for operation in 1.. {
        let before = disk.operations();
        disk.fail_at(before + operation);
        let done = store.delete(&tombstone(&record)).is_ok();
        assert!(there(&voice) || !there(&key), "audio went before its key");
        if done {
            return;
        }
    }
}

#[test]
fn nothing_brings_it_back() {
    let disk = FaultDisk::new();
    let (store, _) = start(&disk, &Keys::default()).unwrap();
    let record = publish(&store, 1);
    let staged = stage(&store, 1, 2).unwrap();
    let mut copy = store.copy(&record).unwrap();
    let voice = store.voice(&record).unwrap();
    let mut bytes = vec![0; usize::try_from(record.bytes).unwrap()];
    assert_eq!(voice.read_at(&mut bytes, 0).unwrap(), bytes.len());
    copy.write(&bytes).unwrap();
    store.delete(&tombstone(&record)).unwrap();
    store.deletion_done(record.recordingid).unwrap();
    // A later revision that was staged before, one that is staged after, and a copy.
    let later = store.publish_staged(&staged);
    assert!(matches!(later, Err(VoiceError::Deleted { .. })), "{later:?}");
    let after = stage(&store, 1, 3);
    assert!(matches!(after, Err(VoiceError::Deleted { .. })), "{after:?}");
    let copied = copy.finish();
    let refused = matches!(copied, Err(CopyError::Voice(VoiceError::Deleted { .. })));
    assert!(refused, "{copied:?}");
    assert_eq!(files_of(&*disk.shared(), 1), [] as [PathBuf; 0]);
    // Nor does a start, which knows it from the disk alone.
    let (store, finished) = start(&disk, &Keys::default()).unwrap();
    assert!(finished.is_empty() && store.is_deleted(record.recordingid));
    assert_eq!(store.published(record.recordingid).unwrap(), None);
    // Deleting it once more states nothing more.
    let before = stated(&disk, 1);
    store.delete(&tombstone(&record)).unwrap();
    assert_eq!((before, stated(&disk, 1)), (1, 1));
}

#[test]
fn what_is_deleted_while_it_is_published_is_gone_in_the_end() {
    let mut refused = 0;
    for wait in 0..12 {
        let disk = FaultDisk::new();
        let (store, _) = start(&disk, &Keys::default()).unwrap();
        let record = publish(&store, 1);
        let staged = stage(&store, 1, 2).unwrap();
        disk.set_sync_delay(Duration::from_millis(2));
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| store.publish_staged(&staged));
            std::thread::sleep(Duration::from_millis(wait));
            store.delete(&tombstone(&record)).unwrap();
            let published = publishing.join().unwrap();
            let before = published.is_ok();
            let after = matches!(published, Err(VoiceError::Deleted { .. }));
            assert!(before || after, "waited {wait} ms: {published:?}");
            refused += u32::from(after);
        });
        store.deletion_done(record.recordingid).unwrap();
        assert_eq!(files_of(&*disk.shared(), 1), [] as [PathBuf; 0], "waited {wait} ms");
    }
    assert!(refused > 0, "they never met");
}

#[test]
fn files_that_somebody_has_put_back_are_not_listed_and_go_when_it_is_deleted_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let (record, other) = (publish(&store, 1), publish(&store, 2));
    let kept = [store.record_path(&record), store.voice_path(&record)]
        .map(|path| (std::fs::read(&path).unwrap(), path));
    store.delete(&tombstone(&record)).unwrap();
    store.deletion_done(record.recordingid).unwrap();
    for (bytes, path) in &kept {
        assert!(!path.exists());
        std::fs::write(path, bytes).unwrap();
    }
    let store = VoiceStore::open(folder.path()).unwrap();
    let (catalog, _) = DurableCatalog::open(&folder.path().join("catalog")).unwrap();
    let rebuilt = rebuild(&store, &catalog).unwrap();
    let named = |broken: &BrokenPair| matches!(broken, BrokenPair::Deleted { .. });
    assert!(rebuilt.broken.len() == 2 && rebuilt.broken.iter().all(named), "{rebuilt:?}");
    assert_eq!(catalog.get(record.recordingid).unwrap(), None);
    assert_eq!(catalog.get(other.recordingid).unwrap(), Some(other));
    store.delete(&tombstone(&record)).unwrap();
    assert!(kept.iter().all(|(_, path)| !path.exists()));
}

#[test]
fn a_torn_tombstone_is_none_and_the_next_one_is_read() {
    let disk = FaultDisk::new();
    let (store, _) = start(&disk, &Keys::default()).unwrap();
    let (one, two) = (publish(&store, 1), publish(&store, 2));
    let path = dir().join(naming::DELETED_FOLDER).join(naming::calls_file(one.recordingid.made()));
    let shared = disk.shared();
    shared.make_folder(path.parent().unwrap()).unwrap();
    shared.create(&path).unwrap().write_at(b"{\"version\":1,\"recordi", 0).unwrap();
    store.delete(&tombstone(&two)).unwrap();
    let (store, _) = start(&disk, &Keys::default()).unwrap();
    assert!(!store.is_deleted(one.recordingid));
    assert_eq!(store.tombstone(two.recordingid).unwrap(), Some(tombstone(&two)));
    assert_eq!(store.deleted_of(two.recordingid.made()).unwrap(), [tombstone(&two)]);
}
