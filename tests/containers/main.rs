//! The package on machines that systemd has booted: three containers in which it is installed, configured and
//! started with nothing but the commands of `docs/install.md`, beside the simulated switch. Then what
//! befalls a service: killed, hanging, stopped, its machine without power or network, upgraded. Whatever
//! happens, each call has exactly one recording, with each 20 ms in the file or in a declared gap. And an archive behind
//! SFTP, on one of them, from within the unit's sandbox.
//!
//! With `EARLIER_PROGRAM=FILE` an earlier build is installed first, upgraded to this one, and this one back to
//! it; otherwise it is this one under three numbers.
//!
//! It needs root, systemd-nspawn and the Debian that `./setup tests` has made; where the kernel forbids what
//! containers are made of, the test says so and does nothing. Where it does not, a machine that does not boot is a
//! failure.

#[path = "../common/mod.rs"]
mod common;
#[path = "../hosts/lan.rs"]
#[allow(dead_code, reason = "these machines have one cable each")]
mod lan;

mod archived;
mod machine;
mod site;

use std::time::{Duration, Instant};

use common::skipped::skip;
use lan::Lan;
use serde_json::Value;
use site::{Machines, ONE, TWO, WITNESS, earlier_program};

/// From the first command of the page to the first recorded call.
const INSTALL_MAX: Duration = Duration::from_secs(300);
/// How long a stop may take, its hand-over included.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Frames of a call before and after something happens.
const SOME: u32 = 60;

/// Runs a test where there can be machines, or says that it does not.
fn on_machines<F: Future<Output = ()>>(test: impl FnOnce(Machines) -> F + Send + 'static) {
    let ran = std::thread::spawn(move || {
        let base = machine::base()?;
        let folder = tempfile::TempDir::new()?;
        let lan = Lan::connect(3)?;
        machine::may_have_machines(&base, folder.path())?;
        // What is mounted there goes before the folder does, with this thread's namespace or by hand.
        let machines = Machines::switch_on(lan, folder, &base).expect("machines that boot");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build()?;
        runtime.block_on(async { test(machines.with_site().await).await });
        anyhow::Ok(())
    });
    match ran.join() {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => skip("machines booted by systemd", &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[test]
fn installed_by_the_page_it_survives_what_befalls_a_service() {
    on_machines(async |mut machines| {
        installed_by_the_page(&mut machines).await;
        if earlier_program().is_none() {
            what_it_logs_has_fields(&machines);
        }
        drilled(&mut machines).await;
        killed(&mut machines).await;
        hanging(&mut machines).await;
        stopped(&mut machines).await;
        without_power(&mut machines).await;
        without_network(&mut machines).await;
        upgraded(&mut machines, "2.0.0-1", "").await;
        upgraded(&mut machines, "1.0.0-1", "--allow-downgrades").await;
        machines.assert_right().await;
    });
}

#[test]
fn under_its_unit_it_archives_by_sftp_and_plays_from_there() {
    on_machines(async |mut machines| {
        installed_by_the_page(&mut machines).await;
        archived::archived(&mut machines).await;
    });
}

async fn installed_by_the_page(machines: &mut Machines) {
    let begun = Instant::now();
    machines.bring("1.0.0-1");
    machines.follow("install.md");
    machines.leads(ONE).await;
    let call = machines.call().await;
    machines.recorded_by(&[call], ONE).await;
    let took = begun.elapsed();
    machines.tell(&format!("installed and recording after {} s", took.as_secs()));
    assert!(took < INSTALL_MAX, "{took:?}");
    machines.go_on(&[call], SOME).await;
    machines.hang_up(&[call]);
    machines.published(1).await;
}

/// Each line in the journal says whose it is, and lines about calls and recordings say of which; nobody's
/// number is in any.
fn what_it_logs_has_fields(machines: &Machines) {
    let recordings = machines.recordings();
    let (_, record) = recordings.first().expect("a recording");
    let entries = machines.journal(ONE);
    let word = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let published = entries
        .iter()
        .find(|entry| word(entry, "MESSAGE").starts_with("published "))
        .unwrap_or_else(|| panic!("nothing of a recording: {entries:#?}"));
    let ucid = record.ucid.as_ref().expect("the switch names its calls").to_string();
    for (name, value) in [
        ("ASTLOGGER_RECORDING", record.recordingid.to_string()),
        ("ASTLOGGER_CALL", ucid),
        ("ASTLOGGER_NODE", ONE.to_string()),
        ("PRIORITY", "6".to_owned()),
        ("_SYSTEMD_UNIT", "astlogger.service".to_owned()),
        ("SYSLOG_IDENTIFIER", "astlogger".to_owned()),
    ] {
        assert_eq!(word(published, name), value, "{name} of {published:#}");
    }
    // Whom `astlogger user add` has written down as root, the service can read.
    let users = |entry: &&Value| word(entry, "MESSAGE").starts_with("users file read");
    let users = entries.iter().find(users).expect("it reads its users");
    assert_eq!(word(users, "ASTLOGGER_USERS"), "2", "{users:#}");
    let epoch: u64 = word(published, "ASTLOGGER_EPOCH").parse().expect("an epoch");
    assert!(epoch > 0, "{published:#}");
    let of_call = format!("ASTLOGGER_RECORDING={}", record.recordingid);
    let found = machines.at(ONE).run(&format!("journalctl --no-pager -o cat {of_call}"));
    assert!(found.lines().count() >= 2, "{found}");
    let caller = record.calling.as_str();
    assert!(caller.len() > 8, "{caller}");
    for node in [ONE, TWO, WITNESS] {
        let all = machines.at(node).run("journalctl --no-pager -o json");
        assert!(!all.contains(caller), "node {node} logs whole numbers");
    }
}

/// A drill, as `docs/failover.md` says.
async fn drilled(machines: &mut Machines) {
    let (lead, _) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 1).await;
    machines.follow("failover.md");
    machines.leads(lead).await;
    machines.go_on(&calls, SOME).await;
    machines.hang_up(&calls);
    machines.tell("drilled");
}

async fn killed(machines: &mut Machines) {
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 3).await;
    let before = machines.unit(lead, "NRestarts");
    machines.at(lead).run("systemctl kill -s KILL astlogger");
    machines.recorded_by(&calls, other).await;
    machines.go_on(&calls, SOME).await;
    machines.until("systemd restarts it", |all| all.unit(lead, "NRestarts") != before).await;
    machines.serves(lead).await;
    machines.hang_up(&calls);
    machines.tell("killed");
}

async fn hanging(machines: &mut Machines) {
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 3).await;
    let hung = machines.unit(lead, "MainPID");
    machines.at(lead).run("systemctl kill -s STOP astlogger");
    let begun = Instant::now();
    machines.recorded_by(&calls, other).await;
    let took = begun.elapsed();
    assert_eq!(machines.unit(lead, "MainPID"), hung, "the group is faster than the watchdog");
    machines.until("its watchdog ends it", |all| all.unit(lead, "MainPID") != hung).await;
    let log = machines.at(lead).run("journalctl --no-pager -o cat -u astlogger");
    assert!(log.contains("Watchdog timeout"), "{log}");
    machines.serves(lead).await;
    machines.go_on(&calls, SOME).await;
    machines.hang_up(&calls);
    machines.tell(&format!(
        "hanging: taken over after {} ms, restarted after {} s",
        took.as_millis(),
        begun.elapsed().as_secs()
    ));
}

async fn stopped(machines: &mut Machines) {
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 3).await;
    let begun = Instant::now();
    machines.at(lead).run("systemctl stop astlogger");
    let took = begun.elapsed();
    assert!(took <= STOP_MAX, "{took:?}");
    assert_eq!(machines.unit(lead, "ActiveState"), "inactive");
    assert_eq!(machines.unit(lead, "Result"), "success");
    machines.recorded_by(&calls, other).await;
    machines.go_on(&calls, SOME).await;
    machines.at(lead).run("systemctl start astlogger");
    machines.serves(lead).await;
    machines.hang_up(&calls);
    machines.tell(&format!("stopped within {} ms", took.as_millis()));
}

async fn without_power(machines: &mut Machines) {
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 3).await;
    machines.at_mut(lead).cut_power();
    machines.recorded_by(&calls, other).await;
    machines.go_on(&calls, SOME).await;
    // Nobody starts the service: it is enabled.
    machines.at_mut(lead).switch_on().expect("it boots again");
    machines.serves(lead).await;
    machines.hang_up(&calls);
    machines.tell("without power");
}

async fn without_network(machines: &mut Machines) {
    let (lead, other) = machines.lead_and_other().await;
    let calls = machines.calls_at(lead, 3).await;
    machines.unplug(lead);
    machines.recorded_by(&calls, other).await;
    machines.go_on(&calls, SOME).await;
    machines.plug(lead);
    machines.serves(lead).await;
    machines.go_on(&calls, SOME).await;
    machines.hang_up(&calls);
    machines.tell("without network");
}

/// Another version on one machine after the other, as `docs/upgrade.md` says, while calls go on.
async fn upgraded(machines: &mut Machines, version: &str, option: &str) {
    let (lead, other) = machines.lead_and_other().await;
    let mut calls = machines.calls_at(lead, 2).await;
    machines.bring(version);
    for node in [WITNESS, other, lead] {
        let install = format!("apt-get install -y {option} ./astlogger_{version}_*.deb");
        machines.at(node).run(&install);
        let installed = machines.at(node).run("dpkg-query -W -f '${Version}' astlogger");
        assert_eq!(installed, version);
        machines.serves(node).await;
        // One that begins while versions differ.
        let call = machines.call().await;
        machines.recorded_by_any(&[call], &[ONE, TWO]).await;
        calls.push(call);
    }
    machines.recorded_by(&calls, other).await;
    machines.go_on(&calls, SOME).await;
    machines.hang_up(&calls);
    machines.tell(&format!("{version} everywhere"));
}
