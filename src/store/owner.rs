//! Whose the storage is: two databases that share one by mistake would sweep away each
//! other's objects.

use object_store::{ObjectStoreExt, PutMode, PutOptions};

use super::{Cause, Store, StoreError};

/// The object that says it.
const MARKER: &str = ".strandline-owner";
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
            match self.owner().await? {
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

    /// The owner's text, if there is one.
    async fn owner(&self) -> Result<Option<String>, StoreError> {
        let location = self.locate(MARKER).await?;
        let failed = |error| StoreError::Owner(Cause::of(&error));
        let marker = match self.objects().get(&location).await {
            Ok(marker) => marker,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if marker.meta.size > MARKER_BYTES {
            return Ok(Some(format!("{MARKER} with {} bytes", marker.meta.size)));
        }
        let text = marker.bytes().await.map_err(failed)?;
        Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// Writes the marker if there is none. What went wrong in a bucket counts only if it is not
    /// there afterwards: the answer may have got lost. A disk loses none; there it may be the
    /// sync that failed.
    async fn write_owner(&self, owner: &str) -> Result<Option<StoreError>, StoreError> {
        let location = self.locate(MARKER).await?;
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
