//! Any bytes as the XML of one message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recorder_core::dmcc::{message, xml};

fuzz_target!(|data: &[u8]| {
    if let Ok(element) = xml::parse(data) {
        drop(element.all_text());
        drop(message::parse(&element));
    }
});
