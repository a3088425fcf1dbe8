//! Writes changed parameters back into the configuration file. Only the values change: comments,
//! order and all other lines stay as they are. The file is replaced as a whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::read_file;

/// New values by key.
type Changes = BTreeMap<&'static str, toml::Value>;

/// Why the file stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no TOML any more.
    #[error("{} was changed and is no TOML now: {reason}; mend it first", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// It is written in a way in which a value cannot be changed without touching others.
    #[error("{} cannot be changed safely; write {keys} into it by hand", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        keys: String,
    },
    /// It cannot be replaced.
    #[error(
        "cannot write {}: {source}; let the service write to its folder, or write the values into \
         it by hand",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes these values into the file. Blocking.
///
/// # Errors
/// Why not; the file is as it was then.
pub fn save(file: &Path, changes: &Changes) -> Result<(), SaveError> {
    let read_error = |source| SaveError::Read { path: file.to_owned(), source };
    // A link to the file stays one.
    let path = fs::canonicalize(file).map_err(read_error)?;
    let write_error = |source| SaveError::Write { path: path.clone(), source };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(folder).map_err(write_error)?;
    lock.lock().map_err(write_error)?;
    let (text, _) = read_file(&path).map_err(read_error)?;
    let edited = edit(&text, changes)
        .map_err(|reason| SaveError::Syntax { path: path.clone(), reason })?
        .ok_or_else(|| SaveError::Unsafe { path: path.clone(), keys: listed(changes) })?;
    if edited != text {
        replace(&path, folder, &edited).map_err(write_error)?;
        lock.sync_all().map_err(write_error)?;
    }
    Ok(())
}

fn listed(changes: &Changes) -> String {
    let lines = changes.iter().map(|(key, value)| format!("{key} = {value}"));
    lines.collect::<Vec<_>>().join(" and ")
}

/// The text with the new values; nothing if more would change than they.
fn edit(text: &str, changes: &Changes) -> Result<Option<String>, String> {
    let reason = |error: toml::de::Error| error.message().replace('\n', ", ");
    let document = DeTable::parse(text).map_err(reason)?;
    let values: BTreeMap<_, _> = document
        .get_ref()
        .iter()
        .filter(|(_, value)| is_plain(value.get_ref()))
        .map(|(name, value)| (name.get_ref().as_ref(), value.span()))
        .collect();
    let mut edits: Vec<_> = changes
        .iter()
        .map(|(key, value)| match values.get(key) {
            Some(span) => (span.clone(), value.to_string()),
            None => insertion(text, key, value, &values),
        })
        .collect();
    // From the end, so that places in front of an edit stay what they are; and of new lines in one
    // place the last first.
    edits.reverse();
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut edited = text.to_owned();
    for (span, new) in edits {
        edited.replace_range(span, &new);
    }
    let mut expected: toml::Table = text.parse().map_err(reason)?;
    expected.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Ok((edited.parse() == Ok(expected)).then_some(edited))
}

/// Whether a value stands on the lines of its key; rules stand under headings of their own.
fn is_plain(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => false,
        DeValue::Array(items) => !items.iter().any(|item| item.get_ref().is_table()),
        _ => true,
    }
}

/// A new line: below the comment that shows the default, or below the last parameter.
fn insertion(
    text: &str,
    key: &str,
    value: &toml::Value,
    values: &BTreeMap<&str, Range<usize>>,
) -> (Range<usize>, String) {
    let mut after_comment = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let inside = values.values().any(|span| span.contains(&start));
        let bare = line.trim_start();
        if !inside && bare.starts_with('[') {
            break;
        }
        let shown = bare.trim_start_matches(['#', ' ', '\t']).strip_prefix(key);
        let is_default = shown.is_some_and(|rest| rest.trim_start().starts_with('='));
        if !inside && bare.starts_with('#') && is_default {
            after_comment = Some(start + line.len());
        }
        start += line.len();
    }
    let last =
        values.values().map(|span| span.end).max().map_or(0, |end| {
            text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1)
        });
    let at = after_comment.unwrap_or(last);
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let before = if at > 0 && !text[..at].ends_with('\n') { newline } else { "" };
    (at..at, format!("{before}{key} = {value}{newline}"))
}

fn replace(path: &Path, folder: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    let written = write_like(&temporary, path, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error is what counts; a leftover is overwritten by the next change.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a new file with the rights of the one that it will replace, which may hold passwords.
fn write_like(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let like = fs::metadata(path)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    let ours = out.metadata()?;
    if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) && nix::unistd::geteuid().is_root() {
        fchown(&out, Some(like.uid()), Some(like.gid()))?;
    }
    out.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    out.write_all(text.as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> Changes {
        BTreeMap::from([("al_serverrole", "backup".into()), ("al_rescuems", 300.into())])
    }

    #[test]
    fn only_the_values_change() {
        for (before, after) in [
            (
                "# top\nal_serverrole = \"active\"  # ours\n\nal_rescuems = 400 # ms\n",
                "# top\nal_serverrole = \"backup\"  # ours\n\nal_rescuems = 300 # ms\n",
            ),
            (
                "al_rescuems = '1 s'\nal_serverrole='active'\n[[al_rule]]\nname = \"a\"\n",
                "al_rescuems = 300\nal_serverrole=\"backup\"\n[[al_rule]]\nname = \"a\"\n",
            ),
            (
                "al_serverrole = \"active\"\n# al_rescuems = 400\nal_nodeid = 1\n",
                "al_serverrole = \"backup\"\n# al_rescuems = 400\nal_rescuems = 300\nal_nodeid = 1\n",
            ),
            (
                "al_peers = [\n  \"1=a\", # one\n]\n\n[[al_rule]]\nname = \"x\"\n",
                "al_peers = [\n  \"1=a\", # one\n]\nal_rescuems = 300\nal_serverrole = \"backup\"\n\
                 \n[[al_rule]]\nname = \"x\"\n",
            ),
            ("", "al_rescuems = 300\nal_serverrole = \"backup\"\n"),
            (
                "[[al_rule]]\nname = \"x\"",
                "al_rescuems = 300\nal_serverrole = \"backup\"\n[[al_rule]]\nname = \"x\"",
            ),
            (
                "al_nodeid = 1\r\nal_serverrole = \"active\"",
                "al_nodeid = 1\r\nal_serverrole = \"backup\"\r\nal_rescuems = 300\r\n",
            ),
            (
                "\"al_serverrole\" = \"active\" # é\nal_rescuems = \"\"\"\n# al_serverrole = 1\n\"\"\"\n",
                "\"al_serverrole\" = \"backup\" # é\nal_rescuems = 300\n",
            ),
        ] {
            assert_eq!(edit(before, &changes()).unwrap().as_deref(), Some(after), "{before:?}");
        }
    }

    #[test]
    fn the_shipped_example_keeps_every_line() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/astlogger.example.toml");
        let before = fs::read_to_string(path).unwrap();
        let after = edit(&before, &changes()).unwrap().unwrap();
        let lines: Vec<_> = after.lines().collect();
        let at = lines.iter().position(|line| *line == "al_rescuems = 300").unwrap();
        assert_eq!(lines[at - 1], "# al_rescuems = 400");
        let kept = before.replace("al_serverrole = \"active\"", "al_serverrole = \"backup\"");
        assert!(kept.lines().all(|line| lines.contains(&line)));
        assert_eq!(lines.len(), before.lines().count() + 1);
    }

    #[test]
    fn a_file_that_is_no_toml_is_left_alone() {
        assert!(edit("al_serverrole = ", &changes()).is_err());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "al_serverrole = ").unwrap();
        assert!(matches!(save(&file, &changes()), Err(SaveError::Syntax { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "al_serverrole = ");
        assert!(matches!(
            save(&folder.path().join("none.toml"), &changes()),
            Err(SaveError::Read { .. })
        ));
    }

    #[test]
    fn rights_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.toml"), folder.path().join("link.toml"));
        fs::write(&file, "al_nodeid = 1\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&link, &changes()).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("al_serverrole = \"backup\""));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    proptest! {
        #[test]
        fn any_text_is_edited_rightly_or_not_at_all(text in "[a-z_\\[\\]=\"'# \\n\\r0-9,{}é]{0,80}") {
            if let Ok(Some(edited)) = edit(&text, &changes()) {
                let table: toml::Table = edited.parse().unwrap();
                prop_assert_eq!(table["al_rescuems"].as_integer(), Some(300));
            }
        }
    }
}
