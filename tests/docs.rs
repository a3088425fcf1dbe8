//! The commands of `docs/backup.md`, as they stand there, on the data of a real node: what was backed up is whole, and
//! what is restored is found again. And each page that another names is there.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use astlogger::demo::Shape;
use common::group::{GroupBench, ONE, TWO, WITNESS};
use common::{Bench, page};
use serde_json::json;
use simulator::SiteConfig;
use storage_core::NodeId;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_disk_is_lost_comes_back_as_the_page_says_with_everything() {
    let shape = Shape { consoles: true, ..Shape::hot_standby(3) };
    let mut bench = GroupBench::prepare(SiteConfig::demo(3, 2), &shape).await;
    let pki = tempfile::tempdir().expect("a temporary folder");
    let nodes = [ONE, TWO, WITNESS].map(|node| (node, listens(&bench, node)));
    let hosts = nodes.iter().map(|(node, place)| format!("{node}={}", host(place)));
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let made = Command::new(env!("CARGO_BIN_EXE_astlogger"))
        .args(["cluster", "init", "--nodes", &hosts, "--dir"])
        .arg(pki.path())
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let credentials = |node: u16| {
        let folder = pki.path().display();
        format!(
            "al_clusterca = \"{folder}/ca.pem\"\nal_clustercert = \"{folder}/node-{node}.pem\"\n\
             al_clusterkey = \"{folder}/node-{node}.key\"\n"
        )
    };
    for (node, _) in &nodes {
        bench.edit(*node, "al_nodeid", &format!("{}al_nodeid", credentials(node.0)));
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    let ids = bench.record(2).await;

    bench.kill(ONE).await;
    let config = |bench: &GroupBench, node| bench.group.members[&node].node.config_path();
    let data = bench.group.members[&ONE].node.data_dir();
    std::fs::remove_dir_all(&data).expect("it is there");
    let old = listens(&bench, ONE);
    let (new, at) = (format!("{}:7444", host(&old)), config(&bench, TWO));
    let replace = format!("astlogger cluster replace --config '{}'", at.display());
    let places = vec![
        ("/root/pki", pki.path()),
        ("10.0.0.1:7400", Path::new(&old)),
        ("10.0.0.4:7400", Path::new(&new)),
        ("10.0.0.4", Path::new(host(&old))),
        ("astlogger cluster replace", Path::new(&replace)),
    ];
    tokio::task::block_in_place(|| follow("backup.md", "replace", &places));
    follow("backup.md", "certificate", &places);
    for node in [ONE, TWO, WITNESS] {
        let own = config(&bench, node);
        let and_own = [&places[..], &[("/etc/astlogger/astlogger.toml", own.as_path())]].concat();
        follow("backup.md", "peers", &and_own);
    }
    // Installed anew.
    bench.edit(ONE, "al_nodeid = 1", "al_nodeid = 4");
    bench.edit(ONE, &credentials(1), &credentials(4));
    bench.edit(
        ONE,
        &format!("al_clusterlisten = \"{old}\""),
        &format!("al_clusterlisten = \"{new}\""),
    );
    std::fs::create_dir(&data).expect("writable");
    bench.run().await;
    bench.comes_true("it has everything", || bench.lying(ONE).len() == ids.len()).await;
    bench.metric(ONE, "astlogger_copies_pending", |pending| pending == 0.0).await;
    assert_eq!(bench.listed(ONE).await, ids);
    bench.leads_steadily(ONE).await;
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 2, "{verdict:?}");
}

/// Where a member listens for its peers.
fn listens(bench: &GroupBench, node: NodeId) -> String {
    let config = bench.group.members[&node].node.config_path();
    let text = std::fs::read_to_string(config).expect("the configuration");
    let line = text.lines().find(|line| line.starts_with("al_clusterlisten")).expect("a line");
    line.split('"').nth(1).expect("a quoted address").to_owned()
}

fn host(place: &str) -> &str {
    place.split(':').next().unwrap_or_default()
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
