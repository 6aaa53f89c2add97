//! Headers of answers. One that is `required` is always there.

use serde_json::{Map, Value, json};

use super::{examples, reference};
use crate::api::problem::ProblemCode;

/// Names among the document's headers, and what they say.
pub(super) fn all() -> Value {
    let text = |example: &str| json!({"type": "string", "examples": [example]});
    let seconds = || json!({"type": "integer", "format": "int32", "minimum": 1, "examples": [2]});
    json!({
        "XRequestId": {
            "description": "Id of the request: the caller's own, if it sends a sensible one, or a new one. The log has it too.",
            "required": true, "schema": text(examples::REQUEST_ID),
        },
        "Location": {
            "description": "Path of the snapshot.",
            "required": true, "schema": text(&examples::snapshot_path()),
        },
        "LocationIfSnapshot": {
            "description": "Path of the snapshot; not with `dry_run`.",
            "schema": text(&examples::snapshot_path()),
        },
        "RetryAfter": {
            "description": "Seconds until it is worth asking again.",
            "required": true, "schema": seconds(),
        },
        "RetryAfterIfNotReady": {
            "description": "Seconds until it is worth asking again; only with `NOT_READY`.",
            "schema": seconds(),
        },
        "PreferenceApplied": {
            "description": "The seconds that the answer was held back for at most, if `Prefer: wait` asked for it.",
            "schema": text("wait=30"),
        },
        "ETag": {
            "description": "Changes with the document.",
            "required": true, "schema": text("\"5f0c2a9be1d34788\""),
        },
        "WwwAuthenticate": {
            "description": "The ways to say who calls.",
            "required": true, "schema": text("Bearer realm=\"strandline\""),
        },
        "Allow": {
            "description": "The methods that the path knows.",
            "required": true, "schema": text("GET, HEAD"),
        },
    })
}

/// Headers of an answer by their names in HTTP; every answer has the request's id.
pub(super) fn references(names: impl Iterator<Item = &'static str>) -> Value {
    let header = |name| (in_http(name).to_owned(), reference("headers", name));
    let headers: Map<String, Value> = names.chain(["XRequestId"]).map(header).collect();
    Value::Object(headers)
}

/// What problems of one status bring along.
pub(super) fn of_problems(codes: &[ProblemCode]) -> impl Iterator<Item = &'static str> {
    let header = match codes.first() {
        Some(ProblemCode::Unauthenticated) => Some("WwwAuthenticate"),
        Some(ProblemCode::MethodNotAllowed) => Some("Allow"),
        Some(code) if matches!(code.status(), 429 | 503 | 504) => Some("RetryAfter"),
        _ if codes.contains(&ProblemCode::NotReady) => Some("RetryAfterIfNotReady"),
        _ => None,
    };
    header.into_iter()
}

fn in_http(name: &str) -> &str {
    match name {
        "XRequestId" => "X-Request-Id",
        "LocationIfSnapshot" => "Location",
        "RetryAfter" | "RetryAfterIfNotReady" => "Retry-After",
        "PreferenceApplied" => "Preference-Applied",
        "WwwAuthenticate" => "WWW-Authenticate",
        same => same,
    }
}
