//! What is asked of librdkafka and what it answers, as plain values: no pointers.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;

use crate::snapshot::Timestamp;

/// An error code and librdkafka's words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallError {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

impl CallError {
    pub(super) fn of(code: RDKafkaErrorCode) -> Self {
        // "TopicAuthorizationFailed (Broker: Topic authorization failed)": the name once will do.
        let text = code.to_string();
        let words = text.split_once(" (").and_then(|(_, words)| words.strip_suffix(')'));
        CallError { code, reason: words.unwrap_or(&text).to_owned() }
    }

    /// The error that a number stands for, `None` for 0. A newer broker may answer numbers
    /// that this librdkafka does not know.
    pub(super) fn of_number(number: i32) -> Option<Self> {
        if number == 0 {
            return None;
        }
        Some(match RDKafkaRespErr::try_from(number) {
            Ok(known) => CallError::of(known.into()),
            Err(_) => CallError {
                code: RDKafkaErrorCode::Unknown,
                reason: format!("kafka's error {number}, which this client does not know"),
            },
        })
    }
}

impl From<&ClientError> for CallError {
    fn from(error: &ClientError) -> Self {
        CallError::of(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))
    }
}

/// What ListOffsets may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The first offset that the broker still has.
    LowWatermark,
    /// The next offset to be written.
    HighWatermark,
    /// Where the first open transaction begins, else the high watermark.
    LastStableOffset,
    /// The first offset with a timestamp at or after this one, below the last stable offset.
    Boundary(Timestamp),
    /// The event with the largest timestamp.
    Newest,
}

impl Question {
    /// Whether what lies behind an open transaction is left out of the answer.
    pub(super) fn heeds_transactions(self) -> bool {
        matches!(self, Question::LastStableOffset | Question::Boundary(_))
    }

    /// The question about each of the partitions, as librdkafka takes it: in place of an offset.
    pub(super) fn list(self, led: Led<'_>) -> Result<TopicPartitionList, CallError> {
        let offset = match self {
            Question::LowWatermark => Offset::Beginning,
            // The newest event has no name in rdkafka's interface: `ffi` puts it in.
            Question::HighWatermark | Question::LastStableOffset | Question::Newest => Offset::End,
            // Negative times are names of special offsets to Kafka.
            Question::Boundary(at) => Offset::Offset(at.millis().max(0)),
        };
        let mut list = TopicPartitionList::with_capacity(led.partitions.len());
        for &partition in led.partitions {
            list.add_partition(led.topic, partition)
                .set_offset(offset)
                .map_err(|error| CallError::from(&error))?;
        }
        Ok(list)
    }
}

/// ListOffsets' answer about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) partition: i32,
    /// −1 for "there is no such event".
    pub(super) offset: i64,
    /// That of the event at the offset, milliseconds since the epoch; −1 without one.
    pub(super) timestamp: i64,
    pub(super) error: Option<CallError>,
}

/// DescribeTopics' answer about one partition.
pub(super) struct FoundPartition {
    pub(super) partition: i32,
    pub(super) has_leader: bool,
}

/// DescribeTopics' answer about one topic.
pub(super) struct FoundTopic {
    /// All zero where the broker has none.
    pub(super) topic_id: [u8; 16],
    pub(super) partitions: Vec<FoundPartition>,
}

impl FoundTopic {
    /// That each of `partitions` has a leader, which the client that was asked knows now.
    ///
    /// # Errors
    /// The first that has none, or is none.
    pub(super) fn led<'a>(
        &self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> Result<Led<'a>, Unanswered> {
        let leaders: HashMap<i32, bool> =
            self.partitions.iter().map(|found| (found.partition, found.has_leader)).collect();
        for &partition in partitions {
            let code = match leaders.get(&partition) {
                Some(true) => continue,
                Some(false) => RDKafkaErrorCode::LeaderNotAvailable,
                None => RDKafkaErrorCode::UnknownPartition,
            };
            return Err(Unanswered { partition: Some(partition), error: CallError::of(code) });
        }
        Ok(Led { topic, partitions })
    }
}

/// Partitions that ListOffsets may be asked about: their leaders were known a moment ago.
#[derive(Clone, Copy)]
pub(super) struct Led<'a> {
    topic: &'a str,
    partitions: &'a [i32],
}

impl Led<'_> {
    pub(super) fn partitions(&self) -> &[i32] {
        self.partitions
    }
}

/// Why an answer about offsets can't be used.
pub(super) struct Unanswered {
    pub(super) partition: Option<i32>,
    pub(super) error: CallError,
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Unanswered { partition: None, error }
    }
}

/// A topic's name as C takes it.
pub(super) fn name_of(topic: &str) -> Result<CString, CallError> {
    CString::new(topic).map_err(|_| CallError::of(RDKafkaErrorCode::InvalidTopic))
}

/// A timeout as C takes it.
pub(super) fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_leader_is_not_asked() {
        let of = |partition, has_leader| FoundPartition { partition, has_leader };
        let partitions = vec![of(0, true), of(2, false), of(1, true)];
        let found = FoundTopic { topic_id: [0; 16], partitions };
        let refused = |asked: &[i32]| {
            found.led("orders", asked).err().map(|why| (why.partition, why.error.code))
        };
        assert_eq!(refused(&[1, 0]), None);
        assert_eq!(refused(&[0, 2]), Some((Some(2), RDKafkaErrorCode::LeaderNotAvailable)));
        assert_eq!(refused(&[3, 0]), Some((Some(3), RDKafkaErrorCode::UnknownPartition)));
    }

    #[test]
    fn codes_have_words_also_unknown_ones() {
        let error = CallError::of_number(29).expect("an error");
        assert_eq!(error.code, RDKafkaErrorCode::TopicAuthorizationFailed);
        assert_eq!(error.reason, "Broker: Topic authorization failed");
        let unknown = CallError::of_number(9999).expect("an error");
        assert_eq!(unknown.code, RDKafkaErrorCode::Unknown);
        assert!(unknown.reason.contains("9999"));
        assert_eq!(CallError::of_number(0), None);
    }
}
