//! The catalog in a real PostgreSQL, judged by `psql`: what nodes write into it, over crashes of both, and what they
//! find in it.

mod common;
#[path = "common/zip_of.rs"]
mod zip_of;

use std::collections::BTreeSet;
use std::path::Path;

use astlogger::demo::{Cti, Shape};
use astlogger::users::{self, UserRole};
use common::commands::check_finds;
use common::group::{GroupBench, ONE, TWO};
use common::http::{http, token};
use common::postgres::{LOGIN_PASSWORD, Postgres};
use common::{Bench, LIMIT, PASSWORD, page};
use serde_json::{Map, Value, json};
use simulator::SiteConfig;
use storage::{Catalog, DurableCatalog, MemoryCatalog};
use storage_core::naming::CATALOG_FOLDER;
use storage_core::query::Query;
use storage_core::scope::Scope;
use storage_core::{Extension, Recording, RecordingId, WallTime};
use tokio::time::{Instant, sleep};

/// What `astlogger check` calls the database.
const CHECKED: &str = "catalog's database";

/// A server, or `None` where there is none: then the test is skipped, and says so.
async fn server() -> Option<Postgres> {
    match Postgres::start().await {
        Ok(server) => Some(server),
        Err(error) => {
            common::skipped::skip("a real PostgreSQL", &error);
            None
        }
    }
}

/// Waits until something is so.
async fn comes_true(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// What a switch, or somebody who means harm, may write where a number or a name is expected.
const WORDS: [&str; 18] = [
    "",
    "2611",
    "261",
    "2612",
    "+852 9123-4567",
    "85291234567",
    "a\0b",
    "\0",
    "\u{1a}0",
    "\\u0000",
    "50%",
    "5_%\\",
    "'; DROP TABLE astlogger.entry; --",
    "{\"a\":1}",
    "ΣΊΣΥΦΟΣ",
    "İstanbul",
    "日本",
    "zz\u{10FFFF}",
];

fn long() -> &'static str {
    // Longer than an index of PostgreSQL takes.
    Box::leak("x9".repeat(2_000).into_boxed_str())
}

fn recording(number: u64, dice: &mut Dice) -> Recording {
    let mut words: Vec<&str> = WORDS.to_vec();
    if number.is_multiple_of(40) {
        words = vec![long()];
    }
    // Many begin in the same millisecond.
    let started =
        WallTime::from_millis(1_700_000_000_000 + i64::try_from(dice.roll(60)).unwrap() * 1000);
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    let id = RecordingId::new(WallTime::from_millis(1_700_000_000_000), entropy);
    let ucid = |number: u64| format!("000010000117{number:08}");
    let mut recording = json!({
        "recordingid": id, "callids": [number.to_string()], "extension": dice.one(&words),
        "agentid": dice.one(&words), "calling": dice.one(&words), "called": dice.one(&words),
        "direction": dice.one(&["inbound", "outbound", "internal"]), "trunkgroup": dice.one(&words),
        "trunkmember": "", "vdn": dice.one(&words), "split": dice.one(&words), "userdata": dice.one(&words),
        "parties": [{"who": dice.one(&words), "fromms": 0, "toms": 5}], "started": started, "ended": started,
        "durationms": dice.roll(5) * 1000, "scope": "station", "trigger": "rule", "rule": dice.one(&words),
        "copy": 1, "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": dice.roll(3) > 0,
        "quality": {"lossratio": 0.1 + 0.2, "jitterms": 1e-7, "clockdriftppm": -1e300}, "format": "wavg711",
        "bytes": 0, "sha256": "", "notes": [{"text": dice.one(&words), "by": "qa", "at": started, "node": 1}],
        "hold": dice.roll(9) == 0, "ucid": ucid(1 + dice.roll(9)), "formerucids": [ucid(1 + dice.roll(9))],
        "tags": [dice.one(&WORDS[1..])],
    });
    if dice.roll(3) > 0 {
        let score = |dice: &mut Dice| {
            json!({"scorecard": dice.one(&["sales", "a\0b", "help"]), "percent": dice.roll(1001) as f64 / 10.0,
                "answers": {"q\0": 1.0, "r": true}, "by": dice.one(&["qa", "quentin"]), "at": started, "node": 1})
        };
        recording["scores"] = json!([score(dice), score(dice)]);
    }
    serde_json::from_value(recording).expect("a record")
}

/// Any question, as a client writes it.
fn question(dice: &mut Dice) -> Map<String, Value> {
    let mut asked = Map::new();
    let mut some = |dice: &mut Dice, name: &str, value: Value| {
        if dice.roll(7) == 0 {
            asked.insert(name.to_owned(), value);
        }
    };
    let at = |dice: &mut Dice| {
        json!(WallTime::from_millis(
            1_700_000_000_000 + i64::try_from(dice.roll(60)).unwrap() * 1000
        ))
    };
    for name in ["extension", "agentid", "party", "trunkgroup", "vdn", "split", "tag", "text"] {
        let mut word = dice.one(&WORDS).to_owned();
        if name == "text" {
            // A part of a word, in other letters.
            word = word.chars().skip(1).take(2).collect::<String>().to_uppercase();
        }
        if dice.roll(40) == 0 {
            word = long()[..1000].to_owned();
        }
        some(dice, name, word.into());
    }
    let from = at(dice);
    some(dice, "from", from);
    let ucid = format!("000010000117{:08}", 1 + dice.roll(9));
    some(dice, "ucid", ucid.into());
    let direction = dice.one(&["inbound", "outbound", "internal"]);
    some(dice, "direction", direction.into());
    let card = dice.one(&["sales", "a\0b", "none"]);
    some(dice, "scorecard", card.into());
    let least = dice.roll(60);
    some(dice, "minscore", least.into());
    some(dice, "maxscore", (least + 30).into());
    let least = dice.roll(5) * 1000;
    some(dice, "mindurationms", least.into());
    let incomplete = dice.roll(2) == 0;
    some(dice, "incomplete", incomplete.into());
    let held = dice.roll(2) == 0;
    some(dice, "hold", held.into());
    some(dice, "order", "oldest".into());
    asked.insert("limit".to_owned(), (1 + dice.roll(9)).into());
    asked
}

/// The same question to the node and to a plain catalog, page by page.
async fn compare(
    cti: &mut Cti,
    plain: &MemoryCatalog,
    mut asked: Map<String, Value>,
    scope: &Scope,
) -> usize {
    let mut found = 0;
    for page in 0.. {
        let mut request = asked.clone();
        request.insert("request".to_owned(), "listrecordings".into());
        let reply = cti.ask(Value::Object(request)).await.expect("a reply");
        assert_eq!(reply["result"], "success", "{asked:?}: {reply}");
        assert_eq!(reply["searchedsites"], "all", "{asked:?}: {reply}");
        let query =
            Query { scope: scope.clone(), ..Query::from_arguments(&asked).expect("a query") };
        let expected = plain.search(&query).expect("it cannot fail");
        let mut told = reply["recordings"].clone();
        for recording in told.as_array_mut().expect("a list") {
            let site = recording.as_object_mut().expect("an object").remove("site");
            assert_eq!(site, Some(json!("north")));
        }
        assert_eq!(told, json!(expected.recordings), "{asked:?} page {page}");
        assert_eq!(reply["cursor"].as_str(), expected.cursor.as_deref(), "{asked:?} page {page}");
        assert_eq!(reply["total"].as_u64(), expected.total, "{asked:?} page {page}");
        found += expected.recordings.len();
        match expected.cursor {
            Some(cursor) if page < 60 => asked.insert("cursor".to_owned(), cursor.into()),
            _ => return found,
        };
    }
    found
}

/// Puts recordings into a node's catalog while it does not run.
fn fill(datadir: &Path, recordings: &[Recording]) {
    let (catalog, _) = DurableCatalog::open(&datadir.join(CATALOG_FOLDER)).expect("a catalog");
    catalog.put_all(recordings).expect("room");
    catalog.end_rebuild().expect("room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_was_there_is_filled_in_and_searched_as_a_local_one_is() {
    let Some(server) = server().await else { return };
    let mut dice = Dice(0x5eed_0001);
    let recordings: Vec<_> = (0..700).map(|number| recording(number, &mut dice)).collect();
    let plain = MemoryCatalog::new();
    plain.put_all(&recordings).expect("it cannot fail");
    let bench = Bench::prepare(SiteConfig::demo(1, 1), &server.settings("north")).await;
    fill(&bench.node.data_dir(), &recordings);
    let users_file = bench.node.users_path();
    users::add(&users_file, "tina", UserRole::Supervisor, None, Some("some"), PASSWORD)
        .expect("a users file");
    let text = std::fs::read_to_string(&users_file).expect("readable");
    let team = "\n[[team]]\nname = \"some\"\nextensions = [\"2611\", \"261\"]\n";
    // Where there is no team the file says so.
    std::fs::write(&users_file, text.replace("team = []\n", "") + team).expect("writable");
    let bench = bench.started().await;
    bench.metric("astlogger_catalog_database_written_total", |rows| rows >= 700.0).await;
    bench.metric("astlogger_catalog_database_pending", |pending| pending == 0.0).await;
    assert_eq!(
        server.ask(
            "SELECT count(*), count(DISTINCT recordingid), min(site) FROM astlogger.recording"
        ),
        "700|700|north"
    );

    let mut qa = bench.cti("qa").await;
    assert_eq!(
        compare(&mut qa, &plain, Map::from_iter([("limit".to_owned(), json!(50))]), &Scope::ALL)
            .await,
        700
    );
    let mut found = 0;
    for _ in 0..150 {
        found += compare(&mut qa, &plain, question(&mut dice), &Scope::ALL).await;
    }
    assert!(found > 2_000, "the questions find something: {found}");
    let stations = BTreeSet::from(["2611", "261"].map(Extension::from));
    let mut tina = bench.cti("tina").await;
    let mut found = 0;
    for _ in 0..40 {
        found +=
            compare(&mut tina, &plain, question(&mut dice), &Scope::of(stations.clone())).await;
    }
    assert!(found > 20, "{found}");
    // Cursors of no recording, and times that no database knows.
    for asked in [
        json!({"from": "0000-02-01T00:00:00Z"}),
        json!({"to": "0000-02-01T00:00:00Z"}),
        json!({"from": "9999-12-30T00:00:00Z"}),
    ] {
        compare(&mut qa, &plain, asked.as_object().unwrap().clone(), &Scope::ALL).await;
    }
    // The statements of the page are as they stand there.
    let mut ran = 0;
    for block in page::commands("postgresql.md").iter().filter(|block| block.is_for("query")) {
        server.ask(&block.text);
        ran += 1;
    }
    assert!(ran >= 3, "docs/postgresql.md shows {ran} queries");
}

/// Names and revisions of the rows that are not deleted.
fn rows(server: &Postgres) -> BTreeSet<String> {
    let rows = server.ask("SELECT recordingid FROM astlogger.recording");
    rows.lines().map(str::to_owned).collect()
}

fn lying(bench: &GroupBench) -> BTreeSet<String> {
    let both = [ONE, TWO].map(|node| bench.lying(node));
    both.iter().flatten().map(|record| record.recordingid.to_string()).collect()
}

async fn ask(bench: &GroupBench, user: &str, request: Value) -> Value {
    bench.newcomer(TWO, user).await.ask(request).await.expect("a reply")
}

/// The first is tagged and held, the second deleted.
async fn tagged_held_and_deleted(bench: &GroupBench, ids: &[String]) {
    let tag = json!({"request": "tagrecording", "recordingid": ids[0], "add": ["while away"]});
    assert_eq!(ask(bench, "qa", tag).await["result"], "success");
    let hold =
        json!({"request": "legalhold", "recordingid": ids[0], "on": true, "reason": "case 7"});
    assert_eq!(ask(bench, "adam", hold).await["result"], "success");
    let delete = json!({"request": "deleterecording", "recordingid": ids[1], "reason": "told to"});
    assert_eq!(ask(bench, "adam", delete).await["result"], "success");
}

/// What lies on the disks and what the rows say is the same, to the last bit that a record has.
fn rows_say_what_lies(server: &Postgres, bench: &GroupBench) {
    for record in bench.lying(ONE) {
        let id = record.recordingid;
        let row = server
            .ask(&format!("SELECT record FROM astlogger.recording WHERE recordingid = '{id}'"));
        let row: Recording = serde_json::from_str(&row).expect("a record");
        assert_eq!(
            (row.sha256, row.tags, row.hold, row.revision),
            (record.sha256, record.tags, record.hold, record.revision)
        );
    }
}

fn no_password_is_logged(bench: &GroupBench) {
    for member in bench.group.members.values() {
        let log = std::fs::read_to_string(member.node.log_path()).expect("a log");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_after_the_database_was_away_and_a_node_died_meanwhile() {
    let Some(mut server) = server().await else { return };
    let shape = Shape { settings: server.settings("north"), ..Shape::hot_standby(3) };
    let mut bench = GroupBench::start(SiteConfig::demo(3, 2), &shape).await;
    let users = bench.group.members[&ONE].node.users_path();
    for name in ["adam", "berta"] {
        users::add(&users, name, UserRole::Admin, None, None, PASSWORD).expect("a users file");
    }
    bench.group.share_users().expect("writable");
    let first = bench.record(2).await;
    comes_true("both rows, each once, though two nodes wrote", || {
        rows(&server) == first.iter().cloned().collect()
    })
    .await;

    // The database is away: calls are recorded and published, and people see what is wrong.
    server.crash();
    bench.metric(TWO, "astlogger_catalog_database_up", |up| up == 0.0).await;
    bench.metric(ONE, "astlogger_alarms{alarm=\"catalogdatabase\"}", |raised| raised == 1.0).await;
    let calls = bench.calls(3).await;
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 60).await;
    bench.hang_up(&calls);
    bench.quiet().await;
    bench
        .comes_true("five are published", || {
            [ONE, TWO].into_iter().all(|node| bench.lying(node).len() == 5)
        })
        .await;
    bench.metric(ONE, "astlogger_catalog_database_pending", |pending| pending >= 3.0).await;
    tagged_held_and_deleted(&bench, &first).await;
    let listed = ask(&bench, "qa", json!({"request": "listrecordings"})).await;
    assert_eq!(listed["recordings"].as_array().map(Vec::len), Some(4), "{listed}");
    assert_eq!(listed["searchedsites"], "own", "{listed}");
    let told = listed["allsitesfailure"].as_str().expect("a reason");
    assert!(told.contains("127.0.0.1") && !told.contains("s3cret"), "{told}");

    // One of them dies in the midst of it, and both are back before the database is.
    bench.kill(ONE).await;
    bench.kill(TWO).await;
    bench.run().await;
    server.run().await.expect("it starts again");
    let expected: BTreeSet<_> = lying(&bench);
    assert_eq!(expected.len(), 4);
    comes_true("all rows, and none that was deleted", || rows(&server) == expected).await;
    bench.metric(ONE, "astlogger_catalog_database_pending", |pending| pending == 0.0).await;
    bench.metric(TWO, "astlogger_catalog_database_pending", |pending| pending == 0.0).await;
    bench.metric(ONE, "astlogger_alarms{alarm=\"catalogdatabase\"}", |raised| raised == 0.0).await;
    let marked =
        format!("SELECT hold, tags FROM astlogger.recording WHERE recordingid = '{}'", first[0]);
    assert_eq!(server.ask(&marked), "t|{\"while away\"}");
    let gone = format!(
        "SELECT deletedby, deletionreason, record IS NULL, extension IS NULL AND words IS NULL \
         FROM astlogger.entry WHERE recordingid = '{}'",
        first[1]
    );
    assert_eq!(server.ask(&gone), "adam|told to|t|t");
    rows_say_what_lies(&server, &bench);
    no_password_is_logged(&bench);

    // A database that has lost everything is told everything again, and is no less sure of what was deleted.
    server.ask("TRUNCATE astlogger.entry");
    server.ask("UPDATE astlogger.database SET identity = gen_random_uuid()");
    comes_true("all rows are there again", || rows(&server) == expected).await;
    comes_true("and the deleted one as such", || server.ask(&gone) == "adam|told to|t|t").await;
}

/// A database whose tables are of the first form, with this recording of another site.
fn of_the_first_form(server: &Postgres, mut old: Recording) -> RecordingId {
    old.scores.truncate(0);
    let score = json!({"scorecard": "sales", "percent": 62.5, "answers": {}, "by": "qa",
        "at": old.started, "node": 1});
    old.scores.push(serde_json::from_value(score).expect("a score"));
    (old.calling, old.extension) = ("85291234567".to_owned(), Extension::from("4711"));
    for word in [&mut old.agentid, &mut old.called, &mut old.vdn, &mut old.userdata, &mut old.rule]
    {
        *word = "w".to_owned();
    }
    let id = old.recordingid;
    (old.split, old.trunkgroup, old.tags, old.notes) =
        ("w".to_owned(), "w".to_owned(), vec![], vec![]);
    old.parties.clear();
    let step = include_str!("../src/catalog_database/schema/0001_recordings.sql");
    server.ask(&format!(
        "SET ROLE astlogger; CREATE SCHEMA astlogger; {step}; UPDATE astlogger.database SET version = 1"
    ));
    let record = serde_json::to_string(&old).expect("JSON").replace('\'', "''");
    server.ask(&format!(
        "INSERT INTO astlogger.entry (recordingid, change, site, toldby, revision, node, started, ended, durationms, \
         extension, agentid, calling, called, callingkey, calledkey, direction, trunkgroup, vdn, split, ucids, tags, \
         hold, complete, lacksaudio, words, record) \
         SELECT '{id}', 1, 'south', 1, 1, 1, record ->> 'started', record ->> 'ended', 0, '4711', 'w', '85291234567', \
         'w', '85291234567', 'w', 'inbound', 'w', 'w', 'w', '{{}}', '{{}}', false, true, false, 'w', record \
         FROM (SELECT '{record}'::jsonb) AS r (record)"
    )
    .replace("record ->> 'started'", "(record ->> 'started')::timestamptz")
    .replace("record ->> 'ended'", "(record ->> 'ended')::timestamptz"));
    id
}

async fn is_to_be_had_there_only(qa: &mut Cti, id: RecordingId) {
    for request in [
        json!({"request": "fetchrecording", "recordingid": id}),
        json!({"request": "tagrecording", "recordingid": id, "add": ["x"]}),
        json!({"request": "repairrecording", "recordingid": id}),
    ] {
        let refused = qa.ask(request.clone()).await.expect("a reply");
        assert_eq!(refused["error"], "unavailable", "{request}: {refused}");
        let message = refused["message"].as_str().expect("a text");
        assert!(message.contains("site \"south\""), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_brought_up_to_date_and_a_later_one_is_left_alone() {
    let Some(server) = server().await else { return };
    let mut dice = Dice(0x5eed_0002);
    let id = of_the_first_form(&server, recording(1, &mut dice));
    let mut bench = Bench::start_with(SiteConfig::demo(1, 1), &server.settings("north")).await;
    comes_true("the tables are brought up to date", || {
        server.ask("SELECT version FROM astlogger.database") == "3"
    })
    .await;
    let scored = "SELECT scorecards, bestscore, worstscore FROM astlogger.recording";
    assert_eq!(server.ask(scored), "{sales}|62.5|62.5");

    // It is of another site: found here, and to be had there only.
    let mut qa = bench.cti("qa").await;
    let asked =
        json!({"request": "listrecordings", "scorecard": "sales", "minscore": 62, "maxscore": 63});
    let deadline = Instant::now() + LIMIT;
    let listed = loop {
        let listed = qa.ask(asked.clone()).await.expect("a reply");
        if listed["searchedsites"] == "all" {
            break listed;
        }
        assert!(Instant::now() < deadline, "{listed}");
        sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(listed["recordings"][0]["recordingid"], json!(id), "{listed}");
    assert_eq!(listed["recordings"][0]["site"], "south");
    let one = qa.ask(json!({"request": "getrecording", "recordingid": id})).await.expect("a reply");
    assert_eq!(
        (&one["recording"]["site"], &one["recording"]["extension"]),
        (&json!("south"), &json!("4711"))
    );
    is_to_be_had_there_only(&mut qa, id).await;
    let unknown = qa.ask(
        json!({"request": "getrecording", "recordingid": "018bcfe5-6800-7fff-bfff-ffffffffffff"}),
    );
    assert_eq!(unknown.await.expect("a reply")["error"], "notfound");

    // A later program was at the tables.
    server.ask("UPDATE astlogger.database SET version = 99");
    bench.node.stop(LIMIT).await.expect("it ends");
    let mut bench = bench.started().await;
    bench.metric("astlogger_alarms{alarm=\"catalogdatabase\"}", |raised| raised == 1.0).await;
    let log = std::fs::read_to_string(bench.node.log_path()).expect("a log");
    assert!(log.contains("its tables are of version 99"), "{}", bench.log_tail());
    let call = bench.answered_call("5551230001", "31001").await;
    bench.recorded(call).await;
    bench.frames(call, 40).await;
    bench.site.switch().hangup_all(call);
    bench.published(1).await;
    bench.metric("astlogger_catalog_database_pending", |pending| pending == 1.0).await;
    assert_eq!(rows(&server), BTreeSet::from([id.to_string()]), "nothing was written");
    server.ask("UPDATE astlogger.database SET version = 3");
    comes_true("what waited is written", || rows(&server).len() == 2).await;
    bench.node.stop(LIMIT).await.expect("it ends");
}

/// An export of this filter once it is complete, what is in it, and what the reply to the request was.
async fn exported(bench: &Bench, qa: &mut Cti, filter: Value) -> (Value, Value) {
    let mut request = filter;
    request["request"] = "exportrecordings".into();
    let reply = qa.ask(request).await.expect("a reply");
    assert_eq!(reply["result"], "success", "{reply}");
    let deadline = Instant::now() + LIMIT;
    let address = loop {
        let all = qa.ask(json!({"request": "listexports"})).await.expect("a reply");
        let all = all["exports"].as_array().expect("a list").clone();
        let own =
            all.into_iter().find(|own| own["export"] == reply["export"]).expect("it is there");
        for told in ["othersites", "allsitesfailure"] {
            assert_eq!(own[told], reply[told], "{own}");
        }
        if own["state"] == "complete" {
            break own["address"].as_str().expect("an address").to_owned();
        }
        assert!(Instant::now() < deadline, "{own}");
        sleep(std::time::Duration::from_millis(50)).await;
    };
    let token = token(bench).await;
    let line = format!("GET {address} HTTP/1.1\r\nAuthorization: Bearer {token}");
    let (head, body) = http(bench, &line, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), body).expect("writable");
    (reply, zip_of::read(file.path()))
}

/// What Python finds in the table of recordings.
fn named(zip: &Value, table: &str) -> Vec<String> {
    let rows = zip[table].as_array().expect("a table").iter();
    rows.map(|row| row["recordingid"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_names_what_lies_at_other_sites_and_a_report_says_whose_calls_it_is_of() {
    let Some(mut server) = server().await else { return };
    let mut dice = Dice(0x5eed_0003);
    let far = of_the_first_form(&server, recording(1, &mut dice)).to_string();
    let settings = format!("{}al_mindiskfree = \"1 MB\"\n", server.settings("north"));
    let bench = Bench::start_with(SiteConfig::demo(1, 1), &settings).await;
    let near = recorded_at(&bench, "31001", 1).await;
    comes_true("both are there", || rows(&server) == BTreeSet::from([near.clone(), far.clone()]))
        .await;
    let mut qa = bench.cti("qa").await;
    let (reply, zip) = exported(&bench, &mut qa, json!({})).await;
    assert_eq!((&reply["total"], &reply["othersites"]), (&json!(2), &json!({"south": 1})));
    assert_eq!(named(&zip, "recordings"), [near.as_str()]);
    assert_eq!(named(&zip, "missing"), [far.as_str()]);
    let missing = &zip["missing"][0];
    assert_eq!(missing["error"], "unavailable", "{missing}");
    assert!(missing["message"].as_str().expect("text").contains("site \"south\""), "{missing}");
    // Nothing of this one.
    let refused = json!({"request": "exportrecordings", "scorecard": "sales"});
    let refused = qa.ask(refused).await.expect("a reply");
    assert_eq!(refused["error"], "unavailable", "{refused}");
    assert!(
        refused["message"].as_str().expect("text").contains("1 at site \"south\""),
        "{refused}"
    );
    let (reply, _) = exported(&bench, &mut qa, json!({"extension": "31001"})).await;
    assert_eq!((&reply["total"], &reply["othersites"]), (&json!(1), &json!(null)), "{reply}");

    let day = qa.ask(json!({"request": "completeness"})).await.expect("a reply");
    assert_eq!((&day["site"], &day["searchedsites"]), (&json!("north"), &json!("own")), "{day}");
    assert!(day["allsitesfailure"].as_str().expect("a reason").contains("missed"), "{day}");
    assert_eq!(day["calls"], 1, "{day}");

    server.crash();
    let (reply, zip) = exported(&bench, &mut qa, json!({})).await;
    let told = reply["allsitesfailure"].as_str().expect("a reason");
    assert!(told.contains("127.0.0.1"), "{told}");
    assert_eq!(named(&zip, "recordings"), [near.as_str()]);
    let missing = zip["missing"][0]["message"].as_str().expect("text");
    assert!(missing.starts_with("other sites could not be asked"), "{missing}");
}

/// A server that speaks TLS only, as `localhost`; its authority's certificate goes into `own`.
async fn with_tls(plain: &Postgres, own: &Path) -> Postgres {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).expect("valid");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&authority).expect("a certificate");
    let issuer = rcgen::Issuer::from_params(&parameters, &authority);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let leaf = rcgen::CertificateParams::new(names)
        .expect("valid")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let (cert, private) = (
        plain.own_file("server.crt", &leaf.pem()).expect("writable"),
        plain.own_file("server.key", &key.serialize_pem()).expect("writable"),
    );
    let tls = format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        cert.display(),
        private.display()
    );
    std::fs::write(own, ca.pem()).expect("writable");
    Postgres::start_with(&tls, "hostnossl all astlogger 127.0.0.1/32 reject")
        .await
        .expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_the_database_and_never_the_password() {
    let Some(plain) = server().await else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (own, other) = (dir.path().join("ca.crt"), dir.path().join("other.crt"));
    let tls = with_tls(&plain, &own).await;
    let stranger = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("a certificate");
    std::fs::write(&other, stranger.cert.pem()).expect("writable");
    let password = dir.path().join("password");
    std::fs::write(&password, format!("{LOGIN_PASSWORD}\n")).expect("writable");

    let url =
        |url: &str, more: &str| format!("al_site = \"north\"\nal_catalogurl = \"{url}\"\n{more}");
    let in_file = format!("al_catalogpasswordfile = {:?}", password.display().to_string());
    let by = |ca: &Path| format!("al_catalogca = {:?}", ca.display().to_string());
    let far = tls.url().replace("127.0.0.1", "localhost");
    let with = |mode: &str| format!("{far}?sslmode={mode}");
    let closed = format!(
        "postgres://astlogger:s3cret@127.0.0.1:{}/calls",
        astlogger::demo::free_tcp_port().unwrap()
    );
    for (lines, verdict, words) in [
        (url(&plain.url(), ""), "ok", "made by the first node"),
        (url(&plain.url_without_password(), &in_file), "ok", "PostgreSQL"),
        (
            url(&plain.url_without_password(), "al_catalogpassword = \"s3cret\""),
            "warn",
            "authentication failed",
        ),
        (url(&plain.url().replace("/calls", "/none"), ""), "warn", "does not exist"),
        (url(&closed, ""), "warn", "refused"),
        (url(&with("disable"), ""), "warn", "pg_hba.conf"),
        (url(&with("prefer"), ""), "ok", "TLS"),
        (url(&with("require"), ""), "ok", "TLS"),
        (url(&with("verify-full"), &by(&own)), "ok", "TLS"),
        (url(&with("verify-full"), &by(&other)), "warn", "certificate"),
        (url(&with("require"), &by(&other)), "warn", "certificate"),
        // The certificate names localhost.
        (
            url(&with("verify-full").replace("localhost", "127.0.0.1"), &by(&own)),
            "warn",
            "certificate",
        ),
        (url(&with("verify-ca").replace("localhost", "127.0.0.1"), &by(&own)), "ok", "TLS"),
        (url(&format!("{}?sslmode=require", plain.url()), ""), "warn", "TLS"),
    ] {
        let (finding, all) = check_finds(dir.path(), &lines, CHECKED);
        let told = finding.to_string();
        assert_eq!(finding["verdict"], verdict, "{lines}\n{all}");
        assert!(told.contains(words), "{words} is not in {told}");
        assert!(!all.contains("s3cret"), "{all}");
    }
    plain.ask("ALTER DATABASE calls OWNER TO admin");
    let (finding, all) = check_finds(dir.path(), &url(&plain.url(), ""), CHECKED);
    assert!(finding["found"].to_string().contains("may not make any"), "{all}");
}

/// Records a call at a station; the name of its recording.
async fn recorded_at(bench: &Bench, station: &str, count: usize) -> String {
    let known = |bench: &Bench| -> BTreeSet<String> {
        let found = bench.node.recordings().expect("records can be read");
        found.iter().map(|(_, record)| record.recordingid.to_string()).collect()
    };
    let before = known(bench);
    let call = bench.answered_call("5551230001", station).await;
    bench.recorded(call).await;
    bench.frames(call, 40).await;
    bench.site.switch().hangup_all(call);
    bench.published(count).await;
    known(bench).difference(&before).next().expect("a new one").clone()
}

/// An administrator has added a constraint, or a trigger that does not like what it sees: only what is refused is
/// kept back, whatever comes before and behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_is_named_and_holds_nothing_else_up() {
    let Some(server) = server().await else { return };
    let settings = format!("al_site = \"north\"\nal_catalogurl = \"{}\"\n", server.url());
    let mut bench = Bench::start_with(SiteConfig::demo(2, 2), &settings).await;
    let first = recorded_at(&bench, "31001", 1).await;
    comes_true("it is written", || rows(&server) == BTreeSet::from([first.clone()])).await;

    let alarm = "astlogger_alarms{alarm=\"catalogdatabase\"}";
    let constraint = (
        "ALTER TABLE astlogger.entry ADD CONSTRAINT not_this CHECK (extension <> '31002')",
        "ALTER TABLE astlogger.entry DROP CONSTRAINT not_this",
        "23514",
    );
    let trigger = (
        "CREATE FUNCTION not_this() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.extension = '31002' THEN RAISE EXCEPTION 'not %', NEW.extension; END IF; \
         RETURN NEW; END $$; CREATE TRIGGER not_this BEFORE INSERT OR UPDATE ON astlogger.entry \
         FOR EACH ROW EXECUTE FUNCTION not_this()",
        "DROP TRIGGER not_this ON astlogger.entry",
        "P0001",
    );
    let mut all = BTreeSet::from([first]);
    for (add, remove, state) in [constraint, trigger] {
        server.ask(add);
        let refused = recorded_at(&bench, "31002", all.len() + 1).await;
        bench.metric(alarm, |raised| raised == 1.0).await;
        let log = std::fs::read_to_string(bench.node.log_path()).expect("a log");
        let said =
            format!("recording {refused} is not taken by the catalog's database: SQLSTATE {state}");
        assert!(log.contains(&said), "{}", bench.log_tail());
        all.insert(recorded_at(&bench, "31001", all.len() + 2).await);
        comes_true("what comes behind it is written", || rows(&server) == all).await;
        bench.metric("astlogger_catalog_database_pending", |pending| pending == 1.0).await;
        bench.metric("astlogger_catalog_database_up", |up| up == 1.0).await;

        // A start tries again what was refused, at once.
        server.ask(remove);
        bench.node.stop(LIMIT).await.expect("it ends");
        bench = bench.started().await;
        all.insert(refused);
        comes_true("now it is taken", || rows(&server) == all).await;
        bench.metric(alarm, |raised| raised == 0.0).await;
        bench.metric("astlogger_catalog_database_pending", |pending| pending == 0.0).await;
    }
}
