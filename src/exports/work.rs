//! Goes through the recordings of one export: reads the audio of each once, for its length and checksum, and
//! keeps its record. What was done lasts every [`BATCH`] recordings, and is in the audit log before; a
//! process that ends goes on from there at its next start. What cannot be had is written down as missing,
//! after it was tried again for a while if it was a member that did not answer. It decides when an export
//! breaks off; who may have one, and how many there are at once, is `super`'s matter.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use recorder::clock::Clock;
use recorder::playback::Playback;
use sha2::{Digest, Sha256};
use storage::FetchFormat;
use storage_core::{Recording, RecordingId, Scope, hex};

use super::folder::{Appending, Folder, MISSING_TABLE, RECORDINGS_TABLE};
use super::job::{Done, Held, Item, Items, Job, Measure, Missing, Outcome, Progress, names};
use super::{parcel, table};
use crate::audit::{Asked, Clerk};
use crate::config::DiskShare;
use crate::users::UserRole;
use crate::web::backend::{Backend, Code, Failure};

/// Recordings after which what was done lasts, if not earlier by time.
const BATCH: usize = 64;
/// And the time.
const BATCH_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of audio read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// What a member that does not answer has not told yet is asked again so often, with so much rest between:
/// after a start links to peers take a moment.
const AGAIN_MAX: usize = 5;
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long it sleeps before it looks whether it is to stop.
const BLINK: Duration = Duration::from_millis(50);

/// Why an export does not go on.
#[derive(Debug)]
pub enum Stop {
    /// The node stops, or nobody wants the export any more.
    Told,
    /// It cannot; for people.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("its files below al_datadir cannot be written: {error}"))
    }
}

/// What it works with.
pub struct Bench<'a> {
    /// Where recordings are.
    pub backend: &'a dyn Backend,
    /// Who writes down what is exported.
    pub clerk: &'a Clerk,
    /// Where its files lie.
    pub folder: &'a Folder,
    /// The job.
    pub job: &'a Job,
    /// Whether it is to stop.
    pub stops: &'a dyn Fn() -> bool,
    /// Whether exports may write so many bytes.
    pub has_room: &'a dyn Fn(u64) -> bool,
    /// Hears how far it is.
    pub tell: &'a dyn Fn(Progress),
}

/// What is to be written down.
#[derive(Default)]
struct Pending {
    items: Vec<Item>,
    /// Of those that are held.
    ids: Vec<RecordingId>,
    since: Option<Instant>,
}

/// What came of one recording, and whether it may come to something else soon.
struct Taken {
    outcome: Outcome,
    again: bool,
}

impl Bench<'_> {
    /// Goes through all of them. Blocking.
    ///
    /// # Errors
    /// [`Stop`]; what was done before lasts.
    pub fn work(&self) -> Result<Done, Stop> {
        let ids = self.folder.ids()?;
        let mut items = self.folder.items(ids.len())?;
        let mut files = self.folder.append()?;
        let format = FetchFormat::parse(&self.job.format);
        let format = format.ok_or_else(|| Stop::Failed("its form is unknown".to_owned()))?;
        let scope = self.job.scope();
        (self.tell)(items.progress());
        let mut todo: Vec<usize> = (0..ids.len()).collect();
        for round in 0..=AGAIN_MAX {
            let mut pending = Pending::default();
            let mut again = Vec::new();
            for n in todo {
                if (self.stops)() {
                    self.commit(&mut files, &mut items, &mut pending)?;
                    return Err(Stop::Told);
                }
                if self.is_unchanged(ids[n], items.get(n)) {
                    continue;
                }
                let taken = match self.take(&mut files, ids[n], format, &scope) {
                    Err(Stop::Told) => {
                        self.commit(&mut files, &mut items, &mut pending)?;
                        return Err(Stop::Told);
                    }
                    taken => taken?,
                };
                if taken.again {
                    again.push(n);
                }
                pending.put(n, ids[n], taken.outcome);
                if pending.is_due() {
                    self.commit(&mut files, &mut items, &mut pending)?;
                }
            }
            self.commit(&mut files, &mut items, &mut pending)?;
            todo = again;
            if todo.is_empty() || round == AGAIN_MAX {
                break;
            }
            self.rest(AGAIN_AFTER)?;
        }
        self.complete(&ids, &items)
    }

    fn rest(&self, time: Duration) -> Result<(), Stop> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if (self.stops)() {
                return Err(Stop::Told);
            }
            std::thread::sleep(BLINK);
        }
        Ok(())
    }

    /// Whether what is known of a recording still holds; where nobody can tell, it does.
    fn is_unchanged(&self, id: RecordingId, known: Option<&Outcome>) -> bool {
        let Some(Outcome::Held(held)) = known else { return false };
        match self.backend.recording(id) {
            Ok(Some(record)) => *record.sha256 == *held.sha256,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn take(
        &self,
        files: &mut Appending,
        id: RecordingId,
        format: FetchFormat,
        scope: &Scope,
    ) -> Result<Taken, Stop> {
        let record = match self.backend.recording(id) {
            Ok(record) => record.filter(|record| scope.holds(record)),
            Err(failure) => return Ok(missing(&failure, true)),
        };
        let Some(record) = record else {
            let gone = Failure::new(Code::NotFound, "it is there no more");
            return Ok(missing(&gone, false));
        };
        let mut audio = match self.backend.open_audio(id, format) {
            Ok(audio) => audio,
            Err(failure) => {
                let away =
                    failure.code == Code::Unavailable && Playback::is_had_of(format, record.format);
                // What lies at another site does not come here by waiting.
                let again = away && !matches!(self.backend.other_site(id), Ok(Some(_)));
                return Ok(missing(&failure, again));
            }
        };
        let bytes = audio.bytes();
        audio.will_read(0, bytes);
        let mut crc32 = crc32fast::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < bytes {
            if (self.stops)() {
                return Err(Stop::Told);
            }
            match audio.read_at(offset, &mut piece) {
                Ok(0) => return Ok(missing(&broken("it is shorter than it should be"), true)),
                Ok(count) => {
                    crc32.update(&piece[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(missing(&broken(&error.to_string()), true)),
            }
        }
        let ending = audio.file_extension();
        let audio = Measure { bytes, crc32: crc32.finalize() };
        let outcome = Outcome::Held(self.keep(files, &record, audio, ending)?);
        Ok(Taken { outcome, again: false })
    }

    fn keep(
        &self,
        files: &mut Appending,
        record: &Recording,
        audio: Measure,
        ending: &str,
    ) -> Result<Held, Stop> {
        let json = serde_json::to_vec(record).map_err(io::Error::from)?;
        if !(self.has_room)(json.len() as u64) {
            return Err(no_room());
        }
        let at = files.record(&json)?;
        Ok(Held {
            sha256: record.sha256.as_str().into(),
            audio,
            ending: ending.into(),
            started: record.started,
            at,
            record: Measure { bytes: json.len() as u64, crc32: crc32fast::hash(&json) },
        })
    }

    /// Makes last what was done, in the audit log first.
    fn commit(
        &self,
        files: &mut Appending,
        items: &mut Items,
        pending: &mut Pending,
    ) -> Result<(), Stop> {
        let Pending { items: done, ids, .. } = std::mem::take(pending);
        if done.is_empty() {
            return Ok(());
        }
        if !ids.is_empty() {
            files.sync_records()?;
            let asked = ids.iter().map(|id| exported(self.job, *id)).collect();
            let written = self.clerk.note_all(asked);
            written.map_err(|failure| Stop::Failed(failure.message))?;
        }
        files.items(&done)?;
        done.into_iter().for_each(|item| items.set(item));
        (self.tell)(items.progress());
        Ok(())
    }

    /// Writes the tables; from then on all bytes of the ZIP file are settled.
    fn complete(&self, ids: &[RecordingId], items: &Items) -> Result<Done, Stop> {
        let recordings = self.write_recordings(ids, items)?;
        let missing = self.write_missing(ids, items)?;
        let held = parcel::held(ids, items);
        let mut done =
            Done { recordings, missing, bytes: 0, etag: String::new(), at: Clock::wall() };
        done.bytes = parcel::layout(&done, &held).bytes();
        let mut hash = Sha256::new();
        hash.update(self.job.export.as_str());
        for measure in [done.recordings, done.missing] {
            hash.update(measure.crc32.to_le_bytes());
        }
        hash.update(done.at.as_millis().to_le_bytes());
        for (id, held) in &held {
            hash.update(id.to_string());
            hash.update(held.audio.crc32.to_le_bytes());
            hash.update(held.record.crc32.to_le_bytes());
        }
        done.etag = hex::encode(&hash.finalize());
        Ok(done)
    }

    fn write_recordings(&self, ids: &[RecordingId], items: &Items) -> Result<Measure, Stop> {
        let mut table = Table::begin(self, RECORDINGS_TABLE)?;
        table.line(&table::head())?;
        let held = parcel::held(ids, items);
        let records = if held.is_empty() { None } else { Some(self.folder.records()?) };
        for ((id, held), records) in held.into_iter().zip(records.iter().cycle()) {
            let record = read_record(records, &held)?;
            let (name, _) = names(id, &held.ending);
            let file = table::File { name: &name, bytes: held.audio.bytes };
            table.line(&table::recording(&record, file))?;
        }
        table.end()
    }

    fn write_missing(&self, ids: &[RecordingId], items: &Items) -> Result<Measure, Stop> {
        let mut table = Table::begin(self, MISSING_TABLE)?;
        table.line(&table::missing_head())?;
        for (n, outcome) in items.known() {
            if let Outcome::Missing(missing) = outcome {
                let id = ids.get(n).copied();
                table.line(&table::missing(id, &missing.code, &missing.message))?;
            }
        }
        for member in &self.job.unreachable {
            let why = format!("{member} could not be asked which recordings it has");
            table.line(&table::missing(None, Code::Unavailable.as_str(), &why))?;
        }
        if let Some(because) = &self.job.elsewhere.allsitesfailure {
            let why =
                format!("other sites could not be asked which recordings they have: {because}");
            table.line(&table::missing(None, Code::Unavailable.as_str(), &why))?;
        }
        table.end()
    }
}

impl Pending {
    fn put(&mut self, n: usize, id: RecordingId, outcome: Outcome) {
        if matches!(outcome, Outcome::Held(_)) {
            self.ids.push(id);
        }
        self.since.get_or_insert_with(Instant::now);
        self.items.push(Item { n, outcome });
    }

    fn is_due(&self) -> bool {
        let late = self.since.is_some_and(|since| since.elapsed() >= BATCH_WITHIN);
        self.items.len() >= BATCH || late
    }
}

/// A table that is being written.
struct Table<'a> {
    file: io::BufWriter<File>,
    crc32: crc32fast::Hasher,
    bytes: u64,
    has_room: &'a dyn Fn(u64) -> bool,
}

impl<'a> Table<'a> {
    fn begin(bench: &Bench<'a>, name: &str) -> Result<Self, Stop> {
        let file = io::BufWriter::new(bench.folder.new_table(name)?);
        let has_room = bench.has_room;
        Ok(Self { file, crc32: crc32fast::Hasher::new(), bytes: 0, has_room })
    }

    fn line(&mut self, line: &str) -> Result<(), Stop> {
        if !(self.has_room)(line.len() as u64) {
            return Err(no_room());
        }
        self.file.write_all(line.as_bytes())?;
        self.crc32.update(line.as_bytes());
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn end(self) -> Result<Measure, Stop> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Measure { bytes: self.bytes, crc32: self.crc32.finalize() })
    }
}

fn read_record(records: &File, held: &Held) -> io::Result<Recording> {
    let length = usize::try_from(held.record.bytes).map_err(io::Error::other)?;
    let mut json = vec![0; length];
    records.read_exact_at(&mut json, held.at)?;
    Ok(serde_json::from_slice(&json)?)
}

fn no_room() -> Stop {
    Stop::Failed(
        "less would be free below al_datadir than recording is to have (al_mindiskfree): make room, and \
         export again"
            .to_owned(),
    )
}

fn missing(failure: &Failure, again: bool) -> Taken {
    let Failure { code, message } = failure;
    let missing = Missing { code: code.as_str().to_owned(), message: message.clone() };
    Taken { outcome: Outcome::Missing(missing), again }
}

fn broken(why: &str) -> Failure {
    Failure::new(Code::Unavailable, format!("its audio cannot be read: {why}"))
}

/// The line of the audit log for a recording that is exported.
fn exported(job: &Job, id: RecordingId) -> Asked {
    let address = job.address.parse();
    Asked {
        user: job.user.clone(),
        role: UserRole::ALL.into_iter().map(UserRole::as_str).find(|role| *role == job.role),
        address: address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
        action: "exportrecordings".to_owned(),
        arguments: serde_json::json!({ "export": job.export, "recordingid": id }),
    }
}

/// Whether so many bytes more leave what recording is to have free.
pub fn leaves_room(exports: &Path, reserve: DiskShare, bytes: u64) -> bool {
    let at_least = super::RESERVE_BYTES_MIN;
    // Before the first export the folder is not there.
    let place = exports.ancestors().find(|place| place.is_dir()).unwrap_or(exports);
    crate::room::leaves(place, |total| reserve.bytes_of(total).max(at_least), bytes)
}
