//! Copies of another node's voice files: whole or not there at all whatever happens, and never mixed up
//! with what this node seals itself.

mod common;

use common::{dir, keys, recording, recording_id};
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{CopyError, Fetch, FetchFormat, Keys, Lies, VoiceError, VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::record::VoiceFormat;
use storage_core::{Recording, naming};

const STARTED: i64 = 1_795_000_000_000;

/// The owner's record and the bytes of its voice file.
fn owned(revision: u32, started: i64, samples: &[u8], form: VoiceFormat) -> (Recording, Vec<u8>) {
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let voice = if form == VoiceFormat::Opus {
        let mut writer = store.write_encoded(recording_id(1), form).unwrap();
        writer.write(samples).unwrap();
        writer.finish().unwrap()
    } else {
        let law = VoiceForm::G711(Law::A);
        let mut writer =
            store.write(recording_id(1), law, Channels::Mono, samples.len() as u64).unwrap();
        writer.write_g711(Law::A, samples).unwrap();
        writer.finish().unwrap()
    };
    let record = Recording { revision, ..recording(1, started) };
    let record = store.publish_staged(&store.stage(voice, record).unwrap()).unwrap();
    let bytes = bytes_of(&store, &record);
    (record, bytes)
}

fn bytes_of(store: &VoiceStore, record: &Recording) -> Vec<u8> {
    let fetch = Fetch::open(store, record, FetchFormat::Original).unwrap();
    let mut bytes = vec![0; usize::try_from(fetch.bytes()).unwrap()];
    assert_eq!(fetch.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn copy(store: &VoiceStore, record: &Recording, bytes: &[u8]) -> Result<Recording, CopyError> {
    let mut writer = store.copy(record)?;
    for piece in bytes.chunks(37) {
        writer.write(piece)?;
    }
    writer.finish()
}

fn this(store: &VoiceStore, record: &Recording) -> Recording {
    match store.lies(record) {
        Ok(Lies::This(record)) => *record,
        other => panic!("{other:?}"),
    }
}

/// All files below the voice folder, by their paths.
fn files(disk: &FaultDisk) -> Vec<String> {
    let shared = disk.shared();
    let mut folders = vec![dir().join(naming::VOICE_FOLDER)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in shared.list(&folder).unwrap() {
            let path = folder.join(&entry.name);
            match entry.folder {
                true => folders.push(path),
                false => files.push(path.display().to_string()),
            }
        }
    }
    files
}

#[test]
fn a_copy_lies_as_this_node_writes_files_and_reads_as_the_owners() {
    let (record, bytes) = owned(1, STARTED, &[1, 2, 3, 4], VoiceFormat::WavG711);
    for own_keys in [Keys::default(), keys(&["k1"])] {
        // The owner encrypts, or does not: what is sent is plain.
        for encrypted in [false, true] {
            let disk = FaultDisk::new();
            let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
            let store = store.with_keys(own_keys.clone());
            let told = Recording { encrypted, ..record.clone() };
            assert_eq!(store.lies(&told).unwrap(), Lies::Nothing);
            let copied = copy(&store, &told, &bytes).unwrap();
            assert_eq!(copied, Recording { encrypted: own_keys.encrypt(), ..record.clone() });
            assert_eq!(this(&store, &told), copied);
            assert_eq!(bytes_of(&store, &copied), bytes);
            store.verify(&copied).unwrap();
            let parts = if own_keys.encrypt() { 3 } else { 2 };
            assert_eq!(files(&disk).len(), parts, "{:?}", files(&disk));
        }
    }
}

#[test]
fn what_came_otherwise_than_its_record_says_is_not_kept() {
    let (record, bytes) = owned(1, STARTED, &[1, 2, 3, 4], VoiceFormat::WavG711);
    let mut altered = bytes.clone();
    altered[60] ^= 1;
    let longer = [&bytes[..], &[0]].concat();
    for came in [&altered[..], &bytes[..bytes.len() - 1], &longer, &[]] {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
        let error = copy(&store, &record, came).unwrap_err();
        assert!(matches!(error, CopyError::Differs { .. }), "{error}");
        assert_eq!(store.lies(&record).unwrap(), Lies::Nothing);
        assert_eq!(files(&disk), [""; 0]);
        copy(&store, &record, &bytes).unwrap();
    }
}

#[test]
fn what_breaks_off_leaves_nothing() {
    let (record, bytes) = owned(1, STARTED, &[1, 2, 3, 4], VoiceFormat::WavG711);
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap().with_keys(keys(&["k1"]));
    let mut writer = store.copy(&record).unwrap();
    writer.write(&bytes[..9]).unwrap();
    assert_eq!(files(&disk).len(), 1);
    drop(writer);
    assert_eq!(files(&disk), [""; 0]);
}

#[test]
fn what_lies_here_is_told_from_what_is_known() {
    let (first, bytes) = owned(1, STARTED, &[1, 2], VoiceFormat::WavG711);
    // The same length: only its checksum tells that a hole was filled.
    let (second, later) = owned(2, STARTED, &[3, 4], VoiceFormat::WavG711);
    assert_eq!(first.bytes, second.bytes);
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    copy(&store, &first, &bytes).unwrap();
    assert_eq!(store.lies(&second).unwrap(), Lies::Earlier);
    copy(&store, &second, &later).unwrap();
    assert_eq!(store.lies(&second).unwrap(), Lies::This(Box::new(second.clone())));
    assert_eq!(store.lies(&first).unwrap(), Lies::Later(Box::new(second.clone())));
    // One that comes late does not take the later one's place.
    assert_eq!(copy(&store, &first, &bytes).unwrap(), second);
    assert_eq!(bytes_of(&store, &this(&store, &second)), later);

    disk.shared().remove(&store.voice_path(&second)).unwrap();
    assert_eq!(store.lies(&second).unwrap(), Lies::Nothing);
    copy(&store, &second, &later).unwrap();
    let shorter = Recording { bytes: second.bytes + 1, ..second.clone() };
    disk.shared().open(&store.voice_path(&second)).unwrap().truncate(9).unwrap();
    assert!(matches!(store.lies(&shorter), Err(VoiceError::Altered { .. })));
    // A person who removes it gets it back.
    disk.shared().remove(&store.voice_path(&second)).unwrap();
    copy(&store, &second, &later).unwrap();
    assert_eq!(this(&store, &second), second);
    // Another record with the same audio: what was found later added none.
    let third = Recording { revision: second.revision + 1, ..second.clone() };
    assert_eq!(store.lies(&third).unwrap(), Lies::Earlier);
    assert_eq!(copy(&store, &third, &later).unwrap(), third);
    assert_eq!(store.lies(&second).unwrap(), Lies::Later(Box::new(third)));
}

/// Copies with the power going off at any sync. Whatever is left: after a start it is the whole copy, or
/// what was there before, and nothing else.
fn copy_through_cuts(before: Option<&(Recording, Vec<u8>)>, own_keys: &Keys) {
    let (record, bytes) = owned(2, STARTED, &[3, 4, 5], VoiceFormat::WavG711);
    for cut in 1.. {
        let disk = FaultDisk::new();
        let open = |disk: &FaultDisk| {
            let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
            store.with_keys(own_keys.clone())
        };
        let store = open(&disk);
        if let Some((record, bytes)) = before {
            copy(&store, record, bytes).unwrap();
        }
        disk.off_at_sync(disk.syncs() + cut);
        let copied = copy(&store, &record, &bytes);
        for seed in 0..40 {
            let left = disk.power_cut(Survivors::of(seed));
            let store = open(&left);
            let unfinished = store.finish().unwrap();
            let published = store.published(recording_id(1)).unwrap();
            let whole = published.as_ref().is_some_and(|found| found.sha256 == record.sha256);
            assert!(whole || copied.is_err(), "cut {cut}: it was kept, and is not");
            assert!(whole || unfinished.published.is_empty());
            match (&published, before) {
                (Some(found), _) => {
                    store.verify(found).unwrap();
                    let parts = if found.encrypted { 3 } else { 2 };
                    assert_eq!(files(&left).len(), parts, "cut {cut}: {:?}", files(&left));
                }
                (None, None) => assert_eq!(files(&left), [""; 0], "cut {cut}"),
                (None, Some(_)) => panic!("cut {cut}: the revision before is lost"),
            }
            // It comes again.
            if !whole {
                copy(&store, &record, &bytes).unwrap();
            }
            assert_eq!(bytes_of(&store, &this(&store, &record)), bytes);
        }
        if copied.is_ok() {
            assert!(cut > 6, "the power went off only {cut} times");
            return;
        }
    }
}

#[test]
fn a_copy_survives_a_power_cut_at_any_sync_or_leaves_nothing() {
    let before = owned(1, STARTED, &[1, 2], VoiceFormat::WavG711);
    let day_before = owned(1, STARTED - 86_400_000, &[1, 2], VoiceFormat::Opus);
    for own_keys in [Keys::default(), keys(&["k1"])] {
        copy_through_cuts(None, &own_keys);
        copy_through_cuts(Some(&before), &own_keys);
        copy_through_cuts(Some(&day_before), &own_keys);
    }
}

/// A node may seal a revision while it fetches another: each has its own place until it is published.
#[test]
fn copies_and_what_is_sealed_here_do_not_meet() {
    let (first, bytes) = owned(1, STARTED, &[1, 2], VoiceFormat::WavG711);
    let (second, later) = owned(2, STARTED, &[3, 4], VoiceFormat::WavG711);
    for copied in [&first, &second] {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
        // Both are begun before either is done, under one name and revision.
        let (came, sealed) = if copied.revision == 1 { (&bytes, &later) } else { (&later, &bytes) };
        let mut writer = store.copy(copied).unwrap();
        let mut own = store.write_encoded(recording_id(1), VoiceFormat::WavG711).unwrap();
        writer.write(came).unwrap();
        own.write(sealed).unwrap();
        let own = own.finish().unwrap();
        let other = Recording { revision: 3 - copied.revision, ..recording(1, STARTED) };
        let staged = store.stage(own, other).unwrap();
        writer.finish().unwrap();
        assert_eq!(
            store.staged().unwrap(),
            std::slice::from_ref(&staged),
            "it waits for the group as before"
        );
        store.publish_staged(&staged).unwrap();
        let published = store.published(recording_id(1)).unwrap().unwrap();
        assert_eq!((published.revision, &published.sha256), (2, &second.sha256));
        assert_eq!(bytes_of(&store, &published), later);
        assert_eq!(files(&disk).len(), 2, "{:?}", files(&disk));
    }
}

#[test]
fn a_full_disk_takes_no_copy_and_nothing_is_left_of_it() {
    let (record, bytes) = owned(1, STARTED, &[7; 3000], VoiceFormat::WavG711);
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    disk.set_capacity(Some(disk.used() + 2000));
    let error = copy(&store, &record, &bytes).unwrap_err();
    assert!(matches!(&error, CopyError::Voice(error) if error.is_full()), "{error}");
    assert_eq!(files(&disk), [""; 0]);
    disk.set_capacity(None);
    copy(&store, &record, &bytes).unwrap();
}
