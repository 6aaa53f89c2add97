//! Reads events back out of a data file, by partition and offset.

use arrow_array::{BooleanArray, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::ArrowError;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderOptions, RowFilter};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::rows::{OwnedEvent, Rows, numbers};
use super::{DataFileError, schema};
use crate::snapshot::{OffsetRange, RangeTally, Timestamp, Window};

/// Bytes of events that are unpacked at once, about.
const BATCH_BYTES: u64 = 1 << 20;
/// Events that are unpacked at once, at most.
const BATCH_ROWS: u64 = 1024;
/// Rows at once where only the small columns are read.
const TALLY_BATCH_ROWS: usize = 8192;

/// The events of a range of offsets, in order. What the range has no part in is not read,
/// and nothing is read ahead of the row group that the stream is in.
///
/// Errors: [`DataFileError::Read`] and [`DataFileError::Foreign`]; the stream ends there.
pub fn events<R>(
    reader: R,
    partition: i32,
    range: OffsetRange,
) -> impl Stream<Item = Result<OwnedEvent, DataFileError>> + Send
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let columns = Columns::All;
    stream::once(open(reader, partition, range, columns))
        .try_flatten()
        .and_then(|batch| std::future::ready(Rows::of(&batch).map(stream::iter)))
        .try_flatten()
}

/// Counts the events of a range of offsets as `window` sees them. Reads the columns
/// `partition`, `offset` and `timestamp` only.
///
/// # Errors
/// [`DataFileError::Read`] and [`DataFileError::Foreign`].
pub async fn tally<R>(
    reader: R,
    partition: i32,
    range: OffsetRange,
    window: &Window,
) -> Result<RangeTally, DataFileError>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let mut tally = RangeTally::default();
    let mut batches = std::pin::pin!(open(reader, partition, range, Columns::Times).await?);
    while let Some(batch) = batches.try_next().await? {
        let times: TimestampMillisecondArray = numbers(&batch, schema::TIMESTAMP)?;
        for time in &times {
            tally.add(time.map(Timestamp::from_millis), window);
        }
    }
    Ok(tally)
}

/// Which columns are asked for.
#[derive(Clone, Copy)]
enum Columns {
    All,
    Times,
}

/// The rows of the range, in batches.
async fn open<R>(
    reader: R,
    partition: i32,
    range: OffsetRange,
    columns: Columns,
) -> Result<impl Stream<Item = Result<RecordBatch, DataFileError>> + Send, DataFileError>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let batches = match range.is_empty() {
        true => None,
        false => Some(select(reader, partition, range, columns).await?),
    };
    Ok(stream::iter(batches).flatten().map_err(DataFileError::Read))
}

async fn select<R>(
    reader: R,
    partition: i32,
    range: OffsetRange,
    columns: Columns,
) -> Result<ParquetRecordBatchStream<R>, DataFileError>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    // With the offsets of the pages known, only pages that hold rows of the range are read.
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options);
    let builder = builder.await.map_err(DataFileError::Read)?;
    schema::check(builder.schema())?;
    let row_groups = prune(builder.metadata(), partition, range);
    let leaves = builder.parquet_schema();
    let place = ProjectionMask::columns(leaves, [schema::PARTITION, schema::OFFSET]);
    let (projection, batch_rows) = match columns {
        Columns::All => (ProjectionMask::all(), batch_rows(builder.metadata(), &row_groups)),
        Columns::Times => (ProjectionMask::columns(leaves, [schema::TIMESTAMP]), TALLY_BATCH_ROWS),
    };
    let wanted = ArrowPredicateFn::new(place, move |batch| in_range(&batch, partition, range));
    builder
        .with_row_groups(row_groups)
        .with_projection(projection)
        .with_batch_size(batch_rows)
        .with_row_filter(RowFilter::new(vec![Box::new(wanted)]))
        .build()
        .map_err(DataFileError::Read)
}

/// The row groups that may hold offsets of the range, in order. One without statistics may
/// hold anything.
pub(super) fn prune(file: &ParquetMetaData, partition: i32, range: OffsetRange) -> Vec<usize> {
    let may_hold = |group: &RowGroupMetaData| {
        let statistics = |leaf: usize| group.columns().get(leaf).and_then(|c| c.statistics());
        let partition_fits = match statistics(schema::PARTITION_LEAF) {
            Some(Statistics::Int32(s)) => {
                s.min_opt().is_none_or(|min| *min <= partition)
                    && s.max_opt().is_none_or(|max| partition <= *max)
            }
            _ => true,
        };
        let offset_fits = match statistics(schema::OFFSET_LEAF) {
            Some(Statistics::Int64(s)) => {
                s.min_opt().is_none_or(|min| *min < range.end())
                    && s.max_opt().is_none_or(|max| range.start() <= *max)
            }
            _ => true,
        };
        partition_fits && offset_fits
    };
    let groups = file.row_groups().iter().enumerate();
    groups.filter(|(_, group)| may_hold(group)).map(|(index, _)| index).collect()
}

/// How many rows make a batch of a bearable size, by the row group with the largest ones.
fn batch_rows(file: &ParquetMetaData, row_groups: &[usize]) -> usize {
    let row_bytes = |group: &RowGroupMetaData| {
        // A column's encoded size says little where it has a dictionary; what its texts
        // really have is on record as well.
        let bytes = group.columns().iter().map(|column| {
            column.uncompressed_size().max(column.unencoded_byte_array_data_bytes().unwrap_or(0))
        });
        bytes.sum::<i64>() / group.num_rows().max(1)
    };
    let largest = row_groups.iter().map(|&index| row_bytes(file.row_group(index))).max();
    let largest = largest.unwrap_or(1).max(1).unsigned_abs();
    (BATCH_BYTES / largest).clamp(1, BATCH_ROWS) as usize
}

fn in_range(
    batch: &RecordBatch,
    partition: i32,
    range: OffsetRange,
) -> Result<BooleanArray, ArrowError> {
    let external = |error: DataFileError| ArrowError::ExternalError(Box::new(error));
    let partitions: Int32Array = numbers(batch, schema::PARTITION).map_err(external)?;
    let offsets: Int64Array = numbers(batch, schema::OFFSET).map_err(external)?;
    let places = partitions.values().iter().zip(offsets.values());
    let wanted = places.map(|(p, offset)| *p == partition && range.contains(*offset));
    Ok(wanted.collect::<Vec<_>>().into())
}
