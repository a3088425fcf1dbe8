//! Any samples as two recordings of one talk, with any lag by the clocks: an answer within bounded time, and
//! what is found lies where it was searched.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recorder_core::media::align::{SEARCH_SAMPLES, align};

fuzz_target!(|data: &[u8]| {
    let Some((head, data)) = data.split_at_checked(9) else { return };
    let mut expected = [0; 8];
    expected.copy_from_slice(&head[..8]);
    let expected = i64::from_le_bytes(expected) >> (head[8] % 64);
    let samples: Vec<i16> =
        data.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    // What a fuzzer thinks of is short: repeated, it is as long as what is compared at most.
    let long: Vec<i16> = samples.iter().copied().cycle().take(samples.len() * 16).collect();
    for (a, b) in [(&samples, &long), (&long, &long), (&long, &samples)] {
        if let Some(found) = align(a, b, expected) {
            assert!(found.lag.abs_diff(expected) < SEARCH_SAMPLES);
            assert!((0.0..=1.0).contains(&found.confidence));
        }
    }
});
