//! The catalog's feed: a reader who follows it has what the catalog has, whatever was changed, told twice, cut
//! off or made anew meanwhile.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{recording, recording_id};
use proptest::prelude::*;
use storage::{Catalog, DurableCatalog};
use storage_core::{Recording, RecordingId};

const READER: &[u8] = b"a database";

#[derive(Clone, Debug)]
enum Act {
    Put(u64, u32),
    Remove(u64),
    /// Is told of some; whether the catalog hears that it was.
    Read(usize, bool),
    Reopen,
    /// Is changed by a program that keeps no feed.
    Unfollowed(u64, u32),
    /// Is rebuilt from its own records.
    Rebuild,
    OtherReader,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u64..12, 1..4_u32).prop_map(|(number, revision)| Act::Put(number, revision)),
        2 => (0_u64..12).prop_map(Act::Remove),
        4 => (1_usize..5, any::<bool>()).prop_map(|(most, told)| Act::Read(most, told)),
        1 => Just(Act::Reopen),
        1 => (0_u64..12, 1..4_u32).prop_map(|(number, revision)| Act::Unfollowed(number, revision)),
        1 => Just(Act::Rebuild),
        1 => Just(Act::OtherReader),
    ]
}

fn revised(number: u64, revision: u32) -> Recording {
    // Some begin in the same moment.
    Recording { revision, ..recording(number, i64::try_from(number / 2).unwrap() * 1000) }
}

/// What somebody has who follows the feed.
#[derive(Default)]
struct Copy {
    entries: BTreeMap<RecordingId, Recording>,
    /// Deleted ones, which whoever follows from the begin asks for in any case.
    removed: Vec<RecordingId>,
}

impl Copy {
    /// Tells whether there was anything.
    fn read(&mut self, catalog: &DurableCatalog, most: usize, told: bool) -> bool {
        let changes = loop {
            match catalog.changes(READER, most).unwrap() {
                Ok(changes) => break changes,
                Err(_) => {
                    catalog.tell_again(self.removed.clone()).unwrap();
                    catalog.feed_anew(READER).unwrap();
                }
            }
        };
        assert!(changes.changed.len() <= most);
        for changed in &changes.changed {
            match &changed.recording {
                Some(recording) => drop(self.entries.insert(changed.id, recording.clone())),
                None => drop(self.entries.remove(&changed.id)),
            }
        }
        let any = !changes.changed.is_empty();
        if told {
            catalog.told(changes).unwrap();
        }
        any
    }
}

fn open(folder: &Path) -> DurableCatalog {
    let catalog = DurableCatalog::open(folder).unwrap().0;
    catalog.follow().unwrap();
    catalog
}

fn all(catalog: &DurableCatalog) -> BTreeMap<RecordingId, Recording> {
    let query = storage_core::query::Query { limit: 1000, ..Default::default() };
    let found = catalog.search(&query).unwrap().recordings;
    found.into_iter().map(|recording| (recording.recordingid, recording)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn who_follows_has_what_the_catalog_has(acts in proptest::collection::vec(act(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = open(dir.path());
        let mut copy = Copy::default();
        for act in acts {
            match act {
                Act::Put(number, revision) => {
                    let recording = revised(number, revision);
                    copy.removed.retain(|id| *id != recording.recordingid);
                    catalog.put(&recording).unwrap();
                }
                Act::Remove(number) => {
                    copy.removed.push(recording_id(number));
                    catalog.remove(recording_id(number)).unwrap();
                }
                Act::Read(most, told) => drop(copy.read(&catalog, most, told)),
                Act::Reopen => {
                    drop(catalog);
                    catalog = open(dir.path());
                }
                Act::Unfollowed(number, revision) => {
                    drop(catalog);
                    let (other, _) = DurableCatalog::open(dir.path()).unwrap();
                    let recording = revised(number, revision);
                    copy.removed.retain(|id| *id != recording.recordingid);
                    other.put(&recording).unwrap();
                    drop(other);
                    catalog = open(dir.path());
                }
                Act::Rebuild => {
                    let records: Vec<_> = all(&catalog).into_values().collect();
                    catalog.begin_rebuild().unwrap();
                    catalog.fill(&records).unwrap();
                    catalog.end_rebuild().unwrap();
                }
                Act::OtherReader => catalog.feed_anew(b"another").unwrap(),
            }
        }
        let mut rounds = 0;
        while copy.read(&catalog, 3, true) {
            rounds += 1;
            prop_assert!(rounds < 200, "it never ends");
        }
        prop_assert_eq!(&copy.entries, &all(&catalog));
        prop_assert_eq!(catalog.pending().unwrap(), storage::catalog_feed::Pending::default());
    }
}

#[test]
fn what_is_changed_while_it_is_told_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    catalog.feed_anew(READER).unwrap();
    catalog.put(&revised(1, 1)).unwrap();
    let first = catalog.changes(READER, 10).unwrap().unwrap();
    catalog.put(&revised(1, 2)).unwrap();
    catalog.told(first).unwrap();
    let second = catalog.changes(READER, 10).unwrap().unwrap();
    assert_eq!(second.changed[0].recording.as_ref().map(|told| told.revision), Some(2));
    catalog.told(second).unwrap();
    assert_eq!(catalog.pending().unwrap().changed, 0);
    // The same once more changes nothing, and tells nothing.
    catalog.put(&revised(1, 2)).unwrap();
    assert_eq!(catalog.pending().unwrap().changed, 0);
}

#[test]
fn a_refill_goes_past_everything_once_and_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, _) = DurableCatalog::open(dir.path()).unwrap();
    let records: Vec<_> = (0..10).map(|number| revised(number, 1)).collect();
    catalog.put_all(&records).unwrap();
    catalog.follow().unwrap();
    assert!(catalog.changes(READER, 4).unwrap().is_err(), "nobody has asked before");
    catalog.tell_again(vec![recording_id(99)]).unwrap();
    catalog.feed_anew(READER).unwrap();
    assert_eq!((catalog.pending().unwrap().changed, catalog.pending().unwrap().refill), (1, 10));
    let mut seen = Vec::new();
    loop {
        let changes = catalog.changes(READER, 4).unwrap().unwrap();
        if changes.changed.is_empty() {
            catalog.told(changes).unwrap();
            break;
        }
        seen.extend(changes.changed.iter().map(|changed| changed.id));
        catalog.told(changes).unwrap();
        assert!(seen.len() <= 11, "{seen:?}");
    }
    assert_eq!((seen[0], seen.len()), (recording_id(99), 11));
    assert_eq!(catalog.pending().unwrap(), storage::catalog_feed::Pending::default());
    // What the reader cannot take goes behind the others.
    catalog.tell_again(vec![recording_id(3)]).unwrap();
    catalog.put(&revised(5, 7)).unwrap();
    catalog.tell_again(vec![recording_id(3)]).unwrap();
    let changes = catalog.changes(READER, 4).unwrap().unwrap();
    let order: Vec<_> = changes.changed.iter().map(|changed| changed.id).collect();
    assert_eq!(order, [recording_id(5), recording_id(3)]);
}
