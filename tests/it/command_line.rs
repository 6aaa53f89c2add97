//! The program as a person starts it: exit codes, one-line errors, and the private
//! PostgreSQL that it brings along.

use std::io::Read;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::harness::{HOUR, TestApp, TestTopic, at, record};
use crate::process::{Serving, folder, strandline, text};

fn window<'a>(topic: &'a str, start: &'a str, end: &'a str) -> Vec<&'a str> {
    vec!["snapshot", "--topic", topic, "--start", start, "--end", end]
}

#[tokio::test]
async fn one_window_in_the_foreground_with_a_postgres_of_its_own() {
    let topic = TestTopic::create(2, &[]).await;
    topic
        .produce(&[
            record(0, 0, "a"),
            record(1, 1, "b"),
            record(0, HOUR, "x"),
            record(1, HOUR, "y"),
        ])
        .await;
    let folder = folder();
    let (start, end) = (at(0), at(HOUR));
    let run = |more: &[&str]| -> Output {
        let arguments = [window(&topic.name, &start, &end).as_slice(), more].concat();
        strandline(&arguments, folder.path()).output().expect("it runs")
    };
    let output = run(&[]);
    let (table, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{table}{errors}");
    assert!(table.contains("records       2 (2 added)"), "{table}");
    assert!(table.contains("sealed"), "{table}");
    let output = run(&["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let snapshot: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["result"]["records"], 2);
    assert_eq!(snapshot["run"], 1, "nothing was left to do");
}

#[tokio::test]
async fn exit_codes_and_errors_of_one_line() {
    let app = TestApp::spawn().await;
    let (start, end) = (at(0), at(HOUR));
    let url = app.database_url();
    let folder = folder();
    let run = |arguments: &[&str]| -> (Option<i32>, String, String) {
        let mut command = strandline(arguments, folder.path());
        let output = command.env("STRANDLINE_DATABASE_URL", &url).output().expect("it runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, _) = run(&window("no-such-topic", &start, &end));
    assert_eq!(code, Some(1));
    assert!(table.contains("TOPIC_NOT_FOUND"), "{table}");
    let with = |name, value| [window("t", &start, &end), vec![name, value]].concat();
    let no_such_file = "security.protocol=ssl,ssl.ca.location=/no/such/file";
    for (arguments, part) in [
        (window("t", &end, &start), "--end: window_end"),
        (window("t", &start, &start), "CronDataIntervalTimetable"),
        (window("t", "2025-07-29", &end), "date without a time"),
        (window("a/b", &start, &end), "--topic"),
        (vec!["snapshot", "--topic", "t"], "--start"),
        (vec!["snapshot", "--topic", "t"], "see strandline snapshot --help"),
        (vec!["serve", "--listen", "0.0.0.0:0"], "STRANDLINE_LISTEN"),
        (vec!["serve", "--lease-seconds", "x"], "STRANDLINE_LEASE_SECONDS"),
        (vec!["serve", "--storage-url", "nonsense"], "STRANDLINE_STORAGE_URL"),
        (vec!["serve", "--listen", "127.0.0.1:0", "--kafka-properties", "no.such=1"], "no.such"),
        (with("--kafka-brokers", "broker:port"), "STRANDLINE_KAFKA_BROKERS"),
        (with("--kafka-brokers", "http://a:9092"), "as in broker-1:9092,broker-2:9092"),
        (with("--data-dir", "/proc/none"), "strandline: STRANDLINE_DATA_DIR: "),
        (with("--kafka-properties", "auto.offset.reset=latest"), "it is always error"),
        (with("--kafka-properties", "sasl.password=hunter,2"), "entry 2 has no ="),
        (with("--kafka-properties", no_such_file), "ssl.ca.location failed"),
        (vec!["migrate", "--database-url", "nonsense"], "STRANDLINE_DATABASE_URL"),
        (vec!["migrate", "--log", "a=b=c"], "STRANDLINE_LOG"),
        (vec!["migrte"], "migrte"),
    ] {
        let (code, _, errors) = run(&arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
        assert!(errors.starts_with("strandline: "), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let (code, help, _) = run(&["serve", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("STRANDLINE_KAFKA_BROKERS"));
    let (code, help, _) = run(&["snapshot", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("Example") && help.contains("Exit codes") && help.contains("RFC 3339"));
    let (code, version, _) = run(&["--version"]);
    assert_eq!(
        (code, version),
        (Some(0), format!("strandline {}\n", strandline::settings::VERSION))
    );
    let (code, document, _) = run(&["openapi"]);
    assert_eq!(code, Some(0));
    assert_eq!(document, strandline::api::openapi_json());
    let (code, document, _) = run(&["openapi", "--lowered"]);
    assert_eq!((code, document), (Some(0), strandline::api::openapi_lowered_json()));
    let (code, migrated, _) = run(&["migrate"]);
    assert_eq!((code, migrated.as_str()), (Some(0), "the database's schema is at version 6\n"));
}

#[tokio::test]
async fn serve_brings_its_own_postgres_and_ends_well() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "x")]).await;
    let folder = folder();
    let mut serving = Serving::start(folder.path());
    let http = reqwest::Client::new();
    let url = format!("{}/v1/snapshots?expect=sealed", serving.url);
    let form =
        [("topic", topic.name.as_str()), ("window_start", &at(0)), ("window_end", &at(HOUR))];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = http.post(&url).header("content-type", "application/x-www-form-urlencoded");
    let (status, snapshot) = crate::harness::answer(request.body(body)).await;
    assert_eq!((status, &snapshot["result"]["records"]), (200, &1.into()), "{snapshot}");
    let (_, metrics) = crate::harness::answer(http.get(format!("{}/metrics", serving.url))).await;
    let metrics = metrics.as_str().expect("text").to_owned();
    assert!(metrics.contains("strandline_records_stored_total 1"), "{metrics}");
    assert!(metrics.contains("strandline_http_request_duration_seconds_bucket"));

    // A second server on the same directory is refused; a snapshot command joins.
    let second = strandline(&["serve", "--listen", "127.0.0.1:0"], folder.path()).output();
    let second = second.expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("STRANDLINE_DATA_DIR"), "{}", text(&second.stderr));
    let (start, end) = (at(0), at(HOUR));
    let joined = strandline(&window(&topic.name, &start, &end), folder.path()).output();
    let joined = joined.expect("it runs");
    assert_eq!(joined.status.code(), Some(0), "{}", text(&joined.stderr));
    assert!(text(&joined.stdout).contains(snapshot["id"].as_str().expect("an id")));

    serving.signal("TERM");
    assert_eq!(serving.ended().await.code(), Some(0));
    let generation = std::fs::read_to_string(folder.path().join("files/.strandline-generation"));
    let generation = generation.expect("told by both");
    // At its end it has two seconds for that.
    let too_late = serving.log().contains("could not be told");
    assert!(generation.trim() == "2" || too_late && generation.trim() == "1", "{generation}");
    // Everything is there when it comes back.
    let serving = Serving::start(folder.path());
    let path = snapshot["links"]["self"].as_str().expect("a path");
    let (status, again) = crate::harness::answer(http.get(format!("{}{path}", serving.url))).await;
    assert_eq!((status, &again["result"]), (200, &snapshot["result"]));
}

#[test]
fn variables_that_are_no_setting_are_warned_of() {
    let folder = folder();
    let mut command = strandline(&["openapi"], folder.path());
    command.env("STRANDLINE_KAFKA_BROKER", "a:1").env("STRANDLINE_TEST_MODE", "1");
    let output = command.output().expect("it runs");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("WARN") && errors.lines().count() == 1, "{errors}");
    let hint = "STRANDLINE_KAFKA_BROKER is no setting and does nothing; did you mean STRANDLINE_KAFKA_BROKERS?";
    assert!(errors.contains(hint), "{errors}");
}

#[test]
fn standard_output_that_is_closed_is_no_panic() {
    let folder = folder();
    let mut command = strandline(&["openapi"], folder.path());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().expect("errors").read_to_string(&mut errors).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{errors}");
    assert_eq!(errors, "");
}
