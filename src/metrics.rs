//! What happened and how things are, for Prometheus. The names are in [`table`].

mod table;

use std::time::{Duration, SystemTime};

use metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::table::document;
use self::table::{Kind, Metric};
use crate::db::{Activity, CommitOutcome, Connections, NewSegment};
use crate::snapshot::{FailureKind, Totals};

/// The methods that a metric tells apart; a caller may send what it likes.
const METHODS: &[&str] = &["GET", "HEAD", "POST"];

/// Installs the process's recorder and gives the handle that renders it.
///
/// # Errors
/// [`BuildError`] if one is installed already.
pub fn install(commit: &str, librdkafka: &str) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in table::ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in table::ALL {
        describe(metric);
        start_at_zero(metric);
    }
    let version = env!("CARGO_PKG_VERSION");
    gauge!(table::BUILD_INFO, "version" => version, "commit" => commit.to_owned(), "librdkafka" => librdkafka.to_owned())
        .set(1.0);
    Ok(handle)
}

fn describe(metric: &Metric) {
    let (name, help) = (metric.name, metric.help);
    let unit = match name {
        name if name.contains("_seconds") => Unit::Seconds,
        name if name.contains("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    match metric.kind {
        Kind::Counter => describe_counter!(name, unit, help),
        Kind::Gauge => describe_gauge!(name, unit, help),
        Kind::Histogram(_) => describe_histogram!(name, unit, help),
    }
}

/// `increase()` does not see a series' first sample, so every series that can be named in
/// advance is there from the start.
fn start_at_zero(metric: &Metric) {
    let mut series: Vec<Vec<Label>> = vec![Vec::new()];
    for label in metric.labels {
        let Some(values) = label.values.known() else { return };
        let with = |value: &&'static str| Label::from_static_parts(label.name, value);
        series = series
            .iter()
            .flat_map(|labels| {
                values.iter().map(move |value| [labels.as_slice(), &[with(value)]].concat())
            })
            .collect();
    }
    for labels in series {
        match metric.kind {
            Kind::Counter => counter!(metric.name, labels).absolute(0),
            Kind::Gauge => gauge!(metric.name, labels).set(0.0),
            // Shows nothing before its first observation.
            Kind::Histogram(_) => {}
        }
    }
}

/// A request that has no answer yet; it has one when this is dropped.
pub struct InFlight;

impl InFlight {
    /// One more.
    pub fn begin() -> Self {
        gauge!(table::HTTP_IN_FLIGHT).increment(1);
        InFlight
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(table::HTTP_IN_FLIGHT).decrement(1);
    }
}

/// Whether a request asked to be held back until something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// No: how long it took is how quick we are.
    No,
    /// Yes.
    Yes,
}

/// An HTTP request was answered. `route` is a template, never a path.
pub fn http_request(route: &str, method: &str, status: u16, took: Duration, waited: Waited) {
    let method = METHODS.iter().find(|known| **known == method).unwrap_or(&"other");
    let route = route.to_owned();
    let waited = match waited {
        Waited::No => "no",
        Waited::Yes => "yes",
    };
    counter!(table::HTTP_REQUESTS, "route" => route.clone(), "method" => *method, "code" => status.to_string())
        .increment(1);
    histogram!(table::HTTP_SECONDS, "route" => route, "method" => *method, "waited" => waited)
        .record(took.as_secs_f64());
}

/// It was not known who calls.
pub fn auth_failure(reason: &'static str) {
    counter!(table::AUTH_FAILURES, "reason" => reason).increment(1);
}

/// A request was more than a limit allows.
pub fn refused(limit: &'static str) {
    counter!(table::REFUSED, "limit" => limit).increment(1);
}

/// A request for a snapshot led to this.
pub fn request(outcome: &'static str) {
    counter!(table::REQUESTS, "outcome" => outcome).increment(1);
}

/// A run was taken up by its first worker.
pub fn queue_wait(seconds: f64) {
    histogram!(table::QUEUE_WAIT).record(seconds);
}

/// This replica has so many workers.
pub fn workers(count: usize) {
    gauge!(table::WORKERS).set(count as f64);
}

/// A worker that has a task, until this is dropped.
pub struct Busy;

impl Busy {
    /// One more.
    pub fn begin() -> Self {
        gauge!(table::WORKERS_BUSY).increment(1);
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        gauge!(table::WORKERS_BUSY).decrement(1);
    }
}

/// A worker is through with a task, well or not.
pub fn task_done(kind: &'static str, took: Duration) {
    histogram!(table::TASK_SECONDS, "kind" => kind).record(took.as_secs_f64());
}

/// A task will be tried again.
pub fn task_retried(kind: FailureKind) {
    counter!(table::TASK_RETRIES, "code" => kind.code()).increment(1);
}

/// A worker has lost its task.
pub fn lease_lost() {
    counter!(table::LEASES_LOST).increment(1);
}

/// A run ended.
pub fn run_ended(outcome: &'static str, failure: Option<FailureKind>) {
    counter!(table::RUNS_ENDED, "outcome" => outcome).increment(1);
    if let Some(kind) = failure {
        counter!(table::RUN_FAILURES, "code" => kind.code()).increment(1);
    }
}

/// What a run found in the end.
pub fn run_found(totals: &Totals) {
    if totals.lost_offsets > 0 || totals.uncertain_partitions > 0 {
        counter!(table::LOSSY_RUNS).increment(1);
    }
}

/// A commit was tried.
pub fn committed(outcome: CommitOutcome, took: Duration) {
    let outcome = match outcome {
        CommitOutcome::Committed => "committed",
        CommitOutcome::LeaseLost => "lease_lost",
        CommitOutcome::Conflict => "conflict",
    };
    counter!(table::COMMITS, "outcome" => outcome).increment(1);
    histogram!(table::COMMIT_SECONDS).record(took.as_secs_f64());
}

/// The sweeper removed so many objects.
pub fn swept(objects: u64) {
    counter!(table::SWEPT).increment(objects);
}

/// A commit made this visible.
pub fn stored(file_bytes: Option<u64>, segments: &[NewSegment]) {
    let records: i64 = segments.iter().map(|segment| segment.tally.records).sum();
    counter!(table::RECORDS).increment(records.unsigned_abs());
    if let Some(bytes) = file_bytes {
        counter!(table::FILES).increment(1);
        counter!(table::FILE_BYTES).increment(bytes);
    }
}

/// How all replicas are, as Postgres knows.
pub fn activity(activity: &Activity) {
    for (state, count) in [("queued", activity.queued), ("running", activity.running)] {
        gauge!(table::OPEN_RUNS, "state" => state).set(count as f64);
    }
    let unsealed = [("provisional", activity.provisional), ("settled", activity.settled)];
    for (completeness, count) in unsealed {
        gauge!(table::UNSEALED, "completeness" => completeness).set(count as f64);
    }
    gauge!(table::OLDEST_QUEUED).set(activity.oldest_queued_seconds);
    gauge!(table::OLDEST_FAILING).set(activity.oldest_failing_seconds);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!(table::LOOKED_AT).set(now.as_secs_f64());
}

/// This replica's connections to Postgres.
pub fn connections(connections: &Connections) {
    let states =
        [("idle", connections.idle), ("busy", connections.busy), ("limit", connections.limit)];
    for (state, count) in states {
        gauge!(table::DB_CONNECTIONS, "state" => state).set(count as f64);
    }
    gauge!(table::DB_WAITING).set(connections.waiting as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_the_table() {
        let shown = include_str!("../docs/metrics.md");
        for line in document().lines() {
            assert!(shown.contains(line), "docs/metrics.md lacks, or has differently:\n{line}");
        }
        let rows = shown.lines().filter(|line| line.starts_with("| `strandline_")).count();
        assert_eq!(rows, table::ALL.len(), "docs/metrics.md has rows of metrics that are none");
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for metric in table::ALL {
            let name = metric.name;
            assert!(name.starts_with("strandline_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(metric.kind, Kind::Counter), "{name}");
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}");
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(name.ends_with("_seconds") && buckets.is_sorted(), "{name}");
            }
        }
    }
}
