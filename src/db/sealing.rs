//! What the sealer asks and tells: which topics to look at, and which snapshots of them are
//! due for a run of its own.

use deadpool_postgres::Transaction;

use super::{Attempt, Database, DbError};
use crate::snapshot::TopicName;

/// How much later the sealer's own runs are due than those that someone asks for at the same
/// time. Where nothing else is to be done they are taken at once all the same.
const SEALER_YIELDS_SECONDS: f64 = 60.0;

/// A topic that snapshots are about, as it was seen last.
#[derive(Clone, Debug)]
pub struct WatchedTopic {
    /// Our key for the incarnation.
    pub key: i64,
    /// Name of the cluster in our settings.
    pub cluster: String,
    /// The topic.
    pub topic: TopicName,
    /// Kafka's id, empty where the brokers give none.
    pub topic_id: String,
}

/// The newest incarnation of every topic that a plan has met.
pub async fn watched_topics(db: &Database) -> Result<Vec<WatchedTopic>, DbError> {
    let client = db.client().await?;
    let sql = "-- watched_topics
        SELECT id, cluster, name, topic_id FROM topics WHERE newest ORDER BY id";
    let rows = client.query(sql, &[]).await.attempt("look up the topics to watch")?;
    rows.iter()
        .map(|row| {
            let topic = TopicName::parse(row.get("name"));
            Ok(WatchedTopic {
                key: row.get("id"),
                cluster: row.get("cluster"),
                topic: topic.map_err(|_| DbError::unexpected("topics.name"))?,
                topic_id: row.get("topic_id"),
            })
        })
        .collect()
}

/// Records that another incarnation has taken a topic's name.
pub async fn record_incarnation(
    db: &Database,
    cluster: &str,
    name: &str,
    topic_id: &str,
) -> Result<(), DbError> {
    const WHAT: &str = "record a topic's incarnation";
    let mut client = db.client().await?;
    let tx = client.transaction().await.attempt(WHAT)?;
    make_newest(&tx, cluster, name, topic_id).await?;
    tx.commit().await.attempt(WHAT)
}

/// Makes an incarnation the newest of its name, locks its row, and sets snapshots of the
/// earlier ones aside: the same request then means a new snapshot. Gives our key for it.
pub(super) async fn make_newest(
    tx: &Transaction<'_>,
    cluster: &str,
    name: &str,
    topic_id: &str,
) -> Result<i64, DbError> {
    const WHAT: &str = "record a topic";
    // Two first plans of a topic at once would trip over the index of the newest ones.
    let sql = "-- lock_topic_name
        SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))";
    tx.query_one(sql, &[&cluster, &name]).await.attempt(WHAT)?;
    tx.execute(
        "-- demote_incarnations
         UPDATE topics SET newest = false
         WHERE cluster = $1 AND name = $2 AND newest AND topic_id <> $3",
        &[&cluster, &name, &topic_id],
    )
    .await
    .attempt(WHAT)?;
    let topic = tx
        .query_one(
            "-- upsert_topic
             INSERT INTO topics (cluster, name, topic_id) VALUES ($1, $2, $3)
             ON CONFLICT (cluster, name, topic_id) DO UPDATE SET newest = true
             RETURNING id",
            &[&cluster, &name, &topic_id],
        )
        .await
        .attempt(WHAT)?;
    let key: i64 = topic.get("id");
    tx.execute(
        "-- supersede_snapshots
         UPDATE snapshots SET superseded_at = clock_timestamp()
         WHERE superseded_at IS NULL AND topic IN (
             SELECT id FROM topics WHERE cluster = $1 AND name = $2 AND id <> $3)",
        &[&cluster, &name, &key],
    )
    .await
    .attempt(WHAT)?;
    Ok(key)
}

/// Queues a run for every snapshot of the topic that succeeded, is not sealed, and is due:
/// in a partition whose end is open the last stable offset has moved since the last plan, a
/// partition has been added, or the grace is over. Gives how many there are.
///
/// Whoever asks for such a snapshot at the same moment joins the run, or the run is left out.
pub async fn queue_due_runs(
    db: &Database,
    topic: i64,
    last_stable_offsets: &[(i32, i64)],
    grace_seconds: u32,
) -> Result<u64, DbError> {
    let client = db.client().await?;
    let partitions: Vec<i32> =
        last_stable_offsets.iter().map(|(partition, _)| *partition).collect();
    let offsets: Vec<i64> = last_stable_offsets.iter().map(|(_, offset)| *offset).collect();
    client
        .execute(
            "-- queue_due_runs
             WITH seen AS (
                 SELECT * FROM unnest($2::int[], $3::bigint[]) AS w(partition, last_stable_offset)),
             due AS (
                 SELECT s.id FROM snapshots s
                 JOIN runs shown ON shown.snapshot_id = s.id AND shown.run = s.run
                 WHERE s.topic = $1 AND s.superseded_at IS NULL
                   AND s.completeness IN ('provisional', 'settled')
                   AND shown.outcome = 'succeeded'
                   AND NOT EXISTS (SELECT FROM runs WHERE snapshot_id = s.id AND outcome IS NULL)
                   AND (EXISTS (
                           SELECT FROM seen LEFT JOIN snapshot_partitions p
                               ON p.snapshot_id = s.id AND p.partition = seen.partition
                           WHERE p.partition IS NULL OR NOT p.sealed
                               AND p.last_stable_offset <> seen.last_stable_offset)
                       OR s.completeness = 'provisional'
                           AND s.window_end + make_interval(secs => $4) <= clock_timestamp()
                           AND NOT EXISTS (
                               SELECT FROM snapshot_partitions p WHERE p.snapshot_id = s.id
                               AND NOT p.sealed AND p.last_stable_offset < p.high_watermark))
                 FOR UPDATE OF s SKIP LOCKED),
             added AS (
                 INSERT INTO runs (snapshot_id, run, origin, shown)
                 SELECT id, (SELECT max(run) + 1 FROM runs WHERE snapshot_id = id), 'sealer', false
                 FROM due
                 ON CONFLICT DO NOTHING RETURNING snapshot_id, run)
             INSERT INTO tasks (snapshot_id, run, kind, due_at)
             SELECT snapshot_id, run, 'plan', clock_timestamp() + make_interval(secs => $5)
             FROM added",
            &[&topic, &partitions, &offsets, &f64::from(grace_seconds), &SEALER_YIELDS_SECONDS],
        )
        .await
        .attempt("queue runs of the sealer")
}
