//! Takes single keys out of the gathered values, each as the type it must be. A wrong value is
//! noted and replaced by the default, so that the reading goes on and finds the next mistake too.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recorder_core::dmcc::Secret;
use storage_core::Extension;

use super::OTHERS_MAY_READ;
use super::remark::{Origin, Remark};
use super::source::{Given, Source, Values};
use super::value::{self, Reason};

/// A secret that is longer than this is some other file.
const SECRET_BYTES_MAX: u64 = 4096;

/// How a path begins that is to be found among systemd's credentials.
const CREDENTIALS_PREFIX: &str = "$CREDENTIALS_DIRECTORY/";

/// The values on their way into a configuration.
#[derive(Debug)]
pub(super) struct Reader {
    values: Values,
    credentials: Option<PathBuf>,
    others_may_read: bool,
}

impl Reader {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            values: Values::gather(source),
            credentials: source.credentials.clone(),
            others_may_read: source.others_may_read,
        }
    }

    /// Mistakes and warnings, once everything has been read.
    pub(super) fn finish(self) -> (Vec<Remark>, Vec<Remark>) {
        (self.values.wrong, self.values.warnings)
    }

    /// Notes a mistake of which no single value is the cause.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remark = self.placed(Remark::new(key, wrong, remedy));
        self.values.wrong.push(remark);
    }

    /// Notes a mistake in what the key holds, and shows it.
    pub(super) fn refuse_value(&mut self, key: &'static str, must_be: &str, remedy: &str) {
        let mut remark = Remark::new(key, format!("must be {must_be}"), remedy);
        if let Some(given) = self.values.by_key.get(key) {
            remark = remark.showing(&given.value);
        }
        let remark = self.placed(remark);
        self.values.wrong.push(remark);
    }

    /// Notes a mistake that is described already.
    pub(super) fn refuse_remark(&mut self, remark: Remark) {
        self.values.wrong.push(remark);
    }

    /// Notes something worth knowing.
    pub(super) fn warn(&mut self, key: &str, wrong: impl Into<String>, remedy: impl Into<String>) {
        let remark = self.placed(Remark::new(key, wrong, remedy));
        self.values.warnings.push(remark);
    }

    fn placed(&self, remark: Remark) -> Remark {
        let origin = self.values.by_key.get(remark.key.as_str()).map(|given| given.origin);
        Remark { origin: origin.unwrap_or_default(), ..remark }
    }

    /// How many mistakes there are so far.
    pub(super) fn mistakes(&self) -> usize {
        self.values.wrong.len()
    }

    /// Whether the key was given at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.by_key.contains_key(key)
    }

    /// The value as it was given.
    pub(super) fn given(&self, key: &str) -> Option<&Given> {
        self.values.by_key.get(key)
    }

    /// A text; an empty one counts as left out.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.given(key)?.value.clone() {
            toml::Value::String(text) if text.trim().is_empty() => None,
            toml::Value::String(text) => Some(text.trim().to_owned()),
            _ => {
                self.refuse_value(key, "a text", &format!("write {key} = \"…\""));
                None
            }
        }
    }

    /// A text that `read` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Reason>,
        remedy: &str,
    ) -> Option<T> {
        let text = self.text(key)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(must_be) => {
                self.refuse_value(key, &must_be, remedy);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let (must_be, remedy) = choice(&text, words.iter().map(|(word, _)| *word));
            self.refuse_value(key, &must_be, &remedy);
        }
        found
    }

    /// Words in order of preference, each at most once; `None` if left out or wrong.
    pub(super) fn words<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let mut chosen = Vec::new();
        let mut seen = BTreeSet::new();
        for text in self.list(key)? {
            let Some((word, value)) = words.iter().find(|(word, _)| *word == text) else {
                let (must_be, remedy) = choice(&text, words.iter().map(|(word, _)| *word));
                self.refuse_value(key, &format!("a list, each of it {must_be}"), &remedy);
                return None;
            };
            if !seen.insert(*word) {
                self.refuse_value(
                    key,
                    "a list that names nothing twice",
                    &format!("name {word} once"),
                );
                return None;
            }
            chosen.push(*value);
        }
        if chosen.is_empty() {
            self.refuse_value(key, "a list that is not empty", "leave the key out for the default");
            return None;
        }
        Some(chosen)
    }

    /// A path. One that begins with `$CREDENTIALS_DIRECTORY/` is a credential that systemd has loaded
    /// (systemd.exec(5), `LoadCredential=`), so that keys need not be readable for the service otherwise.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        let Some(name) = text.strip_prefix(CREDENTIALS_PREFIX) else {
            return Some(PathBuf::from(text));
        };
        if let Some(credentials) = &self.credentials {
            return Some(credentials.join(name));
        }
        self.refuse_value(
            key,
            "a path that is there: nothing has set $CREDENTIALS_DIRECTORY",
            &format!("add LoadCredential={name}:PATH to the unit, or name the file itself"),
        );
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.given(key).map(|given| given.value.clone()) {
            None => default,
            Some(toml::Value::Boolean(value)) => value,
            Some(_) => {
                self.refuse_value(key, "true or false", &format!("write {key} = {default}"));
                default
            }
        }
    }

    /// A whole number in a range; `None` if left out or wrong.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = match self.given(key)?.value {
            toml::Value::Integer(value) => T::try_from(value).ok(),
            _ => None,
        };
        if let Some(value) = value.filter(|value| range.contains(value)) {
            return Some(value);
        }
        let must_be = format!("a whole number from {} to {}", range.start(), range.end());
        self.refuse_value(key, &must_be, &format!("for example {key} = {}", range.start()));
        None
    }

    /// A span of time; a number without a unit counts in `unit_ms`.
    pub(super) fn span(
        &mut self,
        key: &'static str,
        unit_ms: u64,
        default: Duration,
        range_ms: RangeInclusive<u64>,
    ) -> Duration {
        let Some(text) = self.measure(key) else { return default };
        let within = format!("from {} ms to {} ms", range_ms.start(), range_ms.end());
        match value::span(&text, unit_ms) {
            Ok(span) if range_ms.contains(&u64::try_from(span.as_millis()).unwrap_or(u64::MAX)) => {
                return span;
            }
            Ok(_) => self.refuse_value(key, &within, "choose a value in between"),
            Err(must_be) => self.refuse_value(key, &must_be, &format!("a value {within}")),
        }
        default
    }

    /// The text of a number or of a text with a unit.
    pub(super) fn measure(&mut self, key: &'static str) -> Option<String> {
        match self.given(key)?.value.clone() {
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::String(text) => Some(text),
            _ => {
                self.refuse_value(key, "a number, or a text with a unit", "see the key's example");
                None
            }
        }
    }

    /// A list of texts; numbers in it count as texts, because TOML refuses leading zeros itself.
    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let items = match self.given(key)?.value.clone() {
            toml::Value::Array(items) => items,
            _ => {
                self.refuse_value(key, "a list of texts", &format!("write {key} = [\"…\"]"));
                return None;
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                toml::Value::String(text) => texts.push(text.trim().to_owned()),
                toml::Value::Integer(number) => texts.push(number.to_string()),
                _ => {
                    self.refuse_value(key, "a list of texts", &format!("write {key} = [\"…\"]"));
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// Extensions and ranges of them; `None` if left out or wrong.
    pub(super) fn extensions(&mut self, key: &'static str) -> Option<BTreeSet<Extension>> {
        let entries = self.list(key)?;
        match value::extensions(&entries) {
            Ok(set) => Some(set),
            Err((entry, must_be)) => {
                let remedy = format!("look at \"{entry}\"");
                self.refuse_value(key, &must_be, &remedy);
                None
            }
        }
    }

    /// A secret: the value itself, or a file, or a systemd credential of the key's name.
    pub(super) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        let written = match self.given(key).map(|given| given.value.clone()) {
            Some(toml::Value::String(text)) => Some(Secret::new(text)),
            Some(_) => {
                // The number itself is the secret, so it is not shown.
                self.refuse(key, "must be a text", format!("write {key} = \"…\""));
                return None;
            }
            None => None,
        };
        let file = self.path(file_key);
        let secret = match (written, file) {
            (Some(_), Some(_)) => {
                self.refuse(key, format!("is given beside {file_key}"), "keep one of the two");
                return None;
            }
            (Some(secret), None) => {
                self.warn_of_readers(key, file_key);
                secret
            }
            (None, Some(path)) => self.secret_file(file_key, &path)?,
            (None, None) => {
                let path = self.credentials.as_ref()?.join(key);
                if !path.exists() {
                    return None;
                }
                self.secret_file(key, &path)?
            }
        };
        if secret.expose().is_empty() {
            self.refuse(key, "is empty", "give the secret");
            return None;
        }
        Some(secret)
    }

    fn warn_of_readers(&mut self, key: &'static str, file_key: &str) {
        let in_file = self.given(key).is_some_and(|given| given.origin == Origin::File);
        if in_file && self.others_may_read {
            let remedy = format!("chmod o-r the file, or use {file_key}");
            self.warn(key, "stands in a file that every user of this machine may read", remedy);
        }
    }

    fn secret_file(&mut self, key: &'static str, path: &Path) -> Option<Secret> {
        match read_secret(path) {
            Ok((secret, mode)) => {
                // Credentials of systemd lie in a folder that only the service can enter.
                let private = mode & OTHERS_MAY_READ == 0 || self.given(key).is_none();
                if !private {
                    let wrong = format!("others may read {} (mode {:o})", path.display(), mode);
                    self.warn(key, wrong, format!("chmod o-r {}", path.display()));
                }
                Some(secret)
            }
            Err(why) => {
                let wrong = format!("cannot take the secret from {}: {why}", path.display());
                self.refuse(key, wrong, "make the file readable for the service, one line of text");
                None
            }
        }
    }
}

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
enum NoSecret {
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    #[error("it is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not UTF-8 text")]
    NotText,
}

fn read_secret(path: &Path) -> Result<(Secret, u32), NoSecret> {
    let file = fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(NoSecret::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| NoSecret::NotText)?;
    Ok((Secret::new(text.trim_end_matches(['\r', '\n'])), mode))
}

/// What a word must be and which one was meant.
pub(super) fn choice<'a>(
    written: &str,
    words: impl Iterator<Item = &'a str> + Clone,
) -> (String, String) {
    let all: Vec<_> = words.clone().collect();
    let remedy = match super::keys::nearest(written, words) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "choose one of them".to_owned(),
    };
    (format!("one of {}", all.join(", ")), remedy)
}
