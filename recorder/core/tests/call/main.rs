//! The call machine as a whole: scenarios that a telephony engineer can read, and random events.

mod garbage;
mod invariants;
mod model;
mod script;
mod site;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

/// Each scenario's file holds its events and, after `=>`, what the machine must decide. With
/// `SCENARIO_REWRITE=1` the decisions are written anew, to be read before they are believed.
#[test]
fn scenarios_decide_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the scenarios are in testdata")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let rewrite = std::env::var_os("SCENARIO_REWRITE").is_some();
    let mut wrong = String::new();
    for path in files {
        let written = fs::read_to_string(&path).expect("a scenario is text");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let decided = script::replay(&name, &written);
        if rewrite && decided != written {
            fs::write(&path, &decided).expect("testdata can be written");
        } else if decided != written {
            wrong += &format!("\n{name}\n{}", transcript::difference(&written, &decided));
        }
    }
    assert!(wrong.is_empty(), "decisions differ (- as written, + as decided):\n{wrong}");
}
