//! A PostgreSQL for a test: in a folder of its own, on loopback, as a user who is not root, which it refuses. It can be
//! killed and started again, and asked by `psql`, which shares nothing with the program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The database's login for nodes, and its password.
pub const LOGIN: &str = "astlogger";
pub const LOGIN_PASSWORD: &str = "s3cret:/of the database";
/// The password as it stands in an address.
const WRITTEN_PASSWORD: &str = "s3cret%3A%2Fof%20the%20database";
const LIMIT: Duration = Duration::from_secs(60);

/// A server, running or not.
pub struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// A running server with an empty database `calls` that belongs to [`LOGIN`].
    pub async fn start() -> Result<Self> {
        Self::start_with("", "").await
    }

    /// The same with more settings, and with these lines first in `pg_hba.conf`.
    pub async fn start_with(settings: &str, hba: &str) -> Result<Self> {
        let bin = programs()?;
        let dir = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let port = astlogger::demo::free_tcp_port()?;
        let mut server = Self { dir, bin, port, child: None };
        let data = server.data();
        std::fs::create_dir(&data)?;
        server.give_away(&data)?;
        let made = server
            .as_user("initdb")
            .args(["-U", "admin", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .context("initdb")?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        let conf = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf)?;
        std::fs::write(&conf, format!("{text}\nfsync = off\nmax_connections = 40\n{settings}\n"))?;
        std::fs::write(
            data.join("pg_hba.conf"),
            format!(
                "host all admin 127.0.0.1/32 trust\n{hba}\nhost all all 127.0.0.1/32 scram-sha-256\n"
            ),
        )?;
        server.run().await?;
        let password = LOGIN_PASSWORD;
        server.ask_in("postgres", &format!("CREATE ROLE {LOGIN} LOGIN PASSWORD '{password}'"))?;
        server.ask_in("postgres", &format!("CREATE DATABASE calls OWNER {LOGIN}"))?;
        Ok(server)
    }

    /// Puts a file where the server may read it, and no other user.
    pub fn own_file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        self.give_away(&path)?;
        Ok(path)
    }

    /// The address for a node's configuration, with the password in it.
    pub fn url(&self) -> String {
        format!("postgres://{LOGIN}:{WRITTEN_PASSWORD}@127.0.0.1:{}/calls", self.port)
    }

    /// The same without the password.
    pub fn url_without_password(&self) -> String {
        format!("postgres://{LOGIN}@127.0.0.1:{}/calls", self.port)
    }

    /// Settings of a node of this site.
    pub fn settings(&self, site: &str) -> String {
        format!(
            "al_catalogurl = \"{}\"\nal_site = \"{site}\"\nal_catalogsearch = \"database\"\n",
            self.url()
        )
    }

    /// Starts it, and waits until it answers.
    pub async fn run(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))?;
        let mut command = self.as_user("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-k", "", "-p"]);
        command.arg(self.port.to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("postgres")?);
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.ask_in("postgres", "SELECT 1") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Ends it at once, as a crash does: nothing is written down, and every connection breaks.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).expect("a process id");
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            let _ = child.wait();
        }
    }

    /// What the database `calls` answers, a line a row, columns parted by `|`. Asked as an administrator.
    pub fn ask(&self, sql: &str) -> String {
        self.ask_in("calls", sql).unwrap_or_else(|error| panic!("{sql}: {error:#}"))
    }

    fn ask_in(&self, database: &str, sql: &str) -> Result<String> {
        let asked = Command::new(self.bin.join("psql"))
            .args(["-h", "127.0.0.1", "-U", "admin", "-XAtq", "-v", "ON_ERROR_STOP=1", "-p"])
            .arg(self.port.to_string())
            .args(["-d", database, "-c", sql])
            .output()?;
        if !asked.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&asked.stderr));
        }
        Ok(String::from_utf8(asked.stdout)?.trim_end().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of PostgreSQL, as a user whom it accepts.
    fn as_user(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match servant() {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.arg("--clear-groups").arg(program);
                command
            }
        };
        command.current_dir("/");
        command
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        let Some(user) = servant() else { return Ok(()) };
        Ok(chown(path, Some(user.uid), Some(user.gid))?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Whose the server is: somebody else where this is root.
fn servant() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok()?);
    Some(known.expect("each system has nobody"))
}

/// Where the newest server's programs are: Debian has them in no path.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("psql").exists())
        .collect();
    found.sort();
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
    };
    let newest = found.pop().map(|(_, bin)| bin).or_else(in_path);
    newest.context("there is no PostgreSQL: ./setup tests installs it")
}
