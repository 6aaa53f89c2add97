//! Parameters of requests, each said once.

use serde_json::{Map, Value, json};

use super::examples::{SNAPSHOT_ID, TOPIC_ID};
use super::reference;
use super::requests::{time, topic};

/// Postgres takes no text with this character in it.
const NO_NUL: &str = r"^[^\x00]*$";

/// Names among the document's parameters, and what they say.
pub(super) fn all() -> Value {
    let groups = [paths(), waiting(), filters(), lists(), times()];
    let parameters: Map<String, Value> = groups
        .into_iter()
        .flatten()
        .map(|(name, parameter)| (name.to_owned(), parameter))
        .collect();
    Value::Object(parameters)
}

type Named = (&'static str, Value);

fn paths() -> Vec<Named> {
    let id = json!({"type": "string", "format": "uuid"});
    let in_path = |name: &str, description: &str, schema: Value, example: &str| {
        json!({"name": name, "in": "path", "required": true, "description": description,
            "schema": schema, "example": example})
    };
    vec![
        ("SnapshotId", in_path("id", "Id of the snapshot.", id, SNAPSHOT_ID)),
        ("TopicName", in_path("topic", "Name of the topic.", topic(), "orders")),
    ]
}

// Numbers without a `format`, which would have a maximum: what is too large is no error.

fn waiting() -> Vec<Named> {
    let seconds = json!({"type": "integer", "minimum": 0, "default": 0});
    // Not among the schemas: openapi-generator's Go has one name space for all values of enums.
    let expect = json!({"type": "string", "enum": ["succeeded", "settled", "sealed"]});
    vec![
        (
            "Wait",
            query(
                "wait",
                "Seconds to hold the answer until the snapshot has ended. More than the server's longest wait (`STRANDLINE_MAX_WAIT_SECONDS`) is taken for that. Goes before `Prefer: wait`.",
                seconds,
                json!(30),
            ),
        ),
        (
            "Expect",
            query(
                "expect",
                "What counts as success: any that `succeeded`, which is what `result` takes if it is not told, or only one that is at least `settled` or `sealed`. On POST, the status then tells the outcome, after the longest wait if no `wait` is given.",
                expect,
                json!("succeeded"),
            ),
        ),
        (
            "DryRun",
            query(
                "dry_run",
                "Asks Kafka, answers with the plan, and makes nothing.",
                json!({"type": "boolean", "default": false}),
                json!(false),
            ),
        ),
        (
            "Prefer",
            header(
                "Prefer",
                "`wait=30` (RFC 7240) is as the parameter `wait`. What makes no sense is ignored.",
                "wait=30",
            ),
        ),
        (
            "IfNoneMatch",
            header(
                "If-None-Match",
                "The `ETag` of an earlier answer: 304 if the snapshot is still the same.",
                "\"5f0c2a9be1d34788\"",
            ),
        ),
    ]
}

fn filters() -> Vec<Named> {
    let text = || json!({"type": "string", "pattern": NO_NUL});
    let label = json!({"type": "string", "pattern": r"^[^:\x00]*:[^\x00]*$"});
    let states = json!({"type": "array", "items": reference("schemas", "State")});
    let labels = json!({"type": "array", "items": label});
    let partition =
        json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": i32::MAX});
    vec![
        ("ClusterFilter", query("cluster", "Of this cluster.", text(), json!("default"))),
        ("TopicFilter", query("topic", "Of this topic.", text(), json!("orders"))),
        (
            "StateFilter",
            query(
                "state",
                "In any of these states; repeatable.",
                states,
                json!(["queued", "running"]),
            ),
        ),
        (
            "CompletenessFilter",
            query(
                "completeness",
                "As complete as this.",
                reference("schemas", "Completeness"),
                json!("sealed"),
            ),
        ),
        (
            "LabelFilter",
            query(
                "label",
                "`key:value`, split at the first colon; repeatable, all must match.",
                labels,
                json!(["dag_id:orders_daily"]),
            ),
        ),
        ("PartitionFilter", query("partition", "Of this partition alone.", partition, json!(0))),
        (
            "TopicId",
            query(
                "topic_id",
                "Of this incarnation of the topic; of the newest if it is not given.",
                text(),
                json!(TOPIC_ID),
            ),
        ),
    ]
}

fn lists() -> Vec<Named> {
    let limit = json!({"type": "integer", "minimum": 1, "default": 50});
    let events = json!({"type": "integer", "minimum": 1});
    let cursor = json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"});
    vec![
        (
            "Limit",
            query("limit", "At most this many; more than 200 is taken for 200.", limit, json!(50)),
        ),
        (
            "EventLimit",
            query(
                "limit",
                "At most this many; all of them if it is not given.",
                events,
                json!(1000),
            ),
        ),
        (
            "Cursor",
            query(
                "cursor",
                "`next_cursor` of the page before; a list takes none but its own.",
                cursor,
                Value::Null,
            ),
        ),
    ]
}

fn times() -> Vec<Named> {
    let (from, to) = ("2025-07-29T00:00:00Z", "2025-07-30T00:00:00Z");
    let optional =
        |name, description, example: &str| query(name, description, time(), json!(example));
    let required = |name, description, example: &str| {
        let mut parameter = optional(name, description, example);
        parameter["required"] = json!(true);
        parameter
    };
    vec![
        ("WindowFrom", optional("window_from", "Windows that end after this time.", from)),
        ("WindowTo", optional("window_to", "Windows that start before this time.", to)),
        (
            "EventsFrom",
            optional("from", "Files that can hold an event at or after this time.", from),
        ),
        ("EventsTo", optional("to", "Files that can hold an event before this time.", to)),
        ("SpanFrom", required("from", "First moment of the span.", from)),
        ("SpanTo", required("to", "First moment after the span; later than `from`.", to)),
        ("At", required("at", "The time whose boundary is asked for.", from)),
    ]
}

fn query(name: &str, description: &str, schema: Value, example: Value) -> Value {
    let mut parameter = json!({"name": name, "in": "query", "required": false,
        "description": description, "schema": schema});
    if !example.is_null() {
        parameter["example"] = example;
    }
    parameter
}

fn header(name: &str, description: &str, example: &str) -> Value {
    json!({"name": name, "in": "header", "required": false, "description": description,
        "schema": {"type": "string"}, "example": example})
}
