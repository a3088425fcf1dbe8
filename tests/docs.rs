//! The commands of `docs/backup.md`, as they stand there, on the data of a real node: what was backed up is whole, and
//! what is restored is found again. And each page that another names is there.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, page};
use serde_json::json;
use simulator::SiteConfig;

/// Runs what a page says for this occasion, with other places for what it names.
fn follow(name: &str, occasion: &str, places: &[(&str, &Path)]) {
    let bin = Path::new(env!("CARGO_BIN_EXE_astlogger")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("there is one"));
    let mut ran = 0;
    for block in page::commands(name).iter().filter(|block| block.is_for(occasion)) {
        let mut script = block.text.clone();
        for (from, to) in places {
            script = script.replace(from, &to.display().to_string());
        }
        // The user of the package is not here, and the test is its own.
        let whose = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
        script = script.replace("astlogger:astlogger", &whose);
        let output =
            Command::new("sh").args(["-ec", &script]).env("PATH", &path).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}:{}\n{said}{complaint}", block.line);
        ran += 1;
    }
    assert!(ran > 0, "{name} says nothing for {occasion}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_is_whole_and_is_found_again_once_restored() {
    let mut bench = Bench::start_with(SiteConfig::demo(2, 1), "").await;
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 60).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    // Somebody looked at it, which is in the audit log.
    let mut qa = bench.cti("qa").await;
    qa.ask(json!({"request": "listrecordings"})).await.expect("a reply");
    let backup = tempfile::tempdir().expect("a temporary folder");
    let data = bench.node.data_dir();
    let places = [("/var/lib/astlogger", data.as_path()), ("/backup", backup.path())];
    follow("backup.md", "backup", &places);

    bench.node.stop(common::LIMIT).await.expect("it ends");
    for lost in ["voice", "catalog", "manifest", "audit", "calls"] {
        std::fs::remove_dir_all(data.join(lost)).expect("it was there");
    }
    follow("backup.md", "restore", &places);
    let bench = bench.started().await;
    let verdict = bench.assert_right();
    assert_eq!(verdict.calls_recorded, 1, "{verdict:?}");
    let mut qa = bench.cti("qa").await;
    let reply = qa.ask(json!({"request": "listrecordings"})).await.expect("a reply");
    assert_eq!(reply["recordings"].as_array().map(Vec::len), Some(1), "{reply}");
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Each page that a page links to is there, and each heading that it names.
#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut looked_at = 0;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![here.join("README.md"), here.join("ARCHITECTURE.md")];
    pages.extend(std::fs::read_dir(docs()).expect("pages").map(|page| page.unwrap().path()));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(page).expect("text");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.starts_with("http") {
                continue;
            }
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            looked_at += 1;
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).expect("text");
                let is_it = |line: &str| line.starts_with('#') && anchor(line) == heading;
                assert!(text.lines().any(is_it), "{}: {link}: no such heading", page.display());
            }
        }
    }
    assert!(looked_at > 20, "{looked_at}");
}

/// How a heading is named in links.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    text.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn marked_blocks_are_found_and_others_are_not() {
    let text = "a\n```sh\nread only\n```\n```sh node1 once\none\ntwo\n```\n```toml\nx\n```\n";
    let found = page::blocks(text);
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].text, found[0].line), ("one\ntwo\n", 5));
    assert!(found[0].is_for("node1") && found[0].is_for("once") && !found[0].is_for("node2"));
}
