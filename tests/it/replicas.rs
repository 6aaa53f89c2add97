//! Several processes on one Postgres: who migrates, and old and new side by side.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strandline::db::{self, Database, PoolLimits};

use crate::harness::{HOUR, TestTopic, answer, at, empty_database, record};
use crate::process::{self, Serving, Starting, folder, strandline, text};

fn connect(url: &str) -> Database {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Database::connect(url, PoolLimits::default()).expect("a good URL")
}

async fn run_sql(db: &Database, sql: &str) {
    db.client().await.expect("a connection").batch_execute(sql).await.expect(sql);
}

/// The schema as a later version may leave it: expanded, and known by a higher number.
async fn migrate_into_the_future(db: &Database) -> u32 {
    let tables = "SELECT relname FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
           AND relname <> 'refinery_schema_history'";
    let client = db.client().await.expect("a connection");
    // One transaction each: all in one could deadlock with the replica that is at work.
    for row in client.query(tables, &[]).await.expect("the tables") {
        let name: String = row.get(0);
        run_sql(db, &format!("ALTER TABLE {name} ADD COLUMN from_later int DEFAULT 7")).await;
    }
    let later = db::expected_version() + 1;
    let known = format!(
        "CREATE TABLE later (id int PRIMARY KEY);
         INSERT INTO refinery_schema_history
             SELECT {later}, 'later', applied_on, '1' FROM refinery_schema_history LIMIT 1"
    );
    run_sql(db, &known).await;
    later
}

/// Asks for a window and waits until it is stored.
async fn store(serving: &Serving, topic: &str, start: i64, end: i64) -> Value {
    let body = json!({"topic": topic, "window_start": at(start), "window_end": at(end)});
    let url = format!("{}/v1/snapshots?expect=succeeded", serving.url);
    let (status, snapshot) = answer(reqwest::Client::new().post(url).json(&body)).await;
    assert_eq!(status, 200, "{snapshot}");
    snapshot
}

async fn ready(serving: &Serving) -> (u16, Value) {
    answer(reqwest::Client::new().get(format!("{}/readyz", serving.url))).await
}

/// Exit code and what was said, of `strandline health` about a server.
fn health(serving: &Serving, folder: &Path) -> (Option<i32>, String) {
    let mut command = strandline(&["health"], folder);
    command.env("STRANDLINE_LISTEN", serving.url.trim_start_matches("http://"));
    let output = command.output().expect("it runs");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test]
async fn of_five_processes_on_an_empty_database_one_migrates_and_all_go_on() {
    let url = empty_database().await;
    let folder = folder();
    let database = [("STRANDLINE_DATABASE_URL", url.as_str())];
    let migrating: Vec<_> = (0..2)
        .map(|_| {
            let mut command = strandline(&["migrate", "--log", "info"], folder.path());
            command.envs(database).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        })
        .collect();
    let starting: Vec<_> = (0..3).map(|_| Starting::launch(folder.path(), &database)).collect();

    let serving: Vec<_> = starting.into_iter().map(Starting::until_serving).collect();
    let mut logs: Vec<String> = serving.iter().map(|one| one.log()).collect();
    let version = db::expected_version();
    for child in migrating {
        let output = child.wait_with_output().expect("it ends");
        logs.push(text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = format!("the database's schema is at version {version}\n");
        assert_eq!(text(&output.stdout), said);
    }
    for one in &serving {
        assert_eq!(ready(one).await.0, 200);
    }
    let migrated = logs.iter().filter(|log| log.contains("migrated the database")).count();
    assert_eq!(migrated, 1, "{logs:#?}");
    let client = connect(&url).client().await.expect("a connection");
    let rows = client.query_one("SELECT count(*) FROM refinery_schema_history", &[]).await;
    assert_eq!(rows.expect("a count").get::<_, i64>(0), i64::from(version));
}

#[tokio::test]
async fn a_replica_that_waits_for_anothers_migration_can_be_stopped() {
    let url = empty_database().await;
    let folder = folder();
    let client = connect(&url).client().await.expect("a connection");
    // What whoever migrates holds.
    let lock = i64::from_be_bytes(*b"strandln");
    client.execute("SELECT pg_advisory_lock($1)", &[&lock]).await.expect("the lock");
    let starting = Starting::launch(folder.path(), &[("STRANDLINE_DATABASE_URL", &url)]);
    let mut serving = starting.until_it_says("another replica migrates the database");
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0), "{}", serving.log());
}

#[tokio::test]
async fn an_old_program_works_beside_a_later_schema() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "b"), record(0, 2 * HOUR, "x")]).await;
    let url = empty_database().await;
    let folder = folder();
    let database = [("STRANDLINE_DATABASE_URL", url.as_str())];
    let early = Serving::start_with(folder.path(), &database);
    let later = migrate_into_the_future(&connect(&url)).await;

    assert_eq!(ready(&early).await.0, 200);
    assert_eq!(store(&early, &topic.name, 0, HOUR).await["result"]["records"], 1);
    // One that starts only now finds the schema ahead, says so, and works as well.
    let late = Serving::start_with(folder.path(), &database);
    assert!(late.log().contains("the schema is ahead of this program"), "{}", late.log());
    assert_eq!(ready(&late).await.0, 200);
    let both = store(&late, &topic.name, 0, 2 * HOUR).await;
    assert_eq!(
        (&both["result"]["records"], &both["result"]["records_added"]),
        (&2.into(), &1.into())
    );
    assert_eq!(health(&late, folder.path()), (Some(0), "ok\n".to_owned()));

    let mut migrate = strandline(&["migrate"], folder.path());
    let output = migrate.envs(database).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = format!("the database's schema is at version {later}\n");
    assert_eq!(text(&output.stdout), said, "and is left there");
}

#[tokio::test]
async fn a_schema_that_is_behind_takes_a_replica_out_of_service_until_it_is_there() {
    let url = empty_database().await;
    let folder = folder();
    let serving = Serving::start_with(folder.path(), &[("STRANDLINE_DATABASE_URL", &url)]);
    assert_eq!(ready(&serving).await.0, 200);
    assert_eq!(health(&serving, folder.path()).0, Some(0));

    // As if the database had been put back to an older copy.
    let db = connect(&url);
    run_sql(&db, "ALTER TABLE refinery_schema_history RENAME TO elsewhere").await;
    let (status, problem) = ready(&serving).await;
    assert_eq!((status, &problem["code"]), (503, &"DATABASE_UNAVAILABLE".into()), "{problem}");
    let detail = problem["detail"].as_str().expect("a reason");
    assert!(detail.contains("older than this program; run strandline migrate"), "{detail}");
    let (code, said) = health(&serving, folder.path());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("strandline: http://127.0.0.1:") && said.contains(detail), "{said}");
    let livez = answer(reqwest::Client::new().get(format!("{}/livez", serving.url))).await;
    assert_eq!(livez.0, 200, "a restart would mend nothing");

    run_sql(&db, "ALTER TABLE elsewhere RENAME TO refinery_schema_history").await;
    assert_eq!(ready(&serving).await.0, 200);
}

/// Waits until a token is refused; it counted until now.
async fn until_refused(serving: &Serving, secret: &str) {
    let list = || reqwest::Client::new().get(format!("{}/v1/snapshots", serving.url));
    process::until_refused(|| list().bearer_auth(secret)).await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_soon_if_nobody_tells() {
    let url = empty_database().await;
    let folder = folder();
    let serving = Serving::start_with(folder.path(), &[("STRANDLINE_DATABASE_URL", &url)]);
    let db = connect(&url);
    let names = ["first", "told-1", "told-2", "told-3", "told-4", "told-5", "last"];
    let secrets = names.map(|name| {
        let mut command =
            strandline(&["token", "create", "--scope", "read", "--name", name], folder.path());
        let output = command.env("STRANDLINE_DATABASE_URL", &url).output().expect("it runs");
        text(&output.stdout).trim_end().to_owned()
    });
    for secret in &secrets {
        let list = reqwest::Client::new().get(format!("{}/v1/snapshots", serving.url));
        assert_eq!(answer(list.bearer_auth(secret)).await.0, 200);
    }
    let mut took = Vec::new();
    for (name, secret) in names.iter().zip(&secrets).take(6) {
        let revoked_at = Instant::now();
        assert!(db::revoke_token(&db, name).await.expect("revoked"));
        until_refused(&serving, secret).await;
        took.push(revoked_at.elapsed());
    }
    // After the first it has just looked, each time: by itself it would look again only in five
    // seconds. A busy machine may hold up some.
    assert!(took[1..].iter().any(|took| *took < Duration::from_secs(4)), "nobody told: {took:?}");
    run_sql(&db, "UPDATE tokens SET revoked_at = now() WHERE name = 'last'").await;
    until_refused(&serving, &secrets[6]).await;
}

#[tokio::test]
async fn where_nobody_tells_of_anything_all_is_found_a_little_later() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "b")]).await;
    let url = empty_database().await;
    let folder = folder();
    let serving = Serving::start_with(folder.path(), &[("STRANDLINE_DATABASE_URL", &url)]);
    let db = connect(&url);
    run_sql(&db, "ALTER TABLE tasks DISABLE TRIGGER tasks_made").await;
    run_sql(&db, "ALTER TABLE runs DISABLE TRIGGER runs_ended").await;
    // Without looking by itself the answer would come after five minutes.
    let stored =
        tokio::time::timeout(Duration::from_secs(60), store(&serving, &topic.name, 0, HOUR));
    assert_eq!(stored.await.expect("in time")["result"]["records"], 1);
}
