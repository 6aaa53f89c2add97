//! How a store tells that its database was restored to an earlier state. A physical copy of a
//! database can't be told from the original; but it has forgotten the files that were committed
//! since, and the sweeper would take them for what a dead worker has left.
//!
//! So whoever has committed files begins a new generation: a number that the database counts, and
//! that the store is told afterwards. What the store was told is never more than the database
//! has, unless the database has gone back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{JobError, Shells};
use crate::db;

/// Whether this replica has committed files that the store was not told of.
#[derive(Debug)]
pub struct Generation {
    untold: AtomicBool,
}

impl Default for Generation {
    /// Who was here before may have died before it told.
    fn default() -> Self {
        Generation { untold: AtomicBool::new(true) }
    }
}

impl Generation {
    /// To be called after a commit, whatever its answer.
    pub(super) fn committed(&self) {
        self.untold.store(true, Ordering::Relaxed);
    }
}

/// Tells the store of what this replica has committed since it last did.
///
/// # Errors
/// Those of Postgres and of the store; the next round tries again.
pub async fn tell_round(shells: &Shells) -> Result<(), JobError> {
    let Generation { untold } = &*shells.generation;
    // Before it is asked for: what is committed from here on belongs to the next round.
    if !untold.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let told = tell(shells).await;
    if told.is_err() {
        untold.store(true, Ordering::Relaxed);
    }
    told
}

async fn tell(shells: &Shells) -> Result<(), JobError> {
    // The store's word is the only trace of what was forgotten. The sweeper tells people.
    if is_behind(shells).await? {
        return Ok(());
    }
    let generation = db::next_generation(&shells.db).await?;
    Ok(shells.store.tell_generation(generation).await?)
}

/// Whether the store was told of a later state than the database is in.
pub(super) async fn is_behind(shells: &Shells) -> Result<bool, JobError> {
    // In this order: another replica may begin one meanwhile.
    let told = shells.store.generation().await?;
    Ok(told > db::generation(&shells.db).await?)
}
