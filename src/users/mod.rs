//! Users of the web interface: what a user is, what a users file may say, and whether a password
//! is his. Who may do what is decided where it is asked for (`web::protocol`).
//!
//! The file is TOML, one table a user:
//!
//! ```toml
//! [[user]]
//! name = "anna"
//! role = "agent"
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."
//! extension = "2611"
//! team = "billing"
//!
//! [[team]]
//! name = "billing"
//! extensions = ["2600-2699", "2711"]
//! ```
//!
//! Who has a team sees its recordings and calls only; of a team that the file does not have, nothing.

mod file;
mod password;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use storage_core::{Extension, Scope};

pub use file::{add, list, remove};
pub use password::PasswordHash;

/// What a user is, and so what he may do (interface, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum UserRole {
    /// Starts and stops the recordings of his own calls.
    Agent,
    /// Sees calls in progress, starts and stops recordings, searches and fetches.
    Supervisor,
    /// Searches, fetches and tags.
    Qa,
    /// Reads the audit log.
    Auditor,
    /// Holds and deletes recordings.
    Admin,
}

impl UserRole {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Agent, Self::Supervisor, Self::Qa, Self::Auditor, Self::Admin];

    /// The word that people write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Qa => "qa",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for UserRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole { word: clipped(text) })
    }
}

impl TryFrom<String> for UserRole {
    type Error = UnknownRole;

    fn try_from(text: String) -> Result<Self, UnknownRole> {
        text.parse()
    }
}

impl From<UserRole> for &'static str {
    fn from(role: UserRole) -> Self {
        role.as_str()
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRole {
    word: String,
}

impl std::error::Error for UnknownRole {}

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown role `{}`; roles are agent, supervisor, qa, auditor, admin", self.word)?;
        let word = self.word.to_ascii_lowercase();
        let nearest = UserRole::ALL
            .into_iter()
            .map(|role| (strsim::damerau_levenshtein(&word, role.as_str()), role))
            .min_by_key(|(distance, _)| *distance);
        match nearest {
            Some((distance, role)) if distance <= 3 && distance < role.as_str().len() => {
                write!(f, "; did you mean `{role}`?")
            }
            _ => Ok(()),
        }
    }
}

/// A user as the file has him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What he signs in with; compared letter by letter.
    pub name: String,
    /// What he may do.
    pub role: UserRole,
    /// Proof of his password.
    pub password: PasswordHash,
    /// The station he works at; ties an agent to his calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The team he belongs to, whose recordings and calls are all he sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// A team as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// What users name it by.
    pub name: String,
    /// Its stations: extensions and ranges, as in `al_stations`.
    pub extensions: Vec<String>,
}

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest password, in bytes: hashing a megabyte would be an attack.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Why a users file cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read users file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written. The old one stays as it was.
    #[error("cannot write users file {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("users file {} is wrong: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What TOML or a field says.
        reason: String,
    },
    /// Two users of one name.
    #[error("user `{0}` is there already; remove him first, or choose another name")]
    Duplicate(String),
    /// Nobody of this name.
    #[error("no user `{0}`; `user list` shows who there is")]
    NoSuchUser(String),
    /// A name that cannot be one.
    #[error("`{0}` cannot be a user's name: 1 to 64 bytes without spaces and control characters")]
    BadName(String),
    /// An extension that cannot be dialled.
    #[error("`{0}` cannot be an extension: 1 to 24 of the characters 0-9, * and #")]
    BadExtension(String),
    /// A team's name that cannot be one.
    #[error("`{0}` cannot be a team's name: 1 to 64 bytes without control characters")]
    BadTeam(String),
    /// Two teams of one name.
    #[error("team `{0}` is there already; put its extensions into one list")]
    DuplicateTeam(String),
    /// A team's stations that cannot be.
    #[error("team `{team}`: {reason}")]
    BadStations {
        /// Which team.
        team: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A password that cannot be one.
    #[error("the password must be one line of 1 to 1024 bytes")]
    BadPassword,
    /// The machine gave no random bytes, or hashing failed.
    #[error("cannot hash a password: {0}")]
    Hash(String),
}

/// All users of one file, checked.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: Vec<User>,
    teams: Vec<Team>,
    scopes: BTreeMap<String, Scope>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    user: Vec<User>,
    #[serde(default)]
    team: Vec<Team>,
}

impl Users {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// `Read` if it cannot be read; the others for what it says.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| UsersError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, UsersError> {
        // The message alone: TOML's own form quotes the line, which may be a password's.
        let file: UsersFile = toml::from_str(text).map_err(|error| UsersError::Syntax {
            path: path.to_owned(),
            reason: located(text, &error),
        })?;
        let mut users = Self::default();
        for user in file.user {
            users.push(user)?;
        }
        for team in file.team {
            users.push_team(team)?;
        }
        Ok(users)
    }

    fn push_team(&mut self, team: Team) -> Result<(), UsersError> {
        check_team(&team.name)?;
        let stations = crate::config::extensions(&team.extensions).map_err(|reason| {
            let (found, remedy) = reason;
            UsersError::BadStations {
                team: clipped(&team.name),
                reason: format!("{found}; {remedy}"),
            }
        })?;
        let scope = Scope::of(stations.into_iter().collect());
        if self.scopes.insert(team.name.clone(), scope).is_some() {
            return Err(UsersError::DuplicateTeam(clipped(&team.name)));
        }
        self.teams.push(team);
        Ok(())
    }

    /// What a user may see.
    #[must_use]
    pub fn scope(&self, user: &User) -> Scope {
        self.scope_of(user.team.as_deref())
    }

    /// What one of this team may see.
    #[must_use]
    pub fn scope_of(&self, team: Option<&str>) -> Scope {
        match team {
            None => Scope::ALL,
            Some(team) => self.scopes.get(team).cloned().unwrap_or_else(|| Scope::of([].into())),
        }
    }

    /// Users whose team the file does not have, so that they see nothing.
    pub fn teamless(&self) -> impl Iterator<Item = &User> {
        let lacks =
            |user: &&User| user.team.as_ref().is_some_and(|team| !self.scopes.contains_key(team));
        self.users.iter().filter(lacks)
    }

    fn push(&mut self, user: User) -> Result<(), UsersError> {
        check_name(&user.name)?;
        user.extension.as_ref().map_or(Ok(()), check_extension)?;
        user.team.as_deref().map_or(Ok(()), check_team)?;
        if self.find(&user.name).is_some() {
            return Err(UsersError::Duplicate(user.name));
        }
        self.users.push(user);
        Ok(())
    }

    /// The user of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// All of them, in the file's order.
    #[must_use]
    pub fn as_slice(&self) -> &[User] {
        &self.users
    }

    /// The user, if the password is his. Costs the same time whether or not there is a user of
    /// this name: an unknown name is measured against somebody's hash. Blocking, and meant to be
    /// slow (tens of milliseconds, 19 MiB): for `spawn_blocking`.
    #[must_use]
    pub fn verify(&self, name: &str, password: &str) -> Option<&User> {
        let known = self.find(name);
        let measured = known.or(self.users.first())?;
        let right = password.len() <= PASSWORD_BYTES_MAX && measured.password.verify(password);
        known.filter(|_| right)
    }
}

fn located(text: &str, error: &toml::de::Error) -> String {
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count());
            format!("line {}: {}", line + 1, error.message())
        }
        None => error.message().to_owned(),
    }
}

/// Whether a name can be a user's.
pub(crate) fn check_name(name: &str) -> Result<(), UsersError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && !name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Ok(())
    } else {
        Err(UsersError::BadName(clipped(name)))
    }
}

/// Whether an extension can be dialled.
pub(crate) fn check_extension(extension: &Extension) -> Result<(), UsersError> {
    let text = extension.as_str();
    let fits = (1..=24).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#') {
        Ok(())
    } else {
        Err(UsersError::BadExtension(clipped(text)))
    }
}

fn check_team(team: &str) -> Result<(), UsersError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&team.len());
    if fits && !team.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(UsersError::BadTeam(clipped(team)))
    }
}

/// A foreign text short and plain enough for an error message.
fn clipped(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$Q0Y2xSzTT5BrzQQZR0ZgiMTJxVoBXDwHfIFd6q8i0/0";

    fn parse(text: &str) -> Result<Users, UsersError> {
        Users::parse(text, Path::new("users.toml"))
    }

    fn entry(name: &str, role: &str, more: &str) -> String {
        format!("[[user]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{HASH}\"\n{more}\n")
    }

    #[test]
    fn what_a_file_may_say() {
        assert!(parse("").unwrap().as_slice().is_empty());
        let users = parse(&entry("anna", "agent", "extension = \"2611\"")).unwrap();
        assert_eq!(users.find("anna").unwrap().extension, Some(Extension::from("2611")));
        assert!(users.find("Anna").is_none());

        let twice = entry("anna", "agent", "") + &entry("anna", "qa", "");
        let cases = [
            (twice, "user `anna` is there already"),
            (entry("anna", "supervizor", ""), "did you mean `supervisor`?"),
            (entry("anna", "QA", ""), "did you mean `qa`?"),
            (entry("anna", "zzzzzzzzzz", ""), "roles are agent, supervisor, qa, auditor, admin"),
            (entry("an na", "qa", ""), "cannot be a user's name"),
            (entry("", "qa", ""), "cannot be a user's name"),
            (entry("anna", "qa", "extension = \"26x1\""), "cannot be an extension"),
            (entry("anna", "qa", "extension = \"\""), "cannot be an extension"),
            (entry("anna", "qa", "shoe = 1"), "unknown field `shoe`"),
            ("[[user]]\nname = \"anna\"\nrole = \"qa\"".to_owned(), "missing field `password`"),
            ("user = 1".to_owned(), "line 1"),
            ("[[user]".to_owned(), "line 1"),
        ];
        for (text, expected) in cases {
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_team_s_stations_are_all_that_its_members_see() {
        let text = entry("anna", "supervisor", "team = \"billing\"")
            + &entry("bert", "qa", "team = \"nowhere\"")
            + &entry("carl", "qa", "")
            + "[[team]]\nname = \"billing\"\nextensions = [\"2600-2602\", \"2711\"]\n";
        let users = parse(&text).unwrap();
        let sees = |name: &str| {
            let scope = users.scope(users.find(name).unwrap());
            ["2600", "2602", "2603", "2711", ""].map(|station| scope.has(station))
        };
        assert_eq!(sees("anna"), [true, true, false, true, false]);
        assert_eq!(sees("bert"), [false; 5]);
        assert_eq!(sees("carl"), [true; 5]);
        let teamless: Vec<_> = users.teamless().map(|user| user.name.as_str()).collect();
        assert_eq!(teamless, ["bert"]);

        let team =
            |extensions: &str| format!("[[team]]\nname = \"a\"\nextensions = {extensions}\n");
        for (text, expected) in [
            (team("[]") + &team("[]"), "team `a` is there already"),
            (team("[\"9-1\"]"), "team `a`: "),
            (team("[\"x\"]"), "team `a`: "),
            (team("7"), "line 3"),
        ] {
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_wrong_password_line_is_not_quoted() {
        let text = "[[user]]\nname = \"anna\"\nrole = \"qa\"\npassword = \"hunter2\"\n";
        let message = parse(text).unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.contains("argon2id"), "{message}");
    }
}
