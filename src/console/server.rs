//! The door: who is let in, how long a line may be, how long nothing may happen. What is said is
//! `run`'s matter. No client, however slow or wrong, holds up anything but himself.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::group::Patience;
use super::line::{Command, parse};
use super::output::{Output, one_line};
use super::run::Desk;
use super::{Actions, Code, Failure};
use crate::config::Console;
use crate::web::backend::Code as Shared;

/// After a failed accept (no file handles left) others need a moment to give theirs back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long and how much is read away after our last word, so that it arrives.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// So many are told at once that there are too many.
const REFUSALS: usize = 32;
/// Its owner and his group; the default would let nobody else in either.
const SOCKET_MODE: u32 = 0o660;

/// Bounds of the door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Longest line, bytes.
    pub line_bytes: usize,
    /// Without a line for so long a connection is closed.
    pub idle: Duration,
    /// A client that does not take a line within this time is gone.
    pub write: Duration,
    /// How long the group is waited for.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            line_bytes: 2048,
            idle: Duration::from_secs(1800),
            write: Duration::from_secs(10),
            patience: Patience::default(),
        }
    }
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The place cannot be had.
    #[error(
        "cannot listen on {place}: {source}; is al_consolelisten free, and may this user use it?"
    )]
    Listen {
        /// `al_consolelisten`.
        place: Console,
        /// Why.
        source: io::Error,
    },
    /// Whoever can connect may do everything.
    #[error("al_consolelisten {0} is not loopback; choose 127.0.0.1 or the path of a Unix socket")]
    NotLoopback(Console),
}

/// A console that runs. Dropping it leaves it running.
pub struct Running {
    place: Console,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where it listens; the port is the real one if 0 was asked for.
    #[must_use]
    pub const fn place(&self) -> &Console {
        &self.place
    }

    /// Ends it and all its connections. What a command has begun in the group goes its way.
    pub async fn stop(self) {
        self.desk.stop.send_replace(true);
        self.task.abort();
        // Aborted it is, and a panic in there has been reported.
        let _ = self.task.await;
        if let Console::Unix(path) = &self.place {
            // Somebody may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens the console.
///
/// # Errors
/// If the place cannot be had; it names the parameter.
pub async fn serve(
    place: &Console,
    actions: Arc<dyn Actions>,
    limits: Limits,
) -> Result<Running, ConsoleError> {
    let failed = |source| ConsoleError::Listen { place: place.clone(), source };
    let (listener, place) = match place {
        Console::Tcp(address) if !address.ip().is_loopback() => {
            return Err(ConsoleError::NotLoopback(place.clone()));
        }
        Console::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let place = Console::Tcp(listener.local_addr().map_err(failed)?);
            (Listener::Tcp(listener), place)
        }
        Console::Unix(path) => {
            (Listener::Unix(bind_unix(path).await.map_err(failed)?), place.clone())
        }
    };
    let desk =
        Arc::new(Desk { actions, patience: limits.patience, stop: watch::Sender::new(false) });
    let door = Arc::new(Door { desk: Arc::clone(&desk), limits });
    let task = tokio::spawn(accept(listener, door));
    Ok(Running { place, desk, task })
}

/// A socket that a killed process left is in the way of the next one.
async fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    if is_socket(path) && UnixStream::connect(path).await.is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

async fn accept(listener: Listener, door: Arc<Door>) {
    let mut open = Open {
        seats: Arc::new(Semaphore::new(door.limits.connections)),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        tasks: JoinSet::new(),
        door,
    };
    loop {
        let accepted = match &listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                // A progress line is to be seen at once.
                let _ = stream.set_nodelay(true);
                open.take(stream);
            }),
            Listener::Unix(unix) => unix.accept().await.map(|(stream, _)| open.take(stream)),
        };
        if accepted.is_err() {
            sleep(ACCEPT_AGAIN).await;
        }
        while open.tasks.try_join_next().is_some() {}
    }
}

/// The connections. Dropping them ends them.
struct Open {
    seats: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tasks: JoinSet<()>,
    door: Arc<Door>,
}

impl Open {
    /// Lets somebody in; or tells him that there are too many, unless even those are too many.
    fn take<S>(&mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let door = Arc::clone(&self.door);
        if let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() {
            self.tasks.spawn(door.connection(stream, seat));
        } else if let Ok(seat) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.tasks.spawn(door.refusal(stream, seat));
        }
    }
}

struct Door {
    desk: Arc<Desk>,
    limits: Limits,
}

/// What came instead of a line, or the line.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Line(String),
    TooLong,
    NotText,
    Unfinished,
    Closed,
}

impl Door {
    async fn connection<S>(self: Arc<Self>, stream: S, seat: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        // An error means that he has gone: nobody is left to be told.
        let _ = self.talk(&mut reader, &mut writer).await;
        farewell(&mut reader, &mut writer).await;
        drop(seat);
    }

    async fn refusal<S>(self: Arc<Self>, stream: S, seat: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (reader, mut writer) = tokio::io::split(stream);
        let full = Failure::new(Shared::Busy, "too many consoles are open; close one of them");
        // He sees the connection close either way.
        let _ = self.end(&mut writer, &Err(full)).await;
        farewell(&mut BufReader::new(reader), &mut writer).await;
        drop(seat);
    }

    async fn talk<R, W>(&self, reader: &mut R, writer: &mut W) -> io::Result<()>
    where
        R: AsyncBufRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let line = match self.read(reader).await? {
                Read::Line(line) => line,
                Read::Closed => return Ok(()),
                Read::NotText => {
                    let failure = Failure::new(Code::Foreign, "the line is no UTF-8 text");
                    return self.end(writer, &Err(failure)).await;
                }
                Read::TooLong => {
                    let message =
                        format!("no line is longer than {} bytes", self.limits.line_bytes);
                    return self.end(writer, &Err(Failure::new(Code::TooLong, message))).await;
                }
                // Half a number is another number.
                Read::Unfinished => {
                    let message = "the line has no end; finish it with a newline";
                    return self.end(writer, &Err(Failure::new(Shared::BadValue, message))).await;
                }
            };
            let command = match parse(&line) {
                Ok(command) => command,
                Err(failure) => {
                    let foreign = failure.code == Code::Foreign;
                    self.end(writer, &Err(failure)).await?;
                    if foreign {
                        return Ok(());
                    }
                    continue;
                }
            };
            let quit = command == Command::Quit;
            let mut password = None;
            if matches!(command, Command::AddUser { .. }) {
                self.write(writer, "the password, please, as the next line\n").await?;
                let Read::Line(line) = self.read(reader).await? else { return Ok(()) };
                password = Some(line);
            }
            let result = self.answer(writer, command, password).await?;
            self.end(writer, &result).await?;
            if quit {
                return Ok(());
            }
        }
    }

    /// Does a command and passes its lines on. The command is a task of its own, because what it
    /// has begun in the group must not stop half-way where the client goes.
    async fn answer<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        command: Command,
        password: Option<String>,
    ) -> io::Result<Result<(), Failure>> {
        let (out, mut lines) = Output::new();
        let desk = Arc::clone(&self.desk);
        let task = tokio::spawn(async move { desk.run(command, password, &out).await });
        while let Some(mut line) = lines.recv().await {
            line.push('\n');
            self.write(writer, &line).await?;
        }
        Ok(task.await.unwrap_or_else(|error| {
            Err(Failure::new(Shared::Internal, format!("the command broke off: {error}")))
        }))
    }

    async fn read<R: AsyncBufRead + Unpin>(&self, reader: &mut R) -> io::Result<Read> {
        timeout(self.limits.idle, read_line(reader, self.limits.line_bytes))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn end<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        result: &Result<(), Failure>,
    ) -> io::Result<()> {
        self.write(writer, &end_of_answer(result)).await
    }

    async fn write<W: AsyncWrite + Unpin>(&self, writer: &mut W, text: &str) -> io::Result<()> {
        let written = async {
            writer.write_all(text.as_bytes()).await?;
            writer.flush().await
        };
        timeout(self.limits.write, written).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn end_of_answer(result: &Result<(), Failure>) -> String {
    match result {
        Ok(()) => "ok\n".to_owned(),
        Err(failure) => format!("error {}\n", one_line(&failure.to_string())),
    }
}

/// Reads one line of at most so many bytes, without its end.
async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R, max: usize) -> io::Result<Read> {
    let mut line = Vec::new();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(if line.is_empty() { Read::Closed } else { Read::Unfinished });
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(bytes.len());
        if line.len() + taken > max {
            return Ok(Read::TooLong);
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(newline.map_or(taken, |at| at + 1));
        if newline.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(String::from_utf8(line).map_or(Read::NotText, Read::Line));
        }
    }
}

/// Closing a socket with unread bytes makes the kernel send a reset, which can overtake our last
/// word.
async fn farewell<R, W>(reader: &mut R, writer: &mut W)
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if writer.shutdown().await.is_err() {
        return;
    }
    let read_away = async {
        let mut left = LINGER_BYTES_MAX;
        while let Ok(bytes) = reader.fill_buf().await {
            let taken = bytes.len();
            if taken == 0 || taken > left {
                return;
            }
            left -= taken;
            reader.consume(taken);
        }
    };
    // Who goes on sending has had his chance.
    let _ = timeout(LINGER, read_away).await;
}

#[cfg(test)]
mod tests {
    use storage_core::Role;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::console::fake::Fake;
    use crate::users::UserRole;

    async fn start(fake: Arc<Fake>, limits: Limits) -> (Running, std::net::SocketAddr) {
        let place = Console::Tcp("127.0.0.1:0".parse().unwrap());
        let running = serve(&place, fake, limits).await.unwrap();
        let Console::Tcp(address) = *running.place() else { unreachable!("as asked for") };
        (running, address)
    }

    /// Sends all of it, closes, and reads what comes.
    async fn say(address: std::net::SocketAddr, text: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn group() -> Arc<Fake> {
        Arc::new(Fake::group(&[Role::Active, Role::Backup, Role::Witness]))
    }

    #[tokio::test]
    async fn one_line_in_lines_out_and_an_end() {
        let fake = group();
        let (running, address) = start(Arc::clone(&fake), Limits::default()).await;
        for (text, ends) in [
            ("\n", "ok\n"),
            ("show rules\r\n", "no rules: every call is recorded\nok\n"),
            ("show peers\n", "ok\n"),
            (
                "set al_rescuems 300\n",
                "al_rescuems = 300 until the next restart; `save` makes it last\nok\n",
            ),
            ("save\n", "saved\nok\n"),
            ("startrecord 3100 trunk\n", "\nok\n"),
            ("startrecord 3101\n", "error nocall there is no answered call there\n"),
            ("drill\n", "gap 120 ms\nok\n"),
            (
                "colour\n",
                "error unknowncommand there is no command colour; `help` lists the commands\n",
            ),
            ("quit\nhelp\n", "ok\n"),
            ("help", "error badvalue the line has no end; finish it with a newline\n"),
        ] {
            let answer = say(address, text).await;
            assert!(answer.ends_with(ends), "{text:?}: {answer}");
        }
        let both = say(address, "show alarms\nshow rules\n").await;
        assert_eq!(both.lines().filter(|line| *line == "ok").count(), 2, "{both}");
        running.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_password_is_a_line_of_its_own() {
        let fake = group();
        let (_running, address) = start(Arc::clone(&fake), Limits::default()).await;
        let answer = say(address, "add user anna agent 3100\n pass word\nshow rules\n").await;
        assert_eq!(answer.lines().filter(|line| *line == "ok").count(), 2, "{answer}");
        let user =
            ("anna".to_owned(), UserRole::Agent, Some("3100".to_owned()), " pass word".to_owned());
        assert_eq!(*fake.users.lock().unwrap(), [user]);
        say(address, "add user bert qa\n").await;
        assert_eq!(fake.users.lock().unwrap().len(), 1, "without a password nobody is added");
    }

    #[tokio::test]
    async fn what_is_no_console_client_is_told_so_and_obeyed_in_nothing() {
        let fake = group();
        let limits = Limits { line_bytes: 64, ..Limits::default() };
        let (_running, address) = start(Arc::clone(&fake), limits).await;
        let page = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nadd user evil admin\nsecret\n";
        let answer = say(address, page).await;
        assert!(answer.starts_with("error foreign ") && answer.lines().count() == 1, "{answer}");
        assert!(fake.users.lock().unwrap().is_empty());

        let answer = say(address, "x".repeat(100_000)).await;
        assert_eq!(answer, "error toolong no line is longer than 64 bytes\n");
        let answer = say(address, b"\xff\xfe\nshow rules\n").await;
        assert_eq!(answer, "error foreign the line is no UTF-8 text\n");
    }

    #[tokio::test]
    async fn one_too_many_is_told_so_and_the_others_stay() {
        let limits = Limits { connections: 2, ..Limits::default() };
        let (_running, address) = start(group(), limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut told = String::new();
        third.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("error busy too many consoles"), "{told}");
        first.write_all(b"show rules\nquit\n").await.unwrap();
        let mut told = String::new();
        first.read_to_string(&mut told).await.unwrap();
        assert!(told.ends_with("ok\nok\n"), "{told}");
    }

    #[tokio::test]
    async fn who_says_nothing_or_reads_nothing_is_let_go() {
        let moment = Duration::from_millis(50);
        let limits = Limits { idle: moment, write: moment, connections: 1, ..Limits::default() };
        let (_running, address) = start(group(), limits).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut told = String::new();
        idle.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "");
        // Megabytes of answers that nobody reads; the place is free again all the same.
        let mut deaf = TcpStream::connect(address).await.unwrap();
        let questions = "help\n".repeat(20_000);
        drop(timeout(Duration::from_secs(2), deaf.write_all(questions.as_bytes())).await);
        let answered = async {
            while !say(address, "show rules\n").await.ends_with("recorded\nok\n") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), answered).await.expect("the deaf one is gone");
    }

    #[tokio::test]
    async fn a_unix_socket_is_the_owners_and_survives_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        // What a killed process leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let place = Console::Unix(path.clone());
        let running = serve(&place, group(), Limits::default()).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"show rules\nquit\n").await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert!(told.ends_with("ok\nok\n"), "{told}");
        let second = serve(&place, group(), Limits::default()).await;
        assert!(matches!(second, Err(ConsoleError::Listen { .. })), "one is enough");
        running.stop().await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn other_machines_are_not_let_in() {
        let place = Console::Tcp("0.0.0.0:0".parse().unwrap());
        let refused = serve(&place, group(), Limits::default()).await;
        assert!(matches!(refused, Err(ConsoleError::NotLoopback(_))));
    }
}
