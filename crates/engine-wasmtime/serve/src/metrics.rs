//! Counters, and their text for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the histogram's buckets, in microseconds.
const BUCKETS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// The codes that a server answers with.
const STATUSES: usize = 600;

/// A limit at which a request was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The head is too large: 431.
    Header,
    /// The body is too large: 413.
    Body,
    /// Too many requests: 503.
    Concurrency,
    /// The answer did not begin in time: 504.
    Time,
    /// The instance has asked for too much memory: 500.
    Memory,
    /// The client was too slow: 408, or no answer.
    Client,
}

impl Limit {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Header, "header"),
        (Self::Body, "body"),
        (Self::Concurrency, "concurrency"),
        (Self::Time, "time"),
        (Self::Memory, "memory"),
        (Self::Client, "client"),
    ];
}

/// How a call of the component's to another service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// With an answer.
    Answered,
    /// Without one.
    Failed,
    /// It is not allowed to go there.
    Denied,
}

impl Call {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Answered, "answered"),
        (Self::Failed, "failed"),
        (Self::Denied, "denied"),
    ];
}

/// All counters of a container.
#[derive(Debug)]
pub(crate) struct Metrics {
    statuses: Box<[AtomicU64; STATUSES]>,
    durations: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
    limits: [AtomicU64; Limit::ALL.len()],
    calls: [AtomicU64; Call::ALL.len()],
    /// Instances made.
    pub(crate) instances: AtomicU64,
    /// Instances that could not be made.
    pub(crate) failed_instances: AtomicU64,
    /// Requests that ended in a trap.
    pub(crate) traps: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            statuses: Box::new([const { AtomicU64::new(0) }; STATUSES]),
            durations: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            microseconds: AtomicU64::new(0),
            limits: [const { AtomicU64::new(0) }; Limit::ALL.len()],
            calls: [const { AtomicU64::new(0) }; Call::ALL.len()],
            instances: AtomicU64::new(0),
            failed_instances: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// A request was answered, the time until its answer began.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        if let Some(counter) = self.statuses.get(usize::from(status)) {
            count(counter);
        }
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < after);
        count(&self.durations[bucket]);
        self.microseconds.fetch_add(after, Ordering::Relaxed);
    }

    /// A limit was met.
    pub(crate) fn limited(&self, limit: Limit) {
        count(&self.limits[limit as usize]);
    }

    /// The component has called another service.
    pub(crate) fn called(&self, call: Call) {
        count(&self.calls[call as usize]);
    }

    /// The text format of Prometheus.
    pub(crate) fn text(&self, in_flight: u64, waiting: u64, memory: u64) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            for (labels, value) in samples {
                text.push_str(&format!("{name}{labels} {value}\n"));
            }
        };
        let one = |value: u64| vec![(String::new(), value.to_string())];
        let statuses: Vec<_> = (0..STATUSES)
            .map(|status| (status, read(&self.statuses[status])))
            .filter(|(_, count)| *count > 0)
            .map(|(status, count)| (format!("{{code=\"{status}\"}}"), count.to_string()))
            .collect();
        family(
            "skiff_http_requests_total",
            "counter",
            "Requests by the status of their answer.",
            &statuses,
        );
        family(
            "skiff_http_refused_total",
            "counter",
            "Requests that were refused or ended at a limit.",
            &labelled(
                "limit",
                &Limit::ALL.map(|(limit, name)| (name, read(&self.limits[limit as usize]))),
            ),
        );
        family(
            "skiff_http_outgoing_requests_total",
            "counter",
            "Calls of the component to other services.",
            &labelled(
                "outcome",
                &Call::ALL.map(|(call, name)| (name, read(&self.calls[call as usize]))),
            ),
        );
        family(
            "skiff_http_traps_total",
            "counter",
            "Requests that ended in a trap.",
            &one(read(&self.traps)),
        );
        family(
            "skiff_http_instances_total",
            "counter",
            "Instances made.",
            &one(read(&self.instances)),
        );
        family(
            "skiff_http_failed_instances_total",
            "counter",
            "Instances that could not be made.",
            &one(read(&self.failed_instances)),
        );
        family(
            "skiff_http_connections",
            "gauge",
            "Open connections.",
            &one(read(&self.connections)),
        );
        family(
            "skiff_http_requests_in_flight",
            "gauge",
            "Requests that are handled.",
            &one(in_flight),
        );
        family(
            "skiff_http_requests_waiting",
            "gauge",
            "Requests that wait for others to end.",
            &one(waiting),
        );
        family(
            "skiff_http_memory_bytes",
            "gauge",
            "Memory that instances have declared or asked for.",
            &one(memory),
        );
        self.histogram(&mut text);
        text
    }

    fn histogram(&self, text: &mut String) {
        const NAME: &str = "skiff_http_request_duration_seconds";
        let mut total = 0;
        text.push_str(&format!(
            "# HELP {NAME} Time until an answer begins.\n# TYPE {NAME} histogram\n"
        ));
        for (index, counter) in self.durations.iter().enumerate() {
            total += read(counter);
            let end = BUCKETS
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), |end| seconds(*end));
            text.push_str(&format!("{NAME}_bucket{{le=\"{end}\"}} {total}\n"));
        }
        let sum = seconds(read(&self.microseconds));
        text.push_str(&format!("{NAME}_sum {sum}\n{NAME}_count {total}\n"));
    }
}

fn labelled(label: &str, values: &[(&str, u64)]) -> Vec<(String, String)> {
    let sample =
        |(value, count): &(&str, u64)| (format!("{{{label}=\"{value}\"}}"), count.to_string());
    values.iter().map(sample).collect()
}

/// Microseconds as seconds, without loss: `0.0005`, `5`.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.answered(200, Duration::from_micros(300));
        metrics.answered(200, Duration::from_secs(60));
        metrics.answered(503, Duration::from_micros(100));
        metrics.limited(Limit::Concurrency);
        metrics.called(Call::Denied);
        let text = metrics.text(1, 2, 3);
        for line in [
            "skiff_http_requests_total{code=\"200\"} 2",
            "skiff_http_requests_total{code=\"503\"} 1",
            "skiff_http_refused_total{limit=\"concurrency\"} 1",
            "skiff_http_refused_total{limit=\"body\"} 0",
            "skiff_http_outgoing_requests_total{outcome=\"denied\"} 1",
            "skiff_http_request_duration_seconds_bucket{le=\"0.0001\"} 1",
            "skiff_http_request_duration_seconds_bucket{le=\"0.0005\"} 2",
            "skiff_http_request_duration_seconds_bucket{le=\"30\"} 2",
            "skiff_http_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "skiff_http_request_duration_seconds_sum 60.0004",
            "skiff_http_request_duration_seconds_count 3",
            "skiff_http_requests_in_flight 1",
            "# TYPE skiff_http_memory_bytes gauge",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
