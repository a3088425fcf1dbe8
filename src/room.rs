//! Whether there is room on a disk for something that is not recording: how much is to stay free for
//! recording, the caller decides.

use std::path::Path;

/// Whether so many bytes more, on the file system of `place`, leave free what `reserve` says of a file
/// system of so many bytes.
pub fn leaves(place: &Path, reserve: impl FnOnce(u64) -> u64, bytes: u64) -> bool {
    // Where it cannot be told, writing will tell.
    let Ok(stat) = nix::sys::statvfs::statvfs(place) else { return true };
    let unit = stat.fragment_size();
    let (free, total) = (stat.blocks_available() * unit, stat.blocks() * unit);
    free >= reserve(total).saturating_add(bytes)
}
