//! Is it there, is it well, which one is it.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemCode};
use super::snapshots::json;
use super::{ApiState, Version};
use crate::db::{self, SchemaState};

/// It is well.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Get the versions
///
/// Tells which Strandline, librdkafka and database schema this is.
#[utoipa::path(
    tag = "system",
    operation_id = "getVersion",
    responses(
        (status = 200, description = "The versions", body = Version),
    ),
)]
#[get("/v1/version")]
pub(super) async fn get_version(state: web::Data<ApiState>) -> HttpResponse {
    json(&mut HttpResponse::Ok(), &state.version)
}

/// Is the process alive?
///
/// Whether the process is alive. Touches nothing.
#[utoipa::path(
    tag = "system",
    operation_id = "getLivez",
    responses((status = 200, description = "It is", body = Health)),
)]
#[get("/livez")]
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Can it serve?
///
/// Whether it can serve: Postgres answers, its schema is current, and the replica is not
/// stopping. Kafka is not needed: a broker's outage must not take every replica away.
#[utoipa::path(
    tag = "system",
    operation_id = "getReadyz",
    responses(
        (status = 200, description = "It can", body = Health),
    ),
)]
#[get("/readyz")]
pub(super) async fn readyz(state: web::Data<ApiState>) -> Result<HttpResponse, Problem> {
    if state.draining.is_cancelled() {
        return Err(Problem::new(ProblemCode::Draining, "this replica is stopping"));
    }
    match db::check_schema(&state.db).await? {
        // A later version has migrated it: old and new replicas work side by side.
        SchemaState::Current | SchemaState::Ahead { .. } => {
            Ok(HttpResponse::Ok().json(Health { status: "ok" }))
        }
        SchemaState::Behind { .. } => Err(Problem::new(
            ProblemCode::DatabaseUnavailable,
            "the database's schema is older than this program; run strandline migrate",
        )),
    }
}

/// Get the metrics
///
/// Metrics in the text format of Prometheus.
#[utoipa::path(
    tag = "system",
    operation_id = "getMetrics",
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String)),
)]
#[get("/metrics")]
pub async fn get_metrics(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body((state.metrics)())
}
