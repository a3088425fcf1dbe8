//! The eight-byte header around each message (ECMA-323, CSTA XML without SOAP over TCP).
//!
//! Reads any version bytes and any split of the stream; writes `00 00`. Does not look at the XML.

use thiserror::Error;

/// Bytes before the XML: version, length, invoke ID.
pub const HEADER_LEN: usize = 8;
/// The length field has 16 bits and counts the header too.
pub const MAX_BODY: usize = u16::MAX as usize - HEADER_LEN;
/// Invoke ID of every message that the server starts.
pub const EVENT_INVOKE: [u8; 4] = *b"9999";

/// One message as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Four bytes, copied into the answer as they are.
    pub invoke: [u8; 4],
    /// The XML.
    pub body: Vec<u8>,
}

/// What makes a stream unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The length counts its own header, so less than eight is nonsense.
    #[error("frame length {0} is shorter than the header; the connection must be closed")]
    TooShort(u16),
    /// The XML does not fit into a frame.
    #[error("a message of {0} bytes does not fit into a frame of {MAX_BODY}")]
    TooLong(usize),
}

/// Cuts a byte stream into frames.
#[derive(Default, Debug)]
pub struct Framer {
    buffer: Vec<u8>,
}

impl Framer {
    /// Takes bytes as they came from the socket. At most one incomplete frame stays in the buffer
    /// when the caller drains `next_frame` after each call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// `TooShort`: the stream has lost its framing and must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let [_, _, high, low, a, b, c, d] = *header;
        let length = u16::from_be_bytes([high, low]);
        let whole = usize::from(length);
        if whole < HEADER_LEN {
            return Err(FrameError::TooShort(length));
        }
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let body = self.buffer[HEADER_LEN..whole].to_vec();
        self.buffer.drain(..whole);
        Ok(Some(Frame { invoke: [a, b, c, d], body }))
    }
}

/// Puts the header before a message.
///
/// # Errors
/// `TooLong` if the length field cannot hold it.
pub fn encode(invoke: [u8; 4], body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let whole = body.len() + HEADER_LEN;
    let length = u16::try_from(whole).map_err(|_| FrameError::TooLong(body.len()))?;
    let mut bytes = Vec::with_capacity(whole);
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&invoke);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_any_version_bytes_and_writes_zeros() {
        let mut framer = Framer::default();
        framer.push(b"00\x00\x0b0001<a>");
        let frame = framer.next_frame().unwrap().unwrap();
        assert_eq!(frame, Frame { invoke: *b"0001", body: b"<a>".to_vec() });
        assert_eq!(encode(*b"0001", b"<a>").unwrap(), b"\x00\x00\x00\x0b0001<a>");
    }

    #[test]
    fn length_is_unsigned_and_bounded() {
        let body = vec![b'x'; MAX_BODY];
        let bytes = encode(EVENT_INVOKE, &body).unwrap();
        assert_eq!(&bytes[..8], b"\x00\x00\xff\xff9999");
        let mut framer = Framer::default();
        framer.push(&bytes);
        assert_eq!(framer.next_frame().unwrap().unwrap().body, body);
        assert_eq!(encode(*b"0001", &vec![0; MAX_BODY + 1]), Err(FrameError::TooLong(65528)));
    }

    #[test]
    fn short_length_is_an_error() {
        let mut framer = Framer::default();
        framer.push(b"\x00\x00\x00\x070001");
        assert_eq!(framer.next_frame(), Err(FrameError::TooShort(7)));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
            step in 1_usize..40,
        ) {
            let stream: Vec<u8> =
                bodies.iter().flat_map(|body| encode(*b"0042", body).unwrap()).collect();
            let mut framer = Framer::default();
            let mut got = Vec::new();
            for part in stream.chunks(step) {
                framer.push(part);
                while let Some(frame) = framer.next_frame().unwrap() {
                    got.push(frame.body);
                }
            }
            prop_assert_eq!(got, bodies);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(_)) = framer.next_frame() {}
        }
    }
}
