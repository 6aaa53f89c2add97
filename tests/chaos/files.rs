//! The files themselves, read by nothing of Strandline's.

use arrow_array::cast::AsArray;
use arrow_array::{Array, types};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::oracle::Event;

/// A row of a file.
#[derive(Debug)]
pub struct Row {
    pub partition: i32,
    pub offset: i64,
    pub event: Event,
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All rows, in their order.
///
/// # Errors
/// Why it is no such file.
pub fn rows(content: Vec<u8>) -> Result<Vec<Row>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content))
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| error.to_string())?;
        let column = |name: &str| batch.column_by_name(name).expect("the column").clone();
        let partition = column("partition");
        let (offset, time, kind) =
            (column("offset"), column("timestamp"), column("timestamp_type"));
        let (key, value, headers) = (column("key"), column("value"), column("headers"));
        for row in 0..batch.num_rows() {
            let millis = time.as_primitive::<types::TimestampMillisecondType>();
            rows.push(Row {
                partition: partition.as_primitive::<types::Int32Type>().value(row),
                offset: offset.as_primitive::<types::Int64Type>().value(row),
                event: Event {
                    timestamp: (!time.is_null(row)).then(|| millis.value(row)),
                    timestamp_type: match kind.is_null(row) {
                        true => "",
                        false => known(kind.as_string::<i32>().value(row)),
                    },
                    key: binary(&key, row),
                    value: binary(&value, row),
                    headers: headers_of(&headers, row),
                },
            });
        }
    }
    Ok(rows)
}

fn known(kind: &str) -> &'static str {
    match kind {
        "create_time" => "create_time",
        "log_append_time" => "log_append_time",
        _ => "unknown",
    }
}

fn binary(array: &dyn Array, row: usize) -> Option<Vec<u8>> {
    (!array.is_null(row)).then(|| array.as_binary::<i32>().value(row).to_vec())
}

fn headers_of(array: &dyn Array, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = array.as_list::<i32>().value(row);
    let headers = headers.as_struct();
    let (key, value) = (headers.column(0), headers.column(1));
    (0..headers.len())
        .map(|at| (key.as_string::<i32>().value(at).to_owned(), binary(value, at)))
        .collect()
}
