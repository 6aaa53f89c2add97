//! Reads ranges of offsets. A range is read when the consumer's position is at or past its
//! end: the last event is often not at its last offset, and silence is no end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::config::KafkaConfig;
use super::context::{Context, is_refusal};
use super::error::KafkaError;
use super::ffi::{CallError, Polled, PolledConsumer, Record};
use crate::snapshot::{Event, OffsetRange, TopicName};

/// How long a poll waits. Control records end a range without an event: only between polls
/// is the position looked at.
const POLL: Duration = Duration::from_millis(10);

/// How long a question may take that is asked to explain why nothing comes.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a topic must be missing until it counts as gone: a broker that has just started
/// may not know it yet.
const GONE_AFTER: Duration = Duration::from_secs(2);

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
        let mut read = Read {
            source: &source,
            topic: &self.topic,
            partition,
            range,
            next_offset: range.start(),
            moved_at: Instant::now(),
            missing_since: None,
            stall: Duration::from_secs(self.limits.stall_seconds),
        };
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
                let error = CallError { reason: error.to_string(), ..call_error(&error) };
                let attempt = format!("assigning partition {partition} of {}", self.topic);
                source.context().failed(&attempt, None, &error)
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

    fn context(&self) -> &Context {
        self.polled.consumer().client().context()
    }
}

/// One call of [`RangeReader::read`] under way.
struct Read<'r> {
    source: &'r Source,
    topic: &'r TopicName,
    partition: i32,
    range: OffsetRange,
    /// Everything of the range below it was handed out.
    next_offset: i64,
    /// When it last moved, or the caller gave the thread back.
    moved_at: Instant,
    /// When the topic, or the partition, was first found missing.
    missing_since: Option<Instant>,
    stall: Duration,
}

impl Read<'_> {
    fn run(
        &mut self,
        on_event: &mut dyn FnMut(&Event<'_>) -> Flow,
        stop: &dyn Fn() -> bool,
    ) -> Result<ReadEnd, KafkaError> {
        loop {
            if stop() {
                return Ok(ReadEnd::Stopped { next_offset: self.next_offset });
            }
            let source = self.source;
            let flow = match source.polled.poll(POLL) {
                Some(Polled::Record(record)) => self.take(&record, on_event)?,
                Some(Polled::EndOfPartition { partition, offset }) => {
                    if partition == self.partition {
                        self.move_to(offset);
                    }
                    Flow::Continue
                }
                Some(Polled::Error { error, partition }) => {
                    if partition.is_none_or(|p| p == self.partition)
                        && let Some(end) = self.judge(&error)?
                    {
                        return Ok(end);
                    }
                    Flow::Continue
                }
                None => {
                    self.move_to_position();
                    self.check_progress()?;
                    Flow::Continue
                }
            };
            if self.next_offset >= self.range.end() {
                return Ok(ReadEnd::Complete);
            }
            if flow == Flow::Break {
                return Ok(ReadEnd::Paused { next_offset: self.next_offset });
            }
        }
    }

    /// Hands out an event of the range. One behind it shows that the range was read past; one
    /// that was handed out already, or is of another partition, is dropped.
    fn take(
        &mut self,
        record: &Record<'_>,
        on_event: &mut dyn FnMut(&Event<'_>) -> Flow,
    ) -> Result<Flow, KafkaError> {
        let offset = record.offset();
        if record.partition() != self.partition || offset < self.next_offset {
            tracing::debug!(topic = %self.topic, partition = record.partition(), offset, "stale event dropped");
            return Ok(Flow::Continue);
        }
        if !self.range.contains(offset) {
            self.move_to(self.range.end());
            return Ok(Flow::Continue);
        }
        let mut headers = Vec::new();
        let event = record.event(&mut headers).map_err(|error| self.unreadable(offset, &error))?;
        let flow = on_event(&event);
        self.move_to(offset + 1);
        Ok(flow)
    }

    fn move_to(&mut self, offset: i64) {
        if offset > self.next_offset {
            self.next_offset = offset;
            // A caller may take its time over an event; that is no stall.
            self.moved_at = Instant::now();
            self.missing_since = None;
        }
    }

    /// Control records and aborted ones move the position without an event.
    fn move_to_position(&mut self) {
        let position = self.source.polled.consumer().position().ok();
        let offset = position.as_ref().and_then(|list| {
            list.find_partition(self.topic.as_str(), self.partition).map(|found| found.offset())
        });
        if let Some(Offset::Offset(offset)) = offset {
            self.move_to(offset);
        }
    }

    /// What an error means: `None` if librdkafka goes on by itself.
    fn judge(&mut self, error: &CallError) -> Result<Option<ReadEnd>, KafkaError> {
        use RDKafkaErrorCode as Code;
        match error.code {
            Code::AutoOffsetReset => return self.confirm_out_of_range(error).map(Some),
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId => {
                self.missing_since.get_or_insert_with(Instant::now);
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                return Err(self.source.context().unauthorized(&self.attempt(), error));
            }
            Code::AllBrokersDown => {
                if let Some(refusal) = self.source.context().refused() {
                    return Err(self.source.context().unauthorized(&self.attempt(), &refusal));
                }
            }
            code if is_passing(code) || is_refusal(code) => {}
            code if is_of_group(code) => return Ok(None),
            // librdkafka goes on behind a batch that it can't read.
            _ => return Err(self.unreadable(self.next_offset, error)),
        }
        self.source.context().note(error.code, &error.reason);
        Ok(None)
    }

    /// librdkafka says that the offset is gone; the broker's watermarks must agree, or it is
    /// something else, such as a log that was cut off after an unclean election.
    fn confirm_out_of_range(&mut self, error: &CallError) -> Result<ReadEnd, KafkaError> {
        self.move_to_position();
        let consumer = self.source.polled.consumer();
        let (low, high) = consumer
            .fetch_watermarks(self.topic.as_str(), self.partition, EXPLAIN_TIMEOUT)
            .map_err(|e| {
                self.source.context().failed(&self.attempt(), Some(self.topic), &call_error(&e))
            })?;
        if low <= self.next_offset && self.next_offset <= high {
            return Err(self.unreadable(self.next_offset, error));
        }
        Ok(ReadEnd::OutOfRange { next_offset: self.next_offset })
    }

    /// Fails a read that has stood for too long, or whose topic is gone.
    fn check_progress(&mut self) -> Result<(), KafkaError> {
        if self.missing_since.is_some_and(|since| since.elapsed() >= GONE_AFTER) {
            // If it is there after all, the next error asks again.
            self.missing_since = None;
            if let Some(
                error @ (KafkaError::TopicNotFound { .. } | KafkaError::PartitionNotFound { .. }),
            ) = self.explain()
            {
                return Err(error);
            }
        }
        if self.moved_at.elapsed() < self.stall {
            return Ok(());
        }
        Err(self.explain().unwrap_or_else(|| KafkaError::ReadStalled {
            topic: self.topic.to_string(),
            partition: self.partition,
            position: self.next_offset,
            range: self.range,
            seconds: self.stall.as_secs(),
            last_error: self.source.context().last_error(),
        }))
    }

    /// Why nothing comes, where the brokers' metadata tell.
    fn explain(&self) -> Option<KafkaError> {
        let context = self.source.context();
        let (topic, partition) = (self.topic.to_string(), self.partition);
        let metadata = self
            .source
            .polled
            .consumer()
            .fetch_metadata(Some(self.topic.as_str()), EXPLAIN_TIMEOUT);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(e) => {
                return Some(context.failed(&self.attempt(), Some(self.topic), &call_error(&e)));
            }
        };
        let found = metadata.topics().iter().find(|found| found.name() == topic)?;
        if let Some(code) = found.error() {
            let error = CallError::of(code.into());
            return Some(context.failed(&self.attempt(), Some(self.topic), &error));
        }
        match found.partitions().iter().find(|found| found.id() == partition) {
            None => Some(KafkaError::PartitionNotFound { topic, partition }),
            Some(found) if found.leader() < 0 => Some(KafkaError::NoLeader { topic, partition }),
            Some(_) => None,
        }
    }

    fn attempt(&self) -> String {
        format!(
            "reading partition {} of topic {} at offset {}",
            self.partition, self.topic, self.next_offset
        )
    }

    fn unreadable(&self, position: i64, error: &CallError) -> KafkaError {
        KafkaError::Unreadable {
            topic: self.topic.to_string(),
            partition: self.partition,
            position,
            reason: error.reason.clone(),
        }
    }
}

fn call_error(error: &ClientError) -> CallError {
    CallError::of(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))
}

/// Errors of connections and leaders, after which librdkafka tries again.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::Resolve
            | Code::SSL
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::DestroyBroker
            | Code::BrokerDestroy
            | Code::NodeUpdate
            | Code::UnknownBroker
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::OffsetNotAvailable
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
    )
}

/// Errors of the consumer group, which is only there because librdkafka assigns partitions
/// to no consumer without one. The user needs no right to it.
fn is_of_group(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::GroupAuthorizationFailed
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::InvalidGroupId
            | Code::GroupIdNotFound
            | Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::RebalanceInProgress
    )
}
