//! A disk that loses power: an ext4 file system on an image of its own, with the node's data in it.
//! What was never synced is in the kernel's memory only, so a copy of the image shows what the disk
//! held at that moment, and that is what the node finds afterwards.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};

use crate::lan::run;

const IMAGE_BYTES: u64 = 512 << 20;
/// A file that nobody syncs.
const CANARY: &str = "unsynced";

/// The disk, mounted for as long as this lives.
pub struct PowerDisk {
    folder: PathBuf,
    mounted: PathBuf,
    cuts: u32,
}

impl PowerDisk {
    /// Makes a disk, with its image in `folder`, and mounts it.
    ///
    /// # Errors
    /// If this system does not allow it.
    pub fn attach(folder: &Path, mounted: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let disk = Self { folder: folder.to_owned(), mounted: mounted.to_owned(), cuts: 0 };
        File::create(disk.image())?.set_len(IMAGE_BYTES)?;
        run(&format!("mkfs.ext4 -q {}", disk.image().display()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// The power goes and comes back. Whoever writes to it must have been killed; what was not synced
    /// is gone.
    ///
    /// # Errors
    /// If it is not.
    pub fn cut(&mut self) -> Result<()> {
        let canary = self.mounted.join(CANARY);
        File::create(&canary)?.write_all(b"only in memory")?;
        let before = self.image();
        self.cuts += 1;
        let sparse = "cp --sparse=always --reflink=auto";
        run(&format!("{sparse} {} {}", before.display(), self.image().display()))?;
        umount2(&self.mounted, MntFlags::MNT_DETACH)?;
        self.mount()?;
        // Else nothing was emulated.
        let left = std::fs::read(&canary).unwrap_or_default();
        ensure!(left.is_empty(), "what was never synced has survived");
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.folder.join(format!("image{}", self.cuts))
    }

    fn mount(&self) -> Result<()> {
        // The file system must not write by itself what nobody has synced.
        let options = "loop,commit=300";
        let (image, place) = (self.image(), &self.mounted);
        run(&format!("mount -t ext4 -o {options} {} {}", image.display(), place.display()))
            .context("no file system of its own")
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        // Busy or not, it goes with the last who has a file open.
        let _ = umount2(&self.mounted, MntFlags::MNT_DETACH);
    }
}
