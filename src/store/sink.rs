//! The bridge from code that blocks to an upload: the Parquet writer is such code.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{ObjectWriter, Store, StoreError, StoredObject};

/// Bytes that a sink gathers before it hands them to its upload.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between a sink and its upload: 2 MiB.
const CHUNKS_AT_ONCE: usize = 8;
/// How long a store may take to free what it holds of an upload that has failed: who waits
/// for the upload waits for this too.
const LONGEST_ABORT: Duration = Duration::from_secs(10);

/// The end for code that blocks: what is written here goes to the upload beside it.
///
/// Only [`close`](ObjectSink::close) makes an object of it; a sink that is dropped, by a panic
/// for instance, aborts the upload. Writing panics on a thread that runs async code.
pub struct ObjectSink {
    gathered: BytesMut,
    upload: mpsc::Sender<Message>,
    failure: Arc<OnceLock<String>>,
}

enum Message {
    Chunk(Bytes),
    Close,
}

impl ObjectSink {
    /// Hands over what is left and lets the upload finish.
    ///
    /// # Errors
    /// If the upload has failed; [`UploadHandle::finish`] says of what.
    pub fn close(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Message::Close)
    }

    fn send(&self, message: Message) -> io::Result<()> {
        self.upload.blocking_send(message).map_err(|_| {
            let why = self.failure.get().map_or("the upload was given up", String::as_str);
            io::Error::other(why.to_owned())
        })
    }
}

impl Write for ObjectSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let next = BytesMut::with_capacity(CHUNK_BYTES);
        let chunk = std::mem::replace(&mut self.gathered, next).freeze();
        self.send(Message::Chunk(chunk))
    }
}

/// The upload behind a sink. Dropped, it aborts it.
pub struct UploadHandle {
    name: String,
    task: JoinHandle<Result<StoredObject, StoreError>>,
    /// The task sees it go.
    _wanted: oneshot::Sender<()>,
}

impl UploadHandle {
    /// Waits for the object, which appears after the sink was closed.
    ///
    /// # Errors
    /// Those of [`ObjectWriter::finish`] and of [`Store::create`]; [`StoreError::Abandoned`] if
    /// the sink was dropped, [`StoreError::Lost`] if the task was.
    pub async fn finish(mut self) -> Result<StoredObject, StoreError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Lost { name: self.name }),
        }
    }
}

pub(super) fn sink(store: Store, name: String) -> (ObjectSink, UploadHandle) {
    let (upload, messages) = mpsc::channel(CHUNKS_AT_ONCE);
    let (wanted, unwanted) = oneshot::channel();
    let failure = Arc::new(OnceLock::new());
    let task = Upload { store, name: name.clone(), messages, unwanted, said: Arc::clone(&failure) };
    let task = tokio::spawn(task.run());
    let sink = ObjectSink { gathered: BytesMut::with_capacity(CHUNK_BYTES), upload, failure };
    (sink, UploadHandle { name, task, _wanted: wanted })
}

struct Upload {
    store: Store,
    name: String,
    messages: mpsc::Receiver<Message>,
    /// Ends when nobody waits for the object any more.
    unwanted: oneshot::Receiver<()>,
    said: Arc<OnceLock<String>>,
}

impl Upload {
    async fn run(mut self) -> Result<StoredObject, StoreError> {
        let mut object = None;
        let result = tokio::select! {
            result = upload(&self.store, &self.name, &mut self.messages, &mut object) => result,
            // Also while a store that hangs is waited for.
            _ = &mut self.unwanted => Err(StoreError::Abandoned { name: self.name }),
        };
        if let Err(error) = &result {
            let _ = self.said.set(error.to_string());
            // From now on the sink finds the channel closed, and why.
            drop(self.messages);
            if let Some(object) = object {
                // Best effort: what can't be freed now is invisible, and in time the sweeper's.
                let _ = tokio::time::timeout(LONGEST_ABORT, object.abort()).await;
            }
        }
        result
    }
}

/// Leaves the object in `begun` if it has to be aborted.
async fn upload(
    store: &Store,
    name: &str,
    messages: &mut mpsc::Receiver<Message>,
    begun: &mut Option<ObjectWriter>,
) -> Result<StoredObject, StoreError> {
    let object = begun.insert(store.create(name).await?);
    loop {
        match messages.recv().await {
            Some(Message::Chunk(bytes)) => object.write(bytes).await?,
            Some(Message::Close) => return object.appear().await,
            None => return Err(StoreError::Abandoned { name: name.to_owned() }),
        }
    }
}
