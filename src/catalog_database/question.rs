//! A search as SQL. It decides which rows are read, and in which order; that each of them is one that was asked for
//! is decided once more by [`Query::matches`], so the answer is the one of a local catalog.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use storage_core::WallTime;
use storage_core::query::{Order, Position, Query, party_key};

use super::stored::stored;

/// What stands in the place of a `$n`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
    Percent(f64),
    Time(SystemTime),
}

/// A statement and what stands in the places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub sql: String,
    pub values: Vec<Value>,
}

/// Letters of a value that are in an index.
const INDEXED: usize = 64;

/// The rows that a query asks for, behind this place, and so many of them at most.
pub(super) fn rows(query: &Query, behind: Option<Position>, limit: usize) -> Statement {
    let mut asked = Asked::default();
    asked.times(query, behind);
    asked.numbers(query);
    asked.scores(query);
    if let Some(stations) = query.scope.stations() {
        let stations: Vec<_> =
            stations.iter().map(|station| stored(station.as_str()).into_owned()).collect();
        let begins = stations.iter().map(|station| begin(station)).collect();
        let (begins, stations) =
            (asked.place(Value::Texts(begins)), asked.place(Value::Texts(stations)));
        asked.condition(format!(
            "left(extension, {INDEXED}) = ANY({begins}::text[]) AND extension = ANY({stations}::text[])"
        ));
    }
    if let Some(tag) = &query.tag {
        let tag = asked.text(tag);
        asked.condition(format!("tags @> ARRAY[{tag}]"));
    }
    if let Some(least) = query.mindurationms {
        let least = asked.place(Value::Number(i64::try_from(least).unwrap_or(i64::MAX)));
        asked.condition(format!("durationms >= {least}::bigint"));
    }
    if let Some(incomplete) = query.incomplete {
        asked.condition(if incomplete { "lacksaudio" } else { "NOT lacksaudio" }.to_owned());
    }
    if let Some(held) = query.hold {
        asked.condition(if held { "hold" } else { "NOT hold" }.to_owned());
    }
    if let Some(text) = &query.text {
        let pattern = asked.place(Value::Text(pattern(&text.to_lowercase())));
        asked.condition(format!("words LIKE {pattern}::text"));
    }
    let order = match query.order {
        Order::Newest => "started DESC, recordingid DESC",
        Order::Oldest => "started, recordingid",
    };
    let conditions = match asked.conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let sql = format!(
        "SELECT record::text, site FROM astlogger.recording{conditions} ORDER BY {order} LIMIT {limit}"
    );
    Statement { sql, values: asked.values }
}

#[derive(Default)]
struct Asked {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Asked {
    fn condition(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    /// The place of a value.
    fn place(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn text(&mut self, text: &str) -> String {
        let place = self.place(Value::Text(stored(text).into_owned()));
        format!("{place}::text")
    }

    /// A column of which the index has the begin.
    fn is(&mut self, column: &str, text: &str) -> String {
        let stored = stored(text);
        let (begin, whole) = (self.place(Value::Text(begin(&stored))), self.text(text));
        format!("(left({column}, {INDEXED}) = {begin}::text AND {column} = {whole})")
    }

    fn times(&mut self, query: &Query, behind: Option<Position>) {
        for (time, condition) in [(query.from, ">="), (query.to, "<")] {
            if let Some(time) = time {
                let place = self.place(Value::Time(time_of(time.as_millis())));
                self.condition(format!("started {condition} {place}::timestamptz"));
            }
        }
        if let Some(behind) = behind {
            let beyond = if query.order == Order::Newest { "<" } else { ">" };
            let started = self.place(Value::Time(time_of(behind.started_ms())));
            let id = self.place(Value::Text(behind.id().to_string()));
            self.condition(format!(
                "(started, recordingid) {beyond} ({started}::timestamptz, {id}::text::uuid)"
            ));
        }
    }

    fn numbers(&mut self, query: &Query) {
        for (column, asked) in [
            ("extension", &query.extension),
            ("agentid", &query.agentid),
            ("trunkgroup", &query.trunkgroup),
            ("vdn", &query.vdn),
            ("split", &query.split),
        ] {
            if let Some(asked) = asked {
                let condition = self.is(column, asked);
                self.condition(condition);
            }
        }
        if let Some(direction) = query.direction {
            let direction = self.text(direction.as_str());
            self.condition(format!("direction = {direction}"));
        }
        if let Some(party) = &query.party {
            let party = party_key(party);
            let either = [self.is("callingkey", &party), self.is("calledkey", &party)].join(" OR ");
            self.condition(format!("({either})"));
        }
        if let Some(ucid) = &query.ucid {
            let ucid = self.text(ucid.as_str());
            // Each call has one of its own, which PostgreSQL's statistics do not see: it would go through all
            // recordings in the order of time.
            self.condition(format!(
                "recordingid = ANY(ARRAY(SELECT recordingid FROM astlogger.recording WHERE ucids @> ARRAY[{ucid}]))"
            ));
        }
    }

    /// One score must have all that is asked for. What stands before the last condition is in an index.
    fn scores(&mut self, query: &Query) {
        if !query.asks_for_scores() {
            return;
        }
        let mut of_one = Vec::new();
        if let Some(card) = &query.scorecard {
            let card = self.text(card);
            self.condition(format!("scorecards @> ARRAY[{card}]"));
            of_one.push(format!("score ->> 'scorecard' = {card}"));
        }
        let bounds = [(query.minscore, "bestscore", ">="), (query.maxscore, "worstscore", "<=")];
        for (bound, column, compares) in bounds {
            if let Some(bound) = bound {
                let bound = self.place(Value::Percent(f64::from(bound)));
                self.condition(format!("{column} {compares} {bound}::double precision"));
                of_one.push(format!(
                    "(score ->> 'percent')::double precision {compares} {bound}::double precision"
                ));
            }
        }
        self.condition(format!(
            "EXISTS (SELECT FROM jsonb_array_elements(record -> 'scores') score WHERE {})",
            of_one.join(" AND ")
        ));
    }
}

fn begin(text: &str) -> String {
    text.chars().take(INDEXED).collect()
}

/// Any text that has this one in it.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in stored(text).chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// A time as the database knows it: of the years 1 to 9999, in which all recordings are.
fn time_of(millis: i64) -> SystemTime {
    const FIRST: i64 = -62_135_596_800_000;
    const LAST: i64 = 253_402_300_799_999;
    let millis = WallTime::from_millis(millis.clamp(FIRST, LAST)).as_millis();
    let span = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use storage_core::record::Direction;
    use storage_core::scope::Scope;

    use super::*;

    #[test]
    fn values_never_stand_in_the_statement() {
        let hostile = "'; DROP TABLE astlogger.entry; --";
        let query = Query {
            extension: Some(hostile.to_owned()),
            party: Some(hostile.to_owned()),
            tag: Some(hostile.to_owned()),
            text: Some(hostile.to_owned()),
            scorecard: Some(hostile.to_owned()),
            scope: Scope::of(BTreeSet::from([hostile.into()])),
            ..Query::default()
        };
        let Statement { sql, values } = rows(&query, None, 51);
        assert!(!sql.contains("DROP") && !sql.contains("drop"), "{sql}");
        assert_eq!(sql.matches('$').count(), values.len() + 1, "the scorecard stands twice: {sql}");
    }

    /// What the database does not sort out is sorted out afterwards, so an answer would not tell that a condition is
    /// missing: only how long it takes, once there are millions of rows.
    #[test]
    fn each_filter_is_a_condition() {
        let filters: [fn(&mut Query); 18] = [
            |query| query.from = Some(WallTime::from_millis(0)),
            |query| query.to = Some(WallTime::from_millis(0)),
            |query| query.extension = Some("1".to_owned()),
            |query| query.agentid = Some("1".to_owned()),
            |query| query.party = Some("1".to_owned()),
            |query| query.ucid = "00001000011700000001".parse().ok(),
            |query| query.direction = Some(Direction::Inbound),
            |query| query.trunkgroup = Some("1".to_owned()),
            |query| query.vdn = Some("1".to_owned()),
            |query| query.split = Some("1".to_owned()),
            |query| query.tag = Some("a".to_owned()),
            |query| query.scorecard = Some("a".to_owned()),
            |query| query.minscore = Some(1),
            |query| query.maxscore = Some(1),
            |query| query.mindurationms = Some(1),
            |query| query.incomplete = Some(true),
            |query| query.hold = Some(true),
            |query| query.text = Some("a".to_owned()),
        ];
        let mut all = BTreeSet::new();
        for filter in filters {
            let mut query = Query::default();
            filter(&mut query);
            let Statement { sql, .. } = rows(&query, None, 51);
            assert!(sql.contains(" WHERE "), "{query:?}: {sql}");
            all.insert(sql);
        }
        assert_eq!(all.len(), filters.len(), "each is another");
        for (held, condition) in [(true, " WHERE hold "), (false, " WHERE NOT hold ")] {
            let query = Query { hold: Some(held), ..Query::default() };
            assert!(rows(&query, None, 51).sql.contains(condition), "{held}");
        }
    }

    #[test]
    fn letters_that_mean_something_to_like_are_taken_for_themselves() {
        assert_eq!(pattern("50%_a\\b\0"), "%50\\%\\_a\\\\b\u{1a}0%");
    }

    #[test]
    fn times_that_no_recording_has_are_brought_within_what_the_database_knows() {
        assert_eq!(time_of(0), UNIX_EPOCH);
        assert_eq!(time_of(i64::MIN), time_of(-62_135_596_800_000));
        assert_eq!(time_of(i64::MAX), time_of(253_402_300_799_999));
    }

    #[test]
    fn nothing_asked_for_is_no_condition() {
        let statement = rows(&Query::default(), None, 51);
        let sql = "SELECT record::text, site FROM astlogger.recording \
                   ORDER BY started DESC, recordingid DESC LIMIT 51";
        assert_eq!(statement, Statement { sql: sql.to_owned(), values: vec![] });
    }
}
