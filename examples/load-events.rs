//! Loads a file of events into a Kafka topic, each with its own timestamp.
//!
//! ```sh
//! cargo run --example load-events -- --brokers 127.0.0.1:9092 --topic flights \
//!   --partitions 4 --file data/flights-2013-01.ndjson.gz
//! ```
//!
//! Each line is `{"timestamp": MILLISECONDS, "key": TEXT or null, "value": OBJECT}`.
//! Loading the same file again changes nothing; a topic that holds something else
//! is left alone, with an error.
#![allow(clippy::print_stdout, reason = "a command-line program reports on standard output")]

use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use flate2::read::MultiGzDecoder;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use serde::Deserialize;

/// How long any single question to Kafka may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last events may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Loads a file of events into a Kafka topic, each with its own timestamp
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Bootstrap servers
    #[arg(long, default_value = "127.0.0.1:9092")]
    brokers: String,
    /// Topic to fill; it is created if there is none
    #[arg(long)]
    topic: String,
    /// Number of partitions of a new topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// NDJSON file, gzipped if its name ends in .gz
    #[arg(long)]
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    timestamp: i64,
    key: Option<String>,
    /// Parsed and written again, compact and in the order of the file's fields.
    value: serde_json::Map<String, serde_json::Value>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let events = read_events(&arguments.file)?;
    let file = arguments.file.display();
    let topic = &arguments.topic;

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &arguments.brokers);
    let consumer: BaseConsumer = config.create()?;

    create_topic(&config, topic, arguments.partitions)
        .await
        .map_err(|e| format!("Kafka at {}: {e}", arguments.brokers))?;
    let found = partition_count(&consumer, topic)?;
    match event_count(&consumer, topic, found)? {
        count if count == events.len() as i64 => {
            println!("topic {topic} holds the {count} events of {file} already");
            return Ok(());
        }
        0 if found != arguments.partitions => {
            let wanted = arguments.partitions;
            return Err(format!("topic {topic} has {found} partitions, not {wanted}: delete it, or choose another name").into());
        }
        0 => {}
        count => {
            let expected = events.len();
            return Err(format!("topic {topic} holds {count} events, {file} has {expected}: delete the topic, or choose another name").into());
        }
    }

    produce(&config, topic, found, &events)?;

    let count = event_count(&consumer, topic, found)?;
    if count != events.len() as i64 {
        return Err(
            format!("topic {topic} holds {count} events after loading {}", events.len()).into()
        );
    }
    println!("loaded {count} events of {file} into topic {topic}, {found} partitions");
    Ok(())
}

fn read_events(path: &Path) -> Result<Vec<Event>> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut events = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let place = |e: &dyn Display| format!("{}, line {}: {e}", path.display(), index + 1);
        let event: Event =
            serde_json::from_str(&line.map_err(|e| place(&e))?).map_err(|e| place(&e))?;
        if event.timestamp < 1 {
            // librdkafka takes 0 for "now"
            return Err(place(&"a timestamp must be 1 or more").into());
        }
        events.push(event);
    }
    Ok(events)
}

/// Creates the topic unless it exists. Nothing is ever retired from it: the events
/// are old by their timestamps, and the usual seven days would remove them at once.
async fn create_topic(config: &ClientConfig, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new_topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
        .set("retention.ms", "-1")
        .set("message.timestamp.type", "CreateTime");
    let options =
        AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for outcome in admin.create_topics([&new_topic], &options).await? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(format!("cannot create topic {name}: {code}").into()),
        }
    }
    Ok(())
}

fn partition_count(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().first().map_or(0, |t| t.partitions().len());
    if partitions == 0 {
        return Err(format!("Kafka does not know topic {topic}").into());
    }
    Ok(i32::try_from(partitions)?)
}

/// Counts by the watermarks, which is exact for a topic without transactions and
/// without compaction.
fn event_count(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Result<i64> {
    let mut count = 0;
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        count += high - low;
    }
    Ok(count)
}

/// Sends all events in the order of the file, so that each partition is in this
/// order too, and returns once Kafka has acknowledged every one of them.
fn produce(config: &ClientConfig, topic: &str, partitions: i32, events: &[Event]) -> Result<()> {
    let producer: BaseProducer<Deliveries> = config
        .clone()
        .set("enable.idempotence", "true") // retries neither repeat nor reorder
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .create_with_context(Deliveries::default())?;
    for (index, event) in events.iter().enumerate() {
        let value = serde_json::to_string(&event.value)?;
        let mut record = BaseRecord::<str, str>::to(topic)
            .payload(&value)
            .timestamp(event.timestamp)
            .partition(partition_of(event.key.as_deref(), index, partitions));
        if let Some(key) = &event.key {
            record = record.key(key);
        }
        while let Err((error, refused)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(100));
            record = refused;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(FLUSH_TIMEOUT)?;
    match producer.context().first_error() {
        Some(error) => Err(format!("Kafka refused an event: {error}").into()),
        None => Ok(()),
    }
}

/// The same event goes to the same partition on every machine: by FNV-1a of the
/// key, and in turn where there is none.
fn partition_of(key: Option<&str>, index: usize, partitions: i32) -> i32 {
    let hash = key.map_or(index as u64, |key| {
        key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    });
    (hash % u64::from(partitions.unsigned_abs())) as i32
}

/// Remembers the first event that could not be delivered.
#[derive(Default)]
struct Deliveries(Mutex<Option<KafkaError>>);

impl Deliveries {
    fn first_error(&self) -> Option<KafkaError> {
        self.0.lock().map_or(None, |error| error.clone())
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let (Err((error, _)), Ok(mut first)) = (result, self.0.lock()) {
            first.get_or_insert_with(|| error.clone());
        }
    }
}
