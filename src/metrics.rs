//! The counters of all components as one Prometheus page. It names and holds them; who counts what
//! is the components' matter. What lives in atomics elsewhere is carried over when the page is asked
//! for ([`raise`]), so that no hot path waits for anything here. The web server appends its own.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use recorder_core::call::MissedReason;
use storage_core::completeness::Completeness;
use storage_core::record::TriggerKind;
use storage_core::{Duty, NodeId, Role};

use crate::alarms::known;

/// What every name begins with.
const NAMESPACE: &str = "astlogger";
/// From a disk that acknowledges at once to one that hardly answers.
const SYNC_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// The goal is 50 ms; a second is as good as missed.
const START_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0];
/// From no hole at all to one that everybody hears; the goals are 150, 300 and 900 ms.
const GAP_BUCKETS: &[f64] = &[0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9, 1.5, 3.0, 10.0];

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `role{configured=,duty=}`: 1 for what holds now. Set with [`Metrics::set_duty`].
    role: IntGaugeVec,
    /// Term of the Raft group.
    pub raft_term: IntGauge,
    /// 1 while this node leads the Raft group.
    pub raft_leader: IntGauge,
    /// `peer_up{peer=}`: 1 while that member answers this node.
    pub peer_up: IntGaugeVec,
    /// `clock_offset_seconds{peer=}`: by how much that member's wall clock is ahead.
    pub clock_offset: GaugeVec,
    /// Times that this node was given the lead of another.
    pub takeovers: IntCounter,
    /// Holes that changes of the lead left in recordings published here.
    pub takeover_gap: Histogram,
    /// Calls that this node recorded because nobody else did.
    pub rescues: IntCounter,
    /// Calls in the group's ledger: in progress, or with recordings not yet published and listed.
    pub open_recordings: IntGauge,
    /// Recordings of which this node's journal holds captures that are not superfluous yet.
    pub captures_owed: IntGauge,
    /// Voice files that should lie here, too, and do not yet.
    pub copies_pending: IntGauge,
    /// Voice files that were fetched from other members, to be kept here.
    pub copies: IntCounter,
    /// Bytes of voice files that were read over.
    pub scrubbed_bytes: IntCounter,
    /// `bitrot_total{what=}`: files that were found damaged, and that were mended.
    pub bitrot: IntCounterVec,
    /// 1 while the DMCC session is up.
    pub aes_up: IntGauge,
    /// Sessions that had to be taken up again.
    pub aes_reconnects: IntCounter,
    /// DMCC frames that could not be understood.
    pub dmcc_malformed: IntCounter,
    /// `phantoms{state=}`: registered, free, in a call, refused, …
    pub phantoms: IntGaugeVec,
    /// Rings kept in memory of calls that another node records.
    pub rings: IntGauge,
    /// Stations at which agents who are followed are logged in.
    pub agents_present: IntGauge,
    /// Calls in progress that the CTI link sees.
    pub calls_active: IntGauge,
    /// Events of calls that were not tracked because there were impossibly many.
    pub calls_refused: IntCounter,
    /// Recordings that are being captured.
    pub recordings_active: IntGauge,
    /// `recordings_published_total{trigger=}`.
    pub recordings_published: IntCounterVec,
    /// Of recordings that go.
    pub deletions: Deletions,
    /// What becomes of recordings in the archive.
    pub archive: ArchiveMetrics,
    /// `calls_missed_total{reason=}`: should have been recorded and were not.
    pub calls_missed: IntCounterVec,
    /// What is received and captured.
    pub media: MediaMetrics,
    /// Recordings that wait to be sealed.
    pub seal_queue: IntGauge,
    /// Completeness of today.
    today: Today,
    /// What mirrors have, and lack.
    pub mirror: MirrorMetrics,
    /// The catalog's database.
    pub database: DatabaseMetrics,
    /// Attempts to seal that failed and are made again.
    pub seal_retries: IntCounter,
    /// Room on the file system of `al_datadir`.
    pub disk_free_bytes: Gauge,
    /// `alarms{alarm=}`: how many of this name are raised.
    pub alarms: IntGaugeVec,
}

/// Counted from zero, so that the first one is an increase, too.
const TRIGGERS: [TriggerKind; 5] = [
    TriggerKind::Rule,
    TriggerKind::Agent,
    TriggerKind::Supervisor,
    TriggerKind::Rescue,
    TriggerKind::Takeover,
];
/// The same of calls that were missed.
const MISSED: [MissedReason; 6] = [
    MissedReason::NoPhantom,
    MissedReason::Refused,
    MissedReason::LinkDown,
    MissedReason::PartyLimit,
    MissedReason::NoMedia,
    MissedReason::DiskFull,
];

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// If two metrics bear one name, which the first test would see.
    #[must_use]
    pub fn new() -> Self {
        let r = &Registry::new();
        let build = gauges(r, "build_info", "What runs here; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        keep(r, prometheus::process_collector::ProcessCollector::for_self());
        let metrics = Self {
            role: gauges(r, "role", "Role configured and duty now; 1.", &["configured", "duty"]),
            raft_term: gauge(r, "raft_term", "Term of the group."),
            raft_leader: gauge(r, "raft_leader", "1 while this node leads the group."),
            peer_up: gauges(r, "peer_up", "1 while that member answers this node.", &["peer"]),
            clock_offset: float_gauges(
                r,
                "clock_offset_seconds",
                "How far that member's clock is ahead.",
                &["peer"],
            ),
            takeovers: counter(r, "takeovers_total", "Times this node was given another's lead."),
            takeover_gap: histogram(
                r,
                "takeover_gap_seconds",
                "Holes that changes of the lead left in recordings.",
                GAP_BUCKETS,
            ),
            rescues: counter(r, "rescues_total", "Calls recorded because nobody else did."),
            open_recordings: gauge(r, "open_recordings", "Calls in the group's ledger."),
            captures_owed: gauge(r, "captures_owed", "Recordings captured here and still owed."),
            copies_pending: gauge(r, "copies_pending", "Voice files that should lie here, too."),
            copies: counter(r, "copies_total", "Voice files fetched from other members."),
            scrubbed_bytes: counter(r, "scrubbed_bytes_total", "Bytes of voice files read over."),
            bitrot: counters(r, "bitrot_total", "Damaged files, found and mended.", &["what"]),
            aes_up: gauge(r, "aes_up", "1 while the DMCC session is up."),
            aes_reconnects: counter(r, "aes_reconnects_total", "DMCC sessions taken up again."),
            dmcc_malformed: counter(r, "dmcc_malformed_total", "DMCC frames not understood."),
            phantoms: gauges(r, "phantoms", "Phantoms by state.", &["state"]),
            rings: gauge(r, "rings", "Rings kept of calls that another node records."),
            agents_present: gauge(
                r,
                "agents_present",
                "Stations at which agents of al_agents are logged in.",
            ),
            calls_active: gauge(r, "calls_active", "Calls in progress."),
            calls_refused: counter(r, "calls_refused_total", "Events of calls too many to track."),
            recordings_active: gauge(r, "recordings_active", "Recordings being captured."),
            recordings_published: counters(
                r,
                "recordings_published_total",
                "Recordings published, by who asked for them.",
                &["trigger"],
            ),
            deletions: Deletions::new(r),
            archive: ArchiveMetrics::new(r),
            calls_missed: counters(
                r,
                "calls_missed_total",
                "Calls that should have been recorded and were not.",
                &["reason"],
            ),
            media: MediaMetrics::new(r),
            seal_queue: gauge(r, "seal_queue", "Recordings waiting to be sealed."),
            today: Today::new(r),
            mirror: MirrorMetrics::new(r),
            database: DatabaseMetrics::new(r),
            seal_retries: counter(r, "seal_retries_total", "Attempts to seal made again."),
            disk_free_bytes: free_gauge(r),
            alarms: gauges(r, "alarms", "Alarms of this name that are raised.", &["alarm"]),
            registry: r.clone(),
        };
        metrics.begin_at_zero();
        metrics
    }

    /// What has a label that is known beforehand is there from the start: a rate of what was not there
    /// before its first count does not see that count.
    fn begin_at_zero(&self) {
        for trigger in TRIGGERS {
            self.recordings_published.with_label_values(&[trigger.as_str()]);
        }
        for reason in MISSED {
            self.calls_missed.with_label_values(&[reason.as_str()]);
        }
        for what in ["found", "mended"] {
            self.bitrot.with_label_values(&[what]);
        }
        for kind in known::ALL {
            self.alarms.with_label_values(&[kind.name]);
        }
    }

    /// Says which role is configured and which duty holds now, and nothing else.
    pub fn set_duty(&self, configured: Role, duty: Duty) {
        self.role.reset();
        self.role.with_label_values(&[configured.as_str(), duty.as_str()]).set(1);
    }

    /// Says what became of today's calls, and nothing of yesterday's.
    pub fn set_completeness(&self, today: &Completeness) {
        self.today.set(today);
    }

    /// The page, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            // A page less is no reason to stop recording.
            tracing::error!(%error, "the metrics page cannot be written");
            String::new()
        })
    }
}

/// What is received and captured.
#[derive(Debug)]
pub struct MediaMetrics {
    /// From the switch's `Established` to the first packet in the capture.
    pub capture_start: Histogram,
    /// RTP packets captured.
    pub rtp_packets: IntCounter,
    /// RTP packets missing when a recording was sealed.
    pub rtp_lost: IntCounter,
    /// RTP packets that came too late to be placed in order of arrival.
    pub rtp_late: IntCounter,
    /// Packets that the kernel dropped because a socket's buffer was full.
    pub rtp_socket_drops: IntCounter,
    /// Packets from another source than the switch named.
    pub rtp_strangers: IntCounter,
    /// Packets that are no RTP.
    pub rtp_malformed: IntCounter,
    /// `srtp_refused_total{reason=}`: packets that were not decrypted.
    pub srtp_refused: IntCounterVec,
    /// `capture_failures_total{what=}`: what the capture could not take, keep or pass on.
    pub capture_failures: IntCounterVec,
    /// How long it takes to make captured audio durable.
    pub capture_sync: Histogram,
}

impl MediaMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            capture_start: histogram(
                r,
                "capture_start_seconds",
                "From Established to the first packet captured.",
                START_BUCKETS,
            ),
            rtp_packets: counter(r, "rtp_packets_total", "RTP packets captured."),
            rtp_lost: counter(r, "rtp_lost_total", "RTP packets missing at sealing."),
            rtp_late: counter(r, "rtp_late_total", "RTP packets out of order at sealing."),
            rtp_socket_drops: counter(r, "rtp_socket_drops_total", "Packets the kernel dropped."),
            rtp_strangers: counter(r, "rtp_strangers_total", "Packets from unexpected sources."),
            rtp_malformed: counter(r, "rtp_malformed_total", "Packets that are no RTP."),
            srtp_refused: counters(
                r,
                "srtp_refused_total",
                "Packets not decrypted and kept out, by reason.",
                &["reason"],
            ),
            capture_failures: counters(
                r,
                "capture_failures_total",
                "What the capture could not take, keep or pass on.",
                &["what"],
            ),
            capture_sync: histogram(
                r,
                "capture_sync_seconds",
                "Time to make captured audio durable.",
                SYNC_BUCKETS,
            ),
        }
    }
}

/// Mirrored capture, by peer.
#[derive(Debug)]
pub struct MirrorMetrics {
    /// `mirror_lag_seconds{peer=}`
    lag: GaugeVec,
    /// `mirror_durable_lag_seconds{peer=}`
    durable_lag: GaugeVec,
    /// `mirror_recordings{peer=}`
    recordings: IntGaugeVec,
}

impl MirrorMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            lag: float_gauges(
                r,
                "mirror_lag_seconds",
                "Age of the oldest audio captured here that its mirror there does not have.",
                &["peer"],
            ),
            durable_lag: float_gauges(
                r,
                "mirror_durable_lag_seconds",
                "Age of the oldest audio captured here that is not durable in its mirror there.",
                &["peer"],
            ),
            recordings: gauges(
                r,
                "mirror_recordings",
                "Recordings captured there that are kept here, too.",
                &["peer"],
            ),
        }
    }

    /// Says who mirrors this node and what it lacks (of all, and of what is durable), and whose recordings
    /// are kept here, and nothing of others.
    pub fn set(&self, lags: &[(NodeId, Duration, Duration)], kept: &[(NodeId, usize)]) {
        self.lag.reset();
        self.durable_lag.reset();
        self.recordings.reset();
        for (peer, lag, durable) in lags {
            let peer = peer.to_string();
            self.lag.with_label_values(&[&peer]).set(lag.as_secs_f64());
            self.durable_lag.with_label_values(&[&peer]).set(durable.as_secs_f64());
        }
        for (peer, recordings) in kept {
            let peer = peer.to_string();
            let recordings = i64::try_from(*recordings).unwrap_or(i64::MAX);
            self.recordings.with_label_values(&[&peer]).set(recordings);
        }
    }
}

/// What becomes of recordings in the archive.
#[derive(Debug)]
pub struct ArchiveMetrics {
    /// `archive_pending`.
    pub pending: IntGauge,
    /// `archive_locked`.
    pub locked: IntGauge,
    /// `archive_stored_total`.
    pub stored: IntCounter,
    /// `archive_removed_total`.
    pub removed: IntCounter,
}

impl ArchiveMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            pending: gauge(
                r,
                "archive_pending",
                "Recordings that are to be archived by this node, or deleted in the archive.",
            ),
            locked: gauge(
                r,
                "archive_locked",
                "Deleted recordings that the archive keeps until their lock ends.",
            ),
            stored: counter(r, "archive_stored_total", "Voice files archived and read back."),
            removed: counter(
                r,
                "archive_removed_total",
                "Voice files removed here to make room, because the archive has them.",
            ),
        }
    }
}

/// What became of recordings that are to go.
#[derive(Debug)]
pub struct Deletions {
    /// `recordings_deleted_total{by=}`.
    pub deleted: IntCounterVec,
    /// `retention_due{why=}`.
    pub due: IntGaugeVec,
}

impl Deletions {
    fn new(r: &Registry) -> Self {
        let deleted = counters(
            r,
            "recordings_deleted_total",
            "Recordings deleted here, by what asked for it.",
            &["by"],
        );
        let due = gauges(
            r,
            "retention_due",
            "Recordings past their time that are still here, by why.",
            &["why"],
        );
        for by in ["request", "retention"] {
            deleted.with_label_values(&[by]);
        }
        for why in ["held", "failed"] {
            due.with_label_values(&[why]);
        }
        Self { deleted, due }
    }
}

/// What became of today's calls.
#[derive(Debug)]
struct Today {
    /// `completeness_calls{outcome=}`
    calls: IntGaugeVec,
    /// `completeness_missing_seconds{cause=}`
    missing: GaugeVec,
}

impl Today {
    fn new(r: &Registry) -> Self {
        Self {
            calls: gauges(
                r,
                "completeness_calls",
                "Calls that began today (UTC) and are over, as this node knows them.",
                &["outcome"],
            ),
            missing: float_gauges(
                r,
                "completeness_missing_seconds",
                "What is missing of today's calls, as this node knows them.",
                &["cause"],
            ),
        }
    }

    fn set(&self, today: &Completeness) {
        let int = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (outcome, calls) in [
            ("recorded", today.recorded),
            ("partial", today.partial),
            ("excluded", today.excluded),
            ("missed", today.missed),
            ("pending", today.pending),
            ("deleted", today.deleted),
        ] {
            self.calls.with_label_values(&[outcome]).set(int(calls));
        }
        self.missing.reset();
        for (cause, ms) in &today.missingms {
            let seconds = *ms as f64 / 1000.0;
            self.missing.with_label_values(&[cause.as_str()]).set(seconds);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What of the catalog is in the database of all sites.
#[derive(Debug)]
pub struct DatabaseMetrics {
    /// `catalog_database_up`.
    pub up: IntGauge,
    /// `catalog_database_pending`.
    pub pending: IntGauge,
    /// `catalog_database_written_total`.
    pub written: IntCounter,
    /// `catalog_database_fallbacks_total`.
    pub fallbacks: IntCounter,
}

impl DatabaseMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            up: gauge(
                r,
                "catalog_database_up",
                "1 while the catalog's database takes what is told.",
            ),
            pending: gauge(
                r,
                "catalog_database_pending",
                "Recordings that it is still to be told of.",
            ),
            written: counter(r, "catalog_database_written_total", "Rows written into it."),
            fallbacks: counter(
                r,
                "catalog_database_fallbacks_total",
                "Searches answered by the local catalog in its place.",
            ),
        }
    }
}

/// Brings a counter up to a total that is counted elsewhere.
pub fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn keep<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry
        .register(Box::new(collector))
        .expect("names are written in this file only, each once, and a test makes them all");
}

/// Registers what a constructor of the crate made of a name written in this file.
fn kept<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels in this file are valid, and a test makes them");
    keep(registry, collector.clone());
    collector
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    kept(registry, IntCounter::with_opts(opts(name, help)))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    kept(registry, IntCounterVec::new(opts(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    kept(registry, IntGauge::with_opts(opts(name, help)))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    kept(registry, IntGaugeVec::new(opts(name, help), labels))
}

fn float_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    kept(registry, GaugeVec::new(opts(name, help), labels))
}

/// Bytes of a large disk do not fit the integers of some readers, so this one is a float.
fn free_gauge(registry: &Registry) -> Gauge {
    kept(registry, Gauge::with_opts(opts("disk_free_bytes", "Room left below al_datadir.")))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec());
    kept(registry, Histogram::with_opts(opts))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Names and types that `docs/metrics.md` promises.
    pub(crate) fn listed_metrics() -> BTreeSet<(String, String)> {
        let page = include_str!("../docs/metrics.md");
        let rows = page.lines().filter(|line| line.starts_with("| `astlogger_"));
        rows.map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let mut cell =
                || cells.next().expect("a row has all cells").trim_matches('`').to_owned();
            (cell(), cell())
        })
        .collect()
    }

    /// Names and types on a page of metrics.
    pub(crate) fn shown_metrics(page: &str) -> BTreeSet<(String, String)> {
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    }

    #[test]
    fn the_page_holds_what_was_counted() {
        let metrics = Metrics::new();
        metrics.aes_up.set(1);
        metrics.recordings_published.with_label_values(&["rule"]).inc();
        metrics.media.capture_start.observe(0.017);
        raise(&metrics.media.rtp_packets, 500);
        raise(&metrics.media.rtp_packets, 700);
        raise(&metrics.media.rtp_packets, 600);
        metrics.set_duty(Role::Backup, Duty::Lead);
        metrics.set_duty(Role::Backup, Duty::Standby);
        let page = metrics.render();
        for line in [
            "astlogger_aes_up 1",
            "astlogger_recordings_published_total{trigger=\"rule\"} 1",
            "astlogger_capture_start_seconds_bucket{le=\"0.02\"} 1",
            "astlogger_rtp_packets_total 700",
            "astlogger_role{configured=\"backup\",duty=\"standby\"} 1",
            "astlogger_aes_reconnects_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("duty=\"lead\""));
        assert!(page.contains("astlogger_build_info{version="));
    }

    /// Every metric that this page can show, with its type, as `docs/metrics.md` lists them.
    #[test]
    fn the_list_of_metrics_is_what_there_is() {
        let metrics = Metrics::new();
        // What has no labels known beforehand shows itself only once it was told.
        metrics.set_duty(Role::Active, Duty::Lead);
        metrics.peer_up.with_label_values(&["2"]).set(1);
        metrics.clock_offset.with_label_values(&["2"]).set(0.0);
        metrics.phantoms.with_label_values(&["free"]).set(1);
        metrics.media.srtp_refused.with_label_values(&["unauthentic"]).inc();
        metrics.media.capture_failures.with_label_values(&["sync"]).inc();
        let second = Duration::from_secs(1);
        metrics.mirror.set(&[(NodeId(2), second, second)], &[(NodeId(2), 1)]);
        let missingms = [("takeover".to_owned(), 1)].into();
        metrics.set_completeness(&Completeness { missingms, ..Completeness::default() });
        let ours =
            |name: &str| !name.starts_with("astlogger_web_") && name != "astlogger_fetches_total";
        let mut listed = listed_metrics();
        listed.retain(|(name, _)| ours(name));
        let mut shown = shown_metrics(&metrics.render());
        shown.retain(|(name, _)| !name.starts_with("process_"));
        assert_eq!(shown, listed, "docs/metrics.md lists the metrics, each with its type");
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in Metrics::new().registry.gather() {
            let name = family.name();
            if name.starts_with("process_") {
                continue;
            }
            assert!(name.starts_with("astlogger_"), "{name}");
            let counts = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(name.ends_with("_total"), counts, "{name}");
            assert!(!name.contains("_ms") && !name.contains("milli"), "{name}");
        }
    }
}
