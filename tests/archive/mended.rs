//! Recorders alone with an archive: what rots or is lost on the disk comes back from there, and what is wrong there,
//! too, does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use simulator::SiteConfig;
use storage_core::Recording;
use tempfile::TempDir;

use crate::common::Bench;
use crate::common::commands::key_file;
use crate::common::group::sha256;
use crate::store::files_in;
use crate::{
    ALWAYS_LOW, ROOMY, all_archived, comes_true, edit, get, raised, record_one, restarted,
};

/// Flips a bit in the middle of a file; gives what was there before.
fn rot(file: &Path) -> Vec<u8> {
    let sound = std::fs::read(file).expect("it is there");
    let mut rotten = sound.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 0x10;
    std::fs::write(file, rotten).expect("writable");
    sound
}

/// Has the node read its files over.
fn scrubs(bench: &Bench) {
    let output = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["console", "--config"])
        .arg(bench.node.config_path())
        .arg("scrub")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

fn logged(bench: &Bench, words: &str) -> bool {
    std::fs::read_to_string(bench.node.log_path()).unwrap_or_default().contains(words)
}

/// A node alone with a folder as its archive, in which there is one recording.
async fn archived_in(share: &Path, more: &str) -> (Bench, PathBuf, PathBuf, Recording) {
    let folder = share.join("recordings");
    std::fs::create_dir(&folder).expect("writable");
    let settings = format!("al_archive = \"file://{}\"\n{more}{ROOMY}", folder.display());
    let console = astlogger::demo::free_tcp_port().expect("a port");
    let settings = format!("al_consolelisten = \"127.0.0.1:{console}\"\n{settings}");
    let bench = Bench::start_with(SiteConfig::demo(2, 1), &settings).await;
    record_one(&bench, 1).await;
    let (voice, record) = all_archived(&bench, 1).await.remove(0);
    let files = files_in(&folder);
    let (_, object) = files.iter().find(|(name, _)| !name.ends_with(".json")).expect("an object");
    (bench, voice, object.clone(), record)
}

/// The same of a node that encrypts.
async fn archived_encrypted_in(share: &Path) -> (Bench, PathBuf, PathBuf, Recording) {
    let encrypted = format!("al_encryptionkeyfile = \"{}\"\n", key_file(share).display());
    archived_in(share, &encrypted).await
}

/// The archive gives the recording as it was made.
async fn is_had_whole(bench: &Bench, record: &Recording) {
    let (head, body) = get(bench, record, "audio", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(sha256(&body), record.sha256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_flips_is_mended_from_the_archive_unless_that_is_wrong_too() {
    let share = TempDir::new().expect("a folder");
    let (bench, voice, object, record) = archived_in(share.path(), "").await;
    let sound = rot(&voice);
    let rotten = std::fs::read(&voice).expect("it is there");
    scrubs(&bench);
    comes_true(&bench, "it is mended", || std::fs::read(&voice).is_ok_and(|now| now == sound))
        .await;
    raised(&bench, "bitrot", true).await;
    let aside = bench.node.data_dir().join("voice/.damaged");
    let (_, aside) = files_in(&aside).remove(0);
    assert_eq!(std::fs::read(&aside).expect("it is kept"), rotten);
    assert!(logged(&bench, "the archive's copy has taken its place"));
    std::fs::remove_file(&aside).expect("writable");
    raised(&bench, "bitrot", false).await;

    // Both at once: what is here is all that there is, and stays.
    rot(&voice);
    rot(&object);
    scrubs(&bench);
    comes_true(&bench, "it is told", || logged(&bench, "the archive has no right copy")).await;
    raised(&bench, "bitrot", true).await;
    assert_eq!(std::fs::read(&voice).expect("it is there"), rotten);
    std::fs::write(&object, &sound).expect("writable");
    scrubs(&bench);
    comes_true(&bench, "it is mended", || std::fs::read(&voice).is_ok_and(|now| now == sound))
        .await;
    assert_eq!(sha256(&sound), record.sha256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_encrypted_can_be_read_from_the_archive_after_it_was_mended_from_there() {
    let share = TempDir::new().expect("a folder");
    let (bench, voice, object, record) = archived_encrypted_in(share.path()).await;
    let before = std::fs::read(&object).expect("an object");
    rot(&voice);
    scrubs(&bench);
    raised(&bench, "bitrot", true).await;
    // It has another data key now, and so has what lies in the archive.
    let same = || {
        let (here, there) = (std::fs::read(&voice), std::fs::read(&object));
        here.ok().zip(there.ok()).is_some_and(|(here, there)| here == there && there != before)
    };
    comes_true(&bench, "it is archived anew", same).await;
    all_archived(&bench, 1).await;
    edit(&bench, ROOMY, ALWAYS_LOW);
    let bench = restarted(bench).await;
    comes_true(&bench, "it makes room", || !voice.exists()).await;
    is_had_whole(&bench, &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_does_not_go_while_the_archive_has_it_under_a_data_key_that_is_gone() {
    let share = TempDir::new().expect("a folder");
    let (bench, voice, object, record) = archived_encrypted_in(share.path()).await;
    // The archive is away while it is mended, so nothing can be put there anew; then the node ends.
    let before = std::fs::read(&object).expect("an object");
    let (folder, hidden) = (share.path().join("recordings"), share.path().join("hidden"));
    rot(&voice);
    scrubs(&bench);
    comes_true(&bench, "it is mended", || logged(&bench, "the archive's copy has taken its place"))
        .await;
    std::fs::rename(&folder, &hidden).expect("writable");
    let mut bench = bench;
    bench.node.kill().await.expect("it runs");
    // As if nothing had been put there since.
    let note = |record: &Recording| record.archived.clone().expect("a note");
    let hidden_object = hidden.join(object.strip_prefix(&folder).expect("below"));
    std::fs::write(&hidden_object, &before).expect("writable");
    let (_, now) = bench.node.recordings().expect("records can be read").remove(0);
    let path = voice.parent().expect("a folder").join(format!("{}.json", record.recordingid));
    let stale = Recording { archived: Some(note(&record)), ..now };
    std::fs::write(&path, serde_json::to_vec(&stale).expect("a record")).expect("writable");
    std::fs::rename(&hidden, &folder).expect("writable");
    edit(&bench, ROOMY, ALWAYS_LOW);
    let bench = bench.started().await;
    comes_true(&bench, "it makes room", || !voice.exists()).await;
    assert!(std::fs::read(&object).expect("an object") != before, "it was put there anew before");
    is_had_whole(&bench, &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_folder_that_is_lost_comes_back_from_the_archive() {
    let share = TempDir::new().expect("a folder");
    let (mut bench, voice, _, record) = archived_in(share.path(), "").await;
    bench.node.kill().await.expect("it runs");
    std::fs::remove_dir_all(bench.node.data_dir().join("voice")).expect("it is there");
    let bench = bench.started().await;
    comes_true(&bench, "it is back", || {
        std::fs::read(&voice).is_ok_and(|bytes| sha256(&bytes) == record.sha256)
    })
    .await;
    bench.metric("astlogger_copies_total", |copies| copies == 1.0).await;
    let (_, back) = all_archived(&bench, 1).await.remove(0);
    assert!(back.archived.is_some(), "and it is not put there again");
    bench.metric("astlogger_archive_stored_total", |stored| stored == 0.0).await;
}
