//! The sealer: brings snapshots that may still grow up to date by itself.
//!
//! An idle partition can stay unsealed for months, so a round asks for watermarks once per
//! topic, not per window, and only where one has moved is a snapshot run once more. The run
//! is one like any other; it shows only if it succeeds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::plan::topic_id;
use super::{JobError, Shells};
use crate::db::{self, DbError, WatchedTopic};
use crate::fault::{self, Fault};
use crate::metrics::TopicBacklog;
use crate::snapshot::FailureKind;

/// Looks at every topic that snapshots are about, once. Gives how many runs it queued.
///
/// # Errors
/// [`DbError`]; what goes wrong with one topic is logged and does not keep it from the others.
pub async fn seal_round(shells: &Shells) -> Result<u64, DbError> {
    let mut queued = 0;
    for watched in db::watched_topics(&shells.db).await? {
        match seal_topic(shells, &watched).await {
            Ok(runs) => queued += runs,
            Err(JobError::Db(error)) => return Err(error),
            Err(error) => match error.failure() {
                // A topic that is gone leaves its snapshots as they are.
                Some(failure) if failure.kind == FailureKind::TopicNotFound => {
                    tracing::debug!(topic = %watched.topic, "the topic is gone");
                }
                _ => {
                    tracing::warn!(%error, topic = %watched.topic, "the sealer can't look at a topic")
                }
            },
        }
    }
    Ok(queued)
}

/// For how long Kafka keeps the events of topics, in milliseconds, as the last rounds heard; by our
/// key. For people to watch: it decides nothing.
#[derive(Default)]
pub(super) struct Retentions(Mutex<HashMap<i64, i64>>);

impl Retentions {
    fn keep(&self, topic: i64, retention_ms: Option<i64>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match retention_ms {
            Some(ms) if ms >= 0 => kept.insert(topic, ms),
            _ => kept.remove(&topic),
        };
    }

    fn seconds(&self, topic: i64) -> Option<f64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&topic).map(|ms| *ms as f64 / 1000.0)
    }
}

/// What the snapshots of all topics wait for. Asks Postgres alone: Kafka may be away, which is when
/// it matters.
///
/// # Errors
/// [`DbError`].
pub async fn topic_backlogs(shells: &Shells) -> Result<Vec<TopicBacklog>, DbError> {
    let watched = db::watched_topics(&shells.db).await?;
    let known: Vec<(i64, String, Option<f64>)> = watched
        .iter()
        .map(|it| (it.key, it.topic.to_string(), shells.cluster.retentions.seconds(it.key)))
        .collect();
    db::topic_backlogs(&shells.db, &known).await
}

async fn seal_topic(shells: &Shells, watched: &WatchedTopic) -> Result<u64, JobError> {
    let topic = watched.topic.clone();
    let (described, watermarks) = shells
        .ask_kafka(move |kafka| {
            let described = kafka.describe_topic(&topic)?;
            let watermarks = kafka.watermarks(&topic, &described.partitions)?;
            Ok((described, watermarks))
        })
        .await?;
    let topic_id = topic_id(&described);
    if topic_id != watched.topic_id {
        tracing::info!(topic = %watched.topic, "the topic was deleted and made again");
        let name = watched.topic.as_str();
        db::record_incarnation(&shells.db, &watched.cluster, name, &topic_id).await?;
        return Ok(0);
    }
    shells.cluster.retentions.keep(watched.key, described.retention_ms);
    let seen: Vec<(i32, i64)> =
        watermarks.iter().map(|w| (w.partition, w.last_stable_offset)).collect();
    fault::hit(Fault::Sealing);
    let grace_seconds = shells.limits.grace_seconds;
    let queued = db::queue_due_runs(&shells.db, watched.key, &seen, grace_seconds).await?;
    if queued > 0 {
        tracing::info!(topic = %watched.topic, queued, "snapshots are brought up to date");
    }
    Ok(queued)
}
