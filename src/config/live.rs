//! The parameters that change while a node runs: which they are, and from text to a checked value,
//! by the same rules as the file's. What a change does is decided by those who take it.

use std::time::Duration;

use storage_core::Role;

use super::keys::{self, KEYS};
use super::reader::Reader;
use super::recorder::{read_follow, read_maxparties, read_rescue};
use super::remark::{Origin, Remark};
use super::source::Source;
use super::{Recorder, read_role};

/// A parameter with a new value that a running node can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveSetting {
    /// `al_serverrole`. The group agrees on it.
    Role(Role),
    /// `al_rescuems`.
    Rescue(Duration),
    /// `al_followms`.
    Follow(Duration),
    /// `al_maxparties`.
    MaxParties(u32),
}

/// What trigger and rescue go by, watched by those who need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveValues {
    /// `al_rescuems`.
    pub rescue: Duration,
    /// `al_followms`.
    pub follow: Duration,
    /// `al_maxparties`.
    pub max_parties: u32,
}

/// Why a parameter cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such parameter.
    #[error("there is no parameter {key}; {}", meant(*.nearest))]
    Unknown {
        /// What was written.
        key: String,
        /// What was most likely meant.
        nearest: Option<&'static str>,
    },
    /// It is read at a start only.
    #[error(
        "{0} does not change while the node runs; write it into the configuration file and restart \
         the node"
    )]
    Restart(&'static str),
    /// A node has or has not what it takes to record.
    #[error(
        "a node becomes a witness, or ceases to be one, by a restart only; write al_serverrole \
         into the configuration file and restart the node"
    )]
    Witness,
    /// The value cannot be.
    #[error("{0}")]
    Value(Remark),
}

fn meant(nearest: Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`show params` lists all".to_owned(),
    }
}

impl LiveSetting {
    /// The parameters that change while a node runs.
    pub const KEYS: [&'static str; 4] =
        ["al_serverrole", "al_rescuems", "al_followms", "al_maxparties"];

    /// Reads a new value.
    ///
    /// # Errors
    /// `Unknown`, `Restart`, `Witness` and `Value`, each with what to do.
    pub fn read(name: &str, text: &str) -> Result<Self, SetError> {
        let Some(key) = keys::find(name) else {
            let nearest = keys::nearest(name, KEYS.iter().map(|key| key.name));
            return Err(SetError::Unknown { key: name.to_owned(), nearest });
        };
        let source = Source {
            environment: vec![(key.name.to_uppercase(), text.to_owned())],
            ..Source::default()
        };
        let mut reader = Reader::new(&source);
        let setting = match key.name {
            "al_serverrole" => Self::Role(read_role(&mut reader)),
            "al_rescuems" => Self::Rescue(read_rescue(&mut reader)),
            "al_followms" => Self::Follow(read_follow(&mut reader)),
            "al_maxparties" => Self::MaxParties(read_maxparties(&mut reader).unwrap_or_default()),
            other => return Err(SetError::Restart(other)),
        };
        if text.trim().is_empty() {
            let remark = Remark::new(key.name, "has no value", "write the value after the name");
            return Err(SetError::Value(remark));
        }
        let (wrong, _) = reader.finish();
        match wrong.into_iter().next() {
            // It was not given in the environment: that was our way to the reader.
            Some(remark) => Err(SetError::Value(Remark { origin: Origin::File, ..remark })),
            None if setting == Self::Role(Role::Witness) => Err(SetError::Witness),
            None => Ok(setting),
        }
    }

    /// The parameter's name.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Role(_) => "al_serverrole",
            Self::Rescue(_) => "al_rescuems",
            Self::Follow(_) => "al_followms",
            Self::MaxParties(_) => "al_maxparties",
        }
    }

    /// The value in the file's terms.
    #[must_use]
    pub fn value(self) -> toml::Value {
        let number = |number: u128| toml::Value::Integer(number.try_into().unwrap_or(i64::MAX));
        match self {
            Self::Role(role) => role.as_str().into(),
            Self::Rescue(span) | Self::Follow(span) => number(span.as_millis()),
            Self::MaxParties(parties) => number(parties.into()),
        }
    }
}

impl LiveValues {
    /// What the configuration says.
    #[must_use]
    pub const fn of(recorder: &Recorder) -> Self {
        Self { rescue: recorder.rescue, follow: recorder.follow, max_parties: recorder.maxparties }
    }

    /// Takes a new value over; false if it is none of these.
    pub const fn take(&mut self, setting: LiveSetting) -> bool {
        match setting {
            LiveSetting::Rescue(span) => self.rescue = span,
            LiveSetting::Follow(span) => self.follow = span,
            LiveSetting::MaxParties(parties) => self.max_parties = parties,
            LiveSetting::Role(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_the_rules_of_the_file() {
        for (key, text, expected) in [
            ("al_serverrole", "backup", LiveSetting::Role(Role::Backup)),
            ("al_rescuems", "300", LiveSetting::Rescue(Duration::from_millis(300))),
            ("al_rescuems", "1 s", LiveSetting::Rescue(Duration::from_secs(1))),
            ("al_followms", "0", LiveSetting::Follow(Duration::ZERO)),
            ("al_maxparties", "5", LiveSetting::MaxParties(5)),
        ] {
            let setting = LiveSetting::read(key, text).unwrap();
            assert_eq!((setting, setting.key()), (expected, key), "{key} {text}");
        }
    }

    #[test]
    fn what_cannot_be_set_says_why_and_what_to_do() {
        for (key, text, told) in [
            ("al_rescuem", "300", "there is no parameter al_rescuem; did you mean al_rescuems?"),
            ("colour", "red", "there is no parameter colour; `show params` lists all"),
            ("al_listen", "127.0.0.1:1", "al_listen does not change while the node runs; write"),
            ("al_aespassword", "hunter2", "al_aespassword does not change while the node runs"),
            ("al_rescuems", "5", "al_rescuems = 5: must be from 10 ms to 60000 ms; choose"),
            ("al_rescuems", "soon", "al_rescuems = \"soon\": must be a span of time"),
            ("al_maxparties", "2", "al_maxparties = 2: must be a whole number from 3 to 64"),
            ("al_maxparties", "", "al_maxparties: has no value; write"),
            ("al_serverrole", "activ", "did you mean \"active\"?"),
            ("al_serverrole", "", "al_serverrole: has no value"),
            ("al_serverrole", "witness", "by a restart only"),
        ] {
            let error = LiveSetting::read(key, text).unwrap_err().to_string();
            assert!(error.contains(told), "{key} {text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("environment"), "{error}");
        }
    }

    #[test]
    fn every_live_parameter_is_one() {
        for key in LiveSetting::KEYS {
            assert!(!matches!(LiveSetting::read(key, "x"), Err(SetError::Restart(_))), "{key}");
        }
    }
}
