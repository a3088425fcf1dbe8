//! Every alarm there is, by name. When one is raised, and what it says then, is decided where it is
//! raised; what it means for people is in `docs/alarms.md`.

/// What is known of an alarm by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its stable name.
    pub name: &'static str,
}

const fn node(name: &'static str) -> Kind {
    Kind { name }
}

/// All of them, by name.
pub const ALL: &[Kind] = &[
    node("aescredentials"),
    node("aesdown"),
    node("announcerefused"),
    node("calllog"),
    node("callnotrecorded"),
    node("captureoverflow"),
    node("catalog"),
    node("clockoff"),
    node("console"),
    node("copiesmissing"),
    node("copiesnoroom"),
    node("copydiffers"),
    node("ctilinkdown"),
    node("diskfull"),
    node("mirrorlag"),
    node("nomajority"),
    node("nomedia"),
    node("notdurable"),
    node("notmember"),
    node("notmirrored"),
    node("notpublished"),
    node("peerrefuses"),
    node("phantomlost"),
    node("phantomrefused"),
    node("phantomstuck"),
    node("recordinglost"),
    node("sealfailed"),
    node("straymedia"),
    node("turnedaway"),
];

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

    /// `docs/alarms.md` has a section for each, in their order, with all that it promises.
    #[test]
    fn the_page_explains_every_alarm() {
        let page = include_str!("../../docs/alarms.md");
        let sections: Vec<_> = page.split("\n## ").skip(1).collect();
        let explained: Vec<_> =
            sections.iter().filter_map(|section| section.lines().next()).collect();
        let known: Vec<_> = ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(explained, known);
        for section in sections {
            assert!(section.contains("**Recordings:**"), "{section}");
            assert!(section.contains("**Remedy:**"), "{section}");
        }
    }
}
