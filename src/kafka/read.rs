//! One read under way: what comes out of the queue, and what it means when nothing does.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::Offset;

use super::call::CallError;
use super::context::{Context, is_refusal};
use super::error::KafkaError;
use super::ffi::{Polled, PolledConsumer, Record};
use super::reader::{Flow, ReadEnd};
use crate::snapshot::{Event, OffsetRange, TopicName};

/// How long a poll waits. Control records end a range without an event: only between polls
/// is the position looked at.
const POLL: Duration = Duration::from_millis(10);

/// How often the brokers are asked whether the topic is still there while nothing comes:
/// librdkafka tells only after half a minute, or not at all.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long such a question may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// One call of `RangeReader::read`.
pub(super) struct Read<'r> {
    polled: &'r PolledConsumer,
    topic: &'r TopicName,
    partition: i32,
    range: OffsetRange,
    /// Everything of the range below it was handed out.
    next_offset: i64,
    /// When it last moved, or the caller gave the thread back.
    moved_at: Instant,
    /// When the brokers were last asked about the topic.
    looked_at: Instant,
    /// Whether the topic, or the partition, was missing then.
    missing: bool,
    /// Whether librdkafka has reported a broken connection since the last move.
    unreachable: bool,
    stall: Duration,
}

impl<'r> Read<'r> {
    /// A read with a consumer that is assigned to `partition`, at the start of `range`.
    pub(super) fn new(
        polled: &'r PolledConsumer,
        topic: &'r TopicName,
        partition: i32,
        range: OffsetRange,
        stall: Duration,
    ) -> Self {
        let now = Instant::now();
        Read {
            polled,
            topic,
            partition,
            range,
            next_offset: range.start(),
            moved_at: now,
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
        loop {
            if stop() {
                return Ok(ReadEnd::Stopped { next_offset: self.next_offset });
            }
            let polled = self.polled;
            let flow = match polled.poll(POLL) {
                Some(Polled::Record(record)) => self.take(&record, on_event)?,
                Some(Polled::EndOfPartition { partition, offset }) => {
                    if partition == self.partition {
                        self.move_to(offset);
                    }
                    Flow::Continue
                }
                Some(Polled::Error { error, partition }) => {
                    if partition.is_none_or(|p| p == self.partition)
                        && let Some(end) = self.judge(&error, partition)?
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
            let partition = record.partition();
            tracing::debug!(topic = %self.topic, partition, offset, "stale event dropped");
            return Ok(Flow::Continue);
        }
        if !self.range.contains(offset) {
            self.move_to(self.range.end());
            return Ok(Flow::Continue);
        }
        let mut headers = Vec::new();
        let event = record.event(&mut headers).map_err(|error| self.unreadable(offset, &error))?;
        let flow = on_event(&event);
        self.move_to(record.next_offset());
        Ok(flow)
    }

    fn move_to(&mut self, offset: i64) {
        if offset > self.next_offset {
            self.next_offset = offset;
            // A caller may take its time over an event; that is no stall.
            self.moved_at = Instant::now();
            if std::mem::take(&mut self.unreachable) {
                self.context().answered();
            }
        }
    }

    /// Control records and aborted ones move the position without an event.
    fn move_to_position(&mut self) {
        let position = self.polled.consumer().position().ok();
        let offset = position.as_ref().and_then(|list| {
            list.find_partition(self.topic.as_str(), self.partition).map(|found| found.offset())
        });
        if let Some(Offset::Offset(offset)) = offset {
            self.move_to(offset);
        }
    }

    /// What an error means: `None` if librdkafka goes on by itself.
    fn judge(
        &mut self,
        error: &CallError,
        partition: Option<i32>,
    ) -> Result<Option<ReadEnd>, KafkaError> {
        let context = self.context();
        match error.code {
            RDKafkaErrorCode::AutoOffsetReset => self.confirm_out_of_range(error).map(Some),
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                Err(context.unauthorized(&self.attempt(), error))
            }
            RDKafkaErrorCode::AllBrokersDown if context.refused().is_some() => {
                Err(context.failed(&self.attempt(), None, error))
            }
            code if is_passing(code) || is_refusal(code) => {
                context.note(code, &error.reason);
                self.unreachable |= !is_unknown(code);
                Ok(None)
            }
            // Of the consumer group, which is there only because librdkafka assigns nothing
            // to a consumer without one. The user needs no right to it.
            _ if partition.is_none() => {
                tracing::debug!(topic = %self.topic, reason = error.reason, "error ignored");
                Ok(None)
            }
            // librdkafka would go on behind the batch that it can't read.
            _ => Err(self.unreadable(self.next_offset, error)),
        }
    }

    /// librdkafka says that the offset is gone; the broker's watermarks must agree, or it is
    /// something else, such as a log that was cut off after an unclean election.
    fn confirm_out_of_range(&mut self, error: &CallError) -> Result<ReadEnd, KafkaError> {
        self.move_to_position();
        let consumer = self.polled.consumer();
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
        let stands_for = self.moved_at.elapsed();
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
            self.polled.consumer().fetch_metadata(Some(self.topic.as_str()), LOOK_TIMEOUT);
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
        self.polled.context()
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
            assert!(!is_passing(code) && !is_refusal(code), "{code}");
        }
    }
}
