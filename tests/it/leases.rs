//! Leases: a worker that is silent loses its task, and can't write any more.

use strandline::db::{
    self, ClaimedTask, CommitOutcome, LastOfTask, LeaseState, NewFile, NewSegment, Progress,
    RetryOutcome, SnapshotRequest, TaskKind,
};
use strandline::job::WorkLimits;
use strandline::snapshot::{
    Capture, Failure, FailureKind, OffsetRange, OnLoss, PartitionRange, RangeTally, Timestamp,
    TopicName, Window,
};
use uuid::Uuid;

use crate::harness::{DAY, DEFAULT_LIMITS, HOUR, TestApp, TestTopic, expire_leases, record};

async fn claim(app: &TestApp) -> Option<ClaimedTask> {
    db::claim_task(app.db(), "dead", Uuid::new_v4(), 3600, None).await.expect("a claim")
}

/// A worker that did the plan of a window and died when it had claimed the read task.
async fn died_before_reading(app: &TestApp, topic: &str) -> ClaimedTask {
    let request = SnapshotRequest {
        cluster: "default".to_owned(),
        topic: TopicName::parse(topic).expect("a name"),
        window: Window::new(Timestamp::from_millis(DAY), Timestamp::from_millis(DAY + HOUR))
            .expect("a window"),
        capture: Capture::Events,
        on_loss: OnLoss::Report,
        labels: None,
    };
    db::request_snapshot(app.db(), &request, Uuid::now_v7(), None, &db::QueueLimit::new(10))
        .await
        .expect("asked");
    let plan = claim(app).await.expect("the plan");
    assert_eq!(plan.kind, TaskKind::Plan);
    assert!(claim(app).await.is_none(), "a task that is leased is not free");
    db::release_task(app.db(), plan.lease).await.expect("given back");
    assert!(app.work_once().await, "a worker does the plan");
    let read = claim(app).await.expect("the read task");
    assert_eq!(read.kind, TaskKind::Read);
    read
}

fn segment(start: i64, end: i64) -> NewSegment {
    NewSegment {
        part: PartitionRange { partition: 0, range: OffsetRange::new(start, end) },
        tally: RangeTally::default(),
    }
}

#[tokio::test]
async fn a_dead_workers_task_is_done_by_another_and_the_zombie_changes_nothing() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "end")]).await;
    let zombie = died_before_reading(&app, &topic.name).await;
    app.work().await;
    let (_, waiting) = app.get(&format!("/v1/snapshots/{}", zombie.snapshot_id)).await;
    assert_eq!(waiting["state"], "running", "the lease still holds");
    expire_leases(&app).await;
    app.work().await;
    let (_, snapshot) = app.get(&format!("/v1/snapshots/{}", zombie.snapshot_id)).await;
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["result"]["records"], 2);

    let key = zombie.topic_key.expect("planned");
    let progress = Progress::default();
    let segments = [segment(100, 200)];
    let outcome =
        db::commit_file(app.db(), &zombie, key, None, &segments, progress, LastOfTask::Yes).await;
    assert_eq!(outcome.expect("an answer"), CommitOutcome::LeaseLost);
    let renewed = db::renew_lease(app.db(), zombie.lease, 30, progress).await;
    assert_eq!(renewed.expect("an answer"), LeaseState::Lost);
    let failure = Failure::new(FailureKind::Internal, "zombie");
    let retried = db::retry_task(app.db(), zombie.lease, &failure, 0.0, 10).await;
    assert_eq!(retried.expect("an answer"), RetryOutcome::LeaseLost);
    assert!(db::fail_run(app.db(), &zombie, &failure).await.expect("an answer").is_none());
    let (_, after) = app.get(&format!("/v1/snapshots/{}", zombie.snapshot_id)).await;
    assert_eq!(after, snapshot);
}

#[tokio::test]
async fn an_expired_lease_can_not_commit_even_if_nobody_took_over() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let task = died_before_reading(&app, &topic.name).await;
    expire_leases(&app).await;
    let key = task.topic_key.expect("planned");
    let outcome = db::commit_file(
        app.db(),
        &task,
        key,
        None,
        &[segment(0, 1)],
        Progress::default(),
        LastOfTask::Yes,
    )
    .await;
    assert_eq!(outcome.expect("an answer"), CommitOutcome::LeaseLost);
}

#[tokio::test]
async fn a_commit_that_meets_stored_offsets_changes_nothing() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "end")]).await;
    let task = died_before_reading(&app, &topic.name).await;
    let key = task.topic_key.expect("planned");
    let commit = |segments: Vec<NewSegment>, last| {
        let (app, task) = (&app, &task);
        async move {
            let progress = Progress::default();
            db::commit_file(app.db(), task, key, None, &segments, progress, last)
                .await
                .expect("an answer")
        }
    };
    assert_eq!(commit(vec![segment(0, 1)], LastOfTask::No).await, CommitOutcome::Committed);
    assert_eq!(commit(vec![segment(0, 2)], LastOfTask::Yes).await, CommitOutcome::Conflict);
    let unread = db::unread_ranges(app.db(), &task, key).await.expect("ranges");
    assert_eq!(unread, [PartitionRange { partition: 0, range: OffsetRange::new(1, 2) }]);
    expire_leases(&app).await;
    app.work().await;
    let (_, snapshot) = app.get(&format!("/v1/snapshots/{}", task.snapshot_id)).await;
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["result"]["records"], 1, "offset 0 counts as read past");
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_task_back_at_once() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let task = died_before_reading(&app, &topic.name).await;
    assert!(claim(&app).await.is_none());
    db::release_task(app.db(), task.lease).await.expect("given back");
    let again = claim(&app).await.expect("free again");
    assert_eq!(again.lease.task_id, task.lease.task_id);
    assert!(again.lease.token > task.lease.token);
}

#[tokio::test]
async fn an_expired_lease_can_not_be_renewed_even_if_nobody_took_over() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let task = died_before_reading(&app, &topic.name).await;
    let renew = async || {
        let renewed = db::renew_lease(app.db(), task.lease, 3600, Progress::default()).await;
        renewed.expect("an answer")
    };
    assert_eq!(renew().await, LeaseState::Held);
    expire_leases(&app).await;
    assert_eq!(renew().await, LeaseState::Lost);
}

#[tokio::test]
async fn what_became_of_a_commit_can_be_asked() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let task = died_before_reading(&app, &topic.name).await;
    let key = task.topic_key.expect("planned");
    let file = NewFile {
        id: Uuid::new_v4(),
        object_name: "default/t/x/y/z.parquet".to_owned(),
        bytes: 1,
        sha256: [0; 32],
    };
    let visible = async || {
        let asked = db::file_is_visible(app.db(), task.lease, file.id).await;
        asked.expect("an answer")
    };
    assert!(!visible().await);
    let tally = RangeTally { records: 1, untimed_records: 1, ..RangeTally::default() };
    let segments = [NewSegment { tally, ..segment(0, 1) }];
    let progress = Progress::default();
    let outcome =
        db::commit_file(app.db(), &task, key, Some(&file), &segments, progress, LastOfTask::Yes);
    assert_eq!(outcome.await.expect("an answer"), CommitOutcome::Committed);
    assert!(visible().await, "also when the task has ended");
}

#[tokio::test]
async fn a_task_that_kills_its_workers_fails_its_run_in_the_end() {
    let mut app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let first = died_before_reading(&app, &topic.name).await;
    for deaths in 1..5 {
        expire_leases(&app).await;
        let again = claim(&app).await.expect("free again");
        assert_eq!((again.lease.task_id, again.deaths), (first.lease.task_id, deaths));
        assert!(again.failing_seconds.is_some());
    }
    assert!(claim(&app).await.is_none(), "the last one still holds it");
    expire_leases(&app).await;
    app.shells.limits.retry_seconds = 0;
    assert!(app.work_once().await);
    app.shells.limits = DEFAULT_LIMITS;
    let (_, snapshot) = app.get(&format!("/v1/snapshots/{}", first.snapshot_id)).await;
    assert_eq!(snapshot["state"], "failed");
    assert_eq!(snapshot["error"]["code"], "INTERNAL");
    let message = snapshot["error"]["message"].as_str().expect("a text");
    assert!(message.contains("died 5 times in a row"), "{message}");
    // Asked for again, it starts anew.
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["state"], "succeeded");
}

#[tokio::test]
async fn a_small_snapshot_overtakes_a_large_one_and_the_sealers_runs_yield() {
    let limits = WorkLimits { target_file_bytes: 4096, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let (large, small) = (TestTopic::create(1, &[]).await, TestTopic::create(1, &[]).await);
    let records: Vec<_> = (0..400).map(|i| record(0, i, "x")).collect();
    large.produce(&records).await;
    large.produce(&[record(0, HOUR, "end")]).await;
    small.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let (_, of_large) = app.ask(&large.name, 0, HOUR).await;
    assert!(app.work_once().await, "the large one is planned");
    let (_, of_small) = app.ask(&small.name, 0, HOUR).await;
    let state = async |of: &serde_json::Value| {
        let (_, now) = app.get(of["links"]["self"].as_str().expect("a path")).await;
        now["state"].as_str().expect("a state").to_owned()
    };
    let mut tasks = 0;
    while state(&of_small).await != "succeeded" {
        assert!(app.work_once().await);
        tasks += 1;
    }
    assert!(tasks <= 4 + 3, "four tasks that are due, then plan, read and finish: {tasks}");
    assert_eq!(state(&of_large).await, "running");
    app.work().await;
    assert_eq!(state(&of_large).await, "succeeded");

    // What the sealer asks for by itself is done after what people ask for.
    let (_, open) = app.ask(&small.name, HOUR, 2 * HOUR).await;
    app.work().await;
    small.produce(&[record(0, 2 * HOUR, "later")]).await;
    assert_eq!(app.seal_round().await, 1);
    let (_, asked) = app.ask(&large.name, 0, HOUR / 2).await;
    for _ in 0..3 {
        app.work_once().await;
    }
    assert_eq!(state(&asked).await, "succeeded");
    let (_, sealed) = app.get(open["links"]["self"].as_str().expect("a path")).await;
    assert_ne!(sealed["completeness"], "sealed");
    app.work().await;
    let (_, sealed) = app.get(open["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(sealed["completeness"], "sealed");
}

#[tokio::test]
async fn a_run_that_ended_leaves_no_tasks_and_keeps_its_progress() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "end")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let client = app.db().client().await.expect("a connection");
    let row = client.query_one("SELECT count(*) FROM tasks", &[]).await.expect("counted");
    assert_eq!(row.get::<_, i64>(0), 0);
    assert_eq!(snapshot["progress"]["offsets_done"], 2);
    assert_eq!(snapshot["progress"]["records"], 2);
    assert!(snapshot["progress"]["bytes"].as_i64() > Some(0));
}

#[tokio::test]
async fn a_zombie_can_not_write_while_another_has_its_task() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let zombie = died_before_reading(&app, &topic.name).await;
    expire_leases(&app).await;
    let heir = claim(&app).await.expect("free again");
    let key = zombie.topic_key.expect("planned");
    let commit = async |task: &ClaimedTask| {
        let (segments, progress) = ([segment(0, 1)], Progress::default());
        db::commit_file(app.db(), task, key, None, &segments, progress, LastOfTask::Yes)
            .await
            .expect("an answer")
    };
    assert_eq!(commit(&zombie).await, CommitOutcome::LeaseLost);
    // A token given out twice, as after a failover that lost the last commits.
    let mut twin = zombie.clone();
    twin.lease.token = heir.lease.token;
    assert_eq!(commit(&twin).await, CommitOutcome::LeaseLost);
    let renewed = db::renew_lease(app.db(), zombie.lease, 30, Progress::default()).await;
    assert_eq!(renewed.expect("an answer"), LeaseState::Lost);
    assert_eq!(commit(&heir).await, CommitOutcome::Committed);
}
