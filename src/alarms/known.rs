//! Every alarm there is: its name, how grave it is, and whose matter it is. When one is raised, and
//! what it says then, is decided where it is raised; what it means for people is in `docs/alarms.md`.

use storage_core::NodeId;

/// How grave an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is not as it should be; recording goes on.
    Warning,
    /// Calls or recordings are being lost here, or nothing stands between that and the next fault.
    Critical,
}

impl Severity {
    /// As programs read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Who sees it, and so who is to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This node only.
    Node,
    /// This node and the member that is its subject.
    Pair,
    /// All members but its subject, which is gone.
    Gone,
}

/// What is known of an alarm by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its stable name.
    pub name: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// Who sees it.
    pub scope: Scope,
}

const fn node(name: &'static str, severity: Severity) -> Kind {
    Kind { name, severity, scope: Scope::Node }
}

const fn about(name: &'static str, severity: Severity, scope: Scope) -> Kind {
    Kind { name, severity, scope }
}

/// All of them, by name.
pub const ALL: &[Kind] = &[
    node("aescredentials", Severity::Critical),
    node("aesdown", Severity::Critical),
    node("alarmnotsent", Severity::Warning),
    node("announcerefused", Severity::Critical),
    node("archiveaway", Severity::Warning),
    node("archivediffers", Severity::Warning),
    node("archivenotlocked", Severity::Warning),
    node("bitrot", Severity::Warning),
    node("calllog", Severity::Warning),
    node("callnotrecorded", Severity::Critical),
    node("captureoverflow", Severity::Critical),
    node("catalog", Severity::Warning),
    node("catalogdatabase", Severity::Warning),
    node("certificateexpiring", Severity::Warning),
    node("certificateinvalid", Severity::Critical),
    node("certificatenotloaded", Severity::Warning),
    about("clockoff", Severity::Warning, Scope::Pair),
    node("console", Severity::Warning),
    node("copiesmissing", Severity::Warning),
    node("copiesnoroom", Severity::Warning),
    node("copydiffers", Severity::Warning),
    node("ctilinkdown", Severity::Critical),
    node("deletionfailed", Severity::Warning),
    node("deletionheld", Severity::Critical),
    node("diskfailed", Severity::Critical),
    node("diskfull", Severity::Critical),
    node("disklow", Severity::Warning),
    node("grouplogfull", Severity::Critical),
    node("keychanged", Severity::Warning),
    node("logaltered", Severity::Warning),
    about("memberdown", Severity::Critical, Scope::Gone),
    node("mirrorlag", Severity::Warning),
    node("nomajority", Severity::Critical),
    node("nomedia", Severity::Critical),
    node("notarchived", Severity::Warning),
    node("notcountersigned", Severity::Warning),
    node("notdurable", Severity::Critical),
    node("notmember", Severity::Critical),
    node("notmirrored", Severity::Warning),
    node("notpublished", Severity::Warning),
    node("notsigned", Severity::Warning),
    node("peerrefuses", Severity::Critical),
    node("phantomlost", Severity::Warning),
    node("phantomrefused", Severity::Warning),
    node("phantomstuck", Severity::Warning),
    node("recordinglost", Severity::Critical),
    node("retentionwaits", Severity::Warning),
    node("rolledback", Severity::Critical),
    node("sealfailed", Severity::Warning),
    node("straymedia", Severity::Warning),
    node("syncslow", Severity::Warning),
    node("turnedaway", Severity::Warning),
];

/// What is known of this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}

/// How grave an alarm of this name is.
#[must_use]
pub fn severity(name: &str) -> Severity {
    kind(name).map_or(Severity::Warning, |kind| kind.severity)
}

/// Whom an alarm is about, where that is a member, and who sees it.
#[must_use]
pub fn peer_of(name: &str, subject: &str) -> Option<(Scope, NodeId)> {
    let kind = kind(name).filter(|kind| kind.scope != Scope::Node)?;
    Some((kind.scope, NodeId(subject.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Names at the places where alarms are made, as the source says them.
    fn raised_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                raised_in(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for made in code.split("Alarm {").skip(1) {
                let named = made.trim_start().strip_prefix("name: \"");
                names.extend(named.and_then(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_alarm_that_is_made_is_known() {
        let mut names = BTreeSet::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        raised_in(&root.join("src"), &mut names);
        assert!(names.len() > 15, "the source is written otherwise than this test reads it");
        let known: BTreeSet<_> = ALL.iter().map(|kind| kind.name.to_owned()).collect();
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?} are to be listed in known.rs and docs/alarms.md");
    }

    #[test]
    fn the_list_is_sorted_and_names_each_once() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn an_alarm_about_a_member_names_it() {
        assert_eq!(peer_of("memberdown", "2"), Some((Scope::Gone, NodeId(2))));
        assert_eq!(peer_of("mirrorlag", "2"), None, "only the node itself sees that");
        assert_eq!(peer_of("memberdown", "two"), None);
    }

    /// `docs/alarms.md` has a section for each, in their order, with all that it promises.
    #[test]
    fn the_page_explains_every_alarm() {
        let page = include_str!("../../docs/alarms.md");
        // The first says how alarms are sent out.
        let sections: Vec<_> = page.split("\n## ").skip(2).collect();
        let explained: Vec<_> =
            sections.iter().filter_map(|section| section.lines().next()).collect();
        let known: Vec<_> = ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(explained, known);
        for (section, kind) in sections.iter().zip(ALL) {
            let says = format!("\n\n{}. ", kind.severity.as_str());
            assert!(section.contains(&says), "{}: {says}", kind.name);
            assert!(section.contains("**Recordings:**"), "{section}");
            assert!(section.contains("**Remedy:**"), "{section}");
        }
    }
}
