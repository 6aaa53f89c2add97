//! The handle of librdkafka's that questions are asked with: long-lived, and made anew when it
//! seems to be dead.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::consumer::Consumer as _;

use super::call::CallError;
use super::client::timed;
use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::ffi::Consumer;
use crate::snapshot::TopicName;

/// How long all calls have to fail until the handle is made anew. A handle can be dead for good:
/// told once that there are no brokers, as while a cluster starts, librdkafka (2.10 to 2.13)
/// forgets the addresses that it was given, too (confluentinc/librdkafka#5301).
const PATIENCE: Duration = Duration::from_secs(30);

/// How long log lines and errors may wait for someone to take them.
const EVENT_POLL: Duration = Duration::from_millis(100);

/// The handle of now.
pub(super) struct Handles {
    config: KafkaConfig,
    current: RwLock<Arc<Handle>>,
}

/// A connection to the cluster. No partition is ever assigned to its consumer.
pub(super) struct Handle(Consumer);

impl Handles {
    /// Makes the first one. Nothing is sent before the first call.
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let current = RwLock::new(Handle::new(config)?);
        Ok(Handles { config: config.clone(), current })
    }

    /// The one to ask with.
    pub(super) fn current(&self) -> Arc<Handle> {
        // Nothing that is kept here can be left half-written by a panic.
        let current = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        if current.context().failing_for() < PATIENCE {
            return current;
        }
        match Handle::new(&self.config) {
            Ok(new) => {
                new.context().distrust(current.context());
                let now = self.replace(&current, new);
                close(current);
                now
            }
            Err(error) => {
                tracing::warn!(%error, "the Kafka client can't be made anew");
                current
            }
        }
    }

    /// Puts `new` in the place of `old`, unless somebody has been quicker.
    fn replace(&self, old: &Arc<Handle>, new: Arc<Handle>) -> Arc<Handle> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, old) {
            let silent_seconds = old.context().failing_for().as_secs();
            tracing::warn!(silent_seconds, "no broker answers, so the Kafka client is made anew");
            *current = new;
        }
        Arc::clone(&current)
    }
}

impl Handle {
    fn new(config: &KafkaConfig) -> Result<Arc<Self>, KafkaError> {
        let failed = |reason: String| KafkaError::Client { reason };
        let consumer: Consumer = config
            .for_client()
            // Without a group nothing is looked up before it is asked for, and the log goes
            // to the queue that `serve_events` polls.
            .remove("group.id")
            .create_with_context(Context::new(&config.brokers))
            .map_err(|error| failed(error.to_string()))?;
        let handle = Arc::new(Handle(consumer));
        let weak = Arc::downgrade(&handle);
        thread::Builder::new()
            .name("kafka-events".to_owned())
            .spawn(move || serve_events(&weak))
            .map_err(|error| failed(format!("no thread for it: {error}")))?;
        Ok(handle)
    }

    /// Sees to it that a broker answers, if none did lately. While none does, librdkafka (2.12.1)
    /// keeps a core busy for as long as an admin request waits for one: `rd_kafka_admin_worker` and
    /// the broker's thread wake each other without end. A request for metadata waits quietly.
    pub(super) fn check_reach(
        &self,
        attempt: &str,
        topic: &TopicName,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        if !self.context().is_troubled() {
            return Ok(());
        }
        timed("metadata", || self.native().fetch_metadata(Some(topic.as_str()), timeout))
            .map_err(|e| self.context().failed(attempt, Some(topic), &CallError::from(&e)))?;
        self.context().answered();
        Ok(())
    }

    pub(super) fn native(&self) -> &Client<Context> {
        self.0.client()
    }

    pub(super) fn context(&self) -> &Context {
        self.native().context()
    }
}

/// Closes a handle in the background, as that waits for the threads of its brokers.
fn close(handle: Arc<Handle>) {
    // Without a thread it is closed here, with the closure.
    let closing = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(handle));
    if let Err(error) = closing {
        tracing::debug!(%error, "no thread to close a client");
    }
}

/// Takes log lines and errors from librdkafka's queue until nobody asks with the handle any
/// more: they would pile up there, some 20 a second while a broker is down.
fn serve_events(handle: &Weak<Handle>) {
    while let Some(handle) = handle.upgrade() {
        // What it returns has gone to the context already.
        let _ = handle.0.poll(EVENT_POLL);
    }
}
