//! Traces as a collector sees them: whose they are, what belongs to what, also where a replica
//! dies over the work; and that a collector is in nobody's way.

use std::net::TcpListener;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use serde_json::{Value, json};
use strandline::settings::VERSION;

use crate::collector::{Collector, Seen, attribute, hex};
use crate::harness::{HOUR, Record, TestApp, TestTopic, answer, at, expire_leases, record};
use crate::process::{Serving, folder, strandline, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn parent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// A replica on the app's database and files.
fn replica(app: &TestApp, workers: &str, more: &[(&str, &str)]) -> Serving {
    let storage = url::Url::from_directory_path(app.files()).expect("absolute").to_string();
    let url = app.database_url();
    let mut settings = vec![
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_STORAGE_URL", &storage),
        ("STRANDLINE_WORKERS", workers),
        ("STRANDLINE_LOG_FORMAT", "json"),
    ];
    settings.extend(more);
    Serving::start_with(app.files(), &settings)
}

fn hour_of(topic: &TestTopic) -> Value {
    json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)})
}

/// Asks for the first hour, as part of a trace.
async fn ask(serving: &Serving, topic: &TestTopic, parent: &str) -> Value {
    let request = reqwest::Client::new().post(format!("{}/v1/snapshots?wait=60", serving.url));
    let request = request.header("traceparent", parent).header("x-request-id", "canary-request");
    let (status, snapshot) = answer(request.json(&hour_of(topic))).await;
    assert_eq!((status, &snapshot["state"]), (200, &json!("succeeded")), "{snapshot}");
    snapshot
}

/// What docs/traces.md says of a run and of a task.
const OF_A_RUN: [&str; 11] = [
    "messaging.destination.name",
    "strandline.bytes",
    "strandline.files",
    "strandline.lost_offsets",
    "strandline.offsets",
    "strandline.outcome",
    "strandline.partitions",
    "strandline.ranges",
    "strandline.records",
    "strandline.run",
    "strandline.snapshot_id",
];
const OF_A_TASK: [&str; 6] = [
    "messaging.destination.name",
    "strandline.attempt",
    "strandline.phase",
    "strandline.run",
    "strandline.snapshot_id",
    "strandline.task",
];

/// It was waited for. The run's times are the database's, in milliseconds.
fn is_within_its_request(run: &Seen, request: &Seen) {
    let (run, request) = (&run.span, &request.span);
    assert!(request.start_time_unix_nano <= run.start_time_unix_nano + 1_000_000, "{run:?}");
    assert!(run.start_time_unix_nano < run.end_time_unix_nano, "{run:?}");
    assert!(run.end_time_unix_nano <= request.end_time_unix_nano, "{run:?}");
    // That the parent is known, and that it is in another process.
    assert_eq!(run.flags & 0x300, 0x300, "{run:?}");
}

/// What was read, and what it came to.
fn has_its_steps(spans: &[Seen], read: &Seen, finish: &Seen, bytes: i64) {
    let below = |name: &str, task: &Seen| {
        let found = spans.iter().find(|seen| seen.span.name == name && seen.has_parent(task));
        found.unwrap_or_else(|| panic!("{name} is not there")).clone()
    };
    let stored = below("kafka.read", read);
    assert_eq!(stored.number("strandline.records"), 2);
    assert_eq!(stored.text("strandline.ranges"), "0=0..2");
    below("kafka.topic_id", read);
    assert_eq!(below("store.put", read).number("strandline.bytes"), bytes);
    let committed = below("db.commit", read);
    assert_eq!(committed.number("strandline.bytes"), bytes);
    assert_eq!(committed.number("strandline.records"), 2);
    assert_eq!(below("kafka.low_watermarks", finish).number("strandline.partitions"), 1);
    below("kafka.topic_id", finish);
    below("db.finish", finish);
}

/// Of keys, values and tokens; and only our settings' token came along.
fn assert_nothing_secret_was_told(collector: &Collector) {
    let told = String::from_utf8_lossy(&collector.bodies.lock().expect("nobody")).into_owned();
    assert!(!told.contains("canary"), "what nobody may tell is in a trace");
    let headers = collector.headers.lock().expect("nobody panicked").clone();
    assert!(!headers.is_empty(), "it wants a token");
    assert!(headers.iter().all(|header| header == "Bearer canary-collector"), "{headers:?}");
}

#[tokio::test]
async fn the_work_is_in_the_callers_trace_although_a_replica_dies_over_it() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    let secret = Record {
        key: Some(b"canary-key".to_vec()),
        headers: vec![("canary-name".to_owned(), Some(b"canary-header".to_vec()))],
        ..record(0, 1, "canary-value")
    };
    topic.produce(&[secret, record(0, 2, "b"), record(0, HOUR, "c")]).await;
    let collector = Collector::start();
    let traces = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-collector"),
        // Not a setting of ours: the exporter's library reads it by itself.
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Basic%20canary-library"),
        ("OTEL_SERVICE_NAME", "the-tests"),
    ];
    let asked = replica(&app, "0", &traces);
    let fault = [&traces[..], &[("STRANDLINE_FAULT", "after_upload")]].concat();
    let mut dying = replica(&app, "1", &fault);
    let caller = parent();
    let (snapshot, ()) = tokio::join!(ask(&asked, &topic, &caller), async {
        assert!(!dying.ended().await.success());
        expire_leases(&app).await;
        let other = replica(&app, "1", &traces);
        collector.until("the run", |seen| seen.span.name == "run").await;
        collector.until("the finish", |seen| seen.span.name == "finish").await;
        let taken = other.until_said("the task's last worker is gone; taking it over").await;
        assert_eq!(taken["deaths"], 1);
        let story = other.until_said("snapshot finished").await;
        let work = ["tasks", "attempts", "deaths"].map(|name| story[name].clone());
        assert_eq!(work, [json!(3), json!(4), json!(1)], "{story}");
    });

    let request = collector.until("the request", |seen| seen.span.name.starts_with("POST")).await;
    assert_eq!(hex(&request.span.parent_span_id), CALLER);
    assert_eq!(request.span.name, "POST /v1/snapshots");
    assert_eq!(request.number("http.response.status_code"), 200);
    let spans = collector.of_trace(TRACE);
    let named = |name: &'static str| spans.iter().filter(move |seen| seen.span.name == name);
    let run = named("run").next().expect("a run");
    assert_eq!(named("run").count(), 1);
    assert!(run.has_parent(&request), "{run:?}");
    is_within_its_request(run, &request);
    for seen in [run, &request] {
        assert_eq!(seen.text("strandline.snapshot_id"), snapshot["id"]);
    }
    assert_eq!(run.text("strandline.outcome"), "succeeded");
    assert_eq!(run.text("strandline.ranges"), "0=0..2");
    assert_eq!((run.number("strandline.records"), run.number("strandline.run")), (2, 1));
    let read = named("read").find(|seen| seen.number("strandline.attempt") == 2).expect("again");
    let finish = named("finish").next().expect("a finish");
    for task in [read, finish] {
        assert!(task.has_parent(run), "{task:?}");
        assert_eq!(task.text("messaging.destination.name"), topic.name);
        assert_ne!(task.instance(), request.instance());
        assert!(task.span.start_time_unix_nano >= run.span.start_time_unix_nano, "{task:?}");
        assert!(task.span.start_time_unix_nano <= run.span.end_time_unix_nano, "{task:?}");
    }
    has_its_steps(&spans, read, finish, run.number("strandline.bytes"));
    assert_eq!(run.names(), OF_A_RUN);
    assert_eq!(read.names(), OF_A_TASK);

    assert_nothing_secret_was_told(&collector);
    for (name, is) in [("service.name", "the-tests"), ("service.version", VERSION)] {
        assert_eq!(attribute(&run.process, name), Some(Any::StringValue(is.to_owned())));
    }
    assert!(!asked.log().contains("canary-collector"), "{}", asked.log());
    assert!(asked.log().contains(&format!("\"trace_id\":\"{TRACE}\"")), "{}", asked.log());
}

#[tokio::test]
async fn a_caller_decides_and_a_broken_header_is_as_none() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    topic.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    let collector = Collector::start();
    let serving = replica(&app, "1", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    // Not to be sampled.
    ask(&serving, &topic, &parent().replace("-01", "-00")).await;
    let request = reqwest::Client::new().get(format!("{}/v1/snapshots", serving.url));
    assert_eq!(answer(request.header("traceparent", format!("{}-x", parent()))).await.0, 200);
    let list = collector.until("the list", |seen| seen.span.name == "GET /v1/snapshots").await;
    assert_eq!(hex(&list.span.parent_span_id), "");
    let other = TestTopic::create(1, &[]).await;
    other.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    ask(&serving, &other, "nonsense").await;
    let run = collector.until("the run", |seen| seen.span.name == "run").await;
    assert_eq!(run.text("messaging.destination.name"), other.name, "the first one was not sent");
    assert_eq!(serving.until_said("answered").await["trace_id"], hex(&run.span.trace_id));
    assert!(collector.of_trace(TRACE).is_empty());
    let probe = reqwest::Client::new().get(format!("{}/readyz", serving.url));
    assert_eq!(answer(probe).await.0, 200);
    let mut serving = serving;
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0));
    assert!(collector.all().iter().all(|seen| seen.span.name != "GET /readyz"));
}

/// Takes an hour by the command, with these options; what it complained of.
async fn take(app: &TestApp, topic: &TestTopic, hour: i64, options: &[&str]) -> String {
    let (start, end) = (at(hour * HOUR), at((hour + 1) * HOUR));
    let arguments = ["snapshot", "--topic", &topic.name, "--start", &start, "--end", &end];
    let folder = folder();
    let mut command = strandline(&[&arguments, options].concat(), folder.path());
    command.env("STRANDLINE_DATABASE_URL", app.database_url());
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = output.await.expect("no panic");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[tokio::test]
async fn what_nobody_asked_for_is_a_trace_of_its_own_and_is_sent_before_the_end() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    topic.produce(&[0, 1, 2, 3, 4].map(|hour| record(0, hour * HOUR + 1, "a"))).await;
    let mut hour = 0;
    let collector = loop {
        let collector = Collector::start();
        let endpoint = ["--otel-exporter-otlp-endpoint", &collector.url];
        let headers = ["--otel-exporter-otlp-headers", "authorization=Bearer%20by-option"];
        let said = take(&app, &topic, hour, &[endpoint, headers].concat()).await;
        hour += 1;
        // It waits for a collector for no longer than three seconds.
        if hour == 3 || !said.contains("the collector does not take the last spans") {
            break collector;
        }
    };
    let spans = collector.all();
    let run = spans.iter().find(|seen| seen.span.name == "run").expect("a run");
    assert!(run.span.parent_span_id.is_empty(), "{run:?}");
    let headers = collector.headers.lock().expect("nobody panicked").clone();
    assert!(headers.first().is_some_and(|header| header == "Bearer by-option"), "{headers:?}");
    for name in ["plan", "read", "finish"] {
        let task = spans.iter().find(|seen| seen.span.name == name).expect("a task");
        assert!(task.has_parent(run) && task.span.trace_id == run.span.trace_id, "{task:?}");
    }
    let plan = spans.iter().find(|seen| seen.span.name == "plan").expect("a plan");
    assert!(spans.iter().any(|seen| seen.span.name == "kafka.look" && seen.has_parent(plan)));

    // Without a caller who says so, nothing is sent.
    let sent = spans.len();
    let endpoint = ["--otel-exporter-otlp-endpoint", &collector.url];
    let sampler = ["--otel-traces-sampler", "parentbased_always_off"];
    take(&app, &topic, hour, &[endpoint, sampler].concat()).await;
    assert_eq!(collector.all().len(), sent);
}

#[tokio::test]
async fn a_run_that_failed_is_an_error_in_the_trace_of_who_asked_for_it() {
    let app = TestApp::spawn().await;
    let collector = Collector::start();
    let serving = replica(&app, "1", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let body = json!({"topic": "not-there", "window_start": at(0), "window_end": at(HOUR)});
    let mut path = "/v1/snapshots".to_owned();
    // The second run is asked for by another, in another trace.
    for (number, trace) in [(1, TRACE.to_owned()), (2, TRACE.replace('4', "5"))] {
        let request = reqwest::Client::new().post(format!("{}{path}?wait=60", serving.url));
        let request = request.header("traceparent", format!("00-{trace}-{CALLER}-01"));
        let (_, snapshot) = answer(request.json(&body)).await;
        assert_eq!(snapshot["state"], "failed", "{snapshot}");
        path = format!("{}/refresh", snapshot["links"]["self"].as_str().expect("a path"));
        let in_trace = |seen: &Seen| hex(&seen.span.trace_id) == trace;
        let request = |seen: &Seen| seen.span.name.starts_with("POST") && in_trace(seen);
        let request = collector.until("the request", request).await;
        assert_eq!(request.text("strandline.snapshot_id"), snapshot["id"]);
        let of = |name: &'static str| move |seen: &Seen| seen.span.name == name && in_trace(seen);
        for name in ["run", "plan"] {
            let seen = collector.until(name, of(name)).await;
            assert_eq!(seen.number("strandline.run"), number);
            assert_eq!(seen.text("error.type"), "TOPIC_NOT_FOUND");
            assert_eq!(seen.span.status.map(|status| status.code), Some(2), "an error");
        }
    }
}

#[tokio::test]
async fn a_collector_that_hangs_is_in_nobodys_way() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    topic.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    // It takes connections, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", hanging.local_addr().expect("an address"));
    let mut serving = replica(&app, "1", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
    ask(&serving, &topic, &parent()).await;
    let http = reqwest::Client::new();
    let list = || answer(http.get(format!("{}/v1/snapshots", serving.url)));
    let given_up = async {
        while dropped(&http, &serving, "not_taken").await == 0 {
            assert_eq!(list().await.0, 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_up).await.expect("it gives up and counts");
    assert_eq!(list().await.0, 200);
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0), "{}", serving.log());
    // After that long it does not wait any more.
    serving.until_said("the collector does not take the last spans; they are dropped").await;
}

/// How many spans were dropped for this reason.
async fn dropped(http: &reqwest::Client, serving: &Serving, reason: &str) -> u64 {
    let (_, text) = answer(http.get(format!("{}/metrics", serving.url))).await;
    let series = format!("strandline_spans_dropped_total{{reason=\"{reason}\"}} ");
    let text = text.as_str().expect("text").to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned);
    value.expect("a series").parse().expect("a number")
}

#[tokio::test]
async fn a_collector_that_takes_nothing_is_told_of_and_counted_until_it_does() {
    let app = TestApp::spawn().await;
    let (collector, elsewhere) = (Collector::start(), Collector::start());
    let traces_url = format!("{}/v1/traces", elsewhere.url);
    *collector.elsewhere.lock().expect("nobody panicked") = Some(traces_url);
    let traces = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary-collector"),
    ];
    let serving = replica(&app, "0", &traces);
    let http = reqwest::Client::new();
    let list = || answer(http.get(format!("{}/v1/snapshots", serving.url)));
    futures_util::future::join_all((0..3).map(|_| list())).await;
    let told = serving.until_said("the collector did not take spans").await;
    assert_eq!((&told["level"], &told["spans"].is_u64()), (&json!("WARN"), &true), "{told}");
    let counted = async {
        while dropped(&http, &serving, "not_taken").await < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.expect("all are counted");
    assert_eq!(dropped(&http, &serving, "not_taken").await, 3);
    *collector.elsewhere.lock().expect("nobody panicked") = None;
    list().await;
    collector.until("the list", |seen| seen.span.name == "GET /v1/snapshots").await;
    // Spans, and the key that goes with them, are for whom the settings name.
    assert!(elsewhere.all().is_empty() && elsewhere.bodies.lock().expect("nobody").is_empty());
    assert!(!serving.log().contains("canary-collector"), "{}", serving.log());
}

#[tokio::test]
async fn without_a_collector_a_trace_is_only_passed_on_and_logged() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    topic.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    let collector = Collector::start();
    let serving = replica(&app, "1", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    ask(&serving, &topic, &parent()).await;
    let client = app.db().client().await.expect("a connection");
    let row = client.query_one("SELECT trace_parent FROM runs", &[]).await.expect("a run");
    assert_eq!(row.get::<_, &str>(0), parent());
    for message in ["planned", "snapshot finished", "answered"] {
        assert_eq!(serving.until_said(message).await["trace_id"], TRACE);
    }
    // The next replica, which has a collector, goes on with it.
    drop(serving);
    let late = TestTopic::create(1, &[]).await;
    late.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    let idle = replica(&app, "0", &[]);
    let request = reqwest::Client::new().post(format!("{}/v1/snapshots", idle.url));
    let request = request.header("traceparent", parent()).json(&hour_of(&late));
    assert_eq!(answer(request).await.0, 202);
    let _working = replica(&app, "1", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let run = collector.until("the run", |seen| seen.span.name == "run").await;
    assert_eq!(
        (hex(&run.span.trace_id).as_str(), hex(&run.span.parent_span_id).as_str()),
        (TRACE, CALLER)
    );
}

#[test]
fn settings_that_can_not_be_used_are_refused_by_name() {
    let folder = folder();
    let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (settings, parts) in [
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")],
            ["_ENDPOINT", "http://host:4318"],
        ),
        (vec![here, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], ["_PROTOCOL", "http/protobuf"]),
        (vec![here, ("OTEL_EXPORTER_OTLP_HEADERS", "canary")], ["_HEADERS", "name=value"]),
        (
            vec![here, ("OTEL_TRACES_SAMPLER", "some")],
            ["OTEL_TRACES_SAMPLER", "parentbased_always_on"],
        ),
        (
            vec![here, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "10")],
            ["OTEL_TRACES_SAMPLER_ARG", "from 0 to 1"],
        ),
    ] {
        let mut command = strandline(&["serve"], folder.path());
        let output = command.envs(settings.clone()).output().expect("it runs");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{settings:?}: {errors}");
        assert!(parts.iter().all(|part| errors.contains(part)), "{settings:?}: {errors}");
        assert!(errors.lines().count() == 1 && !errors.contains("canary"), "{errors}");
    }
}
