//! Audio that lies on another member: the same bytes, held back, and an end that says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use astlogger::peers::protocol::{
    Ask, AudioHead, AudioKind, Part, decode_answer, decode_ask, encode_answer, encode_ask,
};
use astlogger::peers::{Peers, RemoteAudio};
use astlogger::web::backend::{Audio, Backend, Code, Failure, FetchFormat};
use cluster::Group;
use storage::Catalog;
use storage_core::{NodeId, RecordingId, Role};

use super::node::{fill, id, recording};
use super::site::{Member, Site, loses, until, within};

const MIB: u64 = 1024 * 1024;

async fn open(member: &Member, id: RecordingId) -> Result<Box<dyn Audio>, Failure> {
    member.ask(move |backend| backend.open_audio(id, FetchFormat::Original)).await
}

/// Reads so many bytes at `offset`, compares them, and tells how far it came.
fn compare(audio: &mut dyn Audio, id: RecordingId, offset: u64, count: u64) -> std::io::Result<()> {
    let mut expected = vec![0; 64 * 1024];
    let mut got = vec![0; 64 * 1024];
    let mut at = offset;
    while at < offset + count {
        let wanted = usize::try_from((offset + count - at).min(64 * 1024)).unwrap();
        let read = audio.read_at(at, &mut got[..wanted])?;
        assert!(read > 0, "it ends at {at}");
        fill(id, at, &mut expected[..read]);
        assert!(got[..read] == expected[..read], "other bytes at {at}");
        at += read as u64;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> T {
    within(tokio::task::spawn_blocking(question)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_are_the_same_whole_and_in_part() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    let bytes = 3 * MIB + 12_345;
    active.node.list(1, 1, bytes);
    let recording = backup.node.list(1, 1, bytes);
    for member in [&backup, &witness] {
        let before = active.node.audio_opened.load(Ordering::SeqCst);
        let mut audio = open(member, recording).await.unwrap();
        assert_eq!(audio.bytes(), bytes);
        assert_eq!((audio.media_type(), audio.file_extension()), ("audio/wav", "wav"));
        let audio = blocking(move || {
            compare(&mut *audio, recording, 0, bytes).unwrap();
            assert_eq!(audio.read_at(bytes, &mut [0; 10]).unwrap(), 0);
            audio
        })
        .await;
        // Its head, and one connection for all of it.
        assert_eq!(active.node.audio_opened.load(Ordering::SeqCst) - before, 2);
        // What reads the whole is asked for only by those who want it.
        let (mut audio, sha256) = blocking(move || {
            let sha256 = audio.sha256();
            (audio, sha256)
        })
        .await;
        assert_eq!(sha256.as_deref(), Some("of the whole"));
        assert_eq!(active.node.audio_opened.load(Ordering::SeqCst) - before, 3);
        blocking(move || {
            for (first, count) in [(bytes - 1, 1), (0, 1), (70_001, 300_000), (1, MIB), (MIB, 2)] {
                audio.will_read(first, first + count);
                compare(&mut *audio, recording, first, count).unwrap();
            }
            // More than was planned, and out of order.
            audio.will_read(100, 200);
            compare(&mut *audio, recording, 100, 5000).unwrap();
            compare(&mut *audio, recording, 50, 5000).unwrap();
        })
        .await;
    }
    until("all audio is closed", || active.node.audio_open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_planned_is_all_that_is_sent() {
    let (_site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    let recording = active.node.list(1, 1, 50 * MIB);
    let mut audio = open(&witness, recording).await.unwrap();
    audio.will_read(MIB, MIB + 1000);
    blocking(move || compare(&mut *audio, recording, MIB, 1000).unwrap()).await;
    until("the audio is closed", || active.node.audio_open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(active.node.audio_bytes.load(Ordering::SeqCst), 1000);
}

/// How much has been read when nothing more is read for a while.
async fn settled(member: &Member) -> u64 {
    let mut last = u64::MAX;
    loop {
        let now = member.node.audio_bytes.load(Ordering::SeqCst);
        if now == last {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_stops_makes_the_peer_stop() {
    let (_site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    let recording = active.node.list(1, 1, 400 * MIB);
    let mut audio = open(&witness, recording).await.unwrap();
    let audio = blocking(move || {
        compare(&mut *audio, recording, 0, 2 * MIB).unwrap();
        audio
    })
    .await;
    // What the two kernels hold, beside the reader's MiB.
    let sent = within(settled(&active)).await;
    assert!(sent < 40 * MIB, "{} MiB were sent to a reader of two", sent / MIB);
    let mut audio = audio;
    let audio = blocking(move || {
        compare(&mut *audio, recording, 2 * MIB, 50 * MIB).unwrap();
        audio
    })
    .await;
    drop(audio);
    until("the peer closes the audio", || active.node.audio_open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_ends_in_the_middle_is_named() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    let recording = active.node.list(1, 1, 400 * MIB);
    backup.node.list(1, 1, 400 * MIB);
    let mut audio = open(&witness, recording).await.unwrap();
    let audio = blocking(move || {
        compare(&mut *audio, recording, 0, MIB).unwrap();
        audio
    })
    .await;
    drop(active);
    let mut audio = audio;
    let error = blocking(move || compare(&mut *audio, recording, MIB, 399 * MIB).unwrap_err());
    let error = error.await;
    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()).unwrap();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("node 1"), "{failure}");
    // Nobody else has it.
    loses(&witness, &[1]).await;
    let Err(failure) = open(&witness, recording).await else { panic!("opened") };
    assert_eq!(failure.code, Code::Unavailable);
    let told = format!("recording {recording} lies on node 1, which does not answer");
    assert!(failure.message.starts_with(&told), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_serves_when_the_owner_is_down() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    let recording = active.node.list(1, 1, MIB);
    backup.node.list(1, 1, MIB);
    backup.node.copies.lock().unwrap().push(recording);
    // The node that has a copy needs nobody.
    let mut audio = open(&backup, recording).await.unwrap();
    blocking(move || compare(&mut *audio, recording, 0, MIB).unwrap()).await;
    assert_eq!(active.node.audio_opened.load(Ordering::SeqCst), 0);
    drop(active);
    loses(&witness, &[1]).await;
    let mut audio = open(&witness, recording).await.unwrap();
    blocking(move || compare(&mut *audio, recording, 0, MIB).unwrap()).await;
}

/// Whether its owner has lost its disk, or is asked itself: the copy is given out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_serves_when_the_owner_has_lost_the_file() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    let recording = active.node.list(1, 1, MIB);
    backup.node.list(1, 1, MIB);
    active.node.lost.lock().unwrap().push(recording);
    let Err(failure) = open(&active, recording).await else { panic!("opened") };
    assert_eq!(failure.code, Code::NotFound, "{failure}");
    backup.node.copies.lock().unwrap().push(recording);
    for member in [&active, &witness] {
        let mut audio = open(member, recording).await.unwrap();
        blocking(move || compare(&mut *audio, recording, 0, MIB).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_replaced_meanwhile_is_not_mixed_up() {
    let (_site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    let first = active.node.list(1, 1, MIB);
    let mut audio = open(&witness, first).await.unwrap();
    active.node.catalog.put(&recording(1, 1, 2 * MIB)).unwrap();
    let error = blocking(move || compare(&mut *audio, first, 0, MIB).unwrap_err()).await;
    assert!(error.to_string().contains("replaced"), "{error}");
    assert_eq!(open(&witness, first).await.unwrap().bytes(), 2 * MIB);
    // What the owner refuses is told as it is.
    let failure = witness.ask(move |backend| {
        backend.open_audio(first, FetchFormat::Opus).map(|audio| audio.bytes())
    });
    assert_eq!(failure.await.unwrap_err().message, "says unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_who_stall_leave_room_for_questions() {
    let (_site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    active.node.list(1, 1, 400 * MIB);
    let mark = recording(1, 1, 400 * MIB).sha256;
    let part = Some(Part { offset: 0, length: 400 * MIB, mark });
    let ask = Ask::Audio { recording: id(1), format: FetchFormat::Original, part, unhashed: false };
    let mut streams = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..50 {
        let mut response =
            within(witness.group.request(NodeId(1), encode_ask(&ask))).await.unwrap();
        let head = within(response.chunk()).await.unwrap().unwrap();
        match decode_answer::<AudioHead>(&head).unwrap() {
            Ok(_) => streams.push(response),
            Err(failure) => refused.push(failure),
        }
    }
    assert_eq!((streams.len(), refused.len()), (40, 10));
    assert!(refused.iter().all(|failure| failure.code == Code::Busy));
    let peers = Peers::new(witness.group.clone());
    assert_eq!(peers.calls(NodeId(1), Duration::from_secs(5)).await, Ok(Vec::new()));
}

/// A peer whose connections break after each piece, for a while.
fn unsteady(group: &Group, bytes: u64, opened: &Arc<AtomicUsize>, breaks: usize) {
    let opened = Arc::clone(opened);
    assert!(group.set_request_handler(move |_, request, mut reply| {
        let opened = Arc::clone(&opened);
        async move {
            let Ok(Ask::Audio { recording, part, .. }) = decode_ask(&request) else { return };
            let (kind, mark) = (AudioKind::Wav, "m".to_owned());
            let head = AudioHead { bytes, sha256: None, kind, mark };
            reply.send(&encode_answer(Ok(head)).unwrap()).await.unwrap();
            let Some(Part { offset, length, .. }) = part else {
                return reply.end().await.unwrap();
            };
            let breaks = opened.fetch_add(1, Ordering::SeqCst) < breaks;
            let mut sent = 0;
            while sent < length {
                let mut piece = vec![0; usize::try_from((length - sent).min(100_000)).unwrap()];
                fill(recording, offset + sent, &mut piece);
                sent += piece.len() as u64;
                if reply.send(&piece).await.is_err() || breaks {
                    return;
                }
            }
            let _ = reply.end().await;
        }
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_is_taken_up_where_it_was() {
    let (site, [active, _backup, witness]) = Site::of_three(Role::Backup).await;
    drop(active);
    loses(&witness, &[1]).await;
    let group = site.join(1, Role::Active).await;
    let opened = Arc::default();
    unsteady(&group, MIB, &opened, 4);
    let peers = Peers::new(witness.group.clone());
    let audio = RemoteAudio::open(peers, NodeId(1), id(1), FetchFormat::Original);
    let mut audio = within(audio).await.unwrap();
    blocking(move || compare(&mut audio, id(1), 0, MIB).unwrap()).await;
    assert_eq!(opened.load(Ordering::SeqCst), 5);
}
