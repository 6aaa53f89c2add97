//! The HTTP contract: requests in, reports out. A handler never waits for Kafka, but for
//! `/v1/topics…` and dry runs, through the one door of [`AskKafka`].
//!
//! `auth` finds out who calls, by what `credentials` reads, and `rate` how often. `body` and
//! `params` read what callers send, `views` and `problem` are what they get, `document` tells of both,
//! `snapshots`, `details`, `events`, `topics`, `coverage` and `system` are the resources, `wait` holds answers
//! back, `page` is the page for people, `middleware` is what every request goes through, `site`
//! what it knows of browsers.

mod auth;
mod body;
mod coverage;
mod credentials;
mod details;
mod docs;
mod document;
mod events;
#[cfg(test)]
mod fuzz;
mod kafka;
mod middleware;
mod outcome;
mod page;
mod params;
mod plan;
mod problem;
mod rate;
mod runs;
mod site;
mod snapshots;
mod system;
mod topics;
mod views;
mod wait;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::App;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{NormalizePath, TrailingSlash, from_fn};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_actix_web::AppExt;

pub use auth::{Anonymous, Tokens};
pub use credentials::Secret;
pub use kafka::AskKafka;
pub use problem::{Problem, ProblemCode};
pub use rate::RateLimits;
pub use system::get_metrics;
pub use views::{Snapshot, Version};
pub use wait::Waiters;

use crate::db::{Database, QueueLimit};
use crate::store::Store;

/// The longest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Event streams at once: each holds a row group or two, however slowly it is read.
pub const MAX_STREAMS: usize = 32;

/// What handlers need.
pub struct ApiState {
    /// The state of everything.
    pub db: Database,
    /// Where the files are.
    pub store: Store,
    /// What only Kafka can tell.
    pub kafka: Arc<dyn AskKafka>,
    /// Those who wait.
    pub waiters: Waiters,
    /// The clusters that a request may name.
    pub clusters: Vec<String>,
    /// Longest wait.
    pub max_wait_seconds: u32,
    /// Most runs that may wait for a worker.
    pub queue: QueueLimit,
    /// Who may call.
    pub tokens: Tokens,
    /// Whether anybody may as long as there is no token.
    pub anonymous: Anonymous,
    /// How often each may.
    pub rate: RateLimits,
    /// Web origins besides our own.
    pub allowed_origins: Vec<String>,
    /// Event streams that may still begin.
    pub streams: Arc<Semaphore>,
    /// How long one waits for a reader that does not read.
    pub stream_stall: Duration,
    /// Which Strandline this is.
    pub version: Version,
    /// Cancelled when this replica begins to stop.
    pub draining: CancellationToken,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The whole application, and the OpenAPI document of its routes.
pub fn application() -> (
    App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<impl MessageBody>,
            Error = actix_web::Error,
            InitError = (),
        >,
    >,
    utoipa::openapi::OpenApi,
) {
    let (app, document) = App::new()
        .into_utoipa_app()
        .openapi(docs::base())
        .service(snapshots::create_snapshot)
        .service(snapshots::list_snapshots)
        .service(snapshots::get_snapshot)
        .service(snapshots::get_snapshot_result)
        .service(snapshots::cancel_snapshot)
        .service(snapshots::refresh_snapshot)
        .service(runs::list_snapshot_runs)
        .service(details::list_snapshot_partitions)
        .service(details::list_snapshot_files)
        .service(events::stream_snapshot_events)
        .service(topics::list_topics)
        .service(topics::get_topic_offsets)
        .service(coverage::get_topic_coverage)
        .service(topics::list_topic_files)
        .service(system::get_version)
        .service(system::livez)
        .service(system::readyz)
        .service(system::get_metrics)
        .service(docs::get_openapi)
        .service(docs::get_docs)
        .split_for_parts();
    let app = app
        .service(docs::get_docs_asset)
        .service(page::get_page)
        .service(page::get_page_asset)
        .wrap(from_fn(middleware::around))
        // Outermost: what follows sees one spelling of each path. No redirect, ever.
        .wrap(NormalizePath::new(TrailingSlash::Trim));
    (app, document)
}

/// What utoipa has collected at the routes.
fn routes() -> &'static utoipa::openapi::OpenApi {
    static ROUTES: OnceLock<utoipa::openapi::OpenApi> = OnceLock::new();
    ROUTES.get_or_init(|| application().1)
}

/// The OpenAPI document as it is served and committed: pretty, with a newline at its end.
pub fn openapi_json() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| pretty(&document::complete(routes())))
}

/// The same in OpenAPI 3.0.3, for tools that know no newer one.
pub fn openapi_lowered_json() -> String {
    pretty(&document::lower(&document::complete(routes())))
}

fn pretty(document: &serde_json::Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

/// The methods of a path, as an `Allow` header lists them; `None` if there is no such path.
fn allowed_methods(path: &str) -> Option<String> {
    if page::is_at(path) {
        return Some("GET, HEAD".to_owned());
    }
    let matches = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template.zip(path).all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
    };
    let item = routes().paths.paths.iter().find(|(template, _)| matches(template))?.1;
    let mut methods = Vec::new();
    if item.get.is_some() {
        methods.extend(["GET", "HEAD"]);
    }
    if item.post.is_some() {
        methods.push("POST");
    }
    Some(methods.join(", "))
}
