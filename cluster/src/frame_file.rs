//! Frames of the group's files: what was written as one piece is read as one piece, or known to
//! be torn. It decides nothing about what the pieces mean.
//!
//! ```text
//! "ALGF" ─ length (4, little-endian) ─ CRC-32C over length and payload (4) ─ payload
//! ```

/// Bytes before the payload.
const HEAD: usize = 12;
const MAGIC: [u8; 4] = *b"ALGF";
/// Longest payload: a whole state and the log behind it fit.
pub(crate) const PAYLOAD_MAX: usize = 256 * 1024 * 1024;

/// A payload in its frame.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    // Payloads come from bounded states and messages, far below 4 GiB.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&length, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan<'a> {
    /// The payloads, in order.
    pub payloads: Vec<&'a [u8]>,
    /// Where the last whole frame ends.
    pub end: usize,
    /// A whole frame lies behind something that is none: no torn tail, but damage.
    pub damaged: bool,
}

/// Reads all whole frames. Behind the last there may be the torn rest of one write; a whole frame
/// further on means that what is between was damaged after it was written.
pub(crate) fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut payloads = Vec::new();
    let mut end = 0;
    while let Some(payload) = whole(&bytes[end..]) {
        payloads.push(payload);
        end += HEAD + payload.len();
    }
    let rest = &bytes[end..];
    let marks = rest.windows(MAGIC.len()).enumerate().skip(1);
    let damaged =
        marks.filter(|(_, window)| *window == MAGIC).any(|(at, _)| whole(&rest[at..]).is_some());
    Scan { payloads, end, damaged }
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let payload = rest.get(..count).filter(|_| count <= PAYLOAD_MAX)?;
    (checksum(length, payload) == u32::from_le_bytes(*sum)).then_some(payload)
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_tail_is_told_from_damage() {
        let mut file = frame(b"one");
        let first = file.len();
        file.extend(frame(b"two"));
        assert_eq!(scan(&file).payloads, [&b"one"[..], b"two"]);
        for cut in first..file.len() {
            let scan = scan(&file[..cut]);
            assert_eq!((scan.payloads.len(), scan.end, scan.damaged), (1, first, false), "{cut}");
        }
        file[first - 1] ^= 1;
        let scan = scan(&file);
        assert!(scan.damaged && scan.payloads.is_empty());
    }
}
