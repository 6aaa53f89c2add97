//! Reads an object as a Parquet file, by parts.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{Cause, Store, StoreError};

/// How much of an object's end is read first, in bytes: as a rule the whole footer and the
/// index of the pages.
const FOOTER_BYTES: usize = 64 << 10;

/// An object that is read. Errors are [`StoreError`]s inside [`ParquetError::External`]; see
/// [`StoreError::behind`].
#[derive(Clone, Debug)]
pub struct ObjectReader {
    store: Store,
    name: String,
    bytes: Option<u64>,
    location: Option<Path>,
}

impl ObjectReader {
    pub(super) fn new(store: Store, name: String, bytes: Option<u64>) -> Self {
        ObjectReader { store, name, bytes, location: None }
    }

    /// Where the object is; looked up once.
    async fn location(&mut self) -> Result<Path, ParquetError> {
        if let Some(location) = &self.location {
            return Ok(location.clone());
        }
        let location = self.store.locate(&self.name).await.map_err(external)?;
        Ok(self.location.insert(location).clone())
    }

    /// The client passes on what ends early; who decodes it relies on its length.
    fn whole(&self, range: Range<u64>, bytes: Bytes) -> Result<Bytes, ParquetError> {
        let (asked, found) = (range.end.saturating_sub(range.start), bytes.len());
        match found as u64 == asked {
            true => Ok(bytes),
            false => Err(self
                .failed(Cause::senseless(&format!("{found} bytes where {asked} were asked for")))),
        }
    }

    fn failed(&self, cause: Cause) -> ParquetError {
        external(StoreError::Read { name: self.name.clone(), cause })
    }
}

fn external(error: StoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let location = self.location().await?;
            let read = self.store.objects().get_range(&location, range.clone()).await;
            self.whole(range, read.map_err(|error| self.failed(Cause::of(&error)))?)
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let location = self.location().await?;
            let read = self.store.objects().get_ranges(&location, &ranges).await;
            let read = read.map_err(|error| self.failed(Cause::of(&error)))?;
            ranges.into_iter().zip(read).map(|(range, bytes)| self.whole(range, bytes)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let bytes = match self.bytes {
                Some(bytes) => bytes,
                None => {
                    let location = self.location().await?;
                    let size = self.store.size(&location).await;
                    *self.bytes.insert(size.map_err(|error| self.failed(Cause::of(&error)))?)
                }
            };
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(FOOTER_BYTES))
                .load_and_finish(self, bytes)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}
