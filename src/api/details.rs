//! What a snapshot is made of: its partitions and its files.

use actix_web::{HttpRequest, HttpResponse, get, web};
use uuid::Uuid;

use super::ApiState;
use super::auth::Caller;
use super::params::{Params, encode_cursor, snapshot_id};
use super::problem::Problem;
use super::snapshots::{json, not_found};
use super::views::{File, Page, Partition};
use crate::db::{self, FileRow, PartitionRow};

/// List the partitions of a snapshot
///
/// Lists a snapshot's partitions, by number: ranges, watermarks, what is stored and lost.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "listSnapshotPartitions",
    responses(
        (status = 200, description = "A page; empty before the first plan", body = Page<Partition>),
    ),
)]
#[get("/v1/snapshots/{id}/partitions")]
pub(super) async fn list_snapshot_partitions(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = |text: &str| text.parse::<i32>().ok();
    let (id, limit, page) = asked(&state, &caller, &request, &id, read).await?;
    let rows = db::list_partitions(&state.db, id, page).await?;
    is_there(&state, id, &rows).await?;
    let cursor = |row: &PartitionRow| encode_cursor(row.partition);
    let page = Page::new(rows, limit, cursor, |row| Partition::from(row));
    Ok(json(&mut HttpResponse::Ok(), &page))
}

/// List the files of a snapshot
///
/// Lists the files that hold a snapshot's events, in order of partition and offset. A file
/// that also holds events of other windows is not `whole`; its segments say which part counts.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "listSnapshotFiles",
    responses(
        (status = 200, description = "A page of what is committed so far", body = Page<File>),
    ),
)]
#[get("/v1/snapshots/{id}/files")]
pub(super) async fn list_snapshot_files(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = |text: &str| {
        let (partition, offset) = text.split_once(' ')?;
        Some((partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?))
    };
    let (id, limit, page) = asked(&state, &caller, &request, &id, read).await?;
    let rows = db::list_files(&state.db, id, page).await?;
    is_there(&state, id, &rows).await?;
    let cursor = |row: &FileRow| {
        let first =
            row.segments.first().map_or((0, 0), |part| (part.partition, part.range.start()));
        encode_cursor(format_args!("{} {}", first.0, first.1))
    };
    let view = |row: &FileRow| File::new(row, state.store.url(&row.object_name));
    Ok(json(&mut HttpResponse::Ok(), &Page::new(rows, limit, cursor, view)))
}

/// What a request for one of a snapshot's lists asks for: the snapshot, how many items, and the
/// page, which has one more than that, as it tells whether there are more.
pub(super) async fn asked<T>(
    state: &ApiState,
    caller: &Caller,
    request: &HttpRequest,
    id: &str,
    read_cursor: impl Fn(&str) -> Option<T>,
) -> Result<(Uuid, i64, db::Page<T>), Problem> {
    let params = Params::read(request, &["limit", "cursor"])?;
    let limit = params.limit()?;
    let after = params.cursor(read_cursor)?;
    let id = snapshot_id(id)?;
    caller.check_snapshot(state, id).await?;
    Ok((id, limit, db::Page { after, limit: limit + 1 }))
}

/// Refuses a list without items of a snapshot that is not there.
pub(super) async fn is_there<T>(state: &ApiState, id: Uuid, rows: &[T]) -> Result<(), Problem> {
    if rows.is_empty() && db::get_snapshot(&state.db, id).await?.is_none() {
        return Err(not_found(id));
    }
    Ok(())
}
