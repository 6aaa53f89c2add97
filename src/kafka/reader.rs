//! Reads ranges of offsets. A range is read when the consumer's position is at or past its
//! end: the last event is often not at its last offset, and silence is no end.
//!
//! Ranges are handed out one after the other, and fetched ahead: to turn from one partition
//! to the next costs a round trip or more, in which nothing would be done.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::topic_partition_list::Offset;

use super::call::CallError;
use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::ffi::{AssignedConsumer, Consumer, PartitionQueue};
use super::read::Read;
use super::readers::Home;
use crate::metrics;
use crate::snapshot::{Event, OffsetRange, PartitionRange, TopicName};

/// Partitions that are assigned at once, the one that is read included. In the worst case each
/// of them holds a full queue, and one fetch above it.
const MOST_ASSIGNED: usize = 8;

/// What an event takes, in bytes, as long as none was read.
const ASSUMED_BYTES: u64 = 1024;

/// Limits of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Seconds without progress after which a read fails.
    pub stall_seconds: u64,
    /// KiB of events that are fetched ahead of the caller, for each partition. librdkafka may
    /// hold one fetch (1 MiB, more where a record is larger) above it.
    pub queue_kbytes: u32,
    /// KiB that a broker is asked for at once, of each partition.
    pub fetch_kbytes: u32,
}

impl Default for ReadLimits {
    /// 60 s: a broker that dies is replaced after some 12 s, and librdkafka goes on by
    /// itself. 2 MiB: more made reading no faster, and for each small event librdkafka needs
    /// twice its size besides.
    fn default() -> Self {
        ReadLimits { stall_seconds: 60, queue_kbytes: 2048, fetch_kbytes: 1024 }
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

/// Reads ranges of offsets of one topic, one at a time, with one consumer that partitions are
/// assigned to: never subscribed, and nothing is ever committed.
pub struct RangeReader {
    config: KafkaConfig,
    topic: TopicName,
    limits: ReadLimits,
    source: Option<Source>,
    /// Who closes the consumer when the reader is dropped; `None` if the reader does.
    home: Option<Home>,
    /// What the caller will read next, in that order; the first of them may be assigned already.
    upcoming: VecDeque<PartitionRange>,
    /// Events that were handed out, and the bytes of their keys and values.
    events: u64,
    bytes: u64,
}

/// A consumer, and what it is assigned to.
pub(super) struct Source {
    // Before the consumer, so that they are dropped before it.
    assigned: BTreeMap<i32, Assigned>,
    /// The last queues of partitions that were assigned before: what a broker had been asked for
    /// can still arrive in them.
    unassigned: VecDeque<PartitionQueue>,
    consumer: AssignedConsumer,
    /// Partitions that it has ever been assigned to. To assign one of them again could let events
    /// through that were fetched for the first assignment, and hide a gap.
    used: HashSet<i32>,
}

/// A partition that is fetched, and the next offset that its queue will give.
struct Assigned {
    queue: PartitionQueue,
    next_offset: i64,
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
        Ok(RangeReader::with(config, topic, limits, Source::new(config, limits)?, None))
    }

    /// A reader with a consumer that nothing was assigned to yet.
    pub(super) fn with(
        config: &KafkaConfig,
        topic: &TopicName,
        limits: ReadLimits,
        source: Source,
        home: Option<Home>,
    ) -> Self {
        RangeReader {
            config: config.clone(),
            topic: topic.clone(),
            limits,
            source: Some(source),
            home,
            upcoming: VecDeque::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Says what will be read, in that order, so that it can be fetched ahead. It is a hint:
    /// whatever else is read is right, and slower.
    pub fn expect(&mut self, upcoming: impl IntoIterator<Item = PartitionRange>) {
        self.upcoming = upcoming.into_iter().filter(|part| !part.range.is_empty()).collect();
    }

    /// Hands every event of `range` to `on_event`, in order of offsets, until the consumer's
    /// position is at or past the range's end. `stop` is asked every few events, and every few
    /// milliseconds while none comes; only a look-up that explains why none comes can
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
        self.fetch_ahead(&mut source, partition)?;
        let Some(assigned) = source.assigned.get_mut(&partition) else {
            return Err(KafkaError::Client { reason: "a partition has no queue".to_owned() });
        };
        let stall = Duration::from_secs(self.limits.stall_seconds);
        let from = (&source.consumer, &assigned.queue);
        let mut events = 0;
        let mut read = Read::new(from, &self.topic, partition, range, stall);
        let end = read.run(
            &mut |event| {
                events += 1;
                on_event(event)
            },
            stop,
        )?;
        self.events += events;
        self.bytes += read.bytes();
        metrics::events_read(events, read.bytes());
        match end {
            ReadEnd::Paused { next_offset } | ReadEnd::Stopped { next_offset } => {
                assigned.next_offset = next_offset;
                self.source = Some(source);
            }
            // What was fetched beyond the range must not be given to the next read.
            ReadEnd::Complete | ReadEnd::OutOfRange { .. } => {
                self.source = source.unassign(&self.topic, partition).is_ok().then_some(source);
            }
        }
        Ok(end)
    }

    /// A consumer of which `partition` is assigned, and the next event is the first at or after
    /// `offset`.
    fn place(&mut self, partition: i32, offset: i64) -> Result<Source, KafkaError> {
        let placed = |source: &Source| source.assigned.get(&partition).map(|a| a.next_offset);
        let kept = self.source.take().filter(|source| match placed(source) {
            Some(next_offset) => next_offset == offset,
            None => !source.used.contains(&partition),
        });
        let mut source = match kept {
            Some(source) => source,
            None => Source::new(&self.config, self.limits)?,
        };
        if placed(&source).is_none() {
            source.assign(&self.topic, partition, offset)?;
        }
        Ok(source)
    }

    /// Assigns what comes after `partition`: always one more, and so many small ranges that
    /// together they are about a queue full.
    fn fetch_ahead(&mut self, source: &mut Source, partition: i32) -> Result<(), KafkaError> {
        if let Some(at) = self.upcoming.iter().position(|part| part.partition == partition) {
            self.upcoming.drain(..=at);
        }
        let queue_bytes = u64::from(self.limits.queue_kbytes) << 10;
        let mut ahead = 0;
        for part in &self.upcoming {
            let (next, start) = (part.partition, part.range.start());
            if !source.assigned.contains_key(&next) {
                let full = ahead >= queue_bytes || source.assigned.len() >= MOST_ASSIGNED;
                // Such a partition needs another consumer, and so does all behind it.
                if full || source.used.contains(&next) {
                    break;
                }
                source.assign(&self.topic, next, start)?;
            }
            let each = self.bytes.checked_div(self.events).unwrap_or(ASSUMED_BYTES);
            ahead += (each + 1).saturating_mul(part.range.len().unsigned_abs());
        }
        Ok(())
    }
}

impl Drop for RangeReader {
    fn drop(&mut self) {
        if let (Some(home), Some(source)) = (self.home.take(), self.source.take()) {
            home.close(source, (self.events > 0).then(|| self.topic.clone()));
        }
    }
}

impl Source {
    pub(super) fn new(config: &KafkaConfig, limits: ReadLimits) -> Result<Self, KafkaError> {
        let consumer = config
            .for_reader(limits)
            .create_with_context(Context::new(&config.brokers))
            .map_err(|error| KafkaError::Client { reason: error.to_string() })?;
        let consumer = AssignedConsumer::new(consumer)
            .ok_or_else(|| KafkaError::Client { reason: "it has no group.id".to_owned() })?;
        let (assigned, unassigned, used) = (BTreeMap::new(), VecDeque::new(), HashSet::new());
        Ok(Source { assigned, unassigned, consumer, used })
    }

    pub(super) fn consumer(&self) -> &Consumer {
        self.consumer.consumer()
    }

    fn assign(&mut self, topic: &TopicName, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let failed = |error: CallError| {
            let attempt = format!("assigning partition {partition} of {topic}");
            self.consumer.context().failed(&attempt, None, &error)
        };
        // Its queue first: without one, what is fetched would go to the consumer's own.
        let queue = self.consumer.queue_of(topic.as_str(), partition).map_err(failed)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic.as_str(), partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.consumer().incremental_assign(&list))
            .map_err(|e| failed(CallError { reason: e.to_string(), ..CallError::from(&e) }))?;
        self.used.insert(partition);
        self.assigned.insert(partition, Assigned { queue, next_offset: offset });
        Ok(())
    }

    fn unassign(&mut self, topic: &TopicName, partition: i32) -> Result<(), ClientError> {
        let assigned = self.assigned.remove(&partition);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic.as_str(), partition);
        self.consumer.consumer().incremental_unassign(&list)?;
        self.unassigned.extend(assigned.map(|assigned| assigned.queue));
        self.unassigned.iter().for_each(PartitionQueue::discard);
        // Answers that are still on their way are about the last few.
        while self.unassigned.len() > MOST_ASSIGNED {
            self.unassigned.pop_front();
        }
        Ok(())
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
