//! Where values come from: the file, the environment above it, the command line above both. It
//! refuses unknown names and hands on one value a key; what a value means is not its matter.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::keys::{self, KEYS, Kind};
use super::remark::{Origin, Remark};

/// Everything a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Name of the file, for messages.
    pub file: PathBuf,
    /// The file's text.
    pub text: String,
    /// Whether other users of this machine may read the file.
    pub others_may_read: bool,
    /// The environment; only names that begin with `AL_` are looked at.
    pub environment: Vec<(String, String)>,
    /// `--role`, above everything else.
    pub role: Option<String>,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
}

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The value, in the file's terms.
    pub(super) value: toml::Value,
    /// Where from.
    pub(super) origin: Origin,
}

/// One value a key, and what was wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// The values by key.
    pub(super) by_key: BTreeMap<&'static str, Given>,
    /// Mistakes.
    pub(super) wrong: Vec<Remark>,
    /// Things worth knowing.
    pub(super) warnings: Vec<Remark>,
}

impl Values {
    /// Puts the sources over each other.
    pub(super) fn gather(source: &Source) -> Self {
        let mut values = Self::default();
        values.read_file(&source.text);
        values.read_environment(&source.environment);
        if let Some(role) = &source.role {
            let value = toml::Value::String(role.clone());
            values.by_key.insert("al_serverrole", Given { value, origin: Origin::CommandLine });
        }
        values
    }

    fn read_file(&mut self, text: &str) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => return self.wrong.push(syntax_remark(text, &error)),
        };
        for (name, value) in table {
            match keys::find(&name) {
                Some(key) => {
                    self.by_key.insert(key.name, Given { value, origin: Origin::File });
                }
                None => self.wrong.push(unknown_remark(&name, &value)),
            }
        }
    }

    fn read_environment(&mut self, environment: &[(String, String)]) {
        for (variable, text) in environment {
            if !variable.starts_with("AL_") || keys::OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let name = variable.to_lowercase();
            let Some(key) = keys::find(&name) else {
                self.warnings.push(unknown_variable(variable, &name));
                continue;
            };
            let value = from_text(key.kind, text);
            self.by_key.insert(key.name, Given { value, origin: Origin::Environment });
        }
    }
}

/// A text in the terms of the file. What does not fit stays a text, and the reader of the key says
/// what it should have been.
fn from_text(kind: Kind, text: &str) -> toml::Value {
    let text = text.trim();
    let as_written = || toml::Value::String(text.to_owned());
    match kind {
        Kind::Text | Kind::Secret => as_written(),
        Kind::Number | Kind::Measure => {
            text.parse().map_or_else(|_| as_written(), toml::Value::Integer)
        }
        Kind::Flag => text.parse().map_or_else(|_| as_written(), toml::Value::Boolean),
        Kind::List | Kind::Rules if text.starts_with('[') => format!("value = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(as_written),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            toml::Value::Array(items.map(|item| item.to_owned().into()).collect())
        }
        Kind::Rules => as_written(),
    }
}

fn unknown_remark(name: &str, value: &toml::Value) -> Remark {
    let wrong = if value.is_table() { "there are no sections" } else { "there is no such key" };
    let remedy = match keys::nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(meant) => format!("did you mean {meant}?"),
        None if value.is_table() => {
            "keys stand at the top of the file; only [[al_rule]] and [[al_retention]] are headings"
                .to_owned()
        }
        None => "remove it, or see the list of keys in the manual".to_owned(),
    };
    Remark::new(name, wrong, remedy)
}

fn unknown_variable(variable: &str, name: &str) -> Remark {
    let remedy = match keys::nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(meant) => format!("did you mean {}?", meant.to_uppercase()),
        None => "unset it if it was meant for AstLogger".to_owned(),
    };
    Remark::new(variable, "this environment variable names no parameter and is ignored", remedy)
}

/// What the parser found, without its picture of the line, which may hold a password.
fn syntax_remark(text: &str, error: &toml::de::Error) -> Remark {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let written = text.lines().nth(line - 1).unwrap_or_default();
    let name = written.split('=').next().unwrap_or_default().trim();
    let place = match keys::find(name) {
        Some(key) => format!("{} (line {line}, column {column})", key.name),
        None => format!("line {line}, column {column}"),
    };
    // The parser quotes no values in its message, only names and what it expected.
    Remark::new(&place, error.message().replace('\n', ", "), "mend the line; it must be TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &str, environment: &[(&str, &str)]) -> Values {
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Values::gather(&Source { text: text.to_owned(), environment, ..Source::default() })
    }

    #[test]
    fn each_kind_of_text_becomes_what_the_file_would_have_held() {
        for (kind, text, value) in [
            (Kind::Number, " 7 ", "7"),
            (Kind::Number, "seven", "\"seven\""),
            (Kind::Flag, "true", "true"),
            (Kind::Flag, "yes", "\"yes\""),
            (Kind::Measure, "300", "300"),
            (Kind::Measure, "5 min", "\"5 min\""),
            (Kind::List, "3100, 3101,", "[\"3100\", \"3101\"]"),
            (Kind::List, "[\"3100\"]", "[\"3100\"]"),
            (Kind::List, "", "[]"),
            (Kind::Rules, "[{name = \"a\"}]", "[{ name = \"a\" }]"),
            (Kind::Text, "10", "\"10\""),
        ] {
            assert_eq!(from_text(kind, text).to_string(), value, "{kind:?} {text}");
        }
    }

    #[test]
    fn the_command_line_stands_above_the_environment_above_the_file() {
        let mut source = Source { text: "al_serverrole = \"active\"".into(), ..Source::default() };
        let origin = |source: &Source| Values::gather(source).by_key["al_serverrole"].origin;
        assert_eq!(origin(&source), Origin::File);
        source.environment = vec![("AL_SERVERROLE".into(), "backup".into())];
        assert_eq!(origin(&source), Origin::Environment);
        source.role = Some("parallel".into());
        assert_eq!(origin(&source), Origin::CommandLine);
    }

    #[test]
    fn all_unknown_names_are_refused_at_once_with_the_nearest() {
        let values = gather("al_nodid = 1\nal_colour = 2\n[storage]\nx = 1\n", &[]);
        let told: Vec<_> = values.wrong.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|line| line.contains("did you mean al_nodeid?")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("no sections")), "{told:?}");
    }

    #[test]
    fn a_variable_that_names_nothing_is_a_warning() {
        let values = gather("", &[("AL_SERVERROL", "backup"), ("AL_LOG", "debug"), ("HOME", "/")]);
        assert_eq!(values.warnings.len(), 1);
        assert!(values.warnings[0].to_string().contains("did you mean AL_SERVERROLE?"));
        assert!(values.by_key.is_empty() && values.wrong.is_empty());
    }

    #[test]
    fn a_syntax_error_names_its_place_and_shows_no_password() {
        let values = gather("al_nodeid = 1\nal_aespassword = \"hunter2\nal_peers = []\n", &[]);
        let told = values.wrong[0].to_string();
        assert!(told.starts_with("al_aespassword (line 2, column "), "{told}");
        for text in ["al_aespassword = hunter2", "al_aespassword = 'hunter2' hunter2", "hunter2"] {
            let values = gather(text, &[]);
            let told = values.wrong.iter().map(ToString::to_string).collect::<String>();
            assert!(
                !told.is_empty() && !told.replace("hunter2 =", "").contains("unter2"),
                "{told}"
            );
        }
    }
}
