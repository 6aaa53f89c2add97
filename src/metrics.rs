//! What happened and how things are, for Prometheus. The names are in [`table`].

mod table;
mod topics;

use std::time::{Duration, SystemTime};

use metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use self::table::{Kind, Metric};
pub use self::table::{MOST_TOPICS, document};
pub use self::topics::{TopicBacklog, topics};
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
    for metric in table::ALL.iter().filter(|metric| !metric.is_of_topics()) {
        describe(metric);
        start_at_zero(metric);
    }
    metrics_process::Collector::default().describe();
    let version = env!("CARGO_PKG_VERSION");
    gauge!(table::BUILD_INFO, "version" => version, "commit" => commit.to_owned(), "librdkafka" => librdkafka.to_owned())
        .set(1.0);
    Ok(handle)
}

/// All metrics as text, those of the process as they are now.
pub fn render(handle: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    handle.render() + &topics::shown()
}

fn describe(metric: &Metric) {
    let (name, help) = (metric.name, metric.help);
    let unit = match name {
        name if name.ends_with("_seconds") => Unit::Seconds,
        name if name.contains("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    match metric.kind {
        Kind::Counter => describe_counter!(name, unit, help),
        Kind::Gauge | Kind::Absent => describe_gauge!(name, unit, help),
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
            // A histogram shows nothing before its first observation.
            Kind::Absent | Kind::Histogram(_) => {}
        }
    }
}

/// Something that goes on, until this is dropped.
pub struct Ongoing(&'static str);

impl Ongoing {
    /// A request that has no answer yet.
    pub fn request() -> Self {
        Ongoing::begin(table::HTTP_IN_FLIGHT)
    }

    /// A request that is held back.
    pub fn wait() -> Self {
        Ongoing::begin(table::HTTP_WAITERS)
    }

    /// A stream of events.
    pub fn stream() -> Self {
        Ongoing::begin(table::EVENT_STREAMS)
    }

    /// A worker's task.
    pub fn task() -> Self {
        Ongoing::begin(table::WORKERS_BUSY)
    }

    fn begin(name: &'static str) -> Self {
        gauge!(name).increment(1);
        Ongoing(name)
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1);
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

/// A lease was renewed, or not.
pub fn renewal_took(took: Duration) {
    histogram!(table::RENEWAL_SECONDS).record(took.as_secs_f64());
}

/// A run ended, so many seconds after it was asked for.
pub fn run_ended(outcome: &'static str, failure: Option<FailureKind>, seconds: f64) {
    counter!(table::RUNS_ENDED, "outcome" => outcome).increment(1);
    histogram!(table::RUN_SECONDS, "outcome" => outcome).record(seconds);
    if let Some(kind) = failure {
        counter!(table::RUN_FAILURES, "code" => kind.code()).increment(1);
    }
}

/// What a run found in the end; `lost_now` offsets of it are lost of which the snapshot did not
/// tell before.
pub fn run_found(totals: &Totals, lost_now: i64) {
    counter!(table::LOST).increment(u64::try_from(lost_now).unwrap_or(0));
    if totals.lost_offsets > 0 || totals.uncertain_partitions > 0 {
        counter!(table::LOSSY_RUNS).increment(1);
    }
}

/// It was found out what became of a commit that had no answer.
pub fn commit_settled(landed: bool, took: Duration) {
    committed(if landed { "unknown_landed" } else { "unknown_lost" }, took);
}

/// Spans were not sent.
pub fn spans_dropped(reason: &'static str, number: u64) {
    counter!(table::SPANS_DROPPED, "reason" => reason).increment(number);
}

/// A commit was tried.
pub fn committed(outcome: &'static str, took: Duration) {
    counter!(table::COMMITS, "outcome" => outcome).increment(1);
    histogram!(table::COMMIT_SECONDS).record(took.as_secs_f64());
}

/// The sweeper removed so many objects.
pub fn swept(objects: u64) {
    counter!(table::SWEPT).increment(objects);
}

/// Kafka answered a question, or did not.
pub fn kafka_answered(op: &'static str, took: Duration) {
    histogram!(table::KAFKA_SECONDS, "op" => op).record(took.as_secs_f64());
}

/// Kafka or its client library reported an error.
pub fn kafka_error(code: &str) {
    let known = table::KAFKA_CODES.iter().find(|known| **known == code).unwrap_or(&"other");
    counter!(table::KAFKA_ERRORS, "code" => *known).increment(1);
}

/// Events were read from Kafka.
pub fn events_read(records: u64, bytes: u64) {
    counter!(table::RECORDS_READ).increment(records);
    counter!(table::BYTES_READ).increment(bytes);
}

/// The store did what it was asked for, or did not.
pub fn store_answered<T, E>(op: &'static str, took: Duration, answer: &Result<T, E>) {
    histogram!(table::STORE_SECONDS, "op" => op).record(took.as_secs_f64());
    if answer.is_err() {
        counter!(table::STORE_ERRORS, "op" => op).increment(1);
    }
}

/// So much is free where files are stored.
pub fn store_free(bytes: u64) {
    gauge!(table::STORE_FREE).set(bytes as f64);
}

/// A commit made a file of so many bytes visible, or what was read and had no events.
pub fn stored(file_bytes: Option<u64>, records: i64) {
    counter!(table::RECORDS).increment(records.unsigned_abs());
    if let Some(bytes) = file_bytes {
        counter!(table::FILES).increment(1);
        counter!(table::FILE_BYTES).increment(bytes);
    }
}

/// What is open, and what has been open for longest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Runs that wait for their first worker; at most 100,000 are counted, as of those below.
    pub queued: i64,
    /// Runs under way.
    pub running: i64,
    /// Snapshots that are provisional.
    pub provisional: i64,
    /// Snapshots that are settled and not sealed.
    pub settled: i64,
    /// How long the run has waited that waits longest; 0 if none does.
    pub oldest_queued_seconds: f64,
    /// For how long the task has been failing that fails longest; 0 if none does.
    pub oldest_failing_seconds: f64,
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

/// Connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open, and of no use to anybody at the moment.
    pub idle: usize,
    /// In use.
    pub busy: usize,
    /// How many there may be.
    pub limit: usize,
    /// How many wait for one.
    pub waiting: usize,
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

/// A connection of the pool was there, or was not to be had.
pub fn pool_wait(took: Duration) {
    histogram!(table::DB_WAIT_SECONDS).record(took.as_secs_f64());
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
