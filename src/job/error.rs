//! How a task can end other than well.

use crate::data_file::DataFileError;
use crate::db::DbError;
use crate::kafka::KafkaError;
use crate::snapshot::{Failure, FailureKind};
use crate::store::StoreError;

/// How a task ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The lease is gone: another worker has the task, or the run has ended.
    #[error("the lease is gone")]
    LeaseLost,
    /// This replica is stopping.
    #[error("this replica is stopping")]
    Stopping,
    /// One worker after the other died over the task.
    #[error(
        "the workers of a task died {deaths} times in a row (killed, out of memory, crashed?); their logs and the system's tell of what"
    )]
    DiedTooOften {
        /// How many did.
        deaths: i32,
    },
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Encoding or decoding a file.
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    /// The upload took no more; why, the upload itself knows.
    #[error("the upload broke off: {0}")]
    Upload(#[source] std::io::Error),
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Postgres.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A failure that was decided here.
    #[error("{0}")]
    Failed(Failure),
}

impl JobError {
    /// A thread that worked for us panicked.
    pub(super) fn panicked(error: tokio::task::JoinError) -> Self {
        tracing::error!(%error, "a worker's thread panicked");
        JobError::defect()
    }

    /// A panic, which the log has told of.
    pub(super) fn defect() -> Self {
        JobError::Failed(Failure::new(
            FailureKind::Internal,
            "a worker met a defect of strandline; its log has the details",
        ))
    }

    /// What is stored and shown of it; `None` if it is no failure of the run.
    pub fn failure(&self) -> Option<Failure> {
        let (kind, partition) = match self {
            JobError::LeaseLost | JobError::Stopping => return None,
            JobError::Failed(failure) => return Some(failure.clone()),
            JobError::DiedTooOften { .. } => (FailureKind::Internal, None),
            JobError::Kafka(error) => (error.failure_kind(), error.partition()),
            JobError::Upload(_) => (FailureKind::StorageUnavailable, None),
            JobError::DataFile(error) => {
                let behind = StoreError::behind(error);
                (behind.map_or(FailureKind::Internal, StoreError::failure_kind), None)
            }
            JobError::Store(error) => (error.failure_kind(), None),
            JobError::Db(error) => (error.failure_kind(), None),
        };
        Some(Failure { kind, message: self.to_string(), partition })
    }
}
