//! The OpenAPI document and a page to read it with.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::problem::{Problem, ProblemCode};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Strandline",
        description = "Snapshots of Kafka topics: a window of time becomes Parquet files. Nothing twice, nothing lost, nothing hidden, nothing in the way.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This Strandline")),
    tags(
        (name = "snapshots", description = "Ask for snapshots and look at them"),
        (name = "topics", description = "What Kafka has, what is held of it, and what is not"),
        (name = "system", description = "Is it there, is it well, which one is it"),
    ),
    components(schemas(super::problem::ProblemDocument<'static>, super::events::EventLine<'static>)),
)]
struct Base;

/// What is not said at the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// Get this document
///
/// The OpenAPI document of this API.
#[utoipa::path(
    tag = "system",
    operation_id = "getOpenapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)),
)]
#[get("/openapi.json")]
pub(super) async fn get_openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(super::openapi_json())
}

/// Get a page to read it with
///
/// A page to read and try the API with.
#[utoipa::path(
    tag = "system",
    operation_id = "getDocs",
    responses((status = 200, description = "A page", content_type = "text/html", body = String)),
)]
#[get("/docs")]
pub(super) async fn get_docs() -> Result<HttpResponse, Problem> {
    let page = asset("index.html")?;
    // The page is served without a redirect to /docs/, so its links need to be told where
    // they are relative to.
    let page =
        String::from_utf8_lossy(&page.bytes).replacen("<head>", "<head><base href=\"/docs/\">", 1);
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page))
}

/// What the page loads.
#[get("/docs/{file}")]
pub(super) async fn get_docs_asset(file: web::Path<String>) -> Result<HttpResponse, Problem> {
    let file = asset(&file)?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CACHE_CONTROL, "max-age=3600"))
        .body(file.bytes.into_owned()))
}

fn asset(name: &str) -> Result<SwaggerFile<'static>, Problem> {
    let config = Arc::new(Config::from("/openapi.json"));
    let missing = || Problem::new(ProblemCode::NotFound, "the page has no such part");
    utoipa_swagger_ui::serve(name, config).ok().flatten().ok_or_else(missing)
}
