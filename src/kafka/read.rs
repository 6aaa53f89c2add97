//! One read under way: what comes out of the queue, and what it means when nothing does.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::Offset;

use super::call::CallError;
use super::context::{Context, is_refusal};
use super::error::KafkaError;
use super::ffi::{AssignedConsumer, PartitionQueue, Polled, Record};
use super::reader::{Flow, ReadEnd};
use crate::snapshot::{Event, OffsetRange, TopicName};

/// How long an empty queue is waited for. Control records end a range without an event: only
/// after such a wait is the position looked at.
const WAIT: Duration = Duration::from_millis(10);

/// Events between two questions whether to stop.
const STOP_EVERY: u32 = 64;

/// How often the brokers are asked whether the topic is still there while nothing comes:
/// librdkafka tells only after half a minute, or not at all.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long such a question may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// One call of `RangeReader::read`.
pub(super) struct Read<'r> {
    consumer: &'r AssignedConsumer,
    queue: &'r PartitionQueue,
    topic: &'r TopicName,
    partition: i32,
    range: OffsetRange,
    /// Everything of the range below it was handed out.
    next_offset: i64,
    /// Bytes of keys and values that were handed out.
    bytes: u64,
    /// Where it stood when the queue was last found empty, and when that was.
    stood_at: i64,
    stood_since: Instant,
    /// When the brokers were last asked about the topic.
    looked_at: Instant,
    /// Whether the topic, or the partition, was missing then.
    missing: bool,
    /// Whether librdkafka has reported a broken connection since the last move.
    unreachable: bool,
    stall: Duration,
}

impl<'r> Read<'r> {
    /// A read with a consumer that is assigned to `partition`, at the start of `range`, and the
    /// queue of that partition.
    pub(super) fn new(
        (consumer, queue): (&'r AssignedConsumer, &'r PartitionQueue),
        topic: &'r TopicName,
        partition: i32,
        range: OffsetRange,
        stall: Duration,
    ) -> Self {
        let now = Instant::now();
        Read {
            consumer,
            queue,
            topic,
            partition,
            range,
            next_offset: range.start(),
            bytes: 0,
            stood_at: range.start(),
            stood_since: now,
            looked_at: now,
            missing: false,
            unreachable: false,
            stall,
        }
    }

    /// Hands out events until the range is read past, or the caller wants no more.
    pub(super) fn run(
        &mut self,
        on_event: &mut dyn FnMut(&Event<'_>) -> Flow,
        stop: &dyn Fn() -> bool,
    ) -> Result<ReadEnd, KafkaError> {
        let mut until_stop_is_asked = 0;
        loop {
            if until_stop_is_asked == 0 {
                if stop() {
                    return Ok(ReadEnd::Stopped { next_offset: self.next_offset });
                }
                until_stop_is_asked = STOP_EVERY;
            }
            until_stop_is_asked -= 1;
            let queue = self.queue;
            let flow = match queue.next() {
                Some(Polled::Record(record)) => self.take(&record, on_event)?,
                Some(Polled::EndOfPartition(offset)) => {
                    self.move_to(offset);
                    Flow::Continue
                }
                Some(Polled::Error { error, offset }) => {
                    if let Some(end) = self.judge(&error, offset)? {
                        return Ok(end);
                    }
                    Flow::Continue
                }
                None => {
                    if !queue.wait(WAIT) {
                        self.stand()?;
                    }
                    until_stop_is_asked = 0;
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

    /// Bytes of keys and values that were handed out.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands out an event of the range. One behind it shows that the range was read past; one
    /// that was handed out already is dropped.
    fn take(
        &mut self,
        record: &Record<'_>,
        on_event: &mut dyn FnMut(&Event<'_>) -> Flow,
    ) -> Result<Flow, KafkaError> {
        let offset = record.offset();
        if offset < self.next_offset {
            let partition = self.partition;
            tracing::debug!(topic = %self.topic, partition, offset, "stale event dropped");
            return Ok(Flow::Continue);
        }
        if !self.range.contains(offset) {
            self.move_to(self.range.end());
            return Ok(Flow::Continue);
        }
        let mut headers = Vec::new();
        let event = record.event(&mut headers).map_err(|error| self.unreadable(offset, &error))?;
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
        self.bytes += length(event.key) + length(event.value);
        let flow = on_event(&event);
        self.move_to(record.next_offset());
        Ok(flow)
    }

    fn move_to(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// Nothing came for a moment: hears what else there is to know, and judges the silence.
    fn stand(&mut self) -> Result<(), KafkaError> {
        while let Some(error) = self.consumer.next_error() {
            self.heed(&error)?;
        }
        self.move_to_position();
        if self.next_offset > self.stood_at {
            // A caller may take its time over events; that is no stall.
            (self.stood_at, self.stood_since) = (self.next_offset, Instant::now());
            if std::mem::take(&mut self.unreachable) {
                self.context().answered();
            }
        }
        self.check_progress()
    }

    /// Control records and aborted ones move the position without an event.
    fn move_to_position(&mut self) {
        let position = self.consumer.consumer().position().ok();
        let offset = position.as_ref().and_then(|list| {
            list.find_partition(self.topic.as_str(), self.partition).map(|found| found.offset())
        });
        if let Some(Offset::Offset(offset)) = offset {
            if self.queue.is_false_position(offset) {
                return;
            }
            self.move_to(offset);
        }
    }

    /// What an error of the partition means: `None` if librdkafka goes on by itself.
    fn judge(&mut self, error: &CallError, offset: i64) -> Result<Option<ReadEnd>, KafkaError> {
        match error.code {
            RDKafkaErrorCode::AutoOffsetReset => {
                // The one that was asked for: all below it has come.
                self.move_to(offset);
                self.confirm_out_of_range(error).map(Some)
            }
            code if passes(code) => self.heed(error).map(|()| None),
            // librdkafka would go on behind the batch that it can't read.
            _ => Err(self.unreadable(self.next_offset, error)),
        }
    }

    /// Notes an error after which librdkafka goes on by itself, unless that would be in vain.
    fn heed(&mut self, error: &CallError) -> Result<(), KafkaError> {
        let context = self.context();
        match error.code {
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                return Err(context.unauthorized(&self.attempt(), error));
            }
            RDKafkaErrorCode::AllBrokersDown if context.refused().is_some() => {
                return Err(context.failed(&self.attempt(), None, error));
            }
            code if passes(code) => {
                context.note(code, &error.reason);
                self.unreachable |= !is_unknown(code);
            }
            // Of the consumer group, which is there only because librdkafka assigns nothing
            // to a consumer without one. The user needs no right to it.
            _ => tracing::debug!(topic = %self.topic, reason = error.reason, "error ignored"),
        }
        Ok(())
    }

    /// librdkafka says that the offset is gone; the broker's watermarks must agree, or it is
    /// something else, such as a log that was cut off after an unclean election.
    fn confirm_out_of_range(&mut self, error: &CallError) -> Result<ReadEnd, KafkaError> {
        let consumer = self.consumer.consumer();
        let (low, high) =
            consumer.fetch_watermarks(self.topic.as_str(), self.partition, LOOK_TIMEOUT).map_err(
                |e| self.context().failed(&self.attempt(), Some(self.topic), &CallError::from(&e)),
            )?;
        if low <= self.next_offset && self.next_offset <= high {
            return Err(self.unreadable(self.next_offset, error));
        }
        Ok(ReadEnd::OutOfRange { next_offset: self.next_offset })
    }

    /// Fails a read that has stood for too long, or whose topic is gone.
    fn check_progress(&mut self) -> Result<(), KafkaError> {
        let stands_for = self.stood_since.elapsed();
        if stands_for >= self.stall {
            return Err(self.explain().unwrap_or_else(|| self.stalled()));
        }
        // To ask brokers that are known to be away would only hold up the caller.
        if stands_for >= LOOK_EVERY && self.looked_at.elapsed() >= LOOK_EVERY && !self.unreachable {
            self.looked_at = Instant::now();
            let missed_before = std::mem::take(&mut self.missing);
            match self.explain() {
                Some(refused @ KafkaError::Unauthorized { .. }) => return Err(refused),
                Some(
                    gone
                    @ (KafkaError::TopicNotFound { .. } | KafkaError::PartitionNotFound { .. }),
                ) => {
                    // Once may be a broker that has just started and does not know it yet.
                    if missed_before {
                        return Err(gone);
                    }
                    self.missing = true;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn stalled(&self) -> KafkaError {
        if let Some(refusal) = self.context().refused() {
            return self.context().unauthorized(&self.attempt(), &refusal);
        }
        KafkaError::ReadStalled {
            topic: self.topic.to_string(),
            partition: self.partition,
            position: self.next_offset,
            range: self.range,
            seconds: self.stall.as_secs(),
            last_error: self.context().last_error(),
        }
    }

    /// Why nothing comes, where the brokers' metadata tell.
    fn explain(&self) -> Option<KafkaError> {
        let context = self.context();
        let (topic, partition) = (self.topic.to_string(), self.partition);
        let metadata =
            self.consumer.consumer().fetch_metadata(Some(self.topic.as_str()), LOOK_TIMEOUT);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(e) => {
                return Some(context.failed(
                    &self.attempt(),
                    Some(self.topic),
                    &CallError::from(&e),
                ));
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

    fn context(&self) -> &'r Context {
        self.consumer.context()
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

/// Errors after which librdkafka goes on by itself.
fn passes(code: RDKafkaErrorCode) -> bool {
    is_passing(code) || is_refusal(code)
}

/// Errors of connections and leaders, after which librdkafka tries again.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    is_unknown(code)
        || matches!(
            code,
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
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

/// Errors of a topic or partition that may be gone, which the next look at it will tell.
fn is_unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_the_data_passes() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::BadMessage,
            Code::BadCompression,
            Code::InvalidMessage,
            Code::MessageSizeTooLarge,
            Code::NotImplemented,
            Code::Underflow,
            Code::LogTruncation,
            Code::AutoOffsetReset,
            Code::Unknown,
        ] {
            assert!(!passes(code), "{code}");
        }
    }
}
