//! Writes an object, in parts where it is large, with memory bounded.
//!
//! The client library's own buffered writer is not used: where it fails at the end, it may
//! report that the upload was aborted instead of why.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload, PutPayloadMut};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::check::Written;
use super::{Cause, Store, StoreError};

/// Bytes of a part. All but the last are of this size, which some stores insist on; 30 s, the
/// client's time-out, are enough for it at 180 kB/s. The least that S3 takes: an upload is
/// memory. 10,000 parts, the most that it takes, are 48 GiB.
const PART_BYTES: usize = 5 << 20;
/// Parts that are on their way at once. With the one that is gathered, an upload holds at
/// most 15 MiB.
const PARTS_AT_ONCE: usize = 2;

/// An object that is there, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its size in bytes.
    pub bytes: u64,
    /// Of all of its bytes.
    pub sha256: [u8; 32],
}

/// An object in the making. Dropped, it leaves nothing that can be seen; but only
/// [`abort`](ObjectWriter::abort) also frees what a bucket holds of it.
pub struct ObjectWriter {
    store: Store,
    name: String,
    location: Path,
    gathered: PutPayloadMut,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    digests: Digests,
    bytes: u64,
}

/// The checksums of what was written.
#[derive(Default)]
struct Digests {
    whole: Sha256,
    /// Of the parts' checksums; only a bucket makes one of them.
    parts: Sha256,
    sent: usize,
}

impl ObjectWriter {
    pub(super) fn new(store: Store, name: String, location: Path) -> Self {
        ObjectWriter {
            store,
            name,
            location,
            gathered: PutPayloadMut::new(),
            upload: None,
            parts: JoinSet::new(),
            digests: Digests::default(),
            bytes: 0,
        }
    }

    /// Adds bytes. Waits while enough parts are on their way.
    ///
    /// # Errors
    /// [`StoreError::Write`]; only [`abort`](ObjectWriter::abort) makes sense then.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        loop {
            let missing = PART_BYTES - self.gathered.content_length();
            if bytes.len() < missing {
                self.gather(bytes);
                return Ok(());
            }
            self.gather(bytes.split_to(missing));
            self.send_part().await.map_err(|error| self.failed(&error))?;
        }
    }

    /// Makes the object appear, and asks the store whether it is what was written.
    ///
    /// # Errors
    /// [`StoreError::Write`], [`StoreError::Check`], [`StoreError::Size`],
    /// [`StoreError::Content`]. Whether there is an object is not known then: leave it to the
    /// sweeper.
    pub async fn finish(mut self) -> Result<StoredObject, StoreError> {
        let finished = self.appear().await;
        if finished.is_err() {
            // The first error is the one that counts.
            let _ = self.abort().await;
        }
        finished
    }

    /// [`finish`](ObjectWriter::finish) without the abort: who calls it has to.
    pub(super) async fn appear(&mut self) -> Result<StoredObject, StoreError> {
        if let Err(error) = self.complete().await {
            let failed = self.failed(&error);
            if !self.store.landed(&self.location, self.bytes).await {
                return Err(failed);
            }
        }
        self.upload = None;
        let written = self.digests.written(self.bytes);
        self.store.check_written(&self.name, &self.location, &written).await?;
        Ok(written.object)
    }

    /// Gives the object up and frees what the store holds of it.
    ///
    /// # Errors
    /// [`StoreError::Write`] or [`StoreError::Delete`] if something stays behind, invisible.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        self.parts.shutdown().await;
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        match (upload.abort().await, self.store.on_disk()) {
            (Ok(()), _) => Ok(()),
            // Where it failed at its very end, the client forgets about the file that it wrote;
            // on a full disk, that is the space which is needed.
            (Err(_), Some(_)) => self.store.delete(&format!("{}#1", self.name)).await,
            (Err(error), None) => Err(self.failed(&error)),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        if self.upload.is_none() {
            let small = std::mem::take(&mut self.gathered).freeze();
            self.store.objects().put(&self.location, small).await?;
            return Ok(());
        }
        if !self.gathered.is_empty() {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        Ok(())
    }

    fn gather(&mut self, bytes: Bytes) {
        self.digests.whole.update(&bytes);
        self.gathered.push(bytes);
    }

    async fn send_part(&mut self) -> object_store::Result<()> {
        self.wait_for_parts(PARTS_AT_ONCE - 1).await?;
        let part = std::mem::take(&mut self.gathered).freeze();
        if self.store.bucket().is_some() {
            self.digests.add_part(&part);
        }
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.store.objects().put_multipart(&self.location).await?),
        };
        self.parts.spawn(upload.put_part(part));
        Ok(())
    }

    /// Waits until no more than `left` parts are on their way.
    async fn wait_for_parts(&mut self, left: usize) -> object_store::Result<()> {
        while self.parts.len() > left {
            match self.parts.join_next().await {
                Some(sent) => sent??,
                None => break,
            }
        }
        Ok(())
    }

    fn failed(&self, error: &object_store::Error) -> StoreError {
        StoreError::Write { name: self.name.clone(), cause: Cause::of(error) }
    }
}

impl Digests {
    fn add_part(&mut self, part: &PutPayload) {
        let mut digest = Sha256::new();
        part.iter().for_each(|bytes| digest.update(bytes));
        self.parts.update(digest.finalize());
        self.sent += 1;
    }

    fn written(&self, bytes: u64) -> Written {
        let sha256: [u8; 32] = self.whole.clone().finalize().into();
        let checksum = match self.sent {
            0 => BASE64_STANDARD.encode(sha256),
            sent => format!("{}-{sent}", BASE64_STANDARD.encode(self.parts.clone().finalize())),
        };
        Written { object: StoredObject { bytes, sha256 }, checksum }
    }
}
