//! An export as it is downloaded: any part of its ZIP file, made while it is read. The order and the places
//! of all bytes were settled when the export was completed; so a download that broke off goes on with the
//! byte behind, days later or after a restart. Audio is read from where it lies, be that another member. If
//! a recording is not the same any more the reading fails, and the client knows that it has not got the whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use storage::FetchFormat;
use storage_core::RecordingId;

use super::folder::{Folder, MISSING_TABLE, RECORDINGS_TABLE};
use super::job::{Done, Held, Items, Job, Outcome, names};
use super::zip::{Layout, Member, Piece};
use crate::web::backend::{Audio, Backend, Code, Failure};

/// The tables come first: who looks into half a download sees what is in it.
const TABLES: usize = 2;

/// A ZIP file that can be read.
pub struct Parcel {
    layout: Layout,
    held: Vec<(RecordingId, Held)>,
    tables: [File; TABLES],
    records: File,
    format: FetchFormat,
    mark: String,
    backend: Arc<dyn Backend>,
    /// The audio that is being read, with its place among what is held.
    open: Option<(usize, Box<dyn Audio>)>,
}

/// What is in a complete export, in its order.
pub fn held(ids: &[RecordingId], items: &Items) -> Vec<(RecordingId, Held)> {
    let of_item = |(n, outcome): (usize, &Outcome)| match outcome {
        Outcome::Held(held) => Some((*ids.get(n)?, held.clone())),
        Outcome::Missing(_) => None,
    };
    items.known().filter_map(of_item).collect()
}

/// Where everything lies in its ZIP file.
pub fn layout(done: &Done, held: &[(RecordingId, Held)]) -> Layout {
    let table = |name: &str, measure: &super::job::Measure| Member {
        name: name.to_owned(),
        bytes: measure.bytes,
        crc32: measure.crc32,
        modified: done.at,
    };
    let tables = [table(RECORDINGS_TABLE, &done.recordings), table(MISSING_TABLE, &done.missing)];
    let files = held.iter().flat_map(|(id, held)| {
        let (audio, record) = names(*id, &held.ending);
        [(audio, held.audio), (record, held.record)].map(|(name, measure)| Member {
            name,
            bytes: measure.bytes,
            crc32: measure.crc32,
            modified: held.started,
        })
    });
    Layout::new(tables.into_iter().chain(files))
}

impl Parcel {
    /// Opens a complete export.
    ///
    /// # Errors
    /// If its files cannot be read, or are not those that it was completed with (`InvalidData`).
    pub fn open(folder: &Folder, job: &Job, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let done = job.done.as_ref().ok_or_else(|| wrong("it is not complete"))?;
        let format = FetchFormat::parse(&job.format).ok_or_else(|| wrong("its form is unknown"))?;
        let held = held(&folder.ids()?, &folder.items(job.total)?);
        let layout = layout(done, &held);
        if layout.bytes() != done.bytes {
            return Err(wrong("its files are not what they were when it was completed"));
        }
        let tables = [folder.table(RECORDINGS_TABLE)?, folder.table(MISSING_TABLE)?];
        // Without a recording there are no records.
        let records = if held.is_empty() { folder.table(MISSING_TABLE) } else { folder.records() };
        let (records, mark) = (records?, done.etag.clone());
        Ok(Self { layout, held, tables, records, format, mark, backend, open: None })
    }

    /// How many recordings are not what they were when they were exported: changed, or deleted. Of what
    /// cannot be asked it is taken that nothing has changed.
    pub fn changed(&self) -> usize {
        let is_other = |(id, held): &&(RecordingId, Held)| match self.backend.recording(*id) {
            Ok(Some(record)) => *record.sha256 != *held.sha256,
            Ok(None) => true,
            Err(_) => false,
        };
        self.held.iter().filter(is_other).count()
    }

    fn read_member(&mut self, member: usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(table) = self.tables.get(member) {
            return table.read_at(buffer, offset);
        }
        let index = (member - TABLES) / 2;
        if (member - TABLES) % 2 == 1 {
            return self.records.read_at(buffer, self.held[index].1.at + offset);
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            // What is open is closed before something else is opened.
            self.open = None;
            self.open = Some((index, self.audio(index, offset).map_err(io::Error::other)?));
        }
        match &mut self.open {
            Some((_, audio)) => audio.read_at(offset, buffer),
            None => Ok(0),
        }
    }

    fn audio(&self, index: usize, offset: u64) -> Result<Box<dyn Audio>, Failure> {
        let (id, held) = &self.held[index];
        let changed = || {
            let message = format!("recording {id} has changed since it was exported: ask again");
            Failure::new(Code::Unavailable, message)
        };
        let record = self.backend.recording(*id)?.ok_or_else(changed)?;
        if *record.sha256 != *held.sha256 {
            return Err(changed());
        }
        let mut audio = self.backend.open_audio(*id, self.format)?;
        if audio.bytes() != held.audio.bytes {
            return Err(changed());
        }
        audio.will_read(offset, held.audio.bytes);
        Ok(audio)
    }
}

impl Audio for Parcel {
    fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    fn mark(&self) -> String {
        self.mark.clone()
    }

    fn sha256(&self) -> Option<String> {
        None
    }

    fn media_type(&self) -> &'static str {
        "application/zip"
    }

    fn file_extension(&self) -> &'static str {
        "zip"
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let count = match self.layout.piece(offset + filled as u64) {
                None => break,
                Some(Piece::Made(made)) => {
                    let count = made.len().min(rest.len());
                    rest[..count].copy_from_slice(&made[..count]);
                    count
                }
                Some(Piece::Data { member, offset, left }) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    match self.read_member(member, offset, &mut rest[..most]) {
                        // What comes before it is given out all the same; the next reading fails.
                        Err(_) if filled > 0 => break,
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        count => count?,
                    }
                }
            };
            filled += count;
        }
        Ok(filled)
    }
}
