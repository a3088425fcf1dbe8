//! By which terms a recording is found: each stands for one value of a field, or for three letters that
//! follow one another in its words. It decides which terms a recording has, and which ones all
//! recordings have that a query can match. Those that have them are candidates: whether the query
//! matches is [`Query::matches`]'s matter. Where the terms are kept is the catalog's.
//!
//! A word's last letters are padded, so that each stretch of one or two letters begins a term, too.

use std::collections::BTreeSet;

use crate::ids::{Extension, Ucid};
use crate::query::{Query, party_key, searched_words};
use crate::record::{Direction, Recording};
use crate::stretch::length_class;

/// Values are cut to this length, bytes.
const VALUE_BYTES_MAX: usize = 64;
/// Letters of a text that are looked for in the index; more of them hardly narrow it.
const GRAMS_MAX: usize = 16;
const GRAM_LETTERS: usize = 3;
/// More stations hardly narrow a search, and their lists cost more than they spare.
const STATIONS_MAX: usize = 512;
/// Behind a word's end; in no text that people look for.
const END: char = '\0';

/// The value of what is under legal hold.
const HELD: &str = "y";

/// A term's bytes: field, then value.
pub type Term = Vec<u8>;

#[derive(Clone, Copy)]
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
    Direction = b'd',
    Incomplete = b'i',
    Held = b'h',
    Scorecard = b'c',
    Percent = b'%',
    Gram = b'x',
}

/// What a candidate has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// This term.
    Term(Term),
    /// One of the terms that begin so.
    Beginning(Term),
    /// One of these terms, which ascend; of none if there is none.
    Any(Vec<Term>),
}

/// What candidates of a query have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// All of these, what narrows it most first.
    pub clauses: Vec<Clause>,
    /// At least this length class.
    pub least_class: Option<u8>,
}

impl Plan {
    /// What all recordings have that a query can match, its time apart.
    #[must_use]
    pub fn of(query: &Query) -> Self {
        let mut clauses = Vec::new();
        let mut exact = |field, value: Option<&str>| {
            // An empty value has no term.
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                clauses.push(Clause::Term(term(field, value)));
            }
        };
        exact(Field::Ucid, query.ucid.as_ref().map(Ucid::as_str));
        exact(Field::Party, query.party.as_deref().map(party_key).as_deref());
        exact(Field::Tag, query.tag.as_deref());
        exact(Field::Scorecard, query.scorecard.as_deref());
        exact(Field::Agent, query.agentid.as_deref());
        exact(Field::Extension, query.extension.as_deref());
        exact(Field::Split, query.split.as_deref());
        exact(Field::Vdn, query.vdn.as_deref());
        exact(Field::Trunk, query.trunkgroup.as_deref());
        exact(Field::Direction, query.direction.map(Direction::as_str));
        exact(Field::Incomplete, query.incomplete.map(incomplete_word));
        // Hardly any are held, so those that are not have no term: their lists would be of everything.
        exact(Field::Held, query.hold.filter(|held| *held).map(|_| HELD));
        if query.minscore.is_some() || query.maxscore.is_some() {
            let range = query.minscore.unwrap_or(0)..=query.maxscore.unwrap_or(100);
            clauses.push(one_of(range.map(|percent| term(Field::Percent, &percent.to_string()))));
        }
        clauses.extend(query.text.as_deref().into_iter().flat_map(text_clauses));
        clauses.extend(scope_clause(query));
        Self { clauses, least_class: query.mindurationms.map(length_class) }
    }

    /// Whether every recording is a candidate.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.clauses.is_empty() && self.least_class.is_none()
    }
}

/// The terms of a recording.
#[must_use]
pub fn terms(recording: &Recording) -> BTreeSet<Term> {
    let mut terms = BTreeSet::new();
    let mut enter = |field, value: &str| {
        if !value.is_empty() {
            terms.insert(term(field, value));
        }
    };
    for ucid in recording.ucid.iter().chain(&recording.formerucids) {
        enter(Field::Ucid, ucid.as_str());
    }
    enter(Field::Party, &party_key(&recording.calling));
    enter(Field::Party, &party_key(&recording.called));
    recording.tags.iter().for_each(|tag| enter(Field::Tag, tag));
    for score in &recording.scores {
        enter(Field::Scorecard, &score.scorecard);
        enter(Field::Percent, &whole_percent(score.percent).to_string());
    }
    enter(Field::Agent, &recording.agentid);
    enter(Field::Extension, recording.extension.as_str());
    enter(Field::Split, &recording.split);
    enter(Field::Vdn, &recording.vdn);
    enter(Field::Trunk, &recording.trunkgroup);
    enter(Field::Direction, recording.direction.as_str());
    enter(Field::Incomplete, incomplete_word(recording.lacks_audio()));
    enter(Field::Held, if recording.hold { HELD } else { "" });
    for word in searched_words(recording) {
        let mut letters: Vec<char> = word.to_lowercase().chars().collect();
        if !letters.is_empty() {
            letters.extend([END; GRAM_LETTERS - 1]);
        }
        terms.extend(letters.windows(GRAM_LETTERS).map(gram));
    }
    terms
}

/// The first term behind all that begin so.
#[must_use]
pub fn behind(beginning: &[u8]) -> Term {
    // 0xff is no byte of UTF-8.
    [beginning, &[0xff]].concat()
}

/// The whole percent below a score: what is at least or at most a whole number is found by it.
fn whole_percent(percent: f64) -> u8 {
    // As a number from 0 to 100 it fits.
    percent.clamp(0.0, 100.0).floor() as u8
}

/// What a scope asks for beyond the other filters.
fn scope_clause(query: &Query) -> Option<Clause> {
    let station = query.extension.as_deref().filter(|station| !station.is_empty());
    if let Some(station) = station {
        // Its term is asked for already.
        return (!query.scope.has(station)).then(|| one_of([]));
    }
    // What belongs to no station has no term.
    let listed = |all: &&BTreeSet<Extension>| {
        all.len() <= STATIONS_MAX && all.iter().all(|station| !station.as_str().is_empty())
    };
    let stations = query.scope.stations().filter(listed)?;
    Some(one_of(stations.iter().map(|station| term(Field::Extension, station.as_str()))))
}

fn one_of(terms: impl IntoIterator<Item = Term>) -> Clause {
    let terms: BTreeSet<Term> = terms.into_iter().collect();
    Clause::Any(terms.into_iter().collect())
}

const fn incomplete_word(incomplete: bool) -> &'static str {
    if incomplete { "y" } else { "n" }
}

fn text_clauses(text: &str) -> Vec<Clause> {
    let letters: Vec<char> = text.to_lowercase().chars().collect();
    if letters.is_empty() {
        return Vec::new();
    }
    if letters.len() < GRAM_LETTERS {
        return vec![Clause::Beginning(gram(&letters))];
    }
    let grams: BTreeSet<Term> = letters.windows(GRAM_LETTERS).map(gram).collect();
    grams.into_iter().take(GRAMS_MAX).map(Clause::Term).collect()
}

fn gram(letters: &[char]) -> Term {
    let mut term = vec![Field::Gram as u8];
    let mut bytes = [0; 4];
    for letter in letters {
        term.extend_from_slice(letter.encode_utf8(&mut bytes).as_bytes());
    }
    term
}

fn term(field: Field, value: &str) -> Term {
    let cut = &value.as_bytes()[..value.len().min(VALUE_BYTES_MAX)];
    [&[field as u8], cut].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Draft, Extension, NodeId, RecordingId, Scope, WallTime};

    fn recording(userdata: &str, tags: &[String], durationms: u64) -> Recording {
        let id = RecordingId(uuid::Uuid::nil());
        let draft = Draft::blank(id, NodeId(1), WallTime::from_millis(0));
        let mut value = serde_json::to_value(draft).unwrap();
        let more = json!({
            "extension": "2611", "agentid": "4001", "calling": "+852 9123", "called": "3000",
            "direction": "outbound", "trunkgroup": "7", "trunkmember": "1", "vdn": "3001",
            "split": "500", "userdata": userdata, "parties": [],
            "started": "2026-11-23T09:00:00.000Z", "ended": "2026-11-23T09:01:00.000Z",
            "durationms": durationms, "copy": 1, "gaps": [], "pauses": [], "complete": false,
            "segments": [], "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0},
            "format": "wavg711", "bytes": 0, "sha256": "", "tags": tags, "notes": [],
            "hold": false, "recordingid": id, "callids": [], "scope": "station",
            "trigger": "rule", "rule": "all", "node": 1,
        });
        let members = more.as_object().unwrap().clone();
        value.as_object_mut().unwrap().extend(members);
        serde_json::from_value(value).unwrap()
    }

    /// What the index says of one recording.
    fn is_candidate(query: &Query, recording: &Recording) -> bool {
        let (plan, terms) = (Plan::of(query), terms(recording));
        plan.least_class.is_none_or(|least| length_class(recording.durationms) >= least)
            && plan.clauses.iter().all(|clause| match clause {
                Clause::Term(term) => terms.contains(term),
                Clause::Any(any) => any.iter().any(|term| terms.contains(term)),
                Clause::Beginning(from) => terms.range(from.clone()..behind(from)).next().is_some(),
            })
    }

    fn score(scorecard: &str, percent: f64) -> crate::marks::Score {
        serde_json::from_value(json!({
            "scorecard": scorecard, "percent": percent, "answers": {}, "by": "quentin",
            "at": "2026-11-23T09:00:00.000Z", "node": 1,
        }))
        .unwrap()
    }

    fn ask(arguments: &serde_json::Value) -> Query {
        Query::from_arguments(arguments.as_object().unwrap()).unwrap()
    }

    #[test]
    fn each_filter_leads_to_what_it_names_and_away_from_what_it_does_not() {
        let mut recording = recording("Order 77", &["Complaint".to_owned()], 60_000);
        recording.scores = vec![score("Service", 62.5)];
        let cases = [
            (json!({"extension": "2611", "agentid": "4001", "split": 500, "vdn": 3001}), true),
            (json!({"extension": "261"}), false),
            (json!({"party": "8529123"}), true),
            (json!({"party": "9123"}), false),
            (json!({"tag": "Complaint", "direction": "outbound", "trunkgroup": 7}), true),
            (json!({"tag": "Complain"}), false),
            (json!({"direction": "inbound"}), false),
            (json!({"incomplete": true}), true),
            (json!({"incomplete": false}), false),
            (json!({"mindurationms": 60_000}), true),
            (json!({"mindurationms": 90_000}), false),
            (json!({"text": "RDER 7"}), true),
            (json!({"text": "7"}), true),
            (json!({"text": "r "}), true),
            (json!({"text": "zz"}), false),
            (json!({"text": "odd"}), false),
            (json!({"scorecard": "Service", "minscore": 62, "maxscore": 63}), true),
            (json!({"minscore": 63}), false),
            (json!({"maxscore": 61}), false),
            (json!({"scorecard": "Sales"}), false),
            (json!({"hold": true}), false),
            (json!({"hold": false}), true),
        ];
        for (arguments, expected) in cases {
            assert_eq!(is_candidate(&ask(&arguments), &recording), expected, "{arguments}");
        }
        recording.hold = true;
        assert!(is_candidate(&ask(&json!({"hold": true})), &recording));
        assert!(Plan::of(&Query::default()).is_open());
        assert!(!Plan::of(&ask(&json!({"mindurationms": 1}))).is_open());
    }

    #[test]
    fn a_scope_leads_to_its_stations_alone() {
        let recording = recording("", &[], 0);
        let scoped = |stations: &[&str]| {
            let stations = stations.iter().copied().map(Extension::from).collect();
            Query { scope: Scope::of(stations), ..Query::default() }
        };
        for (stations, expected) in
            [(&["2611"][..], true), (&["2610", "2611"], true), (&["2610"], false), (&[], false)]
        {
            let query = scoped(stations);
            assert_eq!(is_candidate(&query, &recording), expected, "{stations:?}");
            assert_eq!(query.matches(&recording), expected, "{stations:?}");
            assert!(!query.is_unfiltered());
            let own = Query { extension: Some("2611".to_owned()), ..query.clone() };
            assert_eq!(is_candidate(&own, &recording), expected, "{stations:?}");
            let none = Query { extension: Some(String::new()), ..query };
            assert_eq!(is_candidate(&none, &recording), expected, "{stations:?}");
        }
        let nobodys = Recording { extension: Extension::new(""), ..recording };
        assert!(is_candidate(&scoped(&["2611", ""]), &nobodys));
    }

    proptest! {
        /// Whatever matches is a candidate.
        #[test]
        fn no_match_is_missed(
            userdata in "[aAßΣİ é\u{0}9]{0,12}",
            tag in ".{0,90}",
            at in 0_usize..12,
            letters in 0_usize..8,
            durations in any::<(u32, u32)>(),
            tenths in 0_u32..=1000,
            (least, most) in (0_u8..=100, 0_u8..=100),
        ) {
            let mut recording = recording(&userdata, std::slice::from_ref(&tag), durations.0.into());
            recording.scores = vec![score("Service", f64::from(tenths) / 10.0)];
            let text: String = userdata.chars().skip(at).take(letters).collect();
            for query in [
                Query { text: Some(text), ..Query::default() },
                Query { tag: Some(tag), ..Query::default() },
                Query { minscore: Some(least), ..Query::default() },
                Query { maxscore: Some(most), minscore: Some(least), ..Query::default() },
                Query { maxscore: Some(most), scorecard: Some("Service".to_owned()), ..Query::default() },
                Query { mindurationms: Some(durations.1.into()), ..Query::default() },
            ] {
                prop_assert!(!query.matches(&recording) || is_candidate(&query, &recording), "{query:?}");
            }
        }
    }
}
