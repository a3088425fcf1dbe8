//! Traces of what the switch has sent: which frames of a call can be found in files, in a process's memory and in
//! captures, by the very bytes of their packets, whatever codec these are of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use simulator::tone::{self, Law, Part};
use simulator::{CallRef, SentFrame};
use storage::disk::RealDisk;
use storage::{Journal, JournalOptions, JournalReader, Keys, MirrorJournal};
use storage_core::NodeId;
use storage_core::journal::Entry;
use storage_core::naming::{CAPTURE_FOLDER, MIRROR_FOLDER};

/// A frame: whose voices, and its number.
pub type Frame = (Part, u32);

/// As many bytes tell one packet of G.711 from any other: its time code's number lies in them.
const NEEDLE: Range<usize> = 60..92;
/// As many bytes of a needle are looked up.
const BEGIN: usize = 8;

/// Numbers of the frames of a call that can be read anywhere in these bytes, whatever they are.
pub fn codes_in(bytes: &[u8], call: CallRef) -> BTreeSet<u32> {
    let codes = tone::scan(Law::A, bytes);
    codes.into_iter().filter(|(_, code)| code.serial == call.serial).map(|(_, c)| c.frame).collect()
}

/// The same of all files below a folder.
pub fn codes_below(dir: &Path, call: CallRef) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    each_file(dir, &mut |_, bytes| found.extend(codes_in(bytes, call)));
    found
}

/// None of these frames is among the others.
#[track_caller]
pub fn assert_absent(found: &BTreeSet<u32>, left_out: &Range<u32>, what: &str) {
    let heard: Vec<_> = found.range(left_out.clone()).collect();
    assert!(heard.is_empty(), "{what}: {heard:?} of {left_out:?}");
}

/// What is looked for.
pub struct Traces {
    needles: BTreeMap<[u8; BEGIN], BTreeSet<(Vec<u8>, Frame)>>,
    /// First two bytes of any needle, because the places are many.
    begins: Vec<bool>,
}

impl Traces {
    /// Of these frames, in the clear and as they were on the wire. A plain tone may become the same packet of G.729 in
    /// several frames: it tells of each of them.
    pub fn of(sent: &[SentFrame]) -> Self {
        let mut needles: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut begins = vec![false; 1 << 16];
        for sent in sent {
            let frame = (sent.code.part, sent.code.frame);
            for bytes in [&sent.payload, &sent.on_wire] {
                let needle = bytes.get(NEEDLE).unwrap_or(bytes).to_vec();
                begins[first_two(&needle)] = true;
                let begin = *needle.first_chunk().expect("a packet is longer");
                needles.entry(begin).or_default().insert((needle, frame));
            }
        }
        Self { needles, begins }
    }

    /// Frames that are anywhere in these bytes.
    pub fn in_bytes(&self, bytes: &[u8]) -> BTreeSet<Frame> {
        let mut found = BTreeSet::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            if !self.begins[first_two(pair)] {
                continue;
            }
            let rest = &bytes[at..];
            let same = rest.first_chunk().and_then(|begin| self.needles.get(begin));
            let same = same.into_iter().flatten().filter(|(needle, _)| rest.starts_with(needle));
            found.extend(same.map(|(_, frame)| *frame));
        }
        found
    }

    /// The same of all files below a folder.
    pub fn below(&self, dir: &Path) -> BTreeSet<Frame> {
        let mut found = BTreeSet::new();
        each_file(dir, &mut |_, bytes| found.extend(self.in_bytes(bytes)));
        found
    }

    /// The same of everything that a process can write to.
    pub fn in_memory(&self, pid: u32) -> BTreeSet<Frame> {
        let mut found = BTreeSet::new();
        each_memory(pid, |bytes| found.extend(self.in_bytes(bytes)));
        found
    }

    /// The same of what a running node has captured and not sealed, its own and what it keeps of others, read from a
    /// copy with its keys.
    pub fn in_captures(&self, data: &Path, node: NodeId, keys: &Keys) -> BTreeSet<Frame> {
        let copy = tempfile::tempdir().expect("a folder");
        let mut found = BTreeSet::new();
        copy_files(&data.join(CAPTURE_FOLDER), &copy.path().join(CAPTURE_FOLDER));
        let (disk, options) = (RealDisk::shared(), JournalOptions::default());
        let opened =
            Journal::open_on_with_keys(disk.clone(), copy.path(), node, options, keys.clone());
        let (journal, _) = opened.expect("a journal");
        found.extend(self.in_journal(&journal.reader()));
        for entry in fs::read_dir(data.join(MIRROR_FOLDER)).into_iter().flatten().flatten() {
            let of: u16 = entry.file_name().to_str().and_then(|n| n.parse().ok()).expect("a node");
            let folder = copy.path().join(MIRROR_FOLDER).join(of.to_string());
            copy_files(&entry.path().join(CAPTURE_FOLDER), &folder.join(CAPTURE_FOLDER));
            let mirror = MirrorJournal::open(disk.clone(), &folder, NodeId(of), keys.clone());
            found.extend(self.in_journal(&mirror.expect("a mirror").reader()));
        }
        found
    }

    fn in_journal(&self, journal: &JournalReader) -> BTreeSet<Frame> {
        let mut found = BTreeSet::new();
        for recording in journal.open_recordings() {
            let read = journal.read_recording(recording, |entry| {
                if let Entry::Packets(block) = entry {
                    block.iter().for_each(|(_, packet)| found.extend(self.in_bytes(packet)));
                }
            });
            assert_eq!(read.expect("it is there").bytes_lost, 0, "{recording}");
        }
        found
    }
}

fn first_two(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        // What is removed meanwhile holds nothing that is needed.
        let _ = fs::copy(entry.path(), to.join(entry.file_name()));
    }
}

/// Shows each file below a folder that can be read, but for reserved room.
pub fn each_file(dir: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            each_file(&path, look);
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.iter().any(|byte| *byte != 0)
        {
            look(&path, &bytes);
        }
    }
}

/// Shows everything that a process can write to.
pub fn each_memory(pid: u32, mut look: impl FnMut(&[u8])) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("a process of ours");
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) =
            line.split_whitespace().next().and_then(|r| r.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).expect("an address"));
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(from)).expect("an address");
        // What is mapped from a device cannot be read.
        if (&memory).take(to - from).read_to_end(&mut bytes).is_ok()
            && bytes.iter().any(|b| *b != 0)
        {
            look(&bytes);
        }
    }
}
