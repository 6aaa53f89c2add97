//! Examples of answers. A unit test holds them to their schemas.

use serde_json::{Value, json};

use super::problems;

pub(super) const SNAPSHOT_ID: &str = "0198c0de-7a61-7d2e-9f3b-6f1f0c9b7e21";
pub(super) const TOPIC_ID: &str = "kC3gQ2WbTlmXw5Ovh2XyAQ";
pub(super) const REQUEST_ID: &str = "0198c0de-8b10-7c44-a1d0-2f7b6d0c9e11";

const JSON: &str = "application/json";
const PLAN: &str = "application/vnd.strandline.plan+json";
const NOON: &str = "2025-07-30T12:00:00.000Z";

/// The path of the snapshot in the examples.
pub(super) fn snapshot_path() -> String {
    format!("/v1/snapshots/{SNAPSHOT_ID}")
}

/// Adds the examples of an answer that is no problem.
pub(super) fn add_to_answer(operation: &str, status: &str, response: &mut Value) {
    for (media_type, name, summary, value) in of_answer(operation, status) {
        response["content"][media_type]["examples"][name] =
            json!({"summary": summary, "value": value});
    }
}

type Example = (&'static str, &'static str, &'static str, Value);

fn of_answer(operation: &str, status: &str) -> Vec<Example> {
    let one = |summary, value| vec![(JSON, "answer", summary, value)];
    match (operation, status) {
        ("createSnapshot", "200") => vec![
            (JSON, "sealed", "Nothing is left to do", succeeded()),
            (JSON, "failed", "It failed within the wait", failed()),
            (PLAN, "plan", "With dry_run", plan()),
        ],
        ("createSnapshot", "202") => one("Accepted", queued()),
        ("listSnapshots", _) => one("The last page", page(succeeded())),
        ("getSnapshot", "200") => one("Under way", running()),
        ("getSnapshotResult" | "refreshSnapshot", "200") => one("It succeeded", succeeded()),
        ("refreshSnapshot", "202") => one("Accepted", running()),
        ("cancelSnapshot", "200") => one("It had ended already", succeeded()),
        ("cancelSnapshot", "202") => one("It is cancelled", cancelled()),
        ("listSnapshotRuns", _) => one("The last page", page(run())),
        ("listSnapshotPartitions", _) => one("The last page", page(partition())),
        ("listSnapshotFiles", _) => one("The last page", page(file())),
        ("listTopics", _) => one("The last page", page(topic())),
        ("listTopicFiles", _) => one("The last page", page(topic_file())),
        ("getTopicOffsets", _) => one("One partition", offsets()),
        ("getTopicCoverage", _) => one("A day that is complete", coverage()),
        ("getLivez" | "getReadyz", "200") => one("It is well", json!({"status": "ok"})),
        ("getVersion", _) => one(
            "A release",
            json!({
                "version": env!("CARGO_PKG_VERSION"), "commit": "4b825dc642cb", "librdkafka": "2.12.1",
                "schema_version": 3,
            }),
        ),
        ("getOpenapi", _) => one(
            "Its beginning",
            json!({
                "openapi": "3.1.0", "info": {"title": "Strandline", "version": env!("CARGO_PKG_VERSION")},
                "paths": {},
            }),
        ),
        ("streamSnapshotEvents", _) => {
            vec![("application/x-ndjson", "answer", "Two events", events())]
        }
        ("getMetrics", _) => vec![(
            "text/plain",
            "answer",
            "Two of its lines",
            json!(
                "# TYPE strandline_records_stored_total counter\nstrandline_records_stored_total 1250\n"
            ),
        )],
        ("getDocs", _) => vec![(
            "text/html",
            "answer",
            "A page",
            json!("<!DOCTYPE html>\n<html lang=\"en\">…</html>\n"),
        )],
        _ => Vec::new(),
    }
}

fn page(item: Value) -> Value {
    json!({"items": [item], "next_cursor": null})
}

/// Progress when `done` of a thousand offsets are read.
fn progress(done: u32) -> Value {
    json!({
        "fraction": f64::from(done) / 1000.0, "offsets_total": 1000, "offsets_done": done,
        "records": done, "bytes": done * 650, "records_per_second": 91000,
        "eta_seconds": (1..1000).contains(&done).then_some(7),
    })
}

/// A snapshot before anyone has looked at it, changed by `with`.
fn snapshot(with: Value) -> Value {
    let path = snapshot_path();
    let mut snapshot = json!({
        "id": SNAPSHOT_ID, "cluster": "default", "topic": "orders", "topic_id": null,
        "window_start": "2025-07-29T00:00:00.000Z", "window_end": "2025-07-30T00:00:00.000Z",
        "capture": "events", "on_loss": "report", "labels": {"dag_id": "orders_daily"},
        "state": "queued", "completeness": null, "run": 1,
        "created_at": NOON, "started_at": null, "finished_at": null, "updated_at": NOON,
        "progress": progress(0), "result": null, "last_error": null, "error": null,
        "links": {
            "self": path, "result": format!("{path}/result"),
            "partitions": format!("{path}/partitions"), "files": format!("{path}/files"),
            "events": format!("{path}/events"),
        },
    });
    for (name, value) in with.as_object().into_iter().flatten() {
        snapshot[name] = value.clone();
    }
    snapshot
}

fn queued() -> Value {
    snapshot(json!({}))
}

fn running() -> Value {
    snapshot(json!({
        "state": "running", "topic_id": TOPIC_ID, "started_at": NOON, "progress": progress(420),
    }))
}

fn succeeded() -> Value {
    snapshot(json!({
        "state": "succeeded", "completeness": "sealed", "topic_id": TOPIC_ID, "started_at": NOON,
        "finished_at": "2025-07-30T12:00:08.000Z", "updated_at": "2025-07-30T12:00:08.000Z",
        "progress": progress(1000),
        "result": {
            "records": 998, "records_added": 998, "files": 1, "bytes": 650_000, "lost_offsets": 0,
            "uncertain_partitions": 0, "out_of_window_records": 2, "poison_records": 0,
        },
    }))
}

fn failed() -> Value {
    snapshot(json!({
        "state": "failed", "started_at": NOON, "finished_at": "2025-07-30T12:00:01.000Z",
        "updated_at": "2025-07-30T12:00:01.000Z", "error": problems::run_error(),
    }))
}

fn cancelled() -> Value {
    snapshot(json!({
        "state": "cancelled", "topic_id": TOPIC_ID, "started_at": NOON, "progress": progress(420),
        "finished_at": "2025-07-30T12:00:04.000Z", "updated_at": "2025-07-30T12:00:04.000Z",
    }))
}

fn plan() -> Value {
    json!({
        "cluster": "default", "topic": "orders", "topic_id": TOPIC_ID,
        "window_start": "2025-07-29T00:00:00.000Z", "window_end": "2025-07-30T00:00:00.000Z",
        "completeness": "sealed", "offsets_to_read": 1000, "offsets_stored": 0, "lost_offsets": 0,
        "uncertain_partitions": 0,
        "partitions": [{
            "partition": 0, "start_offset": 100, "end_offset": 1100, "sealed": true,
            "low_watermark": 0, "high_watermark": 5000, "last_stable_offset": 5000,
            "stored_offsets": 0, "offsets_to_read": 1000, "lost_offsets": 0,
            "start_uncertain": false,
        }],
    })
}

fn run() -> Value {
    json!({
        "run": 1, "origin": "request", "state": "succeeded", "requested_at": NOON,
        "started_at": NOON, "finished_at": "2025-07-30T12:00:08.000Z", "records_added": 998,
        "error": null,
    })
}

fn partition() -> Value {
    json!({
        "partition": 0, "start_offset": 100, "end_offset": 1100, "sealed": true,
        "low_watermark": 0, "high_watermark": 5000, "last_stable_offset": 5000,
        "records": 998, "stored_offsets": 1000, "lost_offsets": 0, "start_uncertain": false,
        "min_timestamp": "2025-07-28T23:59:59.100Z", "max_timestamp": "2025-07-29T23:59:59.900Z",
        "out_of_window_records": 2, "poison_records": 0,
    })
}

fn file() -> Value {
    json!({
        "url": "file:///var/lib/strandline/files/default/orders/0198c0de/1.parquet",
        "whole": true, "records": 998, "records_in_window": 998, "bytes": 650_000,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "min_timestamp": "2025-07-28T23:59:59.100Z", "max_timestamp": "2025-07-29T23:59:59.900Z",
        "segments": [{"partition": 0, "start_offset": 100, "end_offset": 1100}],
    })
}

fn topic_file() -> Value {
    let mut file = file();
    file["topic_id"] = json!(TOPIC_ID);
    file["snapshot_id"] = json!(SNAPSHOT_ID);
    file
}

fn topic() -> Value {
    json!({
        "cluster": "default", "topic": "orders", "topic_id": TOPIC_ID, "partitions": 1,
        "timestamp_type": "create_time", "retention_ms": 604_800_000, "snapshots": 1,
        "oldest_window_start": "2025-07-29T00:00:00.000Z",
        "newest_window_end": "2025-07-30T00:00:00.000Z",
    })
}

fn offsets() -> Value {
    json!({
        "cluster": "default", "topic": "orders", "topic_id": TOPIC_ID,
        "at": "2025-07-29T00:00:00.000Z",
        "partitions": [{
            "partition": 0, "low_watermark": 0, "high_watermark": 5000,
            "last_stable_offset": 5000, "offset": 100,
        }],
    })
}

fn coverage() -> Value {
    json!({
        "cluster": "default", "topic": "orders", "topic_id": TOPIC_ID,
        "from": "2025-07-29T00:00:00.000Z", "to": "2025-07-30T00:00:00.000Z", "complete": true,
        "windows": [{
            "snapshot_id": SNAPSHOT_ID, "window_start": "2025-07-29T00:00:00.000Z",
            "window_end": "2025-07-30T00:00:00.000Z", "state": "succeeded",
            "completeness": "sealed", "records": 998, "lost_offsets": 0,
            "uncertain_partitions": 0,
        }],
        "gaps": [],
        "partitions": [{
            "partition": 0, "low_watermark": 0, "high_watermark": 5000,
            "stored": [{"start_offset": 100, "end_offset": 1100}], "missing": [], "lost": [],
        }],
    })
}

fn events() -> Value {
    let text = json!({
        "partition": 0, "offset": 100, "timestamp": "2025-07-29T00:00:00.100Z", "key": "order-1",
        "value": "{\"amount\":3}", "headers": [{"key": "source", "value": "web"}],
    });
    let bytes = json!({
        "partition": 0, "offset": 101, "timestamp": null, "key": null,
        "value": {"base64": "/wA="}, "headers": [],
    });
    json!(format!("{text}\n{bytes}\n"))
}
