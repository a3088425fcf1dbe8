//! The archive: whether it can be reached, takes this node's credentials, and lets it put a file there, read that back
//! and delete it. That is tried with a small file of its own, which is gone afterwards. A node records without an
//! archive, so nothing here keeps one from starting. What the archive answers is put in words by `crate::archive`.

use std::time::Duration;

use tokio::time::timeout;

use super::Finding;
use crate::archive;
use crate::archive::target::{Kind, Target, TargetError};
use crate::config::{Archive, ArchiveKind, Config};

const CHECK: &str = "archive";
/// A person waits.
const WITHIN: Duration = Duration::from_secs(20);
/// What was tried is to be deleted after a failure, too, if that is quickly done.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn examine(config: &Config) -> Option<Finding> {
    let archive = config.storage.archive.as_ref()?;
    // Two nodes may look at once, and one of them twice.
    let name = format!("astlogger-check-{}-{}.txt", config.nodeid, std::process::id());
    Some(match archive::open(archive) {
        Ok(target) => tried(archive, &*target, &name).await,
        Err(error) => bad(archive, Step::Put, &error),
    })
}

/// What is done with the file that is tried, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Put,
    Read,
    Delete,
}

impl Step {
    const fn words(self) -> &'static str {
        match self {
            Self::Put => "a file cannot be put there",
            Self::Read => "what was put there cannot be read back",
            Self::Delete => "what was put there cannot be deleted",
        }
    }
}

async fn tried(archive: &Archive, target: &dyn Target, name: &str) -> Finding {
    let bytes =
        format!("{name} was put here by astlogger check, and may be deleted\n").into_bytes();
    let failed = match timeout(WITHIN, there_and_back(target, name, &bytes)).await {
        Ok(Ok(())) => {
            let found = format!("{}: a file was put there, read back and deleted", archive.place);
            return Finding::ok(CHECK, found);
        }
        Ok(Err(failed)) => failed,
        Err(_) => {
            let words = format!("no answer within {} s", WITHIN.as_secs());
            (Step::Put, TargetError::new(Kind::Away, words))
        }
    };
    // Where it is left the name says whose it is.
    let _ = timeout(REMOVED_WITHIN, target.delete(&[name.to_owned()])).await;
    bad(archive, failed.0, &failed.1)
}

async fn there_and_back(
    target: &dyn Target,
    name: &str,
    bytes: &[u8],
) -> Result<(), (Step, TargetError)> {
    let at = |step| move |error| (step, error);
    target.put(name, bytes.to_vec()).await.map_err(at(Step::Put))?;
    let there = target.head(name).await.map_err(at(Step::Read))?;
    let there = there.ok_or_else(|| {
        (Step::Read, TargetError::new(Kind::NotThere, "it is not there after it was put there"))
    })?;
    let back = target.read(name, 0..there.bytes, &there.tag).await.map_err(at(Step::Read))?;
    if back != bytes {
        return Err((Step::Read, TargetError::new(Kind::Changed, "it is not what was put there")));
    }
    target.delete(&[name.to_owned()]).await.map_err(at(Step::Delete))
}

fn bad(archive: &Archive, step: Step, error: &TargetError) -> Finding {
    let found = format!("{}: {}: {error}", archive.place, step.words());
    let (key, remedy) = advice(&archive.kind, step, error);
    Finding::warn(CHECK, found, remedy).of(key)
}

/// The parameter that a failure concerns, and what to do.
fn advice(kind: &ArchiveKind, step: Step, error: &TargetError) -> (&'static str, String) {
    if error.kind == Kind::Changed || error.kind == Kind::NotThere && step == Step::Read {
        let remedy =
            "find out who writes there besides the recorders, and whether the store is sound";
        return ("al_archive", remedy.to_owned());
    }
    match kind {
        ArchiveKind::S3(s3) => of_store(&s3.bucket, step, error),
        ArchiveKind::Folder(folder) => of_folder(&folder.display().to_string(), error),
        ArchiveKind::Sftp(sftp) => of_server(&sftp.folder, error),
    }
}

fn of_store(bucket: &str, step: Step, error: &TargetError) -> (&'static str, String) {
    let says = |words: &str| error.words.contains(words);
    if says("there is no bucket") || says("InvalidBucketName") {
        return ("al_archive", format!("make the bucket {bucket}, or name the right one"));
    }
    if says("SignatureDoesNotMatch") {
        let remedy =
            "give the secret key that belongs to al_s3accesskey; al_s3region must be the bucket's";
        return ("al_s3secretkeyfile", remedy.to_owned());
    }
    if says("InvalidAccessKeyId") {
        return ("al_s3accesskey", "give an access key that the store knows".to_owned());
    }
    if error.kind == Kind::Refused {
        let right = match step {
            Step::Put => "s3:PutObject",
            Step::Read => "s3:GetObject and s3:ListBucket",
            Step::Delete => "s3:DeleteObject",
        };
        let remedy = format!(
            "give the right access key and secret key, and let that key do {right} on {bucket}"
        );
        return ("al_s3accesskey", remedy);
    }
    let remedy = "look whether the store runs, at the way to it (name, port, firewall) and at its certificate";
    ("al_s3endpoint", remedy.to_owned())
}

fn of_folder(folder: &str, error: &TargetError) -> (&'static str, String) {
    let remedy = match error.kind {
        Kind::Refused => format!(
            "let the node's user write into {folder}, and the service: ReadWritePaths= of its unit names it; a share \
             must not be mounted read-only"
        ),
        _ if error.words.contains("is not there") => {
            format!("mount the share at {folder}; a recorder does not make the folder")
        }
        _ => format!("look at the share mounted at {folder}, and at its server"),
    };
    ("al_archive", remedy)
}

fn of_server(folder: &str, error: &TargetError) -> (&'static str, String) {
    let says = |words: &str| error.words.contains(words);
    let (key, remedy) = if says("cannot be started") {
        ("al_archive", "install openssh-client".to_owned())
    } else if says("Host key verification failed") {
        let remedy = "compare the server's key with what ssh-keyscan says, and put that into the file; if the server \
                      was not replaced, somebody else answers in its place";
        ("al_sftpknownhosts", remedy.to_owned())
    } else if says("Permission denied") || says("No such file") || says("bad permissions") {
        let remedy = "give a private key without a passphrase that only the node's user may read, and write its public \
                      half into the server's authorized_keys";
        ("al_sftpkeyfile", remedy.to_owned())
    } else if says("is not there") {
        ("al_archive", format!("make {folder} on the server; a recorder does not make it"))
    } else if error.kind == Kind::Refused {
        ("al_archive", format!("let that user write into {folder} on the server"))
    } else {
        let remedy =
            "look whether the SSH server runs, and at the way to it (name, port, firewall)";
        ("al_archive", remedy.to_owned())
    };
    (key, remedy)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::archive::target::{Answer, Lying, Upload};
    use crate::config::Sftp;
    use crate::preflight::Verdict;

    fn folder(path: PathBuf) -> Archive {
        Archive { place: format!("file://{}", path.display()), kind: ArchiveKind::Folder(path) }
    }

    #[tokio::test]
    async fn a_folder_that_takes_files_is_good_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let archive = folder(dir.path().to_owned());
        let target = archive::open(&archive).unwrap();
        let found = tried(&archive, &*target, "x.txt").await;
        assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let archive = folder(dir.path().join("share"));
        let target = archive::open(&archive).unwrap();
        let found = tried(&archive, &*target, "x.txt").await;
        assert_eq!((found.verdict, found.key), (Verdict::Warn, Some("al_archive")));
        assert!(found.remedy.unwrap().contains("mount the share"));
        assert!(!dir.path().join("share").exists());
    }

    /// Gives back something else than what it got.
    struct Forger(std::sync::Arc<dyn Target>);

    impl Target for Forger {
        fn place(&self) -> &str {
            self.0.place()
        }
        fn head<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lying>> {
            self.0.head(name)
        }
        fn read<'a>(
            &'a self,
            name: &'a str,
            range: std::ops::Range<u64>,
            tag: &'a str,
        ) -> Answer<'a, Vec<u8>> {
            Box::pin(async move {
                let mut bytes = self.0.read(name, range, tag).await?;
                bytes[0] ^= 1;
                Ok(bytes)
            })
        }
        fn put<'a>(&'a self, name: &'a str, bytes: Vec<u8>) -> Answer<'a, ()> {
            self.0.put(name, bytes)
        }
        fn begin<'a>(&'a self, name: &'a str) -> Answer<'a, Upload> {
            self.0.begin(name)
        }
        fn part<'a>(&'a self, up: &'a Upload, at: usize, bytes: Vec<u8>) -> Answer<'a, String> {
            self.0.part(up, at, bytes)
        }
        fn complete<'a>(&'a self, upload: &'a Upload, parts: Vec<String>) -> Answer<'a, ()> {
            self.0.complete(upload, parts)
        }
        fn abort<'a>(&'a self, upload: &'a Upload) -> Answer<'a, ()> {
            self.0.abort(upload)
        }
        fn delete<'a>(&'a self, names: &'a [String]) -> Answer<'a, ()> {
            self.0.delete(names)
        }
    }

    #[tokio::test]
    async fn what_comes_back_altered_is_told_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let archive = folder(dir.path().to_owned());
        let target = Forger(archive::open(&archive).unwrap());
        let found = tried(&archive, &target, "x.txt").await;
        assert!(found.found.contains("it is not what was put there"), "{found:?}");
        assert!(found.remedy.unwrap().contains("who writes there"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn each_failure_of_a_server_names_the_setting_to_be_changed() {
        let sftp = ArchiveKind::Sftp(Sftp {
            user: "rec".to_owned(),
            host: "nas".to_owned(),
            port: 22,
            folder: "/srv".to_owned(),
            key: "/k".into(),
            known_hosts: "/h".into(),
        });
        for (kind, words, key, remedy) in [
            (Kind::Refused, "ssh cannot be started: x", "al_archive", "openssh-client"),
            (Kind::Refused, "Host key verification failed.", "al_sftpknownhosts", "ssh-keyscan"),
            (
                Kind::Refused,
                "rec@h: Permission denied (publickey).",
                "al_sftpkeyfile",
                "authorized",
            ),
            (Kind::Away, "the folder /srv is not there", "al_archive", "make /srv"),
            (Kind::Refused, "the server says that this user may not", "al_archive", "write into"),
            (Kind::Away, "Connection refused", "al_archive", "SSH server runs"),
        ] {
            let (of, says) = advice(&sftp, Step::Put, &TargetError::new(kind, words));
            assert_eq!((of, says.contains(remedy)), (key, true), "{words}: {says}");
        }
    }
}
