//! How things are with all replicas, in a few numbers.

use super::{Attempt, Database, DbError};
use crate::metrics::{Activity, TopicBacklog};

const TOPICS: &str = "look at how topics are";

/// More than so many are not counted.
const MOST: i64 = 100_000;

/// Looks at how things are.
pub async fn activity(db: &Database) -> Result<Activity, DbError> {
    let client = db.client().await?;
    let sql = format!(
        "-- activity
        WITH queued AS (SELECT requested_at FROM runs
            WHERE started_at IS NULL AND outcome IS NULL LIMIT {MOST})
        SELECT (SELECT count(*) FROM queued),
            (SELECT count(*) FROM runs WHERE started_at IS NOT NULL AND outcome IS NULL),
            (SELECT count(*) FROM (SELECT FROM snapshots
                WHERE completeness = 'provisional' LIMIT {MOST}) p),
            (SELECT count(*) FROM (SELECT FROM snapshots
                WHERE completeness = 'settled' LIMIT {MOST}) s),
            (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(requested_at)), 0)::float8
                FROM queued),
            (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(failing_since)), 0)::float8
                FROM tasks WHERE ended_at IS NULL)"
    );
    let statement = client.prepare_cached(&sql).await.attempt("look at how things are")?;
    let row = client.query_one(&statement, &[]).await.attempt("look at how things are")?;
    Ok(Activity {
        queued: row.get(0),
        running: row.get(1),
        provisional: row.get(2),
        settled: row.get(3),
        oldest_queued_seconds: row.get(4),
        oldest_failing_seconds: row.get(5),
    })
}

/// What the snapshots of these topics wait for: our key of each, its name, and for how many seconds
/// Kafka keeps its events, if that is known and not for good.
pub async fn topic_backlogs(
    db: &Database,
    topics: &[(i64, String, Option<f64>)],
) -> Result<Vec<TopicBacklog>, DbError> {
    let client = db.client().await?;
    let sql = format!(
        "-- topic_backlogs
        WITH known AS (
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::float8[]) AS k(topic, name, retention)),
        wanted AS (
            (SELECT snapshot_id, run FROM runs
             WHERE outcome = 'failed' AND shown AND error->>'code' <> 'DATA_LOST' LIMIT {MOST})
            UNION ALL
            (SELECT snapshot_id, run FROM runs
             WHERE started_at IS NULL AND outcome IS NULL LIMIT {MOST})
            UNION ALL
            (SELECT snapshot_id, run FROM runs WHERE started_at IS NOT NULL AND outcome IS NULL)),
        unstored AS (
            SELECT known.topic, count(*) AS snapshots, min(s.window_start) AS window_start
            FROM wanted JOIN snapshots s ON s.id = wanted.snapshot_id AND s.run = wanted.run
            JOIN known ON known.name = s.topic_name AND known.topic = coalesce(s.topic, known.topic)
            WHERE s.superseded_at IS NULL AND s.capture = 'events' AND (known.retention IS NULL
                OR s.window_end + make_interval(secs => known.retention) > clock_timestamp())
            GROUP BY known.topic),
        unsealed AS (
            SELECT s.topic, count(*) AS snapshots,
                min(s.window_end) FILTER (WHERE s.completeness = 'provisional') AS window_end
            FROM known JOIN snapshots s ON s.topic = known.topic
            WHERE s.superseded_at IS NULL AND s.completeness IN ('provisional', 'settled')
            GROUP BY s.topic)
        SELECT known.name, known.retention,
            coalesce(unsealed.snapshots, 0) AS unsealed,
            extract(epoch FROM unsealed.window_end)::float8 AS provisional_end,
            coalesce(unstored.snapshots, 0) AS unstored,
            extract(epoch FROM unstored.window_start)::float8 AS unstored_start
        FROM known LEFT JOIN unsealed USING (topic) LEFT JOIN unstored USING (topic)"
    );
    let keys: Vec<i64> = topics.iter().map(|(key, _, _)| *key).collect();
    let names: Vec<&str> = topics.iter().map(|(_, name, _)| name.as_str()).collect();
    let retentions: Vec<Option<f64>> = topics.iter().map(|(_, _, seconds)| *seconds).collect();
    let statement = client.prepare_cached(&sql).await.attempt(TOPICS)?;
    let rows = client.query(&statement, &[&keys, &names, &retentions]).await.attempt(TOPICS)?;
    let backlog = |row: &tokio_postgres::Row| TopicBacklog {
        topic: row.get("name"),
        unsealed: row.get("unsealed"),
        provisional_end: row.get("provisional_end"),
        unstored: row.get("unstored"),
        unstored_start: row.get("unstored_start"),
        retention_seconds: row.get("retention"),
    };
    Ok(rows.iter().map(backlog).collect())
}
