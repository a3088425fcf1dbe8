//! The files of one export, below `exports/NAME/` of the data folder, readable by the owner only. What is in
//! them is `job`'s matter.
//!
//! | file | what |
//! |---|---|
//! | `ids` | its recordings, a name a line: written once, before anything else |
//! | `job.json` | the job; replaced as a whole. A folder without it is none and is removed |
//! | `items.jsonl` | what became of each recording; appended |
//! | `records` | records, one behind the other, as they were when they were exported; appended |
//! | `recordings.csv`, `missing.csv` | the tables, once it is complete |
//!
//! There is no audio among it: that is read from where it lies when somebody downloads the export. So an
//! export costs some kilobytes a recording, audio that is encrypted at rest is nowhere in clear, and what
//! is deleted is not in an export either.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use storage_core::RecordingId;

use super::job::{ExportId, Item, Items, Job, VERSION};

const JOB: &str = "job.json";
const JOB_NEW: &str = "job.json.new";
const IDS: &str = "ids";
const ITEMS: &str = "items.jsonl";
const RECORDS: &str = "records";

/// The table of recordings.
pub const RECORDINGS_TABLE: &str = "recordings.csv";
/// The table of what is missing.
pub const MISSING_TABLE: &str = "missing.csv";

/// The folder of an export.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of the export of this name below `exports`, be it there or not.
    #[must_use]
    pub fn of(exports: &Path, export: &ExportId) -> Self {
        Self { path: exports.join(export.as_str()) }
    }

    /// Makes it, with the recordings that it is of. It is no export before there is a job in it.
    ///
    /// # Errors
    /// As the operating system gives them; so in all methods here.
    pub fn make(&self, ids: &[RecordingId]) -> io::Result<()> {
        let exports = self.path.parent().unwrap_or(Path::new("."));
        let mut folders = DirBuilder::new();
        folders.mode(0o700).recursive(true).create(&self.path)?;
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let mut file = self.create(IDS)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder(&self.path)?;
        sync_folder(exports)
    }

    /// Its recordings.
    ///
    /// # Errors
    /// `InvalidData` if they are no names of recordings.
    pub fn ids(&self) -> io::Result<Vec<RecordingId>> {
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "no recording's name");
        let lines = BufReader::new(File::open(self.path.join(IDS))?).lines();
        lines.map(|line| line?.parse().map_err(wrong)).collect()
    }

    /// Writes the job down so that it lasts.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn save(&self, job: &Job) -> io::Result<()> {
        let mut file = self.create(JOB_NEW)?;
        file.write_all(&serde_json::to_vec_pretty(job)?)?;
        file.sync_all()?;
        std::fs::rename(self.path.join(JOB_NEW), self.path.join(JOB))?;
        sync_folder(&self.path)
    }

    /// The job, if there is one.
    ///
    /// # Errors
    /// `InvalidData` if it is none, or of a later version.
    pub fn job(&self) -> io::Result<Option<Job>> {
        let text = match std::fs::read(self.path.join(JOB)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let job: Job = serde_json::from_slice(&text)?;
        if job.version != VERSION {
            let what =
                format!("it is of version {}, and this program knows {VERSION}", job.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(job))
    }

    /// What became of its recordings so far.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn items(&self, total: usize) -> io::Result<Items> {
        match std::fs::read(self.path.join(ITEMS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Items::new(total)),
            text => Ok(Items::read(total, &String::from_utf8_lossy(&text?))),
        }
    }

    /// To go on writing behind what is there.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn append(&self) -> io::Result<Appending> {
        let items = self.open_or_create(ITEMS)?;
        // A torn line would spoil the one behind it.
        let text = std::fs::read(self.path.join(ITEMS))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) as u64;
        items.set_len(whole)?;
        let records = self.open_or_create(RECORDS)?;
        let records_end = records.metadata()?.len();
        sync_folder(&self.path)?;
        Ok(Appending { items, items_end: whole, records, records_end })
    }

    /// Opens one of the tables, or the records, to read.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn table(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    /// Begins one of the tables anew.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn new_table(&self, name: &str) -> io::Result<File> {
        self.create(name)
    }

    /// The records, to read.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn records(&self) -> io::Result<File> {
        File::open(self.path.join(RECORDS))
    }

    /// Removes it, the job first: what is left after a crash is no export.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn remove(&self) -> io::Result<()> {
        for name in [JOB, JOB_NEW] {
            match std::fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        private().truncate(true).open(self.path.join(name))
    }

    fn open_or_create(&self, name: &str) -> io::Result<File> {
        private().open(self.path.join(name))
    }
}

/// Appends to an export what becomes of its recordings.
#[derive(Debug)]
pub struct Appending {
    items: File,
    items_end: u64,
    records: File,
    records_end: u64,
}

impl Appending {
    /// Writes a record down and tells where it lies. It lasts after [`Self::sync_records`].
    ///
    /// # Errors
    /// As the operating system gives them; so in all methods here.
    pub fn record(&mut self, json: &[u8]) -> io::Result<u64> {
        let at = self.records_end;
        self.records.write_all_at(json, at)?;
        self.records_end += json.len() as u64;
        Ok(at)
    }

    /// Makes the records last.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn sync_records(&self) -> io::Result<()> {
        self.records.sync_data()
    }

    /// Writes down so that it lasts what became of recordings; their records last already.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub fn items(&mut self, items: &[Item]) -> io::Result<()> {
        let mut text = Vec::new();
        for item in items {
            serde_json::to_writer(&mut text, item)?;
            text.push(b'\n');
        }
        self.items.write_all_at(&text, self.items_end)?;
        self.items.sync_data()?;
        self.items_end += text.len() as u64;
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What lies there of an export.
pub struct Found {
    /// Its name.
    pub export: ExportId,
    /// Its folder.
    pub folder: Folder,
    /// Its job; none where there is no whole one.
    pub job: io::Result<Option<Job>>,
}

/// What is below `exports`. What is no export's folder is not told.
///
/// # Errors
/// If the folder cannot be read.
pub fn all(exports: &Path) -> io::Result<Vec<Found>> {
    let listed = match std::fs::read_dir(exports) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let name = entry?.file_name();
        let Some(export) = name.to_str().and_then(|name| name.parse::<ExportId>().ok()) else {
            continue;
        };
        let folder = Folder::of(exports, &export);
        let job = folder.job();
        found.push(Found { export, folder, job });
    }
    Ok(found)
}
