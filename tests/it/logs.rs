//! What the log says, and what it never does: one line with a run's whole story, and nowhere a
//! secret or an event.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use strandline::job::seal_round;
use strandline::settings::Cli;
use strandline::snapshot::Scope;

use crate::harness::{
    HOUR, Record, TestApp, TestTopic, answer, at, empty_database, record, service,
};
use crate::kafka::wire::allow_reading;
use crate::process::{Serving, folder, strandline, text};

/// The lines that a process has written, all of which must be JSON.
fn lines(serving: &Serving) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    serving.log().lines().map(parse).collect()
}

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

async fn post(serving: &Serving, path: &str, body: &Value) -> Value {
    let request = reqwest::Client::new().post(format!("{}{path}", serving.url)).json(body);
    let (status, document) = answer(request.header("x-request-id", "from-the-test")).await;
    assert!(status < 300, "{status} {document}");
    document
}

#[tokio::test]
async fn one_line_tells_a_runs_whole_story() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(2, &[]).await);
    let events = [record(0, 1, "a"), record(0, 2, "b"), record(1, 3, "c"), record(0, HOUR, "d")];
    topic.produce(&events).await;
    let serving = replica(&app, "1");
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let snapshot = post(&serving, "/v1/snapshots?wait=30", &body).await;
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
            "records_read": 3, "tasks": 3, "attempts": 3, "deaths": 0,
            "phase": "finish", "attempt": 1,
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
    let snapshot = post(&serving, "/v1/snapshots?wait=30", &body).await;
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
    let queued = post(&idle, "/v1/snapshots", &body).await;
    for _ in 0..2 {
        post(
            &idle,
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
    post(serving, "/v1/snapshots?wait=60", &body).await
}

/// Waits for the line of a run, the first one being 1.
async fn story(serving: &Serving, run: usize) -> Value {
    for _ in 0..6000 {
        if let Some(line) = serving.said("snapshot finished").get(run - 1) {
            assert_eq!(line["run"], run, "{line}");
            return line.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("run {run} has no line:\n{}", serving.log());
}

#[tokio::test]
async fn every_run_tells_its_own_numbers() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    let serving = replica(&app, "1");
    topic.produce(&[record(0, 1, "a"), record(0, 2, "b")]).await;
    ask(&serving, &topic, "fail").await;
    story(&serving, 1).await;
    topic.produce(&[record(0, 3, "c")]).await;
    assert_eq!(seal_round(&app.shells).await.expect("a round"), 1);
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
        let path = post(&serving, "/v1/snapshots", &body).await["links"]["self"].clone();
        post(&serving, &format!("{}/cancel", path.as_str().expect("a path")), &json!({})).await;
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
    let asked = post(&serving, "/v1/snapshots", &body).await;
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
    let refused = answered(&serving, 2).await;
    assert_eq!((&refused["status"], &refused["caller"]), (&json!(403), &json!("somebody")));
    let client = app.db().client().await.expect("a connection");
    client.batch_execute("ALTER TABLE snapshots RENAME TO hidden").await.expect("renamed");
    assert!(answer(list().bearer_auth(&token)).await.0 >= 500);
    assert!(answered(&serving, 3).await["status"].as_i64() >= Some(500));
}

/// Waits for so many lines of answers; gives the last one.
async fn answered(serving: &Serving, number: usize) -> Value {
    for _ in 0..6000 {
        if let Some(line) = serving.said("answered").get(number - 1) {
            return line.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {number} answers are told of:\n{}", serving.log());
}

/// What must be nowhere, each word with what it stands for.
const CANARIES: &[(&str, &str)] = &[
    ("canary-database-password", "the database's password"),
    ("canary-key-password", "a key's password"),
    ("canary-s3-secret", "the secret key of a bucket"),
    ("canary-s3-session", "the session token of a bucket"),
    ("canary-wrong-password", "a password that was refused"),
    ("canary-url-password", "a password in the storage's URL"),
    ("canary-bearer", "a token that was shown and is none"),
    ("canary-basic", "a password that was shown and is none"),
    ("canary-query", "what a caller put into a URL"),
    ("canary-event", "an event"),
    ("canary-collector", "a key of the collector"),
    ("s3,cret=1", "the brokers' password"),
    (r"s3\,cret=1", "the brokers' password, as it is set"),
];

/// Looks for them, as they are and in base64.
fn has_no_canary(place: &str, text: &str) {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD;
    for (canary, what) in CANARIES {
        // Bytes before a word move it within base64's groups of three; its middle is the same.
        let coded: Vec<String> = (0..3)
            .map(|shift| base64.encode([&b"xxx"[..shift], canary.as_bytes()].concat()))
            .map(|text| text[4..text.len() - 3].to_owned())
            .collect();
        let words = coded.iter().map(String::as_str).chain([*canary]);
        for word in words {
            let at = text.find(word).map(|at| {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                &text[from..text.ceil_char_boundary((at + 100).min(text.len()))]
            });
            assert!(at.is_none(), "{what} is in {place}: …{}…", at.unwrap_or_default());
        }
    }
}

/// A topic that the user of the settings may read.
async fn topic_with(records: &[Record]) -> TestTopic {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(records).await;
    allow_reading(&topic.name);
    topic
}

/// Takes the snapshot of the first hour, and again until the brokers know what they may give.
async fn snapshot(serving: &Serving, topic: &TestTopic) -> Value {
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    loop {
        let snapshot = post(serving, "/v1/snapshots?wait=60", &body).await;
        let message = snapshot["error"]["message"].as_str().unwrap_or_default();
        if !message.contains("Topic authorization failed") {
            return snapshot;
        }
    }
}

fn with_password(url: &str) -> String {
    // The tests' server asks for none.
    url.replacen('@', ":canary-database-password@", 1)
}

/// What all settings say that may be secret, for a program that gets to work.
fn secret_settings(url: &str) -> Vec<(&'static str, String)> {
    let properties = r"security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,sasl.username=reader,sasl.password=s3\,cret=1,ssl.key.password=canary-key-password,debug=all";
    vec![
        ("STRANDLINE_DATABASE_URL", with_password(url)),
        ("STRANDLINE_KAFKA_BROKERS", service("STRANDLINE_TEST_KAFKA_SASL")),
        ("STRANDLINE_KAFKA_PROPERTIES", properties.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "canary-s3-secret".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary-collector".to_owned()),
        ("STRANDLINE_LOG", "trace".to_owned()),
        ("STRANDLINE_LOG_FORMAT", "json".to_owned()),
    ]
}

fn start(folder: &Path, settings: &[(&str, String)]) -> Serving {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Serving::start_with(folder, &settings)
}

/// Sends what callers should not, and looks at what they are told.
async fn provoke(serving: &Serving) {
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", serving.url);
    let requests = [
        http.get(url("/v1/snapshots")).bearer_auth("strandline_canary-bearer"),
        http.get(url("/v1/snapshots")).basic_auth("me", Some("canary-basic")),
        http.get(url("/v1/snapshots?token=canary-query")),
        http.get(url("/v1/snapshots?cursor=canary-query")),
        http.get(url("/metrics")),
        http.get(url("/v1/version")),
        http.get(url("/openapi.json")),
    ];
    for request in requests {
        let (status, document) = answer(request).await;
        if status < 400 || !document.to_string().contains("canary-query") {
            has_no_canary("an answer", &document.to_string());
        }
    }
}

#[tokio::test]
async fn no_secret_and_no_event_is_told_while_all_goes_well() {
    let (folder, url) = (folder(), empty_database().await);
    let secret = Record {
        key: Some(b"canary-event-key".to_vec()),
        headers: vec![("h".to_owned(), Some(b"canary-event-header".to_vec()))],
        ..record(0, 1, "canary-event-value")
    };
    let topic = topic_with(&[secret, record(0, HOUR, "canary-event-end")]).await;
    let serving = start(folder.path(), &secret_settings(&url));
    let snapshot = snapshot(&serving, &topic).await;
    assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
    let events =
        format!("{}{}", serving.url, snapshot["links"]["events"].as_str().expect("a path"));
    let (_, events) = answer(reqwest::Client::new().get(events)).await;
    assert!(events.to_string().contains("canary-event-value"), "they are to be had: {events}");
    provoke(&serving).await;
    let mut create =
        strandline(&["token", "create", "--name", "me", "--scope", "admin"], folder.path());
    let made = create.env("STRANDLINE_DATABASE_URL", &url).output().expect("it runs");
    let token = text(&made.stdout).trim_end().to_owned();
    let http = reqwest::Client::new();
    let list = || http.get(format!("{}/v1/snapshots", serving.url));
    while answer(list()).await.0 != 401 {
        tokio::task::yield_now().await;
    }
    provoke(&serving).await;
    assert_eq!(answer(list().bearer_auth(&token)).await.0, 200);
    assert_eq!(answer(list().basic_auth("me", Some(&token))).await.0, 200);
    let log = serving.log();
    let targets = ["librdkafka", "strandline::", "actix"];
    assert!(targets.iter().all(|target| log.contains(target)), "all is logged");
    let lines = lines(&serving);
    assert!(lines.iter().any(|line| line["level"] == "TRACE"));
    let values = |line: &&Value| line["target"] == "tokio_postgres::query";
    assert!(lines.iter().filter(values).all(|line| line["level"] != "DEBUG"), "statements' values");
    let polled = |line: &&Value| line["target"] == "librdkafka" && line["text"].is_string();
    let levels: BTreeSet<_> =
        lines.iter().filter(polled).filter_map(|line| line["level"].as_str()).collect();
    assert!(levels.contains("DEBUG") && !levels.contains("ERROR"), "{levels:?}");
    has_no_canary("the log", &log);
    assert!(!log.contains(&token["strandline_".len()..]), "a token is in the log");
}

/// A store that refuses everybody; gives what it was sent.
fn refusing_store() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sent, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 8192];
            let length = stream.read(&mut head).unwrap_or(0);
            let _ = sent.send(String::from_utf8_lossy(&head[..length]).into_owned());
            let body = "<Error><Code>InvalidAccessKeyId</Code></Error>";
            let _ = write!(
                stream,
                "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (url, received)
}

#[tokio::test]
async fn no_secret_is_told_while_all_is_refused() {
    let (folder, url) = (folder(), empty_database().await);
    let topic = topic_with(&[record(0, 1, "canary-event-value")]).await;
    let (store, received) = refusing_store();
    let mut settings = secret_settings(&url);
    settings.extend([
        ("STRANDLINE_STORAGE_URL", "s3://bucket/prefix".to_owned()),
        ("AWS_ENDPOINT_URL", store),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "me".to_owned()),
        ("AWS_SESSION_TOKEN", "canary-s3-session".to_owned()),
        ("STRANDLINE_RETRY_SECONDS", "0".to_owned()),
    ]);
    let serving = start(folder.path(), &settings);
    let snapshot = snapshot(&serving, &topic).await;
    assert_eq!(snapshot["error"]["code"], "STORAGE_AUTH", "{snapshot}");
    let head = received.recv().expect("a request");
    assert!(head.contains("canary-s3-session"), "the store is shown it: {head}");
    has_no_canary("a snapshot", &snapshot.to_string());
    has_no_canary("the log", &serving.log());
    // Else it would do the other's work.
    drop(serving);

    let wrong = "security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,sasl.username=reader,sasl.password=canary-wrong-password,debug=all";
    settings.retain(|(name, _)| !name.contains("STORAGE") && !name.contains("PROPERTIES"));
    settings.push(("STRANDLINE_KAFKA_PROPERTIES", wrong.to_owned()));
    let serving = start(folder.path(), &settings);
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let snapshot = post(&serving, "/v1/snapshots?wait=60", &body).await;
    assert_eq!(snapshot["error"]["code"], "KAFKA_AUTH", "{snapshot}");
    has_no_canary("a snapshot", &snapshot.to_string());
    has_no_canary("the log", &serving.log());
}

#[tokio::test]
async fn no_secret_is_told_by_a_program_that_does_not_start() {
    use clap::Parser;
    let folder = folder();
    let settings = secret_settings("postgres://me@127.0.0.1:1/nothing");
    let arguments = [
        vec!["--help"],
        vec!["serve", "--help"],
        vec!["snapshot", "--help"],
        vec!["migrate"],
        vec!["migrate", "--database-url", "postgres://me:canary-url-password@host:port/x"],
        vec!["serve", "--storage-url", "s3://me:canary-url-password@bucket"],
        vec!["serve", "--storage-url", "s3://bucket?secret=canary-url-password"],
        vec!["serve", "--kafka-properties", "sasl.password=canary-wrong-password,what"],
        vec!["serve", "--nonsense"],
        vec!["serve", "--otel-exporter-otlp-headers", "canary-collector"],
        vec!["serve", "--otel-exporter-otlp-endpoint", "http://me:canary-url-password@host"],
    ];
    for arguments in arguments {
        let mut command = strandline(&arguments, folder.path());
        command.envs(settings.iter().map(|(name, value)| (*name, value)));
        if arguments.contains(&"--help") {
            command.env("STRANDLINE_STORAGE_URL", "s3://canary-url-password@bucket");
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://canary-url-password@host");
        }
        let output = command.output().expect("it runs");
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
        let said = text(&output.stdout) + &text(&output.stderr);
        has_no_canary(&format!("what {arguments:?} prints"), &said);
    }
    let secret = [
        ("--database-url", "x:canary-database-password"),
        ("--kafka-properties", "a=canary-key-password"),
        ("--storage-url", "canary-url-password"),
        ("--otel-exporter-otlp-endpoint", "canary-url-password"),
        ("--otel-exporter-otlp-headers", "a=canary-collector"),
    ];
    let arguments = secret.into_iter().flat_map(|(name, value)| [name, value]);
    let cli = Cli::try_parse_from(["strandline", "serve"].into_iter().chain(arguments));
    has_no_canary("the settings' Debug form", &format!("{:?}", cli.expect("good settings")));
}
