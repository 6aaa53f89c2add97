//! The schema: brings the database up to this program's migrations, however many replicas
//! start at once, and tells whether it is.
//!
//! Migrations only go forward, and expand before they contract: a program that is one
//! version older than the schema still works with it.

use std::{sync::LazyLock, time::Duration};

use tokio_postgres::Client;

use super::{
    error::{Attempt, DbError},
    pool::Database,
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock that whoever migrates holds ("strandln" as a number). refinery has
/// none of its own: of three at once, two fail.
const LOCK: i64 = 0x7374_7261_6e64_6c6e;

/// How long to wait for another replica's migration.
const PATIENCE: Duration = Duration::from_secs(600);

/// A migration that waits for a table keeps everyone behind it waiting; rather than that it
/// fails, and whoever starts tries again.
const BE_QUICK_OR_GIVE_WAY: &str = "SET lock_timeout TO 10000";

/// What [`migrate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The schema's version before, `None` for an empty database.
    pub from: Option<u32>,
    /// The version now. Above [`expected_version`] where a later program was here.
    pub to: u32,
}

/// How the database's schema stands to this program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// As this program expects it.
    Current,
    /// Migrations are missing: nothing will work.
    Behind {
        /// The database's version.
        found: Option<u32>,
    },
    /// A later version of the program has migrated it; this one goes on working.
    Ahead {
        /// The database's version.
        found: u32,
    },
}

/// The version of the schema that this program is made for.
pub fn expected_version() -> u32 {
    static VERSION: LazyLock<u32> = LazyLock::new(|| {
        let runner = embedded::migrations::runner();
        runner.get_migrations().iter().map(|m| m.version().unsigned_abs()).max().unwrap_or(0)
    });
    *VERSION
}

/// Applies the migrations that are missing, on a connection of its own. If another replica
/// is at it, waits for it. A schema ahead of this program is left alone.
///
/// # Errors
/// No connection, a migration that fails (it is rolled back), one that was changed after it
/// had been applied, or another replica that takes more than ten minutes.
pub async fn migrate(database: &Database) -> Result<Applied, DbError> {
    let (mut client, _notifications) = database.dedicated().await?;
    take_lock(&client).await?;
    let from = version(&client).await?;
    if let Some(found) = from.filter(|&found| found > expected_version()) {
        tracing::warn!(found, expected = expected_version(), "the schema is ahead of this program");
        return Ok(Applied { from, to: found });
    }
    embedded::migrations::runner()
        .run_async(&mut client)
        .await
        .map_err(|source| DbError::Migration { source })?;
    // The lock goes with the connection.
    Ok(Applied { from, to: expected_version() })
}

/// The version of the database's schema; `None` where nothing was ever migrated.
///
/// # Errors
/// When the database can't be asked.
pub async fn schema_version(database: &Database) -> Result<Option<u32>, DbError> {
    database.with_client(|client| async move { version(&client).await }).await
}

/// Compares the database's schema with this program's.
///
/// # Errors
/// When the database can't be asked.
pub async fn check(database: &Database) -> Result<SchemaState, DbError> {
    Ok(compare(schema_version(database).await?, expected_version()))
}

fn compare(found: Option<u32>, expected: u32) -> SchemaState {
    match found {
        Some(found) if found > expected => SchemaState::Ahead { found },
        Some(found) if found == expected => SchemaState::Current,
        found => SchemaState::Behind { found },
    }
}

async fn take_lock(client: &Client) -> Result<(), DbError> {
    const TAKE: &str = "take the lock for migrations";
    let row = client
        .query_one("-- try_migration_lock\nSELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await
        .attempt(TAKE)?;
    if row.get(0) {
        return client.batch_execute(BE_QUICK_OR_GIVE_WAY).await.attempt(TAKE);
    }
    tracing::info!("another replica migrates the database, waiting for it");
    let wait = format!("SET lock_timeout TO {}", PATIENCE.as_millis());
    client.batch_execute(&wait).await.attempt(TAKE)?;
    client
        .execute("-- migration_lock\nSELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .attempt(TAKE)?;
    client.batch_execute(BE_QUICK_OR_GIVE_WAY).await.attempt(TAKE)
}

async fn version(client: &Client) -> Result<Option<u32>, DbError> {
    const READ: &str = "read the version of the schema";
    // Asked first, so that a new database's log does not begin with an error.
    let migrated = client
        .query_one(
            "-- schema_history_exists\nSELECT to_regclass('refinery_schema_history') IS NOT NULL",
            &[],
        )
        .await
        .attempt(READ)?;
    if !migrated.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = "-- schema_version\nSELECT max(version) FROM refinery_schema_history";
    let row = client.query_one(newest, &[]).await.attempt(READ)?;
    let version: Option<i32> = row.try_get(0).attempt(READ)?;
    Ok(version.map(i32::unsigned_abs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::embedded::tests::TestServer;

    #[tokio::test]
    async fn of_four_at_once_one_migrates_and_all_succeed() {
        let server = TestServer::start();
        let database = server.database();
        let found = check(&database).await.expect("an answer");
        assert_eq!(found, SchemaState::Behind { found: None });

        let (a, b, c, d) = tokio::join!(
            migrate(&database),
            migrate(&database),
            migrate(&database),
            migrate(&database)
        );
        let to = expected_version();
        let all = [a, b, c, d].map(|outcome| outcome.expect("every replica goes on"));
        assert_eq!(all.iter().filter(|a| **a == Applied { from: None, to }).count(), 1);
        assert_eq!(all.iter().filter(|a| **a == Applied { from: Some(to), to }).count(), 3);
        assert_eq!(check(&database).await.expect("an answer"), SchemaState::Current);

        let client = database.client().await.expect("a connection");
        client
            .execute("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1", &[])
            .await
            .expect("a changed checksum");
        let error = migrate(&database).await.expect_err("a changed migration");
        assert!(error.to_string().contains("was changed after"), "{error}");

        client
            .execute(
                "INSERT INTO refinery_schema_history SELECT $1, 'later', applied_on, '1'
                 FROM refinery_schema_history LIMIT 1",
                &[&(to as i32 + 1)],
            )
            .await
            .expect("a later migration");
        let later = Applied { from: Some(to + 1), to: to + 1 };
        assert_eq!(migrate(&database).await.expect("left alone"), later);
        let state = check(&database).await.expect("an answer");
        assert_eq!(state, SchemaState::Ahead { found: to + 1 });
    }
}
