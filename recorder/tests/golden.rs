//! What each codec comes to under each impairment, in each form of voice file: compared with what is
//! written down in `golden/expected.txt`, and read back by sox, ffmpeg and opusinfo. Two seconds of
//! something like speech (`golden/voice.*`); G.711, G.722 and linear samples were coded by ffmpeg.
//!
//! `GOLDEN_REWRITE=1 cargo test -p recorder --test golden -- --test-threads 1` writes the file anew;
//! look at the difference before it is kept. Where floating point may have a say (decoders, Opus),
//! levels are compared instead of checksums.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use recorder::playback::Playback;
use recorder::sealing::{SealJob, Sealed, seal};
use storage::wav::PCM_HEADER_BYTES;
use storage::{FetchFormat, Journal, JournalOptions, VoiceStore};
use storage_core::journal::{BlockWriter, Channel, Fact};
use storage_core::record::VoiceFormat;
use storage_core::{Draft, NodeId, Recording, RecordingId, SegmentId, WallTime};

const START_MS: i64 = 1_700_000_000_000;
const ID: [u8; 10] = [9; 10];
const SEGMENT: SegmentId = SegmentId(1);
/// Levels are of so much audio.
const LEVEL_MS: usize = 200;
/// Levels may be so far apart, dB.
const LEVEL_TOLERANCE: i32 = 1;
/// Below this it is silence.
const SILENT_DB: i32 = -60;

/// A codec as it is on the wire.
#[derive(Clone, Copy)]
struct Codec {
    name: &'static str,
    payload_type: u8,
    /// 0 where packets differ in length: the file has each length in two bytes before it.
    bytes_in_10ms: usize,
    /// Of the sender's clock in a packet of 20 ms.
    ticks: u32,
    /// The same samples on each machine.
    exact: bool,
}

const CODECS: [Codec; 6] = [
    Codec { name: "g711a", payload_type: 8, bytes_in_10ms: 80, ticks: 160, exact: true },
    Codec { name: "g711u", payload_type: 0, bytes_in_10ms: 80, ticks: 160, exact: true },
    Codec { name: "g722", payload_type: 9, bytes_in_10ms: 80, ticks: 160, exact: false },
    Codec { name: "g729", payload_type: 18, bytes_in_10ms: 10, ticks: 160, exact: false },
    Codec { name: "opus", payload_type: 111, bytes_in_10ms: 0, ticks: 960, exact: false },
    Codec { name: "l16", payload_type: 96, bytes_in_10ms: 160, ticks: 160, exact: true },
];

#[derive(Clone, Debug)]
struct Packet {
    at_ms: i64,
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    payload_type: u8,
    payload: Vec<u8>,
}

impl Packet {
    fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, self.payload_type];
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

type Impair = fn(Vec<Packet>) -> Vec<Packet>;

/// What the network or the sender does to a hundred packets.
const IMPAIRMENTS: [(&str, Impair); 9] = [
    ("clean", |packets| packets),
    ("lost", |packets| without(packets, &[17, 40, 41, 42, 43, 44, 45, 99])),
    ("swapped", |mut packets| {
        for pair in packets.chunks_mut(10) {
            let (first, second) = (pair[4].at_ms, pair[5].at_ms);
            (pair[4].at_ms, pair[5].at_ms) = (second, first);
        }
        packets
    }),
    ("doubled", |packets| packets.into_iter().flat_map(|one| [one.clone(), one]).collect()),
    ("late", |mut packets| {
        packets.iter_mut().skip(30).step_by(13).for_each(|packet| packet.at_ms += 700);
        packets
    }),
    ("jittery", |mut packets| {
        let delay = |number: usize| i64::try_from(number * number % 61).unwrap();
        (0..).zip(&mut packets).for_each(|(number, packet)| packet.at_ms += delay(number));
        packets
    }),
    ("renamed", |mut packets| {
        for packet in packets.iter_mut().skip(60) {
            packet.ssrc = 7;
            packet.seq = packet.seq.wrapping_add(9_000);
            packet.timestamp = packet.timestamp.wrapping_add(1_000_000);
        }
        packets
    }),
    ("silent", |packets| {
        let mut packets = without(packets, &(50..70).collect::<Vec<_>>());
        let noise = packets.get_mut(49).unwrap();
        let first = Packet {
            at_ms: noise.at_ms + 20,
            seq: noise.seq.wrapping_add(1),
            timestamp: noise.timestamp.wrapping_add(160),
            payload_type: 13,
            payload: vec![70],
            ..noise.clone()
        };
        // The sender does not count what it does not send.
        packets.iter_mut().skip(50).for_each(|packet| packet.seq = packet.seq.wrapping_sub(19));
        packets.push(first);
        packets
    }),
    ("resized", |packets| {
        // 20, 40 and 60 ms in turn.
        let mut packets = packets.into_iter();
        let mut joined = Vec::new();
        for (seq, count) in (0..).zip([1, 2, 3].into_iter().cycle()) {
            let Some(mut first) = packets.next() else { break };
            first.seq = seq;
            packets.by_ref().take(count - 1).for_each(|next| {
                first.at_ms = next.at_ms;
                first.payload.extend(next.payload);
            });
            joined.push(first);
        }
        joined
    }),
];

fn without(packets: Vec<Packet>, lost: &[usize]) -> Vec<Packet> {
    let packets = packets.into_iter().enumerate();
    packets.filter(|(number, _)| !lost.contains(number)).map(|(_, packet)| packet).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn sent(codec: Codec) -> Vec<Packet> {
    let voice = std::fs::read(folder().join(format!("voice.{}", codec.name))).unwrap();
    let payloads = match codec.bytes_in_10ms {
        0 => counted(&voice),
        bytes => voice.chunks(2 * bytes).collect(),
    };
    let packet = |(number, payload): (u16, &[u8])| Packet {
        at_ms: i64::from(number) * 20,
        ssrc: 3,
        // Both counters wrap.
        seq: number.wrapping_add(65_500),
        timestamp: (u32::from(number) * codec.ticks).wrapping_add(0xffff_f000),
        payload_type: codec.payload_type,
        payload: payload.to_vec(),
    };
    (0..).zip(payloads).map(packet).collect()
}

/// Payloads with their lengths before them.
fn counted(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        payloads.push(payload);
        bytes = rest;
    }
    payloads
}

/// Captures the packets in the order in which they arrive, and seals them.
fn recorded(
    dir: &Path,
    codec: Codec,
    mut packets: Vec<Packet>,
    format: VoiceFormat,
) -> (VoiceStore, Recording) {
    let at = |ms: i64| WallTime::from_millis(START_MS + ms);
    let (mut journal, _) = Journal::open(dir, NodeId(1), JournalOptions::default()).unwrap();
    let store = VoiceStore::open(dir).unwrap();
    let id = RecordingId::new(at(0), ID);
    let draft = Draft { ended: Some(at(2_800)), ..Draft::blank(id, NodeId(1), at(0)) };
    let source = "192.0.2.5:2050".parse().unwrap();
    for fact in [
        Fact::Recording { draft },
        Fact::SegmentOpened {
            segment: SEGMENT,
            recordingid: id,
            phantom: "78001".into(),
            at: at(0),
            key: None,
            side: None,
        },
        Fact::MediaTerms {
            segment: SEGMENT,
            at: at(0),
            source: Some(source),
            codec: codec.name.to_owned(),
            packetms: 20,
        },
    ] {
        journal.append_fact(&fact).unwrap();
    }
    packets.sort_by_key(|packet| packet.at_ms);
    for chunk in packets.chunks(5) {
        let mut bytes = Vec::new();
        let base = at(chunk[0].at_ms);
        let mut block = BlockWriter::begin(&mut bytes, SEGMENT, Channel::Rtp, source, base);
        assert!(chunk.iter().all(|packet| block.push(at(packet.at_ms), &packet.datagram())));
        block.finish();
        journal.append(&mut bytes).unwrap();
    }
    let job = SealJob::alone(id, NodeId(1), 1);
    match seal(&job, &journal.reader(), &store, format).unwrap() {
        Sealed::Staged { staged, .. } => {
            let record = store.publish_staged(&staged).unwrap();
            (store, record)
        }
        other => panic!("{other:?}"),
    }
}

/// The samples that a listener gets.
fn played(store: &VoiceStore, record: &Recording) -> Vec<i16> {
    let mut playback = Playback::open(store, record, FetchFormat::Wav).unwrap();
    let mut wav = vec![0; usize::try_from(playback.bytes()).unwrap()];
    assert_eq!(playback.read_at(&mut wav, 0).unwrap(), wav.len());
    samples(&wav[PCM_HEADER_BYTES..])
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// How loud it is, 200 ms by 200 ms, dB below full scale.
fn levels(samples: &[i16]) -> Vec<i32> {
    let level = |chunk: &[i16]| {
        let sum: f64 = chunk.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        let level = 10.0 * (sum / chunk.len() as f64 / 32_768.0_f64.powi(2)).log10();
        (level.round() as i32).max(SILENT_DB)
    };
    samples.chunks(LEVEL_MS * 8).map(level).collect()
}

/// What is the same on each machine, and what may differ by a decibel.
fn summary(codec: Codec, store: &VoiceStore, record: &Recording) -> (String, Vec<i32>) {
    let mut text = format!("{} ms", record.durationms);
    for segment in &record.segments {
        let storage_core::record::Segment { packets, lost, late, duplicate, .. } = segment;
        let codec = &segment.codec;
        write!(text, " {codec} {packets} lost {lost} late {late} double {duplicate}").unwrap();
    }
    let Recording { complete, quality, .. } = record;
    write!(text, " mos {:.1} complete {complete}", quality.mos.unwrap()).unwrap();
    for gap in &record.gaps {
        write!(text, " gap {}-{} {:?}", gap.startms, gap.endms, gap.cause).unwrap();
    }
    if codec.exact && record.format != VoiceFormat::Opus {
        write!(text, " sha256 {}", record.sha256).unwrap();
    }
    (text, levels(&played(store, record)))
}

/// What a program prints; `None` if it is not there.
fn output(program: &str, arguments: &[&str], file: &Path) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    for argument in arguments {
        if *argument == "FILE" {
            command.arg(file)
        } else {
            command.arg(argument)
        };
    }
    let Ok(output) = command.output() else {
        eprintln!("no {program} here: files are not judged by it");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {file:?}: {said}");
    Some(output.stdout)
}

/// Other programs find what we say is in the file.
fn judge(store: &VoiceStore, record: &Recording) {
    let file = store.voice_path(record);
    if record.format == VoiceFormat::Opus {
        let Some(said) = output("opusinfo", &["FILE"], &file) else { return };
        let said = String::from_utf8_lossy(&said);
        let seconds = record.durationms as f64 / 1_000.0;
        let length = format!("Playback length: 0m:{seconds:06.3}s");
        assert!(said.contains(&length) && !said.contains("WARNING"), "{length}: {said}");
        return;
    }
    let ours = played(store, record);
    let raw = ["-D", "FILE", "-t", "raw", "-e", "signed", "-b", "16", "-"];
    if let Some(theirs) = output("sox", &raw, &file) {
        assert!(samples(&theirs) == ours, "sox hears another file in {file:?}");
    }
    let raw = ["-v", "error", "-i", "FILE", "-f", "s16le", "-"];
    if let Some(theirs) = output("ffmpeg", &raw, &file) {
        assert!(samples(&theirs) == ours, "ffmpeg hears another file in {file:?}");
    }
}

fn formats() -> Vec<(&'static str, VoiceFormat)> {
    let mut formats = vec![("wavg711", VoiceFormat::WavG711), ("wav", VoiceFormat::Wav)];
    if cfg!(feature = "opus") {
        formats.push(("opus", VoiceFormat::Opus));
    }
    formats
}

type Expected = BTreeMap<String, (String, Vec<i32>)>;

fn expected() -> Expected {
    let text = std::fs::read_to_string(folder().join("expected.txt")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (name, rest) = line.split_once(": ").unwrap();
        let (summary, levels) = rest.split_once(" levels ").unwrap();
        let levels = levels.split(' ').map(|level| level.parse().unwrap()).collect();
        (name.to_owned(), (summary.to_owned(), levels))
    });
    lines.collect()
}

fn rewrite(mut known: Expected, found: Expected) {
    known.extend(found);
    let mut text = String::new();
    for (name, (summary, levels)) in known {
        let levels: Vec<_> = levels.iter().map(ToString::to_string).collect();
        writeln!(text, "{name}: {summary} levels {}", levels.join(" ")).unwrap();
    }
    std::fs::write(folder().join("expected.txt"), text).unwrap();
}

fn each_impairment(name: &str) {
    let codec = *CODECS.iter().find(|codec| codec.name == name).unwrap();
    let known = expected();
    let mut found = Expected::new();
    for (impairment, impair) in IMPAIRMENTS {
        // Its packets cannot be joined, and it describes silence itself.
        if codec.bytes_in_10ms == 0 && ["resized", "silent"].contains(&impairment) {
            continue;
        }
        for (form, format) in formats() {
            let dir = tempfile::tempdir().unwrap();
            let packets = impair(sent(codec));
            let (store, record) = recorded(dir.path(), codec, packets, format);
            judge(&store, &record);
            found.insert(format!("{name} {impairment} {form}"), summary(codec, &store, &record));
        }
    }
    if std::env::var_os("GOLDEN_REWRITE").is_some() {
        return rewrite(known, found);
    }
    for (name, (summary, levels)) in &found {
        let (known, before) =
            known.get(name).unwrap_or_else(|| panic!("{name} is not written down"));
        assert_eq!(summary, known, "{name}");
        let near = |(one, other): (&i32, &i32)| one.abs_diff(*other) <= LEVEL_TOLERANCE as u32;
        let alike = levels.len() == before.len() && levels.iter().zip(before).all(near);
        assert!(alike, "{name}: {levels:?} instead of {before:?}");
    }
}

#[test]
fn g711a() {
    each_impairment("g711a");
}

#[test]
fn g711u() {
    each_impairment("g711u");
}

#[test]
fn g722() {
    each_impairment("g722");
}

#[test]
fn g729() {
    each_impairment("g729");
}

#[test]
#[cfg(feature = "opus")]
fn opus() {
    each_impairment("opus");
}

#[test]
fn l16() {
    each_impairment("l16");
}
