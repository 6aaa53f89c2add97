//! Which offsets a window is, for the readers that the benchmarks compare.

#![allow(clippy::unwrap_used, reason = "a benchmark may end with a panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The arguments, without the one that Cargo adds.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| argument != "--bench").collect()
}

/// A consumer that commits nothing, with the settings that make reading fast.
pub fn consumer(brokers: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap()
}

/// First offset and first one behind, by partition; partitions without any are left out.
pub fn ranges(
    consumer: &BaseConsumer,
    topic: &str,
    start: i64,
    end: i64,
) -> BTreeMap<i32, (i64, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    let at = |time: i64| {
        let mut times = TopicPartitionList::new();
        for &partition in &partitions {
            times.add_partition_offset(topic, partition, Offset::Offset(time)).unwrap();
        }
        let found = consumer.offsets_for_times(times, TIMEOUT).unwrap();
        found.elements().iter().map(|e| (e.partition(), e.offset())).collect::<BTreeMap<_, _>>()
    };
    let (starts, ends) = (at(start), at(end));
    let offset = |found: Offset, partition: i32| match found {
        Offset::Offset(offset) => offset,
        _ => consumer.fetch_watermarks(topic, partition, TIMEOUT).unwrap().1,
    };
    let range = |&partition: &i32| {
        (partition, (offset(starts[&partition], partition), offset(ends[&partition], partition)))
    };
    partitions.iter().map(range).filter(|(_, (start, end))| start < end).collect()
}
