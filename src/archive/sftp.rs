//! An archive behind SFTP. The connection is the system's own `ssh`, as a child process with its `sftp` subsystem, so
//! keys and known hosts are those that people know; what goes through it is [`super::sftp_wire`]. There is one
//! connection at a time, on which any number of requests are under way; where it breaks the next request makes
//! another. As with a folder, a file gets its name when it is whole, and the archive's own folder is never made.

use std::collections::HashMap;
use std::ops::Range;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::sftp_wire::{self as wire, CHUNK_BYTES, PACKET_BYTES_MAX, Reply, Request};
use super::target::{Answer, Kind, Lying, PART_BYTES, Target, TargetError, Upload};
use crate::config::Sftp;

/// The login, the network included.
const LOGIN_WITHIN: Duration = Duration::from_secs(20);
/// One answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Chunks that are under way at once: a megabyte.
const CHUNKS_AT_ONCE: usize = 32;
/// Of what ssh says before it ends.
const SAID_BYTES_MAX: u64 = 4096;
/// Ending of what is not complete.
const PART_ENDING: &str = ".part";

type Pending = Arc<Mutex<HashMap<u32, oneshot::Sender<Reply>>>>;

/// The server.
pub struct SftpServer {
    place: String,
    config: Sftp,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl SftpServer {
    /// That of the configuration. Nothing is asked of it yet.
    #[must_use]
    pub fn new(place: String, config: Sftp) -> Self {
        Self { place, config, session: tokio::sync::Mutex::default() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.config.folder)
    }

    fn part_path(&self, name: &str) -> String {
        format!("{}/{name}{PART_ENDING}", self.config.folder)
    }

    /// The connection, a new one where there is none any more.
    async fn session(&self) -> Result<Arc<Session>, TargetError> {
        let mut held = self.session.lock().await;
        if let Some(session) =
            held.as_ref().filter(|session| !session.broken.load(Ordering::Relaxed))
        {
            return Ok(Arc::clone(session));
        }
        *held = None;
        let session = Arc::new(Session::open(&self.config).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn do_put(&self, name: &str, bytes: Vec<u8>) -> Result<(), TargetError> {
        let session = self.session().await?;
        self.make_folder_of(&session, name).await?;
        let part = self.part_path(name);
        let handle = session.open_file(&Request::Create(&part)).await?;
        session.write(&handle, 0, &bytes).await?;
        session.settle(handle).await?;
        session.replace(&part, &self.path(name)).await
    }

    /// Makes the folders of the day, below the archive's own.
    async fn make_folder_of(&self, session: &Session, name: &str) -> Result<(), TargetError> {
        let Some((folder, _)) = name.rsplit_once('/') else { return Ok(()) };
        if session.stat(&self.path(folder)).await?.is_some() {
            return Ok(());
        }
        if session.stat(&self.config.folder).await?.is_none() {
            let words = format!("the folder {} is not there", self.config.folder);
            return Err(TargetError::new(Kind::Away, words));
        }
        let mut made = self.config.folder.clone();
        for part in folder.split('/') {
            made = format!("{made}/{part}");
            // That it is there already is no error of its own in this version; what comes next tells.
            session.ask(&Request::MakeFolder(&made)).await?;
        }
        Ok(())
    }
}

impl Target for SftpServer {
    fn place(&self) -> &str {
        &self.place
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lying>> {
        Box::pin(async move { self.session().await?.stat(&self.path(name)).await })
    }

    fn read<'a>(&'a self, name: &'a str, range: Range<u64>, tag: &'a str) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let session = self.session().await?;
            let handle = session.open_file(&Request::OpenToRead(&self.path(name))).await?;
            let now = lying(session.ask(&Request::Fstat(&handle)).await?)?;
            let read = if now.tag == tag {
                session.read(&handle, range).await
            } else {
                Err(TargetError::new(Kind::Changed, "the file was replaced"))
            };
            session.ask(&Request::Close(&handle)).await?;
            read
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Vec<u8>) -> Answer<'a, ()> {
        Box::pin(self.do_put(name, bytes))
    }

    fn begin<'a>(&'a self, name: &'a str) -> Answer<'a, Upload> {
        Box::pin(async move {
            let session = self.session().await?;
            self.make_folder_of(&session, name).await?;
            let handle = session.open_file(&Request::Create(&self.part_path(name))).await?;
            session.settle(handle).await?;
            Ok(Upload { name: name.to_owned(), id: format!("{name}{PART_ENDING}") })
        })
    }

    fn part<'a>(&'a self, upload: &'a Upload, number: usize, bytes: Vec<u8>) -> Answer<'a, String> {
        Box::pin(async move {
            let session = self.session().await?;
            let handle = session.open_file(&Request::OpenToWrite(&self.path(&upload.id))).await?;
            session.write(&handle, number as u64 * PART_BYTES, &bytes).await?;
            session.settle(handle).await?;
            Ok(String::new())
        })
    }

    fn complete<'a>(&'a self, upload: &'a Upload, _: Vec<String>) -> Answer<'a, ()> {
        Box::pin(async move {
            let session = self.session().await?;
            session.replace(&self.path(&upload.id), &self.path(&upload.name)).await
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> Answer<'a, ()> {
        Box::pin(async move { self.session().await?.remove(&self.path(&upload.id)).await })
    }

    fn delete<'a>(&'a self, names: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let session = self.session().await?;
            for name in names {
                session.remove(&self.path(name)).await?;
                session.remove(&self.part_path(name)).await?;
            }
            Ok(())
        })
    }
}

/// A connection. Its child ends with it.
struct Session {
    /// Packets to be sent; a task sends them, so that none is sent in part when its asker goes away.
    input: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    next: AtomicU32,
    broken: Arc<AtomicBool>,
    replaces: bool,
    syncs: bool,
    _ssh: Child,
}

fn arguments(config: &Sftp) -> Vec<String> {
    let known = config.known_hosts.display();
    let options = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={known}"),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "ConnectTimeout=5".to_owned(),
        "ServerAliveInterval=15".to_owned(),
    ];
    let mut all = vec!["-F".to_owned(), "none".to_owned()];
    all.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    all.extend(["-i".to_owned(), config.key.display().to_string()]);
    all.extend(["-p".to_owned(), config.port.to_string(), "-l".to_owned(), config.user.clone()]);
    all.extend(["-s".to_owned(), "--".to_owned(), config.host.clone(), "sftp".to_owned()]);
    all
}

impl Session {
    async fn open(config: &Sftp) -> Result<Self, TargetError> {
        let ssh = Command::new("ssh")
            .args(arguments(config))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut ssh = ssh.map_err(|error| {
            TargetError::new(
                Kind::Refused,
                format!("ssh cannot be started: {error}; install openssh-client"),
            )
        })?;
        let (Some(mut input), Some(mut output)) = (ssh.stdin.take(), ssh.stdout.take()) else {
            return Err(TargetError::new(Kind::Away, "ssh has no pipes"));
        };
        let greeting = async {
            input.write_all(&wire::init()).await.ok()?;
            wire::decode(&packet(&mut output).await?)
        };
        let extensions = match timeout(LOGIN_WITHIN, greeting).await {
            Ok(Some((_, Reply::Version(3.., extensions)))) => extensions,
            Ok(_) => return Err(said(ssh).await),
            Err(_) => return Err(TargetError::new(Kind::Away, "the server does not answer")),
        };
        let has = |name: &str| extensions.iter().any(|extension| extension == name);
        let (pending, broken) = (Pending::default(), Arc::new(AtomicBool::new(false)));
        tokio::spawn(hand_out(output, Arc::clone(&pending), Arc::clone(&broken)));
        let (to_send, sent) = mpsc::channel(CHUNKS_AT_ONCE);
        tokio::spawn(send_all(input, sent));
        Ok(Self {
            input: to_send,
            pending,
            next: AtomicU32::new(1),
            broken,
            replaces: has(wire::REPLACE),
            syncs: has(wire::SYNC),
            _ssh: ssh,
        })
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Reply, TargetError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (told, answer) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, told);
        let asked = async {
            self.input.send(wire::encode(id, request)).await.map_err(|_| broken())?;
            // What was pending when the connection broke is dropped.
            answer.await.map_err(|_| broken())
        };
        let answered = timeout(ANSWER_WITHIN, asked).await;
        let answered = answered
            .unwrap_or_else(|_| Err(TargetError::new(Kind::Away, "the server does not answer")));
        if answered.is_err() {
            self.broken.store(true, Ordering::Relaxed);
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
        answered
    }

    async fn done(&self, request: &Request<'_>) -> Result<(), TargetError> {
        match self.ask(request).await? {
            Reply::Status(wire::OK, _) => Ok(()),
            other => Err(refused(other)),
        }
    }

    async fn open_file(&self, request: &Request<'_>) -> Result<Vec<u8>, TargetError> {
        match self.ask(request).await? {
            Reply::Handle(handle) => Ok(handle),
            other => Err(refused(other)),
        }
    }

    async fn stat(&self, path: &str) -> Result<Option<Lying>, TargetError> {
        match self.ask(&Request::Stat(path)).await? {
            Reply::Status(wire::NO_FILE, _) => Ok(None),
            reply => lying(reply).map(Some),
        }
    }

    async fn write(&self, handle: &[u8], offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let writes = (0..bytes.len()).step_by(chunk()).map(|at| async move {
            let piece = &bytes[at..bytes.len().min(at + chunk())];
            self.done(&Request::Write(handle, offset + at as u64, piece)).await
        });
        stream::iter(writes).buffer_unordered(CHUNKS_AT_ONCE).try_collect::<()>().await
    }

    async fn read(&self, handle: &[u8], range: Range<u64>) -> Result<Vec<u8>, TargetError> {
        let end = range.end;
        let reads = range
            .step_by(chunk())
            .map(|at| async move { self.chunk(handle, at, end.min(at + CHUNK_BYTES)).await });
        let chunks: Vec<Vec<u8>> =
            stream::iter(reads).buffered(CHUNKS_AT_ONCE).try_collect().await?;
        Ok(chunks.concat())
    }

    /// Bytes of one chunk; a server may give fewer at a time.
    async fn chunk(&self, handle: &[u8], from: u64, to: u64) -> Result<Vec<u8>, TargetError> {
        let mut bytes = Vec::new();
        while from + (bytes.len() as u64) < to {
            let at = from + bytes.len() as u64;
            let length = u32::try_from(to - at).unwrap_or(u32::MAX);
            match self.ask(&Request::Read(handle, at, length)).await? {
                Reply::Data(data) if !data.is_empty() && data.len() as u64 <= to - at => {
                    bytes.extend(data);
                }
                Reply::Status(wire::EOF, _) | Reply::Data(_) => {
                    return Err(TargetError::new(
                        Kind::Changed,
                        "the file has another length than it had",
                    ));
                }
                other => return Err(refused(other)),
            }
        }
        Ok(bytes)
    }

    /// Closes a file that was written, durably where the server knows how.
    async fn settle(&self, handle: Vec<u8>) -> Result<(), TargetError> {
        if self.syncs {
            self.done(&Request::Sync(&handle)).await?;
        }
        self.done(&Request::Close(&handle)).await
    }

    async fn replace(&self, from: &str, to: &str) -> Result<(), TargetError> {
        if self.replaces {
            return self.done(&Request::Replace(from, to)).await;
        }
        // This version's own renaming does not replace. The recording lies here until it is read back.
        self.remove(to).await?;
        self.done(&Request::Rename(from, to)).await
    }

    /// Removes a file. That it is not there is no error.
    async fn remove(&self, path: &str) -> Result<(), TargetError> {
        match self.ask(&Request::Remove(path)).await? {
            Reply::Status(wire::OK | wire::NO_FILE, _) => Ok(()),
            other => Err(refused(other)),
        }
    }
}

fn chunk() -> usize {
    usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX)
}

fn broken() -> TargetError {
    TargetError::new(Kind::Away, "the connection broke off")
}

fn lying(reply: Reply) -> Result<Lying, TargetError> {
    match reply {
        Reply::Attributes(bytes, changed) => {
            let (bytes, changed) = (bytes.unwrap_or(0), changed.unwrap_or(0));
            Ok(Lying { bytes, tag: format!("{bytes}-{changed}") })
        }
        other => Err(refused(other)),
    }
}

/// An answer that is none to the request, as a rule a status.
fn refused(reply: Reply) -> TargetError {
    match reply {
        Reply::Status(wire::NO_FILE, _) => {
            TargetError::new(Kind::NotThere, "the file is not there")
        }
        Reply::Status(wire::DENIED, _) => {
            TargetError::new(Kind::Refused, "the server says that this user may not write there")
        }
        Reply::Status(code, words) => {
            TargetError::new(Kind::Away, format!("the server says {words:?} ({code})"))
        }
        _ => TargetError::new(Kind::Away, "the server answers something else"),
    }
}

/// A packet without its length; `None` at the end, or where it is none.
async fn packet(output: &mut ChildStdout) -> Option<Vec<u8>> {
    let length = output.read_u32().await.ok().filter(|length| *length <= PACKET_BYTES_MAX)?;
    let mut packet = vec![0; usize::try_from(length).ok()?];
    output.read_exact(&mut packet).await.ok()?;
    Some(packet)
}

/// Sends packets until nobody has any more, or the connection ends.
async fn send_all(mut input: ChildStdin, mut packets: mpsc::Receiver<Vec<u8>>) {
    while let Some(packet) = packets.recv().await {
        if input.write_all(&packet).await.is_err() {
            return;
        }
    }
}

/// Gives each answer to whoever asked, until the connection ends.
async fn hand_out(mut output: ChildStdout, pending: Pending, broken: Arc<AtomicBool>) {
    while let Some(packet) = packet(&mut output).await {
        let Some((id, reply)) = wire::decode(&packet) else { break };
        let asked = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(asked) = asked {
            // Whoever does not wait any more need not hear it.
            let _ = asked.send(reply);
        }
    }
    broken.store(true, Ordering::Relaxed);
    pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Why ssh has ended, in its own last words.
async fn said(mut ssh: Child) -> TargetError {
    let mut text = Vec::new();
    if let Some(errors) = ssh.stderr.take() {
        // It has ended, or is about to.
        let _ = timeout(ANSWER_WITHIN, errors.take(SAID_BYTES_MAX).read_to_end(&mut text)).await;
    }
    in_words(&String::from_utf8_lossy(&text))
}

fn in_words(said: &str) -> TargetError {
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.unwrap_or("ssh has ended without a word").chars().take(200).collect::<String>();
    let is_refusal =
        ["Permission denied", "Host key verification failed", "No such file", "bad permissions"]
            .iter()
            .any(|words| said.contains(words));
    TargetError::new(if is_refusal { Kind::Refused } else { Kind::Away }, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_tells_whether_somebody_has_to_change_something() {
        for (said, kind) in [
            ("rec@h: Permission denied (publickey).\r\n", Kind::Refused),
            ("No ED25519 host key is known for h\nHost key verification failed.\n", Kind::Refused),
            ("ssh: connect to host h port 22: Connection refused\n", Kind::Away),
            ("", Kind::Away),
        ] {
            assert_eq!(in_words(said).kind, kind, "{said}");
        }
        assert!(in_words("a\nlast words\n\n").words.contains("last words"));
    }
}
