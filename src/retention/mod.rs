//! Lets recordings go that are past their time, by the way on which people delete them ([`crate::deletion`]).
//! Which they are, and whether this node is to act, is decided in [`core`]; here the catalog is gone through, once
//! an hour and in no hurry, and the capture goes first. Also says when the disk has less room than
//! `al_mindiskfree` says; what is removed for that, once it is archived, is the archive's matter.

pub mod core;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recorder::clock::Clock;
use recorder::media_thread::MediaHandle;
use storage::Catalog;
use storage_core::query::{Order, Position, Query};
use storage_core::{Recording, RecordingId, WallTime};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use self::core::{RetentionRules, Verdict, Waits, counted, may_run};
use crate::alarms::Alarm;
use crate::deletion::RETENTION;
use crate::hub::Hub;
use crate::peers::Peers;
use crate::web::backend::{Backend, Code, DeleteRequest};

/// After a start others are found first, and the catalog is brought in line.
const FIRST: Duration = Duration::from_secs(10);
/// All that may be past its time is looked at so often.
const ROUND: Duration = Duration::from_secs(3600);
/// Who waits looks again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Recordings looked at together, and a pause after them.
const PAGE: usize = 500;
const PAGE_REST: Duration = Duration::from_millis(100);
/// Between two deletions: it is in no hurry.
const REST: Duration = Duration::from_millis(20);
/// While the capture comes late.
const LATE_REST: Duration = Duration::from_millis(500);
/// Who waits so long says so.
const WAITS_MAX: Duration = Duration::from_secs(24 * 3600);

/// What it works with.
pub struct Parts {
    /// For how long recordings are kept.
    pub rules: RetentionRules,
    /// What is seen of the group.
    pub peers: Peers,
    /// What is listed.
    pub catalog: Arc<dyn Catalog>,
    /// Where people hear of it.
    pub hub: Arc<Hub>,
    /// Tells whether the capture comes late: then this rests.
    pub media: MediaHandle,
    /// Deletes in the whole group.
    pub backend: Arc<dyn Backend>,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    deleted: u64,
    held: i64,
    failed: i64,
}

/// Works until it is aborted.
pub async fn run(parts: Parts) {
    let Some(shortest) = parts.rules.shortest() else { return };
    tracing::info!(days = shortest, "recordings are let go, the first after so many days");
    sleep(FIRST).await;
    let mut waits_since = None;
    loop {
        let (round, waits) = parts.round().await;
        if round.deleted > 0 {
            tracing::info!(deleted = round.deleted, "recordings past their time are deleted");
        }
        let due = &parts.hub.metrics.deletions.due;
        due.with_label_values(&["held"]).set(round.held);
        due.with_label_values(&["failed"]).set(round.failed);
        let waits = waits.filter(|waits| *waits != Waits::NotLead);
        waits_since = waits.map(|_| waits_since.unwrap_or_else(Instant::now));
        let long = waits_since.is_some_and(|since: Instant| since.elapsed() > WAITS_MAX);
        parts.hub.alarms.set(long, waiting(waits));
        sleep(if waits.is_some() || !parts.leads() { AGAIN } else { ROUND }).await;
    }
}

impl Parts {
    fn may_run(&self) -> Result<(), Waits> {
        may_run(&self.peers.group().view())
    }

    fn leads(&self) -> bool {
        self.may_run() != Err(Waits::NotLead)
    }

    /// Goes through all that may be past its time; stops where it has to wait.
    async fn round(&self) -> (Round, Option<Waits>) {
        let (mut round, mut behind) = (Round::default(), None);
        if let Err(waits) = self.may_run() {
            return (round, Some(waits));
        }
        let Some(now) = self.now().await else { return (round, None) };
        let Some(cutoff) = self.rules.cutoff(now) else { return (round, None) };
        let mut late = self.media.stats().sweeps_late.value();
        loop {
            let Some((records, next)) = self.page(cutoff, behind).await else {
                return (round, None);
            };
            for record in records {
                match self.rules.verdict(&record, now) {
                    Verdict::Keep => {}
                    Verdict::Held => round.held += 1,
                    Verdict::Due(days) => {
                        if let Err(waits) = self.may_run() {
                            return (round, Some(waits));
                        }
                        self.let_go(record.recordingid, days, &mut round).await;
                        let late_now = self.media.stats().sweeps_late.value();
                        let is_late = std::mem::replace(&mut late, late_now) != late_now;
                        sleep(if is_late { LATE_REST } else { REST }).await;
                    }
                }
            }
            let Some(next) = next else { return (round, None) };
            behind = Some(next);
            sleep(PAGE_REST).await;
        }
    }

    async fn let_go(&self, recording: RecordingId, days: u32, round: &mut Round) {
        let reason = format!("kept for {days} days");
        let request = DeleteRequest { recording, reason, by: RETENTION.to_owned() };
        match self.backend.delete(request).await {
            Ok(_) => round.deleted += 1,
            // Somebody has held it, or deleted it, just now.
            Err(failure) if failure.code == Code::Forbidden => round.held += 1,
            Err(failure) if failure.code == Code::NotFound => {}
            Err(failure) => {
                let code = failure.code.as_str();
                tracing::warn!(%recording, code, "it is past its time, and stays for now");
                round.failed += 1;
            }
        }
    }

    /// The time that counts; none while there is no recording.
    async fn now(&self) -> Option<WallTime> {
        let query = Query { limit: 1, order: Order::Newest, ..Query::default() };
        let (newest, _) = self.search(query).await?;
        newest.first().map(|newest| counted(Clock::wall(), newest))
    }

    async fn page(
        &self,
        cutoff: WallTime,
        behind: Option<Position>,
    ) -> Option<(Vec<Recording>, Option<Position>)> {
        let query = Query {
            to: Some(cutoff),
            cursor: behind,
            limit: PAGE,
            order: Order::Oldest,
            ..Query::default()
        };
        self.search(query).await
    }

    async fn search(&self, query: Query) -> Option<(Vec<Recording>, Option<Position>)> {
        let catalog = Arc::clone(&self.catalog);
        let found = spawn_blocking(move || catalog.search(&query)).await;
        match found {
            Ok(Ok(page)) => {
                let next = page.cursor.as_deref().and_then(Position::from_cursor);
                Some((page.recordings, next))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "what is past its time cannot be told now");
                None
            }
            // A panic there has been reported by the runtime.
            Err(_) => None,
        }
    }
}

fn waiting(waits: Option<Waits>) -> Alarm {
    let why = waits.map(|waits| waits.to_string()).unwrap_or_default();
    Alarm {
        name: "retentionwaits",
        subject: String::new(),
        message: format!("recordings past their time have not been let go for a day: {why}"),
        remedy: "bring that node back, or take it out of the group with `astlogger cluster remove`; set its clock",
    }
}

/// Less is free than `al_mindiskfree` says: so many bytes, or somewhat less or more by now.
pub fn disk_low(datadir: &Path, free: u64, archives: bool) -> Alarm {
    let removed = if archives {
        "Voice files that the archive has are removed here, the oldest first; the others stay"
    } else {
        "No recording is archived, so none is removed for it"
    };
    Alarm {
        name: "disklow",
        subject: String::new(),
        message: format!(
            "only about {} MB are free below {}, less than al_mindiskfree says. {removed}",
            free / 1_000_000,
            datadir.display()
        ),
        remedy: "make room below al_datadir, let recordings go earlier with al_retentiondays, or use a larger disk",
    }
}
