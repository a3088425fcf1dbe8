//! What can be heard in files by whoever reads the disk.

use std::path::{Path, PathBuf};

use simulator::tone::{self, Law};

/// How many time-coded frames can be read in each file below a folder, whatever file it is: as G.711,
/// or as linear samples at either alignment.
pub fn in_clear(dir: &Path) -> Vec<(PathBuf, usize)> {
    let mut folders = vec![dir.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What is removed meanwhile holds nothing.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            // Room that is reserved.
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let linear = |bytes: &[u8]| {
                let pairs = bytes.chunks_exact(2);
                let samples: Vec<_> = pairs.map(|p| i16::from_le_bytes([p[0], p[1]])).collect();
                tone::scan_pcm(Law::A, &samples).len()
            };
            let codes = tone::scan(Law::A, &bytes).len()
                + linear(&bytes)
                + linear(bytes.get(1..).unwrap_or_default());
            if codes > 0 {
                found.push((path, codes));
            }
        }
    }
    found
}
