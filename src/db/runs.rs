//! Runs: what became of them, and how they end.

use uuid::Uuid;

use super::ended::{EndedRun, ended_run, remove_tasks};
use super::segments::record_cuts;
use super::snapshots::{failure_from_json, failure_to_json, state_of};
use super::tasks::{add_read_tasks, end_task, lock_lease, lock_snapshot};
use super::{Attempt, ClaimedTask, Cut, Database, DbError, DbTime, Lease, Page};
use crate::fault::{self, Fault};
use crate::snapshot::{
    Completeness, Failure, OffsetRange, PartitionEnd, PartitionRange, State, Timestamp, Totals,
};

/// One run of a snapshot.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Number of the run, from 1.
    pub run: i32,
    /// Who asked for it: `request` or `sealer`.
    pub origin: String,
    /// Where it stands.
    pub state: State,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When a worker first took it up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Events that it has stored.
    pub records_added: i64,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// The runs of a snapshot, newest first, from before the run `page.after` on.
pub async fn list_runs(
    db: &Database,
    snapshot_id: Uuid,
    page: Page<i32>,
) -> Result<Vec<RunRow>, DbError> {
    let client = db.client().await?;
    let sql = "-- list_runs
        SELECT run, origin, outcome, requested_at, started_at, finished_at, records_added, error
        FROM runs WHERE snapshot_id = $1 AND ($2::integer IS NULL OR run < $2)
        ORDER BY run DESC LIMIT $3";
    let rows = client.query(sql, &[&snapshot_id, &page.after, &page.limit]).await;
    let rows = rows.attempt("list the runs of a snapshot")?;
    Ok(rows.iter().map(run_row).collect())
}

fn run_row(row: &tokio_postgres::Row) -> RunRow {
    let time = |column: &str| row.get::<_, Option<DbTime>>(column).map(|time| time.0);
    let started_at = time("started_at");
    RunRow {
        run: row.get("run"),
        origin: row.get("origin"),
        state: state_of(row.get("outcome"), started_at.is_some()),
        requested_at: row.get::<_, DbTime>("requested_at").0,
        started_at,
        finished_at: time("finished_at"),
        records_added: row.get("records_added"),
        error: row.get::<_, Option<serde_json::Value>>("error").as_ref().map(failure_from_json),
    }
}

/// A partition of a snapshot as its newest plan recorded it.
#[derive(Clone, Copy, Debug)]
pub struct PlannedPartition {
    /// The range.
    pub part: PartitionRange,
    /// How its end stands.
    pub end: PartitionEnd,
}

/// The partitions of a snapshot, by number.
pub async fn planned_partitions(
    db: &Database,
    snapshot_id: Uuid,
) -> Result<Vec<PlannedPartition>, DbError> {
    let client = db.client().await?;
    let sql = "-- planned_partitions
        SELECT partition, start_offset, end_offset, sealed,
            last_stable_offset < high_watermark AS transaction_open
        FROM snapshot_partitions WHERE snapshot_id = $1 ORDER BY partition";
    let rows = client.query(sql, &[&snapshot_id]).await.attempt("look up a plan")?;
    Ok(rows
        .iter()
        .map(|row| PlannedPartition {
            part: PartitionRange {
                partition: row.get("partition"),
                range: OffsetRange::new(row.get("start_offset"), row.get("end_offset")),
            },
            end: PartitionEnd {
                sealed: row.get("sealed"),
                transaction_open: row.get("transaction_open"),
            },
        })
        .collect())
}

/// What the last look of a run showed about one partition.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The partition's number.
    pub partition: i32,
    /// The first offset that the broker still has.
    pub low_watermark: i64,
    /// Offsets of the range that are gone and not stored.
    pub lost_offsets: i64,
}

/// What a run found out at its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// All segments that the snapshot holds something of.
    pub segments: Vec<i64>,
    /// Those that were counted for it just now.
    pub counted_now: Vec<Cut>,
    /// What is gone, per partition.
    pub losses: Vec<Loss>,
}

/// Ends a run: records what the snapshot holds and lacks, and either that it succeeded or
/// why it failed all the same. `completeness` is told the database's time; `verdict` sees
/// the totals. `None` if the lease is gone.
pub async fn finish_run(
    db: &Database,
    task: &ClaimedTask,
    finished: &Finished,
    completeness: impl FnOnce(Timestamp) -> Completeness,
    verdict: impl FnOnce(&Totals) -> Option<Failure>,
) -> Result<Option<EndedRun>, DbError> {
    const WHAT: &str = "finish a run";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    if !lock_lease(&tx, task.lease).await? {
        return Ok(None);
    }
    record_cuts(&tx, task.snapshot_id, &finished.segments, &finished.counted_now).await?;
    record_losses(&tx, task.snapshot_id, &finished.losses).await?;
    let (totals, now) = count_totals(&tx, task).await?;
    let failure = verdict(&totals);
    let mut newly_lost_offsets = 0;
    if failure.is_none() {
        let told = record_result(&tx, task, &totals, completeness(now)).await?;
        newly_lost_offsets = (totals.lost_offsets - told).max(0);
    }
    fault::hit(Fault::InFinish);
    let outcome = if failure.is_some() { State::Failed } else { State::Succeeded };
    let run = (task.snapshot_id, task.run);
    let ended = close_run(&tx, run, (outcome, failure.as_ref()), Some(totals)).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok(ended.map(|ended| EndedRun { newly_lost_offsets, ..ended }))
}

/// Gives how many lost offsets the snapshot told of before.
async fn record_result(
    tx: &deadpool_postgres::Transaction<'_>,
    task: &ClaimedTask,
    totals: &Totals,
    completeness: Completeness,
) -> Result<i64, DbError> {
    let row = tx
        .query_one(
            "-- record_result
             WITH told AS (
                 SELECT coalesce((result->>'lost_offsets')::bigint, 0) AS lost_offsets
                 FROM snapshots WHERE id = $1)
             UPDATE snapshots SET completeness = $2, result = $3, run = $4, last_error = NULL,
                 updated_at = clock_timestamp()
             FROM told WHERE id = $1 RETURNING told.lost_offsets",
            &[&task.snapshot_id, &completeness.as_str(), &serde_json::json!(totals), &task.run],
        )
        .await
        .attempt("finish a run")?;
    Ok(row.get(0))
}

async fn record_losses(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
    losses: &[Loss],
) -> Result<(), DbError> {
    tx.execute(
        "-- record_losses
         UPDATE snapshot_partitions p SET lost_offsets = l.lost, low_watermark = l.low
         FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS l(partition, low, lost)
         WHERE p.snapshot_id = $1 AND p.partition = l.partition",
        &[
            &snapshot_id,
            &losses.iter().map(|loss| loss.partition).collect::<Vec<_>>(),
            &losses.iter().map(|loss| loss.low_watermark).collect::<Vec<_>>(),
            &losses.iter().map(|loss| loss.lost_offsets).collect::<Vec<_>>(),
        ],
    )
    .await
    .attempt("record what is lost")?;
    Ok(())
}

async fn count_totals(
    tx: &deadpool_postgres::Transaction<'_>,
    task: &ClaimedTask,
) -> Result<(Totals, Timestamp), DbError> {
    let row = tx
        .query_one(
            "-- count_totals
             SELECT clock_timestamp() AS now,
                 (SELECT count(*) FROM snapshots s
                  JOIN poison_records p ON p.topic = s.topic
                  JOIN snapshot_segments m ON m.snapshot_id = s.id AND m.partition = p.partition
                      AND m.records > 0 AND p.record_offset >= m.start_offset
                      AND p.record_offset < m.end_offset
                  WHERE s.id = $1) AS poison_records,
                 held.*, missing.*, stored.*, r.records_added
             FROM runs r,
                 (SELECT coalesce(sum(records), 0)::bigint AS records,
                      coalesce(sum(out_of_window_records), 0)::bigint AS out_of_window_records
                  FROM snapshot_segments WHERE snapshot_id = $1) held,
                 (SELECT coalesce(sum(lost_offsets), 0)::bigint AS lost_offsets,
                      count(*) FILTER (WHERE start_uncertain) AS uncertain_partitions
                  FROM snapshot_partitions WHERE snapshot_id = $1) missing,
                 (SELECT count(*) AS files, coalesce(sum(bytes), 0)::bigint AS bytes
                  FROM files WHERE id IN (
                      SELECT g.file_id FROM snapshot_segments m
                      JOIN segments g ON g.id = m.segment_id
                      WHERE m.snapshot_id = $1 AND m.records > 0)) stored
             WHERE r.snapshot_id = $1 AND r.run = $2",
            &[&task.snapshot_id, &task.run],
        )
        .await
        .attempt("count what a snapshot holds")?;
    let totals = Totals {
        records: row.get("records"),
        records_added: row.get("records_added"),
        files: row.get("files"),
        bytes: row.get("bytes"),
        lost_offsets: row.get("lost_offsets"),
        uncertain_partitions: row.get("uncertain_partitions"),
        out_of_window_records: row.get("out_of_window_records"),
        poison_records: row.get("poison_records"),
    };
    Ok((totals, row.get::<_, DbTime>("now").0))
}

/// Adds tasks to a run that was about to finish, for what turned out to be left.
pub async fn extend_run(
    db: &Database,
    task: &ClaimedTask,
    tasks: &[Vec<PartitionRange>],
) -> Result<(), DbError> {
    const WHAT: &str = "extend a run";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    if lock_lease(&tx, task.lease).await? {
        add_read_tasks(&tx, task.snapshot_id, task.run, tasks).await?;
        let more: i64 = tasks.iter().flatten().map(|part| part.range.len()).sum();
        let sql = "-- raise_total
            UPDATE runs SET offsets_total = offsets_total + $3 WHERE snapshot_id = $1 AND run = $2";
        tx.execute(sql, &[&task.snapshot_id, &task.run, &more]).await.attempt(WHAT)?;
        end_task(&tx, task.lease, None).await?;
        tx.commit().await.attempt(WHAT)?;
    }
    Ok(())
}

/// Ends a run that failed; what it stored stays. Nothing happens if another worker has the
/// task: an expired lease that nobody has taken over will do to give up. `None` if the run has
/// not ended with this.
pub async fn fail_run(
    db: &Database,
    task: &ClaimedTask,
    failure: &Failure,
) -> Result<Option<EndedRun>, DbError> {
    const WHAT: &str = "fail a run";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    lock_tasks(&tx, task.snapshot_id, task.run).await?;
    let sql = "-- holds_task
        SELECT FROM tasks WHERE id = $1 AND token = $2 AND attempt_id = $3 AND ended_at IS NULL";
    let Lease { task_id, token, attempt_id } = task.lease;
    let held = tx.query_opt(sql, &[&task_id, &token, &attempt_id]).await.attempt(WHAT)?;
    if held.is_none() {
        return Ok(None);
    }
    let run = (task.snapshot_id, task.run);
    let ended = close_run(&tx, run, (State::Failed, Some(failure)), None).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok(ended)
}

/// What became of a request to cancel.
#[derive(Clone, Debug)]
pub enum Cancelled {
    /// There is no such snapshot.
    NoSnapshot,
    /// It had no open run that was asked for.
    EndedBefore,
    /// Its run was ended.
    Now(Box<EndedRun>),
}

/// Ends the run that is open and was asked for, whatever its workers do: their leases are gone
/// with this, and what they have stored stays.
pub async fn cancel_run(db: &Database, snapshot_id: Uuid) -> Result<Cancelled, DbError> {
    const WHAT: &str = "cancel a run";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    let sql = "-- open_run
        SELECT r.run FROM snapshots s LEFT JOIN runs r ON r.snapshot_id = s.id
            AND r.run = s.run AND r.outcome IS NULL
        WHERE s.id = $1";
    let Some(row) = tx.query_opt(sql, &[&snapshot_id]).await.attempt(WHAT)? else {
        return Ok(Cancelled::NoSnapshot);
    };
    let Some(run) = row.get::<_, Option<i32>>("run") else { return Ok(Cancelled::EndedBefore) };
    lock_tasks(&tx, snapshot_id, run).await?;
    fault::hit(Fault::InCancel);
    let cancelled = close_run(&tx, (snapshot_id, run), (State::Cancelled, None), None).await?;
    tx.commit().await.attempt(WHAT)?;
    Ok(cancelled.map_or(Cancelled::EndedBefore, |run| Cancelled::Now(Box::new(run))))
}

/// Locks all open tasks of a run, in one order for all who do. Who holds one of them may make
/// others, so this looks again until it finds no more: then nobody can.
async fn lock_tasks(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
    run: i32,
) -> Result<(), DbError> {
    let sql = "-- lock_tasks
        SELECT id FROM tasks WHERE snapshot_id = $1 AND run = $2 AND ended_at IS NULL
        ORDER BY id FOR UPDATE";
    let mut locked = 0;
    loop {
        let rows = tx.query(sql, &[&snapshot_id, &run]).await.attempt("lock a run's tasks")?;
        if rows.len() <= locked {
            return Ok(());
        }
        locked = rows.len();
    }
}

/// Closes the run, if it is open. Its tasks go with it; what they came to stays with the run.
async fn close_run(
    tx: &deadpool_postgres::Transaction<'_>,
    (snapshot_id, run): (Uuid, i32),
    (outcome, failure): (State, Option<&Failure>),
    totals: Option<Totals>,
) -> Result<Option<EndedRun>, DbError> {
    let tasks = remove_tasks(tx, snapshot_id, run).await?;
    lock_snapshot(tx, snapshot_id).await?;
    let closed = tx
        .execute(
            "-- close_run
             WITH closed AS (
                 UPDATE runs SET outcome = $3, error = $4, finished_at = clock_timestamp(),
                     cancel_requested_at = CASE WHEN $3 = 'cancelled' THEN clock_timestamp() END,
                     offsets_done = $5, records = $6, bytes = $7
                 WHERE snapshot_id = $1 AND run = $2 AND outcome IS NULL RETURNING origin)
             UPDATE snapshots SET updated_at = clock_timestamp(),
                 last_error = CASE
                     WHEN $4::jsonb IS NOT NULL AND (SELECT origin FROM closed) = 'sealer'
                     THEN $4 ELSE NULL END
             WHERE id = $1 AND EXISTS (SELECT FROM closed)",
            &[
                &snapshot_id,
                &run,
                &outcome.as_str(),
                &failure.map(failure_to_json),
                &tasks.offsets_done,
                &tasks.work.records_read,
                &tasks.work.bytes_written,
            ],
        )
        .await
        .attempt("close a run")?;
    if closed == 0 {
        return Ok(None);
    }
    ended_run(tx, (snapshot_id, run), (outcome, failure), &tasks, totals).await.map(Some)
}
