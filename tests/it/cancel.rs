//! Cancelling, in every phase: the run ends at once, what is stored stays.

use serde_json::Value;
use strandline::db::{self, TaskKind};
use strandline::job::WorkLimits;
use uuid::Uuid;

use crate::harness::{
    DEFAULT_LIMITS, HOUR, TestApp, TestTopic, count_files, record, until_someone_waits,
};

async fn cancel(app: &TestApp, snapshot: &Value) -> (u16, Value) {
    let path = snapshot["links"]["self"].as_str().expect("a path");
    app.post(&format!("{path}/cancel"), &Value::Null).await
}

async fn topic_of_400() -> TestTopic {
    let topic = TestTopic::create(1, &[]).await;
    let records: Vec<_> = (0..400).map(|i| record(0, i, &format!("{i}").repeat(40))).collect();
    topic.produce(&records).await;
    topic.produce(&[record(0, HOUR, "end")]).await;
    topic
}

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once_and_asking_again_goes_on() {
    let app = TestApp::spawn().await;
    let topic = topic_of_400().await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    let (status, cancelled) = cancel(&app, &asked).await;
    assert_eq!((status, &cancelled["state"]), (202, &"cancelled".into()));
    assert!(cancelled["finished_at"].is_string());
    assert_eq!(cancelled["error"], Value::Null);
    let (status, again) = cancel(&app, &asked).await;
    assert_eq!((status, &again), (200, &cancelled), "it had ended already");
    assert!(!app.work_once().await, "nothing is left to do");
    let path = asked["links"]["result"].as_str().expect("a path");
    let (status, problem) = app.get(path).await;
    assert_eq!((status, &problem["code"]), (410, &"SNAPSHOT_CANCELLED".into()));
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!((&snapshot["state"], &snapshot["run"]), (&"succeeded".into(), &2.into()));
    let (status, _) = cancel(&app, &snapshot).await;
    assert_eq!(status, 200, "a success stays one");
}

#[tokio::test]
async fn what_is_stored_stays_and_is_not_read_again() {
    let limits = WorkLimits { target_file_bytes: 4096, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let topic = topic_of_400().await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    // The plan, and the first of the tasks.
    assert!(app.work_once().await && app.work_once().await);
    let (status, cancelled) = cancel(&app, &asked).await;
    assert_eq!((status, &cancelled["state"]), (202, &"cancelled".into()));
    let stored = app.events(&asked).await.len();
    assert!(stored > 0 && stored < 400, "{stored}");
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 400);
    assert_eq!(snapshot["result"]["records_added"], 400 - stored);
}

#[tokio::test]
async fn a_worker_in_the_middle_stops_and_leaves_nothing_behind() {
    let app = TestApp::spawn().await;
    let topic = topic_of_400().await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    assert!(app.work_once().await, "the plan");
    let claimed = db::claim_task(app.db(), "slow", Uuid::new_v4(), 3600, None).await;
    let task = claimed.expect("a claim").expect("the read task");
    assert_eq!(task.kind, TaskKind::Read);
    let (status, _) = cancel(&app, &asked).await;
    assert_eq!(status, 202);
    let renewed = db::renew_lease(app.db(), task.lease, 3600, db::Progress::default()).await;
    assert_eq!(renewed.expect("an answer"), db::LeaseState::Lost);
    assert_eq!(count_files(app.files()), 0);
}

/// Whatever instant the cancel hits, there is one outcome, and it fits what is stored.
#[tokio::test]
async fn cancels_that_race_with_the_work_have_one_outcome() {
    let limits = WorkLimits { target_file_bytes: 8192, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let topic = topic_of_400().await;
    let _workers = app.start_workers(3);
    let (mut cancelled, mut succeeded) = (0, 0);
    for i in 0..60 {
        let (_, asked) = app.ask(&topic.name, 6 * i, 6 * i + 6).await;
        // Sooner or later within what a run takes: a request of any kind is a pause.
        for _ in 0..i % 20 {
            app.get("/livez").await;
        }
        let (status, answer) = cancel(&app, &asked).await;
        let path = asked["links"]["self"].as_str().expect("a path");
        let (_, after) = app.get(path).await;
        match status {
            202 => {
                assert_eq!(after["state"], "cancelled", "{after}");
                cancelled += 1;
            }
            _ => {
                assert_eq!((status, &answer["state"]), (200, &"succeeded".into()), "{answer}");
                assert_eq!(after["result"]["records"], 6);
                succeeded += 1;
            }
        }
    }
    assert!(cancelled > 0, "{cancelled} cancelled, {succeeded} succeeded");
    for i in 0..60 {
        let (_, asked) = app.ask(&topic.name, 6 * i, 6 * i + 6).await;
        let path = format!("{}?wait=60", asked["links"]["self"].as_str().expect("a path"));
        let (_, snapshot) = app.get(&path).await;
        assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
        assert_eq!(snapshot["result"]["records"], 6);
    }
}

#[tokio::test]
async fn there_is_nothing_to_cancel_where_there_is_no_snapshot() {
    let app = TestApp::spawn().await;
    let (status, problem) =
        app.post(&format!("/v1/snapshots/{}/cancel", Uuid::now_v7()), &Value::Null).await;
    assert_eq!((status, &problem["code"]), (404, &"NOT_FOUND".into()));
    assert_eq!(app.post("/v1/snapshots/x/cancel", &Value::Null).await.0, 404);
}

/// A worker is just making tasks: those too go with the run.
#[tokio::test]
async fn tasks_that_are_being_made_go_as_well() {
    let app = TestApp::spawn().await;
    let topic = topic_of_400().await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    let mut client = app.db().client().await.expect("a connection");
    let planning = client.transaction().await.expect("begun");
    let make = "WITH plan AS (SELECT * FROM tasks FOR UPDATE)
        INSERT INTO tasks (snapshot_id, run, kind) SELECT snapshot_id, run, 'read' FROM plan";
    assert_eq!(planning.execute(make, &[]).await.expect("made"), 1);
    let cancelling = cancel(&app, &asked);
    tokio::pin!(cancelling);
    tokio::select! {
        answer = &mut cancelling => panic!("it did not wait: {answer:?}"),
        () = until_someone_waits(&app) => {}
    }
    planning.commit().await.expect("committed");
    assert_eq!(cancelling.await.0, 202);
    let left = client.query_one("SELECT count(*) FROM tasks", &[]).await.expect("counted");
    assert_eq!(left.get::<_, i64>(0), 0);
}
