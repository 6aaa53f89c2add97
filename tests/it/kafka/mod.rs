//! Strandline's Kafka client by itself: what it asks and reads of a real broker, and what it
//! says where that fails.

mod offsets;
mod reading;
mod recovery;
mod refusals;
mod topics;
pub mod wire;

use strandline::kafka::{
    Flow, KafkaClient, KafkaConfig, KafkaError, RangeReader, ReadEnd, ReadLimits,
};
use strandline::snapshot::{OffsetRange, Timestamp, TopicName, Window};

use crate::harness::{DAY, TestTopic, brokers};

fn config() -> KafkaConfig {
    KafkaConfig::new(&brokers(), "").expect("good settings")
}

fn client() -> KafkaClient {
    KafkaClient::connect(&config()).expect("a client")
}

fn name(topic: &TestTopic) -> TopicName {
    TopicName::parse(&topic.name).expect("a name")
}

/// The moment `millis` after [`DAY`].
fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(DAY + millis)
}

fn window(start: i64, end: i64) -> Window {
    Window::new(time(start), time(end)).expect("a window")
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(start, end)
}

fn reader(topic: &TestTopic) -> RangeReader {
    reader_with(topic, ReadLimits::default())
}

fn reader_with(topic: &TestTopic, limits: ReadLimits) -> RangeReader {
    RangeReader::new(&config(), &name(topic), limits).expect("a reader")
}

type Ended = Result<ReadEnd, KafkaError>;

/// Reads a range of a partition to its end. How that ended, and the offsets of its events.
fn read(reader: &mut RangeReader, partition: i32, range: OffsetRange) -> (Ended, Vec<i64>) {
    read_at_most(reader, partition, range, usize::MAX)
}

/// As [`read`], with a pause after `count` events.
fn read_at_most(
    reader: &mut RangeReader,
    partition: i32,
    range: OffsetRange,
    count: usize,
) -> (Ended, Vec<i64>) {
    let mut offsets = Vec::new();
    let end = reader.read(
        partition,
        range,
        &mut |event| {
            assert_eq!(event.partition, partition);
            offsets.push(event.offset);
            if offsets.len() >= count { Flow::Break } else { Flow::Continue }
        },
        &|| false,
    );
    (end, offsets)
}
