//! What goes on beside the requests, until the server stops: workers, the sealer, and what keeps
//! metrics, tokens and those who wait up to date.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
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

/// Workers, and what keeps them, those who wait and the tokens up to date.
pub fn start(
    shells: &Shells,
    settings: &ServeSettings,
    api: &web::Data<ApiState>,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stopping: &CancellationToken,
) -> TaskTracker {
    let background = TaskTracker::new();
    let wake = Arc::new(Notify::new());
    for number in 0..worker_count(&settings.work) {
        let source = WorkSource {
            worker: format!("{}/{number}", telemetry::replica()),
            only: None,
            wake: wake.clone(),
        };
        background.spawn(job::work(shells.clone(), source, stopping.clone()));
    }
    // A replica that is the API alone leaves all work with Kafka to the others.
    if worker_count(&settings.work) > 0 {
        let interval = Duration::from_secs(u64::from(settings.seal_interval_seconds));
        background.spawn(job::go_rounds(shells.clone(), interval, stopping.clone()));
    }
    metrics::workers(worker_count(&settings.work));
    background.spawn(watch_activity(shells.clone(), stopping.clone()));
    background.spawn(listen(api.clone(), wake, stopping.clone()));
    let (state, stop) = (api.clone(), stopping.clone());
    background.spawn(async move { state.waiters.poll(&state.db, &stop).await });
    let (state, stop) = (api.clone(), stopping.clone());
    background.spawn(async move { state.tokens.keep_up(&state.db, &stop).await });
    let (state, stop) = (api.clone(), stopping.clone());
    background.spawn(async move {
        while !stop.is_cancelled() {
            metrics::connections(&state.db.connections());
            // Without upkeep, histograms keep every sample since the last scrape.
            recorder.run_upkeep();
            state.rate.forget_silent();
            telemetry::tell_left_out();
            tokio::select! {
                () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    background
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
