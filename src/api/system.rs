//! Is it there, is it well, which one is it.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemCode, ProblemDocument};
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

/// Which Strandline this is.
#[utoipa::path(
    tag = "system",
    operation_id = "getVersion",
    summary = "Versions of Strandline, librdkafka and the database schema",
    responses(
        (status = 200, description = "The versions", body = Version),
        (status = 503, description = "Stopping", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/version")]
pub(super) async fn get_version(state: web::Data<ApiState>) -> HttpResponse {
    json(&mut HttpResponse::Ok(), &state.version)
}

/// Whether the process is alive. Touches nothing.
#[utoipa::path(
    tag = "system",
    operation_id = "getLivez",
    summary = "Is the process alive?",
    responses((status = 200, description = "It is", body = Health)),
)]
#[get("/livez")]
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Whether it can serve: Postgres answers, its schema is current, and the replica is not
/// stopping. Kafka is not needed: a broker's outage must not take every replica away.
#[utoipa::path(
    tag = "system",
    operation_id = "getReadyz",
    summary = "Can it serve?",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "Not now", body = ProblemDocument<'static>, content_type = "application/problem+json"),
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

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    tag = "system",
    operation_id = "getMetrics",
    summary = "Metrics for Prometheus",
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String)),
)]
#[get("/metrics")]
pub async fn get_metrics(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body((state.metrics)())
}
