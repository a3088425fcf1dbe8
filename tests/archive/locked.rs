//! Object lock against a real server that enforces it (moto). What it has locked, and what it refuses, is judged by
//! Amazon's own client (boto3), not by what the recorder says.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use astlogger::users::{self, UserRole};
use serde_json::{Value, json};
use simulator::SiteConfig;
use storage_core::{Recording, WallTime};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::check::assert_found;
use crate::common::skipped::skip;
use crate::common::{Bench, LIMIT, PASSWORD};
use crate::store::{Store, files_in};
use crate::{ROOMY, all_archived, comes_true, raised, record_one};

const LOCKS: &str = "al_archivelock = \"governance\"\nal_archivelockdays = 30\n";

/// The server, with the bucket `locked`, which has object lock, and `plain`, which has not.
struct Moto {
    python: PathBuf,
    port: u16,
    child: Child,
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// A running one; `None` where there is none to be had, which is said.
    async fn start() -> Option<Self> {
        let moto = match Self::spawn() {
            Ok(moto) => moto,
            Err(reason) => {
                skip("an S3 server with object lock", &reason);
                return None;
            }
        };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(moto.address()).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            sleep(Duration::from_millis(50)).await;
        }
        moto.ask(
            "s3.create_bucket(Bucket='locked', ObjectLockEnabledForBucket=True)\n\
             s3.create_bucket(Bucket='plain')\ntell(None)",
        );
        Some(moto)
    }

    fn spawn() -> Result<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        let folder = target.ok_or_else(|| anyhow!("no folder above"))?.join("moto/bin");
        let server = folder.join("moto_server");
        ensure!(server.exists(), "{} is missing: run ./setup tests", server.display());
        let port = astlogger::demo::free_tcp_port()?;
        let child = Command::new(server)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { python: folder.join("python"), port, child })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn settings(&self, bucket: &str) -> String {
        format!(
            "al_archive = \"s3://{bucket}/site one\"\nal_s3endpoint = \"http://{}\"\n\
             al_s3accesskey = \"recorder\"\nal_s3secretkey = \"hunter2hunter2\"\n",
            self.address()
        )
    }

    /// What Amazon's client has to say: `tell` in the script gives the answer.
    fn ask(&self, script: &str) -> Value {
        let begin = format!(
            "import boto3, botocore, json, datetime\n\
             def tell(what): print(json.dumps(what, default=lambda time: time.isoformat()))\n\
             s3 = boto3.client('s3', endpoint_url='http://{}', region_name='us-east-1',\n\
             \x20   aws_access_key_id='judge', aws_secret_access_key='judge')\n",
            self.address()
        );
        let asked = Command::new(&self.python).args(["-c", &(begin + script)]).output();
        let asked = asked.expect("Python runs");
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {asked:?}"))
    }

    /// Each version of each object: name, whether it is the latest, mode, end and hold of its lock.
    fn versions(&self) -> Vec<Value> {
        let told = self.ask(
            "page = s3.list_object_versions(Bucket='locked')\n\
             def look(v):\n\
             \x20   # It may go while it is looked at.\n\
             \x20   try: h = s3.head_object(Bucket='locked', Key=v['Key'], VersionId=v['VersionId'])\n\
             \x20   except botocore.exceptions.ClientError: return None\n\
             \x20   return dict(key=v['Key'], id=v['VersionId'], latest=v['IsLatest'],\n\
             \x20       mode=h.get('ObjectLockMode'), until=h.get('ObjectLockRetainUntilDate'),\n\
             \x20       hold=h.get('ObjectLockLegalHoldStatus'))\n\
             tell([v for v in map(look, page.get('Versions', [])) if v])",
        );
        told.as_array().cloned().unwrap_or_default()
    }

    /// The markers of deleted objects.
    fn markers(&self) -> usize {
        let told = self
            .ask("tell(len(s3.list_object_versions(Bucket='locked').get('DeleteMarkers', [])))");
        told.as_u64().and_then(|count| usize::try_from(count).ok()).expect("a number")
    }

    /// The latest versions, all of which are held or not.
    fn held(&self, hold: &str) -> bool {
        let versions = self.versions();
        let latest: Vec<_> = versions.iter().filter(|version| version["latest"] == true).collect();
        latest.len() == 2 && latest.iter().all(|version| version["hold"] == hold)
    }
}

/// When a lock of thirty days ends.
fn ends(record: &Recording) -> WallTime {
    let seconds = record.ended.as_millis().div_euclid(1000);
    let seconds = seconds + i64::from(record.ended.as_micros() % 1_000_000 != 0);
    WallTime::from_millis((seconds + 30 * 86_400) * 1000)
}

async fn ask(bench: &Bench, user: &str, request: Value) -> Value {
    bench.cti(user).await.ask(request).await.expect("a reply")
}

async fn hold(bench: &Bench, user: &str, record: &Recording, on: bool) -> Value {
    let id = record.recordingid;
    ask(
        bench,
        user,
        json!({"request": "legalhold", "recordingid": id, "on": on, "reason": "case 7"}),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_locked_in_the_archive_nobody_deletes_before_its_time_and_then_the_recorder_does() {
    let Some(moto) = Moto::start().await else { return };
    let settings = moto.settings("locked") + LOCKS + ROOMY;
    let bench = Bench::prepare(SiteConfig::demo(2, 1), &settings).await;
    for admin in ["adam", "berta"] {
        users::add(&bench.node.users_path(), admin, UserRole::Admin, None, None, PASSWORD)
            .expect("a users file");
    }
    let bench = bench.started().await;
    record_one(&bench, 1).await;
    let (_, record) = all_archived(&bench, 1).await.remove(0);
    let id = record.recordingid;
    let versions = moto.versions();
    assert_eq!(versions.len(), 2, "{versions:?}");
    for version in &versions {
        assert_eq!(version["mode"], "GOVERNANCE", "{version}");
        let until: WallTime = version["until"].as_str().expect("a time").parse().expect("a time");
        assert_eq!(until, ends(&record), "{version}");
    }
    let refused = moto.ask(
        "v = s3.list_object_versions(Bucket='locked')['Versions'][0]\n\
         try: s3.delete_object(Bucket='locked', Key=v['Key'], VersionId=v['VersionId']); tell('deleted')\n\
         except botocore.exceptions.ClientError as error: tell(error.response['Error']['Code'])",
    );
    assert_eq!(refused, "AccessDenied", "the server enforces it");

    let held = hold(&bench, "adam", &record, true).await;
    assert_eq!(held["hold"], true, "{held}");
    comes_true(&bench, "it is held there, too", || moto.held("ON")).await;
    let deleted = json!({"request": "deleterecording", "recordingid": id, "reason": "asked for"});
    let refused = ask(&bench, "adam", deleted.clone()).await;
    assert_ne!(refused["result"], "success", "{refused}");
    assert_eq!(moto.markers(), 0, "nothing has happened there");
    hold(&bench, "adam", &record, false).await;
    let released = hold(&bench, "berta", &record, false).await;
    assert_eq!(released["hold"], false, "{released}");
    comes_true(&bench, "it is not held there any more", || moto.held("OFF")).await;

    // The debt stays until the lock ends.
    let told = ask(&bench, "adam", deleted).await;
    assert_eq!(told["result"], "success", "{told}");
    bench.metric("astlogger_archive_locked", |locked| locked == 1.0).await;
    bench.metric("astlogger_archive_pending", |pending| pending == 0.0).await;
    assert_eq!(moto.markers(), 2, "it is hidden");
    assert!(moto.versions().len() >= 2, "and there");
    let log = std::fs::read_to_string(bench.node.log_path()).expect("the log");
    let until = format!("the store keeps it until {}", ends(&record));
    assert!(log.contains(&until), "{until} is not in {log}");
    moto.ask(
        "past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)\n\
         for v in s3.list_object_versions(Bucket='locked')['Versions']:\n\
         \x20   s3.put_object_retention(Bucket='locked', Key=v['Key'], VersionId=v['VersionId'],\n\
         \x20       BypassGovernanceRetention=True, Retention=dict(Mode='GOVERNANCE', RetainUntilDate=past))\n\
         tell(None)",
    );
    comes_true(&bench, "all of it goes when the lock has ended", || {
        moto.versions().is_empty() && moto.markers() == 0
    })
    .await;
    bench.metric("astlogger_archive_locked", |locked| locked == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_locks_is_told_and_archives_all_the_same() {
    let Some(moto) = Moto::start().await else { return };
    let bench =
        Bench::start_with(SiteConfig::demo(2, 1), &(moto.settings("plain") + LOCKS + ROOMY)).await;
    record_one(&bench, 1).await;
    all_archived(&bench, 1).await;
    raised(&bench, "archivenotlocked", true).await;
    let there = moto.ask("tell(len(s3.list_objects_v2(Bucket='plain')['Contents']))");
    assert_eq!(there, 2);

    let dir = TempDir::new().expect("a folder");
    let none = moto.settings("none");
    assert_found(dir.path(), &none, "warn", "al_archive", &["no bucket none", "make the bucket"]);
    // Another kind of server does not know the request at all.
    let Some(store) = Store::start().await else { return };
    let bench = Bench::prepare(SiteConfig::demo(2, 1), &(store.settings() + LOCKS + ROOMY)).await;
    users::add(&bench.node.users_path(), "adam", UserRole::Admin, None, None, PASSWORD)
        .expect("a users file");
    let bench = bench.started().await;
    record_one(&bench, 1).await;
    let (_, record) = all_archived(&bench, 1).await.remove(0);
    raised(&bench, "archivenotlocked", true).await;
    // Nor has it versions, and deletes as ever.
    let id = record.recordingid;
    let deleted = json!({"request": "deleterecording", "recordingid": id, "reason": "asked for"});
    assert_eq!(ask(&bench, "adam", deleted).await["result"], "success");
    comes_true(&bench, "it goes there, too", || files_in(&store.objects()).is_empty()).await;
}
