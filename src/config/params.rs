//! All parameters as they were given, for people who look at a running node. Secrets are not in it.

use super::keys::{KEYS, Kind};
use super::reader::Reader;
use super::remark::Origin;

/// Longest value that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// What is shown of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It was left out: the default holds.
    Default,
    /// It is a secret.
    Hidden,
    /// It was given so.
    Value(String),
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub shown: Shown,
    /// Where it was given.
    pub origin: Origin,
}

/// All parameters, and the recording rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// The parameters, in the order of the manual.
    pub all: Vec<Param>,
    /// The rules, a line each.
    pub rules: Vec<String>,
}

impl Params {
    pub(super) fn of(reader: &Reader) -> Self {
        let plain = KEYS.iter().filter(|key| key.kind != Kind::Rules);
        let all = plain.map(|key| {
            let given = reader.given(key.name);
            let shown = match given {
                None => Shown::Default,
                Some(_) if key.kind == Kind::Secret => Shown::Hidden,
                Some(given) => Shown::Value(on_one_line(&given.value)),
            };
            let origin = given.map(|given| given.origin).unwrap_or_default();
            Param { name: key.name, shown, origin }
        });
        let rules = reader.given("al_rule").and_then(|given| given.value.as_array());
        Self { all: all.collect(), rules: rules.into_iter().flatten().map(rule_line).collect() }
    }
}

fn rule_line(rule: &toml::Value) -> String {
    let Some(table) = rule.as_table() else { return on_one_line(rule) };
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    let rest = table.iter().filter(|(key, _)| !["name", "record"].contains(&key.as_str()));
    let mut line = format!(
        "{:?} record {}",
        text("name").unwrap_or_default(),
        text("record").unwrap_or("always")
    );
    for (key, value) in rest {
        line += &format!(", {key} = {}", on_one_line(value));
    }
    line
}

fn on_one_line(value: &toml::Value) -> String {
    let text = value.to_string().replace(['\n', '\r'], " ");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn values_are_shown_and_secrets_are_not() {
        let text = "al_nodeid = 2\nal_aespassword = \"hunter2\"\nal_stations = [\n\"3100\",\n]\n\
            [[al_rule]]\nname = \"board\"\nrecord = \"never\"\nextension = [\"3190\"]\n";
        let environment = vec![("AL_RESCUEMS".to_owned(), "300".to_owned())];
        let source = Source { text: text.to_owned(), environment, ..Source::default() };
        let params = Params::of(&Reader::new(&source));
        let shown = |name: &str| params.all.iter().find(|param| param.name == name).unwrap();
        assert_eq!(shown("al_nodeid").shown, Shown::Value("2".to_owned()));
        assert_eq!(shown("al_stations").shown, Shown::Value("[\"3100\"]".to_owned()));
        assert_eq!(shown("al_listen").shown, Shown::Default);
        assert_eq!(shown("al_rescuems").origin, Origin::Environment);
        assert_eq!(params.rules, ["\"board\" record never, extension = [\"3190\"]"]);
        assert!(!format!("{params:?}").contains("hunter2"));
    }
}
