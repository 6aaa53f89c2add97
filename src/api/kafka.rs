//! The one door through which handlers ask Kafka: `/v1/topics…` and dry runs alone.

use futures_util::future::BoxFuture;

use super::problem::{Problem, ProblemCode};
use crate::db::SnapshotRequest;
use crate::snapshot::{
    DryPlan, Failure, FailureKind, Grant, Timestamp, TopicFacts, TopicName, TopicOffsets,
};

/// Asks Kafka, and records nothing.
pub trait AskKafka: Send + Sync {
    /// What a run of this request would find and do.
    fn dry_run<'a>(
        &'a self,
        request: &'a SnapshotRequest,
    ) -> BoxFuture<'a, Result<DryPlan, Failure>>;

    /// The watermarks of a topic's partitions and the boundary of `at`.
    fn offsets<'a>(
        &'a self,
        topic: &'a TopicName,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<TopicOffsets, Failure>>;

    /// The topics that may be snapshot under this grant, by name: at most `limit`, those after
    /// `after`.
    fn topics(
        &self,
        grant: Grant,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TopicFacts>, Failure>>;
}

/// What a caller is told when Kafka could not be asked.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match failure.kind {
            FailureKind::TopicNotFound => ProblemCode::TopicNotFound,
            FailureKind::TopicRecreated
            | FailureKind::KafkaAuth
            | FailureKind::KafkaUnavailable
            | FailureKind::ReadStalled => ProblemCode::KafkaUnavailable,
            FailureKind::DatabaseUnavailable => ProblemCode::DatabaseUnavailable,
            FailureKind::DataLost
            | FailureKind::StorageAuth
            | FailureKind::StorageUnavailable
            | FailureKind::Internal => ProblemCode::Internal,
        };
        Problem::new(code, failure.message)
    }
}

/// A topic's name in a path. One that Kafka's grammar does not allow can't be there.
pub(super) fn topic_in_path(name: &str) -> Result<TopicName, Problem> {
    use crate::snapshot::TopicNameError;
    TopicName::parse(name).map_err(|error| match error {
        TopicNameError::Internal => Problem::new(ProblemCode::TopicNotAllowed, error.to_string()),
        _ => Problem::new(ProblemCode::TopicNotFound, error.to_string()),
    })
}
