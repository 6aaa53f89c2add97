//! Uploads that were begun and never finished: what a crash leaves behind in a bucket.
//!
//! On a disk they are files, which [`Store::list`] shows and [`Store::delete`] removes.

use std::collections::VecDeque;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::bucket::{Marker, Upload};
use super::{Store, StoreError};
use crate::snapshot::Timestamp;

/// An upload that was begun and is not finished, perhaps because it is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// The name of the object that it would have become.
    pub name: String,
    /// What tells it from other uploads of this name.
    pub upload_id: String,
    /// When it was begun.
    pub started_at: Timestamp,
}

impl Store {
    /// The unfinished uploads of a bucket, in no order. None on a disk, and none where they
    /// can't be asked for: Azure forgets by itself what was not finished within a week; S3
    /// Express, and buckets that need no signature, need a rule of their own.
    ///
    /// Errors: [`StoreError::List`]; the stream ends there.
    pub fn list_uploads(&self) -> BoxStream<'static, Result<ListedUpload, StoreError>> {
        let begin = (self.clone(), Some(Marker::default()));
        let pages = stream::try_unfold(begin, |(store, marker)| async move {
            let (Some(bucket), Some(marker)) = (store.bucket(), marker) else { return Ok(None) };
            let page = bucket.uploads(&marker).await.map_err(StoreError::List)?;
            let ours: VecDeque<_> =
                page.uploads.into_iter().filter_map(|upload| store.listed(upload)).collect();
            Ok(Some((stream::iter(ours).map(Ok), (store, page.next))))
        });
        pages.try_flatten().boxed()
    }

    /// Frees what a bucket holds of an upload. One that is gone already is no error.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Abort`].
    pub async fn abort_upload(&self, upload: &ListedUpload) -> Result<(), StoreError> {
        let location = self.locate(&upload.name).await?;
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let aborted = bucket.abort(&location, &upload.upload_id).await;
        aborted.map_err(|cause| StoreError::Abort { name: upload.name.clone(), cause })
    }

    /// `None` if it is not below the storage's root.
    fn listed(&self, upload: Upload) -> Option<ListedUpload> {
        let name = self.name_of(&upload.key)?.to_owned();
        Some(ListedUpload { name, upload_id: upload.id, started_at: upload.started_at })
    }
}
