//! What the tests of this crate share: drafts, and a journal's load beside a plain model of it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use storage::{Journal, JournalError, JournalReader, Keys};
use storage_core::journal::{BlockWriter, Channel, Entry, Fact};
use storage_core::record::{Direction, Scope, TriggerKind};
use storage_core::{Draft, Extension, NodeId, RecordingId, SegmentId, WallTime};

/// The data folder on a disk in memory.
pub const DIR: &str = "/data";

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

pub fn recording_id(number: u64) -> RecordingId {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    RecordingId::new(WallTime::from_millis(1_700_000_000_000), entropy)
}

pub fn draft(number: u64) -> Draft {
    let opened = WallTime::from_millis(1_700_000_000_000);
    Draft {
        callids: vec![number.to_string()],
        extension: Extension::new("2611"),
        ..Draft::blank(recording_id(number), NodeId(1), opened)
    }
}

/// A packet that names itself: segment and number, and some bytes to make it long.
pub fn packet(segment: u64, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = segment.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.resize(len.max(16), (number % 251) as u8);
    bytes
}

pub fn packet_name(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert!(bytes[16..].iter().all(|b| u64::from(*b) == word(8) % 251), "a packet was altered");
    (word(0), word(8))
}

pub fn at(number: u64) -> WallTime {
    WallTime::from_micros(1_700_000_000_000_000 + i64::try_from(number).unwrap() * 20_000)
}

/// One block with one packet a number.
pub fn block(out: &mut Vec<u8>, segment: u64, numbers: impl IntoIterator<Item = u64>, len: usize) {
    let source: SocketAddr = "192.0.2.9:2048".parse().unwrap();
    let id = SegmentId(segment);
    let mut writer = BlockWriter::begin_unchecked(out, id, Channel::Rtp, source, at(0));
    for number in numbers {
        assert!(writer.push(at(number), &packet(segment, number, len)));
    }
    writer.finish();
}

pub fn opened(segment: u64, recording: u64) -> Fact {
    Fact::SegmentOpened {
        segment: SegmentId(segment),
        recordingid: recording_id(recording),
        phantom: Extension::new("78001"),
        at: at(0),
        key: None,
        side: None,
    }
}

/// Keys of these names, the active one first. One name is one key, each time.
pub fn keys(names: &[&str]) -> Keys {
    static MADE: Mutex<BTreeMap<String, Keys>> = Mutex::new(BTreeMap::new());
    let line = |name: &&str| {
        let digits = name.bytes().cycle().take(32).map(|byte| format!("{byte:02x}"));
        format!("{name} {}\n", digits.collect::<String>())
    };
    let text: String = names.iter().map(line).collect();
    let mut made = MADE.lock().unwrap();
    let load = || {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        Keys::load(file.path()).unwrap()
    };
    made.entry(text.clone()).or_insert_with(load).clone()
}

/// What can be read of a recording.
#[derive(Debug, Default)]
pub struct Contents {
    pub draft: Option<Draft>,
    /// Segments in the order of their opening.
    pub segments: Vec<u64>,
    pub closed: Vec<u64>,
    /// Packet numbers by segment, in order.
    pub packets: BTreeMap<u64, Vec<u64>>,
    /// All packets in the order in which they came.
    pub order: Vec<(u64, u64)>,
    pub bytes_lost: u64,
}

pub fn contents(reader: &JournalReader, recording: u64) -> Result<Contents, JournalError> {
    let mut contents = Contents::default();
    let stats = reader.read_recording(recording_id(recording), |entry| match entry {
        Entry::Fact(Fact::Recording { draft }) => contents.draft = Some(draft),
        Entry::Fact(Fact::SegmentOpened { segment, .. }) => contents.segments.push(segment.0),
        Entry::Fact(Fact::SegmentClosed { segment, .. }) => contents.closed.push(segment.0),
        Entry::Fact(_) => {}
        Entry::Packets(block) => {
            for (time, bytes) in &block {
                let (segment, number) = packet_name(bytes);
                assert_eq!(segment, block.segment.0);
                assert_eq!(time, at(number));
                contents.packets.entry(segment).or_default().push(number);
                contents.order.push((segment, number));
            }
        }
    })?;
    contents.bytes_lost = stats.bytes_lost;
    Ok(contents)
}

/// Appends a recording that has one segment of the same number.
pub fn begin(journal: &mut Journal, number: u64) -> Result<(), JournalError> {
    journal.append_fact(&Fact::Recording { draft: draft(number) })?;
    journal.append_fact(&opened(number, number))
}

/// A record with what tests do not care about filled in.
pub fn recording(number: u64, started_ms: i64) -> storage_core::Recording {
    let draft = draft(number);
    storage_core::Recording {
        version: storage_core::Recording::VERSION,
        recordingid: draft.recordingid,
        revision: 1,
        ucid: None,
        formerucids: Vec::new(),
        callids: draft.callids,
        extension: draft.extension,
        agentid: String::new(),
        calling: String::new(),
        called: String::new(),
        direction: Direction::Inbound,
        trunkgroup: String::new(),
        trunkmember: String::new(),
        vdn: String::new(),
        split: String::new(),
        userdata: String::new(),
        parties: Vec::new(),
        started: WallTime::from_millis(started_ms),
        ended: WallTime::from_millis(started_ms),
        durationms: 0,
        scope: Scope::Station,
        trigger: TriggerKind::Rule,
        rule: String::new(),
        copy: 1,
        node: NodeId(1),
        repairof: None,
        repairedfrom: None,
        segments: Vec::new(),
        gaps: Vec::new(),
        keysms: Vec::new(),
        masked: Vec::new(),
        seams: Vec::new(),
        pauses: Vec::new(),
        complete: true,
        cutshort: false,
        quality: storage_core::record::Quality::default(),
        format: storage_core::record::VoiceFormat::WavG711,
        bytes: 0,
        sha256: String::new(),
        encrypted: false,
        tags: Vec::new(),
        tagmarks: Vec::new(),
        notes: Vec::new(),
        scores: Vec::new(),
        hold: false,
        holdmark: None,
        archived: None,
    }
}
