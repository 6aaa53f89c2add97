//! Topics of a test's own on the shared broker: made, written, cut, made again, and read by an
//! ordinary consumer.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use uuid::Uuid;

use super::{DAY, PATIENCE, brokers};

/// What to produce.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record with a value, `millis` after [`DAY`].
pub fn record(partition: i32, millis: i64, value: &str) -> Record {
    Record {
        partition,
        timestamp: DAY + millis,
        value: Some(value.as_bytes().to_vec()),
        ..Record::default()
    }
}

/// An event as an ordinary consumer returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A topic of our own.
pub struct TestTopic {
    pub name: String,
    settings: Vec<(String, String)>,
    admin: AdminClient<DefaultClientContext>,
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// A producer for what [`TestTopic::produce`] has no words for.
pub fn producer(settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config();
    // Keeps the order as well as an idempotent producer would, and begins half a second sooner.
    config.set("max.in.flight.requests.per.connection", "1").set("linger.ms", "5");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

/// Waits until the brokers have done what they were told.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl TestTopic {
    pub async fn create(partitions: i32, settings: &[(&str, &str)]) -> Self {
        let admin = config().create().expect("a client");
        let name = format!("t-{}", Uuid::new_v4().simple());
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let topic = TestTopic { name, settings: settings.collect(), admin };
        topic.make(partitions).await;
        topic
    }

    pub async fn make(&self, partitions: i32) {
        let mut new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        for (name, value) in &self.settings {
            new = new.set(name, value);
        }
        let (deadline, mut unanswered) = (Instant::now() + PATIENCE, false);
        loop {
            let made = self.admin.create_topics([&new], &AdminOptions::new()).await;
            let refused = match &made {
                Ok(topics) => topics[0].as_ref().err().map(|(_, code)| *code),
                Err(error) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
            };
            match refused {
                None => break,
                // An attempt of ours that got no answer has made it.
                Some(RDKafkaErrorCode::TopicAlreadyExists) if unanswered => break,
                // One that was just deleted may still be on its way out.
                Some(RDKafkaErrorCode::TopicAlreadyExists) => {}
                Some(_) => unanswered = true,
            }
            assert!(Instant::now() < deadline, "can't make topic {}: {made:?}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.until_known(partitions);
    }

    /// What the broker tells of the topic.
    fn metadata(&self) -> rdkafka::error::KafkaResult<Metadata> {
        self.admin.inner().fetch_metadata(Some(&self.name), PATIENCE)
    }

    /// Waits until the broker tells of all partitions and their leaders.
    fn until_known(&self, partitions: i32) {
        until(&format!("the broker tells of topic {}", self.name), || {
            self.metadata().is_ok_and(|metadata| {
                let known = metadata.topics()[0].partitions();
                known.len() == partitions as usize && known.iter().all(|p| p.leader() >= 0)
            })
        });
    }

    /// Waits until compaction has removed everything below `offset` of partition 0.
    pub fn until_first_offset_read(&self, offset: i64) {
        until(&format!("the log of {} is compacted", self.name), || {
            self.read_all().first().is_some_and(|event| event.offset >= offset)
        });
    }

    /// Waits until the last stable offset of a partition is `offset`.
    pub fn until_stable(&self, partition: i32, offset: i64) {
        let consumer: BaseConsumer = config().create().expect("a consumer");
        until(&format!("the last stable offset of {} is {offset}", self.name), || {
            let watermarks = consumer.fetch_watermarks(&self.name, partition, PATIENCE);
            watermarks.is_ok_and(|(_, stable)| stable >= offset)
        });
    }

    pub async fn delete(&self) {
        let deleted = self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await;
        assert!(deleted.expect("an answer").iter().all(Result::is_ok));
    }

    /// Waits until the broker no longer tells of the topic.
    pub fn until_gone(&self) {
        until(&format!("topic {} is gone", self.name), || {
            self.metadata().is_ok_and(|metadata| metadata.topics()[0].error().is_some())
        });
    }

    /// Deletes the topic and makes it again.
    pub async fn recreate(&self, partitions: i32) {
        self.delete().await;
        // Else what is seen and produced next may still be the old one's.
        self.until_gone();
        self.make(partitions).await;
    }

    pub async fn add_partitions(&self, total: i32) {
        let new = NewPartitions::new(&self.name, total as usize);
        let made = self.admin.create_partitions([&new], &AdminOptions::new()).await;
        assert!(made.expect("an answer").iter().all(Result::is_ok));
        self.until_known(total);
    }

    /// Deletes everything below `offset`, as retention would.
    pub async fn delete_below(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .expect("an offset");
        self.admin.delete_records(&list, &AdminOptions::new()).await.expect("deleted");
    }

    pub async fn produce(&self, records: &[Record]) {
        self.produce_with(records, &[]).await;
    }

    /// Produces in order, acknowledged; a batch's worth at a time.
    pub async fn produce_with(&self, records: &[Record], settings: &[(&str, &str)]) {
        self.send(&producer(settings), records).await;
    }

    async fn send(&self, producer: &FutureProducer, records: &[Record]) {
        let mut sent = Vec::new();
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let mut message = FutureRecord::<[u8], [u8]>::to(&self.name)
                .partition(record.partition)
                .timestamp(record.timestamp)
                .headers(headers);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            sent.push(producer.send_result(message).map_err(|(error, _)| error).expect("queued"));
        }
        for delivery in sent {
            delivery.await.expect("a report").map_err(|(error, _)| error).expect("delivered");
        }
    }

    /// Produces in a transaction; an open one ends with the producer that is returned.
    pub async fn transaction(&self, records: &[Record], end: TransactionEnd) -> FutureProducer {
        let mut config = config();
        config.set("transactional.id", Uuid::new_v4().to_string());
        let producer: FutureProducer = config.create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("a coordinator");
        producer.begin_transaction().expect("begun");
        self.send(&producer, records).await;
        match end {
            TransactionEnd::Commit => producer.commit_transaction(PATIENCE).expect("committed"),
            TransactionEnd::Abort => producer.abort_transaction(PATIENCE).expect("aborted"),
            TransactionEnd::LeaveOpen => {}
        }
        producer
    }

    /// Everything that Kafka returns of the topic, read by an ordinary consumer until the
    /// end of each partition: the oracle.
    pub fn read_all(&self) -> Vec<Seen> {
        let mut config = config();
        config.set("group.id", "oracle").set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE);
        let partitions = metadata.expect("metadata").topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            list.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        let (mut seen, mut ended) = (Vec::new(), 0);
        while ended < partitions {
            match consumer.poll(PATIENCE).expect("an event or the end") {
                Ok(message) => seen.push(as_seen(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        seen.sort_by_key(|event| (event.partition, event.offset));
        seen
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
    LeaveOpen,
}

fn as_seen(message: &impl Message) -> Seen {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    });
    Seen {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
