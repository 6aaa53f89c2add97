//! Readers that fit what is to be read. For a few events, most of the time would go into
//! connecting a consumer (some tens of milliseconds), fetching far beyond the range (as much
//! again), and closing it. So small reads fetch little at once, and consumers are closed by a
//! thread of their own, which connects the next one before it is asked for.
//!
//! A consumer is never used by two readers: what was fetched for one must not reach the other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::call::Question;
use super::config::KafkaConfig;
use super::error::KafkaError;
use super::ffi;
use super::reader::{RangeReader, ReadLimits, Source};
use crate::snapshot::TopicName;

/// Connected consumers that are kept.
const MOST_SPARES: usize = 2;

/// How long one is kept. Nobody polls it meanwhile, and its log piles up.
const SPARE_KEPT: Duration = Duration::from_secs(30);

/// Up to so many offsets a read is small.
const SMALL_READ: i64 = 4096;

/// KiB that are fetched at once for a small read. With 1 MiB a window of 87 events took twice as
/// long; with this, one of a million takes an eighth more CPU.
const SMALL_FETCH_KBYTES: u32 = 64;

/// How long each of the three questions may take that connect one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes readers of one cluster.
pub struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaConfig,
    limits: ReadLimits,
    spares: Mutex<Spares>,
    taken: Condvar,
}

#[derive(Default)]
struct Spares {
    connected: Vec<(u64, Source)>,
    connecting: usize,
    made: u64,
}

impl Readers {
    /// Readers with these settings; connects to nothing yet.
    pub fn new(config: KafkaConfig, limits: ReadLimits) -> Self {
        let shared = Shared { config, limits, spares: Mutex::default(), taken: Condvar::new() };
        Readers { shared: Arc::new(shared) }
    }

    /// A reader of a topic for about so many offsets. One for few may be connected already.
    ///
    /// # Errors
    /// [`KafkaError::Client`] where librdkafka does not take the settings.
    pub fn reader(&self, topic: &TopicName, offsets: i64) -> Result<RangeReader, KafkaError> {
        let config = &self.shared.config;
        let small = offsets <= SMALL_READ;
        let limits = if small { self.shared.small() } else { self.shared.limits };
        let spare = if small { self.shared.take_spare() } else { None };
        let source = match spare {
            Some(source) => source,
            None => Source::new(config, limits)?,
        };
        let home = Home { shared: Arc::clone(&self.shared), small };
        Ok(RangeReader::with(config, topic, limits, source, Some(home)))
    }
}

/// Where a reader came from, and where its consumer goes.
pub(super) struct Home {
    shared: Arc<Shared>,
    small: bool,
}

impl Home {
    /// Closes a consumer in the background, which may take as long as a broker does not answer. If
    /// a small one was of use for a topic, the next one will be too.
    pub(super) fn close(self, source: Source, of_use_for: Option<TopicName>) {
        let Home { shared, small } = self;
        let closing = move || {
            let spare = of_use_for.filter(|_| small).and_then(|topic| shared.connect(&topic));
            drop(source);
            if let Some(spare) = spare {
                shared.keep(spare);
            }
        };
        // Without a thread the consumer is closed here, with the closure.
        if let Err(error) = thread::Builder::new().name("kafka-close".to_owned()).spawn(closing) {
            tracing::debug!(%error, "no thread to close a consumer");
        }
    }
}

impl Shared {
    fn small(&self) -> ReadLimits {
        ReadLimits { fetch_kbytes: SMALL_FETCH_KBYTES, ..self.limits }
    }

    fn take_spare(&self) -> Option<Source> {
        let (_, source) = self.spares().connected.pop()?;
        self.taken.notify_all();
        Some(source)
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        // Nothing that is kept here can be left half-written by a panic.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a spare that is connected to all brokers that lead partitions of the topic; its
    /// number.
    fn connect(&self, topic: &TopicName) -> Option<u64> {
        {
            let mut spares = self.spares();
            if spares.connected.len() + spares.connecting >= MOST_SPARES {
                return None;
            }
            spares.connecting += 1;
        }
        let connected = self.connected(topic);
        let mut spares = self.spares();
        spares.connecting -= 1;
        spares.made += 1;
        let number = spares.made;
        spares.connected.push((number, connected?));
        Some(number)
    }

    fn connected(&self, topic: &TopicName) -> Option<Source> {
        let source = Source::new(&self.config, self.small()).ok()?;
        let client = source.consumer().client();
        // This waits quietly for a broker, the others would not (see `check_reach`).
        client.fetch_metadata(Some(topic.as_str()), CONNECT_TIMEOUT).ok()?;
        let found = ffi::describe_topic(client, topic.as_str(), CONNECT_TIMEOUT).ok()?;
        let partitions: Vec<i32> = found.partitions.iter().map(|p| p.partition).collect();
        let led = found.led(topic.as_str(), &partitions).ok()?;
        ffi::list_offsets(client, led, Question::LowWatermark, CONNECT_TIMEOUT).ok()?;
        Some(source)
    }

    /// Waits until the spare is taken, or too old.
    fn keep(&self, number: u64) {
        let here = |spares: &mut Spares| spares.connected.iter().any(|(n, _)| *n == number);
        let waited = self.taken.wait_timeout_while(self.spares(), SPARE_KEPT, here);
        let (mut spares, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let old = spares.connected.extract_if(.., |(n, _)| *n == number).next();
        drop(spares);
        drop(old);
    }
}
