//! A real S3 server (s3s-fs) as a child process, whose objects are files in a folder: so what it has is judged
//! without asking it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::common::LIMIT;
use crate::common::skipped::skip;

pub const ACCESS: &str = "recorder";
pub const SECRET: &str = "hunter2hunter2";
const BUCKET: &str = "calls";

/// The server, running or not.
pub struct Store {
    binary: PathBuf,
    root: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Store {
    /// A running one with an empty bucket; `None` where there is no server to be had, which is said.
    pub async fn start() -> Option<Self> {
        let mut store = match Self::prepare() {
            Ok(store) => store,
            Err(reason) => {
                skip("an S3 server", &reason);
                return None;
            }
        };
        store.run().await;
        Some(store)
    }

    fn prepare() -> Result<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        let binary = target.ok_or_else(|| anyhow!("no folder above"))?.join("s3s/bin/s3s-fs");
        ensure!(binary.exists(), "{} is missing: run ./setup tests", binary.display());
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join(BUCKET))?;
        let port = astlogger::demo::free_tcp_port()?;
        Ok(Self { binary, root, port, child: None })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts it and waits until it listens.
    pub async fn run(&mut self) {
        let host = Ipv4Addr::LOCALHOST.to_string();
        let child = Command::new(&self.binary)
            .args(["--host", &host, "--port", &self.port.to_string()])
            .args(["--access-key", ACCESS, "--secret-key", SECRET])
            .arg(self.root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("it starts"));
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(self.address()).is_err() {
            assert!(Instant::now() < deadline, "the S3 server does not listen");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// The lines of configuration that name it.
    pub fn settings(&self) -> String {
        format!(
            "al_archive = \"s3://{BUCKET}/site/one\"\nal_s3endpoint = \"http://{}\"\n\
             al_s3accesskey = \"{ACCESS}\"\nal_s3secretkey = \"{SECRET}\"\n",
            self.address()
        )
    }

    /// The folder below which its objects lie.
    pub fn objects(&self) -> PathBuf {
        self.root.path().join(BUCKET).join("site/one")
    }
}

/// All files below a folder, by their path in it; what is on its way is left out.
pub fn files_in(folder: &Path) -> Vec<(String, PathBuf)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(inside).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with('.') && !name.ends_with(".part") {
                let name = path.strip_prefix(folder).expect("below").display().to_string();
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}
