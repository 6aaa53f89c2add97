//! Events on their way into a data file: a small table of columns, filled row by row, lent to
//! the encoder and used again.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMillisecondArray,
};
use arrow_buffer::{ArrowNativeType, Buffer, NullBufferBuilder, OffsetBuffer};
use arrow_schema::ArrowError;

use super::schema;
use crate::snapshot::Event;

/// What a row costs apart from key, value and headers: about its columns.
const ROW_BYTES: usize = 48;
/// What a header costs apart from its key and value.
const HEADER_BYTES: usize = 12;

/// Memory of one column that is used again. A huge event must not keep its place for good.
const MOST_KEPT_BYTES: usize = 2 << 20;

/// Bytes of an event as far as they are its own: key, value and headers.
pub(super) fn content_bytes(event: &Event<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = event
        .headers
        .iter()
        .map(|header| header.key.len() + length(header.value) + HEADER_BYTES)
        .sum::<usize>();
    length(event.key) + length(event.value) + headers
}

/// Some events, column by column.
#[derive(Default)]
pub(super) struct Batch {
    bytes: usize,
    partition: Reused<i32>,
    offset: Reused<i64>,
    timestamp: Reused<i64>,
    timed: Nulls,
    timestamp_type: Texts,
    key: Texts,
    value: Texts,
    /// Where in the headers' columns each event's headers end.
    headers: Ends,
    header_key: Texts,
    header_value: Texts,
}

impl Batch {
    /// Events in it.
    pub(super) fn rows(&self) -> usize {
        self.offset.values.len()
    }

    /// What it holds, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event of which the content's bytes are known.
    pub(super) fn push(&mut self, event: &Event<'_>, content_bytes: usize) {
        self.bytes += ROW_BYTES + content_bytes;
        self.partition.values.push(event.partition);
        self.offset.values.push(event.offset);
        self.timestamp.values.push(event.timestamp.map_or(0, |time| time.millis()));
        self.timed.0.append(event.timestamp.is_some());
        self.timestamp_type.push(event.timestamp_type.map(|kind| kind.as_str().as_bytes()));
        self.key.push(event.key);
        self.value.push(event.value);
        for header in event.headers {
            self.header_key.push(Some(String::from_utf8_lossy(header.key).as_bytes()));
            self.header_value.push(header.value);
        }
        self.headers.push(self.header_key.rows);
    }

    /// Hands the events to `encode`, as one batch of Arrow's; afterwards there are none here.
    /// The memory comes back if `encode` keeps none of it.
    pub(super) fn lend<E: From<ArrowError>>(
        &mut self,
        encode: impl FnOnce(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let done = self.record_batch().map_err(E::from).and_then(encode);
        self.bytes = 0;
        self.partition.reclaim();
        self.offset.reclaim();
        self.timestamp.reclaim();
        self.headers.reclaim();
        for texts in [&mut self.timestamp_type, &mut self.key, &mut self.value] {
            texts.reclaim();
        }
        self.header_key.reclaim();
        self.header_value.reclaim();
        done
    }

    fn record_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        let (timestamp, timed) = (self.timestamp.lend().into(), self.timed.0.finish());
        let timestamp = TimestampMillisecondArray::try_new(timestamp, timed)?;
        let header = StructArray::try_new(
            schema::header_fields(),
            vec![Arc::new(self.header_key.string()?), Arc::new(self.header_value.binary()?)],
            None,
        )?;
        let (field, ends) = (schema::header_field(), self.headers.lend());
        let headers = ListArray::try_new(field, ends, Arc::new(header), None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::try_new(self.partition.lend().into(), None)?),
            Arc::new(Int64Array::try_new(self.offset.lend().into(), None)?),
            Arc::new(timestamp.with_data_type(schema::timestamp_type())),
            Arc::new(self.timestamp_type.string()?),
            Arc::new(self.key.binary()?),
            Arc::new(self.value.binary()?),
            Arc::new(headers),
        ];
        RecordBatch::try_new(schema::schema(), columns)
    }
}

/// Values whose memory is lent to Arrow and taken back.
#[derive(Default)]
struct Reused<T> {
    values: Vec<T>,
    lent: Option<Buffer>,
}

impl<T: ArrowNativeType> Reused<T> {
    /// The values, as Arrow has them. Here there are none then.
    fn lend(&mut self) -> Buffer {
        let buffer = Buffer::from_vec(std::mem::take(&mut self.values));
        self.lent.insert(buffer).clone()
    }

    /// Takes the memory back, unless somebody has kept it.
    fn reclaim(&mut self) {
        if let Some(Ok(values)) = self.lent.take().map(Buffer::into_vec) {
            self.values = values;
        }
        self.values.clear();
        self.values.shrink_to(MOST_KEPT_BYTES / size_of::<T>());
    }
}

/// Where things end that lie one after the other. Arrow wants the start of the first too.
struct Ends(Reused<i32>);

impl Default for Ends {
    fn default() -> Self {
        Ends(Reused { values: vec![0], lent: None })
    }
}

impl Ends {
    fn push(&mut self, end: usize) {
        // Arrow refuses ends that do not fit, and no batch comes near them.
        self.0.values.push(i32::try_from(end).unwrap_or(i32::MAX));
    }

    fn lend(&mut self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(self.0.lend().into())
    }

    fn reclaim(&mut self) {
        self.0.reclaim();
        self.0.values.push(0);
    }
}

/// Which values are there; costs nothing while all are.
struct Nulls(NullBufferBuilder);

impl Default for Nulls {
    fn default() -> Self {
        Nulls(NullBufferBuilder::new(0))
    }
}

/// Texts or bytes, each of them or null.
#[derive(Default)]
struct Texts {
    rows: usize,
    bytes: Reused<u8>,
    ends: Ends,
    there: Nulls,
}

impl Texts {
    fn push(&mut self, bytes: Option<&[u8]>) {
        self.rows += 1;
        self.bytes.values.extend_from_slice(bytes.unwrap_or_default());
        self.ends.push(self.bytes.values.len());
        self.there.0.append(bytes.is_some());
    }

    fn binary(&mut self) -> Result<BinaryArray, ArrowError> {
        BinaryArray::try_new(self.ends.lend(), self.bytes.lend(), self.there.0.finish())
    }

    fn string(&mut self) -> Result<StringArray, ArrowError> {
        StringArray::try_new(self.ends.lend(), self.bytes.lend(), self.there.0.finish())
    }

    fn reclaim(&mut self) {
        self.rows = 0;
        self.bytes.reclaim();
        self.ends.reclaim();
    }
}
