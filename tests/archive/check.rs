//! `astlogger check` against real archives, whole and with everything that is commonly wrong with one.

use std::path::Path;

use tempfile::TempDir;

use crate::common::commands::check_finds;
use crate::server::Server;
use crate::store::{SECRET, Store, files_in};

/// Holds what is found against what is expected: verdict, setting, and words in it or in the remedy.
pub fn assert_found(dir: &Path, lines: &str, verdict: &str, key: &str, words: &[&str]) {
    let (finding, all) = check_finds(dir, lines, "archive");
    let told = finding.to_string();
    assert_eq!(finding["verdict"], verdict, "{lines}\n{all}");
    assert_eq!(finding["key"].as_str().unwrap_or_default(), key, "{told}");
    for words in words {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    for secret in [SECRET, "wrongwrongwrong"] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_a_store_and_never_the_key() {
    let Some(mut store) = Store::start().await else { return };
    let dir = TempDir::new().expect("a folder");
    let right = store.settings();
    let found = |lines: &str, verdict: &str, key: &str, words: &[&str]| {
        assert_found(dir.path(), lines, verdict, key, words);
    };
    found(&right, "ok", "", &["put there, read back and deleted"]);
    let left = files_in(store.objects().parent().expect("a bucket"));
    assert!(left.is_empty(), "nothing is left there: {left:?}");
    let wrong = right.replace(SECRET, "wrongwrongwrong");
    found(&wrong, "warn", "al_s3secretkeyfile", &["SignatureDoesNotMatch", "secret key"]);
    store.kill();
    found(&right, "warn", "al_s3endpoint", &["refused", "whether the store runs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_a_server_behind_sftp() {
    let Some(mut server) = Server::start().await else { return };
    let dir = TempDir::new().expect("a folder");
    let right = server.settings();
    let found = |lines: &str, verdict: &str, key: &str, words: &[&str]| {
        assert_found(dir.path(), lines, verdict, key, words);
    };
    found(&right, "ok", "", &["put there, read back and deleted"]);
    assert!(files_in(&server.folder()).is_empty(), "nothing is left there");
    let lost = right.replace("/recordings", "/elsewhere");
    found(&lost, "warn", "al_archive", &["elsewhere"]);
    let stranger = right.replace("/client\"", "/host\"");
    found(&stranger, "warn", "al_sftpkeyfile", &["Permission denied", "authorized_keys"]);
    server.kill();
    found(&right, "warn", "al_archive", &["refused", "SSH server runs"]);
    server.change_host_key();
    server.run().await;
    found(&right, "warn", "al_sftpknownhosts", &["Host key verification failed", "ssh-keyscan"]);
}

#[test]
fn check_says_that_a_share_is_not_mounted_and_makes_nothing_in_its_place() {
    let dir = TempDir::new().expect("a folder");
    let share = dir.path().join("share");
    let lines = format!("al_archive = \"file://{}\"", share.display());
    assert_found(dir.path(), &lines, "warn", "al_archive", &["is not there", "mount the share"]);
    assert!(!share.exists());
    std::fs::create_dir(&share).expect("writable");
    assert_found(dir.path(), &lines, "ok", "", &["put there, read back and deleted"]);
    assert!(files_in(&share).is_empty(), "nothing is left there");
}
