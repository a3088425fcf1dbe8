//! Certificates that end while a group runs: those by which the members know each other, and that of the AES. What
//! is connected stays so and calls go on; what has to be made anew is refused, by name, until there is a new
//! certificate. (Those of the web server are tried in `tests/tls.rs`.)

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use astlogger::demo::Shape;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use simulator::{SiteConfig, TlsConfig};
use storage_core::NodeId;
use tempfile::TempDir;

use crate::common::group::{GroupBench, ONE, TWO, WITNESS};
use crate::sees::{cleared, logged, node, told};

const MEMBERS: [NodeId; 3] = [ONE, TWO, WITNESS];
const LONG: Duration = Duration::from_secs(400 * 86_400);
/// Long enough to be taken into use, short enough to wait for.
const SHORT: Duration = Duration::from_secs(12);
/// How long a call may be without audio when the lead's AES is gone and the other takes over.
const HOLE_MAX_MS: u64 = 1_500;

/// An authority, and the files of what it has signed.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of this test");
        let made = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join("ca.pem"), made.pem()).expect("writable");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a certificate that ends in so long in the place of the one before, and its key.
    fn sign(&self, name: &str, names: &[&str], ends_in: Duration) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + ends_in).into();
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        put(&self.file(&format!("{name}.key")), &key.serialize_pem());
        put(&self.file(&format!("{name}.pem")), &made.pem());
    }

    /// One for each member.
    fn sign_members(&self, ends_in: Duration) {
        for member in MEMBERS {
            let name = format!("node-{member}.astlogger.internal");
            self.sign(&format!("node-{member}"), &[&name], ends_in);
        }
    }

    /// One for the AES.
    fn sign_aes(&self, ends_in: Duration) {
        self.sign("aes", &["127.0.0.1"], ends_in);
    }
}

fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("writable");
    fs::rename(new, file).expect("writable");
}

/// A hot standby whose members and AES show certificates.
async fn group(authority: &Authority) -> GroupBench {
    authority.sign_members(LONG);
    authority.sign_aes(LONG);
    let mut config = SiteConfig::demo(5, 2);
    let [certificate, key] =
        ["aes.pem", "aes.key"].map(|name| authority.file(name).display().to_string());
    config.tls = Some(TlsConfig { certificate, key });
    for aes in &mut config.aes {
        aes.tls = true;
    }
    let mut bench = GroupBench::prepare(config, &Shape::hot_standby(5)).await;
    let ca = authority.file("ca.pem").display().to_string();
    for member in MEMBERS {
        let [certificate, key] = ["pem", "key"]
            .map(|ending| authority.file(&format!("node-{member}.{ending}")).display().to_string());
        let lines = format!(
            "al_clusterca = {ca:?}\nal_clustercert = {certificate:?}\nal_clusterkey = {key:?}\n"
        );
        bench.edit(member, "al_nodeid", &format!("{lines}al_nodeid"));
        if member != WITNESS {
            let aes = format!("al_aestls = true\nal_aesca = {ca:?}\n");
            bench.edit(member, "al_aestls = false\n", &aes);
        }
    }
    bench.run().await;
    bench.leads_steadily(ONE).await;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aes_whose_certificate_ends_is_told_before_it_is_lost_and_back_once_it_is_renewed() {
    let authority = Authority::new();
    let bench = group(&authority).await;
    let faults = bench.group.site.faults();
    authority.sign_aes(SHORT);
    for aes in 0..2 {
        faults.cut_aes(aes, Duration::ZERO);
    }
    for recorder in [ONE, TWO] {
        told(node(&bench, recorder), "certificateexpiring", "the AES shows").await;
    }
    bench.leads_steadily(ONE).await;
    let mut calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    for recorder in [ONE, TWO] {
        let alarm = told(node(&bench, recorder), "certificateinvalid", "has ended on").await;
        assert_eq!(alarm.subject, "aes");
    }
    // Who is connected stays connected.
    calls.push(bench.call(2).await);
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 60).await;
    // Who has to connect anew is not let go on with it, and says why; the other recorder leads.
    faults.cut_aes(0, Duration::ZERO);
    told(node(&bench, ONE), "aesdown", "expired").await;
    bench.says_it_leads(TWO).await;
    let during = bench.call(3).await;
    bench.recorded_by(&[during], TWO).await;
    calls.push(during);
    bench.go_on(&calls, 60).await;

    authority.sign_aes(LONG);
    cleared(node(&bench, ONE), "aesdown", "").await;
    cleared(node(&bench, ONE), "certificateinvalid", "aes").await;
    bench.leads(ONE).await;
    bench.go_on(&calls, 60).await;
    bench.hang_up(&calls);
    let verdict = bench.assert_right(1).await;
    assert_eq!(verdict.calls_recorded, 4, "{verdict:?}");
    assert!(verdict.takeover_gap_ms_max <= HOLE_MAX_MS, "{verdict:?}\n{}", bench.log_tails());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_certificates_end_stay_together_and_let_nobody_in_until_they_are_renewed() {
    let authority = Authority::new();
    let mut bench = group(&authority).await;
    let mut calls = bench.calls(2).await;
    bench.recorded_by(&calls, ONE).await;
    authority.sign_members(SHORT);
    for member in MEMBERS {
        let alarm = told(node(&bench, member), "certificateinvalid", "has ended on").await;
        assert_eq!(alarm.subject, "al_clustercert");
    }
    // Links that are up go on.
    calls.push(bench.call(2).await);
    bench.recorded_by(&calls, ONE).await;
    bench.go_on(&calls, 60).await;
    bench.hang_up(&calls[..1]);
    bench.published(1).await;
    bench.leads_steadily(ONE).await;
    // One that comes back finds nobody who takes its certificate; the others go on without it.
    bench.kill(TWO).await;
    bench.group.member(TWO).expect("a member").node.start().expect("it starts");
    logged(node(&bench, TWO), "expired").await;
    told(node(&bench, ONE), "memberdown", "node 2").await;
    calls.push(bench.call(3).await);
    bench.recorded_by(&calls[1..], ONE).await;
    bench.go_on(&calls[1..], 60).await;

    authority.sign_members(LONG);
    bench.run().await;
    bench.duty(TWO, "standby").await;
    for member in MEMBERS {
        cleared(node(&bench, member), "certificateinvalid", "al_clustercert").await;
    }
    cleared(node(&bench, ONE), "memberdown", "2").await;
    bench.go_on(&calls[1..], 60).await;
    bench.hang_up(&calls[1..]);
    let verdict = bench.assert_right(1).await;
    assert_eq!((verdict.calls_recorded, verdict.takeovers), (4, 0), "{verdict:?}");
}
