//! A recorder node as a real child process with a folder of its own: started, asked, stopped,
//! killed. The demonstration and the end-to-end tests use it; it judges nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use storage_core::{Recording, naming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Values by name, labels included, as a node's page of metrics says them.
pub type Metrics = BTreeMap<String, f64>;

/// So many UDP ports were given to sites of this process, and some more.
static PORTS_GIVEN: AtomicUsize = AtomicUsize::new(0);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// A node's folder, configuration and, while it runs, process.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    dir: PathBuf,
    web: SocketAddr,
    log_filter: Option<String>,
    child: Option<Child>,
}

impl Node {
    /// Writes the configuration into `dir`. `settings` are lines of TOML beside the ones that this
    /// function writes itself: data folder, web address, users file, and that there is no console
    /// unless they name one.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn prepare(binary: &Path, dir: &Path, settings: &str) -> Result<Self> {
        let web = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()?));
        Self::prepare_at(binary, dir, web, settings)
    }

    /// The same with a web page at this address.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn prepare_at(binary: &Path, dir: &Path, web: SocketAddr, settings: &str) -> Result<Self> {
        std::fs::create_dir_all(dir.join("data"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let quoted = |path: PathBuf| toml::Value::from(path.display().to_string()).to_string();
        let console =
            if settings.contains("al_consolelisten") { "" } else { "al_consolelisten = \"\"\n" };
        let text = format!(
            "al_datadir = {}\nal_usersfile = {}\nal_listen = \"{web}\"\n{console}{settings}\n",
            quoted(dir.join("data")),
            quoted(dir.join("users.toml")),
        );
        std::fs::write(dir.join("astlogger.toml"), text)?;
        Ok(Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            web,
            log_filter: None,
            child: None,
        })
    }

    /// What it logs from its next start on, as `AL_LOG` says it.
    pub fn log_at(&mut self, filter: &str) {
        self.log_filter = Some(filter.to_owned());
    }

    /// What is started as the node's process from its next start on, and becomes it.
    pub fn starts_as(&mut self, program: &Path) {
        program.clone_into(&mut self.binary);
    }

    /// Starts the process; its log is appended to `node.log` in its folder.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("node.log"))?;
        let child = Command::new(&self.binary)
            .arg("run")
            .arg("--config")
            .arg(self.config_path())
            .envs(self.log_filter.iter().map(|filter| ("AL_LOG", filter)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("astlogger.toml")
    }

    /// The users file.
    #[must_use]
    pub fn users_path(&self) -> PathBuf {
        self.dir.join("users.toml")
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the log is.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// Address of its web page, WebSocket and metrics.
    #[must_use]
    pub const fn web(&self) -> SocketAddr {
        self.web
    }

    /// Process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Waits until the node says that it could record a call now.
    ///
    /// # Errors
    /// If it ends before, or the time is up; with the reasons it gave.
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("the node ended ({status}); see {}", self.log_path().display());
            }
            let last = match self.get("/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((_, body)) => body,
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                bail!("not ready: {last}; see {}", self.log_path().display());
            }
            sleep(POLL).await;
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        child.kill().await?;
        Ok(())
    }

    /// Whether the process was started and not yet seen to end.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// SIGSTOP: the process hangs, its sockets stay open.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT: a paused process goes on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM, without waiting for the end: see [`Node::ended`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Whether the process has ended by itself, or was never started.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn ended(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let ended = child.try_wait()?.is_some();
        if ended {
            self.child = None;
        }
        Ok(ended)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the node does not run")?;
        Ok(signal::kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// SIGTERM, then waits for the orderly end.
    ///
    /// # Errors
    /// If it does not end in time or reports a failure.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        if self.pid().is_some() {
            self.signal(Signal::SIGTERM)?;
        }
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = timeout(limit, child.wait()).await.context("the node does not end")??;
        if !status.success() {
            bail!("the node ended with {status}; see {}", self.log_path().display());
        }
        Ok(())
    }

    /// `GET` of a path: status and body.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        http_get(self.web, path).await
    }

    /// The metrics without labels, and with labels as `name{labels}`.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        metrics_of(self.web).await
    }

    /// Every published recording on disk with its voice file's path.
    ///
    /// # Errors
    /// If a record cannot be read: nothing half-written is ever visible.
    pub fn recordings(&self) -> Result<Vec<(PathBuf, Recording)>> {
        recordings_in(&self.data_dir())
    }
}

/// The same of the data folder of any node.
///
/// # Errors
/// If a record cannot be read.
pub fn recordings_in(datadir: &Path) -> Result<Vec<(PathBuf, Recording)>> {
    let mut found = Vec::new();
    collect(&datadir.join("voice"), &mut found)?;
    found.sort_by_key(|(_, recording)| recording.recordingid);
    Ok(found)
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, Recording)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            // What is being published lies there.
            continue;
        }
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "json") {
            let text = std::fs::read_to_string(&path)?;
            let recording: Recording = serde_json::from_str(&text)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let voice = path.with_extension(recording.format.extension());
            let voice = if recording.encrypted { naming::encrypted(voice) } else { voice };
            found.push((voice, recording));
        }
    }
    Ok(())
}

/// The metrics of the node at this address; see [`Node::metrics`].
///
/// # Errors
/// If the node does not answer.
pub async fn metrics_of(web: SocketAddr) -> Result<Metrics> {
    let (_, body) = http_get(web, "/metrics").await?;
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}

/// One HTTP/1.1 request on a connection of its own.
///
/// # Errors
/// If there is no whole answer within five seconds.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(HTTP_TIMEOUT, exchange).await.context("no answer in time")??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.split(' ').nth(1).context("no status line")?.parse()?;
    Ok((status, body.to_owned()))
}

/// A TCP port of the loopback interface that nobody listens on now.
///
/// # Errors
/// If the system gives none.
pub fn free_tcp_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// The first of `count` neighbouring UDP ports, the first of them even, that are all free now.
///
/// # Errors
/// If there is no such stretch between 20000 and the system's own range of ports.
pub fn free_udp_ports(count: u16) -> Result<u16> {
    let step = usize::from(count + count % 2).max(2);
    // Other sites, of this process or of another one on this machine, should not be after the same
    // ports in the same moment.
    let given = PORTS_GIVEN.fetch_add(2 * step, Ordering::Relaxed);
    let shift = (std::process::id() % 64) as usize * 150 + given;
    let candidates = (20_000..32_000 - step).step_by(step).map(|port| {
        let port = 20_000 + (port - 20_000 + shift.div_ceil(step) * step) % (12_000 - step) / 2 * 2;
        u16::try_from(port).expect("below 32000")
    });
    for first in candidates {
        let all_free =
            (first..first + count).all(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        if all_free {
            return Ok(first);
        }
    }
    bail!("no {count} neighbouring UDP ports are free on the loopback interface")
}
