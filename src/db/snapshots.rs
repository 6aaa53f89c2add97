//! Snapshots: asking for one, looking at one, listing them.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{
    Capture, Completeness, Failure, FailureKind, OnLoss, RequestAction, State, Timestamp,
    TopicName, Totals, Window, action_on_request,
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

const COLUMNS: &str = "
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

fn failure_from_json(json: &serde_json::Value) -> Failure {
    let kind = json["code"].as_str().and_then(FailureKind::from_code);
    Failure {
        kind: kind.unwrap_or(FailureKind::Internal),
        message: json["message"].as_str().unwrap_or_default().to_owned(),
        partition: json["partition"].as_i64().and_then(|p| i32::try_from(p).ok()),
    }
}

fn state_of(outcome: Option<&str>, started: bool) -> State {
    match outcome.and_then(State::from_name) {
        Some(ended) => ended,
        None if started => State::Running,
        None => State::Queued,
    }
}

fn read_row(row: &Row) -> Result<SnapshotRow, DbError> {
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

/// Asks for a snapshot: makes it, joins its run, adds a run, or finds that there is nothing
/// left to do. `new_id` is used if it does not exist yet.
///
/// # Errors
/// [`DbError::QueueFull`] if a new run were one more than `queue_limit` that wait.
pub async fn request_snapshot(
    db: &Database,
    request: &SnapshotRequest,
    new_id: Uuid,
    queue_limit: u32,
) -> Result<(SnapshotRow, RequestAction), DbError> {
    const WHAT: &str = "take a request";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    let id = upsert_snapshot(&tx, request, new_id).await?;
    let newest = tx
        .query_opt(
            "-- newest_run
             SELECT r.run, r.outcome, r.started_at IS NOT NULL AS started, s.completeness
             FROM runs r JOIN snapshots s ON s.id = r.snapshot_id
             WHERE r.snapshot_id = $1 ORDER BY r.run DESC LIMIT 1",
            &[&id],
        )
        .await
        .attempt(WHAT)?;
    let (action, run): (RequestAction, i32) = match &newest {
        None => (RequestAction::NewRun, 1),
        Some(row) => {
            let state = state_of(row.get("outcome"), row.get("started"));
            let completeness =
                row.get::<_, Option<&str>>("completeness").and_then(Completeness::from_name);
            let run: i32 = row.get("run");
            match action_on_request(state, completeness) {
                RequestAction::NewRun => (RequestAction::NewRun, run + 1),
                same => (same, run),
            }
        }
    };
    match action {
        RequestAction::NewRun => add_run(&tx, id, run, queue_limit).await?,
        RequestAction::Join => join_run(&tx, id, run).await?,
        RequestAction::Replay => {}
    }
    let row = read_one(&tx, id).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok((row, action))
}

/// Asks for one more run of a snapshot, whatever its state; joins a run that is open.
/// `None` if there is no snapshot of this id.
///
/// # Errors
/// As [`request_snapshot`].
pub async fn refresh_snapshot(
    db: &Database,
    id: Uuid,
    queue_limit: u32,
) -> Result<Option<SnapshotRow>, DbError> {
    const WHAT: &str = "refresh a snapshot";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    let sql = "-- lock_snapshot
        SELECT (SELECT max(run) FROM runs WHERE snapshot_id = s.id) AS newest,
            (SELECT run FROM runs WHERE snapshot_id = s.id AND outcome IS NULL) AS open
        FROM snapshots s WHERE s.id = $1 FOR UPDATE";
    let Some(row) = tx.query_opt(sql, &[&id]).await.attempt(WHAT)? else { return Ok(None) };
    match row.get::<_, Option<i32>>("open") {
        Some(run) => join_run(&tx, id, run).await?,
        None => add_run(&tx, id, row.get::<_, i32>("newest") + 1, queue_limit).await?,
    }
    let row = read_one(&tx, id).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok(Some(row))
}

async fn read_one(
    tx: &deadpool_postgres::Transaction<'_>,
    id: Uuid,
) -> Result<SnapshotRow, DbError> {
    let sql = format!("-- asked_snapshot\nSELECT {COLUMNS} {TABLES} WHERE s.id = $1");
    read_row(&tx.query_one(&sql, &[&id]).await.attempt("look up the snapshot asked for")?)
}

/// A run of the sealer's becomes an asked one. (Workers lock a task before its snapshot, which
/// is locked here already; what they hold needs no hurry.)
async fn join_run(
    tx: &deadpool_postgres::Transaction<'_>,
    id: Uuid,
    run: i32,
) -> Result<(), DbError> {
    tx.execute(
        "-- join_run
         WITH joined AS (UPDATE runs SET origin = 'request'
             WHERE snapshot_id = $1 AND run = $2 AND origin <> 'request'
             RETURNING snapshot_id, run),
         hurried AS (UPDATE tasks SET due_at = least(due_at, clock_timestamp())
             WHERE id IN (SELECT t.id FROM tasks t JOIN joined USING (snapshot_id, run)
                 FOR UPDATE OF t SKIP LOCKED))
         UPDATE snapshots SET run = $2, updated_at = clock_timestamp()
         WHERE id = $1 AND run <> $2",
        &[&id, &run],
    )
    .await
    .attempt("join a run")?;
    Ok(())
}

async fn upsert_snapshot(
    tx: &deadpool_postgres::Transaction<'_>,
    request: &SnapshotRequest,
    new_id: Uuid,
) -> Result<Uuid, DbError> {
    let labels = request.labels.as_ref().map(|labels| serde_json::json!(labels));
    let row = tx
        .query_one(
            "-- upsert_snapshot
             INSERT INTO snapshots AS s
                 (id, cluster, topic_name, window_start, window_end, capture, on_loss, labels)
             VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8::jsonb, '{}'))
             ON CONFLICT (cluster, topic_name, window_start, window_end, capture)
                 WHERE superseded_at IS NULL
             DO UPDATE SET on_loss = excluded.on_loss, labels = coalesce($8::jsonb, s.labels),
                 updated_at = CASE WHEN s.on_loss = excluded.on_loss
                     AND s.labels = coalesce($8::jsonb, s.labels)
                     THEN s.updated_at ELSE clock_timestamp() END
             RETURNING id",
            &[
                &new_id,
                &request.cluster,
                &request.topic.as_str(),
                &DbTime(request.window.start()),
                &DbTime(request.window.end()),
                &request.capture.as_str(),
                &request.on_loss.as_str(),
                &labels,
            ],
        )
        .await
        .attempt("record a request")?;
    Ok(row.get("id"))
}

async fn add_run(
    tx: &deadpool_postgres::Transaction<'_>,
    id: Uuid,
    run: i32,
    queue_limit: u32,
) -> Result<(), DbError> {
    const WHAT: &str = "queue a run";
    let limit = i64::from(queue_limit);
    let queued = tx
        .query_one(
            "-- queue_has_room
             SELECT count(*) FROM (SELECT FROM runs
                 WHERE started_at IS NULL AND outcome IS NULL LIMIT $1) queued",
            &[&limit],
        )
        .await
        .attempt(WHAT)?;
    if queued.get::<_, i64>(0) >= limit {
        return Err(DbError::QueueFull { limit: queue_limit });
    }
    tx.execute(
        "-- add_run
         WITH added AS (INSERT INTO runs (snapshot_id, run, origin) VALUES ($1, $2, 'request'))
         UPDATE snapshots SET run = $2, last_error = NULL, updated_at = clock_timestamp() WHERE id = $1",
        &[&id, &run],
    )
    .await
    .attempt(WHAT)?;
    tx.execute(
        "-- add_plan_task
         INSERT INTO tasks (snapshot_id, run, kind) VALUES ($1, $2, 'plan')",
        &[&id, &run],
    )
    .await
    .attempt(WHAT)?;
    Ok(())
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

/// Which snapshots to list; what is `None` or empty does not narrow.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Name of the topic.
    pub topic: Option<String>,
    /// Any of these states.
    pub states: Vec<State>,
    /// This completeness.
    pub completeness: Option<Completeness>,
    /// Windows that end after this time.
    pub window_from: Option<Timestamp>,
    /// Windows that start before this time.
    pub window_to: Option<Timestamp>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
}

/// A part of a list: at most `limit` items, those after `after`.
#[derive(Clone, Copy, Debug)]
pub struct Page<K> {
    /// The last item of the page before.
    pub after: Option<K>,
    /// How many at most.
    pub limit: i64,
}

/// Snapshots, newest first.
pub async fn list_snapshots(
    db: &Database,
    filter: &SnapshotFilter,
    page: Page<Uuid>,
) -> Result<Vec<SnapshotRow>, DbError> {
    const WHAT: &str = "list snapshots";
    let client = db.client().await?;
    let sql = format!(
        "-- list_snapshots
         SELECT {COLUMNS} {TABLES}
         WHERE ($1::text IS NULL OR s.cluster = $1) AND ($2::text IS NULL OR s.topic_name = $2)
           AND (cardinality($3::text[]) = 0 OR {STATE} = ANY($3))
           AND ($4::text IS NULL OR s.completeness = $4)
           AND ($5::timestamptz IS NULL OR s.window_end > $5)
           AND ($6::timestamptz IS NULL OR s.window_start < $6)
           AND s.labels @> $7 AND ($8::uuid IS NULL OR s.id < $8)
         ORDER BY s.id DESC LIMIT $9"
    );
    let statement = client.prepare_cached(&sql).await.attempt(WHAT)?;
    let states: Vec<&str> = filter.states.iter().map(|s| s.as_str()).collect();
    let rows = client
        .query(
            &statement,
            &[
                &filter.cluster,
                &filter.topic,
                &states,
                &filter.completeness.map(Completeness::as_str),
                &filter.window_from.map(DbTime),
                &filter.window_to.map(DbTime),
                &serde_json::json!(filter.labels),
                &page.after,
                &page.limit,
            ],
        )
        .await
        .attempt(WHAT)?;
    rows.iter().map(read_row).collect()
}
