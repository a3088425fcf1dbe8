//! What can be heard in files by whoever reads the disk.

use std::path::{Path, PathBuf};

use simulator::tone::{self, Law};

use super::traces::each_file;

/// How many time-coded frames can be read in each file below a folder, whatever file it is: as G.711,
/// or as linear samples at either alignment.
pub fn in_clear(dir: &Path) -> Vec<(PathBuf, usize)> {
    let linear = |bytes: &[u8]| {
        let pairs = bytes.chunks_exact(2);
        let samples: Vec<_> = pairs.map(|p| i16::from_le_bytes([p[0], p[1]])).collect();
        tone::scan_pcm(Law::A, &samples).len()
    };
    let mut found = Vec::new();
    each_file(dir, &mut |path, bytes| {
        let codes = tone::scan(Law::A, bytes).len()
            + linear(bytes)
            + linear(bytes.get(1..).unwrap_or_default());
        if codes > 0 {
            found.push((path.to_owned(), codes));
        }
    });
    found
}
