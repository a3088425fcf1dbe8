//! The catalog's keys and values: which keys a recording has, which stretch of keys a query walks,
//! and how damage to either is noticed. It knows no index engine.
//!
//! ```text
//! m                                           how many recordings and commits there are
//! r id(16)                                    the record, JSON
//! t started(8) id(16)                         order of time
//! i field(1) length(1) value started id       order of time for one value of a field
//! ```
//!
//! Each value opens with a version byte and a CRC-32C; those of `t` and `i` have no more, and the
//! CRC is the key's.

use storage_core::query::{Order, Position, Query, party_key, time_key};
use storage_core::{Recording, RecordingId};

use crate::catalog::CatalogError;

const VALUE_VERSION: u8 = 1;
const VALUE_HEAD_BYTES: usize = 5;
/// Values of a field are cut to this length in keys; what matches is compared as a whole.
const FIELD_BYTES_MAX: usize = 200;

/// Where [`Counts`] are.
pub(crate) const COUNTS_KEY: &[u8] = b"m";

/// What is counted in each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Recordings there are.
    pub recordings: u64,
    /// Commits there were.
    pub commits: u64,
}

impl Counts {
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.recordings.to_be_bytes());
        bytes[8..].copy_from_slice(&self.commits.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (recordings, commits) = bytes.split_first_chunk::<8>()?;
        let commits = u64::from_be_bytes(commits.try_into().ok()?);
        Some(Self { recordings: u64::from_be_bytes(*recordings), commits })
    }
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Record,
    Index,
    Counts,
}

/// What a key leads to; `None` if it is none of ours.
pub(crate) fn key_kind(key: &[u8]) -> Option<KeyKind> {
    match key.first() {
        Some(b'r') => Some(KeyKind::Record),
        Some(b't' | b'i') => Some(KeyKind::Index),
        Some(b'm') => Some(KeyKind::Counts),
        _ => None,
    }
}

/// The position that an index key ends with.
pub(crate) fn position(key: &[u8]) -> Result<Position, CatalogError> {
    let position = key.last_chunk::<24>().map(Position::from_key);
    position.ok_or_else(|| damaged("an index entry is too short"))
}

/// The keys from `.0` to before `.1` hold all that a query can match and nothing before its
/// cursor. Empty if `.0` is not below `.1`.
pub(crate) fn walk_range(query: &Query) -> (Vec<u8>, Vec<u8>) {
    let prefix = prefix(query);
    let time = |ms: i64| [&prefix[..], &time_key(ms)].concat();
    let behind = |position: &Position| [&prefix[..], &position.to_key()].concat();
    let mut from = query.from.map_or_else(|| prefix.clone(), |from| time(from.as_millis()));
    // Behind all keys with the prefix: no position is 25 bytes of 0xff.
    let end = || [&prefix[..], &[0xff; 25]].concat();
    let mut to = query.to.map_or_else(end, |to| time(to.as_millis()));
    match (query.order, &query.cursor) {
        (Order::Newest, Some(cursor)) => to = to.min(behind(cursor)),
        // The next key there can be.
        (Order::Oldest, Some(cursor)) => from = from.max([behind(cursor), vec![0]].concat()),
        (_, None) => {}
    }
    (from, to)
}

/// A value: version, checksum, content.
pub(crate) fn value(content: &[u8]) -> Vec<u8> {
    [&value_head(content)[..], content].concat()
}

/// The value of an index key.
pub(crate) fn index_value(key: &[u8]) -> Vec<u8> {
    value_head(key).to_vec()
}

/// Version and checksum of what follows.
fn value_head(content: &[u8]) -> [u8; VALUE_HEAD_BYTES] {
    let [a, b, c, d] = crc32c::crc32c(content).to_le_bytes();
    [VALUE_VERSION, a, b, c, d]
}

/// Where a record is.
pub(crate) fn record_key(id: RecordingId) -> Vec<u8> {
    [b"r", &id.0.as_bytes()[..]].concat()
}

/// Fields that are worth an index, the most selective first.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    Ucid = b'u',
    Party = b'p',
    Tag = b'g',
    Agent = b'a',
    Extension = b'e',
    Split = b's',
    Vdn = b'v',
    Trunk = b't',
}

/// All keys of a recording but its record's.
pub(crate) fn index_keys(recording: &Recording) -> Vec<Vec<u8>> {
    let position = Position::of(recording).to_key();
    let mut keys = vec![[b"t", &position[..]].concat()];
    let ucids = recording.ucid.iter().chain(&recording.formerucids);
    let mut values: Vec<(Field, String)> =
        ucids.map(|ucid| (Field::Ucid, ucid.to_string())).collect();
    values.extend(recording.tags.iter().map(|tag| (Field::Tag, tag.clone())));
    values.extend([&recording.calling, &recording.called].map(|p| (Field::Party, party_key(p))));
    values.extend([
        (Field::Agent, recording.agentid.clone()),
        (Field::Extension, recording.extension.to_string()),
        (Field::Split, recording.split.clone()),
        (Field::Vdn, recording.vdn.clone()),
        (Field::Trunk, recording.trunkgroup.clone()),
    ]);
    for (field, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        keys.push([field_prefix(*field, value), position.to_vec()].concat());
    }
    keys
}

fn field_prefix(field: Field, value: &str) -> Vec<u8> {
    let cut = &value.as_bytes()[..value.len().min(FIELD_BYTES_MAX)];
    let length = u8::try_from(cut.len()).unwrap_or(u8::MAX);
    [&[b'i', field as u8, length], cut].concat()
}

/// The keys to walk for a query: those of its most selective filter, or all by time.
fn prefix(query: &Query) -> Vec<u8> {
    let text = |field, value: &Option<String>| value.clone().map(|value| (field, value));
    let chosen = query.ucid.as_ref().map(|ucid| (Field::Ucid, ucid.to_string()));
    let chosen = chosen
        .or_else(|| query.party.as_deref().map(|party| (Field::Party, party_key(party))))
        .or_else(|| text(Field::Tag, &query.tag))
        .or_else(|| text(Field::Agent, &query.agentid))
        .or_else(|| text(Field::Extension, &query.extension))
        .or_else(|| text(Field::Split, &query.split))
        .or_else(|| text(Field::Vdn, &query.vdn))
        .or_else(|| text(Field::Trunk, &query.trunkgroup));
    match chosen {
        // An empty value is not in the index (a party without any letter or digit).
        Some((field, value)) if !value.is_empty() => field_prefix(field, &value),
        _ => b"t".to_vec(),
    }
}

/// Compares an index entry with what was written.
pub(crate) fn check_index_entry(key: &[u8], value: &[u8]) -> Result<(), CatalogError> {
    if value == value_head(key) {
        return Ok(());
    }
    Err(damaged("an index entry is not what was written"))
}

/// The content of a value.
pub(crate) fn content(value: &[u8]) -> Result<&[u8], CatalogError> {
    let (head, content) = value
        .split_first_chunk::<VALUE_HEAD_BYTES>()
        .ok_or_else(|| damaged("a value is too short"))?;
    if head[0] != VALUE_VERSION {
        return Err(damaged(format!("a value has version {}", head[0])));
    }
    if *head != value_head(content) {
        return Err(damaged("a value is not what was written"));
    }
    Ok(content)
}

/// Reads a record's content.
pub(crate) fn parse_record(json: &[u8]) -> Result<Recording, CatalogError> {
    serde_json::from_slice(json).map_err(|error| damaged(format!("a record: {error}")))
}

/// Something is not as it was written.
pub(crate) fn damaged(what: impl Into<String>) -> CatalogError {
    CatalogError::Damaged { what: what.into() }
}
