//! Encrypted media for `capture`: the same packets for each stream, made before the clock runs. Generator
//! and receiver are two processes, and each makes its part.

use std::time::Duration;

use anyhow::Result;
use recorder_core::media::srtp::Protection;

use crate::srtp::made;

/// What is usual where media is encrypted.
const METHOD: Option<&str> = Some("srtp-aescm128-hmac80");
/// Of each packet.
const PACKET: Duration = Duration::from_millis(20);

/// Packets of a stream for so long, and a second more.
pub fn packets(time: Duration) -> Result<Vec<Vec<u8>>> {
    let packets = (time + Duration::from_secs(1)).as_millis() / PACKET.as_millis();
    Ok(made(METHOD, packets as u64)?.0)
}

/// How they are protected.
pub fn protection() -> Result<Protection> {
    Ok(made(METHOD, 0)?.1)
}
