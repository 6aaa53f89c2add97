//! A private server for the tests of this shell, and the tests of its life.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::db::pool::{Database, PoolLimits};

/// A server in a folder of its own. Both are gone when it is dropped.
pub(crate) struct TestServer {
    postgres: EmbeddedPostgres,
    folder: tempfile::TempDir,
}

impl TestServer {
    /// Fails, saying what to install, where there are no server programs.
    pub(crate) fn start() -> TestServer {
        // Open to the account that runs the server if the tests are run by root.
        let folder = tempfile::Builder::new()
            .prefix("strandline-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        let postgres = EmbeddedPostgres::start(folder.path(), None, Sharing::Refuse);
        TestServer { postgres: postgres.unwrap_or_else(|e| panic!("{e}")), folder }
    }

    pub(crate) fn database_url(&self) -> &str {
        self.postgres.url()
    }

    pub(crate) fn database(&self) -> Database {
        Database::connect(self.postgres.url(), PoolLimits::default()).expect("its own url")
    }
}

fn kill_server(postgres: &EmbeddedPostgres) {
    let home = fs::canonicalize(postgres.data_dir.join("postgres")).expect("a home");
    let state = fs::read_to_string(home.join("data/postmaster.pid")).expect("a pid file");
    let pid = state.lines().next().expect("a pid");
    let killed = std::process::Command::new("sh").args(["-c", "kill -9 $0", pid]).status();
    assert!(killed.expect("a shell").success());
}

#[tokio::test]
async fn it_survives_restarts_and_crashes_and_has_one_owner() {
    let mut server = TestServer::start();
    let data_dir = server.folder.path().to_owned();
    let start = |sharing| EmbeddedPostgres::start(&data_dir, None, sharing);
    let database = server.database();
    let client = database.client().await.expect("a connection");
    client
        .batch_execute("CREATE TABLE kept (x int); INSERT INTO kept VALUES (1); -- more")
        .await
        .expect("a table");
    let fsync = client.query_one("SHOW fsync", &[]).await.expect("a setting");
    assert_eq!(fsync.get::<_, &str>(0), "on");
    drop(client);

    let refused = start(Sharing::Refuse).expect_err("it is in use").to_string();
    assert!(refused.contains("STRANDLINE_DATA_DIR"), "{refused}");
    let mut joined = start(Sharing::Join).expect("joined");
    assert!(!joined.is_owner());
    assert_eq!(joined.url(), server.postgres.url());
    joined.tend().expect("nothing to do");
    assert!(!joined.is_owner());

    kill_server(&server.postgres);
    let mut ended = || {
        let owned = server.postgres.owned.as_mut().expect("ours");
        Ok((!owned.server.is_running()).then_some(()))
    };
    wait_for(JOIN_PATIENCE, PAUSE, &mut ended).expect("looked").expect("killed");
    server.postgres.tend().expect("started again");
    let count = database.with_client(|client| async move {
        let row = client.query_one("-- count\nSELECT count(*) FROM kept", &[]).await;
        row.map(|row| row.get::<_, i64>(0))
            .map_err(|source| DbError::Statement { operation: "count", source })
    });
    assert_eq!(count.await.expect("the pool finds the new server"), 1);

    let TestServer { postgres, folder } = server;
    postgres.stop().expect("stopped");
    // A process that is being started at this moment may hold on to the lock until it runs.
    let mut take_over = || {
        joined.tend()?;
        Ok(joined.is_owner().then_some(()))
    };
    wait_for(JOIN_PATIENCE, PAUSE, &mut take_over).expect("tended").expect("taken over");
    database.ping().await.expect("the same url");
    joined.stop().expect("stopped");
    let error = database.ping().await.expect_err("nobody there");
    assert!(error.is_retryable(), "{error}");

    let home = fs::canonicalize(folder.path().join("postgres")).expect("a home");
    fs::write(home.join("data/PG_VERSION"), "9\n").expect("an old cluster");
    let refused = start(Sharing::Refuse).expect_err("another version").to_string();
    assert!(refused.contains("postgresql-9"), "{refused}");
}
