//! The catalog's tables in SQLite, the only file that names it: how they look, what is read from them
//! and written to them, and how damage to a value is noticed. What belongs into the lists is decided
//! in `catalog_batch`, which of them a search reads in `catalog_search`.
//!
//! ```text
//! record   started, id            the record, packed (`catalog_record`)
//! place    id                     when it began
//! list     period, term, stretch  offsets of the recordings that have the term
//! stretch  number                 offsets of all recordings, with their length classes
//! counts                          how many recordings there are, and how many commits there were
//! ```
//!
//! So the lists of a term lie beside each other for a period, and a search finds them with one look, while what is
//! entered, which is mostly new, still changes lists that are near each other.
//!
//! SQLite gives back altered bytes without a word, so each value but those of `place` and `counts`
//! opens with a CRC-32C of its key and its content. Nothing is mapped into memory: a failing disk would
//! bring the process down.

use std::path::Path;

use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};
use storage_core::query::{Order, Position};
use storage_core::stretch::{
    Stretch, Stretches, lengths_bytes, list_bytes, read_lengths, read_list,
};
use storage_core::terms::{Term, behind};
use storage_core::{Recording, RecordingId};

use crate::catalog::CatalogError;
use crate::catalog_record::{pack, unpack};

/// What the tables look like; another number is another form, and is made anew.
pub(crate) const FORM: u32 = 4;
const CHECK_BYTES: usize = 4;
/// Terms that are gone past before the next one that is wanted is searched for: a search costs as much.
const PASSED_MAX: usize = 8;

const SCHEMA: &str = "
    PRAGMA page_size = 8192;
    PRAGMA journal_mode = WAL;
    BEGIN;
    CREATE TABLE record (started INTEGER, id BLOB, value BLOB, PRIMARY KEY (started, id)) WITHOUT ROWID;
    CREATE TABLE place (id BLOB PRIMARY KEY, started INTEGER) WITHOUT ROWID;
    CREATE TABLE list (period INTEGER, term BLOB, stretch INTEGER, value BLOB, PRIMARY KEY (period, term, stretch))
        WITHOUT ROWID;
    CREATE TABLE stretch (number INTEGER PRIMARY KEY, value BLOB);
    CREATE TABLE counts (one INTEGER PRIMARY KEY, recordings INTEGER, commits INTEGER);
    INSERT INTO counts VALUES (1, 0, 0);
";

/// What is counted in each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Recordings there are.
    pub recordings: u64,
    /// Commits there were.
    pub commits: u64,
}

/// One connection to the tables.
#[derive(Debug)]
pub(crate) struct Tables {
    connection: Connection,
}

impl Tables {
    /// Makes new ones in a file that is not there.
    pub fn create(path: &Path) -> Result<Self, CatalogError> {
        let tables = Self { connection: Connection::open(path).map_err(read_failed)? };
        let form = format!("{SCHEMA} PRAGMA user_version = {FORM}; COMMIT;");
        tables.connection.execute_batch(&form).map_err(write_failed)?;
        tables.set_up("-65536")
    }

    /// Opens those that are there, for the one who writes.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Self::connect(path)?.set_up("-65536")
    }

    /// Opens those that are there, for one who searches.
    pub fn open_reader(path: &Path) -> Result<Self, CatalogError> {
        let tables = Self::connect(path)?.set_up("-8192")?;
        tables.connection.execute_batch("PRAGMA query_only = ON").map_err(read_failed)?;
        Ok(tables)
    }

    fn connect(path: &Path) -> Result<Self, CatalogError> {
        use rusqlite::OpenFlags;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(read_failed)?;
        let form = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
        match form.map_err(read_failed)? {
            FORM => Ok(Self { connection }),
            other => Err(damaged(format!("its form is {other}, and this program's is {FORM}"))),
        }
    }

    /// A commit is on the device when it returns; the cache, in KiB, is bounded.
    fn set_up(self, cache: &str) -> Result<Self, CatalogError> {
        let settings = format!(
            "PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA cache_size = {cache};
             PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 2000;"
        );
        self.connection.execute_batch(&settings).map_err(read_failed)?;
        self.connection.set_prepared_statement_cache_capacity(32);
        Ok(self)
    }

    /// Does all or nothing of `write`, durably; or reads from one state.
    pub fn transaction<T>(
        &self,
        writes: bool,
        run: impl FnOnce() -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.connection.execute_batch(begin).map_err(write_failed)?;
        let outcome = run().and_then(|done| {
            self.connection.execute_batch("COMMIT").map_err(write_failed)?;
            Ok(done)
        });
        if outcome.is_err() {
            // Fails where SQLite has rolled back by itself.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        outcome
    }

    pub fn counts(&self) -> Result<Counts, CatalogError> {
        let counts = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = self.one("SELECT recordings, commits FROM counts", [], counts)?;
        let (recordings, commits) = found.ok_or_else(|| damaged("the counts are missing"))?;
        let number = |count: i64| u64::try_from(count).map_err(|_| damaged("a count is negative"));
        Ok(Counts { recordings: number(recordings)?, commits: number(commits)? })
    }

    pub fn set_counts(&self, counts: Counts) -> Result<(), CatalogError> {
        let (recordings, commits) = (counts.recordings.cast_signed(), counts.commits.cast_signed());
        self.write("UPDATE counts SET recordings = ?1, commits = ?2", params![recordings, commits])
    }

    /// When a recording began, milliseconds since 1970, if it is there.
    pub fn started(&self, id: RecordingId) -> Result<Option<i64>, CatalogError> {
        let sql = "SELECT started FROM place WHERE id = ?1";
        self.one(sql, [&id.0.as_bytes()[..]], |row| row.get(0))
    }

    pub fn record(&self, id: RecordingId) -> Result<Option<Recording>, CatalogError> {
        let Some(started) = self.started(id)? else { return Ok(None) };
        let sql = "SELECT value FROM record WHERE started = ?1 AND id = ?2";
        let name = &id.0.as_bytes()[..];
        let value = self.one(sql, params![started, name], |row| row.get::<_, Vec<u8>>(0))?;
        let value = value.ok_or_else(|| damaged(format!("the record of {id} is missing")))?;
        parse_record(started, name, &value).map(Some)
    }

    pub fn put_record(&self, recording: &Recording) -> Result<(), CatalogError> {
        let (started, id) = (recording.started.as_millis(), recording.recordingid.0);
        let name = &id.as_bytes()[..];
        let value = checked(&record_key(started, name), &pack(recording)?);
        self.write("REPLACE INTO record VALUES (?1, ?2, ?3)", params![started, name, value])?;
        self.write("REPLACE INTO place VALUES (?1, ?2)", params![name, started])
    }

    pub fn remove_record(&self, started: i64, id: RecordingId) -> Result<(), CatalogError> {
        let name = &id.0.as_bytes()[..];
        self.write("DELETE FROM record WHERE started = ?1 AND id = ?2", params![started, name])?;
        self.write("DELETE FROM place WHERE id = ?1", params![name])
    }

    /// Gives the records that began from `from` to before `to` (milliseconds) to `visit`, in this order
    /// and beyond `behind`, until that says `false`; tells whether it never did.
    pub fn walk(
        &self,
        (from, to): (i64, i64),
        order: Order,
        behind: Option<Position>,
        mut visit: impl FnMut(Recording) -> bool,
    ) -> Result<bool, CatalogError> {
        let sql = match order {
            Order::Newest => {
                "SELECT started, id, value FROM record WHERE started >= ?1 AND started < ?2
                 AND (started, id) < (?3, ?4) ORDER BY started DESC, id DESC"
            }
            Order::Oldest => {
                "SELECT started, id, value FROM record WHERE started >= ?1 AND started < ?2
                 AND (started, id) > (?3, ?4) ORDER BY started, id"
            }
        };
        // No position is beyond these.
        let (started, id) = match (behind, order) {
            (Some(behind), _) => (behind.started_ms(), behind.id().0.as_bytes().to_vec()),
            (None, Order::Newest) => (i64::MAX, Vec::new()),
            (None, Order::Oldest) => (i64::MIN, Vec::new()),
        };
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        let mut rows = statement.query(params![from, to, started, id]).map_err(read_failed)?;
        while let Some(row) = rows.next().map_err(read_failed)? {
            let (started, id, value): (i64, Vec<u8>, Vec<u8>) =
                (at(row, 0)?, at(row, 1)?, at(row, 2)?);
            if !visit(parse_record(started, &id, &value)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first stretch that has recordings, from `from` in this order, with their lengths.
    pub fn next_stretch(
        &self,
        from: Stretch,
        order: Order,
    ) -> Result<Option<Stretch>, CatalogError> {
        let sql = match order {
            Order::Newest => "SELECT max(number) FROM stretch WHERE number <= ?1",
            Order::Oldest => "SELECT min(number) FROM stretch WHERE number >= ?1",
        };
        Ok(self.one(sql, [from.0], |row| row.get::<_, Option<i64>>(0))?.flatten().map(Stretch))
    }

    /// The offsets of a stretch with the class of the longest recording at each.
    pub fn lengths(&self, stretch: Stretch) -> Result<Vec<(u32, u8)>, CatalogError> {
        let sql = "SELECT value FROM stretch WHERE number = ?1";
        let Some(value) = self.one(sql, [stretch.0], |row| row.get::<_, Vec<u8>>(0))? else {
            return Ok(Vec::new());
        };
        parse_lengths(stretch, &value)
    }

    pub fn set_lengths(&self, stretch: Stretch, lengths: &[(u32, u8)]) -> Result<(), CatalogError> {
        if lengths.is_empty() {
            return self.write("DELETE FROM stretch WHERE number = ?1", [stretch.0]);
        }
        let bytes = lengths_bytes(lengths.iter().copied());
        let value = checked(&stretch.0.to_be_bytes(), &bytes);
        self.write("REPLACE INTO stretch VALUES (?1, ?2)", params![stretch.0, value])
    }

    /// The offsets of all recordings in these stretches, in their period, with the class of the longest at each.
    pub fn lengths_in(&self, stretches: Stretches) -> Result<Vec<(u32, u8)>, CatalogError> {
        let Some((first, last)) = stretches.ends() else { return Ok(Vec::new()) };
        let sql = "SELECT number, value FROM stretch WHERE number BETWEEN ?1 AND ?2";
        let mut all = Vec::new();
        self.rows(sql, params![first.0, last.0], |row| {
            let stretch = Stretch(at(row, 0)?);
            if stretches.has(stretch) {
                let lengths = parse_lengths(stretch, blob(row, 1)?)?;
                let placed = |(offset, class)| (stretch.in_period(offset), class);
                all.extend(lengths.into_iter().map(placed));
            }
            Ok(true)
        })?;
        Ok(all)
    }

    /// The offsets in a stretch that have a term; none if there are none.
    pub fn list(&self, stretch: Stretch, term: &[u8]) -> Result<Vec<u32>, CatalogError> {
        let sql = "SELECT value FROM list WHERE period = ?1 AND term = ?2 AND stretch = ?3";
        let key = params![stretch.period().0, term, stretch.0];
        let value = self.one(sql, key, |row| row.get::<_, Vec<u8>>(0))?;
        value.map_or_else(|| Ok(Vec::new()), |value| parse_list(stretch, term, &value))
    }

    /// The offsets in the period that have a term, as far as they lie in these stretches.
    pub fn list_in(&self, stretches: Stretches, term: &[u8]) -> Result<Vec<u32>, CatalogError> {
        let Some((first, last)) = stretches.ends() else { return Ok(Vec::new()) };
        let sql = "SELECT stretch, value FROM list
             WHERE period = ?1 AND term = ?2 AND stretch BETWEEN ?3 AND ?4";
        let mut all = Vec::new();
        self.rows(sql, params![stretches.period.0, term, first.0, last.0], |row| {
            gather(&mut all, stretches, Stretch(at(row, 0)?), term, blob(row, 1)?)?;
            Ok(true)
        })?;
        Ok(all)
    }

    /// Those that have one of the terms that begin so.
    pub fn lists_in(
        &self,
        stretches: Stretches,
        beginning: &[u8],
    ) -> Result<Vec<u32>, CatalogError> {
        let sql =
            "SELECT term, stretch, value FROM list WHERE period = ?1 AND term >= ?2 AND term < ?3";
        let mut all = Vec::new();
        self.rows(sql, params![stretches.period.0, beginning, behind(beginning)], |row| {
            gather(&mut all, stretches, Stretch(at(row, 1)?), blob(row, 0)?, blob(row, 2)?)?;
            Ok(true)
        })?;
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Those that have one of these terms, which ascend. A term that is not there costs no search of its own
    /// unless many others lie before it.
    pub fn lists_of(&self, stretches: Stretches, terms: &[Term]) -> Result<Vec<u32>, CatalogError> {
        let sql =
            "SELECT term, stretch, value FROM list WHERE period = ?1 AND term >= ?2 AND term <= ?3";
        let (mut all, mut wanted) = (Vec::new(), terms);
        while let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
            let mut passed = 0;
            self.rows(sql, params![stretches.period.0, first, last], |row| {
                let term = blob(row, 0)?;
                wanted = &wanted[wanted.partition_point(|wanted| wanted.as_slice() < term)..];
                if wanted.first().is_some_and(|wanted| wanted == term) {
                    gather(&mut all, stretches, Stretch(at(row, 1)?), term, blob(row, 2)?)?;
                    passed = 0;
                } else {
                    passed += 1;
                }
                Ok(passed < PASSED_MAX)
            })?;
            if passed < PASSED_MAX {
                break;
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    pub fn set_list(
        &self,
        stretch: Stretch,
        term: &[u8],
        offsets: &[u32],
    ) -> Result<(), CatalogError> {
        let period = stretch.period().0;
        if offsets.is_empty() {
            let sql = "DELETE FROM list WHERE period = ?1 AND term = ?2 AND stretch = ?3";
            return self.write(sql, params![period, term, stretch.0]);
        }
        let value = checked(&list_key(stretch, term), &list_bytes(offsets));
        let sql = "REPLACE INTO list VALUES (?1, ?2, ?3, ?4)";
        self.write(sql, params![period, term, stretch.0, value])
    }

    /// Carries out statements without parameters.
    pub fn batch(&self, sql: &str) -> Result<(), CatalogError> {
        self.connection.execute_batch(sql).map_err(write_failed)
    }

    /// What was changed and not told: names and numbers, the oldest change first.
    pub fn changed_ids(&self, limit: i64) -> Result<Vec<(Vec<u8>, i64)>, CatalogError> {
        let sql = "SELECT id, number FROM change ORDER BY number LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        let mut rows = statement.query([limit]).map_err(read_failed)?;
        let mut changed = Vec::new();
        while let Some(row) = rows.next().map_err(read_failed)? {
            changed.push((at(row, 0)?, at(row, 1)?));
        }
        Ok(changed)
    }

    /// Reads everything, so that damage is found before a user comes upon it.
    pub fn check(&self) -> Result<(), CatalogError> {
        let said = self.one("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
        if let Some(said) = said.filter(|said| said != "ok") {
            return Err(damaged(said));
        }
        let mut records = 0;
        self.each("SELECT started, id, value FROM record", |row| {
            records += 1;
            let (started, id, value): (i64, Vec<u8>, Vec<u8>) =
                (at(row, 0)?, at(row, 1)?, at(row, 2)?);
            content(&record_key(started, &id), &value).map(drop)
        })?;
        self.each("SELECT period, term, stretch, value FROM list", |row| {
            let (period, stretch): (i64, _) = (at(row, 0)?, Stretch(at(row, 2)?));
            if stretch.period().0 != period {
                return Err(damaged("a list is in another period than its stretch"));
            }
            content(&list_key(stretch, blob(row, 1)?), blob(row, 3)?).map(drop)
        })?;
        self.each("SELECT number, value FROM stretch", |row| {
            let (number, value): (i64, Vec<u8>) = (at(row, 0)?, at(row, 1)?);
            content(&number.to_be_bytes(), &value).map(drop)
        })?;
        let mut places = 0;
        self.each("SELECT place.id FROM place NATURAL JOIN record", |_| {
            places += 1;
            Ok(())
        })?;
        let counted = self.counts()?.recordings;
        if (records, places) == (counted, counted) {
            Ok(())
        } else {
            Err(damaged("records are missing"))
        }
    }

    /// Gives the rows of an answer to `visit` until that says `false`.
    fn rows(
        &self,
        sql: &str,
        parameters: impl Params,
        mut visit: impl FnMut(&Row<'_>) -> Result<bool, CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        let mut rows = statement.query(parameters).map_err(read_failed)?;
        while let Some(row) = rows.next().map_err(read_failed)? {
            if !visit(row)? {
                break;
            }
        }
        Ok(())
    }

    fn each(
        &self,
        sql: &str,
        mut visit: impl FnMut(&Row<'_>) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        self.rows(sql, [], |row| visit(row).map(|()| true))
    }

    /// The first row of an answer, if there is one.
    pub fn one<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, CatalogError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        statement.query_row(parameters, read).optional().map_err(read_failed)
    }

    /// Carries out one statement.
    pub fn write(&self, sql: &str, parameters: impl Params) -> Result<(), CatalogError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(write_failed)?;
        statement.execute(parameters).map(drop).map_err(write_failed)
    }
}

fn at<T: FromSql>(row: &Row<'_>, column: usize) -> Result<T, CatalogError> {
    row.get(column).map_err(read_failed)
}

fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], CatalogError> {
    let value = row.get_ref(column).map_err(read_failed)?;
    value.as_blob().map_err(|error| damaged(error.to_string()))
}

fn record_key(started: i64, id: &[u8]) -> Vec<u8> {
    [&started.to_be_bytes(), id].concat()
}

fn list_key(stretch: Stretch, term: &[u8]) -> Vec<u8> {
    [&stretch.0.to_be_bytes(), term].concat()
}

fn parse_record(started: i64, id: &[u8], value: &[u8]) -> Result<Recording, CatalogError> {
    unpack(content(&record_key(started, id), value)?)
}

fn parse_list(stretch: Stretch, term: &[u8], value: &[u8]) -> Result<Vec<u32>, CatalogError> {
    let content = content(&list_key(stretch, term), value)?;
    read_list(content).ok_or_else(|| damaged("a list is not what was written"))
}

fn parse_lengths(stretch: Stretch, value: &[u8]) -> Result<Vec<(u32, u8)>, CatalogError> {
    let content = content(&stretch.0.to_be_bytes(), value)?;
    read_lengths(content).ok_or_else(|| damaged("lengths are not what was written"))
}

/// Adds the offsets in the period that a list has, if its stretch is wanted.
fn gather(
    all: &mut Vec<u32>,
    wanted: Stretches,
    stretch: Stretch,
    term: &[u8],
    value: &[u8],
) -> Result<(), CatalogError> {
    if wanted.has(stretch) {
        let list = parse_list(stretch, term, value)?;
        all.extend(list.into_iter().map(|offset| stretch.in_period(offset)));
    }
    Ok(())
}

/// A value: checksum, content.
fn checked(key: &[u8], content: &[u8]) -> Vec<u8> {
    [&checksum(key, content)[..], content].concat()
}

/// The content of a value.
fn content<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], CatalogError> {
    match value.split_first_chunk::<CHECK_BYTES>() {
        Some((check, content)) if *check == checksum(key, content) => Ok(content),
        _ => Err(damaged("a value is not what was written")),
    }
}

fn checksum(key: &[u8], content: &[u8]) -> [u8; CHECK_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(key), content).to_le_bytes()
}

/// Something is not as it was written.
pub(crate) fn damaged(what: impl Into<String>) -> CatalogError {
    CatalogError::Damaged { what: what.into() }
}

fn read_failed(error: rusqlite::Error) -> CatalogError {
    failed("read", error)
}

fn write_failed(error: rusqlite::Error) -> CatalogError {
    failed("written", error)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(action: &'static str, error: rusqlite::Error) -> CatalogError {
    let what = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(what),
        Some(ErrorCode::DiskFull) => CatalogError::Full,
        Some(_) => CatalogError::Device { action, what },
        // A column that has another type than was written.
        None => damaged(what),
    }
}
