//! The floor: the least work that turns a window into a Parquet file with the same columns,
//! written by hand without librdkafka and without any promise. One connection, one thread, plain
//! Fetch requests (version 11 of <https://kafka.apache.org/protocol>), lz4 or no compression,
//! no transactions, no headers, no second broker, no errors survived.
//!
//! `floor BROKERS TOPIC START_MS END_MS FILE` prints the events and their bytes of value as JSON.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may end with a panic")]

mod offsets;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

const MAX_BYTES: i32 = 1 << 20;
const BATCH_ROWS: usize = 8192;

fn main() {
    let arguments = offsets::arguments();
    let [brokers, topic, start, end, path] = &arguments[..] else {
        eprintln!("usage: floor BROKERS TOPIC START_MS END_MS FILE");
        std::process::exit(2);
    };
    let consumer = offsets::consumer(brokers);
    let ranges = offsets::ranges(&consumer, topic, start.parse().unwrap(), end.parse().unwrap());
    let mut connection = Connection { stream: TcpStream::connect(brokers).unwrap(), sent: 0 };
    connection.stream.set_nodelay(true).unwrap();
    let mut file = Output::new(File::create(path).unwrap());
    let mut unpacked = Vec::new();
    for (&partition, &(start, end)) in &ranges {
        let mut offset = start;
        while offset < end {
            let answer = connection.fetch(topic, partition, offset);
            offset = records(&answer, partition, (offset, end), &mut unpacked, &mut file);
        }
    }
    let (events, bytes) = (file.events, file.bytes);
    file.finish();
    println!("{{\"events\":{events},\"bytes\":{bytes}}}");
    // Without the seconds that leaving takes the consumer, which only looked up offsets.
    std::process::exit(0);
}

struct Connection {
    stream: TcpStream,
    sent: i32,
}

impl Connection {
    /// The record batches from `offset` on.
    fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<u8> {
        self.sent += 1;
        let mut request = vec![0; 4];
        let text = |request: &mut Vec<u8>, text: &str| {
            request.extend((text.len() as i16).to_be_bytes());
            request.extend(text.as_bytes());
        };
        request.extend([0, 1, 0, 11]);
        request.extend(self.sent.to_be_bytes());
        text(&mut request, "floor");
        for number in [-1, 100, 1, MAX_BYTES] {
            request.extend(number.to_be_bytes());
        }
        // Read committed, no session, one topic with one partition of unknown epoch.
        request.push(1);
        for number in [0, -1, 1] {
            request.extend(i32::to_be_bytes(number));
        }
        text(&mut request, topic);
        for number in [1, partition, -1] {
            request.extend(number.to_be_bytes());
        }
        for number in [offset, -1] {
            request.extend(number.to_be_bytes());
        }
        for number in [MAX_BYTES, 0] {
            request.extend(number.to_be_bytes());
        }
        text(&mut request, "");
        let length = request.len() as i32 - 4;
        request[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&request).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        // Correlation, throttling, error, session, count of topics, name, count of partitions.
        let mut at = Cursor(&answer);
        at.take(4 + 4 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4);
        assert_eq!(at.take(2), [0, 0], "Kafka's error");
        // Watermarks and the start of the log; then aborted transactions.
        at.take(24);
        let aborted = i32::from_be_bytes(at.array());
        at.take(aborted.max(0) as usize * 16 + 4);
        let length = i32::from_be_bytes(at.array()) as usize;
        let start = answer.len() - at.0.len();
        answer.truncate(start + length);
        answer.drain(..start);
        answer
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
            shift += 7;
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        usize::try_from(self.varint()).ok().map(|length| self.take(length))
    }
}

/// Writes what of an answer is in the range; where to go on.
fn records(
    answer: &[u8],
    partition: i32,
    (start, end): (i64, i64),
    unpacked: &mut Vec<u8>,
    file: &mut Output,
) -> i64 {
    let mut batches = Cursor(answer);
    let mut next = start;
    while batches.0.len() >= 61 {
        let base = i64::from_be_bytes(batches.array());
        let length = i32::from_be_bytes(batches.array()) as usize;
        if batches.0.len() < length {
            break;
        }
        let mut batch = Cursor(batches.take(length));
        batch.take(9);
        let attributes = i16::from_be_bytes(batch.array());
        let last = i32::from_be_bytes(batch.array());
        let time = i64::from_be_bytes(batch.array());
        batch.take(22);
        let count = i32::from_be_bytes(batch.array());
        next = base + i64::from(last) + 1;
        let mut records = match attributes & 7 {
            0 => batch,
            3 => {
                unpacked.clear();
                lz4_flex::frame::FrameDecoder::new(batch.0).read_to_end(unpacked).unwrap();
                Cursor(unpacked)
            }
            other => panic!("compression {other}"),
        };
        for _ in 0..count {
            let length = records.varint() as usize;
            let mut record = Cursor(records.take(length));
            record.take(1);
            let time = time + record.varint();
            let offset = base + record.varint();
            if (start..end).contains(&offset) {
                file.push(partition, offset, time, record.bytes(), record.bytes());
            }
        }
    }
    assert!(next > start, "an answer without events at offset {start}");
    next
}

struct Output {
    schema: SchemaRef,
    parquet: ArrowWriter<File>,
    events: u64,
    bytes: u64,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: Int64Builder,
    timestamp_type: StringBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
}

impl Output {
    fn new(file: File) -> Self {
        let header = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Binary, true),
        ]);
        let element = Arc::new(Field::new("element", DataType::Struct(header.clone()), false));
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("partition", DataType::Int32, false),
            Field::new("offset", DataType::Int64, false),
            Field::new("timestamp", time, true),
            Field::new("timestamp_type", DataType::Utf8, true),
            Field::new("key", DataType::Binary, true),
            Field::new("value", DataType::Binary, true),
            Field::new("headers", DataType::List(Arc::clone(&element)), false),
        ]));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
            .set_max_row_group_row_count(Some(100_000))
            .set_statistics_enabled(EnabledStatistics::None);
        for column in ["offset", "timestamp"].map(ColumnPath::from) {
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
        for column in ["key", "value"].map(ColumnPath::from) {
            properties = properties.set_column_dictionary_enabled(column, false);
        }
        let header_columns: Vec<Box<dyn arrow_array::builder::ArrayBuilder>> =
            vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
        let headers = StructBuilder::new(header, header_columns);
        let parquet =
            ArrowWriter::try_new(file, Arc::clone(&schema) as _, Some(properties.build())).unwrap();
        Output {
            schema,
            parquet,
            events: 0,
            bytes: 0,
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            timestamp: Int64Builder::new(),
            timestamp_type: StringBuilder::new(),
            key: BinaryBuilder::new(),
            value: BinaryBuilder::new(),
            headers: ListBuilder::new(headers).with_field(element),
        }
    }

    fn push(
        &mut self,
        partition: i32,
        offset: i64,
        time: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        self.events += 1;
        self.bytes += value.map_or(0, <[u8]>::len) as u64;
        self.partition.append_value(partition);
        self.offset.append_value(offset);
        self.timestamp.append_value(time);
        self.timestamp_type.append_value("create_time");
        self.key.append_option(key);
        self.value.append_option(value);
        self.headers.append(true);
        if self.events.is_multiple_of(BATCH_ROWS as u64) {
            self.write();
        }
    }

    fn write(&mut self) {
        let times: TimestampMillisecondArray = self.timestamp.finish().reinterpret_cast();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(self.timestamp_type.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.headers.finish()),
        ];
        self.parquet
            .write(&RecordBatch::try_new(Arc::clone(&self.schema), columns).unwrap())
            .unwrap();
    }

    fn finish(mut self) {
        self.write();
        self.parquet.close().unwrap();
    }
}
