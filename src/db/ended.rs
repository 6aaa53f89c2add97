//! A run that has just ended: its whole story, for the log and its trace.

use uuid::Uuid;

use super::{Attempt, DbError, DbTime};
use crate::snapshot::{Completeness, Failure, State, Timestamp, Totals};

/// Of how many partitions the story has the offsets.
const PARTITIONS_TOLD: i64 = 32;

/// A run's whole story.
#[derive(Clone, Debug)]
pub struct EndedRun {
    /// The snapshot.
    pub snapshot_id: Uuid,
    /// The run.
    pub run: i32,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the topic.
    pub topic: String,
    /// Who asked for it: `request` or `sealer`.
    pub origin: String,
    /// First moment of the window.
    pub window_start: Timestamp,
    /// First moment after the window.
    pub window_end: Timestamp,
    /// How it ended.
    pub outcome: State,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// How complete the snapshot is, if the run succeeded.
    pub completeness: Option<Completeness>,
    /// What the snapshot holds and lacks, if the run has come to count that.
    pub totals: Option<Totals>,
    /// Offsets among the lost ones of which the snapshot did not tell before. 0 if the run failed.
    pub newly_lost_offsets: i64,
    /// What became of its work.
    pub work: EndedWork,
    /// What the plan resolved the window to; `None` if it has come to no plan.
    pub resolved: Option<Resolved>,
    /// What it spent its time on.
    pub phases: Phases,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What it belongs to, as the header `traceparent` has it.
    pub trace_parent: Option<String>,
}

/// What became of a run's tasks.
#[derive(Clone, Copy, Debug)]
pub struct EndedWork {
    /// How many there were.
    pub tasks: i64,
    /// How often one was claimed.
    pub attempts: i64,
    /// How often a worker died over one.
    pub deaths: i64,
    /// Events read.
    pub records_read: i64,
    /// Bytes written.
    pub bytes_written: i64,
}

/// The offsets that a window was resolved to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Partitions of the topic.
    pub partitions: i64,
    /// Offsets that had to be read; the others were stored already, or lost.
    pub offsets: i64,
    /// `partition=start..end`, of the first few partitions.
    pub ranges: String,
}

/// What a run spent its time on, by the database's clock; `None` where it has not come to it.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// From the request until a worker took it up, in seconds.
    pub queued_seconds: Option<f64>,
    /// Until the plan was recorded.
    pub plan_seconds: Option<f64>,
    /// Until the last file was committed.
    pub read_seconds: Option<f64>,
    /// Until it had ended.
    pub finish_seconds: Option<f64>,
    /// All of it.
    pub duration_seconds: f64,
}

/// What the tasks of a run leave behind when they are removed.
pub(super) struct RemovedTasks {
    pub(super) work: EndedWork,
    pub(super) offsets_done: i64,
    planned_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
}

/// Removes a run's tasks.
pub(super) async fn remove_tasks(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
    run: i32,
) -> Result<RemovedTasks, DbError> {
    let sql = "-- remove_tasks
        WITH removed AS (DELETE FROM tasks WHERE snapshot_id = $1 AND run = $2 RETURNING *)
        SELECT count(*) AS tasks,
            coalesce(sum(attempts), 0)::bigint AS attempts,
            coalesce(sum(deaths), 0)::bigint AS deaths,
            coalesce(sum(offsets_done) FILTER (WHERE kind = 'read'), 0)::bigint AS offsets_done,
            coalesce(sum(records) FILTER (WHERE kind = 'read'), 0)::bigint AS records,
            coalesce(sum(bytes) FILTER (WHERE kind = 'read'), 0)::bigint AS bytes,
            max(ended_at) FILTER (WHERE kind = 'plan') AS planned_at,
            max(ended_at) FILTER (WHERE kind = 'read') AS read_at
        FROM removed";
    let row = tx.query_one(sql, &[&snapshot_id, &run]).await.attempt("close a run")?;
    let time = |column: &str| row.get::<_, Option<DbTime>>(column).map(|time| time.0);
    Ok(RemovedTasks {
        work: EndedWork {
            tasks: row.get("tasks"),
            attempts: row.get("attempts"),
            deaths: row.get("deaths"),
            records_read: row.get("records"),
            bytes_written: row.get("bytes"),
        },
        offsets_done: row.get("offsets_done"),
        planned_at: time("planned_at"),
        read_at: time("read_at"),
    })
}

/// The story of a run that was closed in this transaction.
pub(super) async fn ended_run(
    tx: &deadpool_postgres::Transaction<'_>,
    (snapshot_id, run): (Uuid, i32),
    (outcome, failure): (State, Option<&Failure>),
    tasks: &RemovedTasks,
    totals: Option<Totals>,
) -> Result<EndedRun, DbError> {
    const WHAT: &str = "tell a run's story";
    let sql = "-- ended_run
        SELECT s.cluster, s.topic_name, s.window_start, s.window_end, s.completeness,
            r.origin, r.requested_at, r.started_at, r.finished_at, r.offsets_total, r.trace_parent,
            p.partitions, p.ranges
        FROM snapshots s JOIN runs r ON r.snapshot_id = s.id AND r.run = $2
        CROSS JOIN LATERAL (
            SELECT count(*) AS partitions,
                string_agg(format('%s=%s..%s', partition, start_offset, end_offset), ' '
                    ORDER BY partition) FILTER (WHERE number <= $3) AS ranges
            FROM (SELECT *, row_number() OVER (ORDER BY partition) AS number
                  FROM snapshot_partitions WHERE snapshot_id = s.id) numbered) p
        WHERE s.id = $1";
    let statement = tx.prepare_cached(sql).await.attempt(WHAT)?;
    let row =
        tx.query_one(&statement, &[&snapshot_id, &run, &PARTITIONS_TOLD]).await.attempt(WHAT)?;
    let completeness = row.get::<_, Option<&str>>("completeness").and_then(Completeness::from_name);
    let resolved = row.get::<_, Option<i64>>("offsets_total").map(|offsets| Resolved {
        partitions: row.get("partitions"),
        offsets,
        ranges: row.get::<_, Option<String>>("ranges").unwrap_or_default(),
    });
    Ok(EndedRun {
        snapshot_id,
        run,
        cluster: row.get("cluster"),
        topic: row.get("topic_name"),
        origin: row.get("origin"),
        window_start: row.get::<_, DbTime>("window_start").0,
        window_end: row.get::<_, DbTime>("window_end").0,
        outcome,
        failure: failure.cloned(),
        completeness: completeness.filter(|_| outcome == State::Succeeded),
        totals,
        newly_lost_offsets: 0,
        work: tasks.work,
        resolved,
        phases: phases(&row, tasks),
        requested_at: row.get::<_, DbTime>("requested_at").0,
        finished_at: row.get::<_, DbTime>("finished_at").0,
        trace_parent: row.get("trace_parent"),
    })
}

fn phases(row: &tokio_postgres::Row, tasks: &RemovedTasks) -> Phases {
    let started_at = row.get::<_, Option<DbTime>>("started_at").map(|time| time.0);
    let (requested_at, finished_at) =
        (row.get::<_, DbTime>("requested_at").0, row.get::<_, DbTime>("finished_at").0);
    let seconds = |from: Timestamp, to: Timestamp| (to.millis() - from.millis()) as f64 / 1000.0;
    let between = |from: Option<Timestamp>, to: Option<Timestamp>| Some(seconds(from?, to?));
    let done_at = tasks.read_at.or(tasks.planned_at);
    Phases {
        queued_seconds: between(Some(requested_at), started_at),
        plan_seconds: between(started_at, tasks.planned_at),
        read_seconds: between(tasks.planned_at, tasks.read_at),
        finish_seconds: between(done_at, Some(finished_at)),
        duration_seconds: seconds(requested_at, finished_at),
    }
}
