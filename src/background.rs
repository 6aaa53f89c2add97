//! What goes on beside the requests, until the server stops: workers, the sealer, and what keeps
//! metrics, tokens and those who wait up to date.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use futures_util::FutureExt as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::ApiState;
use crate::app::worker_count;
use crate::db::{self, DbError};
use crate::job::{self, Shells, WorkSource};
use crate::metrics;
use crate::settings::ServeSettings;
use crate::telemetry;

/// How often metrics of all replicas are read from Postgres.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(10);

/// How often metrics are summed up, and callers forgotten who are silent.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after a defect, so that one that comes at once again does not keep a core busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Things that go on for as long as the program does.
pub struct Background {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Background {
    /// Nothing goes on yet. All of it will end when `stopping` is cancelled.
    pub fn new(stopping: &CancellationToken) -> Self {
        Background { tasks: TaskTracker::new(), stopping: stopping.clone() }
    }

    /// Begins something, and begins it anew where a defect has ended it: without its workers or
    /// its sealer a replica would look well and do nothing. The panic's hook tells of it.
    pub fn keep<W>(&self, begin: impl Fn(CancellationToken) -> W + Send + 'static)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            while AssertUnwindSafe(begin(stopping.clone())).catch_unwind().await.is_err() {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
    }

    /// Returns when all has ended.
    pub async fn ended(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Workers, and what keeps them, those who wait and the tokens up to date.
pub fn start(
    shells: &Shells,
    settings: &ServeSettings,
    api: &web::Data<ApiState>,
    recorder: PrometheusHandle,
    stopping: &CancellationToken,
) -> Background {
    let background = Background::new(stopping);
    let wake = Arc::new(Notify::new());
    for number in 0..worker_count(&settings.work) {
        let source = WorkSource {
            worker: format!("{}/{number}", telemetry::replica()),
            only: None,
            wake: wake.clone(),
        };
        let shells = shells.clone();
        background.keep(move |stopping| job::work(shells.clone(), source.clone(), stopping));
    }
    // A replica that is the API alone leaves all work with Kafka to the others.
    if worker_count(&settings.work) > 0 {
        let interval = Duration::from_secs(u64::from(settings.seal_interval_seconds));
        let shells = shells.clone();
        background.keep(move |stopping| job::go_rounds(shells.clone(), interval, stopping));
    }
    metrics::workers(worker_count(&settings.work));
    let its = shells.clone();
    background.keep(move |stopping| watch_activity(its.clone(), stopping));
    let its = api.clone();
    background.keep(move |stopping| listen(its.clone(), wake.clone(), stopping));
    let its = api.clone();
    background.keep(move |stopping| look_for_waiters(its.clone(), stopping));
    let its = api.clone();
    background.keep(move |stopping| keep_tokens(its.clone(), stopping));
    let its = api.clone();
    background.keep(move |stopping| keep_tidy(its.clone(), recorder.clone(), stopping));
    background
}

async fn look_for_waiters(api: web::Data<ApiState>, stopping: CancellationToken) {
    api.waiters.poll(&api.db, &stopping).await;
}

async fn keep_tokens(api: web::Data<ApiState>, stopping: CancellationToken) {
    api.tokens.keep_up(&api.db, &stopping).await;
}

/// Keeps small what would grow.
async fn keep_tidy(
    api: web::Data<ApiState>,
    recorder: PrometheusHandle,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() {
        metrics::connections(&api.db.connections());
        // Without upkeep, histograms keep every sample since the last scrape.
        recorder.run_upkeep();
        api.rate.forget_silent();
        telemetry::tell_left_out();
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
            () = stopping.cancelled() => {}
        }
    }
}

/// Looks, again and again, at how all replicas are. A scrape costs Postgres nothing.
async fn watch_activity(shells: Shells, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        if let Err(error) = look_at_activity(&shells).await {
            tracing::warn!(%error, "could not look at how things are");
        }
        tokio::select! {
            () = tokio::time::sleep(ACTIVITY_INTERVAL) => {}
            () = stopping.cancelled() => {}
        }
    }
}

async fn look_at_activity(shells: &Shells) -> Result<(), DbError> {
    if let Some(bytes) = shells.store.free_bytes().await {
        metrics::store_free(bytes);
    }
    let activity = db::activity(&shells.db).await?;
    metrics::topics(job::topic_backlogs(shells).await?);
    metrics::activity(&activity);
    Ok(())
}

/// Passes on what Postgres tells.
async fn listen(api: web::Data<ApiState>, wake: Arc<Notify>, stopping: CancellationToken) {
    let told = |notification: &db::Notification| match notification.channel.as_str() {
        db::TASKS_CHANNEL => wake.notify_waiters(),
        db::TOKENS_CHANNEL => api.tokens.tell(),
        _ => match uuid::Uuid::try_parse(&notification.payload) {
            Ok(id) => api.waiters.wake(id),
            Err(_) => api.waiters.wake_all(),
        },
    };
    let connected = || {
        wake.notify_waiters();
        api.waiters.wake_all();
        api.tokens.tell();
    };
    tokio::select! {
        () = db::listen(&api.db, &told, connected) => {}
        () = stopping.cancelled() => {}
    }
}
