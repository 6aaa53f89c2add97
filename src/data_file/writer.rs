//! Writes events into a data file, with memory bounded whatever comes.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::{DataFileError, schema};
use crate::snapshot::Event;

/// The largest event that a data file takes: key, value and headers together, in bytes.
/// Arrow counts the bytes of a batch in 31 bits, and a header's key can grow threefold when
/// its bytes are replaced, so that this leaves room for a batch besides.
pub const MAX_EVENT_BYTES: usize = 512 << 20;

/// What a row costs apart from key, value and headers: about its Arrow columns.
const ROW_BYTES: usize = 48;
/// What a header costs apart from its key and value.
const HEADER_BYTES: usize = 12;

/// How much is gathered before it goes on its way. All are reached, not kept: the event
/// that crosses one still goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// Events that are encoded at once.
    pub batch_rows: usize,
    /// Bytes of events that are encoded at once.
    pub batch_bytes: usize,
    /// Bytes of encoded pages in memory at which a row group ends.
    pub row_group_memory_bytes: usize,
    /// Bytes of events, before encoding, at which a row group ends. Bounds what a reader can
    /// be made to unpack from one.
    pub row_group_event_bytes: usize,
    /// Events at which a row group ends.
    pub row_group_rows: usize,
}

impl Default for WriteLimits {
    fn default() -> Self {
        WriteLimits {
            batch_rows: 8192,
            batch_bytes: 1 << 20,
            row_group_memory_bytes: 16 << 20,
            row_group_event_bytes: 64 << 20,
            row_group_rows: 1 << 20,
        }
    }
}

/// A data file in the making. Dropped before [`finish`](FileWriter::finish), it leaves a
/// torso in the sink: without its footer no Parquet file.
pub struct FileWriter<W: Write + Send> {
    parquet: ArrowWriter<W>,
    limits: WriteLimits,
    batch: Batch,
    row_group_event_bytes: usize,
    last: Option<(i32, i64)>,
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file. `metadata` goes into its footer as key-value pairs.
    ///
    /// # Errors
    /// [`DataFileError::Write`] if the sink does not take the first bytes.
    pub fn new(
        sink: W,
        limits: WriteLimits,
        metadata: Vec<(String, String)>,
    ) -> Result<Self, DataFileError> {
        let properties = schema::properties(metadata, limits.row_group_rows.max(1))
            .map_err(DataFileError::Write)?;
        // Parquet's own types say it all; Arrow's copy of the schema would only be in the way
        // of readers that trust it more.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_schema_root("strandline".to_owned());
        let parquet = ArrowWriter::try_new_with_options(sink, schema::schema(), options)
            .map_err(DataFileError::Write)?;
        Ok(FileWriter {
            parquet,
            limits,
            batch: Batch::new(),
            row_group_event_bytes: 0,
            last: None,
        })
    }

    /// Adds an event. Events come in order of partition and offset, each once.
    ///
    /// # Errors
    /// [`DataFileError::OutOfOrder`] and [`DataFileError::EventTooLarge`] refuse the event and
    /// leave the file as it was; after [`DataFileError::Write`] the file is lost.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), DataFileError> {
        let place = (event.partition, event.offset);
        if let Some(last) = self.last.filter(|last| place <= *last) {
            return Err(DataFileError::OutOfOrder {
                partition: event.partition,
                offset: event.offset,
                last_partition: last.0,
                last_offset: last.1,
            });
        }
        let bytes = content_bytes(event);
        if bytes > MAX_EVENT_BYTES {
            return Err(DataFileError::EventTooLarge {
                partition: event.partition,
                offset: event.offset,
                bytes,
                limit: MAX_EVENT_BYTES,
            });
        }
        self.last = Some(place);
        self.batch.push(event, bytes);
        if self.batch.rows >= self.limits.batch_rows || self.batch.bytes >= self.limits.batch_bytes
        {
            self.encode_batch().map_err(DataFileError::Write)?;
        }
        Ok(())
    }

    /// Bytes that the sink has got so far.
    pub fn bytes_written(&self) -> usize {
        self.parquet.bytes_written()
    }

    /// Bytes that the file would have if it ended here, about: what is written, what is
    /// encoded, and what waits to be (as it is, so that this is rather too much).
    pub fn estimated_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size() + self.batch.bytes
    }

    /// Writes what is left and the footer, and gives the sink back.
    ///
    /// # Errors
    /// [`DataFileError::Write`]; the file is lost then.
    pub fn finish(mut self) -> Result<W, DataFileError> {
        self.encode_batch().map_err(DataFileError::Write)?;
        self.parquet.flush().map_err(DataFileError::Write)?;
        // All is encoded but the footer, so what fails now is the sink; the parquet crate
        // makes text of an error that it meets while it gives the sink back.
        self.parquet.into_inner().map_err(|error| match error {
            ParquetError::General(text) => {
                DataFileError::Write(ParquetError::External(text.into()))
            }
            other => DataFileError::Write(other),
        })
    }

    fn encode_batch(&mut self) -> Result<(), ParquetError> {
        if self.batch.rows == 0 {
            return Ok(());
        }
        self.row_group_event_bytes += self.batch.bytes;
        let batch = self.batch.take()?;
        self.parquet.write(&batch)?;
        if self.row_group_event_bytes >= self.limits.row_group_event_bytes
            || self.parquet.memory_size() >= self.limits.row_group_memory_bytes
        {
            self.parquet.flush()?;
        }
        if self.parquet.in_progress_rows() == 0 {
            self.row_group_event_bytes = 0;
        }
        Ok(())
    }
}

fn content_bytes(event: &Event<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = event
        .headers
        .iter()
        .map(|header| header.key.len() + length(header.value) + HEADER_BYTES)
        .sum::<usize>();
    length(event.key) + length(event.value) + headers
}

/// Events on their way into Arrow's columns. The builders are used again for every batch.
struct Batch {
    rows: usize,
    bytes: usize,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMillisecondBuilder,
    timestamp_type: StringBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
}

impl Batch {
    fn new() -> Self {
        let header = StructBuilder::new(
            schema::header_fields(),
            vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())],
        );
        Batch {
            rows: 0,
            bytes: 0,
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            timestamp: TimestampMillisecondBuilder::new().with_data_type(schema::timestamp_type()),
            timestamp_type: StringBuilder::new(),
            key: BinaryBuilder::new(),
            value: BinaryBuilder::new(),
            headers: ListBuilder::new(header).with_field(schema::header_field()),
        }
    }

    fn push(&mut self, event: &Event<'_>, content_bytes: usize) {
        self.rows += 1;
        self.bytes += ROW_BYTES + content_bytes;
        self.partition.append_value(event.partition);
        self.offset.append_value(event.offset);
        self.timestamp.append_option(event.timestamp.map(|time| time.millis()));
        self.timestamp_type.append_option(event.timestamp_type.map(|kind| kind.as_str()));
        self.key.append_option(event.key);
        self.value.append_option(event.value);
        self.push_headers(event);
    }

    fn push_headers(&mut self, event: &Event<'_>) {
        let headers = self.headers.values();
        for header in event.headers {
            // The two builders are those of `new`, so they are there.
            if let Some(keys) = headers.field_builder::<StringBuilder>(0) {
                keys.append_value(String::from_utf8_lossy(header.key));
            }
            if let Some(values) = headers.field_builder::<BinaryBuilder>(1) {
                values.append_option(header.value);
            }
            headers.append(true);
        }
        self.headers.append(true);
    }

    /// The events as a batch; what comes next begins a new one.
    fn take(&mut self) -> Result<RecordBatch, ParquetError> {
        (self.rows, self.bytes) = (0, 0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.timestamp.finish()),
            Arc::new(self.timestamp_type.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.headers.finish()),
        ];
        Ok(RecordBatch::try_new(schema::schema(), columns)?)
    }
}
