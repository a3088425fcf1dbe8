//! Disks of a test's own: real ones (ext4 on an image) that become read-only as they do after an error, and one
//! whose syncs and writes take as long as the test says. They are mounted where only the test's threads, and what these
//! start, see them, so the kernel takes them back when the test ends, however it ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::common::skipped::skip;

const IMAGE_BYTES: u64 = 512 << 20;
/// A file system in user space is there within this.
const MOUNT_MAX: Duration = Duration::from_secs(10);

/// Runs a test in a mount namespace of its own, or says that it does not. The folder is the test's.
pub fn with_disks<F: Future<Output = Result<()>>>(
    what: &str,
    test: impl FnOnce(PathBuf) -> F + Send + 'static,
) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().to_owned();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let ran = std::thread::Builder::new().name(name).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).context("no namespaces")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).context("no mounts")?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().context("no threads")?;
        runtime.block_on(test(path))
    });
    match ran.expect("a thread").join() {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => skip(what, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}

/// An ext4 file system.
pub struct Ext4 {
    image: PathBuf,
    place: PathBuf,
}

impl Ext4 {
    /// Makes one, with its image in `folder`, and mounts it.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn attach(folder: &Path, place: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let disk = Self { image: folder.join("image"), place: place.to_owned() };
        File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    /// What the kernel does after an error of the disk: from now on nothing is written, whoever has it open.
    pub fn fails(&self) {
        let done = run(Command::new("mount").args(["-o", "remount,abort"]).arg(&self.place));
        done.expect("it is mounted");
    }

    /// What an administrator does then. Nobody may have anything open.
    pub fn is_repaired(&self) {
        umount2(&self.place, MntFlags::empty()).expect("nobody uses it");
        // 1: errors were corrected.
        let checked = Command::new("e2fsck").args(["-p", "-f"]).arg(&self.image).output();
        let checked = checked.expect("e2fsck");
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        self.mount().expect("it was mounted before");
    }

    fn mount(&self) -> Result<()> {
        let options = ["-t", "ext4", "-o", "loop,errors=remount-ro"];
        run(Command::new("mount").args(options).arg(&self.image).arg(&self.place))
            .context("no file system of its own")
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Busy or not, it goes with the last who has a file open.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// A small file system that can be filled.
pub struct Small {
    place: PathBuf,
}

impl Small {
    /// Mounts one of so many bytes.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn attach(place: &Path, bytes: usize) -> Result<Self> {
        let size = format!("size={bytes}");
        let none = MsFlags::empty();
        mount(Some("none"), place, Some("tmpfs"), none, Some(size.as_str()))
            .context("no file system of its own")?;
        Ok(Self { place: place.to_owned() })
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("room for a name");
        let mut piece = vec![0; 1 << 16];
        while !piece.is_empty() {
            if ballast.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// A file system in user space whose syncs and writes can be made slow.
pub struct Sluggish {
    process: Child,
    place: PathBuf,
    delays: PathBuf,
}

impl Sluggish {
    /// Mounts one. What is written lies in `folder`.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn attach(folder: &Path, place: &Path) -> Result<Self> {
        let (below, delays) = (folder.join("below"), folder.join("delays"));
        fs::create_dir_all(&below)?;
        fs::write(&delays, "0 0")?;
        ensure!(Path::new("/dev/fuse").exists(), "no file systems in user space (/dev/fuse)");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversity/sluggish.py");
        let process = Command::new("/usr/bin/python3")
            .arg(script)
            .args([&below, place, &delays])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("no python3")?;
        let mut disk = Self { process, place: place.to_owned(), delays };
        let deadline = Instant::now() + MOUNT_MAX;
        let device = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(path).map(|data| data.dev())
        };
        while device(&disk.place)? == device(folder)? {
            if let Some(status) = disk.process.try_wait()? {
                // A mistake of ours, or something that ./setup tests installs.
                panic!("sluggish.py has ended ({status}); run ./setup tests");
            }
            if Instant::now() > deadline {
                bail!("it is not mounted in time");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(disk)
    }

    /// From now on each sync takes so long.
    pub fn syncs_take(&self, time: Duration) {
        self.take(time, Duration::ZERO);
    }

    /// From now on each write takes so long, and so does what is under way.
    pub fn writes_take(&self, time: Duration) {
        self.take(Duration::ZERO, time);
    }

    fn take(&self, sync: Duration, write: Duration) {
        let new = self.delays.with_extension("new");
        let text = format!("{} {}", sync.as_secs_f64(), write.as_secs_f64());
        fs::write(&new, text).expect("writable");
        fs::rename(new, &self.delays).expect("writable");
    }
}

impl Drop for Sluggish {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        // It ends with its file system; if not, by this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
