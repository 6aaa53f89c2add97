//! The sweeper: takes what nobody will ever name, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use strandline::db::{self, CommitOutcome, LastOfTask, NewFile, NewSegment};
use strandline::job::{Shells, WorkLimits, sweep_round, tell_round};
use strandline::snapshot::{OffsetRange, PartitionRange, RangeTally};
use strandline::store::OwnerClaim;
use strandline::store::layout::object_name;
use uuid::Uuid;

use crate::harness::{
    DAY, DEFAULT_LIMITS, HOUR, PATIENCE, TestApp, TestTopic, count_files, expire_leases, record,
    until_someone_waits,
};

/// An orphan is one at once.
const NO_GRACE: WorkLimits = WorkLimits { orphan_grace_seconds: 0, ..DEFAULT_LIMITS };

async fn sweep(app: &TestApp) -> u64 {
    sweep_round(&app.shells, Duration::ZERO).await.expect("a round")
}

/// An object as this attempt would have named it.
async fn leave(app: &TestApp, attempt: Uuid) -> String {
    let topic = strandline::snapshot::TopicName::parse("orders").expect("a name");
    let start = strandline::snapshot::Timestamp::from_millis(DAY);
    let name = object_name("default", &topic, Uuid::from_u128(7), start, attempt, 1);
    let mut object = app.shells.store.create(&name).await.expect("begun");
    object.write("left behind".into()).await.expect("written");
    object.finish().await.expect("there");
    name
}

fn is_there(app: &TestApp, name: &str) -> bool {
    app.files().join(name).exists()
}

#[tokio::test]
async fn orphans_go_and_files_with_a_name_stay() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let orphan = leave(&app, Uuid::new_v4()).await;
    assert_eq!(count_files(app.files()), 2);
    assert_eq!(sweep(&app).await, 1);
    assert!(!is_there(&app, &orphan));
    assert_eq!(count_files(app.files()), 1);
    assert_eq!(app.events(&snapshot).await.len(), 1);
    assert_eq!(sweep(&app).await, 0);
}

#[tokio::test]
async fn what_is_young_stays_however_dead_its_worker() {
    let app = TestApp::spawn().await;
    let orphan = leave(&app, Uuid::new_v4()).await;
    assert_eq!(sweep(&app).await, 0);
    assert!(is_there(&app, &orphan));
}

#[tokio::test]
async fn what_a_live_attempt_writes_stays_however_old() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let topic = TestTopic::create(1, &[]).await;
    app.ask(&topic.name, 0, HOUR).await;
    let claimed = db::claim_task(app.db(), "slow", Uuid::new_v4(), 3600, None).await;
    let task = claimed.expect("a claim").expect("a task");
    let object = leave(&app, task.lease.attempt_id).await;
    assert_eq!(sweep(&app).await, 0);
    assert!(is_there(&app, &object));
    expire_leases(&app).await;
    assert_eq!(sweep(&app).await, 0, "a commit that began in time may still land");
    let heir = db::claim_task(app.db(), "heir", Uuid::new_v4(), 3600, None).await;
    assert_eq!(heir.expect("a claim").expect("free again").lease.task_id, task.lease.task_id);
    assert_eq!(sweep(&app).await, 1, "now its worker can't commit any more");
    assert!(!is_there(&app, &object));
}

#[tokio::test]
async fn what_bears_no_name_of_ours_stays() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let others = ["notes.txt", "default/orders/x.parquet", "a/b/c/d/e.parquet"];
    for name in others {
        let path = app.files().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "somebody's").expect("written");
    }
    assert_eq!(sweep(&app).await, 0);
    assert!(others.iter().all(|name| is_there(&app, name)));
}

#[tokio::test]
async fn half_written_files_go_too() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let topic = strandline::snapshot::TopicName::parse("orders").expect("a name");
    let start = strandline::snapshot::Timestamp::from_millis(DAY);
    let name = object_name("default", &topic, Uuid::from_u128(7), start, Uuid::new_v4(), 1);
    for name in [name.as_str(), ".strandline-owner", ".strandline-generation"] {
        let path = app.files().join(format!("{name}#1"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, "half").expect("written");
        assert_eq!(sweep(&app).await, 1, "{name}");
        assert!(!path.exists(), "{name}");
    }
}

#[tokio::test]
async fn another_databases_store_is_left_alone() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let claimed = app.shells.store.claim_owner("postgres 1/1").await.expect("an answer");
    assert_eq!(claimed, OwnerClaim::Ours);
    let orphan = leave(&app, Uuid::new_v4()).await;
    assert_eq!(sweep(&app).await, 0);
    assert!(is_there(&app, &orphan), "it may be a file of the other's");
    std::fs::remove_file(app.files().join(".strandline-owner")).expect("removed");
    assert_eq!(sweep(&app).await, 1);
}

/// What a restore to an earlier state does to the database, as far as a store is concerned.
const FORGET_THE_LAST_COMMIT: &str = "
    UPDATE files SET object_name = 'forgotten'
        WHERE created_at = (SELECT max(created_at) FROM files);
    UPDATE sweeps SET generation = generation - 1";

#[tokio::test]
async fn what_a_restored_database_has_forgotten_stays() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "b"), record(0, 2 * HOUR, "end")]).await;
    let told = async |shells: &Shells| {
        tell_round(shells).await.expect("a round");
        shells.store.generation().await.expect("a number")
    };
    app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!((told(&app.shells).await, told(&app.shells).await), (1, 1), "once is enough");
    app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(told(&app.shells).await, 2);
    assert_eq!((sweep(&app).await, count_files(app.files())), (0, 2));

    let client = app.db().client().await.expect("a connection");
    client.batch_execute(FORGET_THE_LAST_COMMIT).await.expect("restored");
    assert_eq!((sweep(&app).await, count_files(app.files())), (0, 2));
    // The replicas that start on it take nothing of that away.
    let restarted = Shells { generation: Arc::default(), ..app.shells.clone() };
    assert_eq!(told(&restarted).await, 2);
    assert_eq!((sweep(&app).await, count_files(app.files())), (0, 2));

    std::fs::remove_file(app.files().join(".strandline-generation")).expect("removed");
    assert_eq!((sweep(&app).await, count_files(app.files())), (1, 1), "as it was told to");
    let restarted = Shells { generation: Arc::default(), ..app.shells.clone() };
    assert_eq!(told(&restarted).await, 2, "it begins anew");
}

#[tokio::test]
async fn one_replica_at_a_time_looks_through_the_store() {
    let app = TestApp::spawn().await;
    let turn = async |interval| db::begin_sweep(app.db(), interval).await.expect("an answer");
    assert!(turn(Duration::from_secs(60)).await, "nobody did before");
    assert!(!turn(Duration::from_secs(60)).await);
    assert!(turn(Duration::ZERO).await);
}

/// A commit checks its lease, then waits for its task's row; Postgres does not check again if
/// who had the row has written nothing. So it may land after the lease has run out.
#[tokio::test]
async fn a_commit_that_began_in_time_and_lands_late_keeps_its_object() {
    let app = TestApp::spawn_with(NO_GRACE).await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    app.ask(&topic.name, 0, HOUR).await;
    assert!(app.work_once().await, "the plan");
    let claimed = db::claim_task(app.db(), "slow", Uuid::new_v4(), 3600, None).await;
    let task = claimed.expect("a claim").expect("the read task");
    let name = leave(&app, task.lease.attempt_id).await;
    let mut client = app.db().client().await.expect("a connection");
    // Time enough for the commit to begin.
    let soon =
        "UPDATE tasks SET lease_expires_at = clock_timestamp() + interval '8 s' WHERE id = $1";
    client.execute(soon, &[&task.lease.task_id]).await.expect("a shorter lease");
    let reader = client.transaction().await.expect("begun");
    let hold = "SELECT FROM tasks WHERE id = $1 FOR SHARE";
    reader.query(hold, &[&task.lease.task_id]).await.expect("locked");

    let file =
        NewFile { id: Uuid::new_v4(), object_name: name.clone(), bytes: 11, sha256: [0; 32] };
    let tally = RangeTally { records: 1, untimed_records: 1, ..RangeTally::default() };
    let part = PartitionRange { partition: 0, range: OffsetRange::new(0, 1) };
    let (segments, progress) = ([NewSegment { part, tally }], db::Progress::default());
    let key = task.topic_key.expect("planned");
    let last = LastOfTask::Yes;
    let commit = db::commit_file(app.db(), &task, key, Some(&file), &segments, progress, last);
    tokio::pin!(commit);
    tokio::select! {
        outcome = &mut commit => panic!("it did not wait: {outcome:?}"),
        () = until_someone_waits(&app) => {}
    }
    let expired = "SELECT lease_expires_at <= clock_timestamp() FROM tasks WHERE id = $1";
    let over = async || -> bool {
        let row = reader.query_one(expired, &[&task.lease.task_id]).await.expect("asked");
        row.get(0)
    };
    let run_out = async {
        while !over().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, run_out).await.expect("the lease runs out");
    assert_eq!(sweep(&app).await, 0);
    reader.rollback().await.expect("let go");
    assert_eq!(commit.await.expect("an answer"), CommitOutcome::Committed);
    assert!(is_there(&app, &name));
    assert_eq!(sweep(&app).await, 0);
}
