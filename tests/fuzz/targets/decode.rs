//! Any bytes as the payloads of a coded stream, each with its codec, length and what is wanted of it in
//! front: exactly as many samples come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recorder_core::media::{Codec, Coded};

// By itself: the recorder's crate would bring TLS and all else into an instrumented build.
#[path = "../../../recorder/src/decode.rs"]
mod decode;
use decode::Decoders;

fuzz_target!(|data: &[u8]| {
    let mut decoders = Decoders::default();
    let mut rest = data;
    while let [kind, length, skip, take, tail @ ..] = rest {
        let (payload, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let codec = [Codec::G729, Codec::G722, Codec::L16][usize::from(kind % 3)];
        let (fresh, skip, take) = (kind & 0x80 != 0, u16::from(*skip), u16::from(*take));
        let samples = decoders.decode(&Coded { codec, payload, fresh, skip, take });
        assert_eq!(samples.len(), usize::from(take));
    }
});
