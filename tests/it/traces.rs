//! Traces as a collector sees them: whose they are, what belongs to what, also where a replica
//! dies over the work; and that a collector is in nobody's way.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{HOUR, Record, TestApp, TestTopic, answer, at, record};
use crate::process::{Serving, folder, strandline, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn parent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// A span with the process that has sent it.
#[derive(Clone, Debug)]
struct Seen {
    span: Span,
    process: Vec<KeyValue>,
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<Any> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Seen {
    fn text(&self, name: &str) -> String {
        match attribute(&self.span.attributes, name) {
            Some(Any::StringValue(text)) => text,
            other => panic!("{name} of {}: {other:?}", self.span.name),
        }
    }

    fn number(&self, name: &str) -> i64 {
        match attribute(&self.span.attributes, name) {
            Some(Any::IntValue(number)) => number,
            other => panic!("{name} of {}: {other:?}", self.span.name),
        }
    }

    fn instance(&self) -> Any {
        attribute(&self.process, "service.instance.id").expect("an instance")
    }

    fn has_parent(&self, parent: &Seen) -> bool {
        self.span.parent_span_id == parent.span.span_id
    }
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    bodies: Arc<Mutex<Vec<u8>>>,
    headers: Arc<Mutex<Vec<String>>>,
    url: String,
}

impl Collector {
    fn start() -> Self {
        let mut collector = Collector::default();
        let kept = collector.clone();
        let server = HttpServer::new(move || {
            let kept = web::Data::new(kept.clone());
            App::new().app_data(kept).route("/v1/traces", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
        collector.url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        collector
    }

    fn all(&self) -> Vec<Seen> {
        self.spans.lock().expect("nobody panicked").clone()
    }

    fn of_trace(&self, trace: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| hex(&seen.span.trace_id) == trace).collect()
    }

    /// Waits for a span.
    async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..6000 {
            if let Some(seen) = self.all().into_iter().find(|seen| wanted(seen)) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let names: Vec<_> = self.all().into_iter().map(|seen| seen.span.name).collect();
        panic!("no span of {what} comes: {names:?}");
    }
}

async fn take(
    kept: web::Data<Collector>,
    request: actix_web::HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    let authorization = header("authorization");
    kept.headers.lock().expect("nobody").extend(authorization.map(str::to_owned));
    kept.bodies.lock().expect("nobody").extend(&body);
    let sent = ExportTraceServiceRequest::decode(body).expect("what OTLP says");
    for resource in sent.resource_spans {
        let process = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let seen = Seen { span, process: process.clone() };
            kept.spans.lock().expect("nobody panicked").push(seen);
        }
    }
    HttpResponse::Ok().content_type("application/x-protobuf").finish()
}

/// A replica on the app's database and files.
fn replica(app: &TestApp, workers: &str, more: &[(&str, &str)]) -> Serving {
    let storage = url::Url::from_directory_path(app.files()).expect("absolute").to_string();
    let url = app.database_url();
    let mut settings = vec![
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_STORAGE_URL", &storage),
        ("STRANDLINE_WORKERS", workers),
        ("STRANDLINE_LEASE_SECONDS", "1"),
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
        ("OTEL_SERVICE_NAME", "the-tests"),
    ];
    let asked = replica(&app, "0", &traces);
    let fault = [&traces[..], &[("STRANDLINE_FAULT", "after_upload")]].concat();
    let mut dying = replica(&app, "1", &fault);
    let caller = parent();
    let (snapshot, ()) = tokio::join!(ask(&asked, &topic, &caller), async {
        assert!(!dying.ended().await.success());
        let other = replica(&app, "1", &traces);
        collector.until("the run", |seen| seen.span.name == "run").await;
        collector.until("the finish", |seen| seen.span.name == "finish").await;
        drop(other);
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
    }
    for (name, task) in [
        ("kafka.read", read),
        ("store.put", read),
        ("db.commit", read),
        ("kafka.low_watermarks", finish),
        ("db.finish", finish),
    ] {
        assert!(named(name).any(|seen| seen.has_parent(task)), "{name}");
    }
    let stored = named("kafka.read").find(|seen| seen.has_parent(read)).expect("it is there");
    assert_eq!(stored.number("strandline.records"), 2);
    assert_eq!(stored.text("strandline.ranges"), "0=0..2");

    let told = String::from_utf8_lossy(&collector.bodies.lock().expect("nobody")).into_owned();
    assert!(!told.contains("canary"), "what nobody may tell is in a trace");
    assert!(told.contains("the-tests") && told.contains(&topic.name));
    let headers = collector.headers.lock().expect("nobody panicked").clone();
    assert!(headers.iter().all(|header| header == "Bearer canary-collector"), "{headers:?}");
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
    assert!(collector.of_trace(TRACE).is_empty());
    let probe = reqwest::Client::new().get(format!("{}/readyz", serving.url));
    assert_eq!(answer(probe).await.0, 200);
    let mut serving = serving;
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0));
    assert!(collector.all().iter().all(|seen| seen.span.name != "GET /readyz"));
}

#[tokio::test]
async fn what_nobody_asked_for_is_a_trace_of_its_own_and_is_sent_before_the_end() {
    let (app, topic) = (TestApp::spawn().await, TestTopic::create(1, &[]).await);
    topic.produce(&[record(0, 1, "a"), record(0, HOUR, "b")]).await;
    let (folder, collector) = (folder(), Collector::start());
    let (start, end) = (at(0), at(HOUR));
    let arguments = ["snapshot", "--topic", &topic.name, "--start", &start, "--end", &end];
    let mut command = strandline(&arguments, folder.path());
    command.env("STRANDLINE_DATABASE_URL", app.database_url());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = output.await.expect("no panic");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let spans = collector.all();
    let run = spans.iter().find(|seen| seen.span.name == "run").expect("a run");
    assert!(run.span.parent_span_id.is_empty(), "{run:?}");
    for name in ["plan", "read", "finish"] {
        let task = spans.iter().find(|seen| seen.span.name == name).expect("a task");
        assert!(task.has_parent(run) && task.span.trace_id == run.span.trace_id, "{task:?}");
    }
    let plan = spans.iter().find(|seen| seen.span.name == "plan").expect("a plan");
    assert!(spans.iter().any(|seen| seen.span.name == "kafka.look" && seen.has_parent(plan)));
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
    let list = || http.get(format!("{}/v1/snapshots", serving.url));
    let not_taken = async || {
        let (_, text) = answer(http.get(format!("{}/metrics", serving.url))).await;
        let series = "strandline_spans_dropped_total{reason=\"not_taken\"} ";
        let text = text.as_str().expect("text").to_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned);
        value.expect("a series").parse::<u64>().expect("a number")
    };
    while not_taken().await == 0 {
        assert_eq!(answer(list()).await.0, 200);
    }
    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0), "{}", serving.log());
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_and_counted() {
    let app = TestApp::spawn().await;
    let serving = replica(&app, "0", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    let http = reqwest::Client::new();
    assert_eq!(answer(http.get(format!("{}/v1/snapshots", serving.url))).await.0, 200);
    let counted = "strandline_spans_dropped_total{reason=\"not_taken\"} 1";
    loop {
        let (_, text) = answer(http.get(format!("{}/metrics", serving.url))).await;
        if text.as_str().is_some_and(|text| text.contains(counted)) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(serving.log().contains("the collector did not take spans"), "{}", serving.log());
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
        let line = serving.log().lines().find(|line| line.contains(message)).map(str::to_owned);
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert_eq!(line["trace_id"], TRACE, "{line}");
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
