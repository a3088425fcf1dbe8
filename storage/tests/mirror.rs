//! A journal and its mirror: whatever is appended, cleaned, cut off and begun again in between, in the end
//! the mirror has what its owner's journal has, each frame once and in order. Both disks are in memory.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::{begin, block, contents, dir, draft, keys, opened, recording_id};
use proptest::prelude::*;
use storage::testing::{FaultDisk, Survivors};
use storage::{Journal, JournalOptions, JournalTail, Keys, MirrorError, MirrorJournal, Tailed};
use storage_core::journal::{Fact, Place};
use storage_core::{NodeId, SegmentId, WallTime, naming};

const OWNER: NodeId = NodeId(1);

fn small() -> JournalOptions {
    JournalOptions { rotate_bytes: 4096, reserve_bytes: 0, files_kept: 2 }
}

fn mirror_dir() -> &'static Path {
    Path::new("/data/mirror/1")
}

/// A node and the one that mirrors it.
struct Pair {
    disk: FaultDisk,
    journal: Journal,
    there: FaultDisk,
    mirror: MirrorJournal,
    keys: [Keys; 2],
    /// While they are connected.
    tail: Option<JournalTail>,
    frames: Vec<u8>,
}

impl Pair {
    fn new(keys: [Keys; 2]) -> Self {
        let (disk, there) = (FaultDisk::new(), FaultDisk::new());
        let journal = open(&disk, &keys[0]);
        let mirror = open_mirror(&there, &keys[1]);
        Self { disk, journal, there, mirror, keys, tail: None, frames: Vec::new() }
    }

    fn plain() -> Self {
        Self::new([Keys::default(), Keys::default()])
    }

    fn connect(&mut self) {
        let reader = self.journal.reader();
        let has = self.mirror.position().filter(|(journal, _)| *journal == reader.identity());
        self.tail = Some(JournalTail::new(reader.clone(), has.map(|(_, place)| place)));
        self.mirror.begin(reader.identity()).unwrap();
    }

    /// The mirror takes what comes next; tells whether that was a mark.
    fn fetch(&mut self) -> bool {
        let Some(tail) = &mut self.tail else { return false };
        match tail.next(&mut self.frames, Duration::ZERO).unwrap() {
            Tailed::Live(open) => self.mirror.live(&open).unwrap(),
            Tailed::Frames => self.mirror.take(&self.frames).unwrap(),
            Tailed::Mark { next, .. } => {
                self.mirror.marked(next, 7);
                return next == self.journal.reader().head();
            }
        }
        false
    }

    /// The mirror has everything.
    fn catch_up(&mut self) {
        if self.tail.is_none() {
            self.connect();
        }
        for _ in 0..100_000 {
            if self.fetch() {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn sync_mirror(&mut self) {
        self.mirror.sync_handle().sync().unwrap();
        self.mirror.settle().unwrap();
    }

    fn restart_mirror(&mut self, power_cut: Option<u64>) {
        self.tail = None;
        if let Some(seed) = power_cut {
            self.there = self.there.power_cut(Survivors::Seed(seed));
        }
        self.mirror = open_mirror(&self.there, &self.keys[1]);
    }

    fn restart_owner(&mut self, power_cut: Option<u64>) {
        self.tail = None;
        if let Some(seed) = power_cut {
            self.disk = self.disk.power_cut(Survivors::Seed(seed));
        }
        self.journal = open(&self.disk, &self.keys[0]);
    }

    fn packets(&mut self, segment: u64, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let mut frames = Vec::new();
            block(&mut frames, segment, number..number + 1, 172);
            self.journal.append(&mut frames).unwrap();
        }
    }

    fn seal(&mut self, number: u64) {
        let recordingid = recording_id(number);
        self.journal.append_fact(&Fact::Sealed { recordingid }).unwrap();
    }

    fn clean(&mut self) {
        for _ in 0..200 {
            self.journal.sync().unwrap();
            if self.journal.maintain().unwrap() == storage::Maintained::default() {
                return;
            }
        }
    }

    /// Whether the mirror has what the owner has, and nothing else.
    fn assert_equal(&self) {
        let (own, kept) = (self.journal.reader(), self.mirror.reader());
        assert_eq!(own.open_recordings(), kept.open_recordings());
        self.assert_holds(&BTreeSet::new());
        for id in own.open_recordings() {
            let number = number_of(id);
            let (own, kept) = (contents(&own, number).unwrap(), contents(&kept, number).unwrap());
            assert_eq!((own.draft, own.packets), (kept.draft, kept.packets));
            assert_eq!(own.order, kept.order);
        }
    }

    /// Whether the mirror has all that the owner has. What the owner lost in a power cut it may have, too;
    /// and if the owner lost that something was `sealed`, it may have forgotten that.
    fn assert_holds(&self, sealed: &BTreeSet<u64>) {
        let (own, kept) = (self.journal.reader(), self.mirror.reader());
        for id in own.open_recordings() {
            let number = number_of(id);
            if sealed.contains(&number) {
                continue;
            }
            let own = contents(&own, number).unwrap();
            let kept = contents(&kept, number).unwrap();
            assert_eq!((own.bytes_lost, kept.bytes_lost), (0, 0));
            for (segment, packets) in &own.packets {
                let mirrored = kept.packets.get(segment).map_or(&[][..], Vec::as_slice);
                let once: BTreeSet<_> = mirrored.iter().collect();
                assert_eq!(once.len(), mirrored.len(), "a packet of {segment} is there twice");
                assert!(mirrored.is_sorted(), "{mirrored:?}");
                assert!(
                    packets.iter().all(|packet| once.contains(packet)),
                    "{segment}: {packets:?} {mirrored:?}"
                );
            }
        }
    }
}

fn open(disk: &FaultDisk, keys: &Keys) -> Journal {
    Journal::open_on_with_keys(disk.shared(), dir(), OWNER, small(), keys.clone()).unwrap().0
}

fn open_mirror(disk: &FaultDisk, keys: &Keys) -> MirrorJournal {
    MirrorJournal::open_with(disk.shared(), mirror_dir(), OWNER, small(), keys.clone()).unwrap()
}

fn number_of(id: storage_core::RecordingId) -> u64 {
    (0..10_000).find(|number| recording_id(*number) == id).expect("one of the test's")
}

#[test]
fn a_mirror_follows_and_forgets_what_is_sealed() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..10);
    pair.catch_up();
    pair.assert_equal();
    begin(&mut pair.journal, 2).unwrap();
    pair.packets(1, 10..60);
    pair.packets(2, 0..60);
    pair.catch_up();
    pair.assert_equal();
    pair.seal(1);
    pair.catch_up();
    pair.assert_equal();
    assert_eq!(pair.mirror.reader().open_recordings(), [recording_id(2)]);
    assert!(
        pair.mirror.reader().is_heard(SegmentId(2)) && !pair.mirror.reader().is_heard(SegmentId(1))
    );
    assert_eq!(pair.mirror.reader().heard(recording_id(2)), [SegmentId(2)]);
    // Its files go as its recordings do.
    pair.seal(2);
    pair.catch_up();
    for _ in 0..20 {
        pair.sync_mirror();
        pair.mirror.maintain().unwrap();
    }
    let folder = mirror_dir().join(naming::CAPTURE_FOLDER);
    let files = pair.there.shared().list(&folder).unwrap();
    let captures = files.iter().filter(|entry| naming::capture_number(&entry.name).is_some());
    assert_eq!(captures.count(), 1, "{files:?}");
}

#[test]
fn what_is_durable_is_where_a_restart_goes_on() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..50);
    pair.catch_up();
    assert_eq!(pair.mirror.durable(), Place { file: 0, offset: 0 }, "not synced yet");
    pair.sync_mirror();
    let reached = pair.journal.reader().head();
    assert_eq!(pair.mirror.durable(), reached);
    pair.packets(1, 50..80);
    pair.catch_up();
    pair.restart_mirror(None);
    let identity = pair.journal.reader().identity();
    assert_eq!(pair.mirror.position(), Some((identity, reached)));
    assert_eq!(pair.mirror.clock_offset_us(), 7);
    pair.connect();
    // Nothing of what is durable is sent again.
    let mut sent = 0;
    while !pair.fetch() {
        sent += pair.frames.len();
        pair.frames.clear();
    }
    assert!(sent < 31 * 300, "{sent} bytes were sent again");
    pair.assert_equal();
    // After a power cut it may be an older place, of the same journal.
    pair.restart_mirror(Some(3));
    let (known, place) = pair.mirror.position().expect("a position");
    assert!(known == identity && place <= reached, "{known} {place:?}");
    pair.catch_up();
    pair.assert_equal();
}

#[test]
fn a_mirror_that_was_away_catches_up_although_the_journal_was_cleaned() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..5);
    pair.catch_up();
    // Files are written, become needless but for the long call, and are cleaned away.
    for number in 2..40 {
        begin(&mut pair.journal, number).unwrap();
        pair.packets(1, number * 10..number * 10 + 5);
        pair.packets(number, 0..10);
        if number < 39 {
            pair.seal(number);
        }
    }
    let before = pair.journal.reader().head();
    pair.clean();
    assert!(pair.journal.reader().head() > before, "something was moved");
    // The same connection goes on; its next file is gone.
    pair.catch_up();
    pair.assert_equal();
    // Another one begins at once.
    pair.tail = None;
    pair.packets(39, 10..20);
    pair.clean();
    pair.catch_up();
    pair.assert_equal();
}

#[test]
fn each_node_encrypts_with_its_own_keys_and_a_mirror_goes_on_after_a_restart() {
    for names in [["k1", "k2"], ["k1", ""], ["", "k2"]] {
        let of = |name: &str| if name.is_empty() { Keys::default() } else { keys(&[name]) };
        let mut pair = Pair::new(names.map(of));
        begin(&mut pair.journal, 1).unwrap();
        pair.packets(1, 0..20);
        pair.catch_up();
        pair.sync_mirror();
        pair.restart_mirror(None);
        pair.packets(1, 20..40);
        pair.catch_up();
        pair.assert_equal();
        if names[1].is_empty() {
            continue;
        }
        let other = MirrorJournal::open_with(
            pair.there.shared(),
            mirror_dir(),
            OWNER,
            small(),
            Keys::default(),
        );
        let error = other.unwrap_err().to_string();
        assert!(error.contains("k2"), "{error}");
        // A packet names itself, so it would be found.
        let clear = common::packet(1, 7, 172);
        let folder = mirror_dir().join(naming::CAPTURE_FOLDER);
        for entry in pair.there.shared().list(&folder).unwrap() {
            let path = folder.join(entry.name);
            let bytes = storage::disk::read_whole(&*pair.there.shared(), &path, 1 << 20).unwrap();
            assert!(!bytes.windows(clear.len()).any(|found| found == clear));
        }
    }
}

#[test]
fn the_mirror_of_a_journal_that_was_lost_is_not_mixed_with_its_successor() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..20);
    pair.catch_up();
    pair.disk = FaultDisk::new();
    pair.restart_owner(None);
    begin(&mut pair.journal, 2).unwrap();
    pair.packets(2, 0..5);
    let identity = pair.journal.reader().identity();
    let refused = pair.mirror.begin(identity).unwrap_err();
    assert!(matches!(refused, MirrorError::Other { recordings: 1, .. }), "{refused}");
    assert!(pair.mirror.reader().is_heard(SegmentId(1)), "it is all that is left");
    pair.mirror.forget([recording_id(1)]).unwrap();
    pair.catch_up();
    pair.assert_equal();
}

#[test]
fn what_is_no_frame_of_a_journal_is_refused_and_changes_nothing() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..3);
    pair.connect();
    let mut frames = Vec::new();
    block(&mut frames, 1, 0..1, 172);
    let refused = |pair: &mut Pair, bytes: &[u8]| {
        let error = pair.mirror.take(bytes).unwrap_err();
        assert!(matches!(error, MirrorError::NotFrames { .. }), "{error}");
    };
    refused(&mut pair, &frames);
    refused(&mut pair, b"no frame at all");
    pair.catch_up();
    let mut sent = Vec::new();
    let mut tail = JournalTail::new(pair.journal.reader(), None);
    while !matches!(tail.next(&mut sent, Duration::ZERO).unwrap(), Tailed::Frames) {}
    for cut in [1, sent.len() / 2, sent.len() - 1] {
        refused(&mut pair, &sent[..cut]);
    }
    sent[40] ^= 1;
    refused(&mut pair, &sent);
    pair.assert_equal();
}

#[test]
fn a_full_disk_stops_the_mirror_and_what_it_lacked_comes_again() {
    let mut pair = Pair::plain();
    begin(&mut pair.journal, 1).unwrap();
    pair.packets(1, 0..10);
    pair.catch_up();
    pair.sync_mirror();
    pair.there.set_capacity(Some(pair.there.used() + 1500));
    pair.packets(1, 10..60);
    let mut failed = None;
    while failed.is_none() {
        let tail = pair.tail.as_mut().unwrap();
        match tail.next(&mut pair.frames, Duration::ZERO).unwrap() {
            Tailed::Frames => failed = pair.mirror.take(&pair.frames).err(),
            Tailed::Live(_) => {}
            Tailed::Mark { .. } => panic!("it cannot have had room"),
        }
    }
    assert!(failed.unwrap().to_string().contains("no room"));
    pair.there.set_capacity(None);
    pair.tail = None;
    pair.catch_up();
    pair.assert_equal();
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begin,
    Packets { recording: usize, count: u64 },
    Redraft { recording: usize },
    Seal { recording: usize },
    Sync,
    Clean,
    RestartOwner { power_cut: Option<u64> },
    Connect,
    Disconnect,
    Fetch { times: usize },
    SyncMirror,
    CleanMirror,
    RestartMirror { power_cut: Option<u64> },
}

fn act() -> impl Strategy<Value = Act> {
    let cut = proptest::option::of(any::<u64>());
    let other = proptest::option::of(any::<u64>());
    prop_oneof![
        4 => Just(Act::Begin),
        14 => (0_usize..5, 1_u64..12).prop_map(|(recording, count)| Act::Packets { recording, count }),
        2 => (0_usize..5).prop_map(|recording| Act::Redraft { recording }),
        4 => (0_usize..5).prop_map(|recording| Act::Seal { recording }),
        3 => Just(Act::Sync),
        6 => Just(Act::Clean),
        1 => cut.prop_map(|power_cut| Act::RestartOwner { power_cut }),
        4 => Just(Act::Connect),
        3 => Just(Act::Disconnect),
        10 => (1_usize..6).prop_map(|times| Act::Fetch { times }),
        3 => Just(Act::SyncMirror),
        3 => Just(Act::CleanMirror),
        2 => other.prop_map(|power_cut| Act::RestartMirror { power_cut }),
    ]
}

/// What the test does to a pair.
struct Run {
    pair: Pair,
    /// Recordings that are not sealed, each with the segment that it goes on in and its next packet.
    open: BTreeMap<u64, (u64, u64)>,
    next: u64,
    lost: bool,
    sealed: BTreeSet<u64>,
}

impl Run {
    fn pick(&self, recording: usize) -> Option<u64> {
        self.open.keys().nth(recording % self.open.len().max(1)).copied()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Begin => {
                begin(&mut self.pair.journal, self.next).unwrap();
                self.open.insert(self.next, (self.next, 0));
                self.next += 1;
            }
            Act::Packets { recording, count } => {
                let Some((segment, from)) = self.pick(recording).map(|n| self.open[&n]) else {
                    return;
                };
                self.pair.packets(segment, from..from + count);
                let number = self.pick(recording).unwrap();
                self.open.insert(number, (segment, from + count));
            }
            Act::Redraft { recording } => {
                let Some(number) = self.pick(recording) else { return };
                let opened = WallTime::from_millis(i64::try_from(self.next).unwrap());
                let draft = storage_core::Draft { due: Some(opened), ..draft(number) };
                self.pair.journal.append_fact(&Fact::Recording { draft }).unwrap();
            }
            Act::Seal { recording } => {
                let Some(number) = self.pick(recording) else { return };
                self.pair.seal(number);
                self.open.remove(&number);
                self.sealed.insert(number);
            }
            Act::Sync => self.pair.journal.sync().unwrap(),
            Act::Clean => {
                self.pair.journal.maintain().unwrap();
            }
            Act::RestartOwner { power_cut } => {
                self.lost |= power_cut.is_some();
                self.pair.restart_owner(power_cut);
                // What was open goes on in new segments, as after any start.
                let there: BTreeSet<_> =
                    self.pair.journal.reader().open_recordings().into_iter().collect();
                self.open.retain(|number, _| there.contains(&recording_id(*number)));
                for (number, (segment, next)) in &mut self.open {
                    (*segment, *next) = (self.next + 1_000, 0);
                    self.next += 1;
                    self.pair.journal.append_fact(&opened(*segment, *number)).unwrap();
                }
            }
            Act::Connect => self.pair.connect(),
            Act::Disconnect => self.pair.tail = None,
            Act::Fetch { times } => {
                for _ in 0..times {
                    self.pair.fetch();
                }
            }
            Act::SyncMirror => self.pair.sync_mirror(),
            Act::CleanMirror => {
                self.pair.mirror.maintain().unwrap();
            }
            Act::RestartMirror { power_cut } => self.pair.restart_mirror(power_cut),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_happens_the_mirror_has_what_its_owner_has(
        acts in proptest::collection::vec(act(), 1..120),
        encrypted in any::<bool>(),
    ) {
        let keys = if encrypted { [keys(&["k1"]), keys(&["k2"])] } else { [Keys::default(), Keys::default()] };
        let mut run = Run { pair: Pair::new(keys), open: BTreeMap::new(), next: 1, lost: false, sealed: BTreeSet::new() };
        for act in acts {
            run.act(act);
        }
        run.pair.catch_up();
        if run.lost {
            run.pair.assert_holds(&run.sealed);
        } else {
            run.pair.assert_equal();
        }
        // What it says to be durable survives.
        run.pair.sync_mirror();
        run.pair.restart_mirror(Some(99));
        if run.lost {
            run.pair.assert_holds(&run.sealed);
        } else {
            run.pair.assert_equal();
        }
    }
}
