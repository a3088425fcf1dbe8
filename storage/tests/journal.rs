//! The capture journal as a whole: reading back, restarts, full and failing disks, power cuts,
//! cleaning. The disk is in memory, so that every fault can be had.

mod common;

use std::collections::BTreeMap;

use common::{begin, block, contents, dir, draft, opened, recording_id};
use proptest::prelude::*;
use storage::testing::{FaultDisk, Survivors};
use storage::{Journal, JournalError, JournalOptions, Recovered};
use storage_core::journal::Fact;
use storage_core::{NodeId, SegmentId, WallTime, naming};

fn small() -> JournalOptions {
    JournalOptions { rotate_bytes: 4096, reserve_bytes: 0, files_kept: 2 }
}

fn open(disk: &FaultDisk) -> (Journal, Recovered) {
    open_with(disk, small())
}

fn open_with(disk: &FaultDisk, options: JournalOptions) -> (Journal, Recovered) {
    Journal::open_on(disk.shared(), dir(), NodeId(1), options).unwrap()
}

fn append(journal: &mut Journal, segment: u64, numbers: std::ops::Range<u64>) {
    let mut frames = Vec::new();
    block(&mut frames, segment, numbers, 172);
    journal.append(&mut frames).unwrap();
}

fn files(disk: &FaultDisk) -> Vec<String> {
    let listed = disk.shared().list(&dir().join(naming::CAPTURE_FOLDER)).unwrap();
    let names = listed.into_iter().map(|entry| entry.name);
    names.filter(|name| naming::capture_number(name).is_some()).collect()
}

/// Maintains until there is nothing more to do.
fn settle(journal: &mut Journal) {
    for _ in 0..1000 {
        journal.sync().unwrap();
        let done = journal.maintain().unwrap();
        if done == storage::Maintained::default() {
            return;
        }
    }
    panic!("maintenance does not come to an end");
}

#[test]
fn entries_come_back_in_the_order_of_appending() {
    let disk = FaultDisk::new();
    let (mut journal, recovered) = open(&disk);
    assert_eq!(recovered.next_segment, SegmentId(0));
    begin(&mut journal, 1).unwrap();
    journal.append_fact(&opened(2, 1)).unwrap();
    // Two segments of one recording in turn, over several files, in appends of many blocks.
    for round in 0..40 {
        let mut frames = Vec::new();
        block(&mut frames, 1, round * 5..round * 5 + 5, 172);
        block(&mut frames, 2, round * 5..round * 5 + 5, 172);
        block(&mut frames, 9, round..round + 1, 172);
        journal.append(&mut frames).unwrap();
    }
    let expected: Vec<_> = (0..40)
        .flat_map(|round| {
            [1, 2].map(|segment| (round * 5..round * 5 + 5).map(move |n| (segment, n)))
        })
        .flatten()
        .collect();
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!(read.order, expected);
    assert_eq!(read.segments, [1, 2]);
    assert_eq!(journal.unattributed_blocks(), 40, "segment 9 was never opened");
    assert!(matches!(contents(&journal.reader(), 9), Err(JournalError::NoRecording(_))));

    // The same after a restart; the segments are closed then, and numbers go on.
    drop(journal);
    let (journal, recovered) = open(&disk);
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!((read.order, read.closed), (expected, vec![1, 2]));
    assert_eq!(recovered.open, [draft(1)]);
    assert!(recovered.next_segment >= SegmentId(10));
    assert_eq!((recovered.torn_bytes, recovered.skipped_bytes), (0, 0));
}

#[test]
fn what_is_open_ended_or_sealed_is_told_at_the_next_start() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    for number in 1..=3 {
        begin(&mut journal, number).unwrap();
    }
    let ended = storage_core::Draft { ended: Some(WallTime::from_millis(9)), ..draft(2) };
    journal.append_fact(&Fact::Recording { draft: ended }).unwrap();
    journal.append_fact(&Fact::Sealed { recordingid: recording_id(3) }).unwrap();
    journal.append_fact(&opened(7, 4)).unwrap();
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.open, [draft(1)]);
    assert_eq!(recovered.ended_unsealed, [recording_id(2)]);
    assert_eq!(recovered.without_draft, [recording_id(4)]);
    assert_eq!(journal.reader().open_recordings().len(), 3);
}

#[test]
fn sealed_recordings_free_their_files_and_stay_sealed() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    for number in 1..=6 {
        begin(&mut journal, number).unwrap();
        append(&mut journal, number, 0..40);
    }
    let before = files(&disk).len();
    assert!(before >= 6);
    for number in 1..=6 {
        journal.append_fact(&Fact::Sealed { recordingid: recording_id(number) }).unwrap();
        assert!(journal.maintain().unwrap().removed == 0, "not before the seal is durable");
    }
    settle(&mut journal);
    let left = files(&disk).len();
    assert!(left <= 2, "{left} files are left of {before}");
    let cut = disk.power_cut(Survivors::None);
    let (_, recovered) = open(&cut);
    assert_eq!((recovered.open, recovered.without_draft), (vec![], vec![]));
    assert!(recovered.next_segment >= SegmentId(7), "numbers are not given out again");
}

#[test]
fn a_long_call_does_not_keep_the_files_of_short_ones() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    let mut most = 0;
    for number in 2..60 {
        append(&mut journal, 1, number..number + 1);
        begin(&mut journal, number).unwrap();
        append(&mut journal, number, 0..20);
        journal.append_fact(&Fact::Sealed { recordingid: recording_id(number) }).unwrap();
        settle(&mut journal);
        most = most.max(files(&disk).len());
    }
    assert!(most <= 8, "{most} files at once for 60 packets of one call");
    let expected: Vec<_> = (2..60).collect();
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], expected);
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], expected);
    assert_eq!(recovered.open, [draft(1)]);
    assert_eq!((recovered.ended_unsealed, recovered.without_draft), (vec![], vec![]));
}

#[test]
fn a_reader_keeps_what_it_reads() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    for round in 0..20 {
        append(&mut journal, 1, round * 10..round * 10 + 10);
    }
    let reader = journal.reader();
    let mut packets = 0;
    let stats = reader.read_recording(recording_id(1), |_| {
        if packets == 0 {
            journal.append_fact(&Fact::Sealed { recordingid: recording_id(1) }).unwrap();
            settle(&mut journal);
        }
        packets += 1;
    });
    assert_eq!(stats.unwrap().packets, 200);
    settle(&mut journal);
    assert!(files(&disk).len() <= 2);
}

#[test]
fn a_full_disk_keeps_what_fits_and_goes_on_when_there_is_room() {
    let disk = FaultDisk::new();
    let options = JournalOptions { reserve_bytes: 64 << 10, rotate_bytes: 1 << 20, files_kept: 2 };
    let (mut journal, _) = open_with(&disk, options);
    begin(&mut journal, 1).unwrap();
    let mut frames = Vec::new();
    for number in 0..10 {
        block(&mut frames, 1, number..number + 1, 172);
    }
    let one = frames.len() / 10;
    disk.set_capacity(Some(disk.used() + one * 3 + 17));
    let error = journal.append(&mut frames).unwrap_err();
    assert!(matches!(error, JournalError::Full { .. }), "{error}");
    assert_eq!(error.kept(), one * 3);
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], [0, 1, 2]);
    // Facts still go in, a good many of them.
    for _ in 0..50 {
        journal.append_fact(&Fact::Recording { draft: draft(1) }).unwrap();
    }
    // What a fact left of its piece of the reserve is for the next fact.
    let refused = |journal: &mut Journal| {
        let mut frames = Vec::new();
        block(&mut frames, 1, 3..4, 172);
        let error = journal.append(&mut frames).unwrap_err();
        assert!(matches!(error, JournalError::Full { kept: 0, .. }), "{error}");
    };
    refused(&mut journal);
    journal.maintain().unwrap();
    assert!(!journal.recover(), "there is no room");
    disk.set_capacity(None);
    refused(&mut journal);
    journal.maintain().unwrap();
    append(&mut journal, 1, 3..10);
    assert!(journal.recover());
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], (0..10).collect::<Vec<_>>());
    drop(journal);
    let (journal, recovered) = open_with(&disk, options);
    assert_eq!(recovered.torn_bytes, 0);
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], (0..10).collect::<Vec<_>>());
}

#[test]
fn facts_that_come_together_are_one_write_and_on_a_full_disk_as_many_as_fit() {
    let disk = FaultDisk::new();
    let options = JournalOptions { rotate_bytes: 1 << 20, ..small() };
    let (mut journal, _) = open_with(&disk, options);
    let facts = [Fact::Recording { draft: draft(1) }, opened(1, 1), opened(2, 1), opened(3, 1)];
    let before = disk.operations();
    let (written, outcome) = journal.append_facts(facts[..3].iter());
    outcome.unwrap();
    assert_eq!((written, disk.operations() - before), (3, 1));
    append(&mut journal, 2, 0..3);
    let again = [&facts[0], &facts[3], &facts[0]];
    let mut bytes = Vec::new();
    for fact in &again[..2] {
        storage_core::journal::encode_fact(&mut bytes, fact).unwrap();
    }
    disk.set_capacity(Some(disk.used() + bytes.len() + 10));
    let (written, outcome) = journal.append_facts(again.into_iter());
    assert!(matches!(outcome, Err(JournalError::Full { .. })), "{outcome:?}");
    assert_eq!(written, 2);
    disk.set_capacity(None);
    append(&mut journal, 3, 0..2);
    drop(journal);
    let (journal, _) = open_with(&disk, options);
    let packets = contents(&journal.reader(), 1).unwrap().packets;
    assert_eq!((packets[&2].len(), packets[&3].len()), (3, 2));
}

#[test]
fn a_full_disk_does_not_prevent_a_start() {
    let disk = FaultDisk::new();
    let options = JournalOptions { reserve_bytes: 64 << 10, ..small() };
    let (mut journal, _) = open_with(&disk, options);
    begin(&mut journal, 1).unwrap();
    drop(journal);
    disk.set_capacity(Some(disk.used()));
    let (mut journal, recovered) = open_with(&disk, options);
    assert_eq!(recovered.open.len(), 1);
    journal.append_fact(&Fact::Sealed { recordingid: recording_id(1) }).unwrap();
}

#[test]
fn a_failing_write_costs_what_it_hit() {
    for failing in 0..40 {
        let disk = FaultDisk::new();
        let (mut journal, _) = open(&disk);
        begin(&mut journal, 1).unwrap();
        disk.fail_at(disk.operations() + failing);
        let mut kept = Vec::new();
        for number in 0..60 {
            let mut frames = Vec::new();
            block(&mut frames, 1, number..number + 1, 172);
            if journal.append(&mut frames).is_ok() {
                kept.push(number);
            }
        }
        assert!(kept.len() >= 59);
        assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], kept);
        drop(journal);
        let (journal, _) = open(&disk);
        assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1], kept);
    }
}

#[test]
fn rot_in_an_old_file_costs_one_block() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    for number in 0..60 {
        append(&mut journal, 1, number..number + 1);
    }
    drop(journal);
    let oldest = dir().join(naming::CAPTURE_FOLDER).join(naming::capture_file(1));
    disk.rot(&oldest, 2000, 4);
    let (mut journal, recovered) = open(&disk);
    assert!(recovered.skipped_bytes > 0);
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!(read.packets[&1].len(), 59);
    // Rot that comes later is counted by the reader, and does no harm to cleaning.
    disk.rot(&oldest, 3000, 4);
    let read = contents(&journal.reader(), 1).unwrap();
    assert_eq!(read.packets[&1].len(), 58);
    assert!(read.bytes_lost > 0);
    journal.append_fact(&Fact::Recording { draft: draft(1) }).unwrap();
    settle(&mut journal);
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1].len(), 58);
}

#[test]
fn a_bad_sector_hides_only_itself_and_is_not_given_up() {
    let disk = FaultDisk::new();
    let options = JournalOptions { rotate_bytes: 40_000, ..small() };
    let (mut journal, _) = open_with(&disk, options);
    begin(&mut journal, 1).unwrap();
    for number in 0..150 {
        append(&mut journal, 1, number..number + 1);
    }
    let file = dir().join(naming::CAPTURE_FOLDER).join(naming::capture_file(1));
    let length = disk.shared().open(&file).unwrap().length().unwrap();
    // At the end: what cannot be read is not a torn tail.
    disk.set_bad(&file, Some(usize::try_from(length).unwrap() - 50));
    let read = contents(&journal.reader(), 1).unwrap();
    assert!((100..150).contains(&read.packets[&1].len()), "{}", read.packets[&1].len());
    assert!(read.bytes_lost > 0);
    drop(journal);
    let (mut journal, recovered) = open_with(&disk, options);
    assert!(recovered.torn_bytes == 0 && recovered.skipped_bytes > 0);
    assert_eq!(disk.shared().open(&file).unwrap().length().unwrap(), length);
    // In the middle, while the file is cleaned because a short call filled the rest.
    disk.set_bad(&file, Some(20_000));
    for number in 2..8 {
        begin(&mut journal, number).unwrap();
        for round in 0..20 {
            append(&mut journal, number, round * 10..round * 10 + 10);
        }
        journal.append_fact(&Fact::Sealed { recordingid: recording_id(number) }).unwrap();
    }
    settle(&mut journal);
    let hidden = contents(&journal.reader(), 1).unwrap().packets[&1].len();
    assert!((100..150).contains(&hidden), "{hidden}");
    disk.set_bad(&file, None);
    let healed = contents(&journal.reader(), 1).unwrap().packets[&1].len();
    assert!(healed > hidden, "the file was kept");
}

#[test]
fn bytes_that_are_no_frames_are_refused() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    let mut frames = Vec::new();
    block(&mut frames, 1, 0..1, 172);
    let whole = frames.len();
    frames.extend(b"no frame");
    let error = journal.append(&mut frames).unwrap_err();
    assert!(matches!(error, JournalError::NotFrames { offset } if offset == whole));
    journal.append(&mut []).unwrap();
    assert!(journal.append(&mut frames[..whole - 1]).is_err());
}

#[test]
fn a_file_of_a_later_program_is_not_touched() {
    let disk = FaultDisk::new();
    drop(open(&disk));
    let path = dir().join(naming::CAPTURE_FOLDER).join(naming::capture_file(7));
    let header = storage_core::journal::FileHeader {
        node: NodeId(1),
        file: 7,
        next_segment: SegmentId(1),
        encrypted: false,
    };
    let mut bytes = header.encode();
    bytes[8] = 3;
    let check = crc32c::crc32c(&bytes[..24]);
    bytes[24..].copy_from_slice(&check.to_le_bytes());
    disk.shared().create(&path).unwrap().write_at(&bytes, 0).unwrap();
    let error = Journal::open_on(disk.shared(), dir(), NodeId(1), small()).unwrap_err();
    assert!(error.to_string().contains("0000000007.alc"), "{error}");
    assert_eq!(disk.shared().open(&path).unwrap().length().unwrap(), bytes.len() as u64);
}

#[test]
fn the_second_process_is_told_who_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Journal::open(dir.path(), NodeId(1), small()).unwrap();
    let error = Journal::open(dir.path(), NodeId(1), small()).unwrap_err();
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(first);
    Journal::open(dir.path(), NodeId(1), small()).unwrap();
}

/// One thing that a recorder does with its journal.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begin,
    Packets {
        recording: usize,
        count: u64,
    },
    Redraft {
        recording: usize,
    },
    Seal {
        recording: usize,
    },
    Sync,
    Maintain,
    /// The disk has so little room left.
    Full {
        room: usize,
    },
    Room,
    Restart,
    PowerCut {
        seed: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Begin),
        12 => (0_usize..6, 1_u64..12)
            .prop_map(|(recording, count)| Act::Packets { recording, count }),
        2 => (0_usize..6).prop_map(|recording| Act::Redraft { recording }),
        3 => (0_usize..6).prop_map(|recording| Act::Seal { recording }),
        3 => Just(Act::Sync),
        6 => Just(Act::Maintain),
        1 => (0_usize..3000).prop_map(|room| Act::Full { room }),
        2 => Just(Act::Room),
        1 => Just(Act::Restart),
        1 => any::<u64>().prop_map(|seed| Act::PowerCut { seed }),
    ]
}

/// What must and what may be in the journal of one recording.
#[derive(Clone, Debug, Default)]
struct Model {
    appended: Vec<u64>,
    durable: usize,
    begun_durable: bool,
    sealed: bool,
    seal_durable: bool,
}

/// No error but the one that the test provokes.
fn ok_or_full(outcome: Result<(), JournalError>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(JournalError::Full { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

struct World {
    disk: FaultDisk,
    journal: Journal,
    models: BTreeMap<u64, Model>,
    next: u64,
}

impl World {
    fn new() -> Self {
        let disk = FaultDisk::new();
        let (journal, _) = open(&disk);
        Self { disk, journal, models: BTreeMap::new(), next: 1 }
    }

    fn pick(&self, recording: usize) -> Option<u64> {
        let open: Vec<_> = self.models.iter().filter(|(_, model)| !model.sealed).collect();
        open.get(recording % open.len().max(1)).map(|(number, _)| **number)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Begin => {
                if ok_or_full(begin(&mut self.journal, self.next)) {
                    self.models.insert(self.next, Model::default());
                }
                self.next += 1;
            }
            Act::Packets { recording, count } => {
                let Some(number) = self.pick(recording) else { return };
                let model = self.models.get_mut(&number).unwrap();
                let from = model.appended.last().map_or(0, |last| last + 1);
                let mut frames = Vec::new();
                for packet in from..from + count {
                    block(&mut frames, number, packet..packet + 1, 172);
                }
                let one = frames.len() / usize::try_from(count).unwrap();
                let outcome = self.journal.append(&mut frames);
                let kept = outcome.as_ref().map_or_else(JournalError::kept, |()| frames.len());
                ok_or_full(outcome);
                assert_eq!(kept % one, 0);
                model.appended.extend(from..from + (kept / one) as u64);
            }
            Act::Redraft { recording } => {
                let Some(number) = self.pick(recording) else { return };
                let fact = Fact::Recording { draft: draft(number) };
                ok_or_full(self.journal.append_fact(&fact));
            }
            Act::Seal { recording } => {
                let Some(number) = self.pick(recording) else { return };
                let fact = Fact::Sealed { recordingid: recording_id(number) };
                let sealed = ok_or_full(self.journal.append_fact(&fact));
                self.models.get_mut(&number).unwrap().sealed = sealed;
            }
            Act::Sync => {
                self.journal.sync().unwrap();
                self.all_durable();
            }
            Act::Maintain => {
                ok_or_full(self.journal.maintain().map(drop));
            }
            Act::Full { room } => self.disk.set_capacity(Some(self.disk.used() + room)),
            Act::Room => self.disk.set_capacity(None),
            Act::Restart => {
                let all = self.disk.power_cut(Survivors::All);
                self.reopen(all);
                // Opening syncs.
                self.all_durable();
            }
            Act::PowerCut { seed } => {
                let survivors = if seed % 3 == 0 { Survivors::None } else { Survivors::Seed(seed) };
                let left = self.disk.power_cut(survivors);
                self.reopen(left);
                self.after_cut();
                self.all_durable();
            }
        }
    }

    fn all_durable(&mut self) {
        for model in self.models.values_mut() {
            model.durable = model.appended.len();
            model.begun_durable = true;
            model.seal_durable = model.sealed;
        }
    }

    fn reopen(&mut self, disk: FaultDisk) {
        let (journal, recovered) = open(&disk);
        (self.disk, self.journal) = (disk, journal);
        for (number, model) in &self.models {
            let id = recording_id(*number);
            let open = recovered.open.iter().any(|draft| draft.recordingid == id);
            assert!(!model.seal_durable || !open, "recording {number} came back from its seal");
            assert!(model.sealed || !model.begun_durable || open, "recording {number} is lost");
        }
    }

    /// Nothing durable is lost, nothing is invented, order is kept; then the model becomes what
    /// was found.
    fn after_cut(&mut self) {
        let reader = self.journal.reader();
        self.models.retain(|number, model| match contents(&reader, *number) {
            Ok(found) => {
                assert!(!model.seal_durable, "recording {number} came back from its seal");
                let packets = found.packets.get(number).cloned().unwrap_or_default();
                let must = &model.appended[..model.durable];
                if !model.sealed {
                    assert_eq!(&packets[..must.len().min(packets.len())], must);
                }
                let mut rest = model.appended.iter();
                assert!(packets.iter().all(|n| rest.any(|m| m == n)), "invented or out of order");
                // Its draft may be what was lost.
                model.appended = packets;
                model.sealed = false;
                found.segments == [*number] && found.draft.is_some()
            }
            Err(_) => {
                assert!(model.sealed || !model.begun_durable, "recording {number} is lost");
                model.sealed && {
                    model.seal_durable = true;
                    true
                }
            }
        });
    }

    fn check(&self) {
        let reader = self.journal.reader();
        for (number, model) in &self.models {
            match contents(&reader, *number) {
                Ok(found) => {
                    assert!(!model.sealed);
                    assert_eq!(
                        found.draft.map(|draft| draft.recordingid),
                        Some(recording_id(*number))
                    );
                    let packets = found.packets.get(number).cloned().unwrap_or_default();
                    assert_eq!(packets, model.appended, "recording {number}");
                    assert_eq!(found.bytes_lost, 0);
                }
                Err(_) => assert!(model.sealed, "recording {number} is lost"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_keeps_what_it_must(acts in proptest::collection::vec(act(), 1..120)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        world.check();
        let left = world.disk.power_cut(Survivors::All);
        world.reopen(left);
        world.check();
    }
}

#[test]
fn a_failed_sync_is_told_once_and_nothing_is_removed_after_it() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    for number in 1..=4 {
        begin(&mut journal, number).unwrap();
        append(&mut journal, number, 0..40);
        journal.append_fact(&Fact::Sealed { recordingid: recording_id(number) }).unwrap();
    }
    disk.fail_at(disk.operations() + 1);
    let error = journal.sync().unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    append(&mut journal, 5, 0..1);
    assert!(journal.needs_sync());
    journal.sync().unwrap();
    let before = files(&disk);
    assert_eq!(journal.maintain().unwrap().removed, 0, "who knows what is durable");
    assert_eq!(files(&disk), before);
    drop(journal);
    let (mut journal, _) = open(&disk);
    settle(&mut journal);
    assert!(files(&disk).len() < before.len());
}

#[test]
fn a_slow_disk_does_not_hold_up_appending() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    disk.set_sync_delay(std::time::Duration::from_millis(300));
    let handle = journal.sync_handle();
    let syncs = disk.syncs();
    let syncing = std::thread::spawn(move || handle.sync());
    while disk.syncs() == syncs {
        std::thread::yield_now();
    }
    append(&mut journal, 1, 0..50);
    assert!(!syncing.is_finished(), "appending waited for the sync");
    assert_eq!(contents(&journal.reader(), 1).unwrap().packets[&1].len(), 50);
    syncing.join().unwrap().unwrap();
    assert!(journal.needs_sync(), "what came meanwhile is not durable");
}

#[test]
fn the_outline_says_when_each_segment_was_heard_and_survives_a_restart() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    journal.append_fact(&opened(2, 1)).unwrap();
    begin(&mut journal, 7).unwrap();
    for round in 0..40 {
        append(&mut journal, 1, round * 5..round * 5 + 5);
    }
    append(&mut journal, 7, 0..1);
    let closed = WallTime::from_millis(9);
    journal.append_fact(&Fact::SegmentClosed { segment: SegmentId(1), at: closed }).unwrap();
    let reader = journal.reader();
    let outline = reader.outline(recording_id(1)).unwrap();
    assert_eq!(outline.draft, Some(draft(1)));
    let rows: Vec<_> = outline
        .segments
        .iter()
        .map(|s| (s.segment.0, s.opened, s.closed, s.first_packet, s.last_packet))
        .collect();
    let at = common::at;
    assert_eq!(
        rows,
        [(1, at(0), Some(closed), Some(at(0)), Some(at(199))), (2, at(0), None, None, None)]
    );
    let of = |segments: &[u64]| {
        let segments: Vec<_> = segments.iter().copied().map(SegmentId).collect();
        reader.recordings_of(&segments)
    };
    assert_eq!(of(&[1, 2, 3]), [recording_id(1)]);
    assert_eq!(of(&[7, 2]), [recording_id(1), recording_id(7)]);
    assert_eq!(of(&[3]), []);

    drop(journal);
    let (mut journal, _) = open(&disk);
    let again = journal.reader().outline(recording_id(1)).unwrap();
    assert_eq!(again.segments[0], outline.segments[0]);
    assert!(again.segments[1].closed.is_some(), "a start closes what was open");
    journal.append_fact(&Fact::Sealed { recordingid: recording_id(1) }).unwrap();
    let error = journal.reader().outline(recording_id(1)).unwrap_err();
    assert!(matches!(error, JournalError::NoRecording(_)));
    assert_eq!(journal.reader().recordings_of(&[SegmentId(1)]), []);
}

#[test]
fn several_recordings_are_read_as_one_in_the_order_of_appending() {
    let disk = FaultDisk::new();
    let (mut journal, _) = open(&disk);
    begin(&mut journal, 1).unwrap();
    begin(&mut journal, 2).unwrap();
    for round in 0..30 {
        append(&mut journal, 1 + round % 2, round..round + 1);
    }
    let reader = journal.reader();
    let mut order = Vec::new();
    let ids = [recording_id(2), recording_id(5), recording_id(1)];
    let stats = reader
        .read_recordings(&ids, |entry| {
            if let storage_core::journal::Entry::Packets(block) = entry {
                order.extend(block.iter().map(|(_, bytes)| common::packet_name(bytes).1));
            }
        })
        .unwrap();
    assert_eq!(order, (0..30).collect::<Vec<_>>());
    assert_eq!((stats.facts, stats.packets), (4, 30));
    assert!(reader.read_recordings(&ids[1..2], |_| {}).is_err());
    // What was read is let go of.
    for number in [1, 2] {
        journal.append_fact(&Fact::Sealed { recordingid: recording_id(number) }).unwrap();
    }
    settle(&mut journal);
    assert_eq!(files(&disk).len(), 1);
}
