//! Every metric: its name, kind, unit, labels and help. Nowhere else is one named, and
//! docs/metrics.md is this table.
//!
//! Labels have closed sets of values, so that the number of series does not depend on what
//! callers send: never an id, a topic or a caller's text.

use std::fmt::Write;

use crate::snapshot::FailureKind;

/// A metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [Label],
    pub(super) help: &'static str,
}

/// What is measured how.
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted by these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    const fn as_str(&self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// A label.
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) values: Values,
}

/// What a label may be.
#[derive(Clone, Copy)]
pub(super) enum Values {
    /// One of these: all series are there from the start.
    OneOf(&'static [&'static str]),
    /// A failure's code: all series are there from the start.
    FailureCodes,
    /// One of few, which are known only when they occur.
    Few(&'static str),
}

impl Values {
    /// All that it may be, where that is known in advance.
    pub(super) fn known(self) -> Option<Vec<&'static str>> {
        match self {
            Values::OneOf(values) => Some(values.to_vec()),
            Values::FailureCodes => Some(FailureKind::ALL.iter().map(|kind| kind.code()).collect()),
            Values::Few(_) => None,
        }
    }
}

const fn one_of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::OneOf(values) }
}

const fn few(name: &'static str, what: &'static str) -> Label {
    Label { name, values: Values::Few(what) }
}

/// An answer of the API; a wait may last for minutes.
const ANSWER: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// A statement or a call to a server.
const CALL: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Work on a snapshot.
const WORK: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:expr, $labels:expr, $help:literal;)+) => {
        $(pub(super) const $const: &str = $name;)+

        /// All of them, in the order of the document.
        pub(super) const ALL: &[Metric] =
            &[$(Metric { name: $name, kind: $kind, labels: $labels, help: $help }),+];
    };
}

metrics! {
    BUILD_INFO = "strandline_build_info", Kind::Gauge,
        &[few("version", "the version"), few("commit", "the commit"), few("librdkafka", "its version")],
        "1; the labels say which Strandline this is";

    HTTP_REQUESTS = "strandline_http_requests_total", Kind::Counter,
        &[few("route", "a template of the OpenAPI document, or none"), few("method", "GET, HEAD, POST or other"), few("code", "the status")],
        "HTTP requests answered";
    HTTP_SECONDS = "strandline_http_request_duration_seconds", Kind::Histogram(ANSWER),
        &[few("route", "as above"), few("method", "as above"), one_of("waited", &["no", "yes"])],
        "Time to answer an HTTP request; waited tells those that asked to be held back from the rest";
    HTTP_IN_FLIGHT = "strandline_http_requests_in_flight", Kind::Gauge, &[],
        "HTTP requests that have no answer yet, those that wait included";
    AUTH_FAILURES = "strandline_auth_failures_total", Kind::Counter,
        &[one_of("reason", &["missing", "malformed", "unknown", "revoked", "expired", "login"])],
        "Requests refused because it was not known who calls";
    REFUSED = "strandline_refused_requests_total", Kind::Counter,
        &[one_of("limit", &["rate", "wrong_tokens", "streams", "queue"])],
        "Requests refused with 429, by the limit that was met";

    REQUESTS = "strandline_snapshot_requests_total", Kind::Counter,
        &[one_of("outcome", &["new", "new_run", "joined", "replayed", "rejected"])],
        "Requests for snapshots, by what they led to";
    OPEN_RUNS = "strandline_open_runs", Kind::Gauge, &[one_of("state", &["queued", "running"])],
        "Runs that have not ended, the sealer's included, of all replicas: each reports the same, so take the max; at most 100,000 are counted";
    UNSEALED = "strandline_snapshots_unsealed", Kind::Gauge,
        &[one_of("completeness", &["provisional", "settled"])],
        "Snapshots that may still grow, of all replicas; at most 100,000 are counted";
    OLDEST_QUEUED = "strandline_oldest_queued_age_seconds", Kind::Gauge, &[],
        "For how long the run has waited that waits longest for its first worker, of all replicas; 0 if none does";
    OLDEST_FAILING = "strandline_oldest_failing_age_seconds", Kind::Gauge, &[],
        "For how long the task has been failing that fails longest without progress, of all replicas; 0 if none does";
    QUEUE_WAIT = "strandline_queue_wait_seconds", Kind::Histogram(WORK), &[],
        "Time that a run waited for its first worker";
    RUNS_ENDED = "strandline_runs_ended_total", Kind::Counter,
        &[one_of("outcome", &["succeeded", "failed", "cancelled"])],
        "Runs that ended, by outcome";
    RUN_FAILURES = "strandline_run_failures_total", Kind::Counter,
        &[Label { name: "code", values: Values::FailureCodes }],
        "Runs that failed, by code";

    WORKERS = "strandline_workers", Kind::Gauge, &[], "Workers of this replica";
    WORKERS_BUSY = "strandline_workers_busy", Kind::Gauge, &[], "Workers of this replica that have a task";
    TASK_SECONDS = "strandline_task_duration_seconds", Kind::Histogram(WORK),
        &[one_of("kind", &["plan", "read", "finish"])],
        "Time that a task took one worker, well or not";
    TASK_RETRIES = "strandline_task_retries_total", Kind::Counter,
        &[Label { name: "code", values: Values::FailureCodes }],
        "Tasks that are tried again, by the code of what went wrong";
    LEASES_LOST = "strandline_leases_lost_total", Kind::Counter, &[],
        "Tasks that this replica's workers lost: cancelled, or taken over after silence";

    RECORDS = "strandline_records_stored_total", Kind::Counter, &[], "Events stored";
    FILES = "strandline_files_stored_total", Kind::Counter, &[], "Files stored";
    FILE_BYTES = "strandline_file_bytes_stored_total", Kind::Counter, &[], "Bytes of files stored";
    LOSSY_RUNS = "strandline_lossy_runs_total", Kind::Counter, &[],
        "Runs that ended with offsets lost, or with a start that is uncertain";
    COMMITS = "strandline_commits_total", Kind::Counter,
        &[one_of("outcome", &["committed", "lease_lost", "conflict"])],
        "Commits of files; a conflict is a race for the same offsets that another run has won";
    COMMIT_SECONDS = "strandline_commit_duration_seconds", Kind::Histogram(CALL), &[],
        "Time that a commit took Postgres";
    SWEPT = "strandline_swept_objects_total", Kind::Counter, &[],
        "Objects and unfinished uploads removed because no commit names them";

    DB_CONNECTIONS = "strandline_db_connections", Kind::Gauge,
        &[one_of("state", &["idle", "busy", "limit"])],
        "Connections of this replica's pool";
    DB_WAITING = "strandline_db_waiting", Kind::Gauge, &[],
        "Statements of this replica that wait for a connection";
    LOOKED_AT = "strandline_state_timestamp_seconds", Kind::Gauge, &[],
        "When what is said of all replicas was last read from Postgres, in Unix time; 0 before";
}

/// The table as docs/metrics.md shows it.
pub fn document() -> String {
    let mut text = String::new();
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(describe).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join("; "),
            metric.help
        );
    }
    text
}

fn describe(label: &Label) -> String {
    let values = match label.values {
        Values::OneOf(values) => {
            values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        }
        Values::FailureCodes => "a run's error code".to_owned(),
        Values::Few(what) => what.to_owned(),
    };
    format!("`{}`: {values}", label.name)
}
