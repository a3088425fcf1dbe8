//! The bytes of a ZIP file that is never written: from the names, lengths and checksums of what is in it
//! follows where every byte lies, so that any part can be made when it is asked for, again and again the
//! same. Members are stored as they are, because audio does not get smaller, with ZIP64 (APPNOTE 6.3.10,
//! 4.3.14 and 4.5.3) where a length or a place needs more than 32 bits. Pure; where the members' own bytes
//! come from is not decided here.

use storage_core::WallTime;

/// The greatest number that the old fields hold; it says "see the ZIP64 field".
const FULL: u32 = u32::MAX;
const FULL_COUNT: u16 = u16::MAX;
/// "Made by" Unix, so that the permissions below count.
const MADE_BY: u16 = (3 << 8) | 45;
const NEEDS_ZIP64: u16 = 45;
const NEEDS_STORED: u16 = 10;
/// A plain file that its owner alone may read.
const PERMISSIONS: u32 = 0o100_600 << 16;
/// 1980-01-01, before which ZIP knows no time.
const FIRST_TIME: u32 = (1 << 21) | (1 << 16);

/// Something that is to be in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, ASCII; folders by `/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of its bytes.
    pub crc32: u32,
    /// The time that it bears.
    pub modified: WallTime,
}

/// What lies at some place.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes, made here; never none.
    Made(Vec<u8>),
    /// Bytes of a member.
    Data {
        /// Which, in the order in which they were given.
        member: usize,
        /// From here on in it.
        offset: u64,
        /// So many, at least one.
        left: u64,
    },
}

#[derive(Debug)]
struct Placed {
    name: Box<str>,
    bytes: u64,
    crc32: u32,
    /// Date and time as DOS had them.
    stamp: u32,
    /// Where its header begins.
    at: u64,
    /// Where its line in the directory begins.
    listed_at: u64,
}

/// Where everything lies.
#[derive(Debug)]
pub struct Layout {
    members: Vec<Placed>,
    directory_at: u64,
    end_at: u64,
    end: Vec<u8>,
}

impl Layout {
    /// Places members one behind the other, in this order.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut at = 0;
        let mut members: Vec<Placed> = members
            .into_iter()
            .map(|member| {
                let Member { name, bytes, crc32, modified } = member;
                let stamp = dos_time(modified);
                let name = name.into_boxed_str();
                let placed = Placed { name, bytes, crc32, stamp, at, listed_at: 0 };
                at += placed.header_bytes() + bytes;
                placed
            })
            .collect();
        let directory_at = at;
        for member in &mut members {
            member.listed_at = at;
            at += member.line().len() as u64;
        }
        let end = end(members.len() as u64, directory_at, at);
        Self { members, directory_at, end_at: at, end }
    }

    /// How long the file is.
    pub fn bytes(&self) -> u64 {
        self.end_at + self.end.len() as u64
    }

    /// What lies at a place, up to the end of the member, header or line that it is in; nothing beyond
    /// the end.
    pub fn piece(&self, offset: u64) -> Option<Piece> {
        if offset >= self.end_at {
            let skipped = usize::try_from(offset - self.end_at).ok()?;
            return self.end.get(skipped..).filter(|rest| !rest.is_empty()).map(made);
        }
        if offset >= self.directory_at {
            let line = self.members.partition_point(|member| member.listed_at <= offset) - 1;
            let member = &self.members[line];
            let skipped = usize::try_from(offset - member.listed_at).ok()?;
            return member.line().get(skipped..).map(made);
        }
        let index = self.members.partition_point(|member| member.at <= offset) - 1;
        let member = &self.members[index];
        let within = offset - member.at;
        let header = member.header_bytes();
        if within < header {
            let skipped = usize::try_from(within).ok()?;
            return member.header().get(skipped..).map(made);
        }
        let offset = within - header;
        Some(Piece::Data { member: index, offset, left: member.bytes - offset })
    }
}

fn made(bytes: &[u8]) -> Piece {
    Piece::Made(bytes.to_vec())
}

impl Placed {
    const fn is_long(&self) -> bool {
        self.bytes >= FULL as u64
    }

    const fn header_bytes(&self) -> u64 {
        let extra = if self.is_long() { 20 } else { 0 };
        30 + self.name.len() as u64 + extra
    }

    /// What stands before its bytes.
    fn header(&self) -> Vec<u8> {
        let mut extra = Vec::new();
        if self.is_long() {
            extra.extend_from_slice(&[1, 0, 16, 0]);
            // As it is and as it is stored: the same.
            extra.extend_from_slice(&self.bytes.to_le_bytes());
            extra.extend_from_slice(&self.bytes.to_le_bytes());
        }
        let mut header = b"PK\x03\x04".to_vec();
        self.common(&mut header, extra.len(), self.is_long());
        header.extend_from_slice(self.name.as_bytes());
        header.extend_from_slice(&extra);
        header
    }

    /// Its line in the directory at the end.
    fn line(&self) -> Vec<u8> {
        let far = self.at >= u64::from(FULL);
        let mut extra = Vec::new();
        if self.is_long() {
            extra.extend_from_slice(&self.bytes.to_le_bytes());
            extra.extend_from_slice(&self.bytes.to_le_bytes());
        }
        if far {
            extra.extend_from_slice(&self.at.to_le_bytes());
        }
        let head = if extra.is_empty() { Vec::new() } else { vec![1, 0, short(extra.len()), 0] };
        let mut line = b"PK\x01\x02".to_vec();
        line.extend_from_slice(&MADE_BY.to_le_bytes());
        self.common(&mut line, head.len() + extra.len(), !extra.is_empty());
        // No comment, the only disk, no internal attributes.
        line.extend_from_slice(&[0; 6]);
        line.extend_from_slice(&PERMISSIONS.to_le_bytes());
        line.extend_from_slice(&saturated(self.at).to_le_bytes());
        line.extend_from_slice(self.name.as_bytes());
        line.extend_from_slice(&head);
        line.extend_from_slice(&extra);
        line
    }

    /// What header and line have in common: version to length of the extra field.
    fn common(&self, bytes: &mut Vec<u8>, extra: usize, zip64: bool) {
        let needs = if zip64 { NEEDS_ZIP64 } else { NEEDS_STORED };
        bytes.extend_from_slice(&needs.to_le_bytes());
        // No flags, stored.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.stamp.to_le_bytes());
        bytes.extend_from_slice(&self.crc32.to_le_bytes());
        bytes.extend_from_slice(&saturated(self.bytes).to_le_bytes());
        bytes.extend_from_slice(&saturated(self.bytes).to_le_bytes());
        bytes.extend_from_slice(&u16::from(short(self.name.len())).to_le_bytes());
        bytes.extend_from_slice(&u16::from(short(extra)).to_le_bytes());
    }
}

/// Names and extra fields are short; a longer one would be cut, which the tests would see.
fn short(length: usize) -> u8 {
    debug_assert!(length <= 255, "too long a name: {length}");
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(FULL)
}

/// What stands behind the directory.
fn end(count: u64, directory_at: u64, end_at: u64) -> Vec<u8> {
    let directory_bytes = end_at - directory_at;
    let many = count >= u64::from(FULL_COUNT);
    let mut end = Vec::new();
    if many || end_at >= u64::from(FULL) {
        end.extend_from_slice(b"PK\x06\x06");
        end.extend_from_slice(&44_u64.to_le_bytes());
        end.extend_from_slice(&MADE_BY.to_le_bytes());
        end.extend_from_slice(&NEEDS_ZIP64.to_le_bytes());
        end.extend_from_slice(&[0; 8]);
        for number in [count, count, directory_bytes, directory_at] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        end.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        end.extend_from_slice(&end_at.to_le_bytes());
        end.extend_from_slice(&1_u32.to_le_bytes());
    }
    let counted = u16::try_from(count).unwrap_or(FULL_COUNT).to_le_bytes();
    end.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    end.extend_from_slice(&counted);
    end.extend_from_slice(&counted);
    end.extend_from_slice(&saturated(directory_bytes).to_le_bytes());
    end.extend_from_slice(&saturated(directory_at).to_le_bytes());
    end.extend_from_slice(&[0; 2]);
    end
}

/// Date and time as DOS had them, in UTC, to two seconds.
fn dos_time(time: WallTime) -> u32 {
    // As it is written: 2026-11-27T14:00:00.000Z
    let text = time.to_string();
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    let fields = || {
        let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
        let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
        let year = year.checked_sub(1980).filter(|year| *year < 128)?;
        let date = (year << 9) | (month << 5) | day;
        Some((date << 16) | (hour << 11) | (minute << 5) | (second / 2))
    };
    fields().unwrap_or(FIRST_TIME)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, data: &[u8]) -> Member {
        let modified = "2026-11-27T14:05:06Z".parse().unwrap();
        let crc32 = crc32fast::hash(data);
        Member { name: name.to_owned(), bytes: data.len() as u64, crc32, modified }
    }

    /// All bytes from a place on, as a reader of the parts gets them.
    fn read(layout: &Layout, data: &[Vec<u8>], from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = layout.piece(from + bytes.len() as u64) {
            match piece {
                Piece::Made(made) => bytes.extend(made),
                Piece::Data { member, offset, left } => {
                    let (offset, left) = (offset as usize, left as usize);
                    bytes.extend(&data[member][offset..offset + left]);
                }
            }
        }
        bytes
    }

    /// What Python's `zipfile`, which shares nothing with this code, says of a file.
    fn python(path: &std::path::Path, script: &str) -> String {
        let script = format!("import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n{script}");
        let told = Command::new("python3").arg("-c").arg(script).arg(path).output().unwrap();
        let errors = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.status.success(), "{errors}");
        String::from_utf8(told.stdout).unwrap()
    }

    #[test]
    fn another_program_reads_what_is_in_it() {
        let data = [b"hello".to_vec(), Vec::new(), vec![7; 100_000]];
        let names = ["audio/a.wav", "empty", "audio/b.wav"];
        let layout = Layout::new(names.iter().zip(&data).map(|(name, data)| member(name, data)));
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = read(&layout, &data, 0);
        assert_eq!(bytes.len() as u64, layout.bytes());
        std::fs::write(file.path(), bytes).unwrap();
        let told = python(
            file.path(),
            "print(z.testzip(), [(i.filename, i.file_size, i.date_time, oct(i.external_attr >> 16)) \
             for i in z.infolist()], z.read('audio/a.wav'))",
        );
        let stamp = "(2026, 11, 27, 14, 5, 6), '0o100600'";
        assert_eq!(
            told.trim(),
            format!(
                "None [('audio/a.wav', 5, {stamp}), ('empty', 0, {stamp}), \
                 ('audio/b.wav', 100000, {stamp})] b'hello'"
            )
        );
    }

    #[test]
    fn an_empty_one_is_a_file_too() {
        let layout = Layout::new([]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), read(&layout, &[], 0)).unwrap();
        assert_eq!(python(file.path(), "print(z.namelist())").trim(), "[]");
    }

    #[test]
    fn more_members_than_sixteen_bits_count() {
        let data: Vec<Vec<u8>> = (0..70_000_u32).map(|at| at.to_le_bytes().to_vec()).collect();
        let named = data.iter().enumerate().map(|(at, data)| member(&format!("m{at}"), data));
        let layout = Layout::new(named);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), read(&layout, &data, 0)).unwrap();
        let told =
            python(file.path(), "print(len(z.namelist()), z.testzip(), list(z.read('m69999')))");
        assert_eq!(told.trim(), "70000 None [111, 17, 1, 0]");
    }

    #[test]
    fn lengths_and_places_of_more_than_32_bits() {
        let tail = b"behind five gigabytes".to_vec();
        let long = Member { bytes: 5 << 30, crc32: 0, ..member("long.wav", &[]) };
        let layout = Layout::new([long, member("tail", &tail)]);
        // The long one is a hole in the file: what it holds is not what is tried here.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut at = 0;
        while let Some(piece) = layout.piece(at) {
            let written = match piece {
                Piece::Made(made) => made,
                Piece::Data { member: 1, .. } => tail.clone(),
                Piece::Data { left, .. } => {
                    at += left;
                    continue;
                }
            };
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&written).unwrap();
            at += written.len() as u64;
        }
        assert_eq!(at, layout.bytes());
        let told =
            python(file.path(), "print([i.file_size for i in z.infolist()], z.read('tail'))");
        assert_eq!(told.trim(), "[5368709120, 21] b'behind five gigabytes'");
    }

    #[test]
    fn times_that_zip_does_not_know_become_its_first() {
        assert_eq!(dos_time(WallTime::from_millis(0)), FIRST_TIME);
        assert_eq!(dos_time(WallTime::from_micros(i64::MAX)), FIRST_TIME);
    }

    proptest! {
        #[test]
        fn from_anywhere_it_is_the_same_file(
            lengths in prop::collection::vec(0_usize..50, 0..8), from in 0_usize..2000,
        ) {
            let data: Vec<Vec<u8>> = lengths.iter().map(|length| vec![9; *length]).collect();
            let named = data.iter().enumerate().map(|(at, data)| member(&format!("n{at}"), data));
            let layout = Layout::new(named);
            let whole = read(&layout, &data, 0);
            prop_assert_eq!(whole.len() as u64, layout.bytes());
            let from = from.min(whole.len());
            prop_assert_eq!(&read(&layout, &data, from as u64)[..], &whole[from..]);
        }
    }
}
