//! Waiting for a snapshot without a thread, a connection or a poll for each who waits.
//!
//! Postgres tells of every run that ends (`NOTIFY strandline_ended`), on one connection for
//! the whole replica; a slow poll of all snapshots that are waited for covers what was missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::{self, Database};
use crate::snapshot::State;

/// How often those who wait are told to look although nothing told us.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Everyone who waits, by snapshot.
#[derive(Clone, Default)]
pub struct Waiters {
    waiting: Arc<Mutex<HashMap<Uuid, watch::Sender<u64>>>>,
}

impl Waiters {
    /// From now on, [`Ticket::woken`] returns for every event of this snapshot.
    pub fn register(&self, id: Uuid) -> Ticket {
        let mut waiting = self.lock();
        let sender = waiting.entry(id).or_insert_with(|| watch::channel(0).0);
        Ticket { id, receiver: sender.subscribe(), waiters: self.clone() }
    }

    /// Tells all who wait for this snapshot to look.
    pub fn wake(&self, id: Uuid) {
        if let Some(sender) = self.lock().get(&id) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Tells everyone to look.
    pub fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Looks, again and again, whether a snapshot that is waited for has ended.
    pub async fn poll(&self, db: &Database, stopping: &CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = stopping.cancelled() => return,
            }
            let ids: Vec<Uuid> = self.lock().keys().copied().collect();
            if ids.is_empty() {
                continue;
            }
            match db::get_states(db, &ids).await {
                Ok(states) => {
                    let ended = |state| !matches!(state, State::Queued | State::Running);
                    states
                        .iter()
                        .filter(|(_, state)| ended(*state))
                        .for_each(|(id, _)| self.wake(*id));
                }
                Err(error) => tracing::warn!(%error, "could not look for those who wait"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<u64>>> {
        // A panic while it was held leaves a map that is still a map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
pub struct Ticket {
    id: Uuid,
    receiver: watch::Receiver<u64>,
    waiters: Waiters,
}

impl Ticket {
    /// Returns when the snapshot may have ended since the last call or the registration.
    pub async fn woken(&mut self) {
        // The sender lives as long as this ticket does.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // This ticket's own receiver is dropped only after this.
        if waiting.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_registration_and_waiting_is_not_missed() {
        let waiters = Waiters::default();
        let id = Uuid::from_u128(1);
        let mut ticket = waiters.register(id);
        waiters.wake(id);
        ticket.woken().await;
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let waiters = Waiters::default();
        let id = Uuid::from_u128(1);
        let (first, second) = (waiters.register(id), waiters.register(id));
        drop(first);
        assert_eq!(waiters.lock().len(), 1);
        drop(second);
        assert!(waiters.lock().is_empty());
    }
}
