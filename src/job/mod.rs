//! The story: what workers do with tasks, from plan to finish.
//!
//! [`run`] is the story itself: plan → read → write → commit → finish. [`lease`] keeps a
//! task ours while it lasts, [`worker`] claims tasks and settles how they end, [`sealer`] asks
//! for runs by itself, [`sweeper`] removes what no commit names, unless [`generation`] knows
//! of a database that has forgotten.

mod ask;
mod error;
mod generation;
mod lease;
mod plan;
mod poison;
mod read;
mod run;
mod sealer;
mod sweeper;
mod worker;

use std::sync::Arc;
use std::time::Duration;

pub use ask::{dry_run, topic_offsets, topics};
pub use error::JobError;
pub use generation::{Generation, tell_round};
use sealer::Retentions;
pub use sealer::{seal_round, topic_backlogs};
pub use sweeper::sweep_round;
pub use worker::{WorkSource, work, work_once, work_until_idle};

use tokio_util::sync::CancellationToken;

use crate::db::Database;
use crate::kafka::{KafkaClient, KafkaConfig, KafkaError, ReadLimits, Readers};
use crate::snapshot::FailureKind;
use crate::store::Store;

/// Limits of a replica's work.
#[derive(Clone, Copy, Debug)]
pub struct WorkLimits {
    /// How long a silent worker keeps its task, in seconds.
    pub lease_seconds: u32,
    /// How long retryable errors are retried, in seconds.
    pub retry_seconds: u32,
    /// How long after a window's end it stays provisional, in seconds.
    pub grace_seconds: u32,
    /// Size to aim at for one file, in bytes.
    pub target_file_bytes: u64,
    /// Age at which an object that no commit names is removed, in seconds.
    pub orphan_grace_seconds: u32,
}

/// The shells that work is done with. Cheap to clone.
#[derive(Clone)]
pub struct Shells {
    /// The state.
    pub db: Database,
    /// The events' source.
    pub cluster: Arc<Cluster>,
    /// The events' destination.
    pub store: Store,
    /// Limits.
    pub limits: WorkLimits,
    /// What the store has yet to be told.
    pub generation: Arc<Generation>,
}

/// A Kafka cluster that the settings name.
pub struct Cluster {
    client: KafkaClient,
    readers: Readers,
    retentions: Retentions,
}

impl Cluster {
    /// Prepares clients; asks no broker yet.
    ///
    /// # Errors
    /// [`KafkaError`] if librdkafka refuses the configuration.
    pub fn connect(config: KafkaConfig) -> Result<Self, KafkaError> {
        let client = KafkaClient::connect(&config)?;
        let readers = Readers::new(config, ReadLimits::default());
        Ok(Cluster { client, readers, retentions: Retentions::default() })
    }
}

/// Goes the rounds of sealer and sweeper, again and again, until `stopping`.
pub async fn go_rounds(shells: Shells, interval: Duration, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stopping.cancelled() => return,
        }
        let rounds = async {
            if let Err(error) = seal_round(&shells).await {
                tracing::warn!(%error, "the sealer could not go its round; it will go the next");
            }
            if let Err(error) = tell_round(&shells).await {
                tracing::warn!(%error, "the store could not be told of what was committed; it will be in the next round");
            }
            if let Err(error) = sweep_round(&shells, interval).await {
                tracing::warn!(%error, "the sweeper could not go its round; it will go the next");
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Shells {
    /// Runs a blocking question to Kafka on a thread that may block.
    async fn ask_kafka<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&KafkaClient) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, JobError> {
        let cluster = self.cluster.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&cluster.client)).await;
        answer.map_err(JobError::panicked)?.map_err(JobError::Kafka)
    }
}

/// Says that a kind of failure is about credentials: trying again at once does not help.
const fn ends_at_once(kind: FailureKind) -> bool {
    !kind.is_retryable()
}
