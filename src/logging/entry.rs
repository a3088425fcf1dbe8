//! An entry of systemd's journal in its native protocol: fields with names and values. It decides what the fields of a
//! log line are called there, and writes nothing anywhere.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use storage_core::NodeId;
use tracing::Level;
use tracing::field::{Field, Visit};

/// Before the name of each field that is not one of the journal's own.
const PREFIX: &str = "ASTLOGGER_";
/// The journal takes no longer names.
const NAME_MAX: usize = 64;
/// Longer values are cut: a whole entry must fit into one datagram.
const VALUE_MAX: usize = 8 * 1024;
/// No more fields than this are taken.
const FIELDS_MAX: usize = 16;

/// What is the same for all lines of a process: its node, and the epoch that the group is in.
#[derive(Debug)]
pub struct Stamp {
    /// 0: not known yet.
    node: AtomicU32,
    /// One more than it is; 0: not known yet.
    epoch: AtomicU64,
}

impl Stamp {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self { node: AtomicU32::new(0), epoch: AtomicU64::new(0) }
    }

    /// Lines are this node's.
    pub fn is_node(&self, node: NodeId) {
        self.node.store(u32::from(node.0), Ordering::Relaxed);
    }

    /// Lines are of this epoch.
    pub fn in_epoch(&self, epoch: u64) {
        self.epoch.store(epoch.saturating_add(1), Ordering::Relaxed);
    }

    fn node(&self) -> Option<u32> {
        Some(self.node.load(Ordering::Relaxed)).filter(|node| *node > 0)
    }

    fn epoch(&self) -> Option<u64> {
        self.epoch.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// The fields of a log line, in the order in which they are told.
#[derive(Debug, Default)]
pub struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    /// The whole line as one entry.
    pub fn entry(&self, level: Level, target: &str, stamp: &Stamp) -> Vec<u8> {
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", &self.text());
        put(&mut entry, "PRIORITY", priority(level));
        put(&mut entry, "SYSLOG_IDENTIFIER", "astlogger");
        put(&mut entry, &name("target"), target);
        for (field, value) in &self.fields {
            put(&mut entry, &name(field), value);
        }
        if let Some(node) = stamp.node() {
            put(&mut entry, &name("node"), &node.to_string());
        }
        // A line about an epoch is of that epoch.
        if let Some(epoch) = stamp.epoch()
            && !self.fields.iter().any(|(field, _)| *field == "epoch")
        {
            put(&mut entry, &name("epoch"), &epoch.to_string());
        }
        entry
    }

    /// What people read: they should need no option to see the fields.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (field, value) in &self.fields {
            // Writing into a text cannot fail.
            let _ = write!(text, " {field}={value}");
        }
        text
    }

    fn note(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else if self.fields.len() < FIELDS_MAX {
            self.fields.push((name_of(field), value));
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }
}

/// In log lines `node` is whom the line is about, and whose line it is nobody says; in the journal
/// the node is whose line it is.
fn name_of(field: &Field) -> &'static str {
    match field.name() {
        "node" => "peer",
        name => name,
    }
}

/// As syslog counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// The journal takes capitals, digits and underscores.
fn name(field: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let letters = field.trim_start_matches("r#").chars().map(letter);
    PREFIX.chars().chain(letters).take(NAME_MAX).collect()
}

/// Adds a field. What has lines of its own is told with its length, so that nobody can forge a field
/// by a line break in a value.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = printable(cut(value));
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(VALUE_MAX)]
}

/// With other control characters than these the journal's readers show nothing but a size.
fn printable(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_the_journal_takes() {
        assert_eq!(name("recording"), "ASTLOGGER_RECORDING");
        assert_eq!(name("r#type"), "ASTLOGGER_TYPE");
        assert_eq!(name("a.b-é"), "ASTLOGGER_A_B__");
        assert_eq!(name(&"x".repeat(100)).len(), NAME_MAX);
    }

    #[test]
    fn a_value_of_two_lines_makes_no_field_of_its_own() {
        let mut entry = Vec::new();
        put(&mut entry, "A", "one\nPRIORITY=0");
        put(&mut entry, "B", "plain");
        assert_eq!(entry, b"A\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nB=plain\n");
    }

    #[test]
    fn what_cannot_be_printed_is_spelt_out_and_what_is_too_long_is_cut() {
        let mut entry = Vec::new();
        put(&mut entry, "A", "a\u{1b}[31m\tb");
        assert_eq!(entry, b"A=a\\u{1b}[31m\tb\n");
        assert_eq!(cut(&"é".repeat(VALUE_MAX)).len(), VALUE_MAX);
    }
}
