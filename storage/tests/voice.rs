//! Voice files: written, published through power cuts, fetched in any form and range, and found
//! again by a rebuild of the catalog.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{dir, keys, recording, recording_id};
use sha2::{Digest, Sha256};
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{
    Catalog, DurableCatalog, Fetch, FetchError, FetchFormat, FinishedVoice, Keys, Staged,
    VoiceError, VoiceForm, VoiceStore, reindex,
};
use storage_core::g711::Law;
use storage_core::marks::Marking;
use storage_core::record::VoiceFormat;
use storage_core::{NodeId, Recording};

const STARTED: i64 = 1_795_000_000_000;

fn publish(
    store: &VoiceStore,
    number: u64,
    form: VoiceForm,
    audio: &[u8],
) -> Result<Recording, VoiceError> {
    let mut writer = store.write(recording_id(number), form, Channels::Mono, audio.len() as u64)?;
    writer.write_g711(Law::A, audio)?;
    put(store, writer.finish()?, recording(number, STARTED))
}

fn put(
    store: &VoiceStore,
    voice: FinishedVoice,
    record: Recording,
) -> Result<Recording, VoiceError> {
    store.publish_staged(&store.stage(voice, record)?)
}

fn read(fetch: &Fetch) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(fetch.bytes()).unwrap()];
    assert_eq!(fetch.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn samples(wav: &[u8]) -> Vec<i16> {
    let mut reader = hound::WavReader::new(wav).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 8000, 16));
    reader.samples().map(Result::unwrap).collect()
}

#[test]
fn a_g711_file_is_kept_as_it_came_and_read_as_linear() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    for length in [0, 1, 2, 161, 70_001] {
        let audio: Vec<u8> = (0..length).map(|n| (n * 7 % 256) as u8).collect();
        let record = publish(&store, 1, VoiceForm::G711(Law::A), &audio).unwrap();
        store.verify(&record).unwrap();
        assert_eq!(record.format, VoiceFormat::WavG711);

        let original = Fetch::open(&store, &record, FetchFormat::Original).unwrap();
        let bytes = read(&original);
        assert_eq!(bytes.len() as u64, record.bytes);
        assert_eq!(bytes.len() % 2, 0, "chunks are padded");
        assert_eq!(&bytes[58..58 + audio.len()], audio);
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize + 8, bytes.len());
        assert_eq!(hex(&bytes), record.sha256);
        assert_eq!(original.sha256().unwrap(), record.sha256);

        let wav = Fetch::open(&store, &record, FetchFormat::Wav).unwrap();
        let bytes = read(&wav);
        let linear: Vec<_> = audio.iter().map(|byte| Law::A.decode(*byte)).collect();
        assert_eq!(samples(&bytes), linear);
        assert_eq!(hex(&bytes), wav.sha256().unwrap());
        // Any range is the same bytes.
        for (from, to) in [(0, 10), (40, 47), (43, 44), (45, 300), (46, 1000), (7, 1_000_000)] {
            let (from, to) = (from.min(bytes.len()), to.min(bytes.len()));
            let mut piece = vec![0; to - from];
            assert_eq!(wav.read_at(&mut piece, from as u64).unwrap(), piece.len());
            assert_eq!(piece, bytes[from..to], "{from} to {to} of {length} samples");
        }
        assert_eq!(wav.read_at(&mut [0; 10], wav.bytes() + 5).unwrap(), 0);
        let error = Fetch::open(&store, &record, FetchFormat::Opus).unwrap_err();
        assert!(matches!(error, FetchError::Format { wanted: FetchFormat::Opus }));
    }
}

#[test]
fn a_linear_file_is_what_hound_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let mut writer =
        store.write(recording_id(1), VoiceForm::Pcm, Channels::Mono, 4 + 40_000).unwrap();
    writer.write_pcm(&[5, -5]).unwrap();
    writer.write_g711(Law::Mu, &[0, 0x80]).unwrap();
    writer.write_silence(40_000).unwrap();
    let record = put(&store, writer.finish().unwrap(), recording(1, STARTED)).unwrap();
    assert_eq!(record.format, VoiceFormat::Wav);
    store.verify(&record).unwrap();
    for wanted in [FetchFormat::Original, FetchFormat::Wav] {
        let samples = samples(&read(&Fetch::open(&store, &record, wanted).unwrap()));
        assert_eq!(samples[..5], [5, -5, -32124, 32124, 0]);
        assert_eq!(samples.len(), 40_004);
    }
}

#[test]
fn audio_of_the_other_law_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let mut writer =
        store.write(recording_id(1), VoiceForm::G711(Law::Mu), Channels::Mono, 4).unwrap();
    writer.write_g711(Law::Mu, &[1]).unwrap();
    writer.write_g711(Law::A, &[Law::A.encode(1000)]).unwrap();
    writer.write_pcm(&[-1000]).unwrap();
    writer.write_silence(1).unwrap();
    let record = put(&store, writer.finish().unwrap(), recording(1, STARTED)).unwrap();
    let bytes = read(&Fetch::open(&store, &record, FetchFormat::Original).unwrap());
    let linear: Vec<_> =
        bytes[58..62].iter().map(|byte| i32::from(Law::Mu.decode(*byte))).collect();
    assert_eq!((linear[0], linear[3]), (i32::from(Law::Mu.decode(1)), 0));
    assert!((linear[1] - 1000).abs() < 40 && (linear[2] + 1000).abs() < 40, "{linear:?}");
}

#[test]
fn a_wrong_length_or_a_wrong_record_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(recording_id(1), form, Channels::Mono, 3).unwrap();
    writer.write_silence(2).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, VoiceError::Length { expected: 3, written: 2 }));
    let voice = store.write(recording_id(1), form, Channels::Mono, 0).unwrap().finish().unwrap();
    let error = store.stage(voice, recording(2, STARTED)).unwrap_err();
    assert!(matches!(error, VoiceError::Mismatch { .. }));
    let error =
        store.write(recording_id(1), form, Channels::Mono, u64::from(u32::MAX)).unwrap_err();
    assert!(matches!(error, VoiceError::TooLong { .. }));
}

#[test]
fn an_altered_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let record = publish(&store, 1, VoiceForm::G711(Law::A), &[1, 2, 3, 4]).unwrap();
    let path = store.voice_path(&record);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(store.verify(&record), Err(VoiceError::Altered { .. })));
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(store.voice(&record), Err(VoiceError::Altered { .. })));
}

/// One revision of recording 1 as a test writes it.
#[derive(Clone, Copy, Debug)]
struct Version {
    revision: u32,
    started: i64,
    form: Option<VoiceForm>,
    audio: [u8; 2],
    encrypted: bool,
}

const FIRST: Version = Version {
    revision: 1,
    started: STARTED,
    form: Some(VoiceForm::G711(Law::A)),
    audio: [1, 2],
    encrypted: false,
};

impl Version {
    fn stage(self, store: &VoiceStore) -> Result<Staged, VoiceError> {
        let id = recording_id(1);
        let store = if self.encrypted {
            store.clone().with_keys(keys(&["k1"]))
        } else {
            store.clone().with_keys(Keys::default())
        };
        let voice = if let Some(form) = self.form {
            let mut writer = store.write(id, form, Channels::Mono, self.audio.len() as u64)?;
            writer.write_g711(Law::A, &self.audio)?;
            writer.finish()?
        } else {
            let mut writer = store.write_encoded(id, VoiceFormat::Opus)?;
            writer.write(&self.audio)?;
            writer.finish()?
        };
        let record = Recording { revision: self.revision, ..recording(1, self.started) };
        store.stage(voice, record)
    }

    fn publish(self, store: &VoiceStore) -> Result<Recording, VoiceError> {
        store.publish_staged(&self.stage(store)?)
    }
}

/// Everything below the voice folder that a start has to leave: pairs of record and voice file.
fn files_of_days(disk: &FaultDisk) -> Vec<String> {
    let shared = disk.shared();
    let mut folders = vec![dir().join(storage_core::naming::VOICE_FOLDER)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in shared.list(&folder).unwrap() {
            match entry.folder {
                true if entry.name.starts_with('.') => {}
                true => folders.push(folder.join(entry.name)),
                false => files.push(entry.name),
            }
        }
    }
    files
}

/// A start after a power cut: what is there is whole, and is there once.
fn started(disk: &FaultDisk) -> (Option<Recording>, Vec<Staged>) {
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap().with_keys(keys(&["k1"]));
    store.finish().unwrap();
    let staged = store.staged().unwrap();
    let parts = |record: &Recording| if record.encrypted { 3 } else { 2 };
    for folder in
        [storage_core::naming::sealing_folder(), storage_core::naming::publishing_folder()]
    {
        let listed = disk.shared().list(&dir().join(folder)).unwrap();
        assert_eq!(listed, [], "nothing is left lying about");
    }
    let listed = disk.shared().list(&dir().join(storage_core::naming::staged_folder())).unwrap();
    assert_eq!(listed.len(), staged.iter().map(|staged| parts(staged.record())).sum::<usize>());
    let published = store.published(recording_id(1)).unwrap();
    let files = files_of_days(disk);
    assert_eq!(files.len(), published.as_ref().map_or(0, parts), "{files:?}");
    if let Some(record) = &published {
        store.verify(record).unwrap();
    }
    (published, staged)
}

/// Publishes `before`, if there is one, and then `version` with the power going off at any sync.
fn publish_through_cuts(before: Option<Version>, version: Version) {
    for cut in 1.. {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
        let before = before.map(|before| before.publish(&store).unwrap());
        disk.off_at_sync(disk.syncs() + cut);
        let staged = version.stage(&store);
        let published = staged.as_ref().is_ok_and(|staged| store.publish_staged(staged).is_ok());
        for seed in 0..40 {
            let left = disk.power_cut(Survivors::of(seed));
            let (found, waiting) = started(&left);
            let is_new = |record: &Recording| record.revision == version.revision;
            assert!(found.is_some() || before.is_none(), "cut {cut}: a published one is lost");
            if let (Some(found), Some(before)) = (&found, &before)
                && before.revision != version.revision
                && !is_new(found)
            {
                assert_eq!(found, before);
            }
            let kept = waiting.first().map(Staged::record).or(found.as_ref());
            assert!(staged.is_err() || kept.is_some_and(is_new), "cut {cut}: a staged one is lost");
            assert!(!published || found.as_ref().is_some_and(is_new), "cut {cut}: not published");
            // It goes on from there.
            let store = VoiceStore::open_on(left.shared(), dir()).unwrap();
            let record = match waiting.first() {
                Some(staged) => store.publish_staged(staged).unwrap(),
                None => version.publish(&store).unwrap(),
            };
            assert_eq!(started(&left), (Some(record), vec![]));
        }
        if published {
            assert!(cut > 6, "the power went off only {cut} times");
            return;
        }
    }
}

#[test]
fn publishing_survives_a_power_cut_at_any_sync() {
    let second = Version { revision: 2, audio: [3, 4], ..FIRST };
    publish_through_cuts(None, FIRST);
    // The same once more, because a crash kept us from saying that it was done.
    publish_through_cuts(Some(FIRST), FIRST);
    publish_through_cuts(Some(FIRST), Version { audio: [3, 4], ..FIRST });
    publish_through_cuts(Some(FIRST), second);
    // A later revision that begins on the day before, or is of another form, or both.
    let day_before = STARTED - 86_400_000;
    publish_through_cuts(Some(FIRST), Version { started: day_before, ..second });
    publish_through_cuts(Some(FIRST), Version { form: None, ..second });
    publish_through_cuts(Some(FIRST), Version { started: day_before, form: None, ..second });
    publish_through_cuts(Some(Version { form: None, ..FIRST }), second);
}

#[test]
fn publishing_an_encrypted_file_survives_a_power_cut_at_any_sync() {
    let first = Version { encrypted: true, ..FIRST };
    let second = Version { revision: 2, audio: [3, 4], ..first };
    publish_through_cuts(None, first);
    publish_through_cuts(Some(first), first);
    publish_through_cuts(Some(first), second);
    let day_before = STARTED - 86_400_000;
    publish_through_cuts(Some(first), Version { started: day_before, form: None, ..second });
    // Encryption was switched on, or off, in between.
    publish_through_cuts(Some(FIRST), second);
    publish_through_cuts(Some(FIRST), first);
    publish_through_cuts(Some(first), Version { encrypted: false, ..second });
    publish_through_cuts(Some(first), FIRST);
}

/// A reader that comes at any moment finds a file that it can read.
#[test]
fn while_an_encrypted_revision_is_replaced_the_file_can_be_read() {
    let first = Version { encrypted: true, ..FIRST };
    let second = Version { revision: 2, audio: [3, 4], ..first };
    for failing in 1.. {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap().with_keys(keys(&["k1"]));
        let record = first.publish(&store).unwrap();
        let staged = second.stage(&store).unwrap();
        disk.fail_at(disk.operations() + failing);
        let failed = store.publish_staged(&staged).is_err();
        disk.fail_at(u64::MAX);
        if !failed {
            assert!(failing > 8);
            // The key of what was replaced is gone.
            let held = storage::disk::read_whole(&*disk.shared(), &store.keys_path(&record), 4096);
            let held: serde_json::Value = serde_json::from_slice(&held.unwrap()).unwrap();
            assert_eq!(held["keys"].as_array().unwrap().len(), 1);
            let staged = dir().join(storage_core::naming::staged_folder());
            assert_eq!(disk.shared().list(&staged).unwrap(), []);
            return;
        }
        // Whatever has been done by now: whichever of the two files is there has its key.
        let there = store.published(record.recordingid).unwrap().unwrap();
        let file = store.voice(&there).unwrap();
        let mut audio = [0; 2];
        file.read_at(&mut audio, 58).unwrap();
        assert!([[1, 2], [3, 4]].contains(&audio), "operation {failing}");
    }
}

#[test]
fn a_failing_disk_lets_publishing_be_tried_again() {
    let second = Version { revision: 2, started: STARTED - 86_400_000, audio: [3, 4], ..FIRST };
    for failing in 1.. {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
        FIRST.publish(&store).unwrap();
        let staged = second.stage(&store).unwrap();
        disk.fail_at(disk.operations() + failing);
        let failed = store.publish_staged(&staged).is_err();
        disk.fail_at(u64::MAX);
        let record = store.publish_staged(&staged).unwrap();
        assert_eq!(started(&disk), (Some(record), vec![]), "operation {failing}");
        if !failed {
            assert!(failing > 6);
            return;
        }
    }
}

#[test]
fn what_is_merely_staged_is_not_published_and_may_be_discarded() {
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let published = FIRST.publish(&store).unwrap();
    let (second, third) = (
        Version { revision: 2, audio: [3, 4], ..FIRST },
        Version { revision: 3, audio: [5, 6], ..FIRST },
    );
    let (second, third) = (second.stage(&store).unwrap(), third.stage(&store).unwrap());
    let (found, waiting) = started(&disk);
    assert_eq!(found, Some(published));
    assert_eq!(waiting, [second.clone(), third.clone()]);
    store.discard(&third).unwrap();
    store.discard(&third).unwrap();
    let record = store.publish_staged(&second).unwrap();
    assert_eq!(store.publish_staged(&second).unwrap(), record, "once more is no harm");
    assert_eq!(started(&disk), (Some(record), vec![]));
    assert!(store.publish_staged(&third).is_err());
}

#[test]
fn half_of_what_was_staged_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let staged_folder = folder.path().join(storage_core::naming::staged_folder());
    let whole = Version { revision: 4, ..FIRST }.stage(&store).unwrap();
    for revision in 1..=3 {
        let staged = Version { revision, ..FIRST }.stage(&store).unwrap();
        let name = |ending| {
            staged_folder.join(format!("{}.{revision}.{ending}", staged.record().recordingid))
        };
        match revision {
            1 => std::fs::remove_file(name("wav")).unwrap(),
            2 => std::fs::remove_file(name("json")).unwrap(),
            _ => std::fs::write(name("wav"), "short").unwrap(),
        }
    }
    assert_eq!(store.staged().unwrap(), [whole]);
    assert_eq!(std::fs::read_dir(staged_folder).unwrap().count(), 2);
}

#[test]
fn what_people_wrote_on_a_revision_stays_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let mut first = FIRST.publish(&store).unwrap();
    let second = Version { revision: 2, started: STARTED - 86_400_000, ..FIRST };
    let staged = second.stage(&store).unwrap();
    // Written down while the next revision was waiting.
    let marking = Marking::new(vec!["a".into()], Vec::new(), Some("b".into())).unwrap();
    let now = first.ended;
    assert_eq!(marking.apply(&mut first, "anna", now, NodeId(1)), Ok(true));
    first.hold = true;
    std::fs::write(store.record_path(&first), serde_json::to_vec(&first).unwrap()).unwrap();
    let published = store.publish_staged(&staged).unwrap();
    assert_eq!(
        (published.tags, published.notes, published.hold),
        (first.tags, first.notes, first.hold)
    );
    // One that was overtaken does not come back.
    let late = FIRST.stage(&store).unwrap();
    assert_eq!(store.publish_staged(&late).unwrap().revision, 2);
    assert_eq!(store.staged().unwrap(), []);
}

#[test]
fn a_full_disk_leaves_what_was_there_and_it_can_be_tried_again() {
    let form = VoiceForm::G711(Law::A);
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let before = publish(&store, 1, form, &[1; 1000]).unwrap();
    for room in (0..4000).step_by(100) {
        disk.set_capacity(Some(disk.used() + room));
        if let Err(error) = publish(&store, 2, form, &[2; 1500]) {
            assert!(error.is_full(), "{error}");
        }
        disk.set_capacity(None);
        store.verify(&before).unwrap();
        let record = publish(&store, 2, form, &[2; 1500]).unwrap();
        store.verify(&record).unwrap();
    }
}

fn rebuilt(folder: &Path) -> (Arc<DurableCatalog>, reindex::Reindexed) {
    let store = VoiceStore::open(folder).unwrap();
    let (catalog, state) = DurableCatalog::open(&folder.join("catalog")).unwrap();
    let reindexed = reindex::at_start(&store, &catalog, &state).unwrap();
    (Arc::new(catalog), reindexed)
}

#[test]
fn the_catalog_is_rebuilt_from_the_files_and_broken_pairs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let form = VoiceForm::G711(Law::A);
    let records: Vec<_> =
        (1..=6).map(|number| publish(&store, number, form, &[1, 2]).unwrap()).collect();
    std::fs::remove_file(store.voice_path(&records[0])).unwrap();
    std::fs::remove_file(store.record_path(&records[1])).unwrap();
    std::fs::write(store.record_path(&records[2]), "{").unwrap();
    std::fs::rename(store.record_path(&records[3]), store.record_path(&records[0])).unwrap();

    let (catalog, reindexed) = rebuilt(folder.path());
    assert_eq!(reindexed.entered, 2);
    assert_eq!(catalog.get(recording_id(5)).unwrap().as_ref(), Some(&records[4]));
    assert_eq!(catalog.len().unwrap(), 2);
    let broken: Vec<_> = reindexed.broken.iter().map(ToString::to_string).collect();
    // 1: foreign record; 2: no record; 3: no JSON; 4: no record.
    assert_eq!(broken.len(), 4, "{broken:#?}");
    for number in 1..=4 {
        let id = recording_id(number).to_string();
        assert!(broken.iter().any(|text| text.contains(&id)), "{id} is not in {broken:#?}");
    }
}

#[test]
fn a_start_enters_what_a_crash_kept_from_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let form = VoiceForm::G711(Law::A);
    drop(rebuilt(folder.path()));
    publish(&store, 1, form, &[1]).unwrap();
    let (catalog, reindexed) = rebuilt(folder.path());
    assert_eq!((reindexed.entered, reindexed.broken.len()), (1, 0));
    drop(catalog);
    let (_, reindexed) = rebuilt(folder.path());
    assert_eq!(reindexed.entered, 0);
}

#[test]
fn two_channels_stay_apart_in_any_range() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(recording_id(1), form, Channels::Stereo, 300).unwrap();
    let audio: Vec<u8> = (0..600_u16).map(|n| n.to_le_bytes()[0]).collect();
    writer.write_g711(Law::A, &audio).unwrap();
    let record = put(&store, writer.finish().unwrap(), recording(1, STARTED)).unwrap();
    let fetch = Fetch::open(&store, &record, FetchFormat::Wav).unwrap();
    let wav = read(&fetch);
    let mut reader = hound::WavReader::new(&wav[..]).unwrap();
    assert_eq!((reader.spec().channels, reader.duration()), (2, 300));
    let linear: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    assert_eq!(linear, audio.iter().map(|byte| Law::A.decode(*byte)).collect::<Vec<_>>());
    let mut piece = [0; 101];
    assert_eq!(fetch.read_at(&mut piece, 39).unwrap(), piece.len());
    assert_eq!(piece[..], wav[39..140]);
    let writer = store.write(recording_id(2), form, Channels::Stereo, 3).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, VoiceError::Length { expected: 6, written: 0 }));
}

#[test]
fn a_damaged_catalog_is_rebuilt_at_a_start_and_the_damage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = VoiceStore::open(folder.path()).unwrap();
    let publish = |number| publish(&store, number, VoiceForm::G711(Law::A), &[1]).unwrap();
    let published: Vec<_> = (1..=3).map(publish).collect();
    drop(rebuilt(folder.path()));
    let file = folder.path().join("catalog/index/catalog.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    // Records are packed; a checksum's digits are like nothing else, and lie there as they are.
    let digits = &published[1].sha256.as_bytes()[20..40];
    let at = bytes.windows(digits.len()).position(|found| found == digits);
    let at = at.unwrap_or_else(|| panic!("no record in {}", file.display()));
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (catalog, reindexed) = rebuilt(folder.path());
    let damage = reindexed.damage.expect("damage was noticed").to_string();
    assert!(damage.contains("is not what was written"), "{damage}");
    assert_eq!((catalog.len().unwrap(), reindexed.entered), (3, 3));
    catalog.check().unwrap();
}
