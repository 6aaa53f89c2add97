//! Every metric: its name, kind, unit, labels and help. Nowhere else is one named, and
//! docs/metrics.md is this table.
//!
//! Labels have bounded sets of values, so that the number of series does not depend on what
//! callers send: never an id or a caller's text, and a topic only once Kafka has it.

use std::fmt::Write;

use crate::snapshot::FailureKind;

/// A metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [Label],
    pub(super) help: &'static str,
}

impl Metric {
    /// Whether it is told of topics, each by itself.
    pub(super) fn is_of_topics(&self) -> bool {
        self.labels.iter().any(|label| matches!(label.values, Values::Topics))
    }
}

/// What is measured how.
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A gauge that is absent while there is nothing to say.
    Absent,
    /// Observations, counted by these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    const fn as_str(&self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Absent => "gauge",
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
    /// One of [`MOST_TOPICS`] topics that Kafka has, or `other`.
    Topics,
}

impl Values {
    /// All that it may be, where that is known in advance.
    pub(super) fn known(self) -> Option<Vec<&'static str>> {
        match self {
            Values::OneOf(values) => Some(values.to_vec()),
            Values::FailureCodes => Some(FailureKind::ALL.iter().map(|kind| kind.code()).collect()),
            Values::Few(_) | Values::Topics => None,
        }
    }
}

const fn one_of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::OneOf(values) }
}

const fn few(name: &'static str, what: &'static str) -> Label {
    Label { name, values: Values::Few(what) }
}

const TOPIC: &[Label] = &[Label { name: "topic", values: Values::Topics }];

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
    HTTP_WAITERS = "strandline_http_waiters", Kind::Gauge, &[],
        "HTTP requests that are held back until a snapshot ends";
    EVENT_STREAMS = "strandline_event_streams", Kind::Gauge, &[],
        "Streams of events that are open";
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
    RUN_SECONDS = "strandline_run_duration_seconds", Kind::Histogram(WORK),
        &[one_of("outcome", &["succeeded", "failed", "cancelled"])],
        "Time from the request for a run to its end";
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
    RENEWAL_SECONDS = "strandline_lease_renewal_duration_seconds", Kind::Histogram(CALL), &[],
        "Time that the renewal of a lease took Postgres";
    LEASES_LOST = "strandline_leases_lost_total", Kind::Counter, &[],
        "Tasks that this replica's workers lost: cancelled, or taken over after silence";

    KAFKA_SECONDS = "strandline_kafka_request_duration_seconds", Kind::Histogram(CALL),
        &[one_of("op", &["list_offsets", "describe_topic", "describe_config", "metadata"])],
        "Time that Kafka took to answer a question, well or not";
    KAFKA_ERRORS = "strandline_kafka_errors_total", Kind::Counter,
        &[one_of("code", KAFKA_CODES)],
        "Errors that Kafka or its client library reported, by the library's name";
    RECORDS_READ = "strandline_records_read_total", Kind::Counter, &[],
        "Events read from Kafka, those included that were then not stored because another run was quicker";
    BYTES_READ = "strandline_record_bytes_read_total", Kind::Counter, &[],
        "Bytes of the keys and values of events read from Kafka";

    STORE_SECONDS = "strandline_store_request_duration_seconds", Kind::Histogram(CALL),
        &[one_of("op", STORE_OPS)],
        "Time that the store took for a request, retries included, well or not";
    STORE_ERRORS = "strandline_store_errors_total", Kind::Counter, &[one_of("op", STORE_OPS)],
        "Requests to the store that failed after all retries";
    STORE_FREE = "strandline_store_free_bytes", Kind::Absent, &[],
        "Bytes free where files are stored; only if that is a folder of this machine";
    RECORDS = "strandline_records_stored_total", Kind::Counter, &[], "Events stored";
    FILES = "strandline_files_stored_total", Kind::Counter, &[], "Files stored";
    FILE_BYTES = "strandline_file_bytes_stored_total", Kind::Counter, &[], "Bytes of files stored";
    LOST = "strandline_lost_offsets_total", Kind::Counter, &[],
        "Offsets that were lost, when a run that succeeds says so for the first time";
    LOSSY_RUNS = "strandline_lossy_runs_total", Kind::Counter, &[],
        "Runs that ended with offsets lost, or with a start that is uncertain";
    COMMITS = "strandline_commits_total", Kind::Counter,
        &[one_of("outcome", &["committed", "lease_lost", "conflict", "unknown_landed", "unknown_lost"])],
        "Commits of files; a conflict is a race for the same offsets that another run has won, an unknown one had no answer and was found to have landed or not";
    COMMIT_SECONDS = "strandline_commit_duration_seconds", Kind::Histogram(CALL), &[],
        "Time that a commit took Postgres";
    SWEPT = "strandline_swept_objects_total", Kind::Counter, &[],
        "Objects and unfinished uploads removed because no commit names them";

    DB_CONNECTIONS = "strandline_db_connections", Kind::Gauge,
        &[one_of("state", &["idle", "busy", "limit"])],
        "Connections of this replica's pool";
    DB_WAIT_SECONDS = "strandline_db_pool_wait_seconds", Kind::Histogram(CALL), &[],
        "Time until a connection of the pool was there";
    DB_WAITING = "strandline_db_waiting", Kind::Gauge, &[],
        "Statements of this replica that wait for a connection";
    LOOKED_AT = "strandline_state_timestamp_seconds", Kind::Gauge, &[],
        "When what is said of all replicas was last read from Postgres, in Unix time; 0 before";

    TOPIC_UNSEALED = "strandline_topic_unsealed_snapshots", Kind::Absent, TOPIC,
        "Snapshots of the topic that may still grow, of all replicas";
    TOPIC_PROVISIONAL_END = "strandline_topic_oldest_provisional_window_end_timestamp_seconds", Kind::Absent, TOPIC,
        "The earliest end of a window of the topic that is provisional, in Unix time, of all replicas; absent without one";
    TOPIC_UNSTORED = "strandline_topic_unstored_snapshots", Kind::Absent, TOPIC,
        "Snapshots of the topic whose run is queued, under way or failed, but for those that retention has passed as a whole, of all replicas";
    TOPIC_UNSTORED_START = "strandline_topic_oldest_unstored_window_start_timestamp_seconds", Kind::Absent, TOPIC,
        "The earliest start of their windows, in Unix time, of all replicas; absent without one";
    TOPIC_RETENTION = "strandline_topic_retention_seconds", Kind::Absent, TOPIC,
        "How long Kafka keeps the topic's events, of all replicas; absent if for good or not known";

    SPANS_DROPPED = "strandline_spans_dropped_total", Kind::Counter,
        &[one_of("reason", &["queue_full", "not_taken"])],
        "Spans of traces that were dropped: too many waited, or the collector did not take them";
}

/// What may be asked of the store.
const STORE_OPS: &[&str] =
    &["put", "begin", "put_part", "complete", "abort", "get", "head", "delete"];

/// Errors with a series of their own, as rdkafka calls them.
pub(super) const KAFKA_CODES: &[&str] = &[
    "AllBrokersDown",
    "Authentication",
    "BrokerTransportFailure",
    "LeaderNotAvailable",
    "NotLeaderForPartition",
    "OperationTimedOut",
    "Resolve",
    "SSL",
    "TopicAuthorizationFailed",
    "UnknownTopicOrPartition",
    "other",
];

/// So many topics have series of their own: those whose data is in most danger.
pub const MOST_TOPICS: usize = 100;

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
        Values::Topics => format!("at most {MOST_TOPICS} topics that Kafka has, or `other`"),
    };
    format!("`{}`: {values}", label.name)
}
