//! The client library's store, with a measure of how long it takes and how often it fails.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::metrics;

/// Hands all on to the store inside.
#[derive(Debug)]
pub(super) struct Timed(pub(super) Arc<dyn ObjectStore>);

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// That an object is missing, or there already, is an answer.
fn measure<T>(op: &'static str, started: Instant, result: &Result<T>) {
    let answer = match result {
        Err(Error::NotFound { .. } | Error::AlreadyExists { .. }) => Ok(()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    metrics::store_answered(op, started.elapsed(), &answer);
}

async fn timed<T>(op: &'static str, request: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let result = request.await;
    measure(op, started, &result);
    result
}

#[async_trait]
impl ObjectStore for Timed {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        timed("put", self.0.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = timed("begin", self.0.put_multipart_opts(location, options)).await?;
        Ok(Box::new(TimedUpload(upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { "head" } else { "get" };
        timed(op, self.0.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        timed("get", self.0.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let started = Instant::now();
        let deleted = self.0.delete_stream(locations);
        deleted.inspect(move |result| measure("delete", started, result)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct TimedUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for TimedUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        timed("put_part", self.0.put_part(part)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        timed("complete", self.0.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        timed("abort", self.0.abort()).await
    }
}
