//! What a request for a snapshot may say, in the three forms that `body` reads.

use serde_json::{Value, json};

use super::reference;

/// By Kafka's grammar: neither `.` nor `..`.
pub(super) fn topic() -> Value {
    json!({"type": "string", "maxLength": 249,
        "pattern": r"^(\.{0,2}[a-zA-Z0-9_-][a-zA-Z0-9._-]*|\.{3}[a-zA-Z0-9._-]*)$"})
}

/// A time that can be asked for, as it is best written: what else is read (a space for the `T`,
/// small letters) would be against the format.
pub(super) fn time() -> Value {
    json!({"type": "string", "format": "date-time", "pattern": concat!(
        r"^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?",
        r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    )})
}

/// The schema of a request. Defaults are told in words: for openapi-typescript, a field with a
/// `default` is always there.
pub(super) fn snapshot_request() -> Value {
    let with = |mut schema: Value, more: Value| {
        if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
            schema.extend(more);
        }
        schema
    };
    json!({
        "type": "object", "description": "What may be asked for.", "additionalProperties": false,
        "examples": [in_json()],
        "required": ["topic", "window_start", "window_end"],
        "properties": {
            "topic": with(topic(), json!({
                "description": "Name of the topic, by Kafka's grammar; those that begin with `__` are refused.",
                "examples": ["orders"],
            })),
            "window_start": with(time(), json!({
                "description": "First moment of the window: RFC 3339 with a zone; a space will do for the `T`. What is finer than a millisecond is cut off.",
                "examples": ["2025-07-29T00:00:00Z"],
            })),
            "window_end": with(time(), json!({
                "description": "First moment after the window, later than `window_start`; may be in the future.",
                "examples": ["2025-07-30T00:00:00Z"],
            })),
            "capture": with(reference("schemas", "Capture"), json!({
                "description": "What is taken; `events` if it is not given.",
            })),
            "on_loss": with(reference("schemas", "OnLoss"), json!({
                "description": "What lost offsets mean; `report` if it is not given. Of a later request, it replaces the earlier one.",
            })),
            "cluster": {
                "type": "string", "examples": ["default"],
                "description": "Name of the Kafka cluster; `default` if it is not given.",
            },
            "labels": {
                "type": "object",
                "description": "Labels; of a later request, they replace the earlier ones.",
                "maxProperties": 32,
                "propertyNames": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[^:\x00]+$"},
                "additionalProperties": {"type": "string", "maxLength": 255, "pattern": r"^[^\x00]*$"},
            },
        },
    })
}

/// The body in all the forms that it is read in. The form has no properties in its schema:
/// openapi-generator leaves out schemas that only forms have, but not what imports them.
pub(super) fn snapshot_body() -> Value {
    let text = in_json().to_string();
    json!({
        "required": true,
        "description": "JSON, whatever the content type says of it (`application/json`, any `+json`, `text/plain`, none at all), or a form. At most 64 KiB.",
        "content": {
            "application/json": {
                "schema": reference("schemas", "SnapshotRequest"),
                "examples": {
                    "day": {"summary": "A day of a topic", "value": in_json()},
                    "offsets": {"summary": "Only the offsets of an hour", "value": {
                        "topic": "orders", "window_start": "2025-07-29T00:00:00+00:00",
                        "window_end": "2025-07-29T01:00:00+00:00", "capture": "offsets",
                    }},
                },
            },
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "description": "The fields of `SnapshotRequest`, but for labels: `label=key:value`, repeated."},
                "examples": {"day": {"summary": "A day of a topic", "value": in_form()}},
            },
            "text/plain": {
                "schema": {
                    "type": "string", "description": "JSON all the same.",
                    "contentMediaType": "application/json",
                    "contentSchema": reference("schemas", "SnapshotRequest"),
                },
                "examples": {"day": {"summary": "JSON as text", "value": text}},
            },
        },
    })
}

fn in_json() -> Value {
    json!({
        "topic": "orders", "window_start": "2025-07-29T00:00:00Z",
        "window_end": "2025-07-30T00:00:00Z", "on_loss": "report",
        "labels": {"dag_id": "orders_daily"},
    })
}

fn in_form() -> Value {
    json!({
        "topic": "orders", "window_start": "2025-07-29T00:00:00Z",
        "window_end": "2025-07-30T00:00:00Z", "label": ["dag_id:orders_daily"],
    })
}
