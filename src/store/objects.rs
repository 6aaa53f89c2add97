//! The store's operations.

use std::fmt;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::bucket::Bucket;
use super::open::{self, Client, Place};
use super::sink::{self, ObjectSink, UploadHandle};
use super::{Cause, ObjectReader, ObjectWriter, StoreError, local};
use crate::snapshot::Timestamp;

/// How many files of a disk are looked at ahead of who lists them.
const LIST_AHEAD: usize = 256;

/// Where objects are. Clones share their connections.
#[derive(Clone)]
pub struct Store(Arc<Place>);

/// An object that is there, wanted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written to.
    pub modified_at: Timestamp,
}

impl Store {
    /// Opens `file:///dir` (made if it is missing), `s3://bucket/prefix`, `gs://…` or `az://…`;
    /// what buckets need besides comes from the environment by the names that the
    /// `object_store` crate knows (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` …).
    /// Nothing is sent anywhere yet.
    ///
    /// # Errors
    /// [`StoreError::Setting`], one line that names the setting and says what is wrong.
    pub fn open(url: &str) -> Result<Store, StoreError> {
        Store::open_by(url, &Client::from_env())
    }

    /// As [`Store::open`], with `settings` in the environment's place.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn open_with(
        url: &str,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Store, StoreError> {
        let settings = settings.into_iter().collect();
        Store::open_by(url, &Client { settings, ..Client::from_env() })
    }

    pub(super) fn open_by(url: &str, client: &Client) -> Result<Store, StoreError> {
        open::open(url, client).map(|place| Store(Arc::new(place)))
    }

    /// The whole URL of an object: `file:///…`, `s3://bucket/prefix/…`.
    pub fn url(&self, name: &str) -> String {
        let mut url = self.0.url.clone();
        // Fails for `mailto:` and its like alone, none of which can be opened.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(name.split('/').filter(|part| !part.is_empty()));
        }
        url.into()
    }

    /// Begins an object. It is there when [`ObjectWriter::finish`] has returned, not before.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Link`].
    pub async fn create(&self, name: &str) -> Result<ObjectWriter, StoreError> {
        let location = self.locate(name).await?;
        Ok(ObjectWriter::new(self.clone(), name.to_owned(), location))
    }

    /// Begins an object that is written by code that blocks, and uploaded by a task beside it.
    /// Panics outside of a Tokio runtime.
    pub fn sink(&self, name: &str) -> (ObjectSink, UploadHandle) {
        sink::sink(self.clone(), name.to_owned())
    }

    /// Reads an object. `bytes` is its size; without it, the store is asked.
    pub fn reader(&self, name: &str, bytes: Option<u64>) -> ObjectReader {
        ObjectReader::new(self.clone(), name.to_owned(), bytes)
    }

    /// Deletes an object, or what is left of one on a disk. One that is gone already is no
    /// error.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Link`], [`StoreError::Delete`].
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let location = self.locate(name).await?;
        let failed = |cause| StoreError::Delete { name: name.to_owned(), cause };
        match self.on_disk() {
            Some(root) => {
                let removed = spawn_blocking(move || local::remove(&root, location.as_ref())).await;
                let removed = removed.map_err(|_| StoreError::Lost { name: name.to_owned() })?;
                removed.map_err(|error| failed(Cause::local(&error)))
            }
            None => match self.objects().delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(Cause::of(&error))),
            },
        }
    }

    /// What is below the folder `prefix` (`""` for all), in no order. A disk's unfinished
    /// files are among it; a bucket's are not: see [`Store::list_uploads`].
    ///
    /// Errors: [`StoreError::Name`], [`StoreError::Link`], [`StoreError::List`]; the stream ends
    /// there.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ListedObject, StoreError>> {
        let folder = match prefix.is_empty() {
            true => Ok(self.0.prefix.clone()),
            false => self.location(prefix),
        };
        match (folder, self.on_disk()) {
            (Err(error), _) => stream::iter([Err(error)]).boxed(),
            (Ok(folder), Some(root)) => list_disk(root, folder, prefix.to_owned()),
            (Ok(folder), None) => self.list_bucket(&folder),
        }
    }

    /// How many bytes are free where objects are stored, if that is a disk of ours and it tells.
    pub async fn free_bytes(&self) -> Option<u64> {
        let root = self.on_disk()?;
        spawn_blocking(move || local::free_bytes(&root)).await.ok()?
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.0.objects
    }

    /// Where the object is, once it is sure that no link is on the way.
    pub(super) async fn locate(&self, name: &str) -> Result<Path, StoreError> {
        let location = self.location(name)?;
        let Some(root) = self.on_disk() else { return Ok(location) };
        let path = location.clone();
        match spawn_blocking(move || local::has_link(&root, path.as_ref())).await {
            Ok(false) => Ok(location),
            Ok(true) => Err(StoreError::Link { name: name.to_owned() }),
            Err(_) => Err(StoreError::Lost { name: name.to_owned() }),
        }
    }

    fn location(&self, name: &str) -> Result<Path, StoreError> {
        let bad = |problem: String| StoreError::Name { name: name.to_owned(), problem };
        // Refuses `..`, empty parts and control characters.
        let path = Path::parse(name).map_err(|error| bad(error.to_string()))?;
        if path.as_ref().is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        match self.0.prefix.as_ref() {
            "" => Ok(path),
            prefix => Path::parse(format!("{prefix}/{path}")).map_err(|e| bad(e.to_string())),
        }
    }

    /// The folder, if the store is one.
    pub(super) fn on_disk(&self) -> Option<PathBuf> {
        self.0.root.clone()
    }

    /// The name of the object that a bucket has under this key; `None` if it is not below
    /// the storage's root.
    pub(super) fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self.0.prefix.as_ref() {
            "" => Some(key),
            prefix => key.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    /// The bucket, if it can be asked for uploads.
    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.0.bucket.as_ref()
    }

    fn list_bucket(&self, folder: &Path) -> BoxStream<'static, Result<ListedObject, StoreError>> {
        let store = self.clone();
        let listed = self.objects().list(Some(folder)).try_filter_map(move |object| {
            let listed = store.name_of(object.location.as_ref()).map(|name| ListedObject {
                name: name.to_owned(),
                bytes: object.size,
                modified_at: Timestamp::from_millis(object.last_modified.timestamp_millis()),
            });
            ready(Ok(listed))
        });
        listed.map_err(|error| StoreError::List(Cause::of(&error))).boxed()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.url.as_str()).finish()
    }
}

fn list_disk(
    root: PathBuf,
    folder: Path,
    name: String,
) -> BoxStream<'static, Result<ListedObject, StoreError>> {
    let (found, listed) = mpsc::channel(LIST_AHEAD);
    spawn_blocking(move || {
        let mut visit = |object| found.blocking_send(Ok(object)).is_ok();
        let walked = match local::has_link(&root, folder.as_ref()) {
            true => Err(StoreError::Link { name }),
            false => local::walk(&root, folder.as_ref(), &mut visit)
                .map_err(|error| StoreError::List(Cause::local(&error))),
        };
        if let Err(error) = walked {
            // Nobody listens any more: then nobody minds.
            let _ = found.blocking_send(Err(error));
        }
    });
    stream::unfold(listed, |mut listed| async move { Some((listed.recv().await?, listed)) }).boxed()
}
