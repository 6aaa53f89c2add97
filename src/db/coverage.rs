//! What is held of a topic: its windows, what is stored in its partitions, its files.

use uuid::Uuid;

use super::files::{FILE_COLUMNS, read_file};
use super::plans::stored_ranges;
use super::snapshots::{STATE, TABLES};
use super::{Attempt, Database, DbError, DbTime, FileRow, Page};
use crate::snapshot::{
    BoundaryFact, Capture, Completeness, OffsetRange, OffsetRanges, PartitionLook, PartitionRange,
    State, Timestamp, Totals, Window,
};

/// An incarnation of a topic that is known.
#[derive(Clone, Debug)]
pub struct KnownIncarnation {
    /// Our key for it.
    pub key: i64,
    /// Kafka's id, empty where the brokers give none.
    pub topic_id: String,
    /// Whether it was the one seen last under its name.
    pub newest: bool,
}

/// An incarnation of a topic, the newest if `topic_id` is not given; `None` if no plan has
/// met it.
pub async fn find_incarnation(
    db: &Database,
    cluster: &str,
    name: &str,
    topic_id: Option<&str>,
) -> Result<Option<KnownIncarnation>, DbError> {
    let client = db.client().await?;
    let sql = "-- find_incarnation
        SELECT id, topic_id, newest FROM topics
        WHERE cluster = $1 AND name = $2 AND CASE WHEN $3::text IS NULL THEN newest
            ELSE topic_id = $3 END";
    let row = client
        .query_opt(sql, &[&cluster, &name, &topic_id])
        .await
        .attempt("look up a topic's incarnation")?;
    Ok(row.map(|row| KnownIncarnation {
        key: row.get("id"),
        topic_id: row.get("topic_id"),
        newest: row.get("newest"),
    }))
}

/// A window of which there is a snapshot with events.
#[derive(Clone, Debug)]
pub struct CoveredWindow {
    /// The snapshot.
    pub snapshot_id: Uuid,
    /// The window.
    pub window: Window,
    /// Where its newest asked run stands.
    pub state: State,
    /// As of the last success; `None` before the first.
    pub completeness: Option<Completeness>,
    /// As of the last success.
    pub totals: Totals,
}

/// The windows of a topic's incarnation that overlap the span, oldest first; at most `limit`.
pub async fn covered_windows(
    db: &Database,
    topic: i64,
    span: &Window,
    limit: i64,
) -> Result<Vec<CoveredWindow>, DbError> {
    let client = db.client().await?;
    let sql = format!(
        "-- covered_windows
         SELECT s.id, s.window_start, s.window_end, {STATE} AS state, s.completeness, s.result
         {TABLES}
         WHERE s.topic = $1 AND s.capture = 'events' AND s.window_end > $2 AND s.window_start < $3
         ORDER BY s.window_start, s.window_end LIMIT $4"
    );
    let rows = client
        .query(&sql, &[&topic, &DbTime(span.start()), &DbTime(span.end()), &limit])
        .await
        .attempt("look up the windows of a topic")?;
    rows.iter()
        .map(|row| {
            let time = |column: &str| row.get::<_, DbTime>(column).0;
            let result: Option<serde_json::Value> = row.get("result");
            let totals = result.map(serde_json::from_value).transpose();
            Ok(CoveredWindow {
                snapshot_id: row.get("id"),
                window: Window::new(time("window_start"), time("window_end"))
                    .map_err(|_| DbError::unexpected("snapshots.window_start"))?,
                state: State::from_name(row.get("state"))
                    .ok_or(DbError::unexpected("runs.outcome"))?,
                completeness: row
                    .get::<_, Option<&str>>("completeness")
                    .and_then(Completeness::from_name),
                totals: totals
                    .map_err(|_| DbError::unexpected("snapshots.result"))?
                    .unwrap_or_default(),
            })
        })
        .collect()
}

/// What is recorded of a partition of a topic that can't be asked any more.
#[derive(Clone, Debug)]
pub struct RecordedPartition {
    /// What a look would say: nothing is there any more.
    pub look: PartitionLook,
    /// The boundaries of the span.
    pub facts: Vec<BoundaryFact>,
}

/// The partitions of an incarnation as they were seen last, for a span of time.
pub async fn recorded_partitions(
    db: &Database,
    topic: i64,
    span: &Window,
) -> Result<Vec<RecordedPartition>, DbError> {
    let client = db.client().await?;
    let sql = "-- recorded_partitions
        SELECT p.partition, p.high_watermark, p.last_stable_offset,
            (SELECT min(boundary_offset) FROM boundaries b WHERE b.topic = p.topic
                AND b.partition = p.partition AND b.at >= $2) AS start_offset,
            (SELECT min(boundary_offset) FROM boundaries b WHERE b.topic = p.topic
                AND b.partition = p.partition AND b.at >= $3) AS end_offset
        FROM topic_partitions p WHERE p.topic = $1 ORDER BY p.partition";
    let rows = client
        .query(sql, &[&topic, &DbTime(span.start()), &DbTime(span.end())])
        .await
        .attempt("look up the partitions of a topic")?;
    let nothing = OffsetRange::new(0, 0);
    Ok(rows
        .iter()
        .map(|row| {
            let known = |at, column| BoundaryFact { at, offset: row.get(column), older: nothing };
            let high_watermark = row.get("high_watermark");
            RecordedPartition {
                look: PartitionLook {
                    partition: row.get("partition"),
                    low_watermark: high_watermark,
                    high_watermark,
                    last_stable_offset: row.get("last_stable_offset"),
                    start_answer: None,
                    end_answer: None,
                    start_timestamp: None,
                    end_timestamp: None,
                    newest: None,
                },
                facts: vec![known(span.start(), "start_offset"), known(span.end(), "end_offset")],
            }
        })
        .collect())
}

/// What is stored, as events, of these ranges of a topic's incarnation.
pub async fn stored_events(
    db: &Database,
    topic: i64,
    ranges: &[PartitionRange],
) -> Result<std::collections::BTreeMap<i32, OffsetRanges>, DbError> {
    let client = db.client().await?;
    stored_ranges(&client, topic, Capture::Events, ranges).await
}

/// A file of a topic.
#[derive(Clone, Debug)]
pub struct TopicFileRow {
    /// The file; all of it counts.
    pub file: FileRow,
    /// Our key for the topic's incarnation.
    pub topic: i64,
    /// Kafka's id of it.
    pub topic_id: String,
    /// The snapshot whose run wrote it.
    pub snapshot_id: Uuid,
}

/// A place in the order of incarnation, partition and offset.
pub type TopicPlace = (i64, i32, i64);

/// Every stored file of a topic, in all its incarnations, that can hold an event whose own
/// timestamp is in `[from, to)`.
pub async fn list_topic_files(
    db: &Database,
    cluster: &str,
    name: &str,
    times: (Option<Timestamp>, Option<Timestamp>),
    page: Page<TopicPlace>,
) -> Result<Vec<TopicFileRow>, DbError> {
    let (topic, partition, start_offset) = page.after.unwrap_or((-1, -1, -1));
    let client = db.client().await?;
    let sql = format!(
        "-- list_topic_files
         WITH firsts AS (
             SELECT f.id, t.id AS topic_key, t.topic_id, first.partition, first.start_offset
             FROM topics t JOIN files f ON f.topic = t.id
             CROSS JOIN LATERAL (
                 SELECT g.partition, lower(g.offsets) AS start_offset FROM segments g
                 WHERE g.file_id = f.id ORDER BY g.partition, g.offsets LIMIT 1) first
             WHERE t.cluster = $1 AND t.name = $2
               AND ($3::bigint IS NULL OR f.max_timestamp >= $3)
               AND ($4::bigint IS NULL OR f.min_timestamp < $4)
               AND (t.id, first.partition, first.start_offset) > ($5, $6, $7)
             ORDER BY t.id, first.partition, first.start_offset LIMIT $8)
         SELECT firsts.topic_key, firsts.topic_id, f.snapshot_id, {FILE_COLUMNS},
             true AS whole, f.records AS records_in_window
         FROM firsts JOIN files f ON f.id = firsts.id
         CROSS JOIN LATERAL (
             SELECT array_agg(g.partition ORDER BY g.partition, g.offsets) AS partitions,
                 array_agg(lower(g.offsets) ORDER BY g.partition, g.offsets) AS starts,
                 array_agg(upper(g.offsets) ORDER BY g.partition, g.offsets) AS ends
             FROM segments g WHERE g.file_id = f.id) held
         ORDER BY firsts.topic_key, firsts.partition, firsts.start_offset"
    );
    let (from, to) = (times.0.map(Timestamp::millis), times.1.map(Timestamp::millis));
    let rows = client
        .query(&sql, &[&cluster, &name, &from, &to, &topic, &partition, &start_offset, &page.limit])
        .await
        .attempt("list the files of a topic")?;
    Ok(rows
        .iter()
        .map(|row| TopicFileRow {
            file: read_file(row),
            topic: row.get("topic_key"),
            topic_id: row.get("topic_id"),
            snapshot_id: row.get("snapshot_id"),
        })
        .collect())
}

/// What is known of a topic's snapshots, over all its incarnations.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicSnapshots {
    /// How many there are.
    pub snapshots: i64,
    /// First moment of the oldest window.
    pub oldest_window_start: Option<Timestamp>,
    /// End of the newest window.
    pub newest_window_end: Option<Timestamp>,
}

/// What is known of the snapshots of each of these topics, in their order.
pub async fn topic_snapshots(
    db: &Database,
    cluster: &str,
    names: &[&str],
) -> Result<Vec<TopicSnapshots>, DbError> {
    let client = db.client().await?;
    let sql = "-- topic_snapshots
        SELECT held.* FROM unnest($2::text[]) WITH ORDINALITY AS n(name, place)
        CROSS JOIN LATERAL (
            SELECT count(*) AS snapshots, min(window_start) AS oldest, max(window_end) AS newest
            FROM snapshots WHERE cluster = $1 AND topic_name = n.name) held
        ORDER BY n.place";
    let rows =
        client.query(sql, &[&cluster, &names]).await.attempt("look up the snapshots of topics")?;
    let time = |time: Option<DbTime>| time.map(|time| time.0);
    Ok(rows
        .iter()
        .map(|row| TopicSnapshots {
            snapshots: row.get("snapshots"),
            oldest_window_start: time(row.get("oldest")),
            newest_window_end: time(row.get("newest")),
        })
        .collect())
}
