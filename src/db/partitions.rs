//! A snapshot's partitions, as its document's detail shows them.

use uuid::Uuid;

use super::{Attempt, Database, DbError, Page};
use crate::snapshot::{OffsetRange, Timestamp};

/// One partition of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRow {
    /// The partition's number.
    pub partition: i32,
    /// The offsets of the window.
    pub range: OffsetRange,
    /// Both boundaries are known.
    pub sealed: bool,
    /// Retention may have taken events before anyone looked.
    pub start_uncertain: bool,
    /// First offset that the broker had.
    pub low_watermark: i64,
    /// Next offset to be written.
    pub high_watermark: i64,
    /// Where the first open transaction began.
    pub last_stable_offset: i64,
    /// Offsets gone and not stored.
    pub lost_offsets: i64,
    /// Offsets stored.
    pub stored_offsets: i64,
    /// Events stored.
    pub records: i64,
    /// Of these, outside the window by their own timestamp.
    pub out_of_window_records: i64,
    /// Of these, stamped too far ahead to be a boundary.
    pub poison_records: i64,
    /// Smallest timestamp.
    pub min_timestamp: Option<Timestamp>,
    /// Largest timestamp.
    pub max_timestamp: Option<Timestamp>,
}

/// The partitions of a snapshot, by number, from its newest plan on.
pub async fn list_partitions(
    db: &Database,
    snapshot_id: Uuid,
    page: Page<i32>,
) -> Result<Vec<PartitionRow>, DbError> {
    let client = db.client().await?;
    let sql = "-- list_partitions
        SELECT p.*, coalesce(held.stored_offsets, 0)::bigint AS stored_offsets,
            coalesce(held.records, 0)::bigint AS records,
            coalesce(held.out_of_window_records, 0)::bigint AS out_of_window_records,
            (SELECT count(*) FROM snapshots s
                JOIN poison_records r ON r.topic = s.topic AND r.partition = p.partition
                JOIN snapshot_segments m ON m.snapshot_id = s.id AND m.partition = r.partition
                    AND m.records > 0 AND r.record_offset >= m.start_offset
                    AND r.record_offset < m.end_offset
                WHERE s.id = p.snapshot_id) AS poison_records,
            held.min_timestamp, held.max_timestamp
        FROM snapshot_partitions p LEFT JOIN LATERAL (
            SELECT sum(end_offset - start_offset) AS stored_offsets, sum(records) AS records,
                sum(out_of_window_records) AS out_of_window_records,
                min(min_timestamp) AS min_timestamp,
                max(max_timestamp) AS max_timestamp
            FROM snapshot_segments
            WHERE snapshot_id = p.snapshot_id AND partition = p.partition) held ON true
        WHERE p.snapshot_id = $1 AND p.partition > coalesce($2, -1)
        ORDER BY p.partition LIMIT $3";
    let rows = client
        .query(sql, &[&snapshot_id, &page.after, &page.limit])
        .await
        .attempt("list the partitions of a snapshot")?;
    let time = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    Ok(rows
        .iter()
        .map(|row| PartitionRow {
            partition: row.get("partition"),
            range: OffsetRange::new(row.get("start_offset"), row.get("end_offset")),
            sealed: row.get("sealed"),
            start_uncertain: row.get("start_uncertain"),
            low_watermark: row.get("low_watermark"),
            high_watermark: row.get("high_watermark"),
            last_stable_offset: row.get("last_stable_offset"),
            lost_offsets: row.get("lost_offsets"),
            stored_offsets: row.get("stored_offsets"),
            records: row.get("records"),
            out_of_window_records: row.get("out_of_window_records"),
            poison_records: row.get("poison_records"),
            min_timestamp: time(row.get("min_timestamp")),
            max_timestamp: time(row.get("max_timestamp")),
        })
        .collect())
}
