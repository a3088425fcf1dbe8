//! Any bytes as what encryption at rest reads: the head of an encrypted file and its length, a file of
//! data keys, a key file, an encrypted block of the capture journal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage_core::cipher_file::{CipherHeader, HEADER_BYTES, Layout, TAG_BYTES};
use storage_core::journal_cipher::CipherRefused;
use storage_core::journal_scan::{Found, Scanner};
use storage_core::key_file;
use storage_core::wrapped_key::KeysFile;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = CipherHeader::decode(data) {
        assert_eq!(header.encode()[..], data[..HEADER_BYTES]);
    }
    if let Some(layout) = Layout::of_file(data.len() as u64)
        && let Some((chunk, _)) = layout.chunk_at(layout.plain_bytes().saturating_sub(1))
    {
        assert_eq!((chunk.range().end, chunk.last), (data.len() as u64, true));
    }
    if let Ok(keys) = KeysFile::decode(data) {
        assert_eq!(KeysFile::decode(&keys.encode()).unwrap(), keys);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        match key_file::parse(text) {
            Ok(keys) => {
                let lines: String = keys.iter().map(|key| key_file::line(key).to_string()).collect();
                assert_eq!(key_file::parse(&lines).unwrap(), keys);
            }
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
    let mut plain = Vec::new();
    for found in Scanner::new(data) {
        if let Found::Frame { frame, .. } = found
            && let Some(block) = frame.encrypted()
        {
            // A cipher that lets everything through.
            let opened = block.open(&mut plain, |_, _, bytes| {
                if bytes.len() < TAG_BYTES { Err(CipherRefused) } else { Ok(()) }
            });
            if let Some(opened) = opened {
                assert_eq!(opened.iter().count(), opened.len());
            }
        }
    }
});
