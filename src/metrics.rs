//! Every metric: its name, unit, help and labels. Nowhere else is one named.
//!
//! Labels have closed sets of values: never an id, a topic or a caller's text.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::db::{CommitOutcome, NewSegment};
use crate::snapshot::FailureKind;

const BUILD_INFO: &str = "strandline_build_info";
const HTTP_REQUESTS: &str = "strandline_http_requests_total";
const HTTP_SECONDS: &str = "strandline_http_request_duration_seconds";
const REQUESTS: &str = "strandline_snapshot_requests_total";
const QUEUE_WAIT: &str = "strandline_queue_wait_seconds";
const TASK_SECONDS: &str = "strandline_task_duration_seconds";
const RUNS_ENDED: &str = "strandline_runs_ended_total";
const RUN_FAILURES: &str = "strandline_run_failures_total";
const COMMITS: &str = "strandline_commits_total";
const COMMIT_SECONDS: &str = "strandline_commit_duration_seconds";
const RECORDS: &str = "strandline_records_stored_total";
const FILES: &str = "strandline_files_stored_total";
const SWEPT: &str = "strandline_swept_objects_total";
const FILE_BYTES: &str = "strandline_file_bytes_stored_total";

const HTTP_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const WORK_BUCKETS: &[f64] =
    &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

/// The methods that a metric tells apart; a caller may send what it likes.
const METHODS: &[&str] = &["GET", "HEAD", "POST"];

/// Installs the process's recorder and gives the handle that renders it.
///
/// # Errors
/// [`BuildError`] if one is installed already.
pub fn install(commit: &str, librdkafka: &str) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in [
        (HTTP_SECONDS, HTTP_BUCKETS),
        (QUEUE_WAIT, WORK_BUCKETS),
        (TASK_SECONDS, WORK_BUCKETS),
        (COMMIT_SECONDS, HTTP_BUCKETS),
    ] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    describe();
    start_at_zero();
    let version = env!("CARGO_PKG_VERSION");
    gauge!(BUILD_INFO, "version" => version, "commit" => commit.to_owned(), "librdkafka" => librdkafka.to_owned())
        .set(1.0);
    Ok(handle)
}

fn describe() {
    describe_gauge!(BUILD_INFO, "1; the labels say which Strandline this is");
    describe_counter!(HTTP_REQUESTS, "HTTP requests answered, by route, method and status code");
    describe_histogram!(
        HTTP_SECONDS,
        Unit::Seconds,
        "Time to answer an HTTP request, waits included"
    );
    describe_counter!(REQUESTS, "Requests for snapshots, by what they led to");
    describe_histogram!(QUEUE_WAIT, Unit::Seconds, "Time that a run waited for its first worker");
    describe_histogram!(TASK_SECONDS, Unit::Seconds, "Time that a task took one worker, by kind");
    describe_counter!(RUNS_ENDED, "Runs that ended, by outcome");
    describe_counter!(RUN_FAILURES, "Runs that failed, by code");
    describe_counter!(COMMITS, "Commits of files, by outcome");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time that a commit took Postgres");
    describe_counter!(RECORDS, "Events stored");
    describe_counter!(FILES, "Files stored");
    describe_counter!(SWEPT, "Objects and unfinished uploads removed because no commit names them");
    describe_counter!(FILE_BYTES, Unit::Bytes, "Bytes of files stored");
}

/// `increase()` does not see a series' first sample, so every series that can be named in
/// advance is there from the start.
fn start_at_zero() {
    for outcome in ["new", "new_run", "joined", "replayed", "rejected"] {
        counter!(REQUESTS, "outcome" => outcome).absolute(0);
    }
    for outcome in ["succeeded", "failed", "cancelled"] {
        counter!(RUNS_ENDED, "outcome" => outcome).absolute(0);
    }
    for kind in FailureKind::ALL {
        counter!(RUN_FAILURES, "code" => kind.code()).absolute(0);
    }
    for outcome in ["committed", "lease_lost", "conflict"] {
        counter!(COMMITS, "outcome" => outcome).absolute(0);
    }
    for name in [RECORDS, FILES, FILE_BYTES, SWEPT] {
        counter!(name).absolute(0);
    }
}

/// An HTTP request was answered. `route` is a template, never a path.
pub fn http_request(route: &str, method: &str, status: u16, took: Duration) {
    let method = METHODS.iter().find(|known| **known == method).unwrap_or(&"other");
    let route = route.to_owned();
    counter!(HTTP_REQUESTS, "route" => route.clone(), "method" => *method, "code" => status.to_string())
        .increment(1);
    histogram!(HTTP_SECONDS, "route" => route, "method" => *method).record(took.as_secs_f64());
}

/// A request for a snapshot led to this.
pub fn request(outcome: &'static str) {
    counter!(REQUESTS, "outcome" => outcome).increment(1);
}

/// A run was taken up by its first worker.
pub fn queue_wait(seconds: f64) {
    histogram!(QUEUE_WAIT).record(seconds);
}

/// A worker is through with a task, well or not.
pub fn task_done(kind: &'static str, took: Duration) {
    histogram!(TASK_SECONDS, "kind" => kind).record(took.as_secs_f64());
}

/// A run ended.
pub fn run_ended(outcome: &'static str, failure: Option<FailureKind>) {
    counter!(RUNS_ENDED, "outcome" => outcome).increment(1);
    if let Some(kind) = failure {
        counter!(RUN_FAILURES, "code" => kind.code()).increment(1);
    }
}

/// A commit was tried.
pub fn committed(outcome: CommitOutcome, took: Duration) {
    let outcome = match outcome {
        CommitOutcome::Committed => "committed",
        CommitOutcome::LeaseLost => "lease_lost",
        CommitOutcome::Conflict => "conflict",
    };
    counter!(COMMITS, "outcome" => outcome).increment(1);
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
}

/// The sweeper removed so many objects.
pub fn swept(objects: u64) {
    counter!(SWEPT).increment(objects);
}

/// A commit made this visible.
pub fn stored(file_bytes: Option<u64>, segments: &[NewSegment]) {
    let records: i64 = segments.iter().map(|segment| segment.tally.records).sum();
    counter!(RECORDS).increment(records.unsigned_abs());
    if let Some(bytes) = file_bytes {
        counter!(FILES).increment(1);
        counter!(FILE_BYTES).increment(bytes);
    }
}
