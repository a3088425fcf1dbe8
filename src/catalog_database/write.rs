//! Tells the database of some recordings: reads the rows that are there, has [`super::merge`] decide, and writes what
//! came of it. A row that somebody else has written meanwhile is read and decided upon again, so no lock is held
//! while anybody thinks.

use std::collections::BTreeMap;

use storage_core::{NodeId, RecordingId};

use super::connection::{Connection, get};
use super::merge::{Entry, Holds, Known, Teller, Told, merged};
use super::question::{Statement, Value};
use super::row::{COLUMNS, recording, row};
use super::stored::unstored;
use super::trouble::{Kind, Trouble};

/// Others may be first so often.
const ROUNDS_MAX: usize = 20;

const READ: &str = "SELECT recordingid::text, change, site, toldby, record::text, deletedat IS NOT NULL FROM astlogger.entry \
                    WHERE recordingid = ANY($1::text[]::uuid[])";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Rows that were changed.
    pub rows: u64,
    /// What the database does not take, and why.
    pub refused: Vec<(RecordingId, Trouble)>,
}

/// Tells of them. One that the database does not take is no hindrance for the others.
///
/// # Errors
/// [`Trouble`]: then some may have been written, and all may be told again.
pub(super) async fn tell(
    connection: &Connection,
    told: &[Told],
    teller: &Teller,
) -> Result<Written, Trouble> {
    let mut written = Written::default();
    match tell_together(connection, told, teller).await {
        Ok(rows) => written.rows = rows,
        Err(trouble) if trouble.kind == Kind::Data => {
            for one in told {
                match tell_together(connection, std::slice::from_ref(one), teller).await {
                    Ok(rows) => written.rows += rows,
                    Err(trouble) if trouble.kind == Kind::Data => {
                        written.refused.push((one.id, trouble));
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        Err(trouble) => return Err(trouble),
    }
    Ok(written)
}

async fn tell_together(
    connection: &Connection,
    told: &[Told],
    teller: &Teller,
) -> Result<u64, Trouble> {
    // A refill may come past one that was changed, too: it is the same.
    let mut left: BTreeMap<RecordingId, &Told> = BTreeMap::new();
    for one in told {
        left.entry(one.id).or_insert(one);
    }
    let (mut rows, mut rounds) = (0, 0);
    while !left.is_empty() {
        rounds += 1;
        if rounds > ROUNDS_MAX {
            let why = "others write the same rows all the time".to_owned();
            return Err(Trouble { kind: Kind::Again, why });
        }
        let known = read(connection, left.keys()).await?;
        let entries: Vec<_> =
            left.values().filter_map(|one| merged(one, known.get(&one.id), teller)).collect();
        left.retain(|id, _| entries.iter().any(|entry| entry.id == *id));
        if entries.is_empty() {
            break;
        }
        for id in write(connection, &entries, teller).await? {
            rows += 1;
            left.remove(&id);
        }
    }
    Ok(rows)
}

async fn read(
    connection: &Connection,
    ids: impl Iterator<Item = &RecordingId>,
) -> Result<BTreeMap<RecordingId, Known>, Trouble> {
    let ids = ids.map(RecordingId::to_string).collect();
    let asked = Statement { sql: READ.to_owned(), values: vec![Value::Texts(ids)] };
    let mut known = BTreeMap::new();
    for row in connection.rows(&asked).await? {
        let id = identity(get(&row, 0)?)?;
        let record: Option<&str> = get(&row, 4)?;
        let holds = match record.map(recording) {
            _ if get(&row, 5)? => Holds::Deleted,
            Some(Ok(recording)) => Holds::Listed(Box::new(recording)),
            _ => Holds::Spoilt,
        };
        let node = u16::try_from(get::<i32>(&row, 3)?).unwrap_or_default();
        let teller = Teller { site: unstored(get(&row, 2)?), node: NodeId(node) };
        known.insert(id, Known { change: get(&row, 1)?, teller, holds });
    }
    Ok(known)
}

/// Writes rows; answers with those that were still as they had been read.
async fn write(
    connection: &Connection,
    entries: &[Entry],
    teller: &Teller,
) -> Result<Vec<RecordingId>, Trouble> {
    let rows: Result<Vec<_>, _> = entries.iter().map(|entry| row(entry, teller)).collect();
    let json = rows.and_then(|rows| serde_json::to_string(&rows));
    let json = json.map_err(|error| Trouble { kind: Kind::Data, why: error.to_string() })?;
    let statement = Statement { sql: upsert(), values: vec![Value::Text(json)] };
    let taken = connection.rows(&statement).await?;
    taken.iter().map(|row| identity(get(row, 0)?)).collect()
}

fn identity(text: &str) -> Result<RecordingId, Trouble> {
    text.parse().map_err(|_| Trouble::refused("a recordingid is no name of a recording"))
}

/// Where the row is no longer the one that was read, nothing happens.
fn upsert() -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let typed: Vec<_> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let set: Vec<_> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO astlogger.entry AS known ({names}) \
         SELECT {names} FROM jsonb_to_recordset($1::text::jsonb) AS told({typed}) \
         ON CONFLICT (recordingid) DO UPDATE SET {set}, toldat = now() \
         WHERE known.change = excluded.change - 1 \
         RETURNING recordingid::text",
        names = names.join(", "),
        typed = typed.join(", "),
        set = set.join(", "),
    )
}
