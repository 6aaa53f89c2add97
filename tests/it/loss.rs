//! Retention took some of it, or all of it, before or between the runs.

use serde_json::json;

use crate::harness::{HOUR, TestApp, TestTopic, at, record};

#[tokio::test]
async fn everything_retired_is_no_loop_and_nothing_new() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "c")]).await;
    topic.delete_below(0, 3).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["result"]["records"], 0);
    assert_eq!(snapshot["result"]["uncertain_partitions"], 1);
    let again = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(again["id"], snapshot["id"]);
    assert_eq!(again["result"]["uncertain_partitions"], 1, "it stays uncertain");
}

#[tokio::test]
async fn what_was_stored_before_stays_and_the_rest_is_added() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(early["result"]["records"], 2);
    assert_eq!(early["completeness"], "settled");
    let files = app.detail(&early, "files").await;
    topic.produce(&[record(0, 2, "c"), record(0, 3, "d"), record(0, HOUR, "next")]).await;
    // Retention takes what is stored, and one event (offset 2) that is not.
    topic.delete_below(0, 3).await;
    let late = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(late["id"], early["id"]);
    assert_eq!(late["completeness"], "sealed");
    assert_eq!(late["result"]["records"], 3);
    assert_eq!(late["result"]["records_added"], 1);
    assert_eq!(late["result"]["lost_offsets"], 1);
    assert_eq!(late["result"]["uncertain_partitions"], 0);
    let values: Vec<_> = app.events(&late).await.iter().map(|e| e["value"].clone()).collect();
    assert_eq!(values, ["a", "b", "d"]);
    let after = app.detail(&late, "files").await;
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], files[0], "a file is never changed or replaced");
}

#[tokio::test]
async fn everything_retired_after_it_was_stored_takes_nothing_away() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    let early = app.snapshot(&topic.name, 0, HOUR).await;
    topic.delete_below(0, 2).await;
    let late = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(late["run"], 2);
    assert_eq!(late["state"], "succeeded");
    assert_eq!(late["result"]["records"], 2);
    assert_eq!(late["result"]["records_added"], 0);
    assert_eq!(late["result"]["lost_offsets"], 0);
    assert_eq!(app.events(&late).await, app.events(&early).await);
}

#[tokio::test]
async fn on_loss_fail_first_stores_what_is_left() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "c")]).await;
    topic.delete_below(0, 1).await;
    let mut body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR),
        "on_loss": "fail"});
    let (_, asked) = app.post("/v1/snapshots", &body).await;
    app.work().await;
    let path = asked["links"]["self"].as_str().expect("a path");
    let (_, failed) = app.get(path).await;
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["error"]["code"], "DATA_LOST");
    assert_eq!(failed["error"]["retryable"], false);
    assert!(failed["error"]["message"].as_str().expect("text").contains("on_loss: report"));
    assert_eq!(app.events(&failed).await.len(), 1, "what is left is stored");
    body["on_loss"] = json!("report");
    let (status, _) = app.post("/v1/snapshots", &body).await;
    assert_eq!(status, 202, "a failed snapshot is run again");
    app.work().await;
    let (_, accepted) = app.get(path).await;
    assert_eq!(accepted["state"], "succeeded");
    assert_eq!(accepted["result"]["records"], 1);
    assert_eq!(accepted["result"]["uncertain_partitions"], 1);
}

#[tokio::test]
async fn an_earlier_window_makes_the_start_of_the_next_certain() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "b"), record(0, HOUR + 1, "c")]).await;
    app.snapshot(&topic.name, 0, HOUR).await;
    topic.produce(&[record(0, 2 * HOUR, "d")]).await;
    topic.delete_below(0, 2).await;
    let next = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(next["result"]["records"], 1);
    assert_eq!(next["result"]["lost_offsets"], 1, "{next}");
    assert_eq!(next["result"]["uncertain_partitions"], 0);
}

#[tokio::test]
async fn what_is_deleted_between_plan_and_read_is_counted_exactly() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    let records: Vec<_> = (0..10).map(|i| record(i % 2, i64::from(i), &i.to_string())).collect();
    topic.produce(&records).await;
    topic.produce(&[record(0, HOUR, "end"), record(1, HOUR, "end")]).await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    assert!(app.work_once().await, "the plan");
    topic.delete_below(0, 3).await;
    topic.delete_below(1, 6).await;
    app.work().await;
    let (_, snapshot) = app.get(asked["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(
        (&snapshot["state"], &snapshot["completeness"]),
        (&json!("succeeded"), &json!("sealed"))
    );
    assert_eq!(snapshot["result"]["lost_offsets"], 8);
    assert_eq!(snapshot["result"]["uncertain_partitions"], 0);
    let values: Vec<_> = app.events(&snapshot).await.iter().map(|e| e["value"].clone()).collect();
    assert_eq!(values, ["6", "8"]);
}
