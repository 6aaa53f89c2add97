//! What can go wrong with a data file.

use parquet::errors::ParquetError;

/// Why a data file can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataFileError {
    /// The sink does not take the bytes, or they can't be encoded.
    #[error("writing the Parquet file failed: {}", cause(.0))]
    Write(#[source] ParquetError),
    /// The source does not give the bytes, or they are no Parquet.
    #[error("reading the Parquet file failed: {}", cause(.0))]
    Read(#[source] ParquetError),
    /// An event that does not follow the one before it.
    #[error(
        "partition {partition} offset {offset} does not come after partition {last_partition} offset {last_offset}; a data file is in order"
    )]
    OutOfOrder {
        /// Partition of the event that was refused.
        partition: i32,
        /// Offset of the event that was refused.
        offset: i64,
        /// Partition of the event before it.
        last_partition: i32,
        /// Offset of the event before it.
        last_offset: i64,
    },
    /// An event that no batch can hold.
    #[error(
        "the event at partition {partition} offset {offset} has {bytes} bytes; a data file takes events of {limit} at most"
    )]
    EventTooLarge {
        /// The event's partition.
        partition: i32,
        /// The event's offset.
        offset: i64,
        /// Key, value and headers together.
        bytes: usize,
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// The file is Parquet, but not one of ours.
    #[error("not a data file of Strandline: column {column} {problem}")]
    Foreign {
        /// The column that is not as it should be.
        column: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl DataFileError {
    /// Whether trying again may help: only where the sink or the source failed, not where
    /// bytes or events are not what they should be. (What stands behind the failure is in the
    /// chain of sources and may know better: credentials that are refused, for instance.)
    pub fn is_retryable(&self) -> bool {
        match self {
            DataFileError::Write(source) | DataFileError::Read(source) => {
                matches!(source, ParquetError::External(_))
            }
            DataFileError::OutOfOrder { .. }
            | DataFileError::EventTooLarge { .. }
            | DataFileError::Foreign { .. } => false,
        }
    }
}

/// The text of what is behind the error, without the `External: ` that says nothing.
fn cause(error: &ParquetError) -> String {
    match error {
        ParquetError::External(source) => source.to_string(),
        other => other.to_string(),
    }
}
