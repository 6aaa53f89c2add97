//! Data files: events as Parquet, written as they pass and read back by offset.
//!
//! One row an event, in order of partition and offset, so that the statistics of the row
//! groups tell where an offset is. Neither side ever holds more than a row group's encoded
//! pages and one small batch of events: what a window holds decides how long it takes, not
//! how much memory. (One event can't be cut, so one huge event costs about five times its
//! size while it is written.)

mod batch;
mod error;
mod reader;
mod rows;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

pub use error::DataFileError;
pub use reader::{events, tally};
pub use rows::OwnedEvent;
pub use writer::{FileWriter, MAX_EVENT_BYTES, WriteLimits};
