//! Holds what is listed against what lies here. What follows from that is decided in [`super::core`].

use std::collections::BTreeSet;

use storage::{Catalog, CatalogError, Lies, VoiceStore};
use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId};

use super::core::{Here, Listed};

/// Entries of the catalog that are looked at together.
const PAGE: usize = 500;

/// What was listed, and what lies here of it.
pub(super) type Looked = Vec<(Listed, Here)>;

/// Looks at these recordings, as far as they are listed. Blocks.
pub(super) fn look_at(
    voices: &VoiceStore,
    catalog: &dyn Catalog,
    entered: BTreeSet<RecordingId>,
) -> Looked {
    let mut looked = Vec::new();
    for recording in entered {
        match catalog.get(recording) {
            Ok(record) => looked.extend(record.map(|record| compared(voices, &record))),
            Err(error) => not_listed(&error),
        }
    }
    looked
}

/// Looks at a page of all that is listed, the newest first, and tells where to go on. Blocks.
pub(super) fn look_on(
    voices: &VoiceStore,
    catalog: &dyn Catalog,
    behind: Option<Position>,
) -> (Looked, Option<Position>) {
    let query = Query { cursor: behind, limit: PAGE, order: Order::Newest, ..Query::default() };
    match catalog.search(&query) {
        Ok(page) => {
            let looked = page.recordings.iter().map(|record| compared(voices, record)).collect();
            (looked, page.cursor.as_deref().and_then(Position::from_cursor))
        }
        Err(error) => {
            not_listed(&error);
            (Vec::new(), None)
        }
    }
}

fn not_listed(error: &CatalogError) {
    // The next walk looks again.
    tracing::warn!(%error, "what should lie here cannot be told now");
}

fn compared(voices: &VoiceStore, record: &Recording) -> (Listed, Here) {
    let Recording { recordingid: recording, node: owner, revision, .. } = *record;
    let here = match voices.lies(record) {
        Ok(Lies::This(_) | Lies::Later(_) | Lies::Archived(_)) => Here::Whole,
        Ok(Lies::Nothing | Lies::Earlier) => Here::Lacking,
        Err(error) => {
            tracing::debug!(%recording, %error, "what lies here is left as it is");
            Here::Unusable
        }
    };
    let archived = voices.archived_here(record).is_some();
    (Listed { recording, owner, revision, archived }, here)
}
