//! One commit of the catalog: what a group of changes does to records and lists. Where several
//! recordings began in the same millisecond they share an offset, which is in a list if one of them has
//! the term: so lists are changed by what all recordings of a moment had before and have after.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::query::Order;
use storage_core::stretch::{Stretch, length_class};
use storage_core::terms::{Term, terms};
use storage_core::{Recording, RecordingId};

use crate::catalog::CatalogError;
use crate::catalog_feed;
use crate::catalog_tables::Tables;

/// A change to the catalog.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Enter these, or replace those of the same name.
    Put(Vec<Recording>),
    /// Enter those of which none of the same name is there.
    Fill(Vec<Recording>),
    /// Remove it.
    Remove(RecordingId),
}

/// Makes one durable commit of a group of changes; answers whether each changed something, and how
/// many commits there were. `follows`: what is changed is to be told to somebody.
pub(crate) fn commit(
    tables: &Tables,
    group: &[&Change],
    follows: bool,
) -> Result<(Vec<bool>, u64), CatalogError> {
    tables.transaction(true, || {
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(group.len());
        for change in group {
            answers.push(match change {
                Change::Put(recordings) => {
                    for recording in recordings {
                        batch.fate(tables, recording.recordingid)?.after = Some(recording.clone());
                    }
                    true
                }
                Change::Fill(recordings) => {
                    for recording in recordings {
                        let fate = batch.fate(tables, recording.recordingid)?;
                        fate.after.get_or_insert_with(|| recording.clone());
                    }
                    true
                }
                Change::Remove(id) => batch.fate(tables, *id)?.after.take().is_some(),
            });
        }
        Ok((answers, batch.apply(tables, follows)?))
    })
}

/// What becomes of a recording.
#[derive(Debug, Default)]
struct Fate {
    before: Option<Recording>,
    after: Option<Recording>,
}

#[derive(Debug, Default)]
struct Batch {
    fates: BTreeMap<RecordingId, Fate>,
}

/// What recordings have that began in the same millisecond.
#[derive(Debug, Default)]
struct Moment {
    terms: BTreeSet<Term>,
    /// That of the longest one; none where there is no recording.
    class: Option<u8>,
}

impl Moment {
    fn add(&mut self, recording: &Recording) {
        self.terms.extend(terms(recording));
        self.class = self.class.max(Some(length_class(recording.durationms)));
    }
}

/// Offsets to be added to a list and to be taken from it.
#[derive(Debug, Default)]
struct Edit {
    add: Vec<u32>,
    take: Vec<u32>,
}

#[derive(Debug, Default)]
struct Edits {
    lists: BTreeMap<(Stretch, Term), Edit>,
    lengths: BTreeMap<Stretch, BTreeMap<u32, Option<u8>>>,
}

impl Batch {
    fn fate(&mut self, tables: &Tables, id: RecordingId) -> Result<&mut Fate, CatalogError> {
        use std::collections::btree_map::Entry;
        Ok(match self.fates.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let before = tables.record(id)?;
                new.insert(Fate { after: before.clone(), before })
            }
        })
    }

    fn apply(mut self, tables: &Tables, follows: bool) -> Result<u64, CatalogError> {
        self.fates.retain(|_, fate| fate.before != fate.after);
        let edits = self.edits(tables)?;
        let mut counts = tables.counts()?;
        for (id, fate) in &self.fates {
            if let Some(before) = &fate.before {
                tables.remove_record(before.started.as_millis(), *id)?;
                counts.recordings = counts.recordings.saturating_sub(1);
            }
            if let Some(after) = &fate.after {
                tables.put_record(after)?;
                counts.recordings += 1;
            }
        }
        edits.apply(tables)?;
        counts.commits += 1;
        tables.set_counts(counts)?;
        if follows {
            catalog_feed::note(tables, self.fates.keys(), counts.commits)?;
        }
        Ok(counts.commits)
    }

    /// What the changed moments do to the lists. The tables are as they were.
    fn edits(&self, tables: &Tables) -> Result<Edits, CatalogError> {
        let mut moments: BTreeMap<i64, (Moment, Moment)> = BTreeMap::new();
        for fate in self.fates.values() {
            if let Some(before) = &fate.before {
                moments.entry(before.started.as_millis()).or_default().0.add(before);
            }
            if let Some(after) = &fate.after {
                moments.entry(after.started.as_millis()).or_default().1.add(after);
            }
        }
        let mut edits = Edits::default();
        for (at, (mut before, mut after)) in moments {
            tables.walk((at, at + 1), Order::Oldest, None, |other| {
                if !self.fates.contains_key(&other.recordingid) {
                    before.add(&other);
                    after.add(&other);
                }
                true
            })?;
            edits.add(Stretch::of_millis(at), &before, &after);
        }
        Ok(edits)
    }
}

impl Edits {
    fn add(&mut self, (stretch, offset): (Stretch, u32), before: &Moment, after: &Moment) {
        if before.class != after.class {
            self.lengths.entry(stretch).or_default().insert(offset, after.class);
        }
        for term in before.terms.difference(&after.terms) {
            self.lists.entry((stretch, term.clone())).or_default().take.push(offset);
        }
        for term in after.terms.difference(&before.terms) {
            self.lists.entry((stretch, term.clone())).or_default().add.push(offset);
        }
    }

    fn apply(self, tables: &Tables) -> Result<(), CatalogError> {
        for ((stretch, term), edit) in &self.lists {
            let mut offsets = tables.list(*stretch, term)?;
            offsets.retain(|offset| edit.take.binary_search(offset).is_err());
            offsets.extend(&edit.add);
            offsets.sort_unstable();
            offsets.dedup();
            tables.set_list(*stretch, term, &offsets)?;
        }
        for (stretch, changed) in self.lengths {
            let mut lengths: BTreeMap<u32, u8> = tables.lengths(stretch)?.into_iter().collect();
            for (offset, class) in changed {
                match class {
                    Some(class) => lengths.insert(offset, class),
                    None => lengths.remove(&offset),
                };
            }
            tables.set_lengths(stretch, &lengths.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
