//! Where recordings are archived in this benchmark, each a server of its own on loopback where one is needed, and the
//! bare way of putting the same files there and getting them back.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use astlogger::demo::free_tcp_port;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ClientOptions, ObjectStoreExt};

use super::node::RANGE_BYTES;
use super::{Laid, same};

const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const SSHD: &str = "/usr/sbin/sshd";
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
const BUCKET: &str = "recordings";
/// Access key and secret of the S3 server.
const KEY: &str = "benchbenchbench";
/// As many as the archiver does.
const AT_ONCE: usize = 2;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// OpenSSH's server.
    Sftp,
    /// s3s-fs, whose objects are files.
    S3,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Folder, Self::Sftp, Self::S3];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Folder => "a folder",
            Self::Sftp => "SFTP",
            Self::S3 => "S3",
        }
    }
}

/// An archive, which ends with this.
pub struct Place {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Place {
    /// A new one below a folder; waits until it can be used.
    pub async fn start(kind: Kind, folder: &Path, s3s: Option<&Path>) -> Result<Self> {
        let mut place =
            Self { kind, folder: folder.to_owned(), port: free_tcp_port()?, server: None };
        for name in ["recordings", "bare", "back", BUCKET] {
            std::fs::create_dir_all(place.at(name))?;
        }
        place.server = match kind {
            Kind::Folder => None,
            Kind::Sftp => Some(place.sshd()?),
            Kind::S3 => Some(place.s3s(s3s)?),
        };
        let deadline = Instant::now() + LISTENS_WITHIN;
        while place.server.is_some() && TcpStream::connect(place.address()).is_err() {
            ensure!(Instant::now() < deadline, "the server for {} does not listen", kind.name());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn sshd(&self) -> Result<Child> {
        for name in ["host", "client"] {
            let key = self.at(name).display().to_string();
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]))?;
        }
        let host = std::fs::read_to_string(self.at("host.pub"))?;
        std::fs::write(self.at("known"), format!("[127.0.0.1]:{} {host}", self.port))?;
        // Root's server wants it to be there; anybody else's does not.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut server = Command::new(SSHD);
        for option in [
            format!("Port={}", self.port),
            "ListenAddress=127.0.0.1".to_owned(),
            format!("HostKey={}", self.at("host").display()),
            format!("AuthorizedKeysFile={}", self.at("client.pub").display()),
            format!("Subsystem=sftp {SFTP_SERVER}"),
            "StrictModes=no".to_owned(),
            "PidFile=none".to_owned(),
        ] {
            server.args(["-o", &option]);
        }
        let log = std::fs::File::create(self.at("sshd.log"))?;
        server.args(["-D", "-e", "-f", "/dev/null"]).stderr(log).spawn().context(SSHD)
    }

    fn s3s(&self, named: Option<&Path>) -> Result<Child> {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.ancestors().nth(2)?.join("s3s/bin/s3s-fs"))
        };
        let server = named.map(Path::to_owned).or_else(beside).context("no folder above")?;
        ensure!(server.is_file(), "{} is not there: run ./setup tests", server.display());
        let mut command = Command::new(server);
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--access-key", KEY, "--secret-key", KEY]).arg(&self.folder);
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// The lines of a node's configuration that name it.
    pub fn settings(&self) -> String {
        let folder = self.at("recordings").display().to_string();
        match self.kind {
            Kind::Folder => format!("al_archive = \"file://{folder}\"\n"),
            Kind::Sftp => format!(
                "al_archive = \"sftp://{}@127.0.0.1:{}{folder}\"\nal_sftpkeyfile = {:?}\nal_sftpknownhosts = {:?}\n",
                user(),
                self.port,
                self.at("client"),
                self.at("known")
            ),
            Kind::S3 => format!(
                "al_archive = \"s3://{BUCKET}/node\"\nal_s3endpoint = \"http://{}\"\n\
                 al_s3accesskey = \"{KEY}\"\nal_s3secretkey = \"{KEY}\"\n",
                self.address()
            ),
        }
    }

    /// Puts the files there the bare way, so that they last.
    pub async fn put(&self, laid: &[Laid]) -> Result<()> {
        let there = self.at("bare");
        match self.kind {
            Kind::Folder => {
                run(Command::new("cp")
                    .arg("-t")
                    .arg(&there)
                    .args(laid.iter().map(|one| &one.path)))?;
                run(Command::new("sync").args(laid.iter().map(|one| there.join(name(one)))))
            }
            Kind::Sftp => self.sftp(laid.iter().map(|one| {
                // With -f it is synced there.
                format!("put -f {} {}\n", one.path.display(), there.join(name(one)).display())
            })),
            Kind::S3 => {
                let store = &self.client()?;
                let put = |one: &Laid| {
                    let (name, bytes) = (object(one), one.bytes.clone());
                    async move { store.put(&name, bytes.into()).await.map(drop) }
                };
                let puts: Vec<_> = laid.iter().map(put).collect();
                Ok(stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await?)
            }
        }
    }

    /// Gets them back the bare way: whole files, but from S3, where a range of a file is what the client reads.
    pub async fn get(&self, laid: &[Laid]) -> Result<()> {
        let (there, back) = (self.at("bare"), self.at("back"));
        match self.kind {
            Kind::Folder => {
                let files = laid.iter().map(|one| there.join(name(one)));
                run(Command::new("cp").arg("-t").arg(&back).args(files))?;
            }
            Kind::Sftp => self.sftp(laid.iter().map(|one| {
                format!(
                    "get {} {}\n",
                    there.join(name(one)).display(),
                    back.join(name(one)).display()
                )
            }))?,
            Kind::S3 => {
                let store = self.client()?;
                for one in laid {
                    let mut bytes = Vec::with_capacity(one.bytes.len());
                    while bytes.len() < one.bytes.len() {
                        let to = (bytes.len() + RANGE_BYTES).min(one.bytes.len());
                        let range = bytes.len() as u64..to as u64;
                        bytes.extend(store.get_range(&object(one), range).await?);
                    }
                    same(one, &bytes)?;
                }
                return Ok(());
            }
        }
        laid.iter().try_for_each(|one| same(one, &std::fs::read(back.join(name(one)))?))
    }

    /// One session of the system's own client.
    fn sftp(&self, commands: impl Iterator<Item = String>) -> Result<()> {
        let batch = self.at("batch");
        std::fs::write(&batch, commands.collect::<String>())?;
        let known = format!("UserKnownHostsFile={}", self.at("known").display());
        let mut client = Command::new("sftp");
        client.args(["-q", "-F", "none", "-o", &known, "-o", "IdentitiesOnly=yes"]);
        client.args(["-P", &self.port.to_string(), "-i"]).arg(self.at("client"));
        client.arg("-b").arg(batch).arg(format!("{}@127.0.0.1", user())).stdout(Stdio::null());
        run(&mut client)
    }

    fn client(&self) -> Result<AmazonS3> {
        let client = AmazonS3Builder::new()
            .with_bucket_name(BUCKET)
            .with_region("us-east-1")
            .with_endpoint(format!("http://{}", self.address()))
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_access_key_id(KEY)
            .with_secret_access_key(KEY);
        Ok(client.build()?)
    }
}

fn name(laid: &Laid) -> PathBuf {
    laid.path.file_name().map(PathBuf::from).unwrap_or_default()
}

fn object(laid: &Laid) -> object_store::path::Path {
    format!("bare/{}", name(laid).display()).into()
}

/// Who runs this.
fn user() -> String {
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    own.map_or_else(|| "root".to_owned(), |own| own.name)
}

fn run(command: &mut Command) -> Result<()> {
    let ran = command.stdin(Stdio::null()).status();
    let ran = ran.with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(ran.success(), "{command:?}: {ran}");
    Ok(())
}
