//! Kafka: what a topic is, where a window begins and ends in it, and its events.
//!
//! Everything here blocks the thread that calls it; callers use a blocking pool.
//! `config` says how to reach a cluster, by a `handle`; `client` what a topic is, `offsets` which
//! offsets a time means, one question at a time by `turns`; `reader` reads them, `read` is one
//! read, `readers` has them ready. rdkafka's types stay in this folder, and only `ffi` talks to
//! librdkafka's C interface, in the words of `call`.

mod call;
mod client;
mod config;
mod context;
mod error;
mod ffi;
mod handle;
mod offsets;
mod read;
mod reader;
mod readers;
mod turns;

pub use client::{KafkaClient, TopicDescription, TopicId, TopicIdError, TopicSummary};
pub use config::KafkaConfig;
pub use error::{KafkaConfigError, KafkaError};
pub use ffi::prepare_process;
pub use offsets::FoundEvent;
pub use reader::{Flow, RangeReader, ReadEnd, ReadLimits};
pub use readers::Readers;
