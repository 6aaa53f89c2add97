//! Why a run failed, as it is stored and shown.

use std::fmt;

macro_rules! failure_kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, retryable: $retryable:literal;)+) => {
        /// The closed list of a run's errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailureKind { $($(#[$doc])* $variant),+ }

        impl FailureKind {
            /// All of them.
            pub const ALL: &[FailureKind] = &[$(FailureKind::$variant),+];

            /// The code in JSON, in Postgres, in logs and metrics.
            pub const fn code(self) -> &'static str {
                match self { $(FailureKind::$variant => $code),+ }
            }

            /// Whether trying again may help. Strandline does so itself for a while before
            /// it gives up.
            pub const fn is_retryable(self) -> bool {
                match self { $(FailureKind::$variant => $retryable),+ }
            }

            /// The kind that has this code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(FailureKind::$variant),)+ _ => None }
            }
        }
    };
}

failure_kinds! {
    /// The cluster has no topic of this name, or does not show it.
    TopicNotFound = "TOPIC_NOT_FOUND", retryable: false;
    /// The topic was deleted and made again.
    TopicRecreated = "TOPIC_RECREATED", retryable: false;
    /// Offsets are lost, or may be, and the request said that this is a failure.
    DataLost = "DATA_LOST", retryable: false;
    /// The brokers refuse our credentials or do not allow the topic.
    KafkaAuth = "KAFKA_AUTH", retryable: false;
    /// The object store refuses our credentials.
    StorageAuth = "STORAGE_AUTH", retryable: false;
    /// No broker answers, or a partition has no leader.
    KafkaUnavailable = "KAFKA_UNAVAILABLE", retryable: true;
    /// The brokers answer, but a partition's events do not come.
    ReadStalled = "READ_STALLED", retryable: true;
    /// The object store does not take or give the files.
    StorageUnavailable = "STORAGE_UNAVAILABLE", retryable: true;
    /// Postgres does not answer.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", retryable: true;
    /// A defect of Strandline's own.
    Internal = "INTERNAL", retryable: true;
}

/// One failure: its kind, one line for a person, and the partition if it is about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The whole cause and the fix, in one line.
    pub message: String,
    /// The partition that it is about.
    pub partition: Option<i32>,
}

impl Failure {
    /// A failure of a whole run.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), partition: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_can_be_read_back() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(FailureKind::from_code("topic_not_found"), None);
    }
}
