//! Topics, and the producers that write to them, also while brokers die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::dice::Dice;
use crate::services;

/// 2025-07-29T00:00:00Z in milliseconds: where the clock of `CreateTime` topics begins.
pub const DAY: i64 = 1_753_747_200_000;
pub const HOUR: i64 = 3_600_000;
/// A second of the test is an hour in the records.
pub const SPEED: i64 = 3600;

/// What a topic is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events one by one, some of them late.
    Plain,
    /// In transactions, of which some are aborted.
    Transactional,
    /// Stamped by the brokers.
    LogAppend,
}

/// A topic of three partitions, each on all three brokers.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub kind: Kind,
    pub partitions: i32,
}

fn admin() -> AdminClient<DefaultClientContext> {
    services::client().create().expect("a client")
}

impl Topic {
    pub async fn create(kind: Kind, partitions: i32) -> Self {
        let name = format!("c-{kind:?}-{}", Uuid::new_v4().simple()).to_lowercase();
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(3));
        let new = match kind {
            Kind::LogAppend => new.set("message.timestamp.type", "LogAppendTime"),
            // A marker, stamped by the wall clock, would begin a segment of its own.
            Kind::Plain | Kind::Transactional => new.set("segment.ms", "3153600000000"),
        };
        let made = admin().create_topics([&new], &AdminOptions::new()).await.expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let topic = Topic { name, kind, partitions };
        topic.until_known().await;
        topic
    }

    async fn until_known(&self) {
        let client = admin();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            let metadata = client.inner().fetch_metadata(Some(&self.name), Duration::from_secs(10));
            if let Ok(metadata) = metadata {
                let known = metadata.topics()[0].partitions();
                let all = known.len() == self.partitions as usize;
                if all && known.iter().all(|p| p.leader() >= 0 && p.isr().len() == 3) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the brokers do not tell of topic {}", self.name);
    }

    /// Deletes everything below an offset, as retention would.
    ///
    /// # Errors
    /// Where a broker is away.
    pub async fn delete_below(&self, partition: i32, offset: i64) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .expect("an offset");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let deleted = admin().delete_records(&list, &options).await;
        let deleted = deleted.map_err(|error| error.to_string())?;
        match deleted.elements().iter().find_map(|element| element.error().err()) {
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        }
    }
}

/// The time on the records, by the time since the start.
pub fn record_clock(started: Instant) -> i64 {
    DAY + started.elapsed().as_millis() as i64 * SPEED
}

/// Writers, one thread each, until they are stopped.
pub struct Writers {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(topics: &[Topic], seed: u64, started: Instant) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = topics.iter().enumerate().map(|(number, topic)| {
            let writer = Writer {
                topic: topic.clone(),
                dice: Dice::new(seed, 100 + number as u64),
                started,
                stop: stop.clone(),
                sent: sent.clone(),
            };
            std::thread::spawn(move || writer.write())
        });
        Writers { threads: threads.collect(), stop, sent }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops them, and waits until all that they have sent is settled.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer");
        }
    }
}

struct Writer {
    topic: Topic,
    dice: Dice,
    started: Instant,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Writer {
    fn write(mut self) {
        let transactional = self.topic.kind == Kind::Transactional;
        let id = Uuid::new_v4().to_string();
        let mut producer = self.producer(transactional.then_some(&id));
        while !self.stop.load(Ordering::Relaxed) {
            let written = if transactional {
                self.transaction(&producer)
            } else {
                self.batch(&producer).and_then(|()| producer.flush(Duration::from_secs(60)))
            };
            if written.is_err() {
                // What of it arrived, the oracle will see; what is open, the next one of this
                // name aborts.
                producer = self.producer(transactional.then_some(&id));
            }
            std::thread::sleep(self.dice.millis(40, 160));
        }
        let _ = producer.flush(Duration::from_secs(60));
    }

    fn producer(&mut self, transactional_id: Option<&String>) -> BaseProducer {
        let codec = *self.dice.pick(&["none", "gzip", "snappy", "lz4", "zstd"]);
        let mut config = services::client();
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        config.set("compression.type", codec).set("message.timeout.ms", "50000");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id).set("transaction.timeout.ms", "60000");
        }
        let producer: BaseProducer = config.create().expect("a producer");
        while transactional_id.is_some() && !self.stop.load(Ordering::Relaxed) {
            if producer.init_transactions(Duration::from_secs(10)).is_ok() {
                break;
            }
        }
        producer
    }

    fn transaction(&mut self, producer: &BaseProducer) -> Result<(), KafkaError> {
        let wait = Duration::from_secs(30);
        producer.begin_transaction()?;
        for _ in 0..self.dice.between(1, 3) {
            self.batch(producer)?;
        }
        if self.dice.one_in(12) {
            // Long enough for windows to meet it open.
            producer.flush(wait)?;
            std::thread::sleep(self.dice.millis(200, 2000));
        }
        if self.dice.one_in(3) {
            return producer.abort_transaction(wait);
        }
        producer.commit_transaction(wait)
    }

    /// A handful of events, of all kinds.
    fn batch(&mut self, producer: &BaseProducer) -> Result<(), KafkaError> {
        let partition = self.dice.roll(self.topic.partitions as u64) as i32;
        for _ in 0..self.dice.between(1, 80) {
            let late = if self.dice.one_in(10) { self.dice.roll(3 * HOUR as u64) } else { 0 };
            let dice = &mut self.dice;
            let key = (!dice.one_in(4)).then(|| dice.bytes(16));
            let value = (!dice.one_in(8)).then(|| dice.bytes(160));
            let mut headers = OwnedHeaders::new();
            for number in 0..dice.roll(3) {
                let value = (!dice.one_in(4)).then(|| dice.bytes(8));
                let key = format!("h{}", number % 2);
                headers = headers.insert(Header { key: &key, value: value.as_deref() });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic.name)
                .partition(partition)
                .timestamp(record_clock(self.started) - late as i64)
                .headers(headers);
            record.key = key.as_deref();
            record.payload = value.as_deref();
            producer.send(record).map_err(|(error, _)| error)?;
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        producer.poll(Duration::ZERO);
        Ok(())
    }
}
