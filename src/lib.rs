//! Strandline takes snapshots of Kafka topics.

pub mod snapshot;
