//! What the log says: one line with a run's whole story, and what went wrong with its cause.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use strandline::snapshot::Scope;

use crate::harness::{HOUR, TestApp, TestTopic, answer, at, empty_database, record};
use crate::process::{Serving, folder};
use crate::secrets::{has_no_canary, lines, secret_settings, snapshot, start, topic_with};

/// A process with JSON lines on the app's database and files.
fn replica(app: &TestApp, workers: &str) -> Serving {
    let storage = url::Url::from_directory_path(app.files()).expect("absolute");
    let settings = [
        ("STRANDLINE_DATABASE_URL", app.database_url()),
        ("STRANDLINE_STORAGE_URL", storage.to_string()),
        ("STRANDLINE_WORKERS", workers.to_owned()),
        ("STRANDLINE_SEAL_INTERVAL_SECONDS", "3600".to_owned()),
        ("STRANDLINE_LOG_FORMAT", "json".to_owned()),
        // As a Compose file sets what it was not given: as if it were not set.
        ("STRANDLINE_LOG", String::new()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Serving::start_with(app.files(), &settings)
}

/// Waits for so many lines with this message; gives the last one of them.
async fn nth(serving: &Serving, message: &str, number: usize) -> Value {
    for _ in 0..6000 {
        if let Some(line) = serving.said(message).get(number - 1) {
            return line.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not say {message:?} {number} times:\n{}", serving.log());
}

#[tokio::test]
async fn one_line_tells_a_runs_whole_story() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(2, &[]).await);
    let events = [record(0, 1, "a"), record(0, 2, "b"), record(1, 3, "c"), record(0, HOUR, "d")];
    topic.produce(&events).await;
    let serving = replica(&app, "1");
    let snapshot = ask(&serving, &topic, "report").await;
    assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
    let mut line = serving.until_said("snapshot finished").await;
    let fields = line.as_object_mut().expect("an object");
    for name in ["timestamp", "version", "replica", "task"] {
        assert!(fields.remove(name).is_some_and(|value| !value.is_null()), "no {name}");
    }
    let mut phases = 0.0;
    for name in ["queued_seconds", "plan_seconds", "read_seconds", "finish_seconds"] {
        let phase = fields.remove(name).and_then(|value| value.as_f64()).expect("a phase");
        assert!(phase >= 0.0, "{name}: {phase}");
        phases += phase;
    }
    let duration = fields.remove("duration_seconds").and_then(|value| value.as_f64());
    assert!((phases - duration.expect("a duration")).abs() < 0.01, "the phases are all of it");
    assert!(fields.remove("bytes").is_some_and(|bytes| bytes == snapshot["result"]["bytes"]));
    assert!(
        fields.remove("bytes_written").is_some_and(|bytes| bytes == snapshot["result"]["bytes"])
    );
    // What a busy broker did not answer in time was asked again.
    let retried = serving.said("retrying");
    let of_finish = retried.iter().filter(|line| line["phase"] == "finish").count();
    assert_eq!(
        line,
        json!({
            "level": "INFO", "target": "strandline::story", "message": "snapshot finished",
            "snapshot_id": snapshot["id"], "run": 1, "topic": topic.name, "cluster": "default",
            "origin": "request", "window_start": at(0), "window_end": at(HOUR),
            "outcome": "succeeded", "completeness": snapshot["completeness"],
            "records": 3, "records_added": 3, "files": snapshot["result"]["files"],
            "lost_offsets": 0, "uncertain_partitions": 0,
            "partitions": 2, "offsets": 3, "ranges": "0=0..2 1=0..1",
            "records_read": 3, "tasks": 3, "attempts": 3 + retried.len(), "deaths": 0,
            "phase": "finish", "attempt": 1 + of_finish,
        })
    );
    let answered = serving.until_said("answered").await;
    assert_eq!(serving.said("snapshot finished").len(), 1);
    assert_eq!(answered["route"], "/v1/snapshots");
    assert_eq!(answered["request_id"], "from-the-test");
    assert_eq!(answered["snapshot_id"], snapshot["id"]);
    assert_eq!((&answered["method"], &answered["status"]), (&json!("POST"), &json!(200)));
    assert!(answered["duration_seconds"].is_f64(), "{answered}");
    assert_eq!(serving.said("planned")[0]["snapshot_id"], snapshot["id"]);
}

#[tokio::test]
async fn a_run_that_fails_or_is_cancelled_has_its_line_too() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    let serving = replica(&app, "1");
    let gone = format!("{}-not", topic.name);
    let body = json!({"topic": gone, "window_start": at(0), "window_end": at(HOUR)});
    let snapshot = serving.post("/v1/snapshots?wait=60", &body).await;
    assert_eq!(snapshot["state"], "failed", "{snapshot}");
    let line = serving.until_said("snapshot finished").await;
    assert_eq!((&line["level"], &line["outcome"]), (&json!("WARN"), &json!("failed")));
    assert_eq!((&line["code"], &line["topic"]), (&json!("TOPIC_NOT_FOUND"), &json!(gone)));
    assert_eq!(line["error"], snapshot["error"]["message"]);
    assert!(line.get("ranges").is_none() && line.get("records").is_none(), "{line}");
    assert!(line["plan_seconds"].is_null() && line["finish_seconds"].is_null(), "{line}");
    assert_eq!(serving.said("snapshot finished").len(), 1);

    let idle = replica(&app, "0");
    drop(serving);
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let queued = idle.post("/v1/snapshots", &body).await;
    for _ in 0..2 {
        idle.post(
            &format!("/v1/snapshots/{}/cancel", queued["id"].as_str().expect("an id")),
            &json!({}),
        )
        .await;
    }
    let line = idle.until_said("snapshot finished").await;
    assert_eq!((&line["outcome"], &line["run"]), (&json!("cancelled"), &json!(1)));
    assert_eq!(
        (&line["request_id"], &line["snapshot_id"]),
        (&json!("from-the-test"), &queued["id"])
    );
    assert!(line["queued_seconds"].is_null() && line["duration_seconds"].is_f64(), "{line}");
    assert_eq!(idle.said("snapshot finished").len(), 1);
}

/// Asks for the first hour, and waits for what becomes of it.
async fn ask(serving: &Serving, topic: &TestTopic, on_loss: &str) -> Value {
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR),
        "on_loss": on_loss});
    serving.post("/v1/snapshots?wait=60", &body).await
}

/// Waits for the line of a run, the first one being 1.
async fn story(serving: &Serving, run: usize) -> Value {
    let line = nth(serving, "snapshot finished", run).await;
    assert_eq!(line["run"], run, "{line}");
    line
}

#[tokio::test]
async fn every_run_tells_its_own_numbers() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    let serving = replica(&app, "1");
    topic.produce(&[record(0, 1, "a"), record(0, 2, "b")]).await;
    ask(&serving, &topic, "fail").await;
    story(&serving, 1).await;
    topic.produce(&[record(0, 3, "c")]).await;
    assert_eq!(app.seal_round().await, 1);
    let sealer = story(&serving, 2).await;
    topic.produce(&[record(0, 4, "lost"), record(0, 5, "e"), record(0, HOUR, "end")]).await;
    topic.delete_below(0, 4).await;
    assert_eq!(ask(&serving, &topic, "fail").await["state"], "failed");
    let failed = story(&serving, 3).await;
    let last = ask(&serving, &topic, "report").await;
    assert_eq!(last["state"], "succeeded", "{last}");
    let nothing_read = story(&serving, 4).await;

    let names = ["outcome", "code", "completeness", "origin", "level"];
    let texts = |line: &Value| names.map(|name| line[name].as_str().unwrap_or("-").to_owned());
    assert_eq!(texts(&sealer), ["succeeded", "-", "settled", "sealer", "INFO"]);
    assert_eq!(texts(&failed), ["failed", "DATA_LOST", "-", "request", "WARN"]);
    assert_eq!(texts(&nothing_read), ["succeeded", "-", "sealed", "request", "INFO"]);
    let names = ["records", "records_added", "records_read", "lost_offsets", "offsets", "tasks"];
    let numbers = |line: &Value| names.map(|name| line[name].as_i64().unwrap_or(-1));
    assert_eq!(numbers(&sealer), [3, 1, 1, 0, 1, 3]);
    assert_eq!(numbers(&failed), [4, 1, 1, 1, 1, 3]);
    assert_eq!(numbers(&nothing_read), [4, 0, 0, 1, 0, 2]);
    assert_eq!(nothing_read["bytes_written"], 0);
    assert_eq!(nothing_read["bytes"], last["result"]["bytes"]);
    assert!(failed["bytes_written"].as_i64() < failed["bytes"].as_i64(), "{failed}");
    assert!(nothing_read["read_seconds"].is_null(), "{nothing_read}");
    assert!(nothing_read["finish_seconds"].is_f64(), "{nothing_read}");
}

#[tokio::test]
async fn of_many_partitions_the_first_ones_are_told() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(33, &[]).await);
    let events: Vec<_> = (0..33).map(|partition| record(partition, 1, "a")).collect();
    topic.produce(&events).await;
    topic.delete_below(0, 1).await;
    let serving = replica(&app, "1");
    ask(&serving, &topic, "report").await;
    let line = story(&serving, 1).await;
    let (first, rest): (_, Vec<_>) =
        ("0=1..1".to_owned(), (1..32).map(|number| format!("{number}=0..1")).collect());
    assert_eq!(line["ranges"], [&[first][..], &rest].concat().join(" "));
    assert_eq!((&line["partitions"], &line["offsets"]), (&json!(33), &json!(32)));
    assert_eq!(line["uncertain_partitions"], 1);
}

#[tokio::test]
async fn what_floods_is_left_out_and_told_of_but_a_story_never_is() {
    let app = TestApp::spawn().await;
    let mut serving = replica(&app, "0");
    let cancelled = (0..60).map(async |hour| {
        let body = json!({"topic": "anything", "window_start": at(hour * HOUR),
            "window_end": at((hour + 1) * HOUR)});
        let path = serving.post("/v1/snapshots", &body).await["links"]["self"].clone();
        serving.post(&format!("{}/cancel", path.as_str().expect("a path")), &json!({})).await;
    });
    stream::iter(cancelled).buffer_unordered(4).collect::<()>().await;
    let http = reqwest::Client::new();
    let nothing = || answer(http.post(format!("{}/v1/nothing", serving.url)));
    let flood =
        async || stream::iter((0..200).map(|_| nothing())).buffer_unordered(4).count().await;
    flood().await;
    let left_out = serving.until_said("log lines left out").await;
    assert_eq!(left_out["of_message"], "answered");
    assert_eq!(left_out["of_target"], "strandline::api::middleware");
    assert_eq!(serving.said("snapshot finished").len(), 60);
    // The last ones are told of at the end.
    let told = serving.said("log lines left out").len();
    flood().await;
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0));
    for _ in 0..6000 {
        if serving.said("log lines left out").len() > told {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it ends without a word:\n{}", serving.log());
}

#[tokio::test]
async fn a_try_that_is_made_again_is_told_with_its_cause_and_pause() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_KAFKA_BROKERS", "127.0.0.1:1"),
        ("STRANDLINE_LOG_FORMAT", "json"),
    ];
    let serving = Serving::start_with(folder.path(), &settings);
    let body = json!({"topic": "orders", "window_start": at(0), "window_end": at(HOUR)});
    let asked = serving.post("/v1/snapshots", &body).await;
    let line = serving.until_said("retrying").await;
    assert_eq!((&line["level"], &line["snapshot_id"]), (&json!("WARN"), &asked["id"]));
    assert_eq!((&line["code"], &line["retryable"]), (&json!("KAFKA_UNAVAILABLE"), &json!(true)));
    let pause = line["backoff_seconds"].as_f64().expect("seconds");
    assert!(pause > 0.0 && pause <= 1.0, "{line}");
    // What librdkafka calls an error is one connection's.
    let of_librdkafka = serving.said("librdkafka says");
    assert!(of_librdkafka.iter().any(|line| line["level"] == "WARN"), "{}", serving.log());
    assert!(of_librdkafka.iter().all(|line| line["level"] != "ERROR"), "{}", serving.log());
}

#[tokio::test]
async fn who_was_not_let_in_and_where_we_failed_is_told() {
    let app = TestApp::spawn().await;
    let token = app.token("somebody", Scope::Read, &[]).await;
    let serving = replica(&app, "0");
    let http = reqwest::Client::new();
    let list = || http.get(format!("{}/v1/snapshots", serving.url));
    // A poll is not.
    assert_eq!(answer(list().bearer_auth(&token)).await.0, 200);
    assert_eq!(answer(list()).await.0, 401);
    let refused = serving.until_said("answered").await;
    assert_eq!((&refused["status"], &refused["method"]), (&json!(401), &json!("GET")));
    assert_eq!(serving.said("answered").len(), 1);
    let body = json!({"topic": "orders", "window_start": at(0), "window_end": at(HOUR)});
    let post = http.post(format!("{}/v1/snapshots", serving.url)).bearer_auth(&token).json(&body);
    assert_eq!(answer(post).await.0, 403);
    let refused = nth(&serving, "answered", 2).await;
    assert_eq!((&refused["status"], &refused["caller"]), (&json!(403), &json!("somebody")));
    let client = app.db().client().await.expect("a connection");
    client.batch_execute("ALTER TABLE snapshots RENAME TO hidden").await.expect("renamed");
    assert!(answer(list().bearer_auth(&token)).await.0 >= 500);
    assert!(nth(&serving, "answered", 3).await["status"].as_i64() >= Some(500));
}

#[tokio::test]
async fn a_panic_is_one_line_and_what_it_broke_off_is_tried_again() {
    let (folder, url) = (folder(), empty_database().await);
    let topic = topic_with(&[record(0, 1, "canary-event"), record(0, HOUR, "end")]).await;
    let mut settings = secret_settings(&url);
    // In a handler, in a worker, and in a thread that reads for one.
    let faults = "after_request=panic,after_look=panic,first_event=panic";
    settings.push(("STRANDLINE_FAULT", faults.to_owned()));
    let serving = start(folder.path(), &settings);
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let request = reqwest::Client::new().post(format!("{}/v1/snapshots", serving.url));
    let request = request.header("x-request-id", "broken-off").json(&body);
    assert!(request.send().await.is_err(), "nobody is left to answer");
    let snapshot = snapshot(&serving, &topic).await;
    assert_eq!(
        (&snapshot["state"], &snapshot["result"]["records"]),
        (&json!("succeeded"), &json!(1))
    );
    nth(&serving, "a thread panicked", 3).await;
    let mut panics = serving.said("a thread panicked");
    panics.sort_by_key(|line| line["error"].to_string());
    let told = [
        ("a defect after_look", "src/job/plan.rs:"),
        ("a defect after_request", "src/api/snapshots.rs:"),
        ("a defect first_event", "src/job/read.rs:"),
    ];
    assert_eq!(panics.len(), told.len(), "{panics:?}");
    for (line, (error, place)) in panics.iter().zip(told) {
        assert_eq!((&line["level"], &line["error"]), (&json!("ERROR"), &json!(error)));
        assert!(line["place"].as_str().is_some_and(|told| told.starts_with(place)), "{line}");
    }
    assert_eq!(panics[0]["snapshot_id"], snapshot["id"], "a task's line tells whose it is");
    assert_eq!(panics[1]["request_id"], "broken-off", "and a request's");
    // A busy broker may be the cause of others.
    let (mut retries, mut of_defects) = (0, 0);
    while of_defects < 2 {
        retries += 1;
        let line = nth(&serving, "retrying", retries).await;
        of_defects += usize::from(line["code"] == "INTERNAL");
    }
    has_no_canary("a snapshot", &snapshot.to_string());
    has_no_canary("the log", &serving.log());
    assert!(lines(&serving).len() > panics.len(), "all that is logged is JSON");
}
