//! Questions that only Kafka can answer, for those who look before they ask: nothing of this
//! is recorded.

use super::plan::{Looked, look, observe, plan_partitions, topic_id};
use super::{JobError, Shells};
use crate::db::{PlanTransaction, SnapshotRequest};
use crate::snapshot::{
    Completeness, DryPlan, Grant, PartitionEnd, PartitionLook, Timestamp, TopicFacts, TopicName,
    TopicOffsets, completeness,
};

/// What a run of this request would find and do.
///
/// # Errors
/// Those of Kafka and Postgres.
pub async fn dry_run(shells: &Shells, request: &SnapshotRequest) -> Result<DryPlan, JobError> {
    let Looked { described, looks, .. } =
        look(shells, &request.cluster, &request.topic, request.window).await?;
    let mut client = shells.db.client().await?;
    // Dropped without a commit: what is recorded in here never happened.
    let tx = PlanTransaction::begin_dry(&mut client).await?;
    let topic = observe(&tx, &request.cluster, &request.topic, &described).await?;
    let plans = plan_partitions(&tx, &request.window, request.capture, &topic, &looks).await?;
    let grace_over_at = request.window.end().plus_seconds(u64::from(shells.limits.grace_seconds));
    let ends = plans.iter().map(|plan| PartitionEnd {
        sealed: plan.sealed,
        transaction_open: plan.look.last_stable_offset < plan.look.high_watermark,
    });
    let completeness: Completeness = completeness(ends, tx.now().await?, grace_over_at);
    Ok(DryPlan { topic_id: topic_id(&described), completeness, partitions: plans })
}

/// The watermarks of each partition and the boundary of `at`.
///
/// # Errors
/// Those of Kafka.
pub async fn topic_offsets(
    shells: &Shells,
    topic: &TopicName,
    at: Timestamp,
) -> Result<TopicOffsets, JobError> {
    let topic = topic.clone();
    shells
        .ask_kafka(move |kafka| {
            let described = kafka.describe_topic(&topic)?;
            let watermarks = kafka.watermarks(&topic, &described.partitions)?;
            let boundaries = kafka.boundaries(&topic, &described.partitions, at)?;
            let looks = watermarks.iter().zip(boundaries).map(|(w, (_, answer))| PartitionLook {
                partition: w.partition,
                low_watermark: w.low_watermark,
                high_watermark: w.high_watermark,
                last_stable_offset: w.last_stable_offset,
                start_answer: answer.map(|found| found.offset),
                end_answer: None,
                start_timestamp: answer.and_then(|found| found.timestamp),
                end_timestamp: None,
                newest: None,
            });
            Ok(TopicOffsets { topic_id: topic_id(&described), partitions: looks.collect() })
        })
        .await
}

/// The topics that may be snapshot under this grant, by name: at most `limit`, those after
/// `after`.
///
/// # Errors
/// Those of Kafka.
pub async fn topics(
    shells: &Shells,
    grant: Grant,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<TopicFacts>, JobError> {
    shells
        .ask_kafka(move |kafka| {
            let mut names: Vec<TopicName> = kafka
                .list_topics()?
                .iter()
                .filter(|summary| grant.covers(&summary.topic))
                .filter(|summary| after.as_ref().is_none_or(|after| summary.topic > *after))
                .filter_map(|summary| TopicName::parse(&summary.topic).ok())
                .collect();
            names.sort();
            names.truncate(limit);
            let mut facts = Vec::with_capacity(names.len());
            for topic in names {
                let described = match kafka.describe_topic(&topic) {
                    Ok(described) => described,
                    // Deleted while we looked.
                    Err(crate::kafka::KafkaError::TopicNotFound { .. }) => continue,
                    Err(error) => return Err(error),
                };
                facts.push(TopicFacts {
                    topic,
                    topic_id: topic_id(&described),
                    partitions: described.partitions.len(),
                    timestamp_type: described.timestamp_type,
                    retention_ms: described.retention_ms.filter(|ms| *ms >= 0),
                });
            }
            Ok(facts)
        })
        .await
}
