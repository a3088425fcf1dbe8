//! Recordings whose voice file lies in the archive: read from there as if it lay here, plain and encrypted; removed
//! here only with a note in the record; and no loss at any power cut meanwhile.

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;

use common::{dir, keys, recording, recording_id};
use storage::disk::{Disk, DiskFile};
use storage::owed::ARCHIVE;
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{
    ArchiveReader, Fetch, FetchFormat, Keys, Lies, Owed, VoiceError, VoiceForm, VoiceStore,
};
use storage_core::archived::Archived;
use storage_core::g711::Law;
use storage_core::marks::{Marks, Stamp};
use storage_core::{NodeId, Recording, WallTime, naming};

const ME: NodeId = NodeId(1);
const OBJECT: &str = "/archive/object";

/// An archive that is one file on another disk.
#[derive(Debug)]
struct OneFile(Arc<dyn Disk>);

impl ArchiveReader for OneFile {
    fn open(&self, archived: &Archived) -> io::Result<Arc<dyn DiskFile>> {
        assert_eq!(archived.place, "s3://b/x");
        self.0.open(Path::new(OBJECT))
    }
}

struct Bench {
    disk: FaultDisk,
    archive: FaultDisk,
    store: VoiceStore,
    record: Recording,
    bytes: Vec<u8>,
}

fn opened(disk: &FaultDisk, archive: &FaultDisk, own_keys: &Keys) -> VoiceStore {
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let store = store.with_keys(own_keys.clone());
    store.with_archive(Arc::new(OneFile(archive.shared())), ME)
}

/// A recording that lies here and in the archive, and whose record does not say so yet.
fn archived(own_keys: &Keys) -> (Bench, Archived) {
    let (disk, archive) = (FaultDisk::new(), FaultDisk::new());
    let store = opened(&disk, &archive, own_keys);
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(recording_id(1), form, Channels::Mono, 5000).unwrap();
    writer.write_g711(Law::A, &[7; 5000]).unwrap();
    let staged = store.stage(writer.finish().unwrap(), recording(1, 1_795_000_000_000)).unwrap();
    let record = store.publish_staged(&staged).unwrap();
    let bytes = read(&store, &record);
    let file = store.to_archive(&record).unwrap();
    let mut lying = vec![0; usize::try_from(file.bytes).unwrap()];
    assert_eq!(file.file.read_at(&mut lying, 0).unwrap(), lying.len());
    archive.shared().make_folder(Path::new("/archive")).unwrap();
    archive.shared().create(Path::new(OBJECT)).unwrap().write_at(&lying, 0).unwrap();
    let note = Archived {
        place: "s3://b/x".to_owned(),
        revision: record.revision,
        sha256: record.sha256.clone(),
        encrypted: record.encrypted,
        bytes: file.bytes,
        stored: file.stored,
        record: "unused".to_owned(),
        stamp: Stamp { at: WallTime::from_millis(5), node: ME },
    };
    (Bench { disk, archive, store, record, bytes }, note)
}

fn read(store: &VoiceStore, record: &Recording) -> Vec<u8> {
    let fetch = Fetch::open(store, record, FetchFormat::Original).unwrap();
    let mut bytes = vec![0; usize::try_from(fetch.bytes()).unwrap()];
    assert_eq!(fetch.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn noted(bench: &Bench, note: &Archived) -> Recording {
    let record = Recording { archived: Some(note.clone()), ..bench.record.clone() };
    assert!(bench.store.mark(&record).unwrap());
    record
}

#[test]
fn what_was_removed_is_read_from_the_archive_and_is_no_broken_pair() {
    for own_keys in [Keys::default(), keys(&["k1"])] {
        let (bench, note) = archived(&own_keys);
        let Bench { store, record, bytes, .. } = &bench;
        assert!(!store.remove_archived(&note, record).unwrap(), "its record does not say so");
        assert_eq!(store.lies(record).unwrap(), Lies::This(Box::new(record.clone())));
        let record = noted(&bench, &note);
        assert_eq!(store.lies(&record).unwrap(), Lies::This(Box::new(record.clone())));
        let other = Archived { bytes: 1, ..note.clone() };
        assert!(!store.remove_archived(&other, &record).unwrap(), "another note");
        assert!(store.remove_archived(&note, &record).unwrap());
        assert!(!store.lies_on_disk(&record));
        assert_eq!(store.lies(&record).unwrap(), Lies::Archived(Box::new(record.clone())));
        assert_eq!(read(store, &record), *bytes);
        assert!(!store.remove_archived(&note, &record).unwrap(), "it is gone already");

        // Without an archive it is not here, and why is said.
        let bare = VoiceStore::open_on(bench.disk.shared(), dir()).unwrap();
        assert_eq!(bare.lies(&record).unwrap(), Lies::Nothing);
        let error = bare.voice(&record).unwrap_err();
        assert!(
            matches!(&error, VoiceError::Archive { place, .. } if place == "s3://b/x"),
            "{error}"
        );
    }
}

#[test]
fn a_later_revision_is_not_what_the_archive_has() {
    let (bench, note) = archived(&Keys::default());
    let Bench { store, .. } = &bench;
    let record = noted(&bench, &note);
    assert!(store.remove_archived(&note, &record).unwrap());
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(record.recordingid, form, Channels::Mono, 3).unwrap();
    writer.write_g711(Law::A, &[1, 2, 3]).unwrap();
    let second = Recording { revision: 2, archived: None, ..record.clone() };
    let staged = store.stage(writer.finish().unwrap(), second).unwrap();
    let second = store.publish_staged(&staged).unwrap();
    assert_eq!(second.archived, None);
    let mut merged = second.clone();
    assert!(!Marks::of(&record).merge_into(&mut merged), "a note of the first one");
    assert_eq!(store.lies(&second).unwrap(), Lies::This(Box::new(second.clone())));
    assert!(!store.remove_archived(&note, &second).unwrap());
}

#[test]
fn what_another_node_has_encrypted_is_not_read_and_not_removed_here() {
    let (bench, note) = archived(&keys(&["k1"]));
    let others = Archived { stamp: Stamp { node: NodeId(2), ..note.stamp }, ..note };
    let record = noted(&bench, &others);
    assert_eq!(bench.store.archived_here(&record), None);
    assert!(!bench.store.remove_archived(&others, &record).unwrap());
    assert!(bench.store.lies_on_disk(&record));
}

#[test]
fn only_the_record_is_laid_down_where_there_is_no_room_for_more() {
    let (bench, note) = archived(&Keys::default());
    let record = Recording { archived: Some(note), ..bench.record.clone() };
    let disk = FaultDisk::new();
    let store = opened(&disk, &bench.archive, &Keys::default());
    store.adopt_archived(&bench.record).unwrap();
    assert_eq!(store.lies(&bench.record).unwrap(), Lies::Nothing, "it is not archived");
    store.adopt_archived(&record).unwrap();
    assert_eq!(store.lies(&record).unwrap(), Lies::Archived(Box::new(record.clone())));
    assert_eq!(read(&store, &record), bench.bytes);
    let tombstone = storage_core::tombstone::Tombstone::of(
        &record,
        storage_core::tombstone::Deletion {
            at: WallTime::from_millis(9),
            node: ME,
            by: "adam".to_owned(),
            reason: "told to".to_owned(),
        },
    );
    store.delete(&tombstone).unwrap();
    assert_eq!(store.lies(&record).unwrap(), Lies::Nothing);
    assert!(matches!(store.adopt_archived(&record), Err(VoiceError::Deleted { .. })));
}

#[test]
fn altered_audio_is_not_archived() {
    let (bench, _) = archived(&Keys::default());
    let path = bench.store.voice_path(&bench.record);
    bench.disk.shared().open(&path).unwrap().write_at(&[9], 100).unwrap();
    let error = bench.store.to_archive(&bench.record).unwrap_err();
    assert!(matches!(error, VoiceError::Altered { .. }), "{error}");
}

#[test]
fn a_power_cut_while_it_is_removed_leaves_the_file_or_the_note_that_replaces_it() {
    for survivors in [Survivors::None, Survivors::All] {
        let (bench, note) = archived(&Keys::default());
        let record = noted(&bench, &note);
        let Bench { disk, archive, bytes, .. } = &bench;
        assert!(bench.store.remove_archived(&note, &record).unwrap());
        let after = disk.power_cut(survivors);
        let store = opened(&after, archive, &Keys::default());
        assert_eq!(store.record(record.recordingid, record.started).unwrap(), record);
        assert_eq!(read(&store, &record), *bytes);
        let folder = dir().join(naming::day_folder(record.started));
        assert!(after.shared().list(&folder).unwrap().len() == 1, "the record alone");
    }
}

#[test]
fn a_deletion_is_owed_to_the_archive_after_all_others_over_restarts() {
    let disk = FaultDisk::new();
    let owed = Owed::open_on(disk.shared(), dir()).unwrap();
    let id = recording_id(1);
    owed.owe(id, [NodeId(2), ARCHIVE]).unwrap();
    assert_eq!(owed.nodes_of(id), [ARCHIVE, NodeId(2)]);
    let (_, mark) = owed.to(NodeId(2))[0];
    owed.told(NodeId(2), id, mark).unwrap();
    let after = disk.power_cut(Survivors::All);
    let owed = Owed::open_on(after.shared(), dir()).unwrap();
    assert_eq!(owed.nodes_of(id), [ARCHIVE]);
    let (_, mark) = owed.to(ARCHIVE)[0];
    owed.told(ARCHIVE, id, mark).unwrap();
    assert!(owed.nodes_of(id).is_empty());
}
