//! Whether an object is in the storage as it was written.
//!
//! A disk is believed once it has synced. A bucket is asked for the size, and for the checksum
//! that it made of what it received. One that keeps none has to show the whole object again.

use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{Cause, Store, StoreError, StoredObject, local};

/// What was written, as the store should know it.
pub(super) struct Written {
    pub object: StoredObject,
    /// What a bucket of S3 says that the checksum is.
    pub checksum: String,
}

impl Store {
    /// Whether all of an object is there as it was stored: reads and hashes it.
    ///
    /// # Errors
    /// [`StoreError::Size`] and [`StoreError::Content`] if it is not; [`StoreError::Name`],
    /// [`StoreError::Link`] and [`StoreError::Check`] if that can't be told.
    pub async fn verify(&self, name: &str, stored: &StoredObject) -> Result<(), StoreError> {
        let location = self.locate(name).await?;
        self.check_size(name, &location, stored.bytes).await?;
        self.check_content(name, &location, stored).await
    }

    /// The object's size in bytes.
    pub(super) async fn size(&self, location: &Path) -> object_store::Result<u64> {
        Ok(self.objects().head(location).await?.size)
    }

    /// Whether an object is there as it was written although the store said no: its answer to
    /// the last request may have got lost, and "no" to that request sent again is all that is
    /// heard. The name is ours alone, so that a hit is ours. A disk loses no answers; there
    /// it may be the sync that failed.
    pub(super) async fn landed(&self, location: &Path, bytes: u64) -> bool {
        self.on_disk().is_none() && self.size(location).await.is_ok_and(|found| found == bytes)
    }

    /// Looks at an object that was just written.
    pub(super) async fn check_written(
        &self,
        name: &str,
        location: &Path,
        written: &Written,
    ) -> Result<(), StoreError> {
        self.check_size(name, location, written.object.bytes).await?;
        if let Some(root) = self.on_disk() {
            let path = location.clone();
            let synced = spawn_blocking(move || local::sync_folders(&root, path.as_ref())).await;
            let synced = synced.map_err(|_| StoreError::Lost { name: name.to_owned() })?;
            let failed =
                |error| StoreError::Check { name: name.to_owned(), cause: Cause::local(&error) };
            return synced.map_err(failed);
        }
        let checksum = match self.bucket() {
            Some(bucket) => bucket.checksum(location).await,
            None => None,
        };
        match checksum {
            Some(checksum) if checksum == written.checksum => Ok(()),
            Some(_) => Err(StoreError::Content { name: name.to_owned() }),
            None => self.check_content(name, location, &written.object).await,
        }
    }

    async fn check_size(&self, name: &str, at: &Path, written: u64) -> Result<(), StoreError> {
        let found = self.size(at).await.map_err(|error| unchecked(name, &error))?;
        match found == written {
            true => Ok(()),
            false => Err(StoreError::Size { name: name.to_owned(), written, found }),
        }
    }

    async fn check_content(
        &self,
        name: &str,
        location: &Path,
        stored: &StoredObject,
    ) -> Result<(), StoreError> {
        let failed = |error| unchecked(name, &error);
        let mut digest = Sha256::new();
        let mut bytes = self.objects().get(location).await.map_err(failed)?.into_stream();
        while let Some(bytes) = bytes.try_next().await.map_err(failed)? {
            digest.update(&bytes);
        }
        match digest.finalize()[..] == stored.sha256 {
            true => Ok(()),
            false => Err(StoreError::Content { name: name.to_owned() }),
        }
    }
}

fn unchecked(name: &str, error: &object_store::Error) -> StoreError {
    StoreError::Check { name: name.to_owned(), cause: Cause::of(error) }
}
