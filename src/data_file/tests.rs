//! What is written can be read back: by us, by the parquet crate's own reader, and in parts.

use std::io::{Cursor, Write};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use futures_util::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;

use super::*;
use crate::snapshot::{Event, Header, OffsetRange, Timestamp, TimestampType};

mod parts;

/// An event that owns its bytes, before header keys are made into text.
#[derive(Clone, Debug, Default)]
struct Raw {
    partition: i32,
    offset: i64,
    timestamp: Option<(i64, bool)>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Raw {
    fn at(partition: i32, offset: i64) -> Self {
        Raw { partition, offset, ..Raw::default() }
    }

    fn kind(&self) -> Option<TimestampType> {
        self.timestamp.map(|(_, by_log)| match by_log {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        })
    }

    fn push_to<W: Write + Send + 'static>(
        &self,
        file: &mut FileWriter<W>,
    ) -> Result<(), DataFileError> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        file.push(&Event {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp.map(|(millis, _)| Timestamp::from_millis(millis)),
            timestamp_type: self.kind(),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }

    fn expected(&self) -> OwnedEvent {
        let header = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            (String::from_utf8_lossy(key).into_owned(), value.clone().map(Bytes::from))
        };
        OwnedEvent {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp.map(|(millis, _)| Timestamp::from_millis(millis)),
            timestamp_type: self.kind(),
            key: self.key.clone().map(Bytes::from),
            value: self.value.clone().map(Bytes::from),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// So small that a handful of events makes several batches and row groups.
const TINY: WriteLimits = WriteLimits {
    batch_rows: 3,
    batch_bytes: 256,
    row_group_memory_bytes: 1 << 20,
    row_group_event_bytes: 600,
    row_group_rows: 7,
};

fn write(events: &[Raw], limits: WriteLimits) -> Vec<u8> {
    let metadata = vec![("strandline.topic".to_owned(), "orders".to_owned())];
    let mut file = FileWriter::new(Vec::new(), limits, metadata).expect("a file");
    for event in events {
        event.push_to(&mut file).expect("in order");
    }
    file.finish().expect("a footer")
}

fn footer(file: &[u8]) -> ParquetMetaData {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).expect("Parquet");
    reader.metadata().clone()
}

async fn read(file: &[u8], partition: i32, range: OffsetRange) -> Vec<OwnedEvent> {
    let events = events(Cursor::new(file.to_vec()), partition, range);
    events.try_collect().await.expect("readable")
}

async fn read_all(file: &[u8]) -> Vec<OwnedEvent> {
    let mut all = Vec::new();
    for partition in 0..4 {
        all.extend(read(file, partition, OffsetRange::new(0, i64::MAX)).await);
    }
    all
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn shapes() -> Vec<Raw> {
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    vec![
        Raw::at(0, 0),
        Raw { timestamp: Some((0, false)), value: some(b"a"), ..Raw::at(0, 1) },
        Raw { key: some(b"tombstone"), ..Raw::at(0, 2) },
        Raw { key: some(b""), value: some(b""), ..Raw::at(0, 3) },
        Raw { key: some(b"\xff\x00\xfe"), value: some(&[0, 159, 146, 150]), ..Raw::at(0, 4) },
        Raw { timestamp: Some((i64::MIN, false)), ..Raw::at(0, 7) },
        Raw { timestamp: Some((i64::MAX, true)), ..Raw::at(0, 8) },
        Raw { timestamp: Some((-1, true)), ..Raw::at(0, i64::MAX - 1) },
        Raw {
            timestamp: Some((1_753_747_200_123, true)),
            headers: vec![
                (b"trace".to_vec(), some(b"1")),
                (b"trace".to_vec(), some(b"1")),
                (b"null".to_vec(), None),
                (b"empty".to_vec(), some(b"")),
                (b"".to_vec(), some(b"\xff")),
                (b"bad \xff\xfe key".to_vec(), some(b"x")),
            ],
            ..Raw::at(2, 0)
        },
        Raw::at(3, 0),
    ]
}

#[tokio::test]
async fn every_shape_comes_back() {
    let expected: Vec<_> = shapes().iter().map(Raw::expected).collect();
    assert_eq!(expected[8].headers[5].0, "bad \u{fffd}\u{fffd} key");
    for limits in [WriteLimits::default(), TINY] {
        let file = write(&shapes(), limits);
        assert_eq!(read_all(&file).await, expected);
    }
}

#[test]
fn the_parquet_crates_own_reader_sees_the_same() {
    let file = Bytes::from(write(&shapes(), TINY));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let batch = reader.with_batch_size(100).build().expect("a reader").next();
    let batch = batch.expect("rows").expect("readable");
    let shapes = shapes();
    assert_eq!(batch.num_rows(), shapes.len());
    let times = batch["timestamp"].as_primitive::<TimestampMillisecondType>();
    for (row, event) in shapes.iter().enumerate() {
        assert_eq!(batch["partition"].as_primitive::<Int32Type>().value(row), event.partition);
        assert_eq!(batch["offset"].as_primitive::<Int64Type>().value(row), event.offset);
        assert_eq!(times.iter().nth(row).flatten(), event.timestamp.map(|(millis, _)| millis));
        let value = batch["value"].as_binary::<i32>().iter().nth(row).flatten();
        assert_eq!(value, event.value.as_deref());
        let headers = batch["headers"].as_list::<i32>();
        assert_eq!(headers.value_length(row) as usize, event.headers.len());
    }
    assert_eq!(batch["headers"].null_count(), 0);
}

#[test]
fn the_schema_is_the_one_that_is_documented() {
    let metadata = footer(&write(&shapes(), WriteLimits::default()));
    let mut text = Vec::new();
    print_schema(&mut text, metadata.file_metadata().schema());
    let golden = "\
message strandline {
  REQUIRED INT32 partition;
  REQUIRED INT64 offset;
  OPTIONAL INT64 timestamp (TIMESTAMP(MILLIS,true));
  OPTIONAL BYTE_ARRAY timestamp_type (STRING);
  OPTIONAL BYTE_ARRAY key;
  OPTIONAL BYTE_ARRAY value;
  REQUIRED group headers (LIST) {
    REPEATED group list {
      REQUIRED group element {
        REQUIRED BYTE_ARRAY key (STRING);
        OPTIONAL BYTE_ARRAY value;
      }
    }
  }
}
";
    assert_eq!(String::from_utf8_lossy(&text), golden);
}

#[test]
fn the_footer_says_who_wrote_it_and_what_is_where() {
    let metadata = footer(&write(&shapes(), WriteLimits::default()));
    let file = metadata.file_metadata();
    let version = format!("strandline {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(file.created_by(), Some(version.as_str()));
    let pairs = file.key_value_metadata().expect("our metadata");
    assert_eq!(pairs.len(), 1);
    assert_eq!(
        (pairs[0].key.as_str(), pairs[0].value.as_deref()),
        ("strandline.topic", Some("orders"))
    );
    for column in metadata.row_group(0).columns() {
        let name = column.column_path().string();
        let asked_by = ["partition", "offset", "timestamp"].contains(&name.as_str());
        assert_eq!(column.statistics().is_some(), asked_by, "{name}");
        assert_eq!(column.column_index_offset().is_some(), asked_by, "{name}");
        assert!(column.offset_index_offset().is_some(), "{name}");
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{name}");
        let delta = column.encodings().any(|e| e == Encoding::DELTA_BINARY_PACKED);
        assert_eq!(delta, ["offset", "timestamp"].contains(&name.as_str()), "{name}");
        let dictionary = column.dictionary_page_offset().is_some();
        let texts = ["partition", "timestamp_type", "headers.list.element.key"];
        assert_eq!(dictionary, texts.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn no_events_make_a_file_too() {
    let file = write(&[], WriteLimits::default());
    assert_eq!(footer(&file).num_row_groups(), 0);
    assert_eq!(read_all(&file).await, []);
}

#[tokio::test]
async fn row_groups_end_by_rows_by_bytes_and_by_memory() {
    let events: Vec<_> =
        (0..50).map(|i| Raw { value: Some(vec![7; 40]), ..Raw::at(1, i * 2) }).collect();
    let wide = WriteLimits { batch_rows: 5, ..WriteLimits::default() };
    for (limits, groups) in [
        (wide, 1),
        (WriteLimits { row_group_rows: 20, ..wide }, 3),
        (WriteLimits { row_group_event_bytes: 5 * 88, ..wide }, 10),
        (WriteLimits { row_group_memory_bytes: 1, ..wide }, 10),
        (WriteLimits { batch_bytes: 1, row_group_memory_bytes: 1, ..wide }, 50),
    ] {
        let file = write(&events, limits);
        assert_eq!(footer(&file).num_row_groups(), groups, "{limits:?}");
        assert_eq!(read_all(&file).await.len(), events.len());
    }
}

#[test]
fn what_is_out_of_order_is_refused_and_the_file_goes_on() {
    let mut file = FileWriter::new(Vec::new(), TINY, Vec::new()).expect("a file");
    Raw::at(1, 5).push_to(&mut file).expect("the first");
    for (partition, offset) in [(1, 5), (1, 4), (0, 9)] {
        let error = Raw::at(partition, offset).push_to(&mut file).expect_err("not in order");
        assert!(matches!(error, DataFileError::OutOfOrder { .. }), "{error}");
        assert!(!error.is_retryable());
    }
    Raw::at(2, 0).push_to(&mut file).expect("the next partition");
    let file = file.finish().expect("a footer");
    assert_eq!(block_on(read_all(&file)).len(), 2);
}

#[tokio::test]
async fn one_event_of_20_mib_fits_between_small_ones() {
    let noise = (0..20 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    let large = Raw { value: Some(noise.collect()), ..Raw::at(0, 1) };
    let events = [Raw::at(0, 0), large, Raw { value: Some(b"small".to_vec()), ..Raw::at(0, 2) }];
    let file = write(&events, WriteLimits::default());
    let expected: Vec<_> = events.iter().map(Raw::expected).collect();
    assert!(read_all(&file).await == expected, "20 MiB are not what they were");
}

#[test]
fn an_event_beyond_all_measure_is_refused() {
    // The bytes are never touched, so that they cost an address, not memory.
    let huge = vec![0; MAX_EVENT_BYTES];
    let event = Raw { key: Some(vec![0]), value: Some(huge), ..Raw::at(0, 1) };
    let mut file = FileWriter::new(Vec::new(), TINY, Vec::new()).expect("a file");
    let error = event.push_to(&mut file).expect_err("one byte too many");
    assert!(error.to_string().contains("536870913 bytes"), "{error}");
    assert_eq!(file.estimated_bytes(), file.bytes_written());
}

#[test]
fn the_size_is_known_well_enough_to_roll_files_by_it() {
    let mut file = FileWriter::new(Vec::new(), WriteLimits::default(), Vec::new()).expect("a file");
    let mut before = file.estimated_bytes();
    for offset in 0..30_000u64 {
        let noise = (0..25)
            .flat_map(|i| (offset * 25 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let event = Raw { value: Some(noise.collect()), ..Raw::at(0, offset as i64) };
        event.push_to(&mut file).expect("in order");
        before = file.estimated_bytes();
    }
    let size = file.finish().expect("a footer").len();
    assert!((size * 8 / 10..size * 12 / 10).contains(&before), "{before} for {size}");
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the upload ended"))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_is_worth_another_try() {
    let mut error = None;
    match FileWriter::new(Full, TINY, Vec::new()) {
        Err(refused) => error = Some(refused),
        Ok(mut file) => {
            for event in shapes() {
                error = error.or(event.push_to(&mut file).err());
            }
            error = error.or(file.finish().err());
        }
    }
    let error = error.expect("an error");
    let text = error.to_string();
    assert!(text.starts_with("writing the Parquet file failed: "), "{text}");
    assert!(text.contains("the upload ended"), "{text}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn what_is_no_data_file_is_refused_for_good() {
    let garbage = events(Cursor::new(vec![7; 100]), 0, OffsetRange::new(0, 9));
    let error = garbage.try_collect::<Vec<_>>().await.expect_err("no Parquet");
    assert!(matches!(error, DataFileError::Read(_)) && !error.is_retryable(), "{error}");

    let field = arrow_schema::Field::new("partition", arrow_schema::DataType::Int64, false);
    let schema = Arc::new(arrow_schema::Schema::new(vec![field]));
    let other = parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None);
    let other = other.and_then(|writer| writer.into_inner()).expect("Parquet");
    let events = events(Cursor::new(other), 0, OffsetRange::new(0, 9));
    let error = events.try_collect::<Vec<_>>().await.expect_err("not ours");
    assert!(error.to_string().contains("column partition has another type"), "{error}");
}

#[tokio::test]
async fn an_empty_range_reads_nothing() {
    let nothing = Cursor::new(Vec::new());
    let events: Vec<_> =
        events(nothing, 0, OffsetRange::new(5, 5)).try_collect().await.expect("no read");
    assert_eq!(events, []);
}
