//! Problem documents (RFC 9457): the one shape of every error that a caller sees.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::DbError;
use crate::metrics;
use crate::snapshot::{Failure, FailureKind};

macro_rules! problem_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal, retryable: $retryable:literal;)+) => {
        /// The closed list of codes of problem documents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemCode { $($(#[$doc])* $variant),+ }

        impl ProblemCode {
            /// All of them.
            pub const ALL: &[ProblemCode] = &[$(ProblemCode::$variant),+];

            /// The code as a document carries it.
            pub const fn as_str(self) -> &'static str {
                match self { $(ProblemCode::$variant => $code),+ }
            }

            /// The status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(ProblemCode::$variant => $status),+ }
            }

            /// What is always the same about it.
            pub const fn title(self) -> &'static str {
                match self { $(ProblemCode::$variant => $title),+ }
            }

            /// Whether the same request may succeed later.
            pub const fn is_retryable(self) -> bool {
                match self { $(ProblemCode::$variant => $retryable),+ }
            }
        }
    };
}

problem_codes! {
    /// The body is not JSON, or has a key twice.
    InvalidJson = "INVALID_JSON", 400, "The body is not valid JSON", retryable: false;
    /// A query parameter is unknown or has a bad value.
    InvalidParameter = "INVALID_PARAMETER", 400, "A parameter is not valid", retryable: false;
    /// It is not known who calls.
    Unauthenticated = "UNAUTHENTICATED", 401, "Who calls is not known", retryable: false;
    /// A request from a page of another site, or one that the token's scope does not cover.
    Forbidden = "FORBIDDEN", 403, "This request is not allowed", retryable: false;
    /// A topic that this caller may not have.
    TopicNotAllowed = "TOPIC_NOT_ALLOWED", 403, "This topic is not allowed", retryable: false;
    /// No such path or snapshot.
    NotFound = "NOT_FOUND", 404, "Not found", retryable: false;
    /// Kafka has no such topic.
    TopicNotFound = "TOPIC_NOT_FOUND", 404, "There is no such topic", retryable: false;
    /// Not yet; ask again.
    NotReady = "NOT_READY", 404, "Not ready yet", retryable: true;
    /// Not within the time.
    NotReadyInTime = "NOT_READY", 504, "Not ready within the time", retryable: true;
    /// The path does not know the method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "This method is not allowed", retryable: false;
    /// The run failed.
    SnapshotFailed = "SNAPSHOT_FAILED", 409, "The snapshot failed", retryable: false;
    /// The run was cancelled.
    SnapshotCancelled = "SNAPSHOT_CANCELLED", 410, "The snapshot was cancelled", retryable: false;
    /// The body is longer than is read.
    BodyTooLarge = "BODY_TOO_LARGE", 413, "The body is too large", retryable: false;
    /// The body is of a type that is not read.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "The body has an unsupported type", retryable: false;
    /// A field has a bad type or value, or is unknown.
    FieldInvalid = "FIELD_INVALID", 422, "A field is not valid", retryable: false;
    /// Both times parse, but together they make no window.
    WindowInvalid = "WINDOW_INVALID", 422, "The window is not valid", retryable: false;
    /// This caller asks too often.
    RateLimited = "RATE_LIMITED", 429, "Too many requests", retryable: true;
    /// Too many runs wait.
    QueueFull = "QUEUE_FULL", 429, "The queue is full", retryable: true;
    /// A defect of ours.
    Internal = "INTERNAL", 500, "An internal error", retryable: true;
    /// This replica is stopping.
    Draining = "DRAINING", 503, "This replica is stopping", retryable: true;
    /// Kafka does not answer.
    KafkaUnavailable = "KAFKA_UNAVAILABLE", 503, "Kafka is unavailable", retryable: true;
    /// Postgres does not answer.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", 503, "The database is unavailable", retryable: true;
}

/// One bad field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) to the field, or the parameter's name.
    #[schema(example = "/window_start")]
    pub pointer: String,
    /// Code of the error.
    #[schema(example = "FIELD_INVALID")]
    pub code: String,
    /// What is wrong and how to put it right.
    pub detail: String,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RunError {
    /// Code of the error.
    #[schema(example = "KAFKA_UNAVAILABLE")]
    pub code: String,
    /// The cause and the fix, in one line.
    pub message: String,
    /// Whether asking again may help.
    pub retryable: bool,
    /// The partition that it is about.
    #[schema(required)]
    pub partition: Option<i32>,
}

impl From<&Failure> for RunError {
    fn from(failure: &Failure) -> Self {
        RunError {
            code: failure.kind.code().to_owned(),
            message: failure.message.clone(),
            retryable: failure.kind.is_retryable(),
            partition: failure.partition,
        }
    }
}

/// A problem document.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// Names the kind of problem; the same for all problems with the same code.
    #[serde(rename = "type")]
    type_: String,
    /// What is always the same about this kind of problem.
    title: &'a str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// One line that tells the whole cause and the fix.
    detail: &'a str,
    /// Code for programs.
    code: &'a str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Id of the request, also in the log and in the header `x-request-id`.
    request_id: &'a str,
    /// The fields that are bad.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
    /// Why the run failed, with `SNAPSHOT_FAILED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'a RunError>,
}

/// An error on its way to a caller. The request's id is added where the answer leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is.
    pub code: ProblemCode,
    /// One line that tells the whole cause and the fix.
    pub detail: String,
    /// The fields that are bad.
    pub errors: Vec<FieldProblem>,
    /// Why the run failed.
    pub run_error: Option<Box<RunError>>,
    /// When to ask again, in seconds.
    pub retry_after_seconds: Option<u32>,
    /// The methods that the path knows.
    pub allow: Option<String>,
}

impl Problem {
    /// A problem with one line of detail.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let retry_after_seconds = match code {
            ProblemCode::NotReady => Some(2),
            ProblemCode::RateLimited => Some(1),
            ProblemCode::QueueFull
            | ProblemCode::Draining
            | ProblemCode::KafkaUnavailable
            | ProblemCode::DatabaseUnavailable => Some(5),
            _ => None,
        };
        Problem {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            run_error: None,
            retry_after_seconds,
            allow: None,
        }
    }

    /// A bad query parameter.
    pub fn parameter(name: &str, detail: impl fmt::Display) -> Self {
        let field = FieldProblem {
            pointer: name.to_owned(),
            code: ProblemCode::InvalidParameter.as_str().to_owned(),
            detail: detail.to_string(),
        };
        Problem {
            errors: vec![field],
            ..Problem::new(ProblemCode::InvalidParameter, format!("{name}: {detail}"))
        }
    }

    /// Bad fields of a body; the first one's code is the problem's.
    pub fn fields(errors: Vec<(ProblemCode, &str, String)>) -> Self {
        let code = errors.first().map_or(ProblemCode::FieldInvalid, |(code, ..)| *code);
        let name = |pointer: &str| pointer.trim_start_matches('/').to_owned();
        let lines: Vec<String> = errors
            .iter()
            .map(|(_, pointer, detail)| match name(pointer) {
                whole_body if whole_body.is_empty() => detail.clone(),
                name => format!("{name}: {detail}"),
            })
            .collect();
        let errors = errors
            .into_iter()
            .map(|(code, pointer, detail)| FieldProblem {
                pointer: pointer.to_owned(),
                code: code.as_str().to_owned(),
                detail,
            })
            .collect();
        Problem { errors, ..Problem::new(code, lines.join("; ")) }
    }

    /// The answer, with the request's id.
    pub fn response(&self, request_id: &str) -> HttpResponse {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponseBuilder::new(status);
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(methods) = &self.allow {
            response.insert_header((header::ALLOW, methods.clone()));
        }
        if self.code == ProblemCode::Unauthenticated {
            response.append_header((header::WWW_AUTHENTICATE, "Bearer realm=\"strandline\""));
            let basic = "Basic realm=\"strandline\", charset=\"UTF-8\"";
            response.append_header((header::WWW_AUTHENTICATE, basic));
        }
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        let body = serde_json::to_string(&self.document(request_id)).unwrap_or_default();
        response.content_type("application/problem+json").body(body + "\n")
    }

    /// The document, with the request's id.
    pub fn document<'a>(&'a self, request_id: &'a str) -> ProblemDocument<'a> {
        ProblemDocument {
            type_: format!(
                "urn:strandline:problem:{}",
                self.code.as_str().to_ascii_lowercase().replace('_', "-")
            ),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            code: self.code.as_str(),
            // Of a run that failed, its own error knows.
            retryable: self
                .run_error
                .as_ref()
                .map_or(self.code.is_retryable(), |error| error.retryable),
            request_id,
            errors: &self.errors,
            error: self.run_error.as_deref(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl actix_web::ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Leaves the document to [`super::middleware`], which knows the request's id.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        if let DbError::QueueFull { limit } = error {
            metrics::refused("queue");
            return Problem::new(
                ProblemCode::QueueFull,
                format!("{limit} snapshots wait already (STRANDLINE_QUEUE_LIMIT); ask again later"),
            );
        }
        match error.failure_kind() {
            FailureKind::DatabaseUnavailable => {
                tracing::warn!(%error, "the database is unavailable");
                Problem::new(
                    ProblemCode::DatabaseUnavailable,
                    "the database does not answer; nothing was changed, ask again",
                )
            }
            _ => {
                tracing::error!(?error, "a request met a defect");
                Problem::new(
                    ProblemCode::Internal,
                    "a defect of strandline; its log has the details under this request_id",
                )
            }
        }
    }
}
