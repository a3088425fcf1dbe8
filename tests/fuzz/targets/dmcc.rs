//! Any bytes from an AES: framed whole and in two parts, which must give the same frames, and
//! every frame read as a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recorder_core::dmcc::frame::{Decoder, Frame};
use recorder_core::dmcc::{message, xml};

fn frames(parts: &[&[u8]]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for part in parts {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    let Some((&at, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(usize::from(at).min(bytes.len()));
    let whole = frames(&[bytes]);
    assert_eq!(whole, frames(&[first, second]));
    for frame in whole {
        if let Ok(element) = xml::parse(&frame.body) {
            drop(message::parse(&element));
        }
    }
});
