//! Rows of a data file, and the events that they are.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrowPrimitiveType, BinaryArray, Int32Array, Int64Array, ListArray, PrimitiveArray,
    RecordBatch, StringArray, TimestampMillisecondArray,
};
use bytes::Bytes;

use super::{DataFileError, schema};
use crate::snapshot::{Timestamp, TimestampType};

/// An event as a data file holds it, on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEvent {
    /// The partition's number.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// `None` where Kafka has none.
    pub timestamp: Option<Timestamp>,
    /// `None` without a timestamp.
    pub timestamp_type: Option<TimestampType>,
    /// `None` where Kafka's is null.
    pub key: Option<Bytes>,
    /// `None` for a tombstone.
    pub value: Option<Bytes>,
    /// In order, duplicates kept. Bytes of a key that were not UTF-8 are U+FFFD here.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// The rows of a batch, made into events one by one, so that a batch is never held twice.
pub(super) struct Rows {
    next: usize,
    partition: Int32Array,
    offset: Int64Array,
    timestamp: TimestampMillisecondArray,
    timestamp_type: StringArray,
    key: BinaryArray,
    value: BinaryArray,
    headers: ListArray,
    header_keys: StringArray,
    header_values: BinaryArray,
}

impl Rows {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, DataFileError> {
        let wrong = |column| move || DataFileError::Foreign { column, problem: schema::WRONG_TYPE };
        let texts = |name| column(batch, name)?.as_string_opt().cloned().ok_or_else(wrong(name));
        let binary = |name| column(batch, name)?.as_binary_opt().cloned().ok_or_else(wrong(name));
        let headers = column(batch, schema::HEADERS)?.as_list_opt::<i32>().cloned();
        let headers = headers.ok_or_else(wrong(schema::HEADERS))?;
        let header = headers.values().as_struct_opt().ok_or_else(wrong(schema::HEADERS))?;
        let part = |name| header.column_by_name(name).ok_or_else(wrong(schema::HEADERS));
        let header_keys = part("key")?.as_string_opt().cloned();
        let header_values = part("value")?.as_binary_opt().cloned();
        Ok(Rows {
            next: 0,
            partition: numbers::<Int32Type>(batch, schema::PARTITION)?,
            offset: numbers::<Int64Type>(batch, schema::OFFSET)?,
            timestamp: numbers::<TimestampMillisecondType>(batch, schema::TIMESTAMP)?,
            timestamp_type: texts(schema::TIMESTAMP_TYPE)?,
            key: binary(schema::KEY)?,
            value: binary(schema::VALUE)?,
            header_keys: header_keys.ok_or_else(wrong(schema::HEADERS))?,
            header_values: header_values.ok_or_else(wrong(schema::HEADERS))?,
            headers,
        })
    }

    fn event(&self, row: usize) -> Result<OwnedEvent, DataFileError> {
        let timestamp = self.timestamp.is_valid(row).then(|| self.timestamp.value(row));
        let kind = self.timestamp_type.is_valid(row).then(|| self.timestamp_type.value(row));
        Ok(OwnedEvent {
            partition: self.partition.value(row),
            offset: self.offset.value(row),
            timestamp: timestamp.map(Timestamp::from_millis),
            timestamp_type: kind.map(timestamp_type).transpose()?,
            key: bytes(&self.key, row),
            value: bytes(&self.value, row),
            headers: self.headers_of(row),
        })
    }

    fn headers_of(&self, row: usize) -> Vec<(String, Option<Bytes>)> {
        let ends = self.headers.value_offsets();
        let headers = ends[row] as usize..ends[row + 1] as usize;
        let header = |at| (self.header_keys.value(at).to_owned(), bytes(&self.header_values, at));
        headers.map(header).collect()
    }
}

impl Iterator for Rows {
    type Item = Result<OwnedEvent, DataFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next;
        self.next += 1;
        (row < self.offset.len()).then(|| self.event(row))
    }
}

fn column<'a>(
    batch: &'a RecordBatch,
    column: &'static str,
) -> Result<&'a dyn Array, DataFileError> {
    match batch.column_by_name(column) {
        Some(array) => Ok(array.as_ref()),
        None => Err(DataFileError::Foreign { column, problem: "is missing" }),
    }
}

/// A column of numbers or times.
pub(super) fn numbers<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &'static str,
) -> Result<PrimitiveArray<T>, DataFileError> {
    let array = column(batch, name)?.as_primitive_opt::<T>().cloned();
    array.ok_or(DataFileError::Foreign { column: name, problem: schema::WRONG_TYPE })
}

/// A copy, so that an event which is kept does not keep its whole batch.
fn bytes(array: &BinaryArray, row: usize) -> Option<Bytes> {
    array.is_valid(row).then(|| Bytes::copy_from_slice(array.value(row)))
}

fn timestamp_type(name: &str) -> Result<TimestampType, DataFileError> {
    let known = [TimestampType::CreateTime, TimestampType::LogAppendTime];
    known.into_iter().find(|kind| kind.as_str() == name).ok_or(DataFileError::Foreign {
        column: schema::TIMESTAMP_TYPE,
        problem: "has a name that is not known",
    })
}
