//! The sweeper: removes objects and unfinished uploads that no commit names or ever will.
//!
//! A worker that dies leaves what it was writing. Its name tells the attempt, and an attempt
//! whose task has ended or has another one can't commit any more: so what is old enough,
//! belongs to no attempt that is under way, and is named by no file after that was found, is
//! nobody's. Anything else stays: what bears no name of ours, a store that another database
//! has marked as its own, and one that knows a later state of this one (see
//! [`generation`](super::generation)).

use std::time::Duration;

use futures_util::TryStreamExt;
use uuid::Uuid;

use super::generation::is_behind;
use super::{JobError, Shells};
use crate::db;
use crate::fault::{self, Fault};
use crate::metrics;
use crate::snapshot::Timestamp;
use crate::store::layout::{attempt_id, is_unfinished_mark};
use crate::store::{ListedUpload, OwnerClaim};

/// How many objects are asked about at once.
const CHUNK: usize = 1000;

/// The store is looked through no more often than this part of the grace: listing a large
/// bucket costs time and money.
const SWEEPS_PER_GRACE: u32 = 10;

/// Looks through the store, if it is this replica's turn. Gives how much was removed.
///
/// # Errors
/// Those of Postgres and of the store; what was removed before stays removed.
pub async fn sweep_round(shells: &Shells, interval: Duration) -> Result<u64, JobError> {
    let grace = Duration::from_secs(u64::from(shells.limits.orphan_grace_seconds));
    if !db::begin_sweep(&shells.db, interval.max(grace / SWEEPS_PER_GRACE)).await? {
        return Ok(0);
    }
    let owner = db::owner(&shells.db).await?;
    if let OwnerClaim::Foreign(other) = shells.store.claim_owner(&owner).await? {
        tracing::warn!(
            ours = owner,
            theirs = other,
            "the object store is marked as another database's, so nothing in it is swept; if no other strandline uses it any more, delete the object .strandline-owner at its root"
        );
        return Ok(0);
    }
    if is_behind(shells).await? {
        tracing::warn!(
            "the object store has files of a later state of this database, which was restored: nothing is swept; ask again for the windows that were taken since, then delete the object .strandline-generation at the store's root"
        );
        return Ok(0);
    }
    let old = db::now(&shells.db).await?.minus_seconds(grace.as_secs());
    let swept = sweep_objects(shells, old).await? + sweep_uploads(shells, old).await?;
    if swept > 0 {
        metrics::swept(swept);
        tracing::info!(swept, "removed what no commit names");
    }
    Ok(swept)
}

/// Objects last written before `old`, a disk's unfinished ones included.
async fn sweep_objects(shells: &Shells, old: Timestamp) -> Result<u64, JobError> {
    let mut swept = 0;
    let mut chunks = shells.store.list("").try_chunks(CHUNK);
    while let Some(listed) = chunks.try_next().await.map_err(|error| error.1)? {
        let names = listed.into_iter().filter(|o| o.modified_at < old).map(|o| o.name);
        let (mut gone, names): (Vec<_>, Vec<_>) = names.partition(|name| is_unfinished_mark(name));
        let staged = names.into_iter().filter_map(|name| Some((attempt_id(&name)?, name)));
        gone.extend(sweepable(shells, staged.collect()).await?);
        for name in gone {
            shells.store.delete(&name).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// A bucket's uploads begun before `old` and never finished.
async fn sweep_uploads(shells: &Shells, old: Timestamp) -> Result<u64, JobError> {
    let mut swept = 0;
    let mut chunks = shells.store.list_uploads().try_chunks(CHUNK);
    while let Some(listed) = chunks.try_next().await.map_err(|error| error.1)? {
        let staged = listed
            .into_iter()
            .filter(|upload| upload.started_at < old)
            .filter_map(|upload| Some((attempt_id(&upload.name)?, upload)));
        let uploads: Vec<(Uuid, ListedUpload)> = staged.collect();
        let names = uploads.iter().map(|(attempt, upload)| (*attempt, upload.name.clone()));
        let gone = sweepable(shells, names.collect()).await?;
        for (_, upload) in uploads.iter().filter(|(_, upload)| gone.contains(&upload.name)) {
            shells.store.abort_upload(upload).await?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Those that no commit names or ever will.
async fn sweepable(shells: &Shells, staged: Vec<(Uuid, String)>) -> Result<Vec<String>, JobError> {
    if staged.is_empty() {
        return Ok(Vec::new());
    }
    fault::hit(Fault::SweepListed);
    let gone = db::sweepable(&shells.db, staged).await?;
    fault::hit(Fault::SweepChecked);
    Ok(gone)
}
