//! What the web server counts about itself, appended to the node's own page of metrics.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};

/// Counters and gauges of one web server.
pub struct Stats {
    registry: Registry,
    /// TCP connections open.
    pub connections: IntGauge,
    /// TCP connections closed at once because there were too many.
    pub refused: IntCounter,
    /// TLS handshakes that failed.
    pub handshake_failures: IntCounter,
    /// WebSockets open.
    pub sockets: IntGauge,
    /// Attempts to sign in that failed or had to wait.
    pub signin_failures: IntCounter,
    /// Frames that were no request, too long, or binary.
    pub bad_frames: IntCounter,
    /// Recordings fetched, over WebSocket and HTTP, from their beginning or in part.
    pub fetches: IntCounter,
    /// Events that a slow subscriber did not get.
    pub events_lost: IntCounter,
    /// People who listen to a call through this node.
    pub listeners: IntGauge,
    /// Frames of calls that a slow listener did not get.
    pub listen_frames_dropped: IntCounter,
    /// The most bytes that ever waited for one socket.
    pub unsent_bytes_max: IntGauge,
}

impl Stats {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name, help| registered(&registry, IntCounter::new(name, help));
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help));
        Self {
            connections: gauge("astlogger_web_connections", "TCP connections open."),
            refused: counter(
                "astlogger_web_connections_refused_total",
                "TCP connections closed at once because there were too many.",
            ),
            handshake_failures: counter(
                "astlogger_web_handshake_failures_total",
                "TLS handshakes that failed.",
            ),
            sockets: gauge("astlogger_web_sockets", "WebSockets open."),
            signin_failures: counter(
                "astlogger_web_signin_failures_total",
                "Attempts to sign in that failed or had to wait.",
            ),
            bad_frames: counter(
                "astlogger_web_bad_frames_total",
                "WebSocket frames that were no request, too long, or binary.",
            ),
            fetches: counter("astlogger_fetches_total", "Recordings fetched, whole or in part."),
            events_lost: counter(
                "astlogger_web_events_lost_total",
                "Events that a slow subscriber did not get.",
            ),
            listeners: gauge("astlogger_web_listeners", "Calls listened to through this node."),
            listen_frames_dropped: counter(
                "astlogger_web_listen_frames_dropped_total",
                "Frames of 20 ms that a slow listener did not get.",
            ),
            unsent_bytes_max: gauge(
                "astlogger_web_unsent_bytes_max",
                "The most bytes that ever waited for one WebSocket.",
            ),
            registry,
        }
    }

    /// In Prometheus text form.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("encoding integers into a string cannot fail")
    }

    /// Remembers how many bytes waited for a socket, if that was never more.
    pub fn saw_unsent(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes > self.unsent_bytes_max.get() {
            self.unsent_bytes_max.set(bytes);
        }
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("the names above are valid");
    registry.register(Box::new(metric.clone())).expect("the names above differ");
    metric
}

/// Counts a gauge down when whatever it counts is over.
pub struct Counted(IntGauge);

impl Counted {
    /// Counts it up.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{listed_metrics, shown_metrics};

    #[test]
    fn the_list_of_metrics_has_those_of_the_web_server() {
        let mut listed = listed_metrics();
        listed.retain(|(name, _)| {
            name.starts_with("astlogger_web_") || name == "astlogger_fetches_total"
        });
        assert_eq!(shown_metrics(&Stats::new().text()), listed);
    }

    #[test]
    fn the_page_holds_what_was_counted() {
        let stats = Stats::new();
        stats.saw_unsent(7);
        stats.saw_unsent(3);
        let counted = Counted::new(&stats.sockets);
        let text = stats.text();
        assert!(text.contains("astlogger_web_unsent_bytes_max 7\n"), "{text}");
        assert!(text.contains("astlogger_web_sockets 1\n"), "{text}");
        assert!(text.contains("astlogger_fetches_total 0\n"), "{text}");
        drop(counted);
        assert!(stats.text().contains("astlogger_web_sockets 0\n"));
    }
}
