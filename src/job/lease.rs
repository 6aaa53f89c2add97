//! Keeping a task ours while we work on it.
//!
//! A heartbeat renews the lease by the database's clock and tells how far the task is. If it
//! can't, the worker stops by itself before the lease ends, by its own monotonic clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::{self, Database, Lease, LeaseState, Progress};
use crate::fault::{self, Fault};
use crate::metrics;
use crate::snapshot::Failure;

/// How long work that was told to stop may take to get to an end by itself: where the lease is
/// gone there is nothing to save, where the replica stops the file is stored first.
const LOST_TASKS_END_WITHIN: Duration = Duration::from_secs(2);
const DRAINED_TASKS_END_WITHIN: Duration = Duration::from_secs(8);

/// How far a task is: written by the reading thread, read by the heartbeat.
#[derive(Debug, Default)]
pub(super) struct SharedProgress {
    offsets_done: AtomicI64,
    records: AtomicI64,
    bytes: AtomicI64,
    /// What the reading thread waits for, until somebody was told.
    waiting: Mutex<Option<Failure>>,
}

impl SharedProgress {
    /// Says what is waited for.
    pub(super) fn wait_for(&self, what: Failure) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    fn take_waiting(&self) -> Option<Failure> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set(&self, progress: Progress) {
        self.offsets_done.store(progress.offsets_done, Ordering::Relaxed);
        self.records.store(progress.records, Ordering::Relaxed);
        self.bytes.store(progress.bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Progress {
        Progress {
            offsets_done: self.offsets_done.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Why the work on a task has to stop. Cheap to clone, to be asked from any thread.
#[derive(Clone)]
pub(super) struct Stop {
    /// The lease is gone: what is done from now on can't be committed.
    lost: CancellationToken,
    /// This replica stops: what is read can still be committed.
    draining: CancellationToken,
}

impl Stop {
    pub(super) fn wanted(&self) -> bool {
        self.lost.is_cancelled() || self.draining.is_cancelled()
    }

    /// Whether the lease is gone.
    pub(super) fn lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns once the lease is gone.
    pub(super) async fn until_lost(&self) {
        self.lost.cancelled().await;
    }

    /// Returns when the work should have come to an end by itself, after it was told to.
    pub(super) async fn overdue(&self) {
        tokio::select! {
            () = self.lost.cancelled() => tokio::time::sleep(LOST_TASKS_END_WITHIN).await,
            () = self.draining.cancelled() => tokio::time::sleep(DRAINED_TASKS_END_WITHIN).await,
        }
    }
}

/// A lease with its heartbeat. The heartbeat ends when this is dropped.
pub(super) struct HeldLease {
    pub(super) progress: Arc<SharedProgress>,
    pub(super) stop: Stop,
    _heartbeat: DropGuard,
}

impl HeldLease {
    /// Starts the heartbeat. `asked_at` is when the lease was asked for: it began later than
    /// that. `stopping` is the replica's own end.
    pub(super) fn hold(
        db: Database,
        lease: Lease,
        lease_seconds: u32,
        asked_at: Instant,
        stopping: &CancellationToken,
    ) -> Self {
        let progress = Arc::new(SharedProgress::default());
        let stop = Stop { lost: CancellationToken::new(), draining: stopping.clone() };
        let ended = CancellationToken::new();
        let (shared, lost) = (progress.clone(), stop.lost.clone());
        let heartbeat = Heartbeat { db, lease, lease_seconds, asked_at, progress: shared, lost };
        let until = ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = heartbeat.beat() => {}
                () = until.cancelled() => {}
            }
        });
        HeldLease { progress, stop, _heartbeat: ended.drop_guard() }
    }
}

struct Heartbeat {
    db: Database,
    lease: Lease,
    lease_seconds: u32,
    asked_at: Instant,
    progress: Arc<SharedProgress>,
    lost: CancellationToken,
}

impl Heartbeat {
    /// Renews until it can't, then stops the work; also if that is because of a defect.
    async fn beat(self) {
        let _lost = self.lost.clone().drop_guard();
        let lease = Duration::from_secs(u64::from(self.lease_seconds));
        // Progress is to be brought up to date at least every second.
        let interval = (lease / 3).min(Duration::from_secs(1));
        let safe = lease.mul_f64(0.8);
        let mut renewed = self.asked_at;
        loop {
            fault::hit(Fault::Heartbeat);
            tokio::time::sleep(interval).await;
            let asked = Instant::now();
            let renewal =
                db::renew_lease(&self.db, self.lease, self.lease_seconds, self.progress.get());
            let left = safe.saturating_sub(renewed.elapsed());
            let renewal = tokio::time::timeout(left, renewal).await;
            metrics::renewal_took(asked.elapsed());
            match renewal {
                Ok(Ok(LeaseState::Held)) => {
                    renewed = asked;
                    self.tell_waiting(safe).await;
                }
                Ok(Err(error)) if renewed.elapsed() < safe => {
                    tracing::warn!(%error, "could not renew a lease; trying again");
                }
                Ok(Ok(LeaseState::Lost)) | Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Shows what the task waits for, if it does.
    async fn tell_waiting(&self, within: Duration) {
        let Some(failure) = self.progress.take_waiting() else { return };
        tracing::info!(code = failure.kind.code(), waiting_for = failure.message, "waiting");
        let telling = db::show_waiting(&self.db, self.lease, &failure);
        // For people to watch: the lease comes first.
        if tokio::time::timeout(within / 8, telling).await.is_err() {
            tracing::warn!("could not show what a task waits for");
        }
    }
}
