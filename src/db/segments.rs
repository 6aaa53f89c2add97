//! Segments: the offset ranges that are stored, the files that hold them, and what of them
//! belongs to a snapshot.

use uuid::Uuid;

use super::plans::stored_ranges;
use super::tasks::{end_task, lock_lease, lock_snapshot};
use super::{Attempt, ClaimedTask, Database, DbError, Lease, Progress, task_ranges};
use crate::fault::{self, Fault};
use crate::snapshot::{Capture, OffsetRange, PartitionRange, RangeTally, Timestamp};

/// A file that is about to become visible.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Random id, part of the object's name.
    pub id: Uuid,
    /// Name of the object below the storage URL.
    pub object_name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Checksum.
    pub sha256: [u8; 32],
}

/// An offset range that was read past.
#[derive(Clone, Copy, Debug)]
pub struct NewSegment {
    /// Where.
    pub part: PartitionRange,
    /// What was in it.
    pub tally: RangeTally,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is visible.
    Committed,
    /// The lease is gone: nothing changed.
    LeaseLost,
    /// Another run has stored some of these offsets meanwhile: nothing changed.
    Conflict,
}

impl CommitOutcome {
    /// One word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            CommitOutcome::Committed => "committed",
            CommitOutcome::LeaseLost => "lease_lost",
            CommitOutcome::Conflict => "conflict",
        }
    }
}

/// What is left to read of a task: planned − stored.
pub async fn unread_ranges(
    db: &Database,
    task: &ClaimedTask,
    topic: i64,
) -> Result<Vec<PartitionRange>, DbError> {
    let ranges = task_ranges(db, task.lease.task_id).await?;
    let client = db.client().await?;
    let mut stored = stored_ranges(&client, topic, task.capture, &ranges).await?;
    let unread = |part: &PartitionRange| {
        let left = stored.entry(part.partition).or_default().gaps(part.range);
        let partition = part.partition;
        left.iter().map(|range| PartitionRange { partition, range }).collect::<Vec<_>>()
    };
    Ok(ranges.iter().flat_map(unread).collect())
}

/// Makes a file and its segments visible, in one transaction, if the lease still holds.
/// With `last`, the task is done.
pub async fn commit_file(
    db: &Database,
    task: &ClaimedTask,
    topic: i64,
    file: Option<&NewFile>,
    segments: &[NewSegment],
    progress: Progress,
    last: LastOfTask,
) -> Result<CommitOutcome, DbError> {
    const WHAT: &str = "commit a file";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    if !lock_lease(&tx, task.lease).await? {
        return Ok(CommitOutcome::LeaseLost);
    }
    if let Some(file) = file {
        insert_file(&tx, task, topic, file, segments).await?;
    }
    fault::hit(Fault::InCommit);
    match insert_segments(&tx, task, topic, file.map(|f| f.id), segments).await {
        Err(error) if error.is_conflict() => return Ok(CommitOutcome::Conflict),
        other => other?,
    }
    let records: i64 = segments.iter().map(|segment| segment.tally.records).sum();
    lock_snapshot(&tx, task.snapshot_id).await?;
    let sql = "-- forget_last_error
        UPDATE snapshots SET last_error = NULL, updated_at = clock_timestamp() WHERE id = $1";
    tx.execute(sql, &[&task.snapshot_id]).await.attempt(WHAT)?;
    let sql = "-- count_commit
        UPDATE runs SET records_added = records_added + $3 WHERE snapshot_id = $1 AND run = $2";
    tx.execute(sql, &[&task.snapshot_id, &task.run, &records]).await.attempt(WHAT)?;
    match last {
        LastOfTask::Yes => end_task(&tx, task.lease, Some(progress)).await?,
        LastOfTask::No => show_progress(&tx, task.lease, progress).await?,
    }
    fault::hit(Fault::BeforeCommit);
    tx.commit().await.attempt(WHAT)?;
    Ok(CommitOutcome::Committed)
}

/// What became of a commit whose answer was lost: whether the file is visible. Waits for a
/// transaction of the task that is still under way, so that "no" means "never".
pub async fn file_is_visible(db: &Database, lease: Lease, file_id: Uuid) -> Result<bool, DbError> {
    const WHAT: &str = "find out what became of a commit";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    let sql = "-- wait_for_commit
        SELECT FROM tasks WHERE id = $1 FOR UPDATE";
    tx.query_opt(sql, &[&lease.task_id]).await.attempt(WHAT)?;
    let sql = "-- file_is_visible
        SELECT EXISTS (SELECT FROM files WHERE id = $1)";
    Ok(tx.query_one(sql, &[&file_id]).await.attempt(WHAT)?.get(0))
}

/// Whether a commit is the last of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastOfTask {
    /// The task is done.
    Yes,
    /// There is more to read.
    No,
}

async fn show_progress(
    tx: &deadpool_postgres::Transaction<'_>,
    lease: Lease,
    progress: Progress,
) -> Result<(), DbError> {
    tx.execute(
        "-- show_progress
         UPDATE tasks SET offsets_done = $2, records = $3, bytes = $4, failing_since = NULL,
             deaths = 0
         WHERE id = $1",
        &[&lease.task_id, &progress.offsets_done, &progress.records, &progress.bytes],
    )
    .await
    .attempt("show progress")?;
    Ok(())
}

async fn insert_file(
    tx: &deadpool_postgres::Transaction<'_>,
    task: &ClaimedTask,
    topic: i64,
    file: &NewFile,
    segments: &[NewSegment],
) -> Result<(), DbError> {
    let records: i64 = segments.iter().map(|segment| segment.tally.records).sum();
    let min = segments.iter().filter_map(|segment| segment.tally.min_timestamp).min();
    let max = segments.iter().filter_map(|segment| segment.tally.max_timestamp).max();
    tx.execute(
        "-- insert_file
         INSERT INTO files (id, topic, object_name, records, bytes, sha256, min_timestamp,
             max_timestamp, snapshot_id, run, task_id, attempt_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &file.id,
            &topic,
            &file.object_name,
            &records,
            &(file.bytes as i64),
            &file.sha256.as_slice(),
            &min.map(Timestamp::millis),
            &max.map(Timestamp::millis),
            &task.snapshot_id,
            &task.run,
            &task.lease.task_id,
            &task.lease.attempt_id,
        ],
    )
    .await
    .attempt("record a file")?;
    Ok(())
}

/// Inserts the segments and says that they belong, whole, to the snapshot. A range without
/// events is in no file.
async fn insert_segments(
    tx: &deadpool_postgres::Transaction<'_>,
    task: &ClaimedTask,
    topic: i64,
    file: Option<Uuid>,
    segments: &[NewSegment],
) -> Result<(), DbError> {
    let column = |of: fn(&NewSegment) -> i64| segments.iter().map(of).collect::<Vec<i64>>();
    let time = |of: fn(&RangeTally) -> Option<Timestamp>| {
        segments.iter().map(|s| of(&s.tally).map(Timestamp::millis)).collect::<Vec<_>>()
    };
    tx.execute(
        "-- insert_segments
         WITH new AS (
             SELECT * FROM unnest($4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                 $9::bigint[], $10::bigint[], $11::bigint[])
                 AS n(partition, s, e, records, untimed, out_of_window, min_ts, max_ts)),
         stored AS (
             INSERT INTO segments (topic, capture, partition, offsets, file_id, records,
                 untimed_records, min_timestamp, max_timestamp)
             SELECT $1, $2, partition, int8range(s, e), CASE WHEN records > 0 THEN $12::uuid END,
                 records, untimed, min_ts, max_ts
             FROM new ORDER BY partition, s
             RETURNING id, partition, lower(offsets) AS s)
         INSERT INTO snapshot_segments (snapshot_id, segment_id, partition, start_offset,
             end_offset, records, out_of_window_records, min_timestamp, max_timestamp)
         SELECT $3, stored.id, partition, s, e, records, out_of_window, min_ts, max_ts
         FROM new JOIN stored USING (partition, s)",
        &[
            &topic,
            &task.capture.as_str(),
            &task.snapshot_id,
            &segments.iter().map(|s| s.part.partition).collect::<Vec<_>>(),
            &column(|s| s.part.range.start()),
            &column(|s| s.part.range.end()),
            &column(|s| s.tally.records),
            &column(|s| s.tally.untimed_records),
            &column(|s| s.tally.out_of_window_records),
            &time(|tally| tally.min_timestamp),
            &time(|tally| tally.max_timestamp),
            &file,
        ],
    )
    .await
    .attempt("record segments")?;
    Ok(())
}

/// What of a stored segment lies in a snapshot's range.
#[derive(Clone, Debug)]
pub struct StoredCut {
    /// The segment.
    pub segment_id: i64,
    /// What of it lies in the range.
    pub part: PartitionRange,
    /// Whether that is all of it.
    pub whole: bool,
    /// What the whole segment holds. `out_of_window_records` means nothing here.
    pub segment_tally: RangeTally,
    /// The file it is in, if it holds events.
    pub object_name: Option<String>,
    /// Whether it was counted for this snapshot before.
    pub counted: bool,
}

/// Everything that is stored in the ranges of a snapshot.
pub async fn stored_cuts(
    db: &Database,
    snapshot_id: Uuid,
    topic: i64,
    capture: Capture,
) -> Result<Vec<StoredCut>, DbError> {
    let client = db.client().await?;
    let sql = "-- stored_cuts
        WITH cuts AS (
            SELECT g.*, p.partition AS p, greatest(lower(g.offsets), p.start_offset) AS s,
                least(upper(g.offsets), p.end_offset) AS e
            FROM snapshot_partitions p JOIN segments g ON g.topic = $2 AND g.capture = $3
                AND g.partition = p.partition
                AND g.offsets && int8range(p.start_offset, p.end_offset)
            WHERE p.snapshot_id = $1)
        SELECT c.id, c.p, c.s, c.e, c.records, c.untimed_records, c.min_timestamp, c.max_timestamp,
            upper(c.offsets) - lower(c.offsets) = c.e - c.s AS whole, f.object_name,
            EXISTS (SELECT FROM snapshot_segments m WHERE m.snapshot_id = $1
                AND m.segment_id = c.id AND m.start_offset = c.s AND m.end_offset = c.e) AS counted
        FROM cuts c LEFT JOIN files f ON f.id = c.file_id ORDER BY c.p, c.s";
    let rows = client
        .query(sql, &[&snapshot_id, &topic, &capture.as_str()])
        .await
        .attempt("look up what a snapshot holds")?;
    let time = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    Ok(rows
        .iter()
        .map(|row| StoredCut {
            segment_id: row.get("id"),
            part: PartitionRange {
                partition: row.get("p"),
                range: OffsetRange::new(row.get("s"), row.get("e")),
            },
            whole: row.get("whole"),
            segment_tally: RangeTally {
                records: row.get("records"),
                out_of_window_records: 0,
                untimed_records: row.get("untimed_records"),
                min_timestamp: time(row.get("min_timestamp")),
                max_timestamp: time(row.get("max_timestamp")),
            },
            object_name: row.get("object_name"),
            counted: row.get("counted"),
        })
        .collect())
}

/// What of a segment belongs to a snapshot, counted from its window.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The segment.
    pub segment_id: i64,
    /// What of it belongs.
    pub part: PartitionRange,
    /// What is in there.
    pub tally: RangeTally,
}

/// Replaces what is recorded of these segments for the snapshot, and forgets all segments
/// that are not in `all`.
pub(super) async fn record_cuts(
    tx: &deadpool_postgres::Transaction<'_>,
    snapshot_id: Uuid,
    all: &[i64],
    counted_now: &[Cut],
) -> Result<(), DbError> {
    const WHAT: &str = "record what a snapshot holds";
    let ids: Vec<i64> = counted_now.iter().map(|cut| cut.segment_id).collect();
    tx.execute(
        "-- forget_cuts
         DELETE FROM snapshot_segments
         WHERE snapshot_id = $1 AND (segment_id <> ALL ($2) OR segment_id = ANY ($3))",
        &[&snapshot_id, &all, &ids],
    )
    .await
    .attempt(WHAT)?;
    let column = |of: fn(&Cut) -> i64| counted_now.iter().map(of).collect::<Vec<i64>>();
    let time = |of: fn(&RangeTally) -> Option<Timestamp>| {
        counted_now.iter().map(|cut| of(&cut.tally).map(Timestamp::millis)).collect::<Vec<_>>()
    };
    tx.execute(
        "-- insert_cuts
         INSERT INTO snapshot_segments (snapshot_id, segment_id, partition, start_offset,
             end_offset, records, out_of_window_records, min_timestamp, max_timestamp)
         SELECT $1, c.* FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) AS c",
        &[
            &snapshot_id,
            &ids,
            &counted_now.iter().map(|cut| cut.part.partition).collect::<Vec<_>>(),
            &column(|cut| cut.part.range.start()),
            &column(|cut| cut.part.range.end()),
            &column(|cut| cut.tally.records),
            &column(|cut| cut.tally.out_of_window_records),
            &time(|tally| tally.min_timestamp),
            &time(|tally| tally.max_timestamp),
        ],
    )
    .await
    .attempt(WHAT)?;
    Ok(())
}
