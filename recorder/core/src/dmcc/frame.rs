//! The frame around each message (ECMA-323 annex "CSTA XML without SOAP over TCP", dossier 1.2):
//! from any split of bytes to frames, and back. It does not look into the XML.

/// Version, length and invoke ID.
const HEADER: usize = 8;
/// The length field has 16 bits and counts the header, too.
const FRAME_MAX: usize = u16::MAX as usize;
/// What the server writes where nothing was asked.
const EVENT: u16 = 9999;

/// What ties an answer to its request (dossier 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invoke {
    /// The answer to the request of this number, 0 to 9998.
    Answer(u16),
    /// `9999`: the server speaks first.
    Event,
    /// Not four digits: only the message itself can tell.
    Malformed,
}

impl Invoke {
    /// Reads the four characters of the header.
    #[must_use]
    pub fn parse(text: [u8; 4]) -> Self {
        let mut number = 0;
        for digit in text {
            if !digit.is_ascii_digit() {
                return Self::Malformed;
            }
            number = number * 10 + u16::from(digit - b'0');
        }
        if number == EVENT { Self::Event } else { Self::Answer(number) }
    }
}

/// One message as it came off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose answer it is.
    pub invoke: Invoke,
    /// The XML text, unchecked.
    pub body: Vec<u8>,
}

/// What no later byte can repair: the socket must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is smaller than the header.
    #[error("a frame claims a length of {length} bytes, less than its own header of 8")]
    ShortLength {
        /// The field's value.
        length: u16,
    },
}

/// The message does not fit into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes is longer than a frame can carry ({})", FRAME_MAX - HEADER)]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

/// Cuts a byte stream into frames. It holds at most one frame that is not complete plus what was
/// pushed last, so drain it after each push.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were given out already.
    taken: usize,
    broken: Option<FrameError>,
}

impl Decoder {
    /// Takes the next bytes of the stream. After an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether a frame has begun and is not complete.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.taken < self.buffer.len()
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// If the length field is broken: nothing behind it can be found again, so the error stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let rest = &self.buffer[self.taken..];
        let Some((header, _)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        // The version bytes are not looked at: servers and clients differ (dossier 1.2).
        let [_, _, high, low, invoke @ ..] = *header;
        let length = u16::from_be_bytes([high, low]);
        if usize::from(length) < HEADER {
            let error = FrameError::ShortLength { length };
            self.broken = Some(error);
            self.buffer = Vec::new();
            self.taken = 0;
            return Err(error);
        }
        let Some(frame) = rest.get(..usize::from(length)) else { return Ok(None) };
        let body = frame[HEADER..].to_vec();
        self.taken += usize::from(length);
        Ok(Some(Frame { invoke: Invoke::parse(invoke), body }))
    }
}

/// Puts a request into a frame; `invoke` is 0 to 9998.
///
/// # Errors
/// If the message is too long.
pub fn encode(invoke: u16, xml: &str) -> Result<Vec<u8>, TooLong> {
    debug_assert!(invoke < EVENT, "9999 belongs to the server");
    let length = u16::try_from(xml.len() + HEADER).map_err(|_| TooLong { bytes: xml.len() })?;
    let mut frame = Vec::with_capacity(usize::from(length));
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(format!("{:04}", invoke % EVENT).as_bytes());
    frame.extend_from_slice(xml.as_bytes());
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().ok().flatten()).collect()
    }

    #[test]
    fn a_frame_is_written_as_the_dossier_draws_it() {
        assert_eq!(encode(1, "<a/>").unwrap(), b"\0\0\0\x0c0001<a/>");
        assert!(encode(1, &"x".repeat(FRAME_MAX - HEADER)).is_ok());
        let bytes = FRAME_MAX - HEADER + 1;
        assert_eq!(encode(1, &"x".repeat(bytes)), Err(TooLong { bytes }));
    }

    #[test]
    fn lengths_above_32767_are_unsigned_and_any_version_is_taken() {
        let body = vec![b'x'; 40_000];
        let mut bytes = vec![b'0', b'0'];
        bytes.extend_from_slice(&u16::try_from(body.len() + HEADER).unwrap().to_be_bytes());
        bytes.extend_from_slice(b"9999");
        bytes.extend_from_slice(&body);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert_eq!(drain(&mut decoder), [Frame { invoke: Invoke::Event, body }]);
    }

    #[test]
    fn a_length_below_the_header_is_final() {
        let mut decoder = Decoder::default();
        decoder.push(b"\0\0\0\x070001");
        let error = FrameError::ShortLength { length: 7 };
        assert_eq!(decoder.next_frame(), Err(error));
        decoder.push(&encode(1, "<a/>").unwrap());
        assert_eq!(decoder.next_frame(), Err(error));
    }

    #[test]
    fn it_knows_whether_a_frame_has_begun() {
        let mut decoder = Decoder::default();
        decoder.push(&encode(1, "<a/>").unwrap());
        drain(&mut decoder);
        assert!(!decoder.is_within_frame());
        decoder.push(b"\0");
        drain(&mut decoder);
        assert!(decoder.is_within_frame());
    }

    #[test]
    fn invoke_ids() {
        for (text, invoke) in [
            (*b"0000", Invoke::Answer(0)),
            (*b"0042", Invoke::Answer(42)),
            (*b"9998", Invoke::Answer(9998)),
            (*b"9999", Invoke::Event),
            (*b" 042", Invoke::Malformed),
            (*b"-001", Invoke::Malformed),
            ([0xff; 4], Invoke::Malformed),
        ] {
            assert_eq!(Invoke::parse(text), invoke);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut decoder = Decoder::default();
            for chunk in chunks {
                decoder.push(&chunk);
                drain(&mut decoder);
            }
        }

        #[test]
        fn any_split_gives_the_same_frames(
            texts in prop::collection::vec("[<>a-z/]{0,40}", 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut stream = Vec::new();
            for (invoke, text) in (1..).zip(&texts) {
                stream.extend(encode(invoke, text).unwrap());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for piece in cuts.windows(2) {
                decoder.push(&stream[piece[0]..piece[1]]);
                frames.extend(drain(&mut decoder));
            }
            let bodies: Vec<_> = frames.iter().map(|frame| frame.body.clone()).collect();
            let wanted: Vec<_> = texts.iter().map(|text| text.clone().into_bytes()).collect();
            prop_assert_eq!(bodies, wanted);
        }
    }
}
