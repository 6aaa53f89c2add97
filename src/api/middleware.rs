//! What every request goes through: an id, the checks that are the same for all, metrics,
//! and the one shape of errors.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use tracing::Instrument;
use tracing::field::Empty;

use super::auth::{self, Caller};
use super::problem::{Problem, ProblemCode};
use super::{ApiState, allowed_methods, site};
use crate::metrics::{self, Waited};
use crate::trace::{self, TraceParent};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of a request: the caller's own, if it is a sensible one, or a new one.
fn request_id(request: &ServiceRequest) -> String {
    let own = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let sensible = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    own.filter(sensible).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// Scrapes and probes are in nobody's trace: they would be most of all spans.
macro_rules! request_span {
    ($span:ident, $request:ident, $id:ident, $method:ident) => {
        tracing::$span!(
            "request", request_id = %$id, trace_id = Empty, method = %$method,
            path = $request.path(), caller = Empty, snapshot_id = Empty, route = Empty,
            status = Empty,
        )
    };
}

/// Wraps every request.
pub(super) async fn around(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (started, _in_flight) = (Instant::now(), metrics::Ongoing::request());
    let id = request_id(&request);
    let method = request.method().clone();
    let at_terminal = is_at_terminal(&request);
    // HEAD is GET without a body (RFC 9110); the HTTP layer leaves the body out.
    if method == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    let span = match PROBES.contains(&request.path()) {
        true => request_span!(debug_span, request, id, method),
        false => request_span!(info_span, request, id, method),
    };
    let caller = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    if let Some(parent) = trace::request(&span, caller) {
        request.extensions_mut().insert::<TraceParent>(parent);
    }
    async move {
        let response = match admit(&request).await {
            Err(problem) => request.into_response(problem.response(&id)),
            Ok(()) => as_problem(next.call(request).await?.map_into_boxed_body(), &id),
        };
        let response = match at_terminal {
            true => indented(response).await,
            false => response,
        };
        Ok(finish(response, &method, &id, started))
    }
    .instrument(span)
    .await
}

/// What is asked for while a replica stops, and as often as one likes.
const PROBES: &[&str] = &["/livez", "/readyz", "/metrics"];

/// What needs no token. All else does, also what there is not.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/livez" | "/readyz" | "/openapi.json" | "/docs")
        || path.starts_with("/docs/")
        || path.starts_with("/page/")
}

/// Lets a request in, or says why not. A replica that stops takes nothing new, a page of
/// another site may not use a browser's reach, and who calls must be known and may not call
/// too often.
async fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    let Some(state) = request.app_data::<web::Data<ApiState>>() else { return Ok(()) };
    let path = request.path();
    if state.draining.is_cancelled() && !PROBES.contains(&path) {
        return Err(Problem::new(
            ProblemCode::Draining,
            "this replica is stopping; ask again, another one will answer",
        ));
    }
    site::check(request, state)?;
    if is_public(path) {
        return Ok(());
    }
    let caller = auth::identify(state, request).await?;
    if let Some(name) = caller.name() {
        tracing::Span::current().record("caller", name);
    }
    if !PROBES.contains(&path) {
        state.rate.request(&caller.key())?;
    }
    caller.check_method(request.method())?;
    request.extensions_mut().insert::<Caller>(caller);
    Ok(())
}

/// Gives every error the shape of a problem document, also those of the HTTP layer.
fn as_problem(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if status.as_u16() < 400 {
        return response;
    }
    let ours = response.response().extensions().get::<Problem>().cloned();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
    let problem = match ours {
        Some(problem) => problem,
        None if is_problem => return response,
        None => from_status(status, response.request()),
    };
    let request = response.into_parts().0;
    ServiceResponse::new(request, problem.response(id))
}

/// Whether the caller asked to be held back. A preference that was ignored counts as well.
fn waited(request: &actix_web::HttpRequest) -> Waited {
    let names = ["wait=", "expect="];
    let asked =
        request.query_string().split('&').any(|part| names.iter().any(|n| part.starts_with(n)));
    if asked || request.headers().contains_key("prefer") { Waited::Yes } else { Waited::No }
}

/// Whether a person reads the answer as it stands.
fn is_at_terminal(request: &ServiceRequest) -> bool {
    let agent = request.headers().get(header::USER_AGENT);
    let agent = agent.map(HeaderValue::as_bytes).unwrap_or_default();
    agent.starts_with(b"curl/") || agent.starts_with(b"Wget/")
}

/// The same JSON on many lines. Problems stay on one: that is how they stand in a log.
async fn indented(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let content_type = content_type.unwrap_or_default();
    let is_json = content_type == b"application/json" || content_type.ends_with(b"+json");
    if !is_json || response.status().as_u16() >= 400 {
        return response;
    }
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let Ok(bytes) = actix_web::body::to_bytes(body).await else {
        return ServiceResponse::new(request, response.set_body(BoxBody::new(())));
    };
    let document = serde_json::from_slice::<serde_json::Value>(&bytes);
    let bytes = document.map_or(bytes, |document| format!("{document:#}\n").into());
    ServiceResponse::new(request, response.set_body(BoxBody::new(bytes)))
}

fn from_status(status: StatusCode, request: &actix_web::HttpRequest) -> Problem {
    let path = || super::params::quoted(request.path());
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            match allowed_methods(request.path()) {
                Some(methods) => Problem {
                    allow: Some(methods.clone()),
                    ..Problem::new(
                        ProblemCode::MethodNotAllowed,
                        format!("{} knows {methods}, not {}", path(), request.method()),
                    )
                },
                None => Problem::new(
                    ProblemCode::NotFound,
                    format!("there is nothing at {}; see /docs", path()),
                ),
            }
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            ProblemCode::BodyTooLarge,
            format!("a body may have at most {} bytes", super::MAX_BODY_BYTES),
        ),
        status if status.is_client_error() => Problem::new(
            ProblemCode::InvalidParameter,
            format!(
                "the request can't be read: {}",
                status.canonical_reason().unwrap_or("bad request")
            ),
        ),
        _ => Problem::new(
            ProblemCode::Internal,
            "a defect of strandline; its log has the details under this request_id",
        ),
    }
}

fn finish(
    mut response: ServiceResponse<BoxBody>,
    method: &Method,
    id: &str,
    started: Instant,
) -> ServiceResponse<BoxBody> {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let route = response.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    let status = response.status().as_u16();
    let waited = waited(response.request());
    metrics::http_request(&route, method.as_str(), status, started.elapsed(), waited);
    let duration_seconds = started.elapsed().as_secs_f64();
    if is_told(method, status) {
        tracing::info!(route, status, duration_seconds, "answered");
    } else {
        tracing::debug!(route, status, duration_seconds, "answered");
    }
    let span = tracing::Span::current();
    span.record("route", route).record("status", i64::from(status));
    response
}

/// Who has changed something, whom we did not let in, and where we failed is to be found in the
/// log later. All else are polls, probes and scrapes, more than all other lines together.
fn is_told(method: &Method, status: u16) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || matches!(status, 401 | 403 | 429 | 500..)
}
