//! Keeping a task ours while we work on it.
//!
//! A heartbeat renews the lease by the database's clock and tells how far the task is. If it
//! can't, the worker stops by itself before the lease ends, by its own monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::{self, Database, Lease, LeaseState, Progress};

/// How far a task is: written by the reading thread, read by the heartbeat.
#[derive(Debug, Default)]
pub(super) struct SharedProgress {
    offsets_done: AtomicI64,
    records: AtomicI64,
    bytes: AtomicI64,
}

impl SharedProgress {
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

/// Why a task has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    LeaseLost,
    Cancelled,
}

/// A lease with its heartbeat. The heartbeat ends when this is dropped.
pub(super) struct HeldLease {
    pub(super) progress: Arc<SharedProgress>,
    /// Cancelled when the work has to stop.
    pub(super) stop: CancellationToken,
    reason: Arc<std::sync::OnceLock<StopReason>>,
    _heartbeat: DropGuard,
}

impl HeldLease {
    /// Starts the heartbeat; `stopping` is the replica's own end.
    pub(super) fn hold(
        db: Database,
        lease: Lease,
        lease_seconds: u32,
        stopping: &CancellationToken,
    ) -> Self {
        let progress = Arc::new(SharedProgress::default());
        let stop = stopping.child_token();
        let reason = Arc::new(std::sync::OnceLock::new());
        let ended = CancellationToken::new();
        let heartbeat = Heartbeat {
            db,
            lease,
            lease_seconds,
            progress: progress.clone(),
            stop: stop.clone(),
            reason: reason.clone(),
        };
        let until = ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = heartbeat.beat() => {}
                () = until.cancelled() => {}
            }
        });
        HeldLease { progress, stop, reason, _heartbeat: ended.drop_guard() }
    }

    /// Why the work has to stop; `None` if it is the replica that stops.
    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }
}

struct Heartbeat {
    db: Database,
    lease: Lease,
    lease_seconds: u32,
    progress: Arc<SharedProgress>,
    stop: CancellationToken,
    reason: Arc<std::sync::OnceLock<StopReason>>,
}

impl Heartbeat {
    /// Renews until it can't, then stops the work.
    async fn beat(self) {
        let lease = Duration::from_secs(u64::from(self.lease_seconds));
        // Progress is to be brought up to date at least every second.
        let interval = (lease / 3).min(Duration::from_secs(1));
        let safe = lease.mul_f64(0.8);
        let mut renewed = Instant::now();
        let reason = loop {
            tokio::time::sleep(interval).await;
            let asked = Instant::now();
            let renewal =
                db::renew_lease(&self.db, self.lease, self.lease_seconds, self.progress.get());
            let left = safe.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, renewal).await {
                Ok(Ok(LeaseState::Held)) => renewed = asked,
                Ok(Ok(LeaseState::CancelRequested)) => break StopReason::Cancelled,
                Ok(Ok(LeaseState::Lost)) => break StopReason::LeaseLost,
                Ok(Err(error)) if renewed.elapsed() < safe => {
                    tracing::warn!(%error, "could not renew a lease; trying again");
                }
                Ok(Err(_)) | Err(_) => break StopReason::LeaseLost,
            }
        };
        let _ = self.reason.set(reason);
        self.stop.cancel();
    }
}
