//! The durable catalog against the plain one, and against damage.

mod common;

use std::collections::BTreeMap;

use common::{recording, recording_id};
use proptest::prelude::*;
use storage::{Catalog, CatalogError, CatalogState, DurableCatalog, MemoryCatalog};
use storage_core::marks::Score;
use storage_core::query::{Order, Query};
use storage_core::record::Direction;
use storage_core::{Extension, Recording, Scope, WallTime};

#[derive(Clone, Debug)]
enum Act {
    Put(Box<Recording>),
    PutAll(Vec<Recording>),
    Fill(Vec<Recording>),
    Remove(u64),
    Search(Box<Query>),
    Reopen,
}

/// Few different values, so that filters hit.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("2611".to_owned()),
        Just("261".to_owned()),
        Just("1é".to_owned()),
        Just("x".repeat(300))
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound), Just(Direction::Internal)]
}

/// When one begins: often in the same millisecond as others, sometimes in another stretch or period.
fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![4 => (-3_i64..3).prop_map(|s| s * 1000), 2 => (-20_i64..20).prop_map(|n| n << 26)]
}

fn scorecard() -> impl Strategy<Value = String> {
    prop_oneof![Just("Service".to_owned()), Just("Sales".to_owned())]
}

fn score() -> impl Strategy<Value = Score> {
    (scorecard(), 0_u32..=1000).prop_map(|(scorecard, tenths)| {
        serde_json::from_value(serde_json::json!({
            "scorecard": scorecard, "percent": f64::from(tenths) / 10.0, "answers": {}, "by": "quentin",
            "at": "2026-11-23T09:00:00.000Z", "node": 1,
        }))
        .unwrap()
    })
}

fn any_recording() -> impl Strategy<Value = Recording> {
    let words = (word(), word(), word(), word(), word());
    let more = (
        proptest::collection::vec(word(), 0..3),
        any::<bool>(),
        0..4_u8,
        moment(),
        direction(),
        proptest::collection::vec(score(), 0..3),
    );
    (0_u64..12, words, more).prop_map(
        |(number, (a, b, c, d, e), (tags, complete, former, at, direction, scores))| Recording {
            scores,
            extension: Extension::new(a),
            agentid: b,
            calling: format!("+{c}"),
            called: d.clone(),
            vdn: e,
            split: d,
            trunkgroup: c,
            tags,
            complete,
            ucid: ucid(number % 3),
            formerucids: ucid(u64::from(former))
                .into_iter()
                .filter(|_| number.is_multiple_of(2))
                .collect(),
            durationms: number * 1000,
            direction,
            ..recording(number, at)
        },
    )
}

fn ucid(number: u64) -> Option<storage_core::Ucid> {
    format!("000010000{number}1700000000").parse().ok()
}

fn some<T: std::fmt::Debug + Clone + 'static>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![4 => Just(None), 1 => of.prop_map(Some)]
}

fn any_query() -> impl Strategy<Value = Query> {
    let words =
        (some(word()), some(word()), some(word()), some(word()), some(word()), some(word()));
    let rest = (
        some(-3_i64..3),
        some(-3_i64..4),
        some(0..4_u8),
        some(any::<bool>()),
        1..6_usize,
        any::<bool>(),
        0..4_usize,
        some(prop_oneof![0_u64..12_000, (0_u64..12).prop_map(|seconds| seconds * 1000)]),
        some(direction()),
    );
    let seen = (
        some(scorecard()),
        some(0_u8..=100),
        some(0_u8..=100),
        some(proptest::collection::btree_set(word().prop_map(Extension::new), 0..3)),
    );
    (words, rest, seen).prop_map(
        |(
            (a, b, c, d, e, f),
            (from, to, ucid_asked, incomplete, limit, oldest, skip, least, direction),
            (scorecard, minscore, maxscore, stations),
        )| {
            let time = |at: i64| WallTime::from_millis(at * 1000);
            Query {
                from: from.map(time),
                to: to.map(time),
                extension: a,
                agentid: b,
                party: c,
                tag: d,
                vdn: e,
                split: f.clone(),
                trunkgroup: None,
                scorecard,
                minscore,
                maxscore,
                scope: stations.map_or(Scope::ALL, Scope::of),
                text: f
                    .filter(|text| text.len() < 10)
                    .map(|text| text.chars().skip(skip).collect()),
                mindurationms: least,
                direction,
                ucid: ucid_asked.and_then(|n| ucid(u64::from(n))),
                incomplete,
                limit,
                order: if oldest { Order::Oldest } else { Order::Newest },
                ..Query::default()
            }
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any_recording().prop_map(|recording| Act::Put(Box::new(recording))),
        2 => proptest::collection::vec(any_recording(), 0..8).prop_map(Act::PutAll),
        1 => proptest::collection::vec(any_recording(), 0..8).prop_map(Act::Fill),
        2 => (0_u64..12).prop_map(Act::Remove),
        8 => any_query().prop_map(|query| Act::Search(Box::new(query))),
        1 => Just(Act::Reopen),
    ]
}

/// All pages of a query, one behind the other.
fn pages(catalog: &dyn Catalog, query: &Query) -> Vec<Recording> {
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = catalog.search(&query).unwrap();
        assert!(page.recordings.len() <= query.limit);
        all.extend(page.recordings);
        let Some(cursor) = page.cursor else { return all };
        query.cursor = storage_core::query::Position::from_cursor(&cursor);
        assert!(query.cursor.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_forms_agree(acts in proptest::collection::vec(act(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut durable, _) = DurableCatalog::open(folder.path()).unwrap();
        durable.end_rebuild().unwrap();
        let plain = MemoryCatalog::new();
        for act in acts {
            match act {
                Act::Put(recording) => {
                    durable.put(&recording).unwrap();
                    plain.put(&recording).unwrap();
                }
                Act::PutAll(recordings) => {
                    durable.put_all(&recordings).unwrap();
                    plain.put_all(&recordings).unwrap();
                }
                Act::Fill(recordings) => {
                    durable.fill(&recordings).unwrap();
                    for recording in recordings {
                        if plain.get(recording.recordingid).unwrap().is_none() {
                            plain.put(&recording).unwrap();
                        }
                    }
                }
                Act::Remove(number) => {
                    let id = recording_id(number);
                    prop_assert_eq!(durable.remove(id).unwrap(), plain.remove(id).unwrap());
                    prop_assert_eq!(durable.get(id).unwrap(), None);
                }
                Act::Search(query) => {
                    prop_assert_eq!(durable.search(&query).unwrap(), plain.search(&query).unwrap());
                    prop_assert_eq!(pages(&durable, &query), pages(&plain, &query));
                }
                Act::Reopen => {
                    drop(durable);
                    let (again, state) = DurableCatalog::open(folder.path()).unwrap();
                    prop_assert_eq!(state, CatalogState::Sound);
                    again.check().unwrap();
                    durable = again;
                }
            }
            prop_assert_eq!(durable.len().unwrap(), plain.len().unwrap());
        }
        for number in 0..12 {
            let id = recording_id(number);
            prop_assert_eq!(durable.get(id).unwrap(), plain.get(id).unwrap());
        }
    }
}

#[test]
fn pages_do_not_shift_while_recordings_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, _) = DurableCatalog::open(folder.path()).unwrap();
    let first: Vec<_> = (0..10).map(|n| recording(n, i64::try_from(n).unwrap() * 1000)).collect();
    catalog.put_all(&first).unwrap();
    let mut query = Query { limit: 3, ..Query::default() };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = catalog.search(&query).unwrap();
        assert_eq!(page.total, Some(10 + round));
        seen.extend(page.recordings.into_iter().map(|recording| recording.recordingid));
        catalog.put(&recording(100 + round, 1_000_000)).unwrap();
        let Some(cursor) = page.cursor else { break };
        query.cursor = storage_core::query::Position::from_cursor(&cursor);
    }
    assert_eq!(seen, (0..10).rev().map(recording_id).collect::<Vec<_>>());
}

#[test]
fn many_callers_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let (catalog, _) = DurableCatalog::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..8_u64 {
            let catalog = &catalog;
            scope.spawn(move || {
                for n in 0..20 {
                    catalog.put(&recording(caller * 100 + n, 0)).unwrap();
                }
            });
        }
    });
    assert_eq!(catalog.len().unwrap(), 160);
}

fn filled(folder: &std::path::Path) {
    let (catalog, _) = DurableCatalog::open(folder).unwrap();
    let many: Vec<_> = (0..500)
        .map(|n| Recording {
            extension: Extension::new((2000 + n % 7).to_string()),
            ..recording(n, i64::try_from(n).unwrap())
        })
        .collect();
    catalog.put_all(&many).unwrap();
    catalog.end_rebuild().unwrap();
}

#[test]
fn a_damaged_index_is_noticed_or_unharmed() {
    let mut noticed = 0;
    for round in 0..24_usize {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let file = folder.path().join("index/catalog.sqlite");
        let mut bytes = std::fs::read(&file).unwrap();
        for n in 0..4 {
            let at = (round * 7919 + n * 65_537) % bytes.len();
            bytes[at] ^= 0xff;
        }
        std::fs::write(&file, bytes).unwrap();
        let (catalog, state) = DurableCatalog::open(folder.path()).unwrap();
        if state == CatalogState::Sound && catalog.check().is_ok() {
            assert_eq!(pages(&catalog, &Query { limit: 100, ..Query::default() }).len(), 500);
            for number in [0, 250, 499] {
                let extension = Some(format!("{}", 2000 + number % 7));
                let query = Query { extension, limit: 1000, ..Query::default() };
                let expected = (0..500).filter(|other| other % 7 == number % 7).count();
                assert_eq!(pages(&catalog, &query).len(), expected, "round {round}");
            }
        } else {
            noticed += 1;
            catalog.begin_rebuild().unwrap();
            assert_eq!(catalog.len().unwrap(), 0);
            catalog.put(&recording(1, 1)).unwrap();
            catalog.check().unwrap();
        }
    }
    assert!(noticed > 0, "no damage was noticed");
}

#[test]
fn an_index_of_an_older_form_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("index")).unwrap();
    std::fs::write(folder.path().join("index/db"), "of another engine").unwrap();
    let (catalog, state) = DurableCatalog::open(folder.path()).unwrap();
    assert!(matches!(&state, CatalogState::Empty { because } if because.contains("older form")));
    catalog.put(&recording(1, 1)).unwrap();
    assert!(!folder.path().join("index/db").exists());
}

#[test]
fn tables_of_another_form_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let file = folder.path().join("index/catalog.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    // SQLite's header keeps `user_version` there.
    bytes[60..64].copy_from_slice(&1_u32.to_be_bytes());
    std::fs::write(&file, bytes).unwrap();
    let (catalog, state) = DurableCatalog::open(folder.path()).unwrap();
    assert!(matches!(&state, CatalogState::Empty { because } if because.contains("form is 1")));
    assert!(catalog.is_empty().unwrap());
    catalog.put(&recording(1, 1)).unwrap();
}

#[test]
fn an_index_that_has_forgotten_commits_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let (file, kept) = (folder.path().join("index/catalog.sqlite"), folder.path().join("kept"));
    std::fs::copy(&file, &kept).unwrap();
    let (catalog, _) = DurableCatalog::open(folder.path()).unwrap();
    catalog.put(&recording(1000, 1000)).unwrap();
    drop(catalog);
    std::fs::rename(&kept, &file).unwrap();
    let (_, state) = DurableCatalog::open(folder.path()).unwrap();
    assert!(matches!(&state, CatalogState::Empty { because } if because.contains("forgotten")));
}

#[test]
fn an_attempt_that_did_not_come_back_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    std::fs::write(folder.path().join("opening"), "").unwrap();
    let (catalog, state) = DurableCatalog::open(folder.path()).unwrap();
    assert!(matches!(&state, CatalogState::Empty { because } if because.contains("come back")));
    assert_eq!(catalog.len().unwrap(), 0);
    drop(catalog);
    // Nor is it taken for sound before it was rebuilt.
    let (catalog, state) = DurableCatalog::open(folder.path()).unwrap();
    assert!(matches!(state, CatalogState::Empty { .. }));
    catalog.end_rebuild().unwrap();
    drop(catalog);
    let (_, state) = DurableCatalog::open(folder.path()).unwrap();
    assert_eq!(state, CatalogState::Sound);
}

#[test]
fn a_catalog_remembers_until_when_others_were_asked_unless_it_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let until = WallTime::from_millis(1_795_000_000_123);
    let open = || DurableCatalog::open(dir.path()).unwrap().0;
    let catalog = open();
    assert_eq!(catalog.others_until(), None);
    catalog.has_others(until).unwrap();
    assert_eq!(catalog.others_until(), Some(until));
    drop(catalog);
    let catalog = open();
    assert_eq!(catalog.others_until(), Some(until));
    catalog.begin_rebuild().unwrap();
    catalog.end_rebuild().unwrap();
    assert_eq!(catalog.others_until(), None);
    drop(catalog);
    assert_eq!(open().others_until(), None);
    std::fs::write(dir.path().join("others-until"), "x").unwrap();
    assert_eq!(open().others_until(), None);
}

#[test]
fn a_rebuild_begins_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let (catalog, _) = DurableCatalog::open(folder.path()).unwrap();
    catalog.begin_rebuild().unwrap();
    assert_eq!(catalog.len().unwrap(), 0);
    catalog.put(&recording(3, 3)).unwrap();
    let by: BTreeMap<_, _> = pages(&catalog, &Query::default())
        .into_iter()
        .map(|recording| (recording.recordingid, recording))
        .collect();
    assert_eq!(by.len(), 1);
}

#[test]
fn a_second_process_is_refused_and_nothing_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let (first, _) = DurableCatalog::open(folder.path()).unwrap();
    let error = DurableCatalog::open(folder.path()).unwrap_err();
    assert!(matches!(error, CatalogError::Locked(_)), "{error}");
    assert_eq!(first.len().unwrap(), 500);
}
