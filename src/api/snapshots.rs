//! Asking for snapshots and looking at them.

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, get, post, web};
use serde::Serialize;
use uuid::Uuid;

use super::ApiState;
use super::auth::Caller;
use super::outcome::{self, Expect, has_ended};
use super::params::{Params, encode_cursor, snapshot_id};
use super::plan::{PLAN_MEDIA_TYPE, Plan};
use super::problem::{Problem, ProblemCode};
use super::views::{Page, Snapshot, eta_seconds, snapshot_path};
use crate::db::{self, Cancelled, SnapshotFilter, SnapshotRow};
use crate::fault::{self, Fault};
use crate::metrics;
use crate::snapshot::{Completeness, RequestAction, State};
use crate::story;
use crate::trace::TraceParent;

/// The longest that a caller is told to wait before it asks again.
const MAX_RETRY_AFTER_SECONDS: i64 = 60;

/// Ask for a snapshot
///
/// Asks for a snapshot of a topic and a window. The request is its own key: sent again, it
/// is the same snapshot, whatever state that is in, and never a conflict. Kafka is not asked,
/// but for a dry run: a topic that does not exist fails the run.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "createSnapshot",
    // In three forms: `document::requests` has them.
    request_body = String,
    responses(
        (status = 200, description = "Nothing is left to do, or it ended within the wait; with `dry_run`, a `Plan` instead",
            content((Snapshot = "application/json"), (Plan = "application/vnd.strandline.plan+json"))),
        (status = 202, description = "Accepted, or in progress already", body = Snapshot),
    ),
)]
#[post("/v1/snapshots")]
pub(super) async fn create_snapshot(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["wait", "expect", "dry_run"])?;
    let expect = Expect::read(&params)?;
    let dry_run = params.name("dry_run", |text| text.parse::<bool>().ok(), &["true", "false"])?;
    let most = state.max_wait_seconds;
    let wait = outcome::wait_seconds(&request, &params, most)?;
    let clusters: Vec<&str> = state.clusters.iter().map(String::as_str).collect();
    let body = super::body::read(body).await?;
    let wanted = super::body::snapshot_request(&request, &body, &clusters)?;
    caller.check_topic(&wanted.topic)?;
    if dry_run == Some(true) {
        let plan = state.kafka.dry_run(&wanted).await?;
        let mut response = json(&mut HttpResponse::Ok(), &Plan::new(&wanted, &plan));
        response.headers_mut().insert(header::CONTENT_TYPE, PLAN_MEDIA_TYPE);
        return Ok(response);
    }
    let asked = db::request_snapshot(
        &state.db,
        &wanted,
        Uuid::now_v7(),
        trace_parent(&request).as_deref(),
        &state.queue,
    )
    .await;
    let (mut row, action) = asked.inspect_err(|_| metrics::request("rejected"))?;
    tracing::Span::current().record("snapshot_id", tracing::field::display(row.id));
    fault::hit(Fault::AfterRequest);
    metrics::request(match (action, row.run) {
        (RequestAction::NewRun, 1) => "new",
        (RequestAction::NewRun, _) => "new_run",
        (RequestAction::Join, _) => "joined",
        (RequestAction::Replay, _) => "replayed",
    });
    let seconds = wait.unwrap_or(if expect.is_some() { most } else { 0 });
    if seconds > 0 {
        let enough = |row: &SnapshotRow| match expect {
            None => has_ended(row.state),
            Some(expect) => is_final(outcome::check_run(row, expect)),
        };
        row = outcome::wait_for(&state, row.id, seconds, enough).await?.unwrap_or(row);
    }
    if let Some(expect) = expect {
        outcome::check_run(&row, expect).map_err(in_time)?;
    }
    let done = action == RequestAction::Replay || (seconds > 0 && has_ended(row.state));
    let mut response = accepted_unless(done || expect.is_some(), &row);
    if wait.is_some_and(|_| request.headers().contains_key("prefer")) {
        response.insert_header(("preference-applied", format!("wait={seconds}")));
    }
    response.insert_header((header::LOCATION, snapshot_path(row.id)));
    Ok(json(&mut response, &Snapshot::from(&row)))
}

/// Bring a snapshot up to date
///
/// Plans and runs a snapshot once more, whatever its state; joins a run that is under way.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "refreshSnapshot",
    responses(
        (status = 200, description = "It ended within the wait", body = Snapshot),
        (status = 202, description = "Accepted, or in progress already", body = Snapshot),
    ),
)]
#[post("/v1/snapshots/{id}/refresh")]
pub(super) async fn refresh_snapshot(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["wait"])?;
    let wait = outcome::wait_seconds(&request, &params, state.max_wait_seconds)?;
    let id = snapshot_id(&id)?;
    caller.check_snapshot(&state, id).await?;
    let trace = trace_parent(&request);
    let row = db::refresh_snapshot(&state.db, id, trace.as_deref(), &state.queue).await?;
    let mut row = row.ok_or_else(|| not_found(id))?;
    let seconds = wait.unwrap_or(0);
    if seconds > 0 {
        let enough = |row: &SnapshotRow| has_ended(row.state);
        row = outcome::wait_for(&state, id, seconds, enough).await?.unwrap_or(row);
    }
    let mut response = accepted_unless(has_ended(row.state), &row);
    response.insert_header((header::LOCATION, snapshot_path(id)));
    Ok(json(&mut response, &Snapshot::from(&row)))
}

/// 200 if there is nothing to wait for any more, else 202 with when to ask.
fn accepted_unless(done: bool, row: &SnapshotRow) -> actix_web::HttpResponseBuilder {
    if done {
        return HttpResponse::Ok();
    }
    let mut accepted = HttpResponse::Accepted();
    accepted.insert_header((header::RETRY_AFTER, retry_after_seconds(row).to_string()));
    accepted
}

/// Whether waiting longer can't change what was found.
fn is_final(found: Result<(), Problem>) -> bool {
    found.map_or_else(|problem| problem.code != ProblemCode::NotReady, |()| true)
}

/// On POST, "not ready" is an answer to "within this time", not to "is it there".
fn in_time(problem: Problem) -> Problem {
    match problem.code {
        ProblemCode::NotReady => Problem { code: ProblemCode::NotReadyInTime, ..problem },
        _ => problem,
    }
}

fn retry_after_seconds(row: &SnapshotRow) -> i64 {
    eta_seconds(row.state, &row.progress).unwrap_or(1).clamp(1, MAX_RETRY_AFTER_SECONDS)
}

/// JSON that a person can read in a terminal: one line, with a newline at its end.
pub(super) fn json(
    response: &mut actix_web::HttpResponseBuilder,
    document: &impl Serialize,
) -> HttpResponse {
    match serde_json::to_string(document) {
        Ok(text) => response
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("application/json")
            .body(text + "\n"),
        Err(_) => actix_web::ResponseError::error_response(&Problem::new(
            ProblemCode::Internal,
            "the answer can't be written as JSON",
        )),
    }
}

/// Get a snapshot
///
/// Looks a snapshot up, whatever its state.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "getSnapshot",
    responses(
        (status = 200, description = "The snapshot", body = Snapshot),
        (status = 304, description = "The document has not changed"),
    ),
)]
#[get("/v1/snapshots/{id}")]
pub(super) async fn get_snapshot(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["wait"])?;
    let wait = outcome::wait_seconds(&request, &params, state.max_wait_seconds)?;
    let id = snapshot_id(&id)?;
    caller.check_snapshot(&state, id).await?;
    let enough = |row: &SnapshotRow| has_ended(row.state);
    let row = outcome::wait_for(&state, id, wait.unwrap_or(0), enough).await?;
    let row = row.ok_or_else(|| not_found(id))?;
    let document = Snapshot::from(&row);
    let tag = entity_tag(&document);
    if was_seen(&request, &tag) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, tag)).finish());
    }
    Ok(json(HttpResponse::Ok().insert_header((header::ETAG, tag)), &document))
}

/// Whether the caller has what this tag stands for.
pub(super) fn was_seen(request: &HttpRequest, tag: &str) -> bool {
    request.headers().get_all(header::IF_NONE_MATCH).any(|value| {
        let mut tags = value.to_str().unwrap_or_default().split(',');
        tags.any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*")
    })
}

fn entity_tag(document: &Snapshot) -> String {
    use sha2::Digest;
    let text = serde_json::to_vec(document).unwrap_or_default();
    let hash = sha2::Sha256::digest(text);
    let start = u64::from_be_bytes(hash[..8].try_into().unwrap_or_default());
    format!("\"{start:016x}\"")
}

/// That there is no such snapshot.
pub(super) fn not_found(id: Uuid) -> Problem {
    Problem::new(ProblemCode::NotFound, format!("there is no snapshot {id}"))
}

/// Get a snapshot, once it has succeeded
///
/// The state as a status code, for sensors and `curl --fail`.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "getSnapshotResult",
    responses(
        (status = 200, description = "It succeeded", body = Snapshot),
    ),
)]
#[get("/v1/snapshots/{id}/result")]
pub(super) async fn get_snapshot_result(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["wait", "expect"])?;
    let expect = Expect::read(&params)?.unwrap_or(Expect::Succeeded);
    let wait = outcome::wait_seconds(&request, &params, state.max_wait_seconds)?;
    let id = snapshot_id(&id)?;
    caller.check_snapshot(&state, id).await?;
    let enough = |row: &SnapshotRow| is_final(outcome::check(row, expect));
    let row = outcome::wait_for(&state, id, wait.unwrap_or(0), enough).await?;
    let row = row.ok_or_else(|| not_found(id))?;
    outcome::check(&row, expect).map_err(|problem| Problem {
        retry_after_seconds: problem
            .retry_after_seconds
            .map(|_| u32::try_from(retry_after_seconds(&row)).unwrap_or(1)),
        ..problem
    })?;
    Ok(json(&mut HttpResponse::Ok(), &Snapshot::from(&row)))
}

/// Cancel a snapshot
///
/// Cancels the run that is open, whatever phase it is in.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "cancelSnapshot",
    description = "What is stored stays, and the same request, sent again, goes on from there.",
    params(("id" = String, Path, description = "Id of the snapshot")),
    responses(
        (status = 200, description = "It had ended already", body = Snapshot),
        (status = 202, description = "It is cancelled", body = Snapshot),
    ),
)]
#[post("/v1/snapshots/{id}/cancel")]
pub(super) async fn cancel_snapshot(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Params::read(&request, &[])?;
    let id = snapshot_id(&id)?;
    caller.check_snapshot(&state, id).await?;
    let cancelled = db::cancel_run(&state.db, id).await?;
    let row = db::get_snapshot(&state.db, id).await?.ok_or_else(|| not_found(id))?;
    let Cancelled::Now(run) = cancelled else {
        return Ok(json(&mut HttpResponse::Ok(), &Snapshot::from(&row)));
    };
    metrics::run_ended("cancelled", None, run.phases.duration_seconds);
    story::tell(&run);
    let location = snapshot_path(id);
    Ok(json(
        HttpResponse::Accepted().insert_header((header::LOCATION, location)),
        &Snapshot::from(&row),
    ))
}

/// What the work that a request asks for belongs to.
fn trace_parent(request: &HttpRequest) -> Option<String> {
    request.extensions().get::<TraceParent>().map(ToString::to_string)
}

/// List snapshots
///
/// Lists snapshots, newest first.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "listSnapshots",
    responses(
        (status = 200, description = "A page", body = Page<Snapshot>),
    ),
)]
#[get("/v1/snapshots")]
pub(super) async fn list_snapshots(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(
        &request,
        &[
            "cluster",
            "topic",
            "state",
            "completeness",
            "window_from",
            "window_to",
            "label",
            "limit",
            "cursor",
        ],
    )?;
    let filter = SnapshotFilter { topics: caller.topics().to_vec(), ..read_filter(&params)? };
    let limit = params.limit()?;
    let after = params.cursor(|text| Uuid::try_parse(text).ok())?;
    let page = db::Page { after, limit: limit + 1 };
    let rows = db::list_snapshots(&state.db, &filter, page).await?;
    let cursor = |row: &SnapshotRow| encode_cursor(row.id);
    Ok(json(&mut HttpResponse::Ok(), &Page::new(rows, limit, cursor, |row| Snapshot::from(row))))
}

fn read_filter(params: &Params) -> Result<SnapshotFilter, Problem> {
    let text = |name: &'static str| -> Result<Option<String>, Problem> {
        match params.one(name)? {
            Some(value) if value.contains('\0') => {
                Err(Problem::parameter(name, "holds the character U+0000"))
            }
            value => Ok(value.map(str::to_owned)),
        }
    };
    let states: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
    let completenesses: Vec<&str> = Completeness::ALL.iter().map(|c| c.as_str()).collect();
    Ok(SnapshotFilter {
        cluster: text("cluster")?,
        topic: text("topic")?,
        topics: Vec::new(),
        states: params.names("state", State::from_name, &states)?,
        completeness: params.name("completeness", Completeness::from_name, &completenesses)?,
        window_from: params.time("window_from")?,
        window_to: params.time("window_to")?,
        labels: params.labels()?,
    })
}
