//! What nobody should send: each is a problem document with a code of the closed list, never
//! a 5xx, and nothing of it can forge a line of the log.

use reqwest::RequestBuilder;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use strandline::api::ProblemCode;

use crate::harness::{HOUR, TestApp, at, empty_database};
use crate::process::{Serving, folder};

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

#[tokio::test]
async fn fields_that_make_no_sense() {
    let app = TestApp::spawn().await;
    let long = "x".repeat(250);
    let mut bodies: Vec<(String, &str)> = vec![
        ("null".into(), "FIELD_INVALID"),
        ("[]".into(), "FIELD_INVALID"),
        ("\"orders\"".into(), "FIELD_INVALID"),
        ("7".into(), "FIELD_INVALID"),
        (with("window_end", json!(at(0))), "WINDOW_INVALID"),
        (with("window_end", json!(at(-1))), "WINDOW_INVALID"),
    ];
    for topic in [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "a/b",
        "%2e%2e%2f",
        &long,
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
    ] {
        bodies.push((with("topic", json!(topic)), "FIELD_INVALID"));
    }
    for time in [
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
    ] {
        bodies.push((with("window_start", json!(time)), "FIELD_INVALID"));
    }
    let many: Value = (0..33).map(|n| (n.to_string(), json!("x"))).collect();
    for (field, value) in [
        ("tpoic", json!("orders")),
        ("destination", json!("s3://evil/bucket")),
        ("callback_url", json!("http://169.254.169.254/")),
        ("brokers", json!("evil:9092")),
        ("topic", json!(7)),
        ("topic", json!(null)),
        ("topic", json!(["orders"])),
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
        ("labels", json!({"a": "x".repeat(256)})),
        ("labels", json!({"a": "\u{0}"})),
        ("labels", many),
    ] {
        bodies.push((with(field, value), "FIELD_INVALID"));
    }
    let case = |(body, code): (String, &'static str)| Case {
        what: body.clone(),
        request: post(&app, body),
        status: 422,
        code,
    };
    check(bodies.into_iter().map(case).collect()).await;
    let forbidden = ["__consumer_offsets", "__x"].map(|topic| Case {
        what: topic.to_owned(),
        request: post(&app, with("topic", json!(topic))),
        status: 403,
        code: "TOPIC_NOT_ALLOWED",
    });
    check(forbidden.into_iter().collect()).await;
    let longest = Case {
        what: "the longest name".to_owned(),
        request: post(&app, with("topic", json!(long[1..]))),
        status: 202,
        code: "",
    };
    check(vec![longest]).await;
    let (_, list) = app.get("/v1/snapshots").await;
    assert_eq!(list["items"].as_array().expect("items").len(), 1, "no more was made");
}

#[tokio::test]
async fn paths_parameters_and_headers() {
    let app = TestApp::spawn().await;
    let id = "/v1/snapshots/01890000-0000-7000-8000-000000000000";
    let (many, long) = ("label=a:b&".repeat(6_000), "x".repeat(16_000));
    let mut cases = Vec::new();
    for (path, status, code) in [
        ("/v1/snapshots/%00".to_owned(), 404, "NOT_FOUND"),
        ("/v1/snapshots/%ff".to_owned(), 404, "NOT_FOUND"),
        ("/v1/snapshots/%0aFORGED".to_owned(), 404, "NOT_FOUND"),
        ("/v1/snapshots/1".to_owned(), 404, "NOT_FOUND"),
        (format!("/v1/snapshots/{long}"), 404, "NOT_FOUND"),
        (format!("{id}/files"), 404, "NOT_FOUND"),
        (format!("{id}?token=secret"), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?limit=0".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?limit=-1".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?limit=1e9".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?limit=999999999999999999999".to_owned(), 200, ""),
        ("/v1/snapshots?limit=1&limit=2".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?cursor=AAAA".to_owned(), 400, "INVALID_PARAMETER"),
        (format!("/v1/snapshots?cursor={long}"), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?state=bogus".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?sort=id;DROP".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?topic=%00".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?cluster=%ff".to_owned(), 200, ""),
        (format!("/v1/snapshots?topic={long}"), 200, ""),
        (format!("/v1/snapshots?{many}"), 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?window_from=%00".to_owned(), 400, "INVALID_PARAMETER"),
        ("/v1/topics/__consumer_offsets/files".to_owned(), 403, "TOPIC_NOT_ALLOWED"),
        ("/v1/topics/..%2f..%2fetc/files".to_owned(), 404, "TOPIC_NOT_FOUND"),
        (format!("/v1/topics/a/files?cursor={long}"), 400, "INVALID_PARAMETER"),
        ("/v1/topics/a/coverage?from=x&to=y".to_owned(), 400, "INVALID_PARAMETER"),
        (format!("/v1/topics/a/coverage?from={}&to={}", at(1), at(0)), 400, "INVALID_PARAMETER"),
        ("/v1/topics/a/offsets".to_owned(), 400, "INVALID_PARAMETER"),
        ("/docs/../v1/snapshots".to_owned(), 200, ""),
        ("/docs/%2e%2e/%2e%2e/etc/passwd".to_owned(), 404, "NOT_FOUND"),
        ("/%2e%2e/etc/passwd".to_owned(), 404, "NOT_FOUND"),
    ] {
        let request = app.http.get(format!("{}{path}", app.url));
        let what = path.chars().take(80).collect();
        cases.push(Case { what, request, status, code });
    }
    for method in ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "FORGED"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let what = method.to_string();
        let request = app.http.request(method, format!("{}/v1/snapshots", app.url));
        cases.push(Case { what, request, status: 405, code: "METHOD_NOT_ALLOWED" });
    }
    let good = with("topic", json!("orders"));
    for (name, value) in [
        ("prefer", "wait=-1"),
        ("prefer", "wait=99999999999999999999"),
        ("prefer", ";;,,="),
        ("accept", "text/html"),
        ("accept", "application/xml;q=1"),
        ("if-match", "\"stale\""),
        ("traceparent", "00-not-one"),
        ("x-forwarded-for", "127.0.0.1, \u{7f}"),
        ("x-forwarded-host", "evil.example"),
        ("expect", "100-continue"),
        ("range", "bytes=0-1"),
    ] {
        let name = HeaderName::from_static(name);
        let Ok(value) = HeaderValue::from_bytes(value.replace('\u{7f}', "x").as_bytes()) else {
            panic!("{name}: {value:?} is no header");
        };
        let what = format!("{name}: {value:?}");
        let request = post(&app, good.clone()).header(name, value);
        cases.push(Case { what, request, status: 202, code: "" });
    }
    check(cases).await;
    let request = post(&app, good).header("host", "evil.example");
    let response = request.send().await.expect("an answer");
    let location = response.headers()["location"].to_str().expect("ASCII").to_owned();
    assert!(location.starts_with("/v1/snapshots/"), "{location}");
    assert!(!response.headers().contains_key("access-control-allow-origin"));
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
        let request = http.get(format!("{}/v1/version", serving.url));
        let request = request.header("x-request-id", "a b FORGED").basic_auth(forged, Some(forged));
        request.send().await.expect("an answer");
        let until = http.get(format!("{}/v1/version", serving.url)).header("x-request-id", "last");
        until.send().await.expect("an answer");
        while !serving.log().contains("last") {
            tokio::task::yield_now().await;
        }
        let log = serving.log();
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.lines().any(|line| line.trim_start().starts_with("FORGED")), "{log}");
        if format == "json" {
            let json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
            assert!(log.lines().all(json), "{log}");
        }
    }
}
