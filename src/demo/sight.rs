//! What is seen of a group from outside: each node's page of metrics at one moment, and what can be
//! read from it. It takes the nodes' word for what is shown while calls go on; judging is `verdict`'s.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use storage_core::{NodeId, Role};
use tokio::time::timeout;

use super::node::{Metrics, metrics_of};

/// A node that hangs must not hold up the picture of the others.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// Where the nodes of a group can be looked at.
#[derive(Clone, Debug)]
pub struct Eyes {
    /// Number, configured role, web address.
    pub nodes: Vec<(NodeId, Role, SocketAddr)>,
}

/// One node at one moment.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Its number.
    pub node: NodeId,
    /// What it is configured for.
    pub role: Role,
    /// What it says; nothing if it does not answer.
    pub metrics: Option<Metrics>,
}

impl Eyes {
    /// Looks at all nodes at once.
    pub async fn look(&self) -> Vec<Sight> {
        join_all(self.nodes.iter().map(|&(node, role, web)| async move {
            let metrics = timeout(LOOK_LIMIT, metrics_of(web)).await.ok().and_then(Result::ok);
            Sight { node, role, metrics }
        }))
        .await
    }
}

impl Sight {
    /// A value; 0 where there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.metrics.as_ref().and_then(|all| all.get(name)).copied().unwrap_or(0.0)
    }

    /// The sum over all labels of a name.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let labelled = format!("{name}{{");
        let of_name = |key: &String| key == name || key.starts_with(&labelled);
        let values = self.metrics.iter().flatten().filter(|(key, _)| of_name(key));
        values.map(|(_, value)| *value).sum()
    }

    /// What it does now: the word in `astlogger_role{configured=,duty=}`.
    #[must_use]
    pub fn duty(&self) -> Option<&str> {
        let (name, _) = self
            .metrics
            .as_ref()?
            .iter()
            .find(|(name, value)| name.starts_with("astlogger_role{") && **value != 0.0)?;
        Some(name.split_once("duty=\"")?.1.split_once('"')?.0)
    }

    /// Whether it leads recording.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.duty() == Some("lead")
    }

    /// Recordings that are being captured, wait to be sealed, or are open in the ledger.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let names = ["recordings_active", "seal_queue", "open_recordings"];
        names.iter().map(|name| self.value(&format!("astlogger_{name}"))).sum()
    }

    /// The holes that it measured, in words; `None` if it never took over.
    #[must_use]
    pub fn takeovers(&self) -> Option<String> {
        let takeovers = self.value("astlogger_takeovers_total");
        let gaps = self.gaps();
        let holes = match gaps.longest_ms {
            _ if gaps.count == 0.0 => String::new(),
            Some(longest) => {
                format!(
                    ", {} holes: mean {:.0} ms, none over {longest:.0} ms",
                    gaps.count, gaps.mean_ms
                )
            }
            None => format!(", {} holes: mean {:.0} ms", gaps.count, gaps.mean_ms),
        };
        (takeovers > 0.0).then(|| format!("{takeovers} takeovers{holes}"))
    }

    /// What `astlogger_takeover_gap_seconds` says.
    #[must_use]
    pub fn gaps(&self) -> Gaps {
        const NAME: &str = "astlogger_takeover_gap_seconds";
        let count = self.value(&format!("{NAME}_count"));
        let bucket = |key: &str| {
            let bound = key.strip_prefix(NAME)?.strip_prefix("_bucket{le=\"")?;
            bound.strip_suffix("\"}")?.parse::<f64>().ok().filter(|bound| bound.is_finite())
        };
        let full = self.metrics.iter().flatten().filter(|(_, value)| **value >= count);
        let longest = full.filter_map(|(key, _)| bucket(key)).min_by(f64::total_cmp);
        Gaps {
            count,
            mean_ms: self.value(&format!("{NAME}_sum")) * 1000.0 / count.max(1.0),
            longest_ms: longest.map(|seconds| seconds * 1000.0),
        }
    }
}

/// A node's own account of the holes its takeovers left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaps {
    /// How many were measured.
    pub count: f64,
    /// Their mean.
    pub mean_ms: f64,
    /// The least bound that none of them exceeds; absent if only infinity is.
    pub longest_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(lines: &[(&str, f64)]) -> Sight {
        let metrics = lines.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Sight { node: NodeId(2), role: Role::Backup, metrics: Some(metrics) }
    }

    #[test]
    fn duty_and_sums_are_read_from_labels() {
        let seen = sight(&[
            ("astlogger_role{configured=\"backup\",duty=\"standby\"}", 0.0),
            ("astlogger_role{configured=\"backup\",duty=\"lead\"}", 1.0),
            ("astlogger_recordings_published_total{trigger=\"rule\"}", 3.0),
            ("astlogger_recordings_published_total{trigger=\"rescue\"}", 1.0),
            ("astlogger_recordings_published_totally", 9.0),
        ]);
        assert!(seen.leads());
        assert_eq!(seen.sum("astlogger_recordings_published_total"), 4.0);
        assert_eq!(seen.takeovers(), None);
        let silent = Sight { metrics: None, ..seen };
        assert_eq!((silent.duty(), silent.busy()), (None, 0.0));
    }

    #[test]
    fn the_longest_hole_is_known_by_the_bucket_that_holds_all() {
        let bucket =
            |bound: &str| format!("astlogger_takeover_gap_seconds_bucket{{le=\"{bound}\"}}");
        let names = ["0.1", "0.2", "0.5", "+Inf"].map(bucket);
        let values = [1.0, 4.0, 4.0, 4.0];
        let mut lines: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
        lines.push(("astlogger_takeover_gap_seconds_count", 4.0));
        lines.push(("astlogger_takeover_gap_seconds_sum", 0.6));
        lines.push(("astlogger_takeovers_total", 1.0));
        let seen = sight(&lines);
        assert_eq!(seen.gaps(), Gaps { count: 4.0, mean_ms: 150.0, longest_ms: Some(200.0) });
        let words = seen.takeovers().unwrap();
        assert!(words.contains("mean 150 ms") && words.contains("over 200 ms"), "{words}");
    }
}
