//! The sealer: what arrives after a run ends up in its window, unasked.

use serde_json::{Value, json};
use strandline::job::WorkLimits;

use crate::harness::{DEFAULT_LIMITS, HOUR, TestApp, TestTopic, TransactionEnd, record};

async fn again(app: &TestApp, snapshot: &Value) -> Value {
    app.get(snapshot["links"]["self"].as_str().expect("a path")).await.1
}

#[tokio::test]
async fn what_arrives_between_an_early_run_and_the_boundary_is_in_the_window() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(1, 0, "b")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!((&early["run"], &early["result"]["records"]), (&json!(1), &json!(2)));
    assert_eq!(app.seal().await, 0, "nothing has moved");
    topic.produce(&[record(0, 5, "c")]).await;
    assert_eq!(app.seal().await, 1, "an event has arrived below the boundary");
    let grown = again(&app, &early).await;
    assert_eq!((&grown["state"], &grown["run"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(
        (&grown["result"]["records"], &grown["result"]["records_added"]),
        (&json!(3), &json!(1))
    );
    topic.produce(&[record(0, 6, "d"), record(0, HOUR, "end"), record(0, HOUR + 1, "x")]).await;
    assert_eq!(app.seal().await, 1, "one boundary exists");
    let half = again(&app, &early).await;
    assert_eq!((&half["completeness"], &half["result"]["records"]), (&json!("settled"), &json!(4)));
    topic.produce(&[record(0, HOUR + 2, "y")]).await;
    assert_eq!(app.seal().await, 0, "only a partition that is sealed has moved");
    topic.produce(&[record(1, HOUR, "end")]).await;
    assert_eq!(app.seal().await, 1);
    let sealed = again(&app, &early).await;
    assert_eq!(
        (&sealed["completeness"], &sealed["result"]["records"]),
        (&json!("sealed"), &json!(4))
    );
    topic.produce(&[record(0, 7, "late, of a later window"), record(1, 2 * HOUR, "z")]).await;
    assert_eq!(app.seal().await, 0, "a sealed snapshot is left alone");
}

#[tokio::test]
async fn provisional_becomes_settled_when_the_grace_is_over() {
    // The grace of the first application is not over before the year 2055.
    let limits = WorkLimits { grace_seconds: 1_000_000_000, ..DEFAULT_LIMITS };
    let mut app = TestApp::spawn_with(limits).await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(early["completeness"], "provisional");
    assert_eq!(app.seal().await, 0);
    app.shells.limits.grace_seconds = 0;
    assert_eq!(app.seal().await, 1);
    assert_eq!(again(&app, &early).await["completeness"], "settled");
    assert_eq!(app.seal().await, 0, "once is enough");
}

#[tokio::test]
async fn an_open_transaction_keeps_it_provisional_without_a_run_each_round() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    let open = topic.transaction(&[record(0, 1, "open")], TransactionEnd::LeaveOpen).await;
    let held = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(
        (&held["completeness"], &held["result"]["records"]),
        (&json!("provisional"), &json!(0))
    );
    assert_eq!(app.seal().await, 0);
    rdkafka::producer::Producer::commit_transaction(&open, std::time::Duration::from_secs(30))
        .expect("committed");
    topic.until_stable(0, 2);
    assert_eq!(app.seal().await, 1);
    assert_eq!(again(&app, &held).await["result"]["records"], 1);
}

#[tokio::test]
async fn a_request_that_meets_a_run_of_the_sealer_makes_it_its_own() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    topic.produce(&[record(0, 1, "b")]).await;
    assert_eq!(app.seal_round().await, 1);
    let hidden = again(&app, &early).await;
    assert_eq!((&hidden["state"], &hidden["run"]), (&json!("succeeded"), &json!(1)));
    let (status, joined) = app.ask(&topic.name, 0, HOUR).await;
    assert_eq!((status, &joined["state"], &joined["run"]), (202, &json!("queued"), &json!(2)));
    app.work().await;
    let done = again(&app, &early).await;
    assert_eq!((&done["run"], &done["result"]["records"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn a_failed_run_of_the_sealer_shows_in_last_error_alone() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    topic.produce(&[record(0, 1, "b")]).await;
    assert_eq!(app.seal_round().await, 1);
    topic.delete().await;
    topic.until_gone();
    app.work().await;
    let after = again(&app, &early).await;
    assert_eq!((&after["state"], &after["run"]), (&json!("succeeded"), &json!(1)));
    assert_eq!((&after["error"], &after["result"]), (&Value::Null, &early["result"]));
    assert_eq!(after["last_error"]["code"], "TOPIC_NOT_FOUND");
    assert_eq!(app.seal().await, 0, "a topic that is gone leaves its snapshots as they are");
}

#[tokio::test]
async fn a_round_meets_a_topic_that_was_made_again() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "old"), record(0, HOUR, "end")]).await;
    let old = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(old["completeness"], "sealed");
    topic.recreate(1).await;
    assert_eq!(app.ask(&topic.name, 0, HOUR).await.1["id"], old["id"], "nobody has looked yet");
    app.seal().await;
    let (status, new) = app.ask(&topic.name, 0, HOUR).await;
    assert_eq!(status, 202);
    assert_ne!(new["id"], old["id"]);
}
