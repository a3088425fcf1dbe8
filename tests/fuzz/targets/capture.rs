//! Any bytes as a file of the capture journal: scanned to the end, each entry read to its last
//! packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage_core::journal::{Entry, FileHeader};
use storage_core::journal_scan::{Found, Scanner};

fuzz_target!(|data: &[u8]| {
    let _ = FileHeader::decode(data);
    for found in Scanner::new(data) {
        if let Found::Frame { frame, .. } = found
            && let Ok(Entry::Packets(block)) = frame.entry()
        {
            assert_eq!(block.iter().count(), block.len());
        }
    }
});
