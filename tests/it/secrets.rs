//! What is nowhere told: no secret and no event is in the log, in an answer, or in what a program
//! prints that does not start.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use strandline::settings::Cli;
use tokio::time::timeout;

use crate::harness::{HOUR, Record, TestTopic, answer, at, empty_database, record, service};
use crate::kafka::wire::allow_reading;
use crate::process::{Serving, folder, strandline, text, until_refused};

/// The lines that a process has written, all of which must be JSON.
pub fn lines(serving: &Serving) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    serving.log().lines().map(parse).collect()
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
pub fn has_no_canary(place: &str, text: &str) {
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
pub async fn topic_with(records: &[Record]) -> TestTopic {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(records).await;
    allow_reading(&topic.name);
    topic
}

/// Takes the snapshot of the first hour, and again until the brokers know what they may give.
pub async fn snapshot(serving: &Serving, topic: &TestTopic) -> Value {
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let allowed = async {
        loop {
            let snapshot = serving.post("/v1/snapshots?wait=60", &body).await;
            let message = snapshot["error"]["message"].as_str().unwrap_or_default();
            let ended = !snapshot["finished_at"].is_null();
            if ended && !message.contains("Topic authorization failed") {
                return snapshot;
            }
        }
    };
    timeout(Duration::from_secs(300), allowed).await.expect("the brokers let us read")
}

fn with_password(url: &str) -> String {
    // The tests' server asks for none.
    url.replacen('@', ":canary-database-password@", 1)
}

/// What all settings say that may be secret, for a program that gets to work.
pub fn secret_settings(url: &str) -> Vec<(&'static str, String)> {
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

pub fn start(folder: &Path, settings: &[(&str, String)]) -> Serving {
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
    until_refused(list).await;
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
        ("STRANDLINE_RETRY_SECONDS", "60".to_owned()),
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
    let snapshot = self::snapshot(&serving, &topic).await;
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
