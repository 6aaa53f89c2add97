//! An example of every problem, made as the service makes them.

use serde_json::{Map, Value, json};

use super::examples::{REQUEST_ID, SNAPSHOT_ID};
use crate::api::problem::{Problem, ProblemCode, RunError};

/// One for each code, by [`key`].
pub(super) fn all() -> Value {
    let named = |code: &ProblemCode| {
        let example = json!({"summary": code.title(), "value": document(*code)});
        (key(*code).to_owned(), example)
    };
    Value::Object(ProblemCode::ALL.iter().map(named).collect::<Map<_, _>>())
}

/// The example's name: the code, but for the one that two statuses share.
pub(super) const fn key(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::NotReadyInTime => "NOT_READY_IN_TIME",
        code => code.as_str(),
    }
}

/// Why a run failed.
pub(super) fn run_error() -> Value {
    serde_json::to_value(failure()).unwrap_or_default()
}

fn failure() -> RunError {
    RunError {
        code: "TOPIC_NOT_FOUND".to_owned(),
        message: "topic orders does not exist".to_owned(),
        retryable: false,
        partition: None,
    }
}

fn document(code: ProblemCode) -> Value {
    let problem = problem(code);
    serde_json::to_value(problem.document(REQUEST_ID)).unwrap_or_default()
}

fn problem(code: ProblemCode) -> Problem {
    let bare_date =
        "\"2025-07-29\" is a date without a time; write it as in 2025-07-29T00:00:00Z".to_owned();
    let reversed = "window_end (2025-07-29T00:00:00.000Z) is before window_start (2025-07-30T00:00:00.000Z); swap them".to_owned();
    match code {
        ProblemCode::InvalidParameter => {
            Problem::parameter("limit", "\"0\" is not a whole number from 1 to 9223372036854775807")
        }
        ProblemCode::FieldInvalid => Problem::fields(vec![(code, "/window_start", bare_date)]),
        ProblemCode::WindowInvalid => Problem::fields(vec![(code, "/window_end", reversed)]),
        ProblemCode::SnapshotFailed => {
            Problem { run_error: Some(Box::new(failure())), ..Problem::new(code, detail(code)) }
        }
        _ => Problem::new(code, detail(code)),
    }
}

fn detail(code: ProblemCode) -> String {
    let text = match code {
        ProblemCode::InvalidJson => {
            "the body is not valid JSON: EOF while parsing an object at line 1 column 1"
        }
        ProblemCode::InvalidParameter | ProblemCode::FieldInvalid | ProblemCode::WindowInvalid => {
            ""
        }
        ProblemCode::Unauthenticated => "a token is needed: Authorization: Bearer TOKEN",
        ProblemCode::Forbidden => "requests from pages of another site are refused",
        ProblemCode::TopicNotAllowed => {
            "topics that begin with __ are Kafka's own and can't be snapshot"
        }
        ProblemCode::NotFound => return format!("there is no snapshot {SNAPSHOT_ID}"),
        ProblemCode::TopicNotFound => "topic orders does not exist",
        ProblemCode::NotReady | ProblemCode::NotReadyInTime => "the snapshot of orders is running",
        ProblemCode::MethodNotAllowed => "\"/v1/snapshots\" knows GET, HEAD, POST, not DELETE",
        ProblemCode::SnapshotFailed => "the snapshot of orders failed: topic orders does not exist",
        ProblemCode::SnapshotCancelled => {
            "the snapshot of orders was cancelled; ask for it again to go on"
        }
        ProblemCode::BodyTooLarge => "a body may have at most 65536 bytes",
        ProblemCode::UnsupportedMediaType => {
            "a body of type \"text/html\" is not read; send JSON in UTF-8 with Content-Type: application/json"
        }
        ProblemCode::RateLimited => "more requests than this caller may send; ask again later",
        ProblemCode::QueueFull => {
            "100000 snapshots wait already (STRANDLINE_QUEUE_LIMIT); ask again later"
        }
        ProblemCode::Internal => {
            "a defect of strandline; its log has the details under this request_id"
        }
        ProblemCode::Draining => "this replica is stopping; ask again, another one will answer",
        ProblemCode::KafkaUnavailable => "the brokers of cluster default do not answer",
        ProblemCode::DatabaseUnavailable => {
            "the database does not answer; nothing was changed, ask again"
        }
    };
    text.to_owned()
}
