//! The certificates of a running node: their files are looked at, what has changed is taken into use, and people are
//! told before one ends. It decides when to look and what to say; how a certificate is taken into use is the
//! matter of the part that shows it (`web`, `cluster`, `recorder`).
//!
//! A pair of files is replaced one after the other, so for a moment key and certificate do not fit. What cannot be
//! used is therefore tried again at each look, and told only when it stays so.

pub(crate) mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::Group;
use recorder::aes_link::AesTls;
use recorder::clock::Clock;
use storage_core::MonoTime;
use tokio::signal::unix::Signal;

use crate::alarms::{Alarm, Alarms};
use crate::config::Config;
use crate::hub::Hub;
use crate::stamp::Stamp;
use crate::web::Certificate;
use validity::{Ends, URGENT_DAYS, Validity, WARN_DAYS, read_certificates};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So long a new pair may be half written.
const PATIENCE: Duration = Duration::from_secs(5);
/// The subject under which the AES's own certificate is told of; files go by their parameter.
const AES: &str = "aes";

/// Takes files into use anew.
type Renew = Box<dyn Fn() -> Result<(), String> + Send>;

/// One certificate, or alternatives, in a file.
struct Watched {
    /// Its parameter.
    key: &'static str,
    /// The file of the certificate.
    file: PathBuf,
    /// Whether all in the file are alternatives, so that the one that ends last counts; else the first is it.
    alternatives: bool,
    /// All files that are taken into use together.
    files: Vec<PathBuf>,
    renew: Renew,
    turn: Turn,
    validity: Option<Validity>,
}

/// What is to be done at a look, and what is to be told of it. Pure.
#[derive(Debug, Default)]
struct Turn {
    /// What lay there when they were last tried.
    seen: Option<Vec<Option<Stamp>>>,
    /// Since when they could not be used.
    broken: Option<MonoTime>,
}

impl Turn {
    /// Whether the files are to be tried: they have changed, or could not be used the last time.
    fn is_due(&mut self, found: Vec<Option<Stamp>>) -> bool {
        let due = self.broken.is_some() || self.seen.as_ref() != Some(&found);
        self.seen = Some(found);
        due
    }

    /// Whether people are to be told of what could not be used.
    fn failed(&mut self, now: MonoTime, asked: bool) -> bool {
        let since = *self.broken.get_or_insert(now);
        asked || now.since(since) >= PATIENCE
    }

    fn succeeded(&mut self) {
        self.broken = None;
    }
}

/// Everything that a node shows or trusts.
pub(crate) struct Certificates {
    watched: Vec<Watched>,
    aes: Option<AesTls>,
    hub: Arc<Hub>,
    clock: Clock,
}

impl Certificates {
    /// Those of the configuration, which its parts have just read.
    pub(crate) fn new(
        config: &Config,
        web: Option<Arc<Certificate>>,
        group: &Group,
        aes: Option<AesTls>,
        hub: Arc<Hub>,
    ) -> Self {
        let mut watched = Vec::new();
        if let (Some(tls), Some(certificate)) = (&config.web.tls, web) {
            let renew = move || certificate.renew().map_err(|error| error.to_string());
            let files = vec![tls.cert.clone(), tls.key.clone()];
            watched.push(Watched::new("al_tlscert", false, files, Box::new(renew)));
        }
        if let Some(tls) = &config.cluster.tls {
            let group = group.clone();
            let renew = move || group.renew_certificates().map_err(|error| error.to_string());
            let files = [Some(&tls.cert), Some(&tls.key), tls.ca.as_ref()];
            let files = files.into_iter().flatten().cloned().collect();
            watched.push(Watched::new("al_clustercert", false, files, Box::new(renew)));
            if let Some(ca) = &tls.ca {
                // Taken into use with the certificate.
                watched.push(Watched::new("al_clusterca", true, vec![ca.clone()], readable(ca)));
            }
        }
        let ca = config.recorder.as_ref().and_then(|recorder| recorder.aes.ca.as_ref());
        if let (Some(ca), Some(aes)) = (ca, &aes) {
            let aes = aes.clone();
            let renew = move || aes.renew().map_err(|error| error.to_string());
            watched.push(Watched::new("al_aesca", true, vec![ca.clone()], Box::new(renew)));
        }
        Self { watched, aes, hub, clock: Clock::start() }
    }

    /// Looks for ever; at once whenever the process is told SIGHUP.
    pub(crate) async fn watch(mut self, mut hangup: Signal) {
        let mut beat = tokio::time::interval(LOOK_EVERY);
        loop {
            let asked = tokio::select! {
                _ = beat.tick() => false,
                Some(()) = hangup.recv() => true,
            };
            if asked {
                tracing::info!("told to look at the certificates");
            }
            // Files may lie on a disk that hangs.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(asked);
                self
            });
            match looked.await {
                Ok(back) => self = back,
                // A panic has been reported; what is in use stays in use.
                Err(_) => return,
            }
        }
    }

    fn look(&mut self, asked: bool) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let alarms = &self.hub.alarms;
        for watched in &mut self.watched {
            watched.look(self.clock.mono(), asked, alarms);
            let what = format!("{} ({})", watched.file.display(), watched.key);
            judge(alarms, watched.key, &what, watched.validity, now);
        }
        let shown = self.aes.as_ref().and_then(AesTls::shown);
        let validity = shown.as_ref().and_then(Validity::of);
        judge(alarms, AES, "the certificate that the AES shows", validity, now);
    }
}

/// For what another takes into use: it can be read.
fn readable(file: &Path) -> Renew {
    let file = file.to_owned();
    Box::new(move || match read_certificates(&file) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("{}: {why}", file.display())),
    })
}

impl Watched {
    fn new(key: &'static str, alternatives: bool, files: Vec<PathBuf>, renew: Renew) -> Self {
        let file = files.first().cloned().unwrap_or_default();
        let turn = Turn::default();
        Self { key, file, alternatives, files, renew, turn, validity: None }
    }

    fn look(&mut self, now: MonoTime, asked: bool, alarms: &Alarms) {
        let first = self.turn.seen.is_none();
        let found = self.files.iter().map(|file| Stamp::at(file).ok()).collect();
        if !self.turn.is_due(found) && !asked {
            return;
        }
        match (self.renew)() {
            Ok(()) => {
                if !first {
                    tracing::info!(key = self.key, "certificate read");
                }
                self.turn.succeeded();
                self.validity = self.read_validity();
                alarms.clear("certificatenotloaded", self.key);
            }
            Err(why) if self.turn.failed(now, asked) => {
                let message = format!("{}: what lies there cannot be used: {why}", self.key);
                alarms.raise(not_loaded(self.key, message));
            }
            Err(_) => {}
        }
    }

    /// Of what has just been taken into use.
    fn read_validity(&self) -> Option<Validity> {
        let all = read_certificates(&self.file).ok()?;
        let mut validities = all.iter().filter_map(Validity::of);
        if self.alternatives {
            validities.max_by_key(|validity| validity.end)
        } else {
            validities.next()
        }
    }
}

/// Raises what is to be told of a certificate now, and clears what is not so any more.
fn judge(alarms: &Alarms, subject: &'static str, what: &str, validity: Option<Validity>, now: i64) {
    let Some(validity) = validity else { return };
    let day = validity.last_day();
    let (ending, wrong) = match validity.at(now) {
        Ends::In { days } if days < URGENT_DAYS => {
            (Some(format!("urgent: {what} ends on {day}, in {days} days")), None)
        }
        Ends::In { days } if days < WARN_DAYS => {
            (Some(format!("{what} ends on {day}, in {days} days")), None)
        }
        Ends::In { .. } | Ends::NotX509 => (None, None),
        Ends::Over { days } => (None, Some(format!("{what} has ended on {day}, {days} days ago"))),
        Ends::NotYet { days } => {
            (None, Some(format!("{what} does not hold before another {days} days")))
        }
    };
    alarms.set(ending.is_some(), expiring(subject, ending.unwrap_or_default()));
    alarms.set(wrong.is_some(), invalid(subject, wrong.unwrap_or_default()));
}

fn expiring(subject: &str, message: String) -> Alarm {
    Alarm {
        name: "certificateexpiring",
        subject: subject.to_owned(),
        message,
        remedy: "put a new certificate in its place; it is taken into use without a restart",
    }
}

fn invalid(subject: &str, message: String) -> Alarm {
    Alarm {
        name: "certificateinvalid",
        subject: subject.to_owned(),
        message,
        remedy: "put a new certificate in its place, and see that this machine's clock is right",
    }
}

fn not_loaded(subject: &str, message: String) -> Alarm {
    Alarm {
        name: "certificatenotloaded",
        subject: subject.to_owned(),
        message,
        remedy: "put right what the message names; what was in use before stays in use",
    }
}

#[cfg(test)]
mod tests {
    use super::validity::DAY_SECONDS;
    use super::*;
    use crate::metrics::Metrics;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    fn alarms() -> Alarms {
        Alarms::new(tokio::sync::broadcast::Sender::new(16), Arc::new(Metrics::new()))
    }

    #[test]
    fn files_are_tried_when_they_change_and_while_they_are_broken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let stamps = |file: &Path| vec![Stamp::at(file).ok()];
        let mut turn = Turn::default();
        assert!(turn.is_due(stamps(&file)), "the first time");
        assert!(!turn.is_due(stamps(&file)));
        std::fs::write(&file, "1").unwrap();
        assert!(turn.is_due(stamps(&file)), "it has come");
        assert!(!turn.failed(at(10), false), "it may be half written");
        assert!(turn.is_due(stamps(&file)), "still broken, so tried again");
        assert!(!turn.failed(at(14), false));
        assert!(turn.failed(at(15), false));
        turn.succeeded();
        assert!(!turn.is_due(stamps(&file)));
        assert!(turn.failed(at(20), true), "who asks is told at once");
    }

    #[test]
    fn what_is_told_by_when_it_ends() {
        const NOW: i64 = 1_780_272_000;
        let alarms = alarms();
        let told = |days: i64| {
            let end = NOW + days * DAY_SECONDS;
            let validity = Validity { begin: NOW - 400 * DAY_SECONDS, end };
            judge(&alarms, "al_tlscert", "web.crt", Some(validity), NOW);
            let raised = alarms.list();
            raised.iter().map(|alarm| (alarm.name, alarm.message.clone())).collect::<Vec<_>>()
        };
        assert!(told(30).is_empty());
        let expiring = |message: &str| vec![("certificateexpiring", message.to_owned())];
        assert_eq!(told(29), expiring("web.crt ends on 2026-06-30, in 29 days"));
        assert_eq!(told(7), expiring("web.crt ends on 2026-06-08, in 7 days"));
        assert_eq!(told(6), expiring("urgent: web.crt ends on 2026-06-07, in 6 days"));
        let over = "web.crt has ended on 2026-05-29, 3 days ago".to_owned();
        assert_eq!(told(-3), [("certificateinvalid", over)]);
        assert!(told(365).is_empty(), "a new one clears all");
        let validity = Validity { begin: NOW + 3 * DAY_SECONDS, end: NOW + 90 * DAY_SECONDS };
        judge(&alarms, "al_tlscert", "web.crt", Some(validity), NOW);
        assert!(alarms.is_raised("certificateinvalid", "al_tlscert"));
    }

    #[test]
    fn a_broken_pair_is_told_once_it_stays_so_and_cleared_when_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.crt");
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        let alarms = alarms();
        let mut watched = Watched::new("al_tlscert", false, vec![file.clone()], readable(&file));
        watched.look(at(0), false, &alarms);
        assert!(watched.validity.is_some() && alarms.list().is_empty());
        let valid = watched.validity;
        std::fs::write(&file, "nothing").unwrap();
        watched.look(at(2), false, &alarms);
        assert!(alarms.list().is_empty(), "it may be half written");
        watched.look(at(8), false, &alarms);
        let raised = alarms.list();
        assert_eq!(raised[0].name, "certificatenotloaded");
        assert!(raised[0].message.contains("web.crt: it holds no certificate"), "{raised:?}");
        assert_eq!(watched.validity, valid, "what is in use is what counts");
        std::fs::write(&file, made.cert.pem()).unwrap();
        watched.look(at(10), false, &alarms);
        assert!(alarms.list().is_empty());
    }
}
