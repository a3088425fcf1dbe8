//! Frames between members: a length, a kind, a payload, all bounded. It decides nothing about
//! what a payload means.
//!
//! ```text
//! length of kind and payload (4, little-endian) ─ kind (1) ─ payload
//! ```

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame, without its length.
pub(crate) const FRAME_MAX: usize = 4 * 1024 * 1024;
/// Longest piece of a Raft message in one frame; longer ones are cut into pieces.
pub(crate) const PIECE_MAX: usize = 1024 * 1024;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Welcome = 2,
    /// A Raft message, or its last piece.
    Raft = 3,
    /// A piece of a Raft message; more follow.
    RaftPiece = 4,
    Ping = 5,
    Pong = 6,
    Request = 7,
    Chunk = 8,
    /// The answer is whole.
    End = 9,
    /// The answer failed; the payload says why.
    Fail = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Hello,
        Self::Welcome,
        Self::Raft,
        Self::RaftPiece,
        Self::Ping,
        Self::Pong,
        Self::Request,
        Self::Chunk,
        Self::End,
        Self::Fail,
    ];
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) const fn new(kind: Kind, payload: Vec<u8>) -> Self {
        Self { kind, payload }
    }

    /// Appends the frame's bytes.
    pub(crate) fn write_to(&self, bytes: &mut Vec<u8>) {
        debug_assert!(self.payload.len() < FRAME_MAX, "senders cut what is longer");
        // Bounded by FRAME_MAX, so it fits.
        let length = u32::try_from(self.payload.len() + 1).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.payload);
    }

    /// The frame's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 5);
        self.write_to(&mut bytes);
        bytes
    }
}

/// Reads one frame of at most `limit` bytes; `None` at an orderly end. May be given up between
/// two frames only.
pub(crate) async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    limit: usize,
) -> io::Result<Option<Frame>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length == 0 || length > limit.min(FRAME_MAX) {
        return Err(invalid("a frame is longer than allowed"));
    }
    let kind = from.read_u8().await?;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let kind = kind.ok_or_else(|| invalid("a frame of unknown kind"))?;
    let mut payload = vec![0; length - 1];
    from.read_exact(&mut payload).await?;
    Ok(Some(Frame { kind, payload }))
}

pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_and_long_ones_do_not() {
        let mut bytes = Frame::new(Kind::Raft, vec![1, 2, 3]).to_bytes();
        Frame::new(Kind::Ping, Vec::new()).write_to(&mut bytes);
        let mut from = &bytes[..];
        let first = read(&mut from, FRAME_MAX).await.unwrap().unwrap();
        assert_eq!(first, Frame::new(Kind::Raft, vec![1, 2, 3]));
        assert_eq!(read(&mut from, FRAME_MAX).await.unwrap().unwrap().kind, Kind::Ping);
        assert_eq!(read(&mut from, FRAME_MAX).await.unwrap(), None);
        assert!(read(&mut &bytes[..], 3).await.is_err());
        assert!(read(&mut &[1, 0, 0, 0, 99][..], FRAME_MAX).await.is_err());
        assert!(read(&mut &[0xff, 0xff, 0xff, 0xff, 3][..], FRAME_MAX).await.is_err());
    }
}
