//! `[[al_rule]]`: recording rules from the file's tables. Here their keys and the kinds of values
//! are checked; names, percentages and patterns are the matcher's matter
//! (`recorder_core::call::rule`).

use recorder_core::call::rule::{RecordMode, RuleConfig, RuleError, Rules};
use storage_core::record::Direction;

use super::keys;
use super::reader::{Reader, choice};
use super::remark::Remark;
use super::retention;

/// More rules than this nobody can read any more, and each call is held against them.
const RULES_MAX: usize = 1_000;
/// Patterns in one list of one rule.
const PATTERNS_MAX: usize = 1_000;
const KEYS: [&str; 11] = [
    "name",
    "record",
    "percent",
    "retentiondays",
    "extension",
    "agentid",
    "vdn",
    "skill",
    "trunkgroup",
    "direction",
    "party",
];
const RECORD_WORDS: [(&str, RecordMode); 4] = [
    ("always", RecordMode::Always),
    ("percent", RecordMode::Percent),
    ("ondemand", RecordMode::OnDemand),
    ("never", RecordMode::Never),
];
const DIRECTIONS: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Internal];

pub(super) fn read(reader: &mut Reader) -> Rules {
    let tables = match reader.given("al_rule").map(|given| given.value.clone()) {
        None => return Rules::default(),
        Some(toml::Value::Array(tables)) if tables.len() <= RULES_MAX => tables,
        Some(toml::Value::Array(_)) => {
            reader.refuse("al_rule", format!("more than {RULES_MAX} rules"), "use ranges");
            return Rules::default();
        }
        Some(_) => {
            reader.refuse_value("al_rule", "a list of tables", "begin each rule with [[al_rule]]");
            return Rules::default();
        }
    };
    let told = reader.mistakes();
    let configs: Vec<_> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| RuleReader { reader, place: place(index, table) }.rule(table))
        .collect();
    if reader.mistakes() > told {
        return Rules::default();
    }
    Rules::read(&configs).unwrap_or_else(|errors| {
        errors.into_iter().for_each(|error| refuse(reader, error));
        Rules::default()
    })
}

/// How a rule is named in a remark.
fn place(index: usize, table: &toml::Value) -> String {
    match table.get("name").and_then(toml::Value::as_str) {
        Some(name) => format!("al_rule {name:?}"),
        None => format!("al_rule number {}", index + 1),
    }
}

fn refuse(reader: &mut Reader, error: RuleError) {
    let remark = match error {
        RuleError::NoName { number } => Remark::new(
            &format!("al_rule number {number}"),
            "has no name",
            "add name = \"…\", which recordings will show",
        ),
        RuleError::SameName { name } => {
            let place = format!("al_rule {name:?}");
            Remark::new(&place, "is there twice", "give each rule its own name")
        }
        RuleError::Percent { name } => Remark::new(
            &format!("al_rule {name:?}, percent"),
            "belongs to record = \"percent\", from 0 to 100, and to no other rule",
            "give it to each rule with record = \"percent\", and take it from all others",
        ),
        RuleError::Pattern { name, key, error } => Remark::new(
            &format!("al_rule {name:?}, {key}"),
            error.to_string(),
            "give numbers, ranges such as \"31001-31050\" or prefixes such as \"85*\"",
        ),
    };
    reader.refuse_remark(remark);
}

/// Reads one rule and says which one a mistake is in.
struct RuleReader<'a> {
    reader: &'a mut Reader,
    place: String,
}

impl RuleReader<'_> {
    fn rule(&mut self, value: &toml::Value) -> RuleConfig {
        let mut rule = RuleConfig::default();
        let Some(table) = value.as_table() else {
            let place = self.place.clone();
            let remedy = "begin each rule with [[al_rule]]";
            self.reader
                .refuse_remark(Remark::new(&place, "must be a table", remedy).showing(value));
            return rule;
        };
        for (key, value) in table {
            match key.as_str() {
                "name" => rule.name = self.text(key, value),
                "record" => rule.record = self.word(key, value, &RECORD_WORDS),
                "percent" => rule.percent = self.percent(value),
                // What it is for is read with the other settings of retention.
                "retentiondays" => {
                    if retention::days(value).is_none() {
                        self.refuse(key, value, retention::DAYS.0, retention::DAYS.1);
                    }
                }
                "direction" => rule.direction = self.directions(key, value),
                "extension" => rule.extension = self.texts(key, value),
                "agentid" => rule.agentid = self.texts(key, value),
                "vdn" => rule.vdn = self.texts(key, value),
                "skill" => rule.skill = self.texts(key, value),
                "trunkgroup" => rule.trunkgroup = self.texts(key, value),
                "party" => rule.party = self.texts(key, value),
                _ => self.refuse_key(key),
            }
        }
        rule
    }

    fn refuse(&mut self, key: &str, value: &toml::Value, must_be: &str, remedy: &str) {
        let remark =
            Remark::new(&format!("{}, {key}", self.place), format!("must be {must_be}"), remedy);
        self.reader.refuse_remark(remark.showing(value));
    }

    /// The value is not shown: a parameter that slipped into a rule may be a password.
    fn refuse_key(&mut self, key: &str) {
        let remedy = match keys::find(key) {
            Some(_) => "move it above the first [[al_rule]]: what follows a heading belongs to it",
            None => match keys::nearest(key, KEYS) {
                Some(meant) => &format!("did you mean {meant}?"),
                None => &format!("a rule has {}", KEYS.join(", ")),
            },
        };
        let remark = Remark::new(&format!("{}, {key}", self.place), "no key of a rule", remedy);
        self.reader.refuse_remark(remark);
    }

    fn text(&mut self, key: &str, value: &toml::Value) -> String {
        match value.as_str() {
            Some(text) => text.trim().to_owned(),
            None => {
                self.refuse(key, value, "a text", &format!("write {key} = \"…\""));
                String::new()
            }
        }
    }

    fn word<T: Copy + Default>(
        &mut self,
        key: &str,
        value: &toml::Value,
        words: &[(&str, T)],
    ) -> T {
        let written = value.as_str().unwrap_or_default();
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == written) {
            return *found;
        }
        let (must_be, remedy) = choice(written, words.iter().map(|(word, _)| *word));
        self.refuse(key, value, &must_be, &remedy);
        T::default()
    }

    fn percent(&mut self, value: &toml::Value) -> Option<u8> {
        let percent = value.as_integer().and_then(|percent| u8::try_from(percent).ok());
        if percent.is_none_or(|percent| percent > 100) {
            self.refuse("percent", value, "a whole number from 0 to 100", "write percent = 20");
        }
        percent
    }

    fn directions(&mut self, key: &str, value: &toml::Value) -> Vec<Direction> {
        let words = DIRECTIONS.map(|direction| (direction.as_str(), direction));
        let texts = self.texts(key, value);
        texts.into_iter().map(|text| self.word(key, &toml::Value::String(text), &words)).collect()
    }

    /// A list, or one text alone. Numbers count as texts, because TOML refuses leading zeros itself.
    fn texts(&mut self, key: &str, value: &toml::Value) -> Vec<String> {
        let items = match value {
            toml::Value::Array(items) if items.len() <= PATTERNS_MAX => items.as_slice(),
            toml::Value::Array(_) => {
                let must_be = format!("a list of {PATTERNS_MAX} entries at most");
                self.refuse(key, value, &must_be, "use ranges and prefixes");
                return Vec::new();
            }
            one => std::slice::from_ref(one),
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                toml::Value::String(text) => texts.push(text.trim().to_owned()),
                toml::Value::Integer(number) if *number >= 0 => texts.push(number.to_string()),
                _ => {
                    self.refuse(key, value, "a list of texts", &format!("write {key} = [\"…\"]"));
                    return Vec::new();
                }
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use recorder_core::call::rule::RuleFacts;

    use super::super::source::Source;
    use super::*;

    fn read_text(text: &str) -> Result<Rules, Vec<String>> {
        let mut reader = Reader::new(&Source { text: text.to_owned(), ..Source::default() });
        let rules = read(&mut reader);
        let (wrong, _) = reader.finish();
        if wrong.is_empty() {
            Ok(rules)
        } else {
            Err(wrong.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let rules = read_text(
            "[[al_rule]]\nname = \"board\"\nrecord = \"never\"\nextension = \"3190-3199\"\n\
             [[al_rule]]\nname = \"some\"\nrecord = \"percent\"\npercent = 20\n\
             direction = [\"outbound\"]\nvdn = [4000]\n[[al_rule]]\nname = \"rest\"",
        )
        .unwrap();
        let decide = |facts: &RuleFacts| rules.decide(facts);
        let board = RuleFacts { extensions: vec!["3195".to_owned()], ..RuleFacts::default() };
        assert_eq!((decide(&board).record, decide(&board).rule.as_str()), (false, "board"));
        let some = RuleFacts {
            direction: Direction::Outbound,
            vdn: "4000".to_owned(),
            lot: 19,
            ..RuleFacts::default()
        };
        assert_eq!((decide(&some).record, decide(&some).rule.as_str()), (true, "some"));
        assert!(!decide(&RuleFacts { lot: 20, ..some }).record);
        assert_eq!(decide(&RuleFacts::default()).rule, "rest");
        assert!(decide(&RuleFacts::default()).record);
    }

    #[test]
    fn each_mistake_names_the_rule_and_the_key() {
        for (body, parts) in [
            ("name = 5", &["al_rule number 1, name = 5: must be a text"][..]),
            ("", &["al_rule number 1: has no name"]),
            ("name = \"a\"\nrecord = \"allways\"", &["al_rule \"a\", record", "\"always\"?"]),
            ("name = \"a\"\nrecord = 1", &["one of always, percent, ondemand, never"]),
            ("name = \"a\"\nrecord = \"percent\"", &["al_rule \"a\", percent"]),
            ("name = \"a\"\npercent = 5", &["al_rule \"a\", percent", "no other rule"]),
            ("name = \"a\"\npercent = 101", &["percent = 101", "0 to 100"]),
            ("name = \"a\"\nretentiondays = 1.5", &["retentiondays = 1.5", "0 to 36500"]),
            ("name = \"a\"\nextensions = [\"1\"]", &["did you mean extension?"]),
            ("name = \"a\"\nal_listen = \"x\"", &["al_listen", "above the first [[al_rule]]"]),
            ("name = \"a\"\nvdn = [\"4*0\"]", &["al_rule \"a\", vdn", "4*0"]),
            ("name = \"a\"\nvdn = [\"40-39\"]", &["al_rule \"a\", vdn", "40-39"]),
            ("name = \"a\"\nvdn = [1.5]", &["al_rule \"a\", vdn = [1.5]", "list of texts"]),
            ("name = \"a\"\ndirection = [\"in\"]", &["one of inbound, outbound, internal"]),
            ("name = \"a\"\n[[al_rule]]\nname = \"a\"", &["al_rule \"a\": is there twice"]),
        ] {
            let told = read_text(&format!("[[al_rule]]\n{body}")).unwrap_err();
            assert_eq!(told.len(), 1, "{body}: {told:?}");
            for part in parts {
                assert!(told[0].contains(part), "{body}: \"{part}\" is not in: {}", told[0]);
            }
        }
        assert!(read_text("al_rule = 5").unwrap_err()[0].contains("[[al_rule]]"));
        assert!(read_text("al_rule = [5]").unwrap_err()[0].contains("[[al_rule]]"));
        let secret = "[[al_rule]]\nname = \"a\"\nal_aespassword = \"hunter2\"";
        assert!(!read_text(secret).unwrap_err()[0].contains("hunter2"));
    }

    #[test]
    fn mistakes_of_several_rules_are_told_at_once() {
        let text =
            "[[al_rule]]\nname = \"a\"\nrecord = 1\n[[al_rule]]\nname = \"b\"\nvdn = [[]]\nx = 1";
        assert_eq!(read_text(text).unwrap_err().len(), 3);
        let many = "[[al_rule]]\n".repeat(RULES_MAX + 1);
        assert_eq!(read_text(&many).unwrap_err().len(), 1);
    }
}
