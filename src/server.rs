//! The HTTP servers: the API's, with TLS or without, and one for metrics alone.

mod certificate;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use certificate::Certificate;

use crate::api::{self, ApiState};
use crate::app::AppError;
use crate::settings::ServeSettings;

/// How long requests that are under way may take once we are asked to stop.
const REQUESTS_END_WITHIN: Duration = Duration::from_secs(8);

/// How long a request's head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Longer than the idle time of common balancers, which would otherwise meet a connection that
/// is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Files and connections of our own: Postgres, Kafka, the object store.
const OWN_FILES: u64 = 512;

/// Connections of callers, also where the system allows more.
const MOST_CONNECTIONS: u64 = 50_000;

/// Ports that are taken, before anything is started: a taken port then costs nothing.
pub struct Listeners {
    api: TcpListener,
    metrics: Option<TcpListener>,
    certificate: Option<Arc<Certificate>>,
}

impl Listeners {
    /// Takes the ports and reads the certificate that the settings name.
    ///
    /// # Errors
    /// [`AppError`], which names the setting to look at.
    pub fn bind(settings: &ServeSettings) -> Result<Self, AppError> {
        let bind = |address: SocketAddr, setting: &str| {
            let attempt = format!("listen on {address} ({setting})");
            TcpListener::bind(address).map_err(AppError::io(attempt))
        };
        let certificate = Certificate::load(&settings.tls)?;
        let metrics = settings.metrics_listen.map(|it| bind(it, "STRANDLINE_METRICS_LISTEN"));
        Ok(Listeners {
            api: bind(settings.listen, "STRANDLINE_LISTEN")?,
            metrics: metrics.transpose()?,
            certificate,
        })
    }
}

/// Servers that run.
pub struct Servers {
    handles: Vec<ServerHandle>,
    running: TaskTracker,
    url: String,
}

impl Servers {
    /// Starts to serve.
    ///
    /// # Errors
    /// [`AppError`] if the system or the TLS library refuse.
    pub fn start(
        listeners: Listeners,
        state: web::Data<ApiState>,
        stopping: &CancellationToken,
    ) -> Result<Self, AppError> {
        let Listeners { api, metrics, certificate } = listeners;
        let address = api.local_addr().map_err(AppError::io("look up our own address"))?;
        let connections = raise_file_limit().saturating_sub(OWN_FILES).clamp(64, MOST_CONNECTIONS);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let of_worker = usize::try_from(connections).unwrap_or(usize::MAX) / workers;
        let (api_state, running) = (state.clone(), TaskTracker::new());
        let server = HttpServer::new(move || api::application().0.app_data(api_state.clone()))
            .workers(workers)
            .max_connections(of_worker.max(1))
            .disable_signals()
            .client_request_timeout(HEAD_WITHIN)
            .shutdown_timeout(REQUESTS_END_WITHIN.as_secs())
            .keep_alive(KEEP_ALIVE);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let server = match certificate {
            Some(certificate) => {
                let (keeper, stopping) = (certificate.clone(), stopping.clone());
                running.spawn(async move { keeper.keep_up(&stopping).await });
                server.listen_rustls_0_23(api, certificate.server_config()?)
            }
            None => server.listen(api),
        };
        let server = server.map_err(AppError::io("serve"))?.run();
        let mut handles = vec![server.handle()];
        running.spawn(server);
        if let Some(listener) = metrics {
            let server = metrics_server(listener, state)?;
            handles.push(server.handle());
            running.spawn(server);
        }
        running.close();
        Ok(Servers { handles, running, url: format!("{scheme}://{address}") })
    }

    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes no new connections, and ends when the requests under way have been answered or
    /// their time is over.
    pub async fn stop(self) {
        for handle in &self.handles {
            handle.stop(true).await;
        }
        self.running.wait().await;
    }
}

/// Serves `/metrics` alone, to whoever can reach it.
fn metrics_server(
    listener: TcpListener,
    state: web::Data<ApiState>,
) -> Result<actix_web::dev::Server, AppError> {
    let server =
        HttpServer::new(move || App::new().app_data(state.clone()).service(api::get_metrics));
    let server = server.workers(1).disable_signals().shutdown_timeout(1).listen(listener);
    Ok(server.map_err(AppError::io("serve metrics"))?.run())
}

/// Takes as many open files as the system lets us have, and gives their number. Shells often
/// begin with 1,024, which a thousand callers that wait would use up.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    now.unwrap_or(u64::MAX)
}
