//! Captures sent and taken: whole ones come through whatever the chunks, anything else is refused.

use proptest::prelude::*;
use storage::testing::FaultDisk;
use storage::{Journal, JournalOptions};
use storage_core::WallTime;
use storage_core::journal::{BlockWriter, Channel};

use super::*;

const PEER: NodeId = NodeId(2);

fn at(micros: i64) -> WallTime {
    WallTime::from_micros(1_700_000_000_000_000 + micros)
}

fn id(number: u8) -> RecordingId {
    RecordingId::new(at(0), [number; 10])
}

/// A peer's journal: recording 1 with segments 1 and 2, recording 2 with segment 3.
fn journal(blocks: u64) -> Journal {
    let disk = FaultDisk::new();
    let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
    let (mut journal, _) =
        Journal::open_on(disk.shared(), Path::new("/peer"), PEER, options).unwrap();
    for (recording, segments) in [(1, vec![1, 2]), (2, vec![3])] {
        let draft = Draft::blank(id(recording), PEER, at(0));
        journal.append_fact(&Fact::Recording { draft }).unwrap();
        for segment in segments {
            let (segment, recordingid) = (SegmentId(segment), id(recording));
            let phantom = format!("7800{segment}").as_str().into();
            let opened = Fact::SegmentOpened {
                segment,
                recordingid,
                phantom,
                at: at(0),
                key: None,
                side: None,
            };
            journal.append_fact(&opened).unwrap();
        }
    }
    for number in 0..blocks {
        let mut bytes = Vec::new();
        let segment = SegmentId(1 + number % 3);
        let micros = i64::try_from(number).unwrap() * 100_000;
        let source = "192.0.2.5:2050".parse().unwrap();
        let base = at(micros - 50_000);
        let mut block = BlockWriter::begin(&mut bytes, segment, Channel::Rtp, source, base);
        for packet in 0..5_u8 {
            // The second one was received before the first.
            let late = i64::from(packet) * 20_000 - if packet == 1 { 30_000 } else { 0 };
            assert!(block.push(at(micros + late), &[packet; 172]));
        }
        block.finish();
        journal.append(&mut bytes).unwrap();
    }
    journal
}

fn sent(journal: &Journal, recordings: &[RecordingId], wanted: &[u64]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let wanted = wanted.iter().copied().map(SegmentId).collect();
    send_capture(&journal.reader(), PEER, recordings, &wanted, |chunk| {
        chunks.push(chunk.to_vec());
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    chunks
}

fn folder() -> (FaultDisk, PulledFolder) {
    let disk = FaultDisk::new();
    let folder = PulledFolder::open_on(disk.shared(), Path::new("/data")).unwrap();
    (disk, folder)
}

fn take<'a>(
    folder: &PulledFolder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<PulledCapture, PulledError> {
    let mut writer = folder.begin(PEER, 1234)?;
    chunks.into_iter().try_for_each(|chunk| writer.write(chunk))?;
    writer.finish()
}

fn files(disk: &FaultDisk) -> usize {
    disk.shared().list(&Path::new("/data").join(PULLED_FOLDER)).unwrap().len()
}

/// Each fact and each packet, as text.
fn rows(each: impl FnOnce(&mut dyn FnMut(Entry<'_>))) -> Vec<String> {
    let mut rows = Vec::new();
    each(&mut |entry| match entry {
        Entry::Fact(fact) => rows.push(format!("{fact:?}")),
        Entry::Packets(block) => rows.extend(block.iter().map(|(at, packet)| {
            format!("{:?} {at} {packet:?}", (block.segment, block.channel, block.source))
        })),
    });
    rows
}

#[test]
fn a_capture_comes_through_as_it_is_in_the_journal() {
    let journal = journal(6_000);
    let chunks = sent(&journal, &[id(1), id(2)], &[1, 2, 3]);
    assert!(chunks.len() > 3 && chunks.iter().all(|chunk| chunk.len() <= CHUNK_MAX));
    let (disk, folder) = folder();
    let pulled = take(&folder, chunks.iter().map(Vec::as_slice)).unwrap();
    assert_eq!((pulled.node(), pulled.clock_offset_us()), (PEER, 1234));
    let drafts: Vec<_> = pulled.drafts().iter().map(|draft| draft.recordingid).collect();
    assert_eq!(drafts, [id(1), id(2)]);
    let expected = rows(|each| {
        journal.reader().read_recordings(&[id(1), id(2)], each).unwrap();
    });
    for _ in 0..2 {
        let read = rows(|each| {
            pulled.read(each).unwrap();
        });
        assert!(read == expected, "{} rows of {}", read.len(), expected.len());
    }
    let clone = pulled.clone();
    drop(pulled);
    assert_eq!(files(&disk), 1);
    drop(clone);
    assert_eq!(files(&disk), 0, "it goes with the last who needs it");
}

#[test]
fn only_wanted_segments_are_sent() {
    let journal = journal(30);
    let (_disk, folder) = folder();
    let chunks = sent(&journal, &[id(1)], &[2, 3]);
    let pulled = take(&folder, chunks.iter().map(Vec::as_slice)).unwrap();
    let mut segments = BTreeSet::new();
    let stats = pulled
        .read(|entry| {
            if let Entry::Packets(block) = entry {
                segments.insert(block.segment.0);
            }
        })
        .unwrap();
    assert_eq!((segments, stats.facts, stats.packets), (BTreeSet::from([2]), 2, 10 * 5));
    let nothing = send_capture(&journal.reader(), PEER, &[id(9)], &BTreeSet::new(), |_| {
        Ok::<(), std::convert::Infallible>(())
    });
    assert!(matches!(nothing, Err(SendError::Journal(JournalError::NoRecording(_)))));
}

#[test]
fn what_a_crash_left_is_removed_at_the_start() {
    let (disk, folder) = folder();
    let mut writer = folder.begin(PEER, 0).unwrap();
    writer.write(&[1; 1000]).unwrap();
    assert_eq!(files(&disk), 1);
    let _again = PulledFolder::open_on(disk.shared(), Path::new("/data")).unwrap();
    assert_eq!(files(&disk), 0);
    drop(writer);
}

/// A stream with a right trailer around any content.
fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let sha256 = Sha256::digest(&content);
    let bytes = content.len() as u64;
    content.extend_from_slice(&END_MAGIC);
    content.extend_from_slice(&bytes.to_le_bytes());
    content.extend_from_slice(&sha256);
    content
}

fn fault(stream: &[u8]) -> PeerFault {
    let (disk, folder) = folder();
    let error = take(&folder, [stream]).unwrap_err();
    assert_eq!(files(&disk), 0);
    match error {
        PulledError::Peer { node, fault } => {
            assert_eq!(node, PEER);
            fault
        }
        other => panic!("{other}"),
    }
}

#[test]
fn each_fault_of_a_peer_is_named() {
    let whole = sent(&journal(3), &[id(1)], &[1]).concat();
    let content = whole[..whole.len() - TRAILER_BYTES].to_vec();
    let header = content[..HEADER_BYTES].to_vec();
    assert_eq!(fault(&[]), PeerFault::Trailer);
    assert_eq!(fault(&whole[..whole.len() - 1]), PeerFault::Trailer);
    assert_eq!(fault(&[&whole[..], b"x"].concat()), PeerFault::Trailer);
    let mut altered = whole;
    altered[20] ^= 1;
    assert_eq!(fault(&altered), PeerFault::Hash);
    assert_eq!(fault(&sealed(vec![])), PeerFault::Header);
    let mut foreign = content.clone();
    foreign[10] = 7;
    assert_eq!(fault(&sealed(foreign)), PeerFault::Node(NodeId(7)));
    let mut newer = content.clone();
    newer[8] = 2;
    assert_eq!(fault(&sealed(newer)), PeerFault::Header);
    let mut rotten = content.clone();
    rotten[HEADER_BYTES + HEAD_BYTES + 2] ^= 1;
    assert_eq!(fault(&sealed(rotten)), PeerFault::Frame(HEADER_BYTES as u64));
    let torn = content[..content.len() - 5].to_vec();
    assert!(matches!(fault(&sealed(torn)), PeerFault::Frame(_)));
    let mut blocks = header.clone();
    let source = "192.0.2.5:2050".parse().unwrap();
    let mut block = BlockWriter::begin(&mut blocks, SegmentId(9), Channel::Rtp, source, at(0));
    assert!(block.push(at(0), b"x"));
    block.finish();
    assert_eq!(fault(&sealed(blocks)), PeerFault::Unopened(SegmentId(9)));
    let mut many = header;
    for number in 0..=u8::try_from(DRAFTS_MAX).unwrap() {
        let draft = Draft::blank(id(number), PEER, at(0));
        encode_fact(&mut many, &Fact::Recording { draft }).unwrap();
    }
    assert_eq!(fault(&sealed(many)), PeerFault::TooMany);
}

#[test]
fn a_full_disk_is_told_as_such() {
    for encrypted in [false, true] {
        let (disk, folder) = folder();
        let folder = folder.encrypted(encrypted);
        disk.set_capacity(Some(disk.used() + 1000));
        // More than is written at once.
        let error = take(&folder, [&[0_u8; 200_000][..]]).unwrap_err();
        assert!(matches!(error, PulledError::Full { .. }), "{error}");
        assert_eq!(files(&disk), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_chunks_do_not_matter(lengths in proptest::collection::vec(1_usize..900, 1..20)) {
        let whole = sent(&journal(9), &[id(1)], &[1, 2]).concat();
        let (_disk, folder) = folder();
        let mut rest = &whole[..];
        let mut chunks = Vec::new();
        for length in lengths.iter().cycle() {
            let (chunk, later) = rest.split_at((*length).min(rest.len()));
            chunks.push(chunk);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(take(&folder, chunks).is_ok());
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600), right: bool) {
        let (disk, folder) = folder();
        let header = &sent(&journal(1), &[id(1)], &[1]).concat()[..HEADER_BYTES];
        let stream = if right { sealed([header, &bytes].concat()) } else { bytes.clone() };
        prop_assert!(take(&folder, [&stream[..]]).is_err() || (right && bytes.is_empty()));
        prop_assert_eq!(files(&disk), 0);
    }
}
