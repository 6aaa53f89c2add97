//! What Kafka had: plain consumers that read everything, before anything can be deleted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use sha2::{Digest, Sha256};

use crate::services;
use crate::topics::Topic;

/// SHA-256 over all that an event is.
pub type Fingerprint = [u8; 32];

/// An event, but for where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub timestamp: Option<i64>,
    pub timestamp_type: &'static str,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Event {
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut add = |bytes: Option<&[u8]>| {
            let length = bytes.map_or(-1, |bytes| bytes.len() as i64);
            hash.update(length.to_le_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        add(self.timestamp.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        add(Some(self.timestamp_type.as_bytes()));
        add(self.key.as_deref());
        add(self.value.as_deref());
        for (key, value) in &self.headers {
            add(Some(key.as_bytes()));
            add(value.as_deref());
        }
        hash.finalize().into()
    }

    fn of(message: &impl Message) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
        });
        let timestamp_type = match message.timestamp() {
            Timestamp::NotAvailable => "",
            Timestamp::CreateTime(_) => "create_time",
            Timestamp::LogAppendTime(_) => "log_append_time",
        };
        Event {
            timestamp: message.timestamp().to_millis(),
            timestamp_type,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }
}

/// What is kept of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub timestamp: i64,
    pub fingerprint: Fingerprint,
}

/// Everything that was ever in one partition.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// What readers of committed events get.
    pub committed: BTreeMap<i64, Kept>,
    /// The timestamps of all events, aborted ones as well. What is missing is control records.
    pub all: BTreeMap<i64, i64>,
    pub low: i64,
    pub end: i64,
}

impl Log {
    /// Whether a record is older than a time. A control record never is: it is stamped by the
    /// wall clock, which is later than all windows of topics that have any.
    pub fn is_older(&self, offset: i64, time: i64) -> bool {
        self.all.get(&offset).is_some_and(|at| *at < time)
    }

    pub fn committed_in(&self, start: i64, end: i64) -> impl Iterator<Item = (i64, &Kept)> {
        self.committed.range(start..end.max(start)).map(|(offset, kept)| (*offset, kept))
    }
}

/// Logs by topic and partition.
pub type Logs = BTreeMap<(String, i32), Log>;

/// Consumers that read along.
pub struct Oracle {
    topics: Vec<Topic>,
    logs: Arc<Mutex<Logs>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Oracle {
    pub fn start(topics: &[Topic]) -> Self {
        let logs = Arc::new(Mutex::new(Logs::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = ["read_committed", "read_uncommitted"].map(|isolation| {
            let (topics, logs, stop) = (topics.to_vec(), logs.clone(), stop.clone());
            std::thread::spawn(move || {
                let consumer = consumer(&topics, isolation, Offset::Beginning);
                while !stop.load(Ordering::Relaxed) {
                    take(&consumer, isolation, &logs, Duration::from_millis(100));
                }
            })
        });
        Oracle { topics: topics.to_vec(), logs, stop, threads: threads.into() }
    }

    /// An offset up to which everything of a partition has been read, both ways.
    pub fn read_up_to(&self, topic: &str, partition: i32) -> i64 {
        let logs = self.logs.lock().expect("no panic");
        let Some(log) = logs.get(&(topic.to_owned(), partition)) else { return 0 };
        let last = |offset: Option<i64>| offset.map_or(0, |offset| offset + 1);
        let committed = last(log.committed.keys().next_back().copied());
        committed.min(last(log.all.keys().next_back().copied()))
    }

    /// Reads to the end, when nobody writes any more, and gives all that was ever there.
    pub fn finish(self) -> Logs {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a reader");
        }
        // Once more from what is left, by consumers that have met no fault.
        for isolation in ["read_committed", "read_uncommitted"] {
            let consumer = consumer(&self.topics, isolation, Offset::Beginning);
            let partitions = self.topics.iter().map(|topic| topic.partitions).sum::<i32>();
            let (mut ended, started) = (0, Instant::now());
            while ended < partitions {
                assert!(started.elapsed() < Duration::from_secs(120), "the oracle stands still");
                ended += take(&consumer, isolation, &self.logs, Duration::from_secs(1));
            }
        }
        let mut logs = std::mem::take(&mut *self.logs.lock().expect("no panic"));
        let consumer: BaseConsumer = services::client().create().expect("a client");
        for topic in &self.topics {
            for partition in 0..topic.partitions {
                let log = logs.entry((topic.name.clone(), partition)).or_default();
                let wait = Duration::from_secs(30);
                let watermarks = consumer.fetch_watermarks(&topic.name, partition, wait);
                (log.low, log.end) = watermarks.expect("watermarks");
            }
        }
        logs
    }
}

fn consumer(topics: &[Topic], isolation: &str, from: Offset) -> BaseConsumer {
    let mut config = services::client();
    config.set("group.id", "oracle").set("enable.auto.commit", "false");
    config.set("isolation.level", isolation).set("check.crcs", "true");
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
    config.set("topic.metadata.refresh.interval.ms", "2000");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..topic.partitions {
            list.add_partition_offset(&topic.name, partition, from).expect("an offset");
        }
    }
    consumer.assign(&list).expect("assigned");
    consumer
}

/// Takes one event; 1 for the end of a partition.
fn take(consumer: &BaseConsumer, isolation: &str, logs: &Mutex<Logs>, wait: Duration) -> i32 {
    let message = match consumer.poll(wait) {
        Some(Ok(message)) => message,
        Some(Err(KafkaError::PartitionEOF(_))) => return 1,
        // Brokers come and go; the consumer goes on by itself.
        Some(Err(_)) | None => return 0,
    };
    let event = Event::of(&message);
    let timestamp = event.timestamp.expect("all topics here have timestamps");
    let kept = Kept { timestamp, fingerprint: event.fingerprint() };
    let mut logs = logs.lock().expect("no panic");
    let log = logs.entry((message.topic().to_owned(), message.partition())).or_default();
    if isolation == "read_committed" {
        let before = log.committed.insert(message.offset(), kept);
        assert!(before.is_none_or(|before| before == kept), "Kafka itself has changed an event");
    } else {
        log.all.insert(message.offset(), timestamp);
    }
    0
}
