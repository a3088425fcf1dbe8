//! Writes tar files: regular files in one folder, POSIX ustar (IEEE Std 1003.1, pax, "ustar Interchange
//! Format"). No links, no long names, no files of 8 GiB and more.

use std::io::{self, Write};

const BLOCK_BYTES: usize = 512;
const FILE_BYTES_MAX: u64 = 0o77_777_777_777;
const NAME_BYTES_MAX: usize = 100;

/// A tar file that is being written.
#[derive(Debug)]
pub(crate) struct Tar<W> {
    out: W,
    folder: String,
    seconds: u64,
    /// Bytes of the file that has been begun and not ended: due, and written.
    due: u64,
    written: u64,
}

impl<W: Write> Tar<W> {
    /// All files will be in this folder and of this time (seconds since 1970).
    pub(crate) const fn new(out: W, folder: String, seconds: u64) -> Self {
        Self { out, folder, seconds, due: 0, written: 0 }
    }

    /// A whole file.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin(name, bytes.len() as u64)?;
        self.write(bytes)?;
        self.end()
    }

    /// Begins a file of so many bytes.
    pub(crate) fn begin(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let name = format!("{}/{name}", self.folder);
        if name.len() > NAME_BYTES_MAX || bytes > FILE_BYTES_MAX {
            let what = format!("{name} does not fit into a tar file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut header = [0; BLOCK_BYTES];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{bytes:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", self.seconds.min(FILE_BYTES_MAX)).as_bytes());
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        (self.due, self.written) = (bytes, 0);
        self.out.write_all(&header)
    }

    /// Bytes of it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Ends it.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.written != self.due {
            let what = format!("a file has {} bytes instead of {}", self.written, self.due);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let over = usize::try_from(self.written % BLOCK_BYTES as u64).unwrap_or(0);
        let rest = (BLOCK_BYTES - over) % BLOCK_BYTES;
        self.out.write_all(&[0; BLOCK_BYTES][..rest])
    }

    /// Ends the tar file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()
    }
}
