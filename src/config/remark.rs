//! What is to be said about a configuration: which key, what it holds, what is wrong with it and
//! what to do. Who says it, and whether it stops the start, is decided elsewhere.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Longest piece of a value that a remark repeats, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Where a value was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the file, or nowhere.
    #[default]
    File,
    /// In the environment variable of the key's name in upper case.
    Environment,
    /// On the command line.
    CommandLine,
}

/// One mistake, or one thing worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The key, or the line of the file where no key can be told.
    pub key: String,
    /// Where its value was given.
    pub origin: Origin,
    /// The value as it was written, shortened; absent for secrets and for what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl Remark {
    /// About a key whose value is not shown.
    #[must_use]
    pub fn new(key: &str, wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            origin: Origin::File,
            value: None,
            wrong: wrong.into(),
            remedy: remedy.into(),
        }
    }

    /// Shows what the key holds. Never called for a secret.
    #[must_use]
    pub fn showing(mut self, value: &toml::Value) -> Self {
        let text = match value {
            toml::Value::String(text) => format!("{text:?}"),
            other => other.to_string().replace('\n', " "),
        };
        self.value = Some(shorten(&text));
        self
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{head}…")
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match self.origin {
            Origin::File => {}
            Origin::Environment => write!(f, " (from {})", self.key.to_uppercase())?,
            Origin::CommandLine => f.write_str(" (from the command line)")?,
        }
        write!(f, ": {}; {}", self.wrong, self.remedy)
    }
}

/// A configuration that cannot be used: all that is wrong with it at once.
#[derive(Debug, thiserror::Error)]
#[error("{} of {} cannot be used:{}", count(remarks.len()), file.display(), listed(remarks))]
pub struct ConfigError {
    /// The file that was read.
    pub file: PathBuf,
    /// What is wrong, in the order in which the keys are checked; never empty.
    pub remarks: Vec<Remark>,
}

fn count(number: usize) -> String {
    match number {
        1 => "1 setting".to_owned(),
        _ => format!("{number} settings"),
    }
}

fn listed(remarks: &[Remark]) -> String {
    remarks.iter().map(|remark| format!("\n  {remark}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_names_key_value_mistake_and_remedy() {
        let remark = Remark::new("al_nodeid", "must be a whole number", "write al_nodeid = 1")
            .showing(&toml::Value::String("one".to_owned()));
        assert_eq!(
            remark.to_string(),
            "al_nodeid = \"one\": must be a whole number; write al_nodeid = 1"
        );
        let given = Remark { origin: Origin::Environment, ..remark };
        assert!(given.to_string().starts_with("al_nodeid = \"one\" (from AL_NODEID): "));
    }

    #[test]
    fn a_long_value_is_shortened_and_stays_on_one_line() {
        let value = toml::Value::String(format!("{}\n{}", "a".repeat(40), "b".repeat(4000)));
        let shown = Remark::new("al_datadir", "x", "y").showing(&value).to_string();
        assert!(shown.len() < 100 && !shown.contains('\n'), "{shown}");
    }
}
