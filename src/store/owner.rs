//! Whose the storage is: two databases that share one by mistake would sweep away each
//! other's objects. And which of its states it was told of: one that was restored to an
//! earlier state would sweep away what it has forgotten.

use object_store::{ObjectStoreExt, PutMode, PutOptions};

use super::layout::{GENERATION_MARK, OWNER_MARK};
use super::{Cause, Store, StoreError};

/// More than any owner's text.
const MARKER_BYTES: u64 = 4096;
/// How often the marker is looked for: before and after it is written, and twice more for
/// stores that say "somebody is writing it" before it can be read.
const LOOKS: usize = 4;

/// Whose the storage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerClaim {
    /// That of who asked, now or since an earlier time.
    Ours,
    /// Somebody else's: the owner's text.
    Foreign(String),
}

impl Store {
    /// Makes the storage that of `owner`, unless it has one. `owner` is one line of text.
    ///
    /// Of several who ask at once, one writes; all of its replicas read the same.
    ///
    /// # Errors
    /// [`StoreError::Owner`] if the marker can be neither read nor written; whose the storage
    /// is, is not known then. [`StoreError::Link`] if the marker is a link.
    pub async fn claim_owner(&self, owner: &str) -> Result<OwnerClaim, StoreError> {
        let mut failed = None;
        for _ in 0..LOOKS {
            // Also after writing: not every store heeds that it shall not overwrite, and an
            // answer may have got lost.
            match self.mark(OWNER_MARK).await? {
                Some(found) if found == owner.trim() => return Ok(OwnerClaim::Ours),
                Some(found) => return Ok(OwnerClaim::Foreign(found)),
                None => {}
            }
            if let Some(error) = failed {
                return Err(error);
            }
            failed = self.write_owner(owner).await?;
        }
        Err(StoreError::Owner(Cause::senseless("that the marker is there, and that it is not")))
    }

    /// The latest generation that the storage was told of; 0 if of none.
    ///
    /// # Errors
    /// [`StoreError::Owner`] if it can't be read, or is no number; [`StoreError::Link`] if it is a
    /// link.
    pub async fn generation(&self) -> Result<i64, StoreError> {
        let Some(text) = self.mark(GENERATION_MARK).await? else { return Ok(0) };
        let senseless = |_| StoreError::Owner(Cause::senseless("a generation that is no number"));
        text.parse().map_err(senseless)
    }

    /// Tells the storage of a generation.
    ///
    /// # Errors
    /// [`StoreError::Owner`] if it is not certain that the storage has it.
    pub async fn tell_generation(&self, generation: i64) -> Result<(), StoreError> {
        let location = self.locate(GENERATION_MARK).await?;
        let told = self.objects().put(&location, format!("{generation}\n").into()).await;
        told.map(|_| ()).map_err(|error| StoreError::Owner(Cause::of(&error)))
    }

    /// The text of one of our marks, if it is there.
    async fn mark(&self, name: &str) -> Result<Option<String>, StoreError> {
        let location = self.locate(name).await?;
        let failed = |error| StoreError::Owner(Cause::of(&error));
        let marker = match self.objects().get(&location).await {
            Ok(marker) => marker,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if marker.meta.size > MARKER_BYTES {
            return Ok(Some(format!("{name} with {} bytes", marker.meta.size)));
        }
        let text = marker.bytes().await.map_err(failed)?;
        Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// Writes the marker if there is none. What went wrong in a bucket counts only if it is not
    /// there afterwards: the answer may have got lost. A disk loses none; there it may be the
    /// sync that failed.
    async fn write_owner(&self, owner: &str) -> Result<Option<StoreError>, StoreError> {
        let location = self.locate(OWNER_MARK).await?;
        let text = format!("{}\n", owner.trim());
        let create = PutOptions::from(PutMode::Create);
        match self.objects().put_opts(&location, text.into(), create).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(None),
            Err(error) => match (StoreError::Owner(Cause::of(&error)), self.on_disk()) {
                (error, Some(_)) => Err(error),
                (error, None) => Ok(Some(error)),
            },
        }
    }
}
