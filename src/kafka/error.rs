//! What can go wrong between Strandline and Kafka.

use std::fmt;

use crate::snapshot::{FailureKind, OffsetRange};

/// Why a cluster's settings can't be used. One line, and never a property's secret value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaConfigError {
    /// The list of brokers is empty or malformed.
    #[error("STRANDLINE_KAFKA_BROKERS: {0}; write it as in broker-1:9092,broker-2:9092")]
    Brokers(String),
    /// An entry of the properties is not `name=value`.
    #[error(
        "STRANDLINE_KAFKA_PROPERTIES: entry {entry} {reason}; write name=value,name=value, and a comma inside a value as \\,"
    )]
    Malformed {
        /// Which entry, counted from 1. Its text may be part of a password.
        entry: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The property would break what Strandline promises.
    #[error("STRANDLINE_KAFKA_PROPERTIES: {property} can't be set: {reason}")]
    Refused {
        /// The property's name.
        property: String,
        /// Why not.
        reason: String,
    },
    /// librdkafka knows no such property, or does not take the value.
    #[error("STRANDLINE_KAFKA_PROPERTIES: {property}: {reason}")]
    Invalid {
        /// The property's name.
        property: String,
        /// librdkafka's own words.
        reason: String,
    },
    /// Each property is fine, but together they make no client.
    #[error("STRANDLINE_KAFKA_PROPERTIES: {0}")]
    Together(String),
}

/// librdkafka's last words about the brokers, where it said any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastError(pub(super) Option<String>);

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, " (last error: {text})"))
    }
}

/// A call to Kafka, or a read, that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka could not make a client.
    #[error("making a kafka client failed: {reason}; check STRANDLINE_KAFKA_PROPERTIES")]
    Client {
        /// librdkafka's own words.
        reason: String,
    },
    /// The cluster has no topic of this name, or does not show it.
    #[error(
        "topic {topic} does not exist in the cluster at {brokers}, or this user may not see it; check its name and STRANDLINE_KAFKA_BROKERS"
    )]
    TopicNotFound {
        /// The topic's name.
        topic: String,
        /// The brokers' addresses.
        brokers: String,
    },
    /// The topic is there, the partition is not (any more).
    #[error(
        "topic {topic} has no partition {partition} now; it may be too new to be known to all brokers, or the topic was made again with fewer"
    )]
    PartitionNotFound {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// The brokers refuse our credentials or do not allow the topic.
    #[error(
        "kafka at {brokers} refused {attempt}: {reason}; check the credentials in STRANDLINE_KAFKA_PROPERTIES and the ACLs"
    )]
    Unauthorized {
        /// What was attempted.
        attempt: String,
        /// The brokers' addresses.
        brokers: String,
        /// librdkafka's own words.
        reason: String,
    },
    /// No broker answered, or the answer was an error that may pass.
    #[error(
        "{attempt} failed: {reason}{last_error}; check that the brokers at {brokers} are up and reachable"
    )]
    Unavailable {
        /// What was attempted.
        attempt: String,
        /// The brokers' addresses.
        brokers: String,
        /// librdkafka's own words.
        reason: String,
        /// The cause, which librdkafka reports apart from the answer.
        last_error: LastError,
    },
    /// No broker leads the partition at the moment.
    #[error(
        "partition {partition} of topic {topic} has no leader; check that the brokers that hold it are up"
    )]
    NoLeader {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// The brokers' answers contradict each other.
    #[error(
        "kafka's answers about partition {partition} of topic {topic} do not fit together: {reason}; the topic may be being made again"
    )]
    Inconsistent {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// Which answers, with their values.
        reason: String,
    },
    /// The brokers answer, but the partition's events do not come.
    #[error(
        "reading partition {partition} of topic {topic} stands at offset {position} of {range} for {seconds} s{last_error}; check the broker that leads it"
    )]
    ReadStalled {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// The next offset to be read.
        position: i64,
        /// What was to be read.
        range: OffsetRange,
        /// How long nothing came.
        seconds: u64,
        /// librdkafka's last words about the brokers.
        last_error: LastError,
    },
    /// A record, or a batch of them, can't be read.
    #[error(
        "reading partition {partition} of topic {topic} at offset {position} failed: {reason}; if it stays, the log is damaged there"
    )]
    Unreadable {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// The next offset to be read.
        position: i64,
        /// librdkafka's own words.
        reason: String,
    },
}

impl KafkaError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        self.failure_kind().is_retryable()
    }

    /// The kind under which a run stores it.
    pub fn failure_kind(&self) -> FailureKind {
        match self {
            KafkaError::Client { .. } => FailureKind::Internal,
            KafkaError::TopicNotFound { .. } => FailureKind::TopicNotFound,
            KafkaError::Unauthorized { .. } => FailureKind::KafkaAuth,
            KafkaError::PartitionNotFound { .. }
            | KafkaError::Unavailable { .. }
            | KafkaError::NoLeader { .. }
            | KafkaError::Inconsistent { .. } => FailureKind::KafkaUnavailable,
            KafkaError::ReadStalled { .. } | KafkaError::Unreadable { .. } => {
                FailureKind::ReadStalled
            }
        }
    }

    /// The partition that it is about.
    pub fn partition(&self) -> Option<i32> {
        match self {
            KafkaError::PartitionNotFound { partition, .. }
            | KafkaError::NoLeader { partition, .. }
            | KafkaError::Inconsistent { partition, .. }
            | KafkaError::ReadStalled { partition, .. }
            | KafkaError::Unreadable { partition, .. } => Some(*partition),
            KafkaError::Client { .. }
            | KafkaError::TopicNotFound { .. }
            | KafkaError::Unauthorized { .. }
            | KafkaError::Unavailable { .. } => None,
        }
    }
}
