//! The whole path once: the flights of January 2013, day by day.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::harness::{DAY, DEFAULT_LIMITS, HOUR, Record, TestApp, TestTopic, record};

const DAY_LENGTH: i64 = 24 * HOUR;

/// 2013-01-01T00:00:00Z in milliseconds.
const JANUARY: i64 = 1_356_998_400_000;

fn flights() -> Vec<Record> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-2013-01.ndjson.gz");
    let file = flate2::read::GzDecoder::new(std::fs::File::open(path).expect("the data"));
    let lines = BufReader::new(file).lines().map(|line| line.expect("UTF-8"));
    let flight = |(number, line): (usize, String)| {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        Record {
            partition: (number % 4) as i32,
            timestamp: event["timestamp"].as_i64().expect("milliseconds"),
            key: event["key"].as_str().map(|key| key.as_bytes().to_vec()),
            value: Some(event["value"].to_string().into_bytes()),
            headers: Vec::new(),
        }
    };
    lines.enumerate().map(flight).collect()
}

#[tokio::test]
async fn a_month_of_flights_falls_into_its_days() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(4, &[]).await;
    let flights = flights();
    topic.produce(&flights).await;
    let mut counts = Vec::new();
    for day in 0..32 {
        let start = JANUARY - DAY + day * DAY_LENGTH;
        let snapshot = app.snapshot(&topic.name, start, start + DAY_LENGTH).await;
        assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
        assert_eq!(snapshot["completeness"], if day < 31 { "sealed" } else { "settled" });
        assert_eq!(snapshot["result"]["lost_offsets"], 0);
        assert_eq!(snapshot["result"]["out_of_window_records"], 0);
        let of_day = flights.iter().filter(|flight| {
            let since = flight.timestamp - JANUARY - day * DAY_LENGTH;
            (0..DAY_LENGTH).contains(&since)
        });
        let records = snapshot["result"]["records"].as_u64().expect("a number") as usize;
        assert_eq!(records, of_day.count(), "day {day}");
        counts.push(records);
    }
    assert_eq!(counts.iter().sum::<usize>(), 27_004);
    assert_eq!((counts[0], counts[31]), (697, 184));
}

#[tokio::test]
async fn an_empty_topic_and_an_empty_window_end_at_once() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(3, &[]).await;
    let empty = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(empty["state"], "succeeded");
    assert_eq!(empty["completeness"], "settled");
    assert_eq!(empty["progress"]["fraction"], 1.0);
    assert_eq!(empty["result"]["records"], 0);
    let later: Vec<Record> = (0..3).map(|partition| record(partition, 2 * HOUR, "later")).collect();
    topic.produce(&later).await;
    let sealed = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(sealed["completeness"], "sealed");
    assert_eq!(sealed["run"], 2);
    assert_eq!(app.detail(&sealed, "files").await.len(), 0);
    assert_eq!(app.detail(&sealed, "partitions").await.len(), 3);
}

#[tokio::test]
async fn capture_offsets_records_the_ranges_and_copies_nothing() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(0, HOUR, "c")]).await;
    let (status, asked) = app
        .post(
            "/v1/snapshots",
            &serde_json::json!({
                "topic": topic.name, "window_start": crate::harness::at(0),
                "window_end": crate::harness::at(HOUR), "capture": "offsets",
            }),
        )
        .await;
    assert_eq!(status, 202);
    app.work().await;
    let (_, snapshot) = app.get(asked["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["completeness"], "sealed");
    assert_eq!(snapshot["result"]["records"], 0);
    let partitions = app.detail(&snapshot, "partitions").await;
    assert_eq!(partitions[0]["stored_offsets"], 2);
    assert_eq!(partitions[0]["min_timestamp"], Value::Null);
    assert_eq!(app.detail(&snapshot, "files").await.len(), 0);
    // The events of the same window are another snapshot, and still all there.
    let events = app.snapshot(&topic.name, 0, HOUR).await;
    assert_ne!(events["id"], snapshot["id"]);
    assert_eq!(events["result"]["records"], 2);
}

#[tokio::test]
async fn a_large_range_becomes_many_files_of_about_the_target_size() {
    let limits = strandline::job::WorkLimits { target_file_bytes: 64 * 1024, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let topic = TestTopic::create(2, &[]).await;
    // Hard to compress, so that the size of the files is that of the events.
    let noise = |seed: u64| -> String {
        (0..40)
            .map(|i| {
                format!(
                    "{:016x}",
                    (seed * 40 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
                )
            })
            .collect()
    };
    let records: Vec<Record> =
        (0..2000).map(|i| record((i % 2) as i32, i, &noise(i as u64))).collect();
    topic.produce(&records).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 2000, "{snapshot}");
    let files = app.detail(&snapshot, "files").await;
    assert!(files.len() > 4, "{} files", files.len());
    for file in &files {
        assert!(file["bytes"].as_u64().expect("bytes") < 2 * 64 * 1024 + 16_384, "{file}");
    }
    assert_eq!(app.events(&snapshot).await.len(), 2000);
    app.has_no_orphans().await;
}

#[tokio::test]
async fn quiet_partitions_share_a_file() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(64, &[]).await;
    let quiet: Vec<Record> = (0..64).map(|p| record(p, i64::from(p), "tick")).collect();
    let ends: Vec<Record> = (0..64).map(|p| record(p, HOUR, "end")).collect();
    topic.produce(&[quiet, ends].concat()).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["completeness"], "sealed");
    assert_eq!(
        (&snapshot["result"]["records"], &snapshot["result"]["files"]),
        (&64.into(), &1.into())
    );
    let files = app.detail(&snapshot, "files").await;
    assert_eq!(files[0]["segments"].as_array().expect("segments").len(), 64);
}

#[tokio::test]
async fn a_topics_own_files_tell_how_large_a_task_may_be() {
    let limits = strandline::job::WorkLimits { target_file_bytes: 64 * 1024, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let topic = TestTopic::create(1, &[]).await;
    // Events that take next to nothing in a file: as long as nobody knows, 256 bytes are
    // assumed, which makes a file for 256 of them.
    let of_hour = |hour: i64| -> Vec<Record> {
        (0..2000).map(|i| record(0, hour * HOUR + i, "tick")).collect()
    };
    topic.produce(&of_hour(0)).await;
    topic.produce(&of_hour(1)).await;
    topic.produce(&[record(0, 2 * HOUR, "end")]).await;
    let first = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(first["result"]["files"], 8);
    let second = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(second["result"]["records"], 2000);
    let files = second["result"]["files"].as_i64().expect("a number");
    assert!(files <= 2, "{files} files: their frames still count");
}
