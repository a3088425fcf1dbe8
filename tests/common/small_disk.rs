//! A small file system that can be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A small file system, for as long as this lives.
pub struct SmallDisk {
    _namespace: Child,
    _folder: TempDir,
    /// Where the node's folder is, seen from everywhere.
    pub node: PathBuf,
}

impl SmallDisk {
    /// Mounts it as the data folder of a node's folder, in a mount namespace that a sleeping process
    /// keeps; other processes reach it through that process. `None` where that is not allowed.
    pub async fn mount(bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("node1/data");
        std::fs::create_dir_all(&data).expect("writable");
        let script = format!(
            "mount -t tmpfs -o size={bytes} none '{}' && echo mounted && exec sleep 300",
            data.display()
        );
        for arguments in [&["-m"][..], &["-r", "-m"]] {
            let mut namespace = Command::new("unshare")
                .args(arguments)
                .args(["sh", "-c", &script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .ok()?;
            let mut line = String::new();
            let output = namespace.stdout.take().expect("it is piped");
            BufReader::new(output).read_line(&mut line).await.ok()?;
            if line.trim() == "mounted" {
                let pid = namespace.id().expect("it sleeps");
                let inside = folder.path().strip_prefix("/").expect("an absolute path");
                let node = Path::new("/proc").join(pid.to_string()).join("root");
                let node = node.join(inside).join("node1");
                return Some(Self { _namespace: namespace, _folder: folder, node });
            }
        }
        None
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        self.fill_but(0);
    }

    /// The same, but for so many bytes.
    pub fn fill_but(&self, left: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast());
        let ballast = ballast.as_mut().expect("room for a name");
        let mut piece = vec![0; 1 << 16];
        while !piece.is_empty() && self.free_bytes() > left {
            if ballast.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.node.join("data")).expect("it is mounted");
        stat.blocks_available() * stat.fragment_size()
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.node.join("data/ballast")
    }
}

pub fn skipped() {
    eprintln!("SKIPPED: no small file system can be mounted here, so a FULL DISK IS NOT TESTED");
}
