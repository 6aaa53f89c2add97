//! Writes events into a data file, with memory bounded whatever comes.
//!
//! Whoever has events fills batches; a thread beside it encodes them, for encoding and
//! compressing take longer than reading. Three batches go round: one is filled, one waits, one
//! is encoded.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::batch::{Batch, content_bytes};
use super::{DataFileError, schema};
use crate::snapshot::Event;

/// The largest event that a data file takes: key, value and headers together, in bytes.
/// Arrow counts the bytes of a batch in 31 bits, and a header's key can grow threefold when
/// its bytes are replaced, so that this leaves room for a batch besides.
pub const MAX_EVENT_BYTES: usize = 512 << 20;

/// Batches that go round beside the one that is filled.
const SPARE_BATCHES: usize = 2;

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
            batch_bytes: 512 << 10,
            row_group_memory_bytes: 8 << 20,
            row_group_event_bytes: 64 << 20,
            row_group_rows: 1 << 20,
        }
    }
}

/// A data file in the making. Dropped before [`finish`](FileWriter::finish), it leaves a
/// torso in the sink: without its footer no Parquet file.
pub struct FileWriter<W: Write + Send> {
    batch: Batch,
    limits: WriteLimits,
    last: Option<(i32, i64)>,
    to_encode: SyncSender<Batch>,
    encoded: Receiver<Batch>,
    sizes: Arc<Sizes>,
    /// `None` after it has failed.
    encoder: Option<JoinHandle<Result<Encoder<W>, ParquetError>>>,
}

/// What the encoder says of the file, in bytes.
#[derive(Default)]
struct Sizes {
    /// What the sink has.
    written: AtomicUsize,
    /// What is encoded and in memory.
    in_memory: AtomicUsize,
    /// What waits to be encoded, as it is.
    waiting: AtomicUsize,
}

impl<W: Write + Send + 'static> FileWriter<W> {
    /// Begins a file. `metadata` goes into its footer as key-value pairs.
    ///
    /// # Errors
    /// [`DataFileError::Write`] if the sink does not take the first bytes.
    pub fn new(
        sink: W,
        limits: WriteLimits,
        metadata: Vec<(String, String)>,
    ) -> Result<Self, DataFileError> {
        let sizes = Arc::<Sizes>::default();
        let encoder = Encoder::new(sink, limits, metadata, Arc::clone(&sizes))
            .map_err(DataFileError::Write)?;
        let (to_encode, batches) = sync_channel(SPARE_BATCHES);
        let (empty, encoded) = sync_channel(SPARE_BATCHES);
        for _ in 0..SPARE_BATCHES {
            // There is room for all of them.
            let _ = empty.try_send(Batch::default());
        }
        let encoder = thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || encoder.run(&batches, &empty))
            .map_err(|error| DataFileError::Write(ParquetError::External(error.into())))?;
        let batch = Batch::default();
        Ok(FileWriter {
            batch,
            limits,
            last: None,
            to_encode,
            encoded,
            sizes,
            encoder: Some(encoder),
        })
    }

    /// Adds an event. Events come in order of partition and offset, each once. Waits while the
    /// encoder, or the sink behind it, is slower.
    ///
    /// # Errors
    /// [`DataFileError::OutOfOrder`] and [`DataFileError::EventTooLarge`] refuse the event and
    /// leave the file as it was; after [`DataFileError::Write`], which may be of an earlier
    /// event, the file is lost.
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
        if self.batch.rows() >= self.limits.batch_rows
            || self.batch.bytes() >= self.limits.batch_bytes
        {
            self.pass_on()?;
        }
        Ok(())
    }

    /// Bytes that the sink has got so far.
    pub fn bytes_written(&self) -> usize {
        self.sizes.written.load(Ordering::Relaxed)
    }

    /// Bytes that the file would have if it ended here, about: what is written, what is
    /// encoded, and what waits to be (as it is, so that this is rather too much).
    pub fn estimated_bytes(&self) -> usize {
        let Sizes { written, in_memory, waiting } = &*self.sizes;
        let encoder = [written, in_memory, waiting].map(|size| size.load(Ordering::Relaxed));
        encoder.iter().sum::<usize>() + self.batch.bytes()
    }

    /// Writes what is left and the footer, and gives the sink back.
    ///
    /// # Errors
    /// [`DataFileError::Write`]; the file is lost then.
    pub fn finish(mut self) -> Result<W, DataFileError> {
        if self.batch.rows() > 0 {
            self.pass_on()?;
        }
        let FileWriter { to_encode, mut encoder, .. } = self;
        drop(to_encode);
        end(&mut encoder).and_then(Encoder::finish).map_err(DataFileError::Write)
    }

    /// Gives the batch to the encoder and takes an empty one.
    fn pass_on(&mut self) -> Result<(), DataFileError> {
        if let Ok(empty) = self.encoded.recv() {
            let full = std::mem::replace(&mut self.batch, empty);
            self.sizes.waiting.fetch_add(full.bytes(), Ordering::Relaxed);
            if self.to_encode.send(full).is_ok() {
                return Ok(());
            }
        }
        // It ends before its time only with an error.
        let error = end(&mut self.encoder).err();
        Err(DataFileError::Write(error.unwrap_or_else(encoder_is_gone)))
    }
}

/// How the encoder ended. Its panic becomes ours.
fn end<W: Write + Send>(
    encoder: &mut Option<JoinHandle<Result<Encoder<W>, ParquetError>>>,
) -> Result<Encoder<W>, ParquetError> {
    let encoder = encoder.take().ok_or_else(encoder_is_gone)?;
    encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn encoder_is_gone() -> ParquetError {
    ParquetError::General("the file is lost, its encoder has ended".to_owned())
}

/// What turns batches into a file.
struct Encoder<W: Write + Send> {
    parquet: ArrowWriter<W>,
    limits: WriteLimits,
    row_group_event_bytes: usize,
    sizes: Arc<Sizes>,
}

impl<W: Write + Send> Encoder<W> {
    fn new(
        sink: W,
        limits: WriteLimits,
        metadata: Vec<(String, String)>,
        sizes: Arc<Sizes>,
    ) -> Result<Self, ParquetError> {
        let properties = schema::properties(metadata, limits.row_group_rows.max(1))?;
        // Parquet's own types say it all; Arrow's copy of the schema would only be in the way
        // of readers that trust it more.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_schema_root("strandline".to_owned());
        let parquet = ArrowWriter::try_new_with_options(sink, schema::schema(), options)?;
        Ok(Encoder { parquet, limits, row_group_event_bytes: 0, sizes })
    }

    /// Encodes what comes and gives it back empty, until nothing comes any more.
    fn run(
        mut self,
        batches: &Receiver<Batch>,
        empty: &SyncSender<Batch>,
    ) -> Result<Self, ParquetError> {
        for mut batch in batches {
            self.encode(&mut batch)?;
            // Nobody takes it once the last one has come.
            let _ = empty.try_send(batch);
        }
        Ok(self)
    }

    fn encode(&mut self, batch: &mut Batch) -> Result<(), ParquetError> {
        let bytes = batch.bytes();
        batch.lend(|batch| self.parquet.write(&batch))?;
        self.row_group_event_bytes += bytes;
        if self.row_group_event_bytes >= self.limits.row_group_event_bytes
            || self.parquet.memory_size() >= self.limits.row_group_memory_bytes
        {
            self.parquet.flush()?;
        }
        if self.parquet.in_progress_rows() == 0 {
            self.row_group_event_bytes = 0;
        }
        let Sizes { written, in_memory, waiting } = &*self.sizes;
        written.store(self.parquet.bytes_written(), Ordering::Relaxed);
        in_memory.store(self.parquet.in_progress_size(), Ordering::Relaxed);
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn finish(mut self) -> Result<W, ParquetError> {
        self.parquet.flush()?;
        // All is encoded but the footer, so what fails now is the sink; the parquet crate
        // makes text of an error that it meets while it gives the sink back.
        self.parquet.into_inner().map_err(|error| match error {
            ParquetError::General(text) => ParquetError::External(text.into()),
            other => other,
        })
    }
}
