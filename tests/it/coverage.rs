//! Looking before asking: dry runs, topics, offsets, coverage, and the archive by time.

use serde_json::{Value, json};

use crate::harness::{HOUR, TestApp, TestTopic, at, record};

fn body(topic: &str, start: i64, end: i64) -> Value {
    json!({"topic": topic, "window_start": at(start), "window_end": at(end)})
}

#[tokio::test]
async fn a_dry_run_tells_what_a_run_would_do_and_makes_nothing() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    topic
        .produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "c"), record(1, 5, "d")])
        .await;
    let (status, plan) = app.post("/v1/snapshots?dry_run=true", &body(&topic.name, 0, HOUR)).await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!((&plan["offsets_to_read"], &plan["offsets_stored"]), (&json!(3), &json!(0)));
    assert_eq!(plan["completeness"], "settled");
    assert_eq!(plan["partitions"][0]["sealed"], true);
    assert_eq!(plan["partitions"][1]["sealed"], false);
    assert_eq!(app.get("/v1/snapshots").await.1["items"], json!([]));
    // Nothing that a dry run saw is a fact: what retention takes after it was never seen.
    topic.delete_below(0, 1).await;
    let taken = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(taken["result"]["uncertain_partitions"], 1);
    assert_eq!(taken["result"]["lost_offsets"], 0);
    let (_, again) = app.post("/v1/snapshots?dry_run=true", &body(&topic.name, 0, HOUR)).await;
    assert_eq!((&again["offsets_to_read"], &again["offsets_stored"]), (&json!(0), &json!(2)));
    let (status, problem) =
        app.post("/v1/snapshots?dry_run=true", &body("no-such-topic", 0, HOUR)).await;
    assert_eq!((status, &problem["code"]), (404, &json!("TOPIC_NOT_FOUND")));
    assert_eq!(app.post("/v1/snapshots?dry_run=1", &body("x", 0, HOUR)).await.0, 400);
}

#[tokio::test]
async fn refresh_runs_again_whatever_the_state() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let sealed = app.snapshot(&topic.name, 0, HOUR).await;
    let path = format!("{}/refresh", sealed["links"]["self"].as_str().expect("a path"));
    let (status, queued) = app.post(&path, &json!(null)).await;
    assert_eq!((status, &queued["state"], &queued["run"]), (202, &json!("queued"), &json!(2)));
    let (status, joined) = app.post(&path, &json!(null)).await;
    assert_eq!((status, &joined["run"]), (202, &json!(2)));
    app.work().await;
    let (_, done) = app.get(sealed["links"]["self"].as_str().expect("a path")).await;
    assert_eq!((&done["completeness"], &done["result"]["records"]), (&json!("sealed"), &json!(1)));
    assert_eq!(done["result"]["records_added"], 0);
    let missing = "/v1/snapshots/01890000-0000-7000-8000-000000000000/refresh";
    assert_eq!(app.post(missing, &json!(null)).await.0, 404);
    assert_eq!(app.get(&path).await.1["code"], "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn topics_and_offsets_are_kafkas() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(
        2,
        &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "86400000")],
    )
    .await;
    let plain = TestTopic::create(1, &[]).await;
    plain.produce(&[record(0, 0, "a"), record(0, HOUR, "b")]).await;
    let snapshot = app.snapshot(&plain.name, 0, HOUR).await;
    let mut listed = Vec::new();
    let mut path = "/v1/topics?limit=200".to_owned();
    loop {
        let (status, page) = app.get(&path).await;
        assert_eq!(status, 200, "{page}");
        listed.extend(page["items"].as_array().expect("items").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/topics?limit=200&cursor={cursor}"),
            None => break,
        }
    }
    let of = |name: &str| listed.iter().find(|one| one["topic"] == name).expect("listed");
    assert_eq!(of(&topic.name)["timestamp_type"], "log_append_time");
    assert_eq!(of(&topic.name)["retention_ms"], 86_400_000);
    assert_eq!(
        (&of(&topic.name)["partitions"], &of(&topic.name)["snapshots"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(of(&plain.name)["topic_id"], snapshot["topic_id"]);
    assert_eq!(of(&plain.name)["oldest_window_start"], at(0));
    assert_eq!(of(&plain.name)["newest_window_end"], at(HOUR));
    assert!(listed.iter().all(|one| !one["topic"].as_str().expect("a name").starts_with("__")));

    let offsets = |time: String| {
        let (app, name) = (&app, &plain.name);
        async move {
            app.get(&format!("/v1/topics/{name}/offsets?at={time}")).await.1["partitions"][0].take()
        }
    };
    assert_eq!(offsets(at(1)).await["offset"], 1);
    assert_eq!(offsets(at(HOUR + 1)).await["offset"], Value::Null);
    assert_eq!(offsets(at(0)).await["high_watermark"], 2);
    for (path, status, code) in [
        (format!("/v1/topics/{}/offsets", plain.name), 400, "INVALID_PARAMETER"),
        (format!("/v1/topics/no-such-topic/offsets?at={}", at(0)), 404, "TOPIC_NOT_FOUND"),
        (format!("/v1/topics/a%2Fb/offsets?at={}", at(0)), 404, "TOPIC_NOT_FOUND"),
        (format!("/v1/topics/__consumer_offsets/offsets?at={}", at(0)), 403, "TOPIC_NOT_ALLOWED"),
    ] {
        let (got, problem) = app.get(&path).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
    }
}

#[tokio::test]
async fn coverage_says_in_one_look_whether_a_day_is_complete() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    let records: Vec<_> = (0..5).map(|hour| record(0, hour * HOUR, &hour.to_string())).collect();
    topic.produce(&records).await;
    let coverage = |from: i64, to: i64| {
        let path = format!("/v1/topics/{}/coverage?from={}&to={}", topic.name, at(from), at(to));
        let app = &app;
        async move { app.get(&path).await }
    };
    let (status, nothing) = coverage(0, 4 * HOUR).await;
    assert_eq!((status, &nothing["complete"]), (200, &json!(false)), "{nothing}");
    assert_eq!(nothing["gaps"], json!([{"window_start": at(0), "window_end": at(4 * HOUR)}]));
    assert_eq!(nothing["partitions"][0]["missing"], json!([{"start_offset": 0, "end_offset": 4}]));
    app.snapshot(&topic.name, 0, HOUR).await;
    app.snapshot(&topic.name, 2 * HOUR, 4 * HOUR).await;
    let (_, part) = coverage(0, 4 * HOUR).await;
    assert_eq!(part["complete"], false);
    assert_eq!(part["gaps"], json!([{"window_start": at(HOUR), "window_end": at(2 * HOUR)}]));
    assert_eq!(part["windows"].as_array().map(Vec::len), Some(2));
    assert_eq!(part["windows"][0]["records"], 1);
    assert_eq!(
        part["partitions"][0]["stored"],
        json!([{"start_offset": 0, "end_offset": 1}, {"start_offset": 2, "end_offset": 4}])
    );
    assert_eq!(part["partitions"][0]["missing"], json!([{"start_offset": 1, "end_offset": 2}]));
    assert_eq!(coverage(2 * HOUR, 3 * HOUR).await.1["complete"], true, "a part of a window");
    topic.delete_below(0, 2).await;
    let (_, lost) = coverage(0, 4 * HOUR).await;
    assert_eq!(lost["partitions"][0]["lost"], json!([{"start_offset": 1, "end_offset": 2}]));
    app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    let (_, all) = coverage(0, 4 * HOUR).await;
    assert_eq!((&all["gaps"], &all["complete"]), (&json!([]), &json!(false)), "one offset is lost");
    assert_eq!(coverage(HOUR, 0).await.0, 400);

    // What is held of a topic that is gone is still told, all of it gone from the broker.
    topic.delete().await;
    topic.until_gone();
    let (status, gone) = coverage(0, 4 * HOUR).await;
    assert_eq!(status, 200, "{gone}");
    assert_eq!(gone["partitions"][0]["stored"], all["partitions"][0]["stored"]);
    assert_eq!(gone["topic_id"], all["topic_id"]);
    let (status, _) = app
        .get(&format!("/v1/topics/{}/coverage?from={}&to={}&topic_id=x", topic.name, at(0), at(1)))
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_archive_can_be_asked_by_event_time() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic
        .produce(&[
            record(0, 0, "a"),
            record(0, HOUR, "b"),
            record(0, 10, "late, of the first hour"),
            record(0, 2 * HOUR, "c"),
            record(0, 3 * HOUR, "end"),
        ])
        .await;
    for hour in 0..3 {
        app.snapshot(&topic.name, hour * HOUR, (hour + 1) * HOUR).await;
    }
    let files = |query: String| {
        let path = format!("/v1/topics/{}/files?{query}", topic.name);
        let app = &app;
        async move { app.get(&path).await.1 }
    };
    let all = files(String::new()).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3));
    let first_hour = files(format!("from={}&to={}", at(0), at(HOUR))).await;
    assert_eq!(first_hour["items"], json!([all["items"][0], all["items"][1]]));
    assert_eq!(files(format!("from={}", at(2 * HOUR + 1))).await["items"], json!([]));
    let page = files("limit=2".to_owned()).await;
    let cursor = page["next_cursor"].as_str().expect("more");
    let rest = files(format!("limit=2&cursor={cursor}")).await;
    assert_eq!(rest["items"], json!([all["items"][2]]));
    assert_eq!(all["items"][1]["whole"], true);
    assert!(all["items"][1]["snapshot_id"].is_string() && all["items"][1]["topic_id"].is_string());
}
