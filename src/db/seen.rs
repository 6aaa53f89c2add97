//! What has been seen of a topic, for those who are about to look again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{BoundaryFact, OffsetRange, Timestamp};

/// The highest watermark seen of each partition of a topic's newest incarnation, and its id.
/// What Kafka says after this was asked can only be more, if the log is still the same.
pub async fn seen_high_watermarks(
    db: &Database,
    cluster: &str,
    name: &str,
) -> Result<Option<(String, BTreeMap<i32, i64>)>, DbError> {
    let client = db.client().await?;
    let sql = "-- seen_high_watermarks
        SELECT t.topic_id, p.partition, p.high_watermark
        FROM topics t JOIN topic_partitions p ON p.topic = t.id
        WHERE t.cluster = $1 AND t.name = $2 AND t.newest";
    let rows = client.query(sql, &[&cluster, &name]).await.attempt("look up watermarks")?;
    let watermarks = rows.iter().map(|row| (row.get("partition"), row.get("high_watermark")));
    Ok(rows.first().map(|row| (row.get("topic_id"), watermarks.collect())))
}

/// The database's time, and the records of a topic's incarnation that are poison, by
/// partition and offset.
pub async fn poison_verdicts(
    db: &Database,
    cluster: &str,
    name: &str,
    topic_id: &str,
) -> Result<(Timestamp, BTreeSet<(i32, i64)>), DbError> {
    let client = db.client().await?;
    let sql = "-- poison_verdicts
        SELECT clock.now, p.partition, p.record_offset
        FROM (SELECT clock_timestamp() AS now) clock
        LEFT JOIN topics t ON t.cluster = $1 AND t.name = $2 AND t.topic_id = $3
        LEFT JOIN poison_records p ON p.topic = t.id";
    let rows =
        client.query(sql, &[&cluster, &name, &topic_id]).await.attempt("look up poison records")?;
    let now = rows.first().map(|row| row.get::<_, DbTime>("now").0);
    let verdict = |row: &tokio_postgres::Row| {
        Some((row.get::<_, Option<i32>>("partition")?, row.get("record_offset")))
    };
    Ok((now.ok_or(DbError::unexpected("clock"))?, rows.iter().filter_map(verdict).collect()))
}

/// What is known of the boundary of exactly this time. The topic is named by cluster, name
/// and id.
pub async fn boundary_fact(
    db: &Database,
    (cluster, name, topic_id): (&str, &str, &str),
    partition: i32,
    at: Timestamp,
) -> Result<Option<BoundaryFact>, DbError> {
    let client = db.client().await?;
    let sql = "-- boundary_fact
        SELECT b.boundary_offset, b.older_start, b.older_end
        FROM boundaries b JOIN topics t ON t.id = b.topic
        WHERE t.cluster = $1 AND t.name = $2 AND t.topic_id = $3 AND b.partition = $4 AND b.at = $5";
    let row = client
        .query_opt(sql, &[&cluster, &name, &topic_id, &partition, &DbTime(at)])
        .await
        .attempt("look up a boundary")?;
    Ok(row.map(|row| BoundaryFact {
        at,
        offset: row.get("boundary_offset"),
        older: OffsetRange::new(row.get("older_start"), row.get("older_end")),
    }))
}
