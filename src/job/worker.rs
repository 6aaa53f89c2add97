//! Workers: they claim tasks, do them, and settle how they end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::lease::{HeldLease, StopReason};
use super::{JobError, Shells, ends_at_once, run};
use crate::db::{self, ClaimedTask, DbError, RetryOutcome};
use crate::metrics;
use crate::snapshot::{Failure, FailureKind};

/// How often a worker looks for tasks although nothing told it to: wake-ups are hints.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The longest pause between two attempts at a task, in seconds.
const MAX_BACKOFF_SECONDS: f64 = 15.0;

/// Where a worker's tasks come from.
#[derive(Clone)]
pub struct WorkSource {
    /// Who we are; for people to read.
    pub worker: String,
    /// Only tasks of this snapshot.
    pub only: Option<Uuid>,
    /// Notified when there may be a task.
    pub wake: Arc<Notify>,
}

/// Does tasks until `stopping`; a task that is under way then is given back.
pub async fn work(shells: Shells, source: WorkSource, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        let woken = source.wake.notified();
        tokio::pin!(woken);
        // From here on no wake-up is missed, also none that comes while we ask.
        woken.as_mut().enable();
        match work_once(&shells, &source, &stopping).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "could not claim a task; trying again"),
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = stopping.cancelled() => {}
        }
    }
}

/// Does tasks until none is free.
///
/// # Errors
/// [`DbError`] if no task could be claimed.
pub async fn work_until_idle(shells: &Shells, source: &WorkSource) -> Result<(), DbError> {
    while work_once(shells, source, &CancellationToken::new()).await? {}
    Ok(())
}

/// Claims one task and does it; `false` if none is free.
///
/// # Errors
/// [`DbError`] if no task could be claimed.
pub async fn work_once(
    shells: &Shells,
    source: &WorkSource,
    stopping: &CancellationToken,
) -> Result<bool, DbError> {
    let attempt_id = Uuid::new_v4();
    let lease_seconds = shells.limits.lease_seconds;
    let claimed =
        db::claim_task(&shells.db, &source.worker, attempt_id, lease_seconds, source.only).await?;
    let Some(task) = claimed else { return Ok(false) };
    if let Some(seconds) = task.queue_wait_seconds {
        metrics::queue_wait(seconds);
    }
    let span = tracing::info_span!(
        "task", snapshot_id = %task.snapshot_id, run = task.run, kind = task.kind.as_str(),
        topic = %task.topic, attempt = task.attempts,
    );
    let held = HeldLease::hold(shells.db.clone(), task.lease, lease_seconds, stopping);
    async {
        let started = std::time::Instant::now();
        let work = std::panic::AssertUnwindSafe(run::do_task(shells, &task, &held));
        let done = work.catch_unwind().await.unwrap_or_else(|_| {
            let what = "a worker met a defect of strandline; its log has the details";
            Err(JobError::Failed(Failure::new(FailureKind::Internal, what)))
        });
        metrics::task_done(task.kind.as_str(), started.elapsed());
        if let Err(error) = done {
            settle(shells, &task, &held, error).await;
        }
    }
    .instrument(span)
    .await;
    // What comes next may be for the others as well.
    source.wake.notify_waiters();
    Ok(true)
}

/// Records how a task ended that was not done. What can't be recorded is found by the next
/// worker when the lease has expired.
async fn settle(shells: &Shells, task: &ClaimedTask, held: &HeldLease, error: JobError) {
    let error = match (error, held.stop_reason()) {
        (JobError::Stopping, Some(StopReason::LeaseLost)) => JobError::LeaseLost,
        (JobError::Stopping, Some(StopReason::Cancelled)) => JobError::Cancelled,
        (error, _) => error,
    };
    let settled = match &error {
        JobError::LeaseLost => {
            tracing::info!("the lease is gone; another worker has the task");
            Ok(())
        }
        JobError::Stopping => db::release_task(&shells.db, task.lease).await,
        JobError::Cancelled => db::end_run(&shells.db, task, None).await.map(|ended| {
            if ended {
                metrics::run_ended("cancelled", None);
            }
        }),
        error => match error.failure() {
            Some(failure) => fail(shells, task, failure).await,
            None => Ok(()),
        },
    };
    if let Err(error) = settled {
        tracing::warn!(%error, "could not record how a task ended");
    }
}

async fn fail(shells: &Shells, task: &ClaimedTask, failure: Failure) -> Result<(), DbError> {
    if !ends_at_once(failure.kind) {
        let retry_seconds = shells.limits.retry_seconds;
        let backoff = backoff_seconds(task.attempts, task.lease.attempt_id);
        match db::retry_task(&shells.db, task.lease, &failure, backoff, retry_seconds).await? {
            RetryOutcome::WillRetry => {
                tracing::warn!(
                    code = failure.kind.code(),
                    error = failure.message,
                    backoff,
                    "retrying"
                );
                return Ok(());
            }
            RetryOutcome::LeaseLost => return Ok(()),
            RetryOutcome::GiveUp => {}
        }
    }
    if db::end_run(&shells.db, task, Some(&failure)).await? {
        metrics::run_ended("failed", Some(failure.kind));
        tracing::warn!(code = failure.kind.code(), error = failure.message, "snapshot failed");
    }
    Ok(())
}

/// Doubles with every attempt, up to a limit; the random attempt's id spreads it.
fn backoff_seconds(attempts: i32, attempt_id: Uuid) -> f64 {
    let longest = 0.25 * 2f64.powi(attempts.clamp(1, 10));
    let spread = f64::from(attempt_id.as_bytes()[0]) / 255.0;
    longest.min(MAX_BACKOFF_SECONDS) * (0.5 + spread / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_has_a_limit() {
        let low = Uuid::from_bytes([0; 16]);
        let high = Uuid::from_bytes([255; 16]);
        assert!(backoff_seconds(1, high) <= 0.5 && backoff_seconds(1, low) >= 0.25);
        assert!(backoff_seconds(3, low) > backoff_seconds(1, high));
        assert!(backoff_seconds(1000, high) <= MAX_BACKOFF_SECONDS);
    }
}
