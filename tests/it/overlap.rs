//! Windows that overlap or touch: every event is stored once and shared.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{HOUR, PATIENCE, Record, TestApp, TestTopic, at, record};

/// Asks for `[start, end)` and waits for its snapshot, which must succeed.
async fn take(app: &TestApp, topic: &str, start: i64, end: i64) -> Value {
    let body = json!({"topic": topic, "window_start": at(start), "window_end": at(end)});
    let deadline = Instant::now() + 5 * PATIENCE;
    while Instant::now() < deadline {
        let (status, snapshot) = app.post("/v1/snapshots?wait=60", &body).await;
        match status {
            202 => {}
            // Eight workers at once may keep a small machine from answering in time.
            503 => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => {
                assert_eq!((status, &snapshot["state"]), (200, &json!("succeeded")), "{snapshot}");
                return snapshot;
            }
        }
    }
    panic!("five minutes were not enough for {body}");
}

#[tokio::test]
async fn an_hour_in_a_day_shares_the_days_file() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    let records: Vec<Record> =
        (0..48).map(|i| record((i % 2) as i32, i / 2 * HOUR, &i.to_string())).collect();
    topic.produce(&records).await;
    // One event that is late: it lies in the range of hour 3, stamped with hour 0.
    topic.produce(&[record(0, 24 * HOUR, "end"), record(1, 24 * HOUR, "end")]).await;
    let day = app.snapshot(&topic.name, 0, 24 * HOUR).await;
    assert_eq!(day["result"]["records"], 48);
    let hour = app.snapshot(&topic.name, 3 * HOUR, 5 * HOUR).await;
    assert_eq!(hour["completeness"], "sealed");
    assert_eq!(hour["result"]["records"], 4);
    assert_eq!(hour["result"]["records_added"], 0);
    assert_eq!(hour["result"]["out_of_window_records"], 0);
    let (of_day, of_hour) = (app.detail(&day, "files").await, app.detail(&hour, "files").await);
    assert_eq!(of_hour.len(), 1);
    assert_eq!(of_hour[0]["url"], of_day[0]["url"]);
    assert_eq!(
        (of_day[0]["whole"].clone(), of_hour[0]["whole"].clone()),
        (true.into(), false.into())
    );
    assert_eq!(of_hour[0]["records"], 48);
    assert_eq!(of_hour[0]["records_in_window"], 4);
    assert_eq!(of_hour[0]["segments"][0]["start_offset"], 3);
    assert_eq!(of_hour[0]["segments"][0]["end_offset"], 5);
    let values: Vec<_> = app.events(&hour).await.iter().map(|e| e["value"].clone()).collect();
    assert_eq!(values, ["6", "8", "7", "9"]);
    let partitions = app.detail(&hour, "partitions").await;
    assert_eq!(partitions[0]["records"], 2);
    assert_eq!(partitions[0]["min_timestamp"], crate::harness::at(3 * HOUR));
}

#[tokio::test]
async fn late_events_are_counted_from_each_window_that_shares_them() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic
        .produce(&[
            record(0, 0, "a"),
            record(0, HOUR, "b"),
            record(0, 10, "late, of the first hour"),
            record(0, HOUR + 1, "c"),
            record(0, 2 * HOUR, "end"),
        ])
        .await;
    let second = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(second["result"]["records"], 3);
    assert_eq!(second["result"]["out_of_window_records"], 1);
    let both = app.snapshot(&topic.name, 0, 2 * HOUR).await;
    assert_eq!(both["result"]["records"], 4);
    assert_eq!(both["result"]["records_added"], 1);
    assert_eq!(both["result"]["out_of_window_records"], 0, "it is in this window");
    let shifted = app.snapshot(&topic.name, HOUR + 1, 2 * HOUR).await;
    assert_eq!(shifted["result"]["records"], 1);
    assert_eq!(shifted["result"]["out_of_window_records"], 0);
}

#[tokio::test]
async fn windows_taken_at_once_store_every_event_once() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(3, &[]).await;
    let records: Vec<Record> =
        (0..3000).map(|i| record(i % 3, i64::from(i) * 1000, &i.to_string())).collect();
    topic.produce(&records).await;
    let _workers = app.start_workers(8);
    let windows: Vec<(i64, i64)> =
        (0..20).map(|i| (i * 100_000, i * 100_000 + 1_000_000)).collect();
    let asking = windows.iter().map(|&(start, end)| take(&app, &topic.name, start, end));
    for (&(start, end), snapshot) in windows.iter().zip(join_all(asking).await) {
        assert_eq!(snapshot["result"]["records"], ((end - start) / 1000).min(3000 - start / 1000));
        assert_eq!(snapshot["result"]["lost_offsets"], 0);
    }
    let stored: i64 = app
        .db()
        .client()
        .await
        .expect("a connection")
        .query_one("SELECT sum(records)::bigint FROM segments", &[])
        .await
        .expect("a sum")
        .get(0);
    assert_eq!(stored, 2900, "the union of all windows, once");
}

#[tokio::test]
async fn plans_that_pass_each_other_on_a_live_topic_do_not_take_it_for_another() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    let _workers = app.start_workers(8);
    let producing = async {
        for batch in 0..40 {
            let records: Vec<Record> =
                (0..50).map(|i| record(i % 2, i64::from(batch * 50 + i) * 1000, "x")).collect();
            topic.produce(&records).await;
        }
    };
    let asking = (0..60).map(|i| take(&app, &topic.name, i * 30_000, (i + 1) * 30_000));
    futures_util::future::join(producing, join_all(asking)).await;
}

#[tokio::test]
async fn a_file_that_lost_the_race_is_not_left_behind() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    let records: Vec<Record> = (0..2000).map(|i| record(0, i, "x")).collect();
    topic.produce(&records).await;
    let _workers = app.start_workers(8);
    join_all((0..8).map(|i| take(&app, &topic.name, i, HOUR - i))).await;
    app.has_no_orphans().await;
}
