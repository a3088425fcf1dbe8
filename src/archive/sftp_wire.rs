//! The bytes of SFTP, version 3 (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions as its file PROTOCOL says): the
//! requests that an archive needs, and the answers to them. A packet is its length in four bytes, then its
//! kind, then its fields; numbers are big-endian, texts have their length before them.

/// No server sends more: OpenSSH's largest packet.
pub const PACKET_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of a file in one packet, which every server takes.
pub const CHUNK_BYTES: u64 = 32 * 1024;

const INIT: u8 = 1;
const VERSION: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const FSTAT: u8 = 8;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;

const OPEN_READ: u32 = 1;
const OPEN_WRITE: u32 = 2;
const OPEN_CREATE: u32 = 8;
const OPEN_EMPTY: u32 = 16;

const ATTR_SIZE: u32 = 1;
const ATTR_OWNER: u32 = 2;
const ATTR_MODE: u32 = 4;
const ATTR_TIMES: u32 = 8;

/// Status: done.
pub const OK: u32 = 0;
/// Status: the end of a file.
pub const EOF: u32 = 1;
/// Status: there is no such file.
pub const NO_FILE: u32 = 2;
/// Status: it may not.
pub const DENIED: u32 = 3;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Opens a file that is there, to read it.
    OpenToRead(&'a str),
    /// Opens a file that is there, to write into it.
    OpenToWrite(&'a str),
    /// Makes a file, or empties it.
    Create(&'a str),
    /// Closes it.
    Close(&'a [u8]),
    /// Bytes of an open file.
    Read(&'a [u8], u64, u32),
    /// Writes into an open file.
    Write(&'a [u8], u64, &'a [u8]),
    /// What an open file is.
    Fstat(&'a [u8]),
    /// What lies under a name.
    Stat(&'a str),
    /// Removes a file.
    Remove(&'a str),
    /// Makes a folder.
    MakeFolder(&'a str),
    /// Renames, where nothing has the new name.
    Rename(&'a str, &'a str),
    /// Renames, whatever has the new name.
    Replace(&'a str, &'a str),
    /// Makes the content of an open file last.
    Sync(&'a [u8]),
}

/// Extension: [`Request::Replace`].
pub const REPLACE: &str = "posix-rename@openssh.com";
/// Extension: [`Request::Sync`].
pub const SYNC: &str = "fsync@openssh.com";

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Which version it speaks, and its extensions.
    Version(u32, Vec<String>),
    /// How it went, and in its words.
    Status(u32, String),
    /// An open file.
    Handle(Vec<u8>),
    /// Bytes.
    Data(Vec<u8>),
    /// Length, and when it was changed, in seconds.
    Attributes(Option<u64>, Option<u32>),
}

/// The first packet of a client.
#[must_use]
pub fn init() -> Vec<u8> {
    packet(INIT, |out| out.extend(3_u32.to_be_bytes()))
}

/// A request as a packet.
#[must_use]
pub fn encode(id: u32, request: &Request<'_>) -> Vec<u8> {
    let with = |kind, fields: &dyn Fn(&mut Vec<u8>)| {
        packet(kind, |out| {
            out.extend(id.to_be_bytes());
            fields(out);
        })
    };
    let open = |path: &str, flags: u32| {
        with(OPEN, &|out| {
            text(out, path.as_bytes());
            out.extend(flags.to_be_bytes());
            // No attributes.
            out.extend(0_u32.to_be_bytes());
        })
    };
    match *request {
        Request::OpenToRead(path) => open(path, OPEN_READ),
        Request::OpenToWrite(path) => open(path, OPEN_WRITE),
        Request::Create(path) => open(path, OPEN_WRITE | OPEN_CREATE | OPEN_EMPTY),
        Request::Close(handle) => with(CLOSE, &|out| text(out, handle)),
        Request::Read(handle, offset, length) => with(READ, &|out| {
            text(out, handle);
            out.extend(offset.to_be_bytes());
            out.extend(length.to_be_bytes());
        }),
        Request::Write(handle, offset, bytes) => with(WRITE, &|out| {
            text(out, handle);
            out.extend(offset.to_be_bytes());
            text(out, bytes);
        }),
        Request::Fstat(handle) => with(FSTAT, &|out| text(out, handle)),
        Request::Stat(path) => with(STAT, &|out| text(out, path.as_bytes())),
        Request::Remove(path) => with(REMOVE, &|out| text(out, path.as_bytes())),
        Request::MakeFolder(path) => with(MKDIR, &|out| {
            text(out, path.as_bytes());
            out.extend(0_u32.to_be_bytes());
        }),
        Request::Rename(from, to) => with(RENAME, &|out| {
            text(out, from.as_bytes());
            text(out, to.as_bytes());
        }),
        Request::Replace(from, to) => with(EXTENDED, &|out| {
            text(out, REPLACE.as_bytes());
            text(out, from.as_bytes());
            text(out, to.as_bytes());
        }),
        Request::Sync(handle) => with(EXTENDED, &|out| {
            text(out, SYNC.as_bytes());
            text(out, handle);
        }),
    }
}

fn packet(kind: u8, fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, kind];
    fields(&mut out);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// A packet without its length: which request it answers, and how; `None` if it is none that is known. The first
/// one, about the version, answers request 0.
#[must_use]
pub fn decode(packet: &[u8]) -> Option<(u32, Reply)> {
    let mut rest = Fields(packet);
    let kind = rest.byte()?;
    let number = rest.number()?;
    if kind == VERSION {
        let mut extensions = Vec::new();
        while let Some(name) = rest.text() {
            extensions.push(String::from_utf8_lossy(name).into_owned());
            rest.text()?;
        }
        return Some((0, Reply::Version(number, extensions)));
    }
    let reply = match kind {
        STATUS => {
            let code = rest.number()?;
            let words = rest.text().unwrap_or_default();
            Reply::Status(code, String::from_utf8_lossy(words).into_owned())
        }
        HANDLE => Reply::Handle(rest.text()?.to_vec()),
        DATA => Reply::Data(rest.text()?.to_vec()),
        ATTRS => {
            let flags = rest.number()?;
            let has = |flag| flags & flag != 0;
            let size = if has(ATTR_SIZE) { Some(rest.long()?) } else { None };
            for flag in [ATTR_OWNER, ATTR_OWNER, ATTR_MODE, ATTR_TIMES] {
                if has(flag) {
                    rest.number()?;
                }
            }
            let changed = if has(ATTR_TIMES) { Some(rest.number()?) } else { None };
            Reply::Attributes(size, changed)
        }
        _ => return None,
    };
    Some((number, reply))
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_the_bytes_of_the_draft() {
        assert_eq!(init(), [0, 0, 0, 5, 1, 0, 0, 0, 3]);
        let open = [0, 0, 0, 18, 3, 0, 0, 0, 7, 0, 0, 0, 1, b'a', 0, 0, 0, 26, 0, 0, 0, 0];
        assert_eq!(encode(7, &Request::Create("a")), open);
        let read = encode(1, &Request::Read(b"h", 5, 9));
        assert_eq!(
            read[4..],
            [5, 0, 0, 0, 1, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9]
        );
        let rename = encode(1, &Request::Replace("a", "b"));
        assert_eq!(rename[4], EXTENDED);
        assert!(rename.windows(REPLACE.len()).any(|window| window == REPLACE.as_bytes()));
    }

    #[test]
    fn replies_are_read_and_what_is_cut_off_is_none() {
        let version = [2, 0, 0, 0, 3, 0, 0, 0, 1, b'x', 0, 0, 0, 1, b'1'];
        assert_eq!(decode(&version), Some((0, Reply::Version(3, vec!["x".to_owned()]))));
        let attributes =
            [105, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(decode(&attributes), Some((9, Reply::Attributes(Some(4), Some(2)))));
        for length in 0..attributes.len() {
            assert_eq!(decode(&attributes[..length]), None, "{length}");
        }
        let status = [101, 0, 0, 0, 9, 0, 0, 0, 2];
        assert_eq!(decode(&status), Some((9, Reply::Status(NO_FILE, String::new()))));
        assert_eq!(decode(&[77, 0, 0, 0, 9]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
