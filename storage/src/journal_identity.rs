//! Which capture journal this is: a random number that is drawn when the folder is begun. Places in a
//! journal mean nothing in another one, so whoever keeps a copy of it asks whether it is the same.
//!
//! File `identity`: 16 hexadecimal digits. Where it is lost another number is drawn, and copies are begun
//! anew.

use std::path::Path;

use storage_core::naming::IDENTITY_FILE;

use crate::disk::{Disk, read_full_at, write_all_at};

const DIGITS: usize = 16;

/// The identity of the journal in a folder; drawn if it has none yet. One that cannot be written is
/// good for as long as this process runs.
pub(crate) fn identity(disk: &dyn Disk, folder: &Path) -> u64 {
    let path = folder.join(IDENTITY_FILE);
    if let Some(known) = read(disk, &path) {
        return known;
    }
    let mut random = [0; 8];
    // Without random bytes nothing is promised to anybody who keeps a copy.
    let _ = getrandom::fill(&mut random);
    let identity = u64::from_le_bytes(random);
    if let Ok(file) = disk.create(&path) {
        let text = format!("{identity:0DIGITS$x}");
        if write_all_at(&*file, text.as_bytes(), 0).is_ok() {
            let _ = file.sync();
        }
    }
    identity
}

fn read(disk: &dyn Disk, path: &Path) -> Option<u64> {
    let file = disk.open(path).ok()?;
    let mut text = [0; DIGITS];
    let read = read_full_at(&*file, &mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..read)?).ok().filter(|text| text.len() == DIGITS)?;
    u64::from_str_radix(text, 16).ok()
}
