//! Encryption at rest: what lies on the disk, who can read it, what happens when keys come and go.

mod common;

use std::path::Path;

use common::{begin, block, contents, dir, keys, packet, recording, recording_id};
use storage::decrypt::{DecryptError, decrypt};
use storage::rewrap::rewrap;
use storage::testing::FaultDisk;
use storage::wav::Channels;
use storage::{
    Fetch, FetchFormat, Journal, JournalError, JournalOptions, KeyError, Keys, Maintained,
    Recovered, VoiceError, VoiceForm, VoiceStore,
};
use storage_core::g711::Law;
use storage_core::journal::{Entry, Fact};
use storage_core::{NodeId, Recording, naming};

const LEN: usize = 172;

fn small() -> JournalOptions {
    JournalOptions { rotate_bytes: 4096, reserve_bytes: 0, files_kept: 2 }
}

fn open(disk: &FaultDisk, keys: Keys) -> Result<(Journal, Recovered), JournalError> {
    Journal::open_on_with_keys(disk.shared(), dir(), NodeId(1), small(), keys)
}

fn append(journal: &mut Journal, segment: u64, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut frames = Vec::new();
        block(&mut frames, segment, [number], LEN);
        journal.append(&mut frames).unwrap();
    }
}

/// All bytes of all files.
fn bytes(disk: &FaultDisk) -> Vec<u8> {
    let shared = disk.shared();
    let mut folders = vec![dir().to_owned()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in shared.list(&folder).unwrap() {
            let path = folder.join(entry.name);
            if entry.folder {
                folders.push(path);
            } else {
                all.extend(read(disk, &path));
            }
        }
    }
    all
}

fn read(disk: &FaultDisk, path: &Path) -> Vec<u8> {
    let file = disk.shared().open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    storage::disk::read_full_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|seen| seen == wanted)
}

#[test]
fn captured_packets_are_encrypted_and_read_back_through_restart_and_cleaning() {
    for encrypted in [false, true] {
        let held = if encrypted { keys(&["k1"]) } else { Keys::default() };
        let disk = FaultDisk::new();
        let (mut journal, _) = open(&disk, held.clone()).unwrap();
        begin(&mut journal, 1).unwrap();
        append(&mut journal, 1, 0..60);
        let sent = packet(1, 33, LEN);
        assert_eq!(holds(&bytes(&disk), &sent), !encrypted, "the scan finds what is plain");
        assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], Vec::from_iter(0..60));

        drop(journal);
        let (mut journal, recovered) = open(&disk, held).unwrap();
        assert_eq!(recovered.open.len(), 1);
        assert_eq!(recovered.unknown_entries, 0);
        // Short calls come and go, so that the long one's blocks are moved.
        let mut moved = 0;
        for number in 100..140 {
            begin(&mut journal, number).unwrap();
            append(&mut journal, number, 0..20);
            let sealed = Fact::Sealed { recordingid: recording_id(number) };
            journal.append_fact(&sealed).unwrap();
            journal.sync().unwrap();
            let Maintained { moved_bytes, .. } = journal.maintain().unwrap();
            moved += moved_bytes;
        }
        assert!(moved > 4_000, "{moved} bytes moved");
        assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], Vec::from_iter(0..60));
        assert_eq!(holds(&bytes(&disk), &sent), !encrypted);
        // When a segment was heard last is known without its key.
        let outline = journal.reader().outline(recording_id(1)).unwrap();
        assert_eq!(outline.segments[0].closed, Some(common::at(59)));
        assert_eq!(outline.segments[0].last_packet, Some(common::at(59)));
    }
}

#[test]
fn nobody_above_the_journal_sees_a_data_key() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk, keys(&["k1"])).unwrap();
    begin(&mut journal, 1).unwrap();
    let mut opened = 0;
    let read = journal.reader().read_recording(recording_id(1), |entry| {
        if let Entry::Fact(Fact::SegmentOpened { key, .. }) = entry {
            assert_eq!(key, None);
            opened += 1;
        }
    });
    read.unwrap();
    assert_eq!(opened, 1);
}

#[test]
fn a_missing_or_another_key_is_named_and_nothing_is_opened() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk, keys(&["k1"])).unwrap();
    begin(&mut journal, 1).unwrap();
    append(&mut journal, 1, 0..5);
    journal.sync().unwrap();
    drop(journal);
    let before = bytes(&disk);
    let error = open(&disk, Keys::default()).unwrap_err();
    let JournalError::KeysMissing { segments: 1, why, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(why, KeyError::NoKeyFile { .. }));
    assert!(error.to_string().contains("\"k1\"") && error.to_string().contains("al_encryption"));
    let error = open(&disk, keys(&["k2"])).unwrap_err();
    assert!(error.to_string().contains("key \"k1\" is needed"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("k1 {}", "0a".repeat(31) + "0b")).unwrap();
    let error = open(&disk, Keys::load(file.path()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
    assert_eq!(bytes(&disk), before, "and nothing was changed");

    // With a new key in front, the old capture is read and the new one is under the new key.
    let (mut journal, _) = open(&disk, keys(&["k2", "k1"])).unwrap();
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], [0, 1, 2, 3, 4]);
    begin(&mut journal, 2).unwrap();
    append(&mut journal, 2, 0..3);
    journal.append_fact(&Fact::Sealed { recordingid: recording_id(1) }).unwrap();
    drop(journal);
    let (journal, _) = open(&disk, keys(&["k2"])).unwrap();
    assert_eq!(contents(&journal.reader(), 2).unwrap().packets[&2], [0, 1, 2]);
}

#[test]
fn a_plain_journal_is_read_with_keys_and_goes_on_encrypted() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk, Keys::default()).unwrap();
    begin(&mut journal, 1).unwrap();
    append(&mut journal, 1, 0..5);
    drop(journal);
    let (mut journal, _) = open(&disk, keys(&["k1"])).unwrap();
    journal.append_fact(&common::opened(2, 1)).unwrap();
    append(&mut journal, 2, 0..5);
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!(
        (&read.packets[&1][..], &read.packets[&2][..]),
        (&[0, 1, 2, 3, 4][..], &[0, 1, 2, 3, 4][..])
    );
    let all = bytes(&disk);
    assert!(holds(&all, &packet(1, 3, LEN)) && !holds(&all, &packet(2, 3, LEN)));
}

#[test]
fn a_full_disk_keeps_whole_encrypted_blocks_and_says_which() {
    for room in (0..2500).step_by(37) {
        let disk = FaultDisk::new();
        let options = JournalOptions { rotate_bytes: 1 << 20, ..small() };
        let (mut journal, _) =
            Journal::open_on_with_keys(disk.shared(), dir(), NodeId(1), options, keys(&["k1"]))
                .unwrap();
        begin(&mut journal, 1).unwrap();
        let mut frames = Vec::new();
        let mut ends = Vec::new();
        for number in 0..8 {
            // The second segment was never opened.
            block(&mut frames, 1 + number % 2, [number], LEN);
            ends.push(frames.len());
        }
        disk.set_capacity(Some(disk.used() + room));
        let kept = match journal.append(&mut frames) {
            Ok(()) => frames.len(),
            Err(error @ JournalError::Full { .. }) => error.kept(),
            Err(error) => panic!("{error}"),
        };
        assert!(kept == 0 || ends.contains(&kept), "{kept} is in the midst of a block");
        let numbers: Vec<_> =
            (0..8).zip(&ends).filter(|(n, end)| n % 2 == 0 && **end <= kept).collect();
        let numbers: Vec<u64> = numbers.into_iter().map(|(number, _)| number).collect();
        let read = contents(&journal.reader(), 1).unwrap();
        assert_eq!(read.packets.get(&1).cloned().unwrap_or_default(), numbers, "room {room}");
        // The same again, once there is room: under other nonces.
        disk.set_capacity(None);
        journal.append(&mut frames).unwrap();
        let read = contents(&journal.reader(), 1).unwrap();
        assert_eq!(read.packets[&1].len(), numbers.len() + 4);
        assert!(!holds(&bytes(&disk), &packet(2, 1, LEN)), "what has no key is not written");
    }
}

#[test]
fn no_two_blocks_are_encrypted_alike() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk, keys(&["k1"])).unwrap();
    begin(&mut journal, 1).unwrap();
    // The same packet over and over; under one nonce it would look the same.
    for _ in 0..50 {
        append(&mut journal, 1, 7..8);
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in disk.shared().list(&dir().join(naming::CAPTURE_FOLDER)).unwrap() {
        let all = read(&disk, &dir().join(naming::CAPTURE_FOLDER).join(name.name));
        let frames = storage_core::journal::Scanner::new(all.get(28..).unwrap_or_default());
        for found in frames {
            let storage_core::journal::Found::Frame { offset, len, frame } = found else {
                continue;
            };
            if let Some(block) = frame.encrypted() {
                assert!(seen.insert(block.number), "a number came twice");
                let body = &all[28 + offset + 16 + 24..28 + offset + len];
                assert!(!holds(body, &[7; 16]));
            }
        }
    }
    assert_eq!(seen.len(), 50);
}

#[test]
fn an_altered_block_counts_as_lost_and_others_are_read() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk, keys(&["k1"])).unwrap();
    begin(&mut journal, 1).unwrap();
    append(&mut journal, 1, 0..9);
    let path = dir().join(naming::CAPTURE_FOLDER).join(naming::capture_file(1));
    let mut all = read(&disk, &path);
    let found: Vec<_> = storage_core::journal::Scanner::new(&all[28..])
        .filter_map(|found| match found {
            storage_core::journal::Found::Frame { offset, len, frame } => {
                frame.encrypted().map(|_| (28 + offset, len))
            }
            storage_core::journal::Found::Damage { .. } => None,
        })
        .collect();
    // Somebody who can compute a checksum swaps the bodies of two blocks.
    let (first, len) = found[2];
    let (second, _) = found[5];
    let body = all[first + 40..first + len].to_vec();
    let other = all[second + 40..second + len].to_vec();
    all[first + 40..first + len].copy_from_slice(&other);
    all[second + 40..second + len].copy_from_slice(&body);
    for start in [first, second] {
        let crc = crc32c::crc32c_append(
            crc32c::crc32c(&all[start + 4..start + 12]),
            &all[start + 16..start + len],
        );
        all[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
    }
    let file = disk.shared().open(&path).unwrap();
    storage::disk::write_all_at(&*file, &all, 0).unwrap();
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!(read.packets[&1], [0, 1, 3, 4, 6, 7, 8]);
    assert_eq!(read.bytes_lost, 2 * len as u64);
}

fn publish(store: &VoiceStore, number: u64, audio: &[u8]) -> Recording {
    let form = VoiceForm::G711(Law::A);
    let mut writer =
        store.write(recording_id(number), form, Channels::Mono, audio.len() as u64).unwrap();
    writer.write_g711(Law::A, audio).unwrap();
    let voice = writer.finish().unwrap();
    let staged = store.stage(voice, recording(number, 1_795_000_000_000)).unwrap();
    store.publish_staged(&staged).unwrap()
}

fn audio(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}

#[test]
fn a_voice_file_is_encrypted_and_fetched_as_if_it_were_not() {
    let disk = FaultDisk::new();
    let plain = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let store = plain.clone().with_keys(keys(&["k1"]));
    let audio = audio(200_001);
    let (one, two) = (publish(&plain, 1, &audio), publish(&store, 2, &audio));
    assert_eq!((one.bytes, &one.sha256), (two.bytes, &two.sha256), "it is the same to everybody");
    assert_eq!((one.encrypted, two.encrypted), (false, true));
    assert!(store.voice_path(&two).to_str().unwrap().ends_with(".wav.enc"));
    assert!(holds(&read(&disk, &store.voice_path(&one)), &audio[500..540]), "the scan finds it");
    assert!(!holds(&read(&disk, &store.voice_path(&two)), &audio[500..540]));
    for wanted in [FetchFormat::Original, FetchFormat::Wav] {
        let [one, two] = [&one, &two].map(|record| Fetch::open(&store, record, wanted).unwrap());
        assert_eq!(one.sha256().unwrap(), two.sha256().unwrap());
        let (mut from_one, mut from_two) = ([0; 70_000], [0; 70_000]);
        for offset in [0, 1, 65_500, 131_000] {
            one.read_at(&mut from_one, offset).unwrap();
            two.read_at(&mut from_two, offset).unwrap();
            assert_eq!(from_one, from_two);
        }
    }
    store.verify(&two).unwrap();
}

#[test]
fn without_its_key_a_voice_file_cannot_be_read_and_everything_else_can() {
    let disk = FaultDisk::new();
    let plain = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let store = plain.clone().with_keys(keys(&["k1"]));
    let (one, two) = (publish(&plain, 1, &audio(100)), publish(&store, 2, &audio(100)));
    plain.verify(&one).unwrap();
    let error = plain.voice(&two).unwrap_err();
    assert!(matches!(&error, VoiceError::Key { why: KeyError::NoKeyFile { .. }, .. }));
    assert!(error.to_string().contains("is encrypted: key \"k1\" is needed"), "{error}");
    let other = plain.clone().with_keys(keys(&["k2"]));
    assert!(other.voice(&two).unwrap_err().to_string().contains("does not hold it"));
    plain.with_keys(keys(&["k2", "k1"])).verify(&two).unwrap();
    // A damaged file of data keys, then none: the recording is erased.
    let path = store.keys_path(&two);
    let whole = read(&disk, &path);
    let file = disk.shared().open(&path).unwrap();
    storage::disk::write_all_at(&*file, b"{", 1).unwrap();
    assert!(matches!(store.voice(&two), Err(VoiceError::KeysFile { .. })));
    storage::disk::write_all_at(&*file, &whole, 0).unwrap();
    store.verify(&two).unwrap();
    disk.shared().remove(&path).unwrap();
    let error = store.voice(&two).unwrap_err();
    assert!(matches!(error, VoiceError::Erased { .. }), "{error}");
    store.verify(&one).unwrap();
}

#[test]
fn publishing_goes_on_after_a_crash_although_the_keys_are_away() {
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap().with_keys(keys(&["k1"]));
    let writer = store.write(recording_id(1), VoiceForm::G711(Law::A), Channels::Mono, 0).unwrap();
    let staged = store.stage(writer.finish().unwrap(), recording(1, 1_795_000_000_000)).unwrap();
    disk.fail_at(disk.operations() + 3);
    store.publish_staged(&staged).unwrap_err();
    disk.fail_at(u64::MAX);
    let without = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let finished = without.finish().unwrap();
    assert_eq!(finished.published.len(), 1);
    store.verify(&finished.published[0]).unwrap();
}

#[test]
fn data_keys_are_wrapped_anew_and_the_old_key_is_needed_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let old = store.clone().with_keys(keys(&["k1"]));
    let records: Vec<_> = (1..=3).map(|number| publish(&old, number, &audio(300))).collect();
    let writer = old.write(recording_id(4), VoiceForm::G711(Law::A), Channels::Mono, 0).unwrap();
    let staged = old.stage(writer.finish().unwrap(), recording(4, 1_795_000_000_000)).unwrap();
    let audio_before = std::fs::read(store.voice_path(&records[0])).unwrap();
    {
        let (mut journal, _) =
            Journal::open_with_keys(folder.path(), NodeId(1), small(), keys(&["k1"])).unwrap();
        begin(&mut journal, 9).unwrap();
        let held = rewrap(folder.path(), &keys(&["k2", "k1"])).unwrap_err();
        assert!(held.to_string().contains("in use"), "{held}");
    }
    let counts = |keys: &Keys| {
        let done = rewrap(folder.path(), keys).unwrap();
        (done.rewrapped, done.already, done.failed.len(), done.captured.len())
    };
    assert_eq!(counts(&keys(&["k2"])), (0, 0, 4, 1), "the old key is still needed");
    assert_eq!(counts(&keys(&["k2", "k1"])), (4, 0, 0, 1));
    assert_eq!(counts(&keys(&["k2", "k1"])), (0, 4, 0, 1));
    let needed = storage::key_survey::voices(folder.path()).unwrap();
    assert_eq!(needed.needed, [("k2".parse().unwrap(), 4)].into());
    let captured = storage::key_survey::captures(folder.path()).unwrap();
    assert_eq!(captured, [("k1".parse().unwrap(), 1)].into());

    let new = store.clone().with_keys(keys(&["k2"]));
    records.iter().for_each(|record| new.verify(record).unwrap());
    assert_eq!(std::fs::read(store.voice_path(&records[0])).unwrap(), audio_before);
    new.verify(&new.publish_staged(&staged).unwrap()).unwrap();
    assert!(old.verify(&records[0]).is_err());
}

#[test]
fn a_person_with_the_key_file_gets_the_plain_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap().with_keys(keys(&["k1"]));
    let record = publish(&store, 1, &audio(150_000));
    // A copy of the three files anywhere will do.
    let copy = tempfile::tempdir().unwrap();
    for path in [store.voice_path(&record), store.keys_path(&record), store.record_path(&record)] {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let encrypted = copy.path().join(store.voice_path(&record).file_name().unwrap());
    let out = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(out.path()).unwrap().count();
    let plain = decrypt(&keys(&["k1"]), &encrypted, out.path()).unwrap();
    assert_eq!(plain.file_name().unwrap().to_str(), Some(&*format!("{}.wav", record.recordingid)));
    assert_eq!(&std::fs::read(&plain).unwrap()[58..150_058], audio(150_000));
    let again = decrypt(&keys(&["k1"]), &encrypted, out.path());
    assert!(matches!(again, Err(DecryptError::Exists(_))));
    std::fs::remove_file(&plain).unwrap();
    assert!(matches!(
        decrypt(&keys(&["k2"]), &encrypted, out.path()),
        Err(DecryptError::Voice(VoiceError::Key { .. }))
    ));
    // A record that speaks of another file.
    let record_copy = copy.path().join(store.record_path(&record).file_name().unwrap());
    let text = std::fs::read_to_string(&record_copy).unwrap();
    std::fs::write(&record_copy, text.replace(&record.sha256, &"0".repeat(64))).unwrap();
    assert!(matches!(
        decrypt(&keys(&["k1"]), &encrypted, out.path()),
        Err(DecryptError::Voice(VoiceError::Altered { .. }))
    ));
    std::fs::write(&record_copy, text).unwrap();
    // Damaged in its last chunk: said, and nothing is left.
    let mut bytes = std::fs::read(&encrypted).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&encrypted, &bytes).unwrap();
    let error = decrypt(&keys(&["k1"]), &encrypted, out.path()).unwrap_err().to_string();
    assert!(error.contains("is damaged or was altered between its bytes"), "{error}");
    assert_eq!(names(), 0);
    let record = store.record_path(&record);
    assert!(matches!(
        decrypt(&keys(&["k1"]), &record, out.path()),
        Err(DecryptError::NotEncrypted(_))
    ));
}

#[test]
fn a_catalog_is_rebuilt_without_keys_and_names_what_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    let plain = VoiceStore::open(folder.path()).unwrap();
    let store = plain.clone().with_keys(keys(&["k1"]));
    let records: Vec<_> = (1..=3).map(|number| publish(&store, number, &audio(300))).collect();
    std::fs::remove_file(store.keys_path(&records[1])).unwrap();
    let catalog = storage::DurableCatalog::open(&folder.path().join("catalog")).unwrap().0;
    let rebuilt = storage::reindex::rebuild(&plain, &catalog).unwrap();
    assert_eq!(rebuilt.entered, 2);
    let broken: Vec<_> = rebuilt.broken.iter().map(ToString::to_string).collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].contains("data key was erased"), "{broken:?}");
}
