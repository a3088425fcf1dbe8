//! `al_archive`: what kind of archive it names, and the settings that go with each kind.

use std::path::PathBuf;

use recorder_core::dmcc::Secret;

use super::reader::Reader;

/// A century: a slip of the finger would be for ever.
const LOCK_DAYS_MAX: u32 = 36_500;

/// Where recordings are archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its address, for people, without a slash in the end; holds no secret.
    pub place: String,
    /// What it is.
    pub kind: ArchiveKind,
}

/// What an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// An S3-compatible store.
    S3(S3),
    /// A folder: a mounted share, as a rule.
    Folder(PathBuf),
    /// A folder behind SFTP.
    Sftp(Sftp),
}

/// A folder behind SFTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sftp {
    /// Who signs in.
    pub user: String,
    /// Name or address of the machine.
    pub host: String,
    /// Its port; 22.
    pub port: u16,
    /// The folder there, without a slash in the end.
    pub folder: String,
    /// `al_sftpkeyfile`: the private key.
    pub key: PathBuf,
    /// `al_sftpknownhosts`: the host's public keys.
    pub known_hosts: PathBuf,
}

impl Archive {
    /// How recordings are locked there, if they are.
    #[must_use]
    pub const fn lock(&self) -> Option<ObjectLock> {
        match &self.kind {
            ArchiveKind::S3(s3) => s3.lock,
            ArchiveKind::Folder(_) | ArchiveKind::Sftp(_) => None,
        }
    }
}

/// `al_archivelock`: who may end a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has a right of its own in the store.
    Governance,
    /// Nobody.
    Compliance,
}

/// How an archive is to keep recordings against everybody's deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// `al_archivelock`.
    pub mode: LockMode,
    /// `al_archivelockdays`, from the recording's end; absent: for as long as it is kept.
    pub days: Option<u32>,
}

/// An S3-compatible store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// What the names of the objects begin with; may be empty.
    pub prefix: String,
    /// `al_s3endpoint`; absent: the region's own.
    pub endpoint: Option<String>,
    /// `al_s3region`.
    pub region: Option<String>,
    /// `al_s3accesskey`.
    pub accesskey: Option<Secret>,
    /// `al_s3secretkey`.
    pub secretkey: Option<Secret>,
    /// Whether recordings are locked there.
    pub lock: Option<ObjectLock>,
}

/// What an address names.
enum Place {
    S3 { bucket: String, prefix: String },
    Folder(PathBuf),
    Sftp { user: String, host: String, port: u16, folder: String },
}

impl Place {
    fn read(text: &str) -> Result<Self, String> {
        let must_be = || "s3://BUCKET/PREFIX, file:///FOLDER or sftp://USER@HOST/FOLDER".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(must_be)?;
        let rest = rest.trim_end_matches('/');
        match scheme {
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err("s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
                }
                let prefix = prefix.trim_matches('/').to_owned();
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
            }
            "file" if rest.starts_with('/') => Ok(Self::Folder(rest.into())),
            "file" => Err("file:/// and the whole path of a folder".to_owned()),
            "sftp" => Self::sftp(rest),
            _ => Err(must_be()),
        }
    }

    fn sftp(rest: &str) -> Result<Self, String> {
        let must_be = || "sftp://USER@HOST:PORT/FOLDER; the folder is a whole path".to_owned();
        let (machine, folder) = rest.split_once('/').ok_or_else(must_be)?;
        let (user, machine) = machine.rsplit_once('@').ok_or_else(must_be)?;
        let (host, port) = match machine.strip_prefix('[') {
            Some(address) => {
                let (host, rest) = address.split_once(']').ok_or_else(must_be)?;
                (host, rest.strip_prefix(':'))
            }
            None => match machine.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (machine, None),
            },
        };
        let port = port.map_or(Ok(22), str::parse).map_err(|_| must_be())?;
        // What begins like an option would be one to ssh; a password does not belong here.
        let plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(':');
        if !plain(user) || host.is_empty() || host.starts_with('-') || folder.is_empty() {
            return Err(must_be());
        }
        let folder = format!("/{folder}");
        Ok(Self::Sftp { user: user.to_owned(), host: host.to_owned(), port, folder })
    }
}

/// `kept_forever`: `al_retentiondays` says nothing.
pub(super) fn read(reader: &mut Reader, kept_forever: bool) -> Option<Archive> {
    let remedy = "write al_archive = \"s3://recordings/site1\", \"file:///mnt/recordings\" or \
                  \"sftp://rec@nas/srv/recordings\"";
    let place = reader.parsed("al_archive", Place::read, remedy);
    let endpoint = reader.parsed(
        "al_s3endpoint",
        |text| match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => Ok(text.to_owned()),
            _ => Err("an address that begins with https:// or http://".to_owned()),
        },
        "write al_s3endpoint = \"https://s3.example.com\"",
    );
    let region = reader.text("al_s3region");
    let accesskey = reader.secret("al_s3accesskey", "al_s3accesskeyfile");
    let secretkey = reader.secret("al_s3secretkey", "al_s3secretkeyfile");
    let key = reader.path("al_sftpkeyfile");
    let known_hosts = reader.path("al_sftpknownhosts");
    let lock = read_lock(reader, kept_forever);
    let unused =
        ["al_s3endpoint", "al_s3region", "al_s3accesskey", "al_s3accesskeyfile", "al_archivelock"];
    Some(match place? {
        Place::S3 { bucket, prefix } => {
            if accesskey.is_some() != secretkey.is_some() {
                let wrong = "one of access key and secret key is missing";
                reader.refuse("al_archive", wrong, "give al_s3accesskey and al_s3secretkeyfile");
            }
            if endpoint.as_ref().is_some_and(|address| in_clear(address)) {
                let wrong = "what is archived crosses the network in clear";
                reader.warn("al_s3endpoint", wrong, "use an address that begins with https://");
            }
            let slash = if prefix.is_empty() { "" } else { "/" };
            let place = format!("s3://{bucket}{slash}{prefix}");
            let kind = ArchiveKind::S3(S3 {
                bucket,
                prefix,
                endpoint,
                region,
                accesskey,
                secretkey,
                lock,
            });
            Archive { place, kind }
        }
        Place::Folder(folder) => {
            if let Some(key) = unused.into_iter().find(|key| reader.has(key)) {
                reader.warn(key, "is for an archive in S3", "leave it out");
            }
            let place = format!("file://{}", folder.display());
            Archive { place, kind: ArchiveKind::Folder(folder) }
        }
        Place::Sftp { user, host, port, folder } => {
            if reader.has("al_archivelock") {
                reader.warn("al_archivelock", "is for an archive in S3", "leave it out");
            }
            let (Some(key), Some(known_hosts)) = (key, known_hosts) else {
                let wrong = "SFTP needs a key and the host's public key";
                let remedy = "give al_sftpkeyfile, and al_sftpknownhosts as ssh-keyscan makes it";
                reader.refuse("al_archive", wrong, remedy);
                return None;
            };
            let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let place = format!("sftp://{user}@{shown}:{port}{folder}");
            let kind = ArchiveKind::Sftp(Sftp { user, host, port, folder, key, known_hosts });
            Archive { place, kind }
        }
    })
}

fn read_lock(reader: &mut Reader, kept_forever: bool) -> Option<ObjectLock> {
    const DAYS: &str = "al_archivelockdays";
    let modes = [("governance", LockMode::Governance), ("compliance", LockMode::Compliance)];
    let mode = reader.word("al_archivelock", &modes);
    let days = reader.number(DAYS, 1..=LOCK_DAYS_MAX);
    if mode.is_none() && days.is_some() {
        let remedy = "give al_archivelock = \"governance\", or leave it out";
        reader.warn(DAYS, "does nothing without al_archivelock", remedy);
    }
    if mode.is_some() && days.is_none() && kept_forever {
        let wrong = "for how long is not said: recordings are kept for ever";
        reader.refuse("al_archivelock", wrong, "give al_archivelockdays or al_retentiondays");
    }
    mode.map(|mode| ObjectLock { mode, days })
}

/// Whether an address is another machine's, without TLS.
fn in_clear(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    !(host.starts_with("127.") || host == "localhost" || rest.starts_with("[::1]"))
}
