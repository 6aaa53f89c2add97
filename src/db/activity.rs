//! How things are with all replicas, in a few numbers.

use super::{Attempt, Database, DbError};

/// More than so many are not counted.
const MOST: i64 = 100_000;

/// What is open, and what has been open for longest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Runs that wait for their first worker; at most 100,000 are counted, as of those below.
    pub queued: i64,
    /// Runs under way.
    pub running: i64,
    /// Snapshots that are provisional.
    pub provisional: i64,
    /// Snapshots that are settled and not sealed.
    pub settled: i64,
    /// How long the run has waited that waits longest; 0 if none does.
    pub oldest_queued_seconds: f64,
    /// For how long the task has been failing that fails longest; 0 if none does.
    pub oldest_failing_seconds: f64,
}

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
