//! Watermarks and boundaries: one call for each kind of question, whatever the number of
//! partitions, and no answer believed unseen.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::call::{Answer, CallError, FoundPartition, FoundTopic, Question, Unanswered};
use super::client::{KafkaClient, timed};
use super::error::KafkaError;
use super::ffi;
use super::handle::Handle;
use crate::snapshot::{PartitionLook, Timestamp, TopicName, Watermarks, Window};

/// How long all tries of one question may take; with [`EXPLAIN_TIMEOUT`] ten seconds.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long it may take to find out why it was not answered.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a question is asked before an error that may pass is an answer.
const TRIES: u32 = 3;

/// A question is not sent with less time: one that ends while it is being sent is one more that
/// librdkafka takes up on two threads (see `ffi::list_offsets`).
const LEAST: Duration = Duration::from_millis(500);

/// The pause between two tries: a new leader is known within tens of milliseconds.
const PAUSE: Duration = Duration::from_millis(200);

/// An event that a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundEvent {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, if it has one.
    pub timestamp: Option<Timestamp>,
}

impl KafkaClient {
    /// What a window means now in each of `partitions`, in their order. Watermarks are asked
    /// first, then the boundary of the window's end, then that of its start: what arrives in
    /// between is skipped by neither. What goes in between would pass for older than both, so
    /// the low watermarks are asked again, and all of it where one has moved.
    ///
    /// # Errors
    /// [`KafkaError::NoLeader`], [`KafkaError::TopicNotFound`] and the others: no partition
    /// is left out, nor answered halfway.
    pub fn look(
        &self,
        topic: &TopicName,
        partitions: &[i32],
        window: &Window,
    ) -> Result<Vec<PartitionLook>, KafkaError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let looks = self.look_once(topic, partitions, window)?;
            let lows = self.ask(topic, partitions, Question::LowWatermark)?;
            let moved = looks.iter().zip(lows).find(|(look, low)| look.low_watermark != *low);
            match moved {
                None => return Ok(looks),
                Some(_) if tries < TRIES => {}
                Some((look, low)) => {
                    let reason = format!("low watermark {}, then {low}", look.low_watermark);
                    return Err(inconsistent(topic, look.partition, reason));
                }
            }
        }
    }

    fn look_once(
        &self,
        topic: &TopicName,
        partitions: &[i32],
        window: &Window,
    ) -> Result<Vec<PartitionLook>, KafkaError> {
        let watermarks = self.watermarks(topic, partitions)?;
        let ends = self.boundaries(topic, partitions, window.end())?;
        let starts = self.boundaries(topic, partitions, window.start())?;
        let looks: Vec<PartitionLook> = watermarks
            .into_iter()
            .zip(ends)
            .zip(starts)
            .map(|((marks, (_, end_answer)), (_, start_answer))| PartitionLook {
                partition: marks.partition,
                low_watermark: marks.low_watermark,
                high_watermark: marks.high_watermark,
                last_stable_offset: marks.last_stable_offset,
                start_answer: start_answer.map(|found| found.offset),
                end_answer: end_answer.map(|found| found.offset),
                start_timestamp: start_answer.and_then(|found| found.timestamp),
                end_timestamp: end_answer.and_then(|found| found.timestamp),
                newest: None,
            })
            .collect();
        self.check_answers(topic, &looks)?;
        self.doubt_nones(topic, looks)
    }

    /// A broker searches only the first segment that has held a timestamp as large as the one
    /// looked up. Where records have been deleted in the middle of a segment, it can be that
    /// all that it held are gone, and the broker says "none" though there are some behind it
    /// (seen with 4.4.0). The event with the largest timestamp tells.
    fn doubt_nones(
        &self,
        topic: &TopicName,
        mut looks: Vec<PartitionLook>,
    ) -> Result<Vec<PartitionLook>, KafkaError> {
        let doubtful = |look: &PartitionLook| {
            look.low_watermark > 0
                && look.low_watermark < look.last_stable_offset
                && (look.start_answer.is_none() || look.end_answer.is_none())
        };
        let partitions: Vec<i32> =
            looks.iter().filter(|look| doubtful(look)).map(|look| look.partition).collect();
        let found = self.ask_found(topic, &partitions, Question::Newest)?;
        for (look, found) in looks.iter_mut().filter(|look| doubtful(look)).zip(found) {
            let there =
                look.low_watermark <= found.offset && found.offset < look.last_stable_offset;
            look.newest = found.timestamp.filter(|_| there).map(|time| (found.offset, time));
        }
        Ok(looks)
    }

    /// The first offset that the broker still has, in each of `partitions`, in their order.
    ///
    /// # Errors
    /// As [`KafkaClient::look`].
    pub fn low_watermarks(
        &self,
        topic: &TopicName,
        partitions: &[i32],
    ) -> Result<Vec<(i32, i64)>, KafkaError> {
        let offsets = self.ask(topic, partitions, Question::LowWatermark)?;
        Ok(partitions.iter().copied().zip(offsets).collect())
    }

    /// Where each of `partitions` begins and ends, in their order.
    ///
    /// # Errors
    /// As [`KafkaClient::look`].
    pub fn watermarks(
        &self,
        topic: &TopicName,
        partitions: &[i32],
    ) -> Result<Vec<Watermarks>, KafkaError> {
        let lows = self.ask(topic, partitions, Question::LowWatermark)?;
        // In this order, or events that arrive in between would look like an open transaction.
        let highs = self.ask(topic, partitions, Question::HighWatermark)?;
        let stables = self.ask(topic, partitions, Question::LastStableOffset)?;
        let mut watermarks = Vec::with_capacity(partitions.len());
        for (((&partition, low), high), stable) in
            partitions.iter().zip(lows).zip(highs).zip(stables)
        {
            if low > stable {
                let reason = format!("low watermark {low}, last stable offset {stable}");
                return Err(inconsistent(topic, partition, reason));
            }
            watermarks.push(Watermarks {
                partition,
                low_watermark: low,
                high_watermark: high.max(stable),
                last_stable_offset: stable,
            });
        }
        Ok(watermarks)
    }

    /// The first offset with a timestamp at or after `at` in each of `partitions`, in their
    /// order; `None` where there is none below the last stable offset.
    ///
    /// # Errors
    /// As [`KafkaClient::look`].
    pub fn boundaries(
        &self,
        topic: &TopicName,
        partitions: &[i32],
        at: Timestamp,
    ) -> Result<Vec<(i32, Option<FoundEvent>)>, KafkaError> {
        let found = self.ask_found(topic, partitions, Question::Boundary(at))?;
        let known = found.into_iter().map(|found| (found.offset >= 0).then_some(found));
        Ok(partitions.iter().copied().zip(known).collect())
    }

    /// A boundary lies between the watermarks. Above the high watermark it may be, if events
    /// have arrived since; then the high watermark of now must be above it.
    fn check_answers(&self, topic: &TopicName, looks: &[PartitionLook]) -> Result<(), KafkaError> {
        let answers = |look: &PartitionLook| {
            [look.start_answer, look.end_answer].into_iter().flatten().collect::<Vec<_>>()
        };
        let mut above = Vec::new();
        for look in looks {
            let (low, high) = (look.low_watermark, look.high_watermark);
            if let Some(answer) = answers(look).into_iter().find(|&answer| answer < low) {
                let reason = format!("low watermark {low}, then an event at offset {answer}");
                return Err(inconsistent(topic, look.partition, reason));
            }
            if let Some(answer) = answers(look).into_iter().filter(|&a| a >= high).max() {
                above.push((look.partition, answer));
            }
        }
        let partitions: Vec<i32> = above.iter().map(|&(partition, _)| partition).collect();
        let highs = self.ask(topic, &partitions, Question::HighWatermark)?;
        for (&(partition, answer), high) in above.iter().zip(highs) {
            if answer >= high {
                let reason = format!("high watermark {high}, but an event at offset {answer}");
                return Err(inconsistent(topic, partition, reason));
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        topic: &TopicName,
        partitions: &[i32],
        question: Question,
    ) -> Result<Vec<i64>, KafkaError> {
        let found = self.ask_found(topic, partitions, question)?;
        Ok(found.into_iter().map(|found| found.offset).collect())
    }

    /// Asks until every partition has answered, or [`TRIES`] or the time are used up. The
    /// answers are in the order of `partitions`; −1, only for a boundary, is "none".
    fn ask_found(
        &self,
        topic: &TopicName,
        partitions: &[i32],
        question: Question,
    ) -> Result<Vec<FoundEvent>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let handle = self.handle();
        handle.check_reach("asking for offsets", topic, ASK_TIMEOUT)?;
        let started = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let left = ASK_TIMEOUT.saturating_sub(started.elapsed());
            let unanswered = match self.ask_once(&handle, topic, partitions, question, left) {
                Ok(offsets) => {
                    handle.context().answered();
                    return Ok(offsets);
                }
                Err(unanswered) => unanswered,
            };
            // Brokers before Kafka 3.0 do not know; then nothing tells.
            if question == Question::Newest && is_unsupported(unanswered.error.code) {
                return Ok(vec![FoundEvent { offset: -1, timestamp: None }; partitions.len()]);
            }
            let left = ASK_TIMEOUT.saturating_sub(started.elapsed());
            if !may_pass(unanswered.error.code) || tries >= TRIES || left <= PAUSE + LEAST {
                return Err(self.explain(topic, question, unanswered));
            }
            thread::sleep(PAUSE);
        }
    }

    /// librdkafka goes by the leaders and partitions that it knows, and does not look again by
    /// itself for each error that says they are others now. So they are looked up first; and
    /// nobody else asks about the topic meanwhile, as such an error makes it forget them.
    fn ask_once(
        &self,
        handle: &Handle,
        topic: &TopicName,
        partitions: &[i32],
        question: Question,
        timeout: Duration,
    ) -> Result<Vec<FoundEvent>, Unanswered> {
        let started = Instant::now();
        let left = || Some(timeout.saturating_sub(started.elapsed())).filter(|left| *left > LEAST);
        let too_late = || CallError::of(RDKafkaErrorCode::OperationTimedOut);
        let _turn = self.turns().take(topic, timeout).ok_or_else(too_late)?;
        let left_now = left().ok_or_else(too_late)?;
        let describe = || ffi::describe_topic(handle.native(), topic.as_str(), left_now);
        let found = timed("describe_topic", describe)?;
        let led = found.led(topic.as_str(), partitions)?;
        let left = left().ok_or_else(too_late)?;
        let ask = || ffi::list_offsets(handle.native(), led, question, left);
        in_order(partitions, timed("list_offsets", ask)?, question)
    }

    /// The topic or the partition may be gone, or without a leader: librdkafka's code for
    /// that depends on how many other partitions there are.
    fn explain(&self, topic: &TopicName, question: Question, unanswered: Unanswered) -> KafkaError {
        let Unanswered { partition, error } = unanswered;
        if may_pass(error.code) {
            match self.find_topic(topic, EXPLAIN_TIMEOUT) {
                Ok(found) => {
                    if let Some(missing) = missing_in(&found, topic, partition) {
                        return missing;
                    }
                }
                Err(why @ (KafkaError::TopicNotFound { .. } | KafkaError::Unauthorized { .. })) => {
                    return why;
                }
                Err(_) => {}
            }
        }
        let of_partition = partition.map(|p| format!(" of partition {p}")).unwrap_or_default();
        let attempt = match question {
            Question::LowWatermark => "asking for the low watermark",
            Question::HighWatermark => "asking for the high watermark",
            Question::LastStableOffset => "asking for the last stable offset",
            Question::Boundary(_) => "looking up a boundary",
            Question::Newest => "looking up the newest event",
        };
        // The topic is there, so that its absence is not what the code means.
        let error = match error.code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                CallError { code: RDKafkaErrorCode::UnknownPartition, ..error }
            }
            _ => error,
        };
        let attempt = format!("{attempt}{of_partition} of topic {topic}");
        self.handle().context().failed(&attempt, Some(topic), &error)
    }
}

/// What the topic lacks that would explain why `partition`, or one of all, did not answer.
fn missing_in(found: &FoundTopic, topic: &TopicName, partition: Option<i32>) -> Option<KafkaError> {
    let topic = topic.to_string();
    let mut partitions = found.partitions.iter();
    if let Some(partition) = partition.filter(|&p| !partitions.any(|f| f.partition == p)) {
        return Some(KafkaError::PartitionNotFound { topic, partition });
    }
    let asked = |found: &&FoundPartition| partition.is_none_or(|p| p == found.partition);
    let leaderless = found.partitions.iter().filter(asked).find(|found| !found.has_leader);
    leaderless.map(|found| KafkaError::NoLeader { topic, partition: found.partition })
}

/// The offsets in the order of `partitions`. librdkafka leaves the offset of a partition
/// that nobody answered at −1001, without an error.
fn in_order(
    partitions: &[i32],
    answers: Vec<Answer>,
    question: Question,
) -> Result<Vec<FoundEvent>, Unanswered> {
    let mut offsets = HashMap::with_capacity(answers.len());
    for Answer { partition, offset, timestamp, error } in answers {
        if let Some(error) = error {
            return Err(Unanswered { partition: Some(partition), error });
        }
        let none = matches!(question, Question::Boundary(_) | Question::Newest) && offset == -1;
        if offset >= 0 || none {
            let timestamp = (timestamp >= 0).then(|| Timestamp::from_millis(timestamp));
            offsets.insert(partition, FoundEvent { offset, timestamp });
        }
    }
    let answer = |&partition: &i32| {
        offsets.get(&partition).copied().ok_or_else(|| Unanswered {
            partition: Some(partition),
            error: CallError {
                code: RDKafkaErrorCode::LeaderNotAvailable,
                reason: "the broker that leads it did not answer".to_owned(),
            },
        })
    };
    partitions.iter().map(answer).collect()
}

fn is_unsupported(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion)
}

/// Whether an error may come from knowing the leaders of a moment ago.
fn may_pass(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::ReplicaNotAvailable
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::FencedLeaderEpoch
            | RDKafkaErrorCode::UnknownLeaderEpoch
            | RDKafkaErrorCode::OffsetNotAvailable
            | RDKafkaErrorCode::KafkaStorageError
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            // "No leaders found": none of the partitions asked about has one.
            | RDKafkaErrorCode::NoEnt
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::DestroyBroker
            | RDKafkaErrorCode::NetworkException
    )
}

fn inconsistent(topic: &TopicName, partition: i32, reason: String) -> KafkaError {
    KafkaError::Inconsistent { topic: topic.to_string(), partition, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(partition: i32, offset: i64) -> Answer {
        Answer { partition, offset, timestamp: -1, error: None }
    }

    fn offsets(answers: Vec<Answer>, question: Question) -> Result<Vec<i64>, Option<i32>> {
        let found = in_order(&[2, 0], answers, question);
        found
            .map(|found| found.iter().map(|one| one.offset).collect())
            .map_err(|unanswered| unanswered.partition)
    }

    #[test]
    fn answers_come_in_the_order_of_the_partitions() {
        let answers = vec![answer(0, 10), answer(2, 12)];
        assert_eq!(offsets(answers, Question::LowWatermark), Ok(vec![12, 10]));
    }

    #[test]
    fn what_was_not_answered_is_an_error() {
        let boundary = Question::Boundary(Timestamp::MIN);
        assert_eq!(offsets(vec![answer(0, 1), answer(2, -1)], boundary), Ok(vec![-1, 1]));
        for question in [boundary, Question::LowWatermark] {
            assert_eq!(offsets(vec![answer(0, 1)], question), Err(Some(2)));
            assert_eq!(offsets(vec![answer(0, -1001), answer(2, 1)], question), Err(Some(0)));
        }
        let none = vec![answer(0, -1), answer(2, 1)];
        assert_eq!(offsets(none, Question::HighWatermark), Err(Some(0)));
    }

    #[test]
    fn an_error_is_that_of_its_partition() {
        let error = Some(CallError::of(RDKafkaErrorCode::LeaderNotAvailable));
        let answers = vec![answer(0, 10), Answer { error, ..answer(2, 12) }];
        assert_eq!(offsets(answers, Question::LowWatermark), Err(Some(2)));
    }
}
