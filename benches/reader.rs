//! The least that a reader on librdkafka can do: it looks up the window's offsets, reads them in
//! batches and counts. What Strandline takes beyond it is the price of Parquet and of promises.
//!
//! `reader BROKERS TOPIC START_MS END_MS` prints the events and their bytes of value as JSON.

#![allow(
    unsafe_code,
    clippy::print_stdout,
    reason = "rdkafka has no safe consume_batch_queue; and printing is what a benchmark does"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark may end with a panic")]

mod offsets;

use std::collections::BTreeMap;
use std::ffi::c_int;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset;

const BATCH: usize = 8192;

fn main() {
    let arguments = offsets::arguments();
    let [brokers, topic, start, end] = &arguments[..] else {
        eprintln!("usage: reader BROKERS TOPIC START_MS END_MS");
        std::process::exit(2);
    };
    let consumer = offsets::consumer(brokers);
    let ranges = offsets::ranges(&consumer, topic, start.parse().unwrap(), end.parse().unwrap());
    let mut start_at = TopicPartitionList::new();
    for (&partition, &(start, _)) in &ranges {
        start_at.add_partition_offset(topic, partition, Offset::Offset(start)).unwrap();
    }
    consumer.assign(&start_at).unwrap();
    let (events, bytes) = count(&consumer, &ranges);
    println!("{{\"events\":{events},\"bytes\":{bytes}}}");
    // Without the seconds that leaving takes.
    std::process::exit(0);
}

/// Reads until every partition has reached its end.
fn count(consumer: &BaseConsumer, ranges: &BTreeMap<i32, (i64, i64)>) -> (u64, u64) {
    let (mut events, mut bytes) = (0, 0);
    let mut ends: BTreeMap<i32, i64> = ranges.iter().map(|(&p, &(_, end))| (p, end)).collect();
    let mut batch = vec![std::ptr::null_mut::<rd::rd_kafka_message_t>(); BATCH];
    // SAFETY: the consumer lives to the end of the function, and the queue is its own.
    let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    while !ends.is_empty() {
        // SAFETY: the queue is valid and the batch has the length that is told.
        let taken = unsafe {
            match rd::rd_kafka_consume_batch_queue(queue, 0, batch.as_mut_ptr(), BATCH) {
                0 => rd::rd_kafka_consume_batch_queue(queue, 10, batch.as_mut_ptr(), 1),
                taken => taken,
            }
        };
        for &message in &batch[..usize::try_from(taken).unwrap()] {
            // SAFETY: librdkafka filled this place with a message that is ours to destroy.
            let (partition, offset, length, error) = unsafe {
                let error = (&raw const (*message).err).cast::<c_int>().read();
                let found = ((*message).partition, (*message).offset, (*message).len, error);
                rd::rd_kafka_message_destroy(message);
                found
            };
            assert_eq!(error, 0, "partition {partition} at {offset}");
            let Some(&end) = ends.get(&partition) else { continue };
            if offset < end {
                events += 1;
                bytes += length as u64;
            }
            if offset >= end - 1 {
                ends.remove(&partition);
            }
        }
    }
    (events, bytes)
}
