//! Waiting for a snapshot without a thread, a connection or a poll for each who waits.
//!
//! Postgres tells of every run that ends (`NOTIFY strandline_ended`), on one connection for
//! the whole replica; a slow poll of all snapshots that are waited for covers what was missed.
//! Who is told looks the snapshot up once for all who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::{self, Database, DbError, SnapshotRow};
use crate::snapshot::State;

/// How often those who wait are told to look although nothing told us.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Everyone who waits, by snapshot.
#[derive(Clone, Default)]
pub struct Waiters {
    waiting: Arc<Mutex<HashMap<Uuid, Watched>>>,
}

/// A snapshot that is waited for.
#[derive(Clone)]
struct Watched {
    /// How often those who wait were told to look.
    told: watch::Sender<u64>,
    /// What the one of them found who looked.
    found: Found,
}

/// A row, or that there is none, and how often those who wait had been told when it was read.
type Found = Arc<tokio::sync::Mutex<Option<(u64, Option<SnapshotRow>)>>>;

impl Default for Watched {
    fn default() -> Self {
        Watched { told: watch::channel(0).0, found: Arc::default() }
    }
}

impl Waiters {
    /// From now on, [`Ticket::woken`] returns for every event of this snapshot.
    pub fn register(&self, id: Uuid) -> Ticket {
        let mut waiting = self.lock();
        let watched = waiting.entry(id).or_default();
        let (receiver, found) = (watched.told.subscribe(), watched.found.clone());
        Ticket { id, receiver, found, waiters: self.clone() }
    }

    /// Tells all who wait for this snapshot to look.
    pub fn wake(&self, id: Uuid) {
        if let Some(watched) = self.lock().get(&id) {
            watched.told.send_modify(|count| *count += 1);
        }
    }

    /// Tells everyone to look.
    pub fn wake_all(&self) {
        for watched in self.lock().values() {
            watched.told.send_modify(|count| *count += 1);
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Watched>> {
        // A panic while it was held leaves a map that is still a map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
pub struct Ticket {
    id: Uuid,
    receiver: watch::Receiver<u64>,
    found: Found,
    waiters: Waiters,
}

impl Ticket {
    /// Returns when the snapshot may have ended since the last call or the registration.
    pub async fn woken(&mut self) {
        // The sender lives as long as this ticket does.
        let _ = self.receiver.changed().await;
    }

    /// The snapshot as it is since [`Ticket::woken`] returned. The first of those who were woken
    /// asks the database, and the others get what it has found.
    pub async fn look(&mut self, db: &Database) -> Result<Option<SnapshotRow>, DbError> {
        let told = *self.receiver.borrow_and_update();
        let mut found = self.found.lock().await;
        if let Some((looked_after, row)) = found.as_ref()
            && *looked_after >= told
        {
            return Ok(row.clone());
        }
        let row = db::get_snapshot(db, self.id).await?;
        *found = Some((told, row.clone()));
        Ok(row)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // This ticket's own receiver is dropped only after this.
        if waiting.get(&self.id).is_some_and(|watched| watched.told.receiver_count() <= 1) {
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
