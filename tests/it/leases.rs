//! Leases: a worker that is silent loses its task, and can't write any more.

use strandline::db::{
    self, ClaimedTask, CommitOutcome, LastOfTask, LeaseState, NewSegment, Progress, RetryOutcome,
    SnapshotRequest, TaskKind,
};
use strandline::snapshot::{
    Capture, Failure, FailureKind, OffsetRange, OnLoss, PartitionRange, RangeTally, Timestamp,
    TopicName, Window,
};
use uuid::Uuid;

use crate::harness::{DAY, HOUR, TestApp, TestTopic, expire_leases, record};

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
    db::request_snapshot(app.db(), &request, Uuid::now_v7(), 10).await.expect("asked");
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
    assert!(!db::end_run(app.db(), &zombie, Some(&failure)).await.expect("an answer"));
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
