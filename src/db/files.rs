//! The files of a snapshot, and the segments in them.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Attempt, Database, DbError, Page};
use crate::snapshot::{OffsetRange, PartitionRange, Timestamp};

/// A file that holds events of a snapshot.
#[derive(Clone, Debug)]
pub struct FileRow {
    /// Name of the object below the storage URL.
    pub object_name: String,
    /// Whether all of the file belongs to the snapshot.
    pub whole: bool,
    /// Events in the file.
    pub records: i64,
    /// Of these, events that belong to the snapshot.
    pub records_in_window: i64,
    /// Size in bytes.
    pub bytes: i64,
    /// Checksum.
    pub sha256: Vec<u8>,
    /// Smallest timestamp in the file.
    pub min_timestamp: Option<Timestamp>,
    /// Largest timestamp in the file.
    pub max_timestamp: Option<Timestamp>,
    /// What of it belongs to the snapshot, in order.
    pub segments: Vec<PartitionRange>,
}

/// A place in the order of partition and offset.
pub type Place = (i32, i64);

/// Files of a snapshot that hold events of it, in order of the first of these.
pub async fn list_files(
    db: &Database,
    snapshot_id: Uuid,
    page: Page<Place>,
) -> Result<Vec<FileRow>, DbError> {
    let (partition, start_offset) = page.after.unwrap_or((-1, -1));
    let client = db.client().await?;
    let sql = format!(
        "-- list_files
        WITH cuts AS (
            SELECT g.file_id, m.partition, m.start_offset, m.end_offset, m.records
            FROM snapshot_segments m JOIN segments g ON g.id = m.segment_id
            WHERE m.snapshot_id = $1 AND m.records > 0),
        firsts AS (
            SELECT DISTINCT ON (file_id) file_id, partition, start_offset
            FROM cuts ORDER BY file_id, partition, start_offset),
        page AS (
            SELECT * FROM firsts WHERE (partition, start_offset) > ($2, $3)
            ORDER BY partition, start_offset LIMIT $4)
        SELECT {FILE_COLUMNS}, held.offsets = (SELECT sum(upper(offsets) - lower(offsets))
            FROM segments WHERE file_id = f.id) AS whole
        FROM page JOIN files f ON f.id = page.file_id
        CROSS JOIN LATERAL (
            SELECT sum(c.records)::bigint AS records_in_window,
                sum(c.end_offset - c.start_offset) AS offsets,
                array_agg(c.partition ORDER BY c.partition, c.start_offset) AS partitions,
                array_agg(c.start_offset ORDER BY c.partition, c.start_offset) AS starts,
                array_agg(c.end_offset ORDER BY c.partition, c.start_offset) AS ends
            FROM cuts c WHERE c.file_id = f.id) held
        ORDER BY page.partition, page.start_offset"
    );
    let rows = client
        .query(&sql, &[&snapshot_id, &partition, &start_offset, &page.limit])
        .await
        .attempt("list the files of a snapshot")?;
    Ok(rows.iter().map(read_file).collect())
}

/// The columns of `files` that [`read_file`] reads.
pub(super) const FILE_COLUMNS: &str =
    "f.object_name, f.records, f.bytes, f.sha256, f.min_timestamp, f.max_timestamp, held.*";

pub(super) fn read_file(row: &Row) -> FileRow {
    let partitions: Vec<i32> = row.get("partitions");
    let (starts, ends): (Vec<i64>, Vec<i64>) = (row.get("starts"), row.get("ends"));
    let ranges = starts.into_iter().zip(ends).map(|(s, e)| OffsetRange::new(s, e));
    let time = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    FileRow {
        object_name: row.get("object_name"),
        whole: row.get("whole"),
        records: row.get("records"),
        records_in_window: row.get("records_in_window"),
        bytes: row.get("bytes"),
        sha256: row.get("sha256"),
        min_timestamp: time(row.get("min_timestamp")),
        max_timestamp: time(row.get("max_timestamp")),
        segments: partitions
            .into_iter()
            .zip(ranges)
            .map(|(partition, range)| PartitionRange { partition, range })
            .collect(),
    }
}

/// A stretch of a snapshot's events and the file it is in.
#[derive(Clone, Debug)]
pub struct SegmentRow {
    /// The offsets that belong to the snapshot.
    pub part: PartitionRange,
    /// Name of the object below the storage URL.
    pub object_name: String,
    /// Size of the object in bytes.
    pub bytes: u64,
}

/// Where a snapshot's events are, in order; of one partition alone if `partition`.
pub async fn list_segments(
    db: &Database,
    snapshot_id: Uuid,
    partition: Option<i32>,
    page: Page<Place>,
) -> Result<Vec<SegmentRow>, DbError> {
    let (after_partition, after_offset) = page.after.unwrap_or((-1, -1));
    let client = db.client().await?;
    let sql = "-- list_segments
        SELECT m.partition, m.start_offset, m.end_offset, f.object_name, f.bytes
        FROM snapshot_segments m JOIN segments g ON g.id = m.segment_id
        JOIN files f ON f.id = g.file_id
        WHERE m.snapshot_id = $1 AND ($2::int IS NULL OR m.partition = $2)
          AND (m.partition, m.start_offset) > ($3, $4) AND m.records > 0
        ORDER BY m.partition, m.start_offset LIMIT $5";
    let rows = client
        .query(sql, &[&snapshot_id, &partition, &after_partition, &after_offset, &page.limit])
        .await
        .attempt("look up where a snapshot's events are")?;
    Ok(rows
        .iter()
        .map(|row| SegmentRow {
            part: PartitionRange {
                partition: row.get("partition"),
                range: OffsetRange::new(row.get("start_offset"), row.get("end_offset")),
            },
            object_name: row.get("object_name"),
            bytes: row.get::<_, i64>("bytes").unsigned_abs(),
        })
        .collect())
}
