//! What the sweeper asks: whose turn it is, who we are, and what of the object store may go.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::Timestamp;

/// Takes the turn to look through the store, if `interval` has passed since the last: one
/// replica at a time does.
pub async fn begin_sweep(db: &Database, interval: Duration) -> Result<bool, DbError> {
    let client = db.client().await?;
    let sql = "-- begin_sweep
        INSERT INTO sweeps AS s (swept_at) VALUES (clock_timestamp())
        ON CONFLICT (one) DO UPDATE SET swept_at = clock_timestamp()
            WHERE s.swept_at + make_interval(secs => $1) <= clock_timestamp()";
    let taken = client.execute(sql, &[&interval.as_secs_f64()]).await.attempt("begin a sweep")?;
    Ok(taken == 1)
}

/// The database's time.
pub async fn now(db: &Database) -> Result<Timestamp, DbError> {
    let client = db.client().await?;
    let row = client.query_one("-- now\nSELECT clock_timestamp()", &[]).await;
    Ok(row.attempt("ask for the time")?.get::<_, DbTime>(0).0)
}

/// How often the store was told that files were committed.
pub async fn generation(db: &Database) -> Result<i64, DbError> {
    let client = db.client().await?;
    let sql = "-- generation\nSELECT coalesce(max(generation), 0) FROM sweeps";
    Ok(client.query_one(sql, &[]).await.attempt("ask for the generation")?.get(0))
}

/// Begins the next generation, and gives its number.
pub async fn next_generation(db: &Database) -> Result<i64, DbError> {
    let client = db.client().await?;
    let sql = "-- next_generation
        INSERT INTO sweeps AS s (swept_at, generation) VALUES ('-infinity', 1)
        ON CONFLICT (one) DO UPDATE SET generation = s.generation + 1
        RETURNING generation";
    Ok(client.query_one(sql, &[]).await.attempt("begin a generation")?.get(0))
}

/// A name for this database that no other has. A dump that was restored has another; a standby
/// that took over has the same, and so has a physical copy, of any age: see [`generation`].
pub async fn owner(db: &Database) -> Result<String, DbError> {
    let client = db.client().await?;
    let sql = "-- owner
        SELECT format('postgres %s/%s', (pg_control_system()).system_identifier,
            (SELECT oid FROM pg_database WHERE datname = current_database()))";
    Ok(client.query_one(sql, &[]).await.attempt("tell this database from others")?.get(0))
}

/// Which of these objects, named with the attempt that their name tells of, no commit names
/// or ever will.
///
/// An attempt is over when its task has ended or belongs to another attempt. That its lease
/// has expired is not enough: a commit checks its lease before it waits for the task's row,
/// and Postgres does not check again (docs/model.md). To end or to take a task needs that
/// row, so no commit of an attempt that is over is still under way, and what no file names
/// after this was seen is nobody's.
pub async fn sweepable(db: &Database, staged: Vec<(Uuid, String)>) -> Result<Vec<String>, DbError> {
    const WHAT: &str = "look up what may be swept";
    let attempts: Vec<Uuid> = staged.iter().map(|(attempt, _)| *attempt).collect();
    let client = db.client().await?;
    // Two statements: the second has to see what the first has seen come to an end.
    let sql = "-- attempts_under_way
        SELECT attempt_id FROM tasks WHERE attempt_id = ANY($1) AND ended_at IS NULL";
    let rows = client.query(sql, &[&attempts]).await.attempt(WHAT)?;
    let under_way: HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let left: Vec<String> = staged
        .into_iter()
        .filter(|(attempt, _)| !under_way.contains(attempt))
        .map(|(_, name)| name)
        .collect();
    let sql = "-- unnamed_objects
        SELECT name FROM unnest($1::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM files WHERE object_name = name)";
    let rows = client.query(sql, &[&left]).await.attempt(WHAT)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
