//! Workers: they claim tasks, do them, and settle how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use super::lease::HeldLease;
use super::{JobError, Shells, ends_at_once, run};
use crate::db::{self, ClaimedTask, DbError, RetryOutcome};
use crate::fault::{self, Fault};
use crate::metrics;
use crate::snapshot::Failure;
use crate::story;
use crate::trace::RunTrace;

/// How often a worker looks for tasks although nothing told it to: wake-ups are hints.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The longest pause between two attempts at a task, in seconds.
const MAX_BACKOFF_SECONDS: f64 = 15.0;

/// How many workers in a row may die over a task, if that goes on for as long as errors are
/// retried: one more would die as well.
const MAX_DEATHS: i32 = 5;

/// How long a worker tries to record how its task ended.
const SETTLE_WITHIN: Duration = Duration::from_secs(8);

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
    let asked_at = Instant::now();
    let claimed =
        db::claim_task(&shells.db, &source.worker, attempt_id, lease_seconds, source.only).await?;
    let Some(task) = claimed else { return Ok(false) };
    fault::hit(Fault::AfterClaim);
    if let Some(seconds) = task.queue_wait_seconds {
        metrics::queue_wait(seconds);
    }
    let span = tracing::info_span!(
        "task", snapshot_id = %task.snapshot_id, run = task.run, task = task.lease.task_id,
        phase = task.kind.as_str(), attempt = task.attempts, topic = %task.topic,
        trace_id = Empty, code = Empty,
    );
    if let Some(run) = RunTrace::of(task.snapshot_id, task.run, task.trace_parent.as_deref()) {
        run.adopt(&span);
    }
    let held = HeldLease::hold(shells.db.clone(), task.lease, lease_seconds, asked_at, stopping);
    async {
        let (started, _busy) = (Instant::now(), metrics::Ongoing::task());
        let done = attempt(shells, &task, &held).await;
        metrics::task_done(task.kind.as_str(), started.elapsed());
        if let Err(error) = done {
            let failure = error.failure();
            settle(shells, &task, &held, error).await;
            if let Some(failure) = failure {
                tracing::Span::current().record("code", failure.kind.code());
            }
        }
    }
    .instrument(span)
    .await;
    // What comes next may be for the others as well.
    source.wake.notify_waiters();
    Ok(true)
}

/// Does the task, unless it has killed its workers again and again. Work that does not stop
/// when it should is left behind: without the lease it can change nothing.
async fn attempt(shells: &Shells, task: &ClaimedTask, held: &HeldLease) -> Result<(), JobError> {
    let failing_seconds = task.failing_seconds.unwrap_or(0.0);
    if task.deaths > 0 {
        tracing::warn!(deaths = task.deaths, "the task's last worker is gone; taking it over");
    }
    if task.deaths >= MAX_DEATHS && failing_seconds >= f64::from(shells.limits.retry_seconds) {
        return Err(JobError::DiedTooOften { deaths: task.deaths });
    }
    let work = std::panic::AssertUnwindSafe(run::do_task(shells, task, held)).catch_unwind();
    tokio::select! {
        done = work => done.unwrap_or_else(|_| Err(JobError::defect())),
        () = held.stop.overdue() => Err(JobError::Stopping),
    }
}

/// Records how a task ended that was not done. What can't be recorded is found by the next
/// worker when the lease has expired.
async fn settle(shells: &Shells, task: &ClaimedTask, held: &HeldLease, error: JobError) {
    let recording = async {
        match (&error, error.failure()) {
            (JobError::Stopping, _) if !held.stop.lost() => {
                fault::hit(Fault::Draining);
                tracing::info!("this replica stops; the task is free for the others");
                db::release_task(&shells.db, task.lease).await
            }
            (JobError::DiedTooOften { .. }, Some(failure)) => end(shells, task, failure).await,
            (_, Some(failure)) => fail(shells, task, failure).await,
            (_, None) => {
                metrics::lease_lost();
                tracing::info!("the lease is gone: cancelled, or another worker has the task");
                Ok(())
            }
        }
    };
    match tokio::time::timeout(SETTLE_WITHIN, recording).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "could not record how a task ended"),
        Err(_) => tracing::warn!("could not record how a task ended: the database hangs"),
    }
}

async fn fail(shells: &Shells, task: &ClaimedTask, failure: Failure) -> Result<(), DbError> {
    if !ends_at_once(failure.kind) {
        let retry_seconds = shells.limits.retry_seconds;
        let backoff = backoff_seconds(task.attempts, task.lease.attempt_id);
        match db::retry_task(&shells.db, task.lease, &failure, backoff, retry_seconds).await? {
            RetryOutcome::WillRetry => {
                metrics::task_retried(failure.kind);
                tracing::warn!(
                    code = failure.kind.code(),
                    retryable = true,
                    error = failure.message,
                    partition = failure.partition,
                    backoff_seconds = backoff,
                    "retrying"
                );
                return Ok(());
            }
            RetryOutcome::LeaseLost => return Ok(()),
            RetryOutcome::GiveUp => {}
        }
    }
    end(shells, task, failure).await
}

/// Fails the run.
async fn end(shells: &Shells, task: &ClaimedTask, failure: Failure) -> Result<(), DbError> {
    if let Some(run) = db::fail_run(&shells.db, task, &failure).await? {
        metrics::run_ended("failed", Some(failure.kind), run.phases.duration_seconds);
        story::tell(&run);
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
