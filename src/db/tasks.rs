//! Tasks and the leases on them.
//!
//! A lease is three columns: a token that grows with every claim, the id of the attempt and
//! an expiry by the database's clock. Every write of a worker names its token and attempt;
//! no row changed means that the lease is gone and another worker has the task.

use uuid::Uuid;

use super::snapshots::failure_to_json;
use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{Capture, Failure, OffsetRange, OnLoss, PartitionRange, TopicName, Window};

/// The right to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The task.
    pub task_id: i64,
    /// The fencing token.
    pub token: i64,
    /// The attempt.
    pub attempt_id: Uuid,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Ask Kafka, record the ranges, make the other tasks.
    Plan,
    /// Read some ranges and store them.
    Read,
    /// Look once more at what is gone, count, end the run.
    Finish,
}

impl TaskKind {
    /// The name in Postgres, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskKind::Plan => "plan",
            TaskKind::Read => "read",
            TaskKind::Finish => "finish",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [TaskKind::Plan, TaskKind::Read, TaskKind::Finish].into_iter().find(|k| k.as_str() == name)
    }
}

/// A task that was claimed, with all that a worker needs to know of its snapshot.
#[derive(Clone, Debug)]
pub struct ClaimedTask {
    /// The right to it.
    pub lease: Lease,
    /// What is to be done.
    pub kind: TaskKind,
    /// How often it was claimed, this time included.
    pub attempts: i32,
    /// The snapshot.
    pub snapshot_id: Uuid,
    /// The run.
    pub run: i32,
    /// Name of the cluster.
    pub cluster: String,
    /// The topic.
    pub topic: TopicName,
    /// Our key for the topic's incarnation; `None` before the first plan.
    pub topic_key: Option<i64>,
    /// Kafka's id of that incarnation, empty where the brokers give none.
    pub topic_id: Option<String>,
    /// The window.
    pub window: Window,
    /// What is taken.
    pub capture: Capture,
    /// What lost offsets mean.
    pub on_loss: OnLoss,
    /// How long the run waited for its first worker, in seconds; only on its first task.
    pub queue_wait_seconds: Option<f64>,
    /// How many workers in a row died over the task.
    pub deaths: i32,
    /// For how long it has been failing or dying, in seconds.
    pub failing_seconds: Option<f64>,
    /// What the run belongs to, as the header `traceparent` has it.
    pub trace_parent: Option<String>,
}

/// Takes the task that is due first of those that are free, if there is one; of one snapshot
/// alone if `only`. A lease that has run out counts as a death of its worker.
pub async fn claim_task(
    db: &Database,
    worker: &str,
    attempt_id: Uuid,
    lease_seconds: u32,
    only: Option<Uuid>,
) -> Result<Option<ClaimedTask>, DbError> {
    const WHAT: &str = "claim a task";
    let client = db.client().await?;
    // The run is started in a statement of the same transaction's snapshot: both or none.
    let sql = "-- claim_task
        WITH next AS (
            SELECT id, lease_expires_at IS NOT NULL AS died FROM tasks
            WHERE ended_at IS NULL AND available_at <= clock_timestamp()
              AND (lease_expires_at IS NULL OR lease_expires_at <= clock_timestamp())
              AND ($4::uuid IS NULL OR snapshot_id = $4)
            ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED),
        claimed AS (
            UPDATE tasks t SET token = token + 1, attempt_id = $2, worker = $1,
                attempts = attempts + 1,
                deaths = CASE WHEN died THEN deaths + 1 ELSE deaths END,
                failing_since = CASE WHEN died THEN coalesce(failing_since, clock_timestamp())
                    ELSE failing_since END,
                lease_expires_at = clock_timestamp() + make_interval(secs => $3)
            FROM next WHERE t.id = next.id
            RETURNING t.id, t.snapshot_id, t.run, t.kind, t.token, t.attempts, t.deaths,
                extract(epoch FROM clock_timestamp() - t.failing_since)::float8 AS failing_seconds),
        started AS (
            UPDATE runs r SET started_at = clock_timestamp()
            FROM claimed c WHERE (r.snapshot_id, r.run) = (c.snapshot_id, c.run)
                AND r.started_at IS NULL
            RETURNING r.snapshot_id,
                extract(epoch FROM clock_timestamp() - r.requested_at)::float8 AS queue_wait_seconds)
        SELECT c.*, s.cluster, s.topic_name, s.topic, t.topic_id, s.window_start, s.window_end,
            s.capture, s.on_loss, st.queue_wait_seconds, r.trace_parent
        FROM claimed c JOIN snapshots s ON s.id = c.snapshot_id
        JOIN runs r ON r.snapshot_id = c.snapshot_id AND r.run = c.run
        LEFT JOIN topics t ON t.id = s.topic LEFT JOIN started st ON st.snapshot_id = c.snapshot_id";
    let statement = client.prepare_cached(sql).await.attempt(WHAT)?;
    let row = client
        .query_opt(&statement, &[&worker, &attempt_id, &f64::from(lease_seconds), &only])
        .await
        .attempt(WHAT)?;
    let Some(row) = row else { return Ok(None) };
    let time = |column: &str| row.get::<_, DbTime>(column).0;
    let unexpected = |what| move || DbError::unexpected(what);
    Ok(Some(ClaimedTask {
        lease: Lease { task_id: row.get("id"), token: row.get("token"), attempt_id },
        kind: TaskKind::from_name(row.get("kind")).ok_or_else(unexpected("tasks.kind"))?,
        attempts: row.get("attempts"),
        snapshot_id: row.get("snapshot_id"),
        run: row.get("run"),
        cluster: row.get("cluster"),
        topic: TopicName::parse(row.get("topic_name"))
            .map_err(|_| DbError::unexpected("snapshots.topic_name"))?,
        topic_key: row.get("topic"),
        topic_id: row.get("topic_id"),
        window: Window::new(time("window_start"), time("window_end"))
            .map_err(|_| DbError::unexpected("snapshots.window_start"))?,
        capture: Capture::from_name(row.get("capture"))
            .ok_or_else(unexpected("snapshots.capture"))?,
        on_loss: OnLoss::from_name(row.get("on_loss"))
            .ok_or_else(unexpected("snapshots.on_loss"))?,
        queue_wait_seconds: row.get("queue_wait_seconds"),
        deaths: row.get("deaths"),
        failing_seconds: row.get("failing_seconds"),
        trace_parent: row.get("trace_parent"),
    }))
}

/// What a task is to read, in order of partition and offset.
pub async fn task_ranges(db: &Database, task_id: i64) -> Result<Vec<PartitionRange>, DbError> {
    let client = db.client().await?;
    let sql = "-- task_ranges
        SELECT partition, lower(offsets) AS start_offset, upper(offsets) AS end_offset
        FROM task_ranges WHERE task_id = $1 ORDER BY partition, offsets";
    let rows = client.query(sql, &[&task_id]).await.attempt("look up what a task is to read")?;
    Ok(rows
        .iter()
        .map(|row| PartitionRange {
            partition: row.get("partition"),
            range: OffsetRange::new(row.get("start_offset"), row.get("end_offset")),
        })
        .collect())
}

/// How far a task is; for people to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Offsets read past.
    pub offsets_done: i64,
    /// Events read.
    pub records: i64,
    /// Bytes written.
    pub bytes: i64,
}

/// Whether a worker still has its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It has, for `lease_seconds` more.
    Held,
    /// It ran out, someone else has it, or its run has ended.
    Lost,
}

/// Extends a lease and tells how far the task is. One that has run out is gone, also where
/// nobody has taken the task over yet.
pub async fn renew_lease(
    db: &Database,
    lease: Lease,
    lease_seconds: u32,
    progress: Progress,
) -> Result<LeaseState, DbError> {
    const WHAT: &str = "renew a lease";
    let client = db.client().await?;
    let sql = "-- renew_lease
        UPDATE tasks SET lease_expires_at = clock_timestamp() + make_interval(secs => $4),
            failing_since = CASE WHEN $5 > offsets_done THEN NULL ELSE failing_since END,
            offsets_done = greatest($5, offsets_done), records = greatest($6, records),
            bytes = greatest($7, bytes)
        WHERE id = $1 AND token = $2 AND attempt_id = $3 AND ended_at IS NULL
          AND lease_expires_at > clock_timestamp()";
    let statement = client.prepare_cached(sql).await.attempt(WHAT)?;
    let renewed = client
        .execute(
            &statement,
            &[
                &lease.task_id,
                &lease.token,
                &lease.attempt_id,
                &f64::from(lease_seconds),
                &progress.offsets_done,
                &progress.records,
                &progress.bytes,
            ],
        )
        .await
        .attempt(WHAT)?;
    Ok(if renewed == 1 { LeaseState::Held } else { LeaseState::Lost })
}

/// Shows what a task waits for as the snapshot's last error; the next commit takes it away.
pub async fn show_waiting(db: &Database, lease: Lease, failure: &Failure) -> Result<(), DbError> {
    let client = db.client().await?;
    let sql = "-- show_waiting
        UPDATE snapshots s SET last_error = $4, updated_at = clock_timestamp() FROM tasks t
        WHERE t.id = $1 AND t.token = $2 AND t.attempt_id = $3 AND t.ended_at IS NULL
          AND s.id = t.snapshot_id";
    let Lease { task_id, token, attempt_id } = lease;
    client
        .execute(sql, &[&task_id, &token, &attempt_id, &failure_to_json(failure)])
        .await
        .attempt("show what a task waits for")?;
    Ok(())
}

/// Gives a task back at once, for any worker to take; nothing happens if the lease is gone.
pub async fn release_task(db: &Database, lease: Lease) -> Result<(), DbError> {
    const WHAT: &str = "give a task back";
    let client = db.client().await?;
    let sql = "-- release_task
        WITH released AS (
            UPDATE tasks SET lease_expires_at = NULL
            WHERE id = $1 AND token = $2 AND attempt_id = $3 AND ended_at IS NULL RETURNING id)
        SELECT pg_notify('strandline_tasks', '') FROM released";
    client.query(sql, &[&lease.task_id, &lease.token, &lease.attempt_id]).await.attempt(WHAT)?;
    Ok(())
}

/// What became of a task that met an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// It will be free again after the back-off.
    WillRetry,
    /// It has been failing for longer than errors are retried.
    GiveUp,
    /// The lease is gone.
    LeaseLost,
}

/// Puts a task back for a later attempt, unless its errors have lasted too long.
pub async fn retry_task(
    db: &Database,
    lease: Lease,
    failure: &Failure,
    backoff_seconds: f64,
    retry_seconds: u32,
) -> Result<RetryOutcome, DbError> {
    let client = db.client().await?;
    let sql = "-- retry_task
        WITH failing AS (
            UPDATE tasks SET failing_since = coalesce(failing_since, clock_timestamp()),
                lease_expires_at = CASE WHEN coalesce(failing_since, clock_timestamp())
                    + make_interval(secs => $5) > clock_timestamp() THEN NULL
                    ELSE lease_expires_at END,
                available_at = clock_timestamp() + make_interval(secs => $4)
            WHERE id = $1 AND token = $2 AND attempt_id = $3 AND ended_at IS NULL
            RETURNING snapshot_id, lease_expires_at IS NULL AS will_retry),
        told AS (UPDATE snapshots SET last_error = $6, updated_at = clock_timestamp()
            WHERE id IN (SELECT snapshot_id FROM failing))
        SELECT will_retry FROM failing";
    let row = client
        .query_opt(
            sql,
            &[
                &lease.task_id,
                &lease.token,
                &lease.attempt_id,
                &backoff_seconds,
                &f64::from(retry_seconds),
                &failure_to_json(failure),
            ],
        )
        .await
        .attempt("put a task back")?;
    Ok(match row.map(|row| row.get::<_, bool>("will_retry")) {
        None => RetryOutcome::LeaseLost,
        Some(true) => RetryOutcome::WillRetry,
        Some(false) => RetryOutcome::GiveUp,
    })
}

/// Locks the task's row and tells whether the lease still holds; to be called first in every
/// transaction in which a worker writes.
pub(super) async fn lock_lease(
    tx: &deadpool_postgres::Transaction<'_>,
    lease: Lease,
) -> Result<bool, DbError> {
    let sql = "-- lock_lease
        SELECT FROM tasks WHERE id = $1 AND token = $2 AND attempt_id = $3 AND ended_at IS NULL
            AND lease_expires_at > clock_timestamp() FOR UPDATE";
    let row = tx
        .query_opt(sql, &[&lease.task_id, &lease.token, &lease.attempt_id])
        .await
        .attempt("check a lease")?;
    Ok(row.is_some())
}

/// Locks the snapshot's row. Rows are locked in the order task, snapshot, run by everyone, so
/// that nobody waits for each other.
pub(super) async fn lock_snapshot(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
) -> Result<(), DbError> {
    let sql = "-- lock_snapshot_row
        SELECT FROM snapshots WHERE id = $1 FOR NO KEY UPDATE";
    tx.query_one(sql, &[&snapshot_id]).await.attempt("lock a snapshot")?;
    Ok(())
}

/// How many of a run's tasks are due when the run is asked for.
const DUE_AT_ONCE: i32 = 4;

/// How much later each of the others is due than the one before: longer than a task takes one
/// worker, so that a newcomer finds room soon.
const DUE_EVERY_SECONDS: f64 = 60.0;

/// Makes tasks of a run.
pub(super) async fn add_read_tasks(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
    run: i32,
    tasks: &[Vec<PartitionRange>],
) -> Result<(), DbError> {
    const WHAT: &str = "record the tasks";
    let rows = tx
        .query(
            "-- add_read_tasks
             INSERT INTO tasks (snapshot_id, run, kind, due_at)
             SELECT $1, $2, 'read',
                 r.requested_at + make_interval(secs => $5::float8 * greatest(0, number - $4))
             FROM runs r, generate_series(1, $3) AS number
             WHERE r.snapshot_id = $1 AND r.run = $2 ORDER BY number RETURNING id",
            &[&snapshot_id, &run, &(tasks.len() as i32), &DUE_AT_ONCE, &DUE_EVERY_SECONDS],
        )
        .await
        .attempt(WHAT)?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let (mut task_ids, mut partitions, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
    for (&id, ranges) in ids.iter().zip(tasks) {
        for part in ranges {
            task_ids.push(id);
            partitions.push(part.partition);
            starts.push(part.range.start());
            ends.push(part.range.end());
        }
    }
    tx.execute(
        "-- add_task_ranges
         INSERT INTO task_ranges (task_id, partition, offsets)
         SELECT t, p, int8range(s, e)
         FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[]) AS r(t, p, s, e)",
        &[&task_ids, &partitions, &starts, &ends],
    )
    .await
    .attempt(WHAT)?;
    Ok(())
}

/// Ends a task; with the last of a run's plan and read tasks, the finish task is made.
pub(super) async fn end_task(
    tx: &deadpool_postgres::Transaction<'_>,
    lease: Lease,
    progress: Option<Progress>,
) -> Result<(), DbError> {
    const WHAT: &str = "end a task";
    let task = tx
        .query_one(
            "-- end_task
             UPDATE tasks SET ended_at = clock_timestamp(), failing_since = NULL,
                 offsets_done = coalesce($2, offsets_done), records = coalesce($3, records),
                 bytes = coalesce($4, bytes)
             WHERE id = $1 RETURNING snapshot_id, run",
            &[
                &lease.task_id,
                &progress.map(|p| p.offsets_done),
                &progress.map(|p| p.records),
                &progress.map(|p| p.bytes),
            ],
        )
        .await
        .attempt(WHAT)?;
    let (snapshot_id, run): (Uuid, i32) = (task.get("snapshot_id"), task.get("run"));
    // Two workers that end the last two tasks at once must not both find the other's open:
    // the run's row is the lock between them.
    tx.query_one(
        "-- lock_run
         SELECT FROM runs WHERE snapshot_id = $1 AND run = $2 FOR UPDATE",
        &[&snapshot_id, &run],
    )
    .await
    .attempt(WHAT)?;
    tx.execute(
        "-- add_finish_task
         INSERT INTO tasks (snapshot_id, run, kind, due_at)
         SELECT $1, $2, 'finish', requested_at FROM runs
         WHERE snapshot_id = $1 AND run = $2 AND NOT EXISTS (
             SELECT FROM tasks WHERE snapshot_id = $1 AND run = $2 AND ended_at IS NULL)",
        &[&snapshot_id, &run],
    )
    .await
    .attempt(WHAT)?;
    Ok(())
}
