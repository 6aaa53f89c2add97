//! A snapshot's runs: who asked for each, when, and how it ended.

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Caller;
use super::details::{asked, is_there};
use super::params::encode_cursor;
use super::problem::{Problem, RunError};
use super::snapshots::json;
use super::views::{Page, StateSchema};
use crate::db::{self, RunRow};
use crate::snapshot::{State, Timestamp};

/// Who asked for a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RunOrigin)]
#[expect(dead_code, reason = "gives the schema of a column its values")]
enum OriginSchema {
    /// A caller.
    Request,
    /// Strandline by itself, to bring the snapshot up to date.
    Sealer,
}

/// One attempt to bring a snapshot up to date.
#[derive(Serialize, ToSchema)]
#[schema(as = Run)]
struct RunView {
    /// Number of the run, from 1.
    #[schema(example = 1)]
    run: i32,
    /// Who asked for it.
    #[schema(value_type = OriginSchema)]
    origin: String,
    /// Where it stands.
    #[schema(value_type = StateSchema)]
    state: State,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    /// When a worker first took it up.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Timestamp>,
    /// Events that it has stored.
    records_added: i64,
    /// Why it failed.
    #[schema(required)]
    error: Option<RunError>,
}

impl From<&RunRow> for RunView {
    fn from(row: &RunRow) -> Self {
        RunView {
            run: row.run,
            origin: row.origin.clone(),
            state: row.state,
            requested_at: row.requested_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            records_added: row.records_added,
            error: row.error.as_ref().map(RunError::from),
        }
    }
}

/// List the runs of a snapshot
///
/// Lists a snapshot's runs, newest first: who asked for each, when, and how it ended. The
/// snapshot itself speaks of the newest that someone asked for.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "listSnapshotRuns",
    responses(
        (status = 200, description = "A page", body = Page<RunView>),
    ),
)]
#[get("/v1/snapshots/{id}/runs")]
pub(super) async fn list_snapshot_runs(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = |text: &str| text.parse::<i32>().ok();
    let (id, limit, page) = asked(&state, &caller, &request, &id, read).await?;
    let rows = db::list_runs(&state.db, id, page).await?;
    is_there(&state, id, &rows).await?;
    let cursor = |row: &RunRow| encode_cursor(row.run);
    let page = Page::new(rows, limit, cursor, |row| RunView::from(row));
    Ok(json(&mut HttpResponse::Ok(), &page))
}
