//! Requests for snapshots: what exists is found, what does not is made, in as few round trips
//! as can be.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::snapshots::{COLUMNS, SnapshotRequest, SnapshotRow, TABLES, read_row, state_of};
use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{Completeness, RequestAction, action_on_request};

/// How long a count of the queue is good for.
const COUNT_IS_GOOD_FOR: Duration = Duration::from_secs(1);

/// Which part of the room in the queue one replica may fill without counting again: so many
/// replicas can't overfill it together.
const SHARES: i64 = 16;

/// How many runs may wait for a worker. Counting the queue takes the longer the longer it is,
/// so it is not counted for every request: only once a second, and whenever it is nearly full.
#[derive(Debug)]
pub struct QueueLimit {
    limit: u32,
    known: Mutex<Option<KnownRoom>>,
}

#[derive(Clone, Copy, Debug)]
struct KnownRoom {
    counted_at: Instant,
    /// Runs that may be added without counting.
    left: i64,
}

impl QueueLimit {
    /// At most so many.
    pub fn new(limit: u32) -> Self {
        QueueLimit { limit, known: Mutex::new(None) }
    }

    /// Uses up one of the places that are known to be free, if there are any.
    fn take_known(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_mut() {
            Some(room) if room.left > 0 && room.counted_at.elapsed() < COUNT_IS_GOOD_FOR => {
                room.left -= 1;
                true
            }
            _ => false,
        }
    }

    fn counted(&self, queued: i64) -> Result<(), DbError> {
        let free = i64::from(self.limit) - queued;
        let room = KnownRoom { counted_at: Instant::now(), left: free / SHARES };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
        if free > 0 { Ok(()) } else { Err(DbError::QueueFull { limit: self.limit }) }
    }

    /// Counts the queue, if what is known does not do.
    async fn check(&self, tx: &Transaction<'_>) -> Result<(), DbError> {
        if self.take_known() {
            return Ok(());
        }
        let sql = "-- queue_has_room
            SELECT count(*) FROM (SELECT FROM runs
                WHERE started_at IS NULL AND outcome IS NULL LIMIT $1) queued";
        let row = tx.query_one(sql, &[&i64::from(self.limit)]).await.attempt("queue a run")?;
        self.counted(row.get(0))
    }
}

/// Asks for a snapshot: makes it, joins its run, adds a run, or finds that there is nothing
/// left to do. `new_id` is used if it does not exist yet. `trace_parent` is what a new run
/// belongs to.
///
/// # Errors
/// [`DbError::QueueFull`] if a new run were one more than may wait.
pub async fn request_snapshot(
    db: &Database,
    request: &SnapshotRequest,
    new_id: Uuid,
    trace_parent: Option<&str>,
    queue: &QueueLimit,
) -> Result<(SnapshotRow, RequestAction), DbError> {
    const WHAT: &str = "take a request";
    if let Some(found) = find_request(db, request).await? {
        return Ok(found);
    }
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    let (id, inserted) = upsert_snapshot(&tx, request, new_id).await?;
    let (action, run) =
        if inserted { (RequestAction::NewRun, 1) } else { next_run(&tx, id).await? };
    match action {
        RequestAction::NewRun => add_run(&tx, (id, run), trace_parent, queue).await?,
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
    trace_parent: Option<&str>,
    queue: &QueueLimit,
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
        None => {
            let run = (id, row.get::<_, i32>("newest") + 1);
            add_run(&tx, run, trace_parent, queue).await?;
        }
    }
    let row = read_one(&tx, id).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok(Some(row))
}

/// The snapshot, where the request changes nothing: one statement, no lock and no write. The
/// run that is shown has to be the newest, or a run of the sealer's would have to be joined.
async fn find_request(
    db: &Database,
    request: &SnapshotRequest,
) -> Result<Option<(SnapshotRow, RequestAction)>, DbError> {
    const WHAT: &str = "look for what is asked for";
    let client = db.client().await?;
    let sql = format!(
        "-- find_request
         SELECT {COLUMNS} {TABLES}
         WHERE s.cluster = $1 AND s.topic_name = $2 AND s.window_start = $3 AND s.window_end = $4
           AND s.capture = $5 AND s.superseded_at IS NULL AND s.on_loss = $6
           AND NOT EXISTS (SELECT FROM runs WHERE snapshot_id = s.id AND run > s.run)"
    );
    let statement = client.prepare_cached(&sql).await.attempt(WHAT)?;
    let row = client
        .query_opt(
            &statement,
            &[
                &request.cluster,
                &request.topic.as_str(),
                &DbTime(request.window.start()),
                &DbTime(request.window.end()),
                &request.capture.as_str(),
                &request.on_loss.as_str(),
            ],
        )
        .await
        .attempt(WHAT)?;
    let Some(row) = row.as_ref().map(read_row).transpose()? else { return Ok(None) };
    let same_labels = request.labels.as_ref().is_none_or(|labels| *labels == row.labels);
    Ok(match action_on_request(row.state, row.completeness) {
        RequestAction::NewRun => None,
        action => same_labels.then_some((row, action)),
    })
}

async fn read_one(tx: &Transaction<'_>, id: Uuid) -> Result<SnapshotRow, DbError> {
    const WHAT: &str = "look up the snapshot asked for";
    let sql = format!("-- asked_snapshot\nSELECT {COLUMNS} {TABLES} WHERE s.id = $1");
    let statement = tx.prepare_cached(&sql).await.attempt(WHAT)?;
    read_row(&tx.query_one(&statement, &[&id]).await.attempt(WHAT)?)
}

/// The snapshot's id, and whether it is new. Its row is locked from here on.
async fn upsert_snapshot(
    tx: &Transaction<'_>,
    request: &SnapshotRequest,
    new_id: Uuid,
) -> Result<(Uuid, bool), DbError> {
    const WHAT: &str = "record a request";
    let labels = request.labels.as_ref().map(|labels| serde_json::json!(labels));
    let sql = "-- upsert_snapshot
        INSERT INTO snapshots AS s
            (id, cluster, topic_name, window_start, window_end, capture, on_loss, labels)
        VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8::jsonb, '{}'))
        ON CONFLICT (cluster, topic_name, window_start, window_end, capture)
            WHERE superseded_at IS NULL
        DO UPDATE SET on_loss = excluded.on_loss, labels = coalesce($8::jsonb, s.labels),
            updated_at = CASE WHEN s.on_loss = excluded.on_loss
                AND s.labels = coalesce($8::jsonb, s.labels)
                THEN s.updated_at ELSE clock_timestamp() END
        RETURNING id";
    let statement = tx.prepare_cached(sql).await.attempt(WHAT)?;
    let row = tx
        .query_one(
            &statement,
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
        .attempt(WHAT)?;
    let id = row.get("id");
    Ok((id, id == new_id))
}

/// What the request leads to, and the number of the run. A statement of its own: it has to see
/// what happened before the snapshot's row was locked.
async fn next_run(tx: &Transaction<'_>, id: Uuid) -> Result<(RequestAction, i32), DbError> {
    const WHAT: &str = "look up the newest run";
    let sql = "-- newest_run
        SELECT r.run, r.outcome, r.started_at IS NOT NULL AS started, s.completeness
        FROM runs r JOIN snapshots s ON s.id = r.snapshot_id
        WHERE r.snapshot_id = $1 ORDER BY r.run DESC LIMIT 1";
    let statement = tx.prepare_cached(sql).await.attempt(WHAT)?;
    let Some(row) = tx.query_opt(&statement, &[&id]).await.attempt(WHAT)? else {
        return Ok((RequestAction::NewRun, 1));
    };
    let state = state_of(row.get("outcome"), row.get("started"));
    let completeness = row.get::<_, Option<&str>>("completeness").and_then(Completeness::from_name);
    let run: i32 = row.get("run");
    Ok(match action_on_request(state, completeness) {
        RequestAction::NewRun => (RequestAction::NewRun, run + 1),
        same => (same, run),
    })
}

/// A run of the sealer's becomes an asked one. (Workers lock a task before its snapshot, which
/// is locked here already; what they hold needs no hurry.)
async fn join_run(tx: &Transaction<'_>, id: Uuid, run: i32) -> Result<(), DbError> {
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

/// The run and the task that plans it.
async fn add_run(
    tx: &Transaction<'_>,
    (id, run): (Uuid, i32),
    trace_parent: Option<&str>,
    queue: &QueueLimit,
) -> Result<(), DbError> {
    const WHAT: &str = "queue a run";
    queue.check(tx).await?;
    let sql = "-- add_run
        WITH run AS (INSERT INTO runs (snapshot_id, run, origin, trace_parent)
            VALUES ($1, $2, 'request', $3)),
        task AS (INSERT INTO tasks (snapshot_id, run, kind) VALUES ($1, $2, 'plan'))
        UPDATE snapshots SET run = $2, last_error = NULL, updated_at = clock_timestamp() WHERE id = $1";
    let statement = tx.prepare_cached(sql).await.attempt(WHAT)?;
    tx.execute(&statement, &[&id, &run, &trace_parent]).await.attempt(WHAT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_room_is_filled_without_counting() {
        let queue = QueueLimit::new(100);
        assert!(!queue.take_known());
        queue.counted(60).expect("room");
        let taken = (0..100).filter(|_| queue.take_known()).count();
        assert_eq!(taken, 2, "a sixteenth of 40");
    }

    #[test]
    fn near_the_limit_every_request_is_counted() {
        let queue = QueueLimit::new(100);
        queue.counted(85).expect("room");
        assert!(!queue.take_known());
        assert!(matches!(queue.counted(100), Err(DbError::QueueFull { limit: 100 })));
        assert!(!queue.take_known());
    }
}
