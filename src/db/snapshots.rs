//! Snapshots: what there is to know of one.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{
    Capture, Completeness, Failure, FailureKind, OnLoss, State, Timestamp, TopicName, Totals,
    Window,
};

/// What someone asks for. Cluster, topic, window and capture name the snapshot for good.
#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    /// Name of the cluster in our settings.
    pub cluster: String,
    /// The topic.
    pub topic: TopicName,
    /// The window.
    pub window: Window,
    /// What is taken.
    pub capture: Capture,
    /// What lost offsets mean.
    pub on_loss: OnLoss,
    /// Labels, which replace those of an earlier request; `None` leaves them as they are.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Everything about a snapshot that its document shows.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// Public id.
    pub id: Uuid,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the topic.
    pub topic: String,
    /// Kafka's id of the topic's incarnation, once a plan has met it.
    pub topic_id: Option<String>,
    /// First moment of the window.
    pub window_start: Timestamp,
    /// First moment after the window.
    pub window_end: Timestamp,
    /// What is taken.
    pub capture: Capture,
    /// What lost offsets mean.
    pub on_loss: OnLoss,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where the newest asked run stands.
    pub state: State,
    /// As of the last success.
    pub completeness: Option<Completeness>,
    /// As of the last success.
    pub result: Option<Totals>,
    /// Number of the run that is shown.
    pub run: i32,
    /// Why that run failed.
    pub error: Option<Failure>,
    /// What is being tried again for, or what the sealer met.
    pub last_error: Option<Failure>,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// When a worker first took the run up.
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    pub finished_at: Option<Timestamp>,
    /// When anything changed last.
    pub updated_at: Timestamp,
    /// The run's progress.
    pub progress: ProgressRow,
}

/// How far a run is. For people to watch; decides nothing.
#[derive(Clone, Copy, Debug)]
pub struct ProgressRow {
    /// Offsets that the plan found; `None` before the plan.
    pub offsets_total: Option<i64>,
    /// Offsets read past.
    pub offsets_done: i64,
    /// Events read.
    pub records: i64,
    /// Bytes written.
    pub bytes: i64,
    /// How long the run has been going, or went, in seconds.
    pub elapsed_seconds: f64,
}

pub(super) const COLUMNS: &str = "
    s.id, s.cluster, s.topic_name, t.topic_id, s.window_start, s.window_end, s.capture, s.on_loss,
    s.labels, s.completeness, s.result, s.run, r.error, s.last_error, s.created_at, r.started_at,
    r.finished_at, s.updated_at, r.outcome, r.offsets_total,
    coalesce(r.offsets_done, p.offsets_done, 0)::bigint AS offsets_done,
    coalesce(r.records, p.records, 0)::bigint AS records,
    coalesce(r.bytes, p.bytes, 0)::bigint AS bytes,
    coalesce(extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.started_at), 0)::float8
        AS elapsed_seconds";

pub(super) const TABLES: &str = "
    FROM snapshots s
    JOIN runs r ON r.snapshot_id = s.id AND r.run = s.run
    LEFT JOIN topics t ON t.id = s.topic
    LEFT JOIN LATERAL (
        SELECT sum(offsets_done) AS offsets_done, sum(records) AS records, sum(bytes) AS bytes
        FROM tasks WHERE snapshot_id = s.id AND run = s.run AND kind = 'read') p ON true";

pub(super) const STATE: &str = "coalesce(r.outcome,
    CASE WHEN r.started_at IS NULL THEN 'queued' ELSE 'running' END)";

/// A failure as a `jsonb` column holds it.
pub(super) fn failure_to_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "code": failure.kind.code(),
        "message": failure.message,
        "partition": failure.partition,
    })
}

pub(super) fn failure_from_json(json: &serde_json::Value) -> Failure {
    let kind = json["code"].as_str().and_then(FailureKind::from_code);
    Failure {
        kind: kind.unwrap_or(FailureKind::Internal),
        message: json["message"].as_str().unwrap_or_default().to_owned(),
        partition: json["partition"].as_i64().and_then(|p| i32::try_from(p).ok()),
    }
}

pub(super) fn state_of(outcome: Option<&str>, started: bool) -> State {
    match outcome.and_then(State::from_name) {
        Some(ended) => ended,
        None if started => State::Running,
        None => State::Queued,
    }
}

pub(super) fn read_row(row: &Row) -> Result<SnapshotRow, DbError> {
    let time = |column: &str| -> Timestamp { row.get::<_, DbTime>(column).0 };
    let maybe_time = |column: &str| row.get::<_, Option<DbTime>>(column).map(|t| t.0);
    let json = |column: &str| row.get::<_, Option<serde_json::Value>>(column);
    let started_at = maybe_time("started_at");
    let capture = Capture::from_name(row.get("capture"));
    let on_loss = OnLoss::from_name(row.get("on_loss"));
    Ok(SnapshotRow {
        id: row.get("id"),
        cluster: row.get("cluster"),
        topic: row.get("topic_name"),
        topic_id: row.get("topic_id"),
        window_start: time("window_start"),
        window_end: time("window_end"),
        capture: capture.ok_or(DbError::unexpected("snapshots.capture"))?,
        on_loss: on_loss.ok_or(DbError::unexpected("snapshots.on_loss"))?,
        labels: serde_json::from_value(row.get("labels"))
            .map_err(|_| DbError::unexpected("snapshots.labels"))?,
        state: state_of(row.get("outcome"), started_at.is_some()),
        completeness: row.get::<_, Option<&str>>("completeness").and_then(Completeness::from_name),
        result: json("result")
            .map(serde_json::from_value)
            .transpose()
            .map_err(|_| DbError::unexpected("snapshots.result"))?,
        run: row.get("run"),
        error: json("error").as_ref().map(failure_from_json),
        last_error: json("last_error").as_ref().map(failure_from_json),
        created_at: time("created_at"),
        started_at,
        finished_at: maybe_time("finished_at"),
        updated_at: time("updated_at"),
        progress: ProgressRow {
            offsets_total: row.get("offsets_total"),
            offsets_done: row.get("offsets_done"),
            records: row.get("records"),
            bytes: row.get("bytes"),
            elapsed_seconds: row.get("elapsed_seconds"),
        },
    })
}

/// One snapshot, `None` if there is none of this id.
pub async fn get_snapshot(db: &Database, id: Uuid) -> Result<Option<SnapshotRow>, DbError> {
    const WHAT: &str = "look up a snapshot";
    let client = db.client().await?;
    let sql = format!("-- get_snapshot\nSELECT {COLUMNS} {TABLES} WHERE s.id = $1");
    let statement = client.prepare_cached(&sql).await.attempt(WHAT)?;
    let row = client.query_opt(&statement, &[&id]).await.attempt(WHAT)?;
    row.as_ref().map(read_row).transpose()
}

/// Which of these snapshots have no open run any more.
pub async fn get_states(db: &Database, ids: &[Uuid]) -> Result<Vec<(Uuid, State)>, DbError> {
    const WHAT: &str = "look up the states of snapshots";
    let client = db.client().await?;
    let sql = "-- get_states
        SELECT s.id, r.outcome, r.started_at IS NOT NULL AS started
        FROM snapshots s JOIN runs r ON r.snapshot_id = s.id AND r.run = s.run
        WHERE s.id = ANY($1)";
    let rows = client.query(sql, &[&ids]).await.attempt(WHAT)?;
    Ok(rows
        .iter()
        .map(|row| (row.get("id"), state_of(row.get("outcome"), row.get("started"))))
        .collect())
}

/// Runs that wait for a worker.
pub async fn queue_length(db: &Database) -> Result<i64, DbError> {
    let client = db.client().await?;
    let sql = "-- queue_length
        SELECT count(*) FROM runs WHERE started_at IS NULL AND outcome IS NULL";
    Ok(client.query_one(sql, &[]).await.attempt("measure the queue")?.get(0))
}
