//! A machine of a test's own: a Debian booted by its systemd in a container, on a disk of its own over a
//! common one, in a network that the test has laid. It is switched on and off, and commands are run on
//! it as its administrator would; what they mean is the test's matter.
//!
//! Nothing of it outlives the test: its processes end with the thread that switched it on, and its mounts with
//! that thread's namespace.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};

/// Within this a machine has booted.
const BOOT_MAX: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);
/// What an administrator's commands find.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The disk that all machines begin with.
///
/// # Errors
/// If this user may have no machines.
pub fn base() -> Result<PathBuf> {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("containers").join("debian");
    ensure!(nix::unistd::geteuid().is_root(), "only root may have containers");
    // Nothing that a system could forbid: a mistake, and no reason to go without.
    assert!(base.join("etc").is_dir(), "run `./setup tests`: there is no {}", base.display());
    Ok(base)
}

/// Whether this kernel lets this user have what machines are made of: namespaces, a disk over another, control groups.
/// Where it does, a machine that does not boot is a fault.
///
/// # Errors
/// What it forbids.
pub fn may_have_machines(base: &Path, folder: &Path) -> Result<()> {
    let own = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--mount-proc"];
    let tried = Command::new("unshare").args(own).arg("true").output().context("no unshare")?;
    let said = String::from_utf8_lossy(&tried.stderr);
    ensure!(tried.status.success(), "no namespaces: {}", said.trim());
    let machine = Machine::build("probe", base, folder, Path::new("/proc/self/ns/net"))?;
    drop(machine);
    Ok(())
}

/// A machine, running or not.
pub struct Machine {
    name: String,
    /// Its root directory, as the test sees it.
    root: PathBuf,
    network: PathBuf,
    console: PathBuf,
    cgroups: Vec<PathBuf>,
    power: Option<Power>,
}

/// What runs while it is switched on.
struct Power {
    container: Child,
    /// Its first process, by the test's numbers.
    init: u32,
}

impl Machine {
    /// A machine with a copy of the disk `base`, and its own files in `folder`.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn build(name: &str, base: &Path, folder: &Path, network: &Path) -> Result<Self> {
        let part = |what: &str| folder.join(format!("{name}-{what}"));
        let (root, upper, work) = (part("root"), part("disk"), part("work"));
        for folder in [&root, &upper, &work] {
            fs::create_dir_all(folder)?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
            .context("no disk over another (overlayfs)")?;
        // By a name that also holds where processes have other numbers.
        let place = part("network");
        File::create(&place)?;
        mount(Some(network), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context("no name for a network")?;
        let cgroups = cgroups(name)?;
        Ok(Self {
            name: name.to_owned(),
            root,
            network: place,
            console: part("console"),
            cgroups,
            power: None,
        })
    }

    /// A file of the machine, as the test sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Switches it on and waits until it has booted.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn switch_on(&mut self) -> Result<()> {
        // Each systemd takes the control groups below its own for its units: two in the same would
        // kill each other's services.
        let enter: String = self
            .cgroups
            .iter()
            .map(|g| format!("echo $$ >'{}/cgroup.procs'; ", g.display()))
            .collect();
        // Whoever kills the outermost kills all: by their own namespace of processes.
        let script = format!("{enter}exec setpriv --pdeathsig KILL -- \"$@\"");
        let console = File::options().create(true).append(true).open(&self.console)?;
        let container = Command::new("sh")
            .args(["-ec", &script, "sh", "unshare", "--pid", "--fork", "--kill-child=KILL"])
            .args(["--mount-proc", "systemd-nspawn", "--boot", "--quiet"])
            .args(["--register=no", "--keep-unit", "--link-journal=no", "--timezone=off"])
            .args(["--resolv-conf=off", "--console=pipe"])
            .arg(format!("--machine={}", self.name))
            .arg(format!("--network-namespace-path={}", self.network.display()))
            .arg(format!("--directory={}", self.root.display()))
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("no systemd-nspawn")?;
        let deadline = Instant::now() + BOOT_MAX;
        let mut power = Power { container, init: 0 };
        loop {
            if let Some(status) = power.container.try_wait()? {
                bail!("{} has ended while it booted ({status}): {}", self.name, self.last_words());
            }
            if let Some(init) = child_of(power.container.id()).and_then(child_of) {
                power.init = init;
                if power.has_booted() {
                    self.power = Some(power);
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                power.off();
                bail!("{} does not boot: {}", self.name, self.last_words());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether it is on.
    pub const fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// The power goes: nothing is told to end.
    pub fn cut_power(&mut self) {
        self.power.take().expect("it is on").off();
    }

    /// Runs commands as root, in root's home.
    pub fn try_run(&self, script: &str) -> Output {
        self.power.as_ref().expect("it is on").run(script)
    }

    /// The same, which must succeed; what it said.
    pub fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}\n{said}{complaint}", self.name);
        said
    }

    /// A connection from itself to what listens on its own loopback.
    pub fn connect(&self, port: u16) -> TcpStream {
        let network = File::open(&self.network).expect("a network");
        let connected = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            // Where it was made, there it stays.
            anyhow::Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
        });
        connected.join().expect("it does not panic").expect("it listens")
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.console).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(power) = self.power.take() {
            power.off();
        }
        for group in &self.cgroups {
            remove_group(group);
        }
        // Else the folder that they are mounted in could not be removed.
        for mounted in [&self.root, &self.network] {
            let _ = umount2(mounted, MntFlags::MNT_DETACH);
        }
    }
}

impl Power {
    fn run(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args(["--all", "--target", &self.init.to_string(), "--"])
            .args(["env", "-i", "--chdir=/root", PATH, "HOME=/root", "LC_ALL=C.UTF-8"])
            .args(["sh", "-ec", script])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter")
    }

    fn has_booted(&self) -> bool {
        let state = self.run("systemctl is-system-running");
        ["running", "degraded"].contains(&String::from_utf8_lossy(&state.stdout).trim())
    }

    fn off(mut self) {
        let _ = self.container.kill();
        let _ = self.container.wait();
        let gone = Instant::now() + Duration::from_secs(10);
        while Path::new(&format!("/proc/{}", self.init)).exists() && Instant::now() < gone {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The only child of a process.
fn child_of(process: u32) -> Option<u32> {
    let children = format!("/proc/{process}/task/{process}/children");
    fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
}

/// A control group for a machine in each hierarchy that systemd uses, below the test's own.
fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let own = fs::read_to_string("/proc/self/cgroup").context("no control groups")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut made = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(hierarchy), Some(path)) = (parts.next(), parts.next()) else { continue };
        let wanted: fn(&str) -> bool = match hierarchy {
            "" => |mount| mount.contains(" - cgroup2 "),
            "name=systemd" => {
                |mount| mount.contains(" - cgroup ") && mount.contains("name=systemd")
            }
            _ => continue,
        };
        let Some(place) = mounts.lines().find(|mount| wanted(mount)) else { continue };
        let place = place.split(' ').nth(4).context("a mount without a place")?;
        let group = Path::new(place)
            .join(path.trim_start_matches('/'))
            .join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&group).with_context(|| format!("no {}", group.display()))?;
        made.push(group);
    }
    ensure!(!made.is_empty(), "there are no control groups for systemd");
    Ok(made)
}

/// Removes a group and those below, which nobody is in any more.
fn remove_group(group: &Path) {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.path().is_dir()) {
        remove_group(&entry.path());
    }
    let _ = fs::remove_dir(group);
}
