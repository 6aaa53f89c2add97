//! What nobody should send: each is a problem document with a code of the closed list, never
//! a 5xx, and nothing of it can forge a line of the log.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use strandline::api::ProblemCode;

use crate::harness::{HOUR, TestApp, answer, at, empty_database};
use crate::process::{Serving, folder, strandline, until_refused};

/// A request, and what it must lead to.
struct Case {
    what: String,
    request: RequestBuilder,
    status: u16,
    code: &'static str,
}

/// Sends them all, and looks at the shape of each answer.
async fn check(cases: Vec<Case>) {
    for Case { what, request, status, code } in cases {
        let response = request.send().await.expect("an answer");
        let (found, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.expect("a body");
        assert_eq!(found, status, "{what}: {body}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{what}");
        if found < 400 {
            continue;
        }
        assert_eq!(headers["content-type"], "application/problem+json", "{what}");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["code"], code, "{what}: {body}");
        let known = |known: &ProblemCode| (known.as_str(), known.status()) == (code, found);
        assert!(ProblemCode::ALL.iter().any(known), "{what}: {code} {found}");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(!detail.is_empty() && !detail.chars().any(char::is_control), "{what}: {body}");
        assert!(detail.len() < 1000, "{what}: a person reads this: {body}");
        for word in ["SELECT", "panicked", "src/", ".rs:"] {
            assert!(!body.contains(word), "{what}: {body}");
        }
    }
}

fn post(app: &TestApp, body: impl Into<reqwest::Body>) -> RequestBuilder {
    app.http.post(format!("{}/v1/snapshots", app.url)).body(body)
}

/// A good request with this in place of one field.
fn with(field: &str, value: Value) -> String {
    let mut body = json!({"topic": "orders", "window_start": at(0), "window_end": at(HOUR)});
    body[field] = value;
    body.to_string()
}

#[tokio::test]
async fn bodies_that_are_no_json() {
    let app = TestApp::spawn().await;
    let good = with("topic", json!("orders"));
    let deep = format!("{{\"topic\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("blank", b" \n ".to_vec()),
        ("truncated", good.as_bytes()[..good.len() - 1].to_vec()),
        ("trailing", format!("{good}x").into()),
        ("two documents", format!("{good}{good}").into()),
        ("a key twice", good.replacen('{', "{\"topic\":\"a\",", 1).into()),
        ("NaN", b"{\"topic\":NaN}".to_vec()),
        ("too large a number", b"{\"topic\":1e400}".to_vec()),
        ("deep", deep.into()),
        ("a byte order mark", [b"\xef\xbb\xbf", good.as_bytes()].concat()),
        ("no UTF-8", b"{\"topic\":\"\xff\"}".to_vec()),
        ("half a surrogate", br#"{"topic":"\ud800"}"#.to_vec()),
        ("a bare line break", b"{\"topic\":\"a\nb\"}".to_vec()),
        ("single quotes", b"{'topic':'a'}".to_vec()),
    ];
    let case = |(what, body): (&str, Vec<u8>)| Case {
        what: what.to_owned(),
        request: post(&app, body),
        status: 400,
        code: "INVALID_JSON",
    };
    check(bodies.into_iter().map(case).collect()).await;
    let types = [
        ("text/html", ""),
        ("application/json; charset=utf-16", ""),
        ("multipart/form-data; boundary=x", ""),
        ("application/xml", ""),
        ("application/json", "gzip"),
        ("application/json", "br, gzip"),
    ];
    let case = |(content_type, coding): (&str, &str)| {
        let request = post(&app, good.clone()).header("content-type", content_type);
        let request = match coding {
            "" => request,
            coding => request.header("content-encoding", coding),
        };
        let what = format!("{content_type} {coding}");
        Case { what, request, status: 415, code: "UNSUPPORTED_MEDIA_TYPE" }
    };
    check(types.into_iter().map(case).collect()).await;
    let (_, list) = app.get("/v1/snapshots").await;
    assert_eq!(list["items"], json!([]), "nothing was made");
}

/// Texts that are no name of a topic.
const NO_TOPICS: &[&str] = &[
    "",
    ".",
    "..",
    "../../etc/passwd",
    "a/b",
    "%2e%2e%2f",
    "orders\n",
    "оrders",
    "^orders.*",
    "'; DROP TABLE snapshots; --",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "a\u{0}b",
    "a b",
    "\u{202e}sredro",
    "🦀",
];

/// Texts that are no time.
const NO_TIMES: &[&str] = &[
    "",
    "None",
    "null",
    "2025-07-29",
    "2025-07-29T00:00:00",
    "2025-02-30T00:00:00Z",
    "2025-07-29T24:00:00Z",
    "2025-07-29T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "10000-01-01T00:00:00Z",
    "2025-07-29T00:00:00+25:00",
    "2025-07-29T00:00:00 00:00",
    "1753747200",
    "1753747200000",
    "now",
    "yesterday",
    "2025-07-29T00:00:00Z\n",
    " 2025-07-29T00:00:00Z",
    "٢٠٢٥-07-29T00:00:00Z",
    "2025-07-29T00:00:00[Europe/Berlin]",
    "-2025-07-29T00:00:00Z",
    "2025-07-29T00:00Z\u{0}",
];

/// Fields that there are not, or not with these values.
fn bad_fields() -> Vec<(&'static str, Value)> {
    let many: Value = (0..33).map(|n| (n.to_string(), json!("x"))).collect();
    vec![
        ("tpoic", json!("orders")),
        ("destination", json!("s3://evil/bucket")),
        ("callback_url", json!("http://169.254.169.254/")),
        ("brokers", json!("evil:9092")),
        ("topic", json!(7)),
        ("topic", json!(null)),
        ("topic", json!(["orders"])),
        ("topic", json!("x".repeat(250))),
        ("window_start", json!(1.5)),
        ("capture", json!("everything")),
        ("capture", json!(true)),
        ("on_loss", json!("ignore")),
        ("cluster", json!("other")),
        ("cluster", json!("de\u{0}fault")),
        ("labels", json!("a:b")),
        ("labels", json!({"a": 1})),
        ("labels", json!({"": "x"})),
        ("labels", json!({"a:b": "x"})),
        ("labels", json!({"k".repeat(64): "x"})),
        ("labels", json!({"a": "x".repeat(256)})),
        ("labels", json!({"a": "\u{0}"})),
        ("labels", json!({"a\u{0}": "x"})),
        ("labels", many),
    ]
}

#[tokio::test]
async fn fields_that_make_no_sense() {
    let app = TestApp::spawn().await;
    let whole = ["null", "[]", "\"orders\"", "7"].map(str::to_owned);
    let topics = NO_TOPICS.iter().map(|topic| with("topic", json!(topic)));
    let times = NO_TIMES.iter().map(|time| with("window_start", json!(time)));
    let fields = bad_fields().into_iter().map(|(field, value)| with(field, value));
    let invalid = whole.into_iter().chain(topics).chain(times).chain(fields);
    let empty = [at(0), at(-1)].map(|end| with("window_end", json!(end)));
    let internal = ["__consumer_offsets", "__x"].map(|topic| with("topic", json!(topic)));
    let case = |status, code| {
        let app = &app;
        move |body: String| Case { what: body.clone(), request: post(app, body), status, code }
    };
    let cases = invalid.map(case(422, "FIELD_INVALID"));
    let cases = cases.chain(empty.map(case(422, "WINDOW_INVALID")));
    check(cases.chain(internal.map(case(403, "TOPIC_NOT_ALLOWED"))).collect()).await;
    let (_, list) = app.get("/v1/snapshots").await;
    assert_eq!(list["items"], json!([]), "nothing was made");
}

#[tokio::test]
async fn what_is_just_within_the_limits() {
    let app = TestApp::spawn().await;
    let most: Value = (0..32).map(|n| (n.to_string(), json!("x"))).collect();
    for (field, value) in [
        ("topic", json!("x".repeat(249))),
        ("labels", json!({"k".repeat(63): "x"})),
        ("labels", json!({"a": "ä".repeat(255)})),
        ("labels", most),
    ] {
        let body = with(field, value);
        let (status, answer) = answer(post(&app, body.clone())).await;
        assert_eq!(status, 202, "{body}: {answer}");
    }
}

const NOBODYS: &str = "/v1/snapshots/01890000-0000-7000-8000-000000000000";

/// Paths with queries, and what each is answered with; a code if that is a problem.
fn odd_paths() -> Vec<(String, u16, &'static str)> {
    let (many, long) = ("label=a:b&".repeat(6_000), "x".repeat(16_000));
    let invalid = [
        format!("{NOBODYS}?token=secret"),
        "/v1/snapshots?limit=0".to_owned(),
        "/v1/snapshots?limit=-1".to_owned(),
        "/v1/snapshots?limit=1e9".to_owned(),
        "/v1/snapshots?limit=1&limit=2".to_owned(),
        "/v1/snapshots?cursor=AAAA".to_owned(),
        format!("/v1/snapshots?cursor={long}"),
        "/v1/snapshots?state=bogus".to_owned(),
        "/v1/snapshots?sort=id;DROP".to_owned(),
        "/v1/snapshots?topic=%00".to_owned(),
        format!("/v1/snapshots?{many}"),
        "/v1/snapshots?window_from=%00".to_owned(),
        format!("/v1/topics/a/files?cursor={long}"),
        "/v1/topics/a/coverage?from=x&to=y".to_owned(),
        format!("/v1/topics/a/coverage?from={}&to={}", at(1), at(0)),
        "/v1/topics/a/offsets".to_owned(),
    ];
    let unknown = [
        "/v1/snapshots/%00".to_owned(),
        "/v1/snapshots/%ff".to_owned(),
        "/v1/snapshots/%0aFORGED".to_owned(),
        "/v1/snapshots/1".to_owned(),
        format!("/v1/snapshots/{long}"),
        format!("{NOBODYS}/files"),
        "/docs/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/%2e%2e/etc/passwd".to_owned(),
    ];
    let good = [
        "/v1/snapshots?limit=999999999999999999999".to_owned(),
        "/v1/snapshots?cluster=%ff".to_owned(),
        format!("/v1/snapshots?topic={long}"),
        "/docs/../v1/snapshots".to_owned(),
    ];
    let topics = [
        ("/v1/topics/__consumer_offsets/files".to_owned(), 403, "TOPIC_NOT_ALLOWED"),
        ("/v1/topics/..%2f..%2fetc/files".to_owned(), 404, "TOPIC_NOT_FOUND"),
    ];
    let with = |status, code| move |path| (path, status, code);
    let paths = invalid.map(with(400, "INVALID_PARAMETER")).into_iter();
    paths
        .chain(unknown.map(with(404, "NOT_FOUND")))
        .chain(good.map(with(200, "")))
        .chain(topics)
        .collect()
}

#[tokio::test]
async fn paths_and_parameters() {
    let app = TestApp::spawn().await;
    let case = |(path, status, code): (String, u16, &'static str)| Case {
        what: path.chars().take(80).collect(),
        request: app.http.get(format!("{}{path}", app.url)),
        status,
        code,
    };
    check(odd_paths().into_iter().map(case).collect()).await;
}

#[tokio::test]
async fn methods_that_a_path_does_not_know() {
    let app = TestApp::spawn().await;
    let case = |method: &str| {
        let known = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = app.http.request(known, format!("{}/v1/snapshots", app.url));
        Case { what: method.to_owned(), request, status: 405, code: "METHOD_NOT_ALLOWED" }
    };
    let methods = ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "FORGED"];
    check(methods.into_iter().map(case).collect()).await;
}

#[tokio::test]
async fn headers_that_change_nothing() {
    let app = TestApp::spawn().await;
    let good = with("topic", json!("orders"));
    for (name, value) in [
        ("prefer", "wait=-1"),
        ("prefer", "wait=99999999999999999999"),
        ("prefer", ";;,,="),
        ("accept", "text/html"),
        ("accept", "application/xml;q=1"),
        ("if-match", "\"stale\""),
        ("traceparent", "00-not-one"),
        ("x-forwarded-for", "127.0.0.1, x"),
        ("x-forwarded-host", "evil.example"),
        ("expect", "100-continue"),
        ("range", "bytes=0-1"),
        ("host", "evil.example"),
    ] {
        let request = post(&app, good.clone()).header(name, value);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 202, "{name}: {value}");
        let location = response.headers()["location"].to_str().expect("ASCII");
        assert!(location.starts_with("/v1/snapshots/"), "{name}: {value}: {location}");
        let allowed = response.headers().contains_key("access-control-allow-origin");
        assert!(!allowed, "{name}: {value}");
    }
}

#[tokio::test]
async fn no_caller_forges_a_line_of_the_log() {
    for format in ["text", "json"] {
        let (folder, url) = (folder(), empty_database().await);
        let settings = [
            ("STRANDLINE_DATABASE_URL", url.as_str()),
            ("STRANDLINE_LOG", "debug"),
            ("STRANDLINE_LOG_FORMAT", format),
        ];
        let serving = Serving::start_with(folder.path(), &settings);
        let http = reqwest::Client::new();
        let forged = "\u{1b}[2J\nFORGED line";
        for path in ["%0aFORGED", "%1b%5b2J", "%0d%0aFORGED%0d%0a", "x?y=%0aFORGED"] {
            let request = http.get(format!("{}/v1/snapshots/{path}", serving.url));
            request.send().await.expect("an answer");
        }
        for body in [with("topic", json!(forged)), with("labels", json!({"a": forged}))] {
            let request = http.post(format!("{}/v1/snapshots", serving.url)).body(body);
            request.send().await.expect("an answer");
        }
        // While there is no token, nobody looks at what is shown.
        let create = ["token", "create", "--name", "a", "--scope", "read"];
        let mut create = strandline(&create, folder.path());
        assert!(create.envs(settings).output().expect("it runs").status.success());
        let forger = || {
            let request = http.get(format!("{}/v1/version", serving.url));
            let request = request.header("x-request-id", "a b FORGED");
            request.basic_auth(forged, Some(forged))
        };
        until_refused(forger).await;
        let until = http.get(format!("{}/v1/version", serving.url)).header("x-request-id", "last");
        until.send().await.expect("an answer");
        let logged = async {
            while !serving.log().contains("last") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), logged).await.expect("it is logged");
        let log = serving.log();
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.lines().any(|line| line.trim_start().starts_with("FORGED")), "{log}");
        if format == "json" {
            let json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
            assert!(log.lines().all(json), "{log}");
        }
    }
}
