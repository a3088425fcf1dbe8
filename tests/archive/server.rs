//! A real OpenSSH server as a child process, for this user only, on loopback: with keys of its own, and a folder that
//! is the archive.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::common::LIMIT;
use crate::common::skipped::skip;

const SSHD: &str = "/usr/sbin/sshd";
const SUBSYSTEM: &str = "/usr/lib/openssh/sftp-server";

/// The server, running or not.
pub struct Server {
    dir: TempDir,
    user: String,
    port: u16,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn new_key(path: &Path) -> Result<()> {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .context("ssh-keygen")?;
    ensure!(made.success(), "ssh-keygen: {made}");
    Ok(())
}

impl Server {
    /// A running one; `None` where there is none to be had, which is said.
    pub async fn start() -> Option<Self> {
        let mut server = match Self::prepare() {
            Ok(server) => server,
            Err(reason) => {
                skip("an SSH server", &reason);
                return None;
            }
        };
        server.know_host_key();
        server.run().await;
        Some(server)
    }

    fn prepare() -> Result<Self> {
        for needed in [SSHD, SUBSYSTEM] {
            ensure!(Path::new(needed).exists(), "{needed} is missing: run ./setup tests");
        }
        let user = Command::new("id").arg("-un").output().context("id")?;
        let user = String::from_utf8(user.stdout)?.trim().to_owned();
        if user == "root" {
            // As root it insists on the folder in which it has no privileges.
            std::fs::create_dir_all("/run/sshd")?;
        }
        let dir = tempfile::tempdir()?;
        new_key(&dir.path().join("client"))?;
        new_key(&dir.path().join("host"))?;
        std::fs::copy(dir.path().join("client.pub"), dir.path().join("authorized"))?;
        std::fs::create_dir(dir.path().join("recordings"))?;
        let port = astlogger::demo::free_tcp_port()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp {SUBSYSTEM}\n",
            at("host"),
            at("authorized"),
        );
        std::fs::write(dir.path().join("config"), text)?;
        Ok(Self { dir, user, port, child: None })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it listens.
    pub async fn run(&mut self) {
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.at("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.at("log")).expect("writable"))
            .spawn();
        self.child = Some(child.expect("it starts"));
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).is_err() {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the SSH server does not listen: {log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, and the connections that it has.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let of_it = Command::new("pgrep").args(["-P", &child.id().to_string()]).output();
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        // Each connection is a process of its own, which lives on.
        let of_it = String::from_utf8(of_it.expect("pgrep").stdout).expect("numbers");
        for connection in of_it.split_whitespace() {
            // It may have ended by itself.
            let _ = Command::new("kill").args(["-9", connection]).status();
        }
    }

    /// From now on it is another one.
    pub fn change_host_key(&self) {
        for name in ["host", "host.pub"] {
            std::fs::remove_file(self.at(name)).expect("it is there");
        }
        new_key(&self.at("host")).expect("a key");
    }

    /// The recorder is to know its key.
    pub fn know_host_key(&self) {
        let key = std::fs::read_to_string(self.at("host.pub")).expect("a key");
        let known = format!("[127.0.0.1]:{} {key}", self.port);
        std::fs::write(self.at("known"), known).expect("writable");
    }

    /// The lines of configuration that name it.
    pub fn settings(&self) -> String {
        format!(
            "al_archive = \"sftp://{}@127.0.0.1:{}{}\"\nal_sftpkeyfile = \"{}\"\n\
             al_sftpknownhosts = \"{}\"\n",
            self.user,
            self.port,
            self.folder().display(),
            self.at("client").display(),
            self.at("known").display(),
        )
    }

    /// The folder that is the archive.
    pub fn folder(&self) -> PathBuf {
        self.at("recordings")
    }
}
