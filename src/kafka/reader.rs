//! Reads ranges of offsets. A range is read when the consumer's position is at or past its
//! end: the last event is often not at its last offset, and silence is no end.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::Offset;

use super::call::CallError;
use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::ffi::PolledConsumer;
use super::read::Read;
use crate::snapshot::{Event, OffsetRange, TopicName};

/// Limits of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Seconds without progress after which a read fails.
    pub stall_seconds: u64,
    /// KiB of events that are fetched ahead of the caller. librdkafka may hold one fetch
    /// (1 MiB, more where a record is larger) above it.
    pub queue_kbytes: u32,
}

impl Default for ReadLimits {
    /// 60 s: a broker that dies is replaced after some 12 s, and librdkafka goes on by
    /// itself. 16 MiB: more made reading no faster.
    fn default() -> Self {
        ReadLimits { stall_seconds: 60, queue_kbytes: 16_384 }
    }
}

/// What the caller wants after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More.
    Continue,
    /// A pause: this event was the last one for now.
    Break,
}

/// How a read ended. In each case every event below the offset that it names was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// All of the range was read past, also if the caller wanted a pause after its last event.
    Complete,
    /// The caller wanted a pause.
    Paused {
        /// Where to go on.
        next_offset: i64,
    },
    /// The caller wanted to stop.
    Stopped {
        /// Where to go on.
        next_offset: i64,
    },
    /// The broker has no such offset any more: retention or DeleteRecords took it, or the
    /// topic was made again and is shorter.
    OutOfRange {
        /// The first offset that could not be read.
        next_offset: i64,
    },
}

/// Reads ranges of offsets of one topic, one partition at a time, with one consumer that is
/// assigned to it: never subscribed, and nothing is ever committed.
pub struct RangeReader {
    config: KafkaConfig,
    topic: TopicName,
    limits: ReadLimits,
    source: Option<Source>,
}

/// The consumer, and where it stands.
struct Source {
    polled: PolledConsumer,
    /// The partition that it is assigned to, and the next offset that it will give.
    placed: Option<(i32, i64)>,
    /// Partitions that it has been assigned to. To assign one of them again could let events
    /// through that were fetched for the first assignment, and hide a gap.
    used: HashSet<i32>,
}

impl RangeReader {
    /// Makes the reader. It connects with the first read.
    ///
    /// # Errors
    /// [`KafkaError::Client`] where librdkafka does not take the settings.
    pub fn new(
        config: &KafkaConfig,
        topic: &TopicName,
        limits: ReadLimits,
    ) -> Result<Self, KafkaError> {
        let source = Some(Source::new(config, limits)?);
        Ok(RangeReader { config: config.clone(), topic: topic.clone(), limits, source })
    }

    /// Hands every event of `range` to `on_event`, in order of offsets, until the consumer's
    /// position is at or past the range's end. `stop` is asked before each event, and every
    /// few milliseconds while none comes; only a look-up that explains why none comes can
    /// hold it up, for seconds. To go on where a read has paused is cheap.
    ///
    /// # Errors
    /// [`KafkaError::ReadStalled`] and what it may be found to be: [`KafkaError::NoLeader`],
    /// [`KafkaError::TopicNotFound`], [`KafkaError::PartitionNotFound`],
    /// [`KafkaError::Unavailable`]; [`KafkaError::Unauthorized`]; [`KafkaError::Unreadable`].
    /// What was handed out before stays good: another read may go on behind it.
    pub fn read(
        &mut self,
        partition: i32,
        range: OffsetRange,
        on_event: &mut dyn FnMut(&Event<'_>) -> Flow,
        stop: &dyn Fn() -> bool,
    ) -> Result<ReadEnd, KafkaError> {
        if range.is_empty() {
            return Ok(ReadEnd::Complete);
        }
        // A consumer that failed is not used again.
        let mut source = self.place(partition, range.start())?;
        let stall = Duration::from_secs(self.limits.stall_seconds);
        let mut read = Read::new(&source.polled, &self.topic, partition, range, stall);
        let end = read.run(on_event, stop)?;
        match end {
            ReadEnd::Paused { next_offset } | ReadEnd::Stopped { next_offset } => {
                source.placed = Some((partition, next_offset));
                self.source = Some(source);
            }
            // What was fetched beyond the range must not be given to the next read.
            ReadEnd::Complete | ReadEnd::OutOfRange { .. } => {
                let unassigned = source.polled.consumer().unassign();
                source.placed = None;
                self.source = unassigned.is_ok().then_some(source);
            }
        }
        Ok(end)
    }

    /// A consumer whose next event is the first at or after `offset`.
    fn place(&mut self, partition: i32, offset: i64) -> Result<Source, KafkaError> {
        let kept = self.source.take().filter(|source| {
            source.placed == Some((partition, offset)) || !source.used.contains(&partition)
        });
        let mut source = match kept {
            Some(source) => source,
            None => Source::new(&self.config, self.limits)?,
        };
        if source.placed == Some((partition, offset)) {
            return Ok(source);
        }
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(self.topic.as_str(), partition, Offset::Offset(offset))
            .and_then(|()| source.polled.consumer().assign(&list))
            .map_err(|error| {
                let error = CallError { reason: error.to_string(), ..CallError::from(&error) };
                let attempt = format!("assigning partition {partition} of {}", self.topic);
                source.polled.context().failed(&attempt, None, &error)
            })?;
        source.used.insert(partition);
        Ok(source)
    }
}

impl Source {
    fn new(config: &KafkaConfig, limits: ReadLimits) -> Result<Self, KafkaError> {
        let consumer = config
            .for_reader(limits.queue_kbytes)
            .create_with_context(Context::new(&config.brokers))
            .map_err(|error| KafkaError::Client { reason: error.to_string() })?;
        let polled = PolledConsumer::new(consumer)
            .ok_or_else(|| KafkaError::Client { reason: "it has no group.id".to_owned() })?;
        Ok(Source { polled, placed: None, used: HashSet::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_can_be_handed_to_another_thread() {
        fn send<T: Send>() {}
        fn share<T: Send + Sync>() {}
        send::<RangeReader>();
        share::<super::super::KafkaClient>();
    }
}
