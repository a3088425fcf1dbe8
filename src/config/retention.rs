//! For how long recordings are kept: `al_retentiondays`, `retentiondays` of the recording rules, and
//! `[[al_retention]]`. Here keys and kinds of values are checked; what wins is the matter of
//! `crate::retention`.

use std::collections::{BTreeMap, BTreeSet};

use recorder_core::call::pattern::Pattern;

use super::keys;
use super::reader::Reader;
use super::remark::Remark;
use crate::retention::core::{RetentionRules, Special};

/// A century; more is for ever.
const DAYS_MAX: u32 = 36_500;
/// More than this nobody can read any more, and each recording is held against them.
const SPECIAL_MAX: usize = 1_000;
const KEYS: [&str; 4] = ["tag", "extension", "rule", "days"];

pub(super) fn read(reader: &mut Reader) -> RetentionRules {
    let overall = reader.number("al_retentiondays", 0..=DAYS_MAX).filter(|days| *days > 0);
    let by_rule = rule_days(reader);
    let special = tables(reader, "al_retention");
    if special.len() > SPECIAL_MAX {
        let wrong = format!("more than {SPECIAL_MAX} of them");
        reader.refuse("al_retention", wrong, "use ranges of extensions");
        return RetentionRules::default();
    }
    let mut read = Vec::with_capacity(special.len());
    for (number, table) in (1..).zip(&special) {
        let place = format!("al_retention number {number}");
        read.push(SpecialReader { reader, place }.special(table));
    }
    warn_of_unknown_rules(reader, &read);
    RetentionRules { overall, by_rule, special: read }
}

/// A number of days, if it is one.
pub(super) fn days(value: &toml::Value) -> Option<u32> {
    let days = value.as_integer().and_then(|days| u32::try_from(days).ok());
    days.filter(|days| *days <= DAYS_MAX)
}

/// What a number of days must be, and how it is written.
pub(super) const DAYS: (&str, &str) =
    ("a whole number from 0 to 36500; 0 is for ever", "write a number of days, such as 90");

/// `retentiondays` of rules that are well written; the others are refused where rules are read.
fn rule_days(reader: &mut Reader) -> BTreeMap<String, u32> {
    let told = |table: &toml::Value| {
        let name = table.get("name")?.as_str()?.trim().to_owned();
        Some((name, days(table.get("retentiondays")?)?))
    };
    let given = reader.given("al_rule").and_then(|given| given.value.as_array());
    given.into_iter().flatten().filter_map(told).collect()
}

fn tables(reader: &mut Reader, key: &'static str) -> Vec<toml::Value> {
    match reader.given(key).map(|given| given.value.clone()) {
        None => Vec::new(),
        Some(toml::Value::Array(tables)) => tables,
        Some(_) => {
            reader.refuse_value(key, "a list of tables", "begin each with [[al_retention]]");
            Vec::new()
        }
    }
}

/// Reads one of `[[al_retention]]` and says which one a mistake is in.
struct SpecialReader<'a> {
    reader: &'a mut Reader,
    place: String,
}

impl SpecialReader<'_> {
    fn special(&mut self, value: &toml::Value) -> Special {
        let mut special = Special::default();
        let Some(table) = value.as_table() else {
            let remark =
                Remark::new(&self.place, "must be a table", "begin each with [[al_retention]]");
            self.reader.refuse_remark(remark.showing(value));
            return special;
        };
        for (key, value) in table {
            match key.as_str() {
                "days" => match days(value) {
                    Some(days) => special.days = days,
                    None => self.refuse(key, value, DAYS.0, DAYS.1),
                },
                "tag" => special.tag = self.text(key, value),
                "rule" => special.rule = self.text(key, value),
                "extension" => match patterns(value) {
                    Ok(patterns) => special.extension = patterns,
                    Err(wrong) => {
                        self.refuse(key, value, &wrong, "write extension = [\"31001-31050\"]");
                    }
                },
                _ => self.refuse_key(key),
            }
        }
        if !table.contains_key("days") {
            self.lacks("has no days", "add days = 90, or 0 for ever");
        } else if !["tag", "rule", "extension"].iter().any(|key| table.contains_key(*key)) {
            let remedy = "add tag, extension or rule; for all recordings there is al_retentiondays";
            self.lacks("does not say which recordings it is for", remedy);
        }
        special
    }

    fn text(&mut self, key: &str, value: &toml::Value) -> Option<String> {
        let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
        if text.is_none() {
            self.refuse(key, value, "a text", &format!("write {key} = \"…\""));
        }
        text.map(str::to_owned)
    }

    fn refuse(&mut self, key: &str, value: &toml::Value, must_be: &str, remedy: &str) {
        let place = format!("{}, {key}", self.place);
        let remark = Remark::new(&place, format!("must be {must_be}"), remedy);
        self.reader.refuse_remark(remark.showing(value));
    }

    /// The value is not shown: a parameter that slipped into a table may be a password.
    fn refuse_key(&mut self, key: &str) {
        let remedy = match keys::find(key) {
            Some(_) => "move it above the first heading: what follows a heading belongs to it",
            None => match keys::nearest(key, KEYS) {
                Some(meant) => &format!("did you mean {meant}?"),
                None => &format!("it has {}", KEYS.join(", ")),
            },
        };
        let place = format!("{}, {key}", self.place);
        self.reader.refuse_remark(Remark::new(&place, "no key of al_retention", remedy));
    }

    fn lacks(&mut self, wrong: &str, remedy: &str) {
        self.reader.refuse_remark(Remark::new(&self.place, wrong, remedy));
    }
}

/// A list of numbers, ranges and prefixes, or one alone.
fn patterns(value: &toml::Value) -> Result<Vec<Pattern>, String> {
    let items = match value {
        toml::Value::Array(items) if !items.is_empty() => items.as_slice(),
        toml::Value::Array(_) => return Err("a list that is not empty".to_owned()),
        one => std::slice::from_ref(one),
    };
    let pattern = |item: &toml::Value| match item {
        toml::Value::String(text) => {
            text.parse().map_err(|wrong| format!("a pattern: one {wrong}"))
        }
        toml::Value::Integer(number) if *number >= 0 => Ok(Pattern::Exact(number.to_string())),
        _ => Err("a list of texts".to_owned()),
    };
    items.iter().map(pattern).collect()
}

/// A rule that was renamed would silently let go what it was to keep.
fn warn_of_unknown_rules(reader: &mut Reader, special: &[Special]) {
    let given = reader.given("al_rule").and_then(|given| given.value.as_array());
    let names: BTreeSet<String> = given
        .into_iter()
        .flatten()
        .filter_map(|table| Some(table.get("name")?.as_str()?.trim().to_owned()))
        .collect();
    for rule in special.iter().filter_map(|special| special.rule.as_ref()) {
        if !names.contains(rule) {
            let wrong = format!("no al_rule has the name {rule:?} now");
            reader.warn(
                "al_retention",
                wrong,
                "right if older recordings were made by it; else mend the name",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn read_text(text: &str) -> (RetentionRules, Vec<String>, Vec<String>) {
        let mut reader = Reader::new(&Source { text: text.to_owned(), ..Source::default() });
        let rules = read(&mut reader);
        let (wrong, warned) = reader.finish();
        let lines = |remarks: Vec<Remark>| remarks.iter().map(ToString::to_string).collect();
        (rules, lines(wrong), lines(warned))
    }

    #[test]
    fn days_are_read_for_all_for_rules_and_for_tags_and_stations() {
        let text = "al_retentiondays = 365\n\
            [[al_rule]]\nname = \"sales\"\nretentiondays = 30\n[[al_rule]]\nname = \"rest\"\n\
            [[al_retention]]\ntag = \"complaint\"\ndays = 0\n\
            [[al_retention]]\nextension = [\"31001-31050\", 3190]\nrule = \"sales\"\ndays = 90\n";
        let (rules, wrong, warned) = read_text(text);
        assert_eq!((wrong, warned), (Vec::new(), Vec::new()));
        assert_eq!(
            (rules.overall, rules.by_rule["sales"], rules.by_rule.len()),
            (Some(365), 30, 1)
        );
        let [tag, stations] = &rules.special[..] else { panic!("{rules:?}") };
        assert_eq!((tag.tag.as_deref(), tag.days), (Some("complaint"), 0));
        assert_eq!((stations.rule.as_deref(), stations.days), (Some("sales"), 90));
        assert!(stations.extension.iter().any(|pattern| pattern.matches("31020")));
        assert!(stations.extension.iter().any(|pattern| pattern.matches("3190")));
        assert_eq!(read_text("al_retentiondays = 0").0, RetentionRules::default());
    }

    #[test]
    fn each_mistake_names_the_table_and_the_key() {
        for (body, parts) in [
            ("tag = \"x\"", &["al_retention number 1: has no days"][..]),
            ("days = 9", &["does not say which recordings"]),
            ("tag = \"x\"\ndays = -1", &["al_retention number 1, days = -1", "0 to 36500"]),
            ("tag = \"x\"\ndays = \"9\"", &["0 is for ever"]),
            ("tag = 5\ndays = 9", &["number 1, tag = 5: must be a text"]),
            ("extension = [\"4*0\"]\ndays = 9", &["number 1, extension", "4*0"]),
            ("extension = []\ndays = 9", &["not empty"]),
            ("tags = \"x\"\nrule = \"a\"\ndays = 9", &["did you mean tag?"]),
            ("tag = \"x\"\ndays = 9\nal_listen = \"y\"", &["al_listen", "above the first heading"]),
        ] {
            let (_, wrong, _) = read_text(&format!("[[al_retention]]\n{body}"));
            assert_eq!(wrong.len(), 1, "{body}: {wrong:?}");
            for part in parts {
                assert!(wrong[0].contains(part), "{body}: {part} is not in {}", wrong[0]);
            }
        }
        assert!(read_text("al_retention = 5").1[0].contains("[[al_retention]]"));
        assert!(read_text("al_retention = [5]").1[0].contains("must be a table"));
        let (_, wrong, warned) = read_text("[[al_retention]]\nrule = \"gone\"\ndays = 9");
        assert!(wrong.is_empty() && warned[0].contains("gone"), "{warned:?}");
    }
}
