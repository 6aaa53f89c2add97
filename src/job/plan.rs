//! Plan: ask Kafka once, record what it says, make the tasks. Execution has no choices left.

use std::collections::BTreeMap;

use tracing::Instrument;

use super::poison::judge;
use super::{JobError, Shells};
use crate::db::{self, ClaimedTask, KnownTopic, PlanTransaction, SeenTopic};
use crate::fault::{self, Fault};
use crate::kafka::TopicDescription;
use crate::snapshot::{
    Capture, Failure, FailureKind, OffsetRanges, PartitionLook, PartitionPlan, PartitionRange,
    PoisonRecord, TimestampType, TopicName, Window, offsets_per_task, plan_partition,
    split_into_tasks,
};

/// What an event takes in a file, as long as no file of its topic tells: tasks are cut by
/// offsets, and a file is closed when it has reached its size whatever its task still holds.
const ASSUMED_BYTES_PER_OFFSET: f64 = 256.0;

/// What the topic's files may tell: a few tiny ones are mostly frame, and a task of very many
/// small events would keep one worker busy for long.
const BYTES_PER_OFFSET: std::ops::RangeInclusive<f64> = 16.0..=1_048_576.0;

/// How often a topic that changes under our hands is looked at again.
const MAX_LOOKS: u32 = 3;

/// Plans a run.
pub(super) async fn plan(shells: &Shells, task: &ClaimedTask) -> Result<(), JobError> {
    let Looked { described, looks, poison } =
        look(shells, &task.cluster, &task.topic, task.window).await?;
    fault::hit(Fault::AfterLook);
    let mut client = shells.db.client().await?;
    let Some(tx) = PlanTransaction::begin(&mut client, task.lease).await? else {
        return Err(JobError::LeaseLost);
    };
    let topic = observe(&tx, &task.cluster, &task.topic, &described).await?;
    if task.topic_key.is_some_and(|key| key != topic.key) {
        tx.commit_observations().await?;
        return Err(JobError::Failed(recreated(task)));
    }
    tx.bind_snapshot(task.snapshot_id, topic.key).await?;
    tx.record_verdicts(topic.key, &poison).await?;
    let plans = plan_partitions(&tx, &task.window, task.capture, &topic, &looks).await?;
    tx.record_partitions(task, topic.key, &plans).await?;
    fault::hit(Fault::InPlan);
    let to_read: Vec<PartitionRange> = plans.iter().flat_map(ranges_to_read).collect();
    let (least, most) = (*BYTES_PER_OFFSET.start(), *BYTES_PER_OFFSET.end());
    let bytes_per_offset = tx.bytes_per_record(topic.key).await?.map(|b| b.clamp(least, most));
    let offsets_per_file = shells.limits.target_file_bytes as f64
        / bytes_per_offset.unwrap_or(ASSUMED_BYTES_PER_OFFSET);
    let offsets: i64 = to_read.iter().map(|part| part.range.len()).sum();
    let each = offsets_per_task(offsets, (offsets_per_file as i64).max(1));
    let tasks = split_into_tasks(&to_read, each);
    tx.record_work(task, topic.key, &tasks).await?;
    fault::hit(Fault::BeforePlanCommit);
    tx.commit(task.lease).await?;
    fault::hit(Fault::AfterPlan);
    tracing::info!(partitions = plans.len(), offsets, tasks = tasks.len(), "planned");
    Ok(())
}

/// Records the topic as it is described.
pub(super) async fn observe(
    tx: &PlanTransaction<'_>,
    cluster: &str,
    name: &TopicName,
    described: &TopicDescription,
) -> Result<KnownTopic, JobError> {
    let topic_id = topic_id(described);
    let seen = SeenTopic {
        cluster,
        name: name.as_str(),
        topic_id: &topic_id,
        timestamp_type: described.timestamp_type,
        retention_ms: described.retention_ms,
    };
    Ok(tx.observe_topic(&seen).await?)
}

/// Kafka's id of a topic, empty where the brokers give none.
pub(super) fn topic_id(described: &TopicDescription) -> String {
    described.topic_id.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// What a look at a topic showed.
pub(super) struct Looked {
    pub(super) described: TopicDescription,
    pub(super) looks: Vec<PartitionLook>,
    pub(super) poison: Vec<PoisonRecord>,
}

/// Asks for the topic, then for its offsets, then for the topic again: only if both are the
/// same incarnation do the offsets belong to it.
pub(super) async fn look(
    shells: &Shells,
    cluster: &str,
    name: &TopicName,
    window: Window,
) -> Result<Looked, JobError> {
    for _ in 0..MAX_LOOKS {
        let seen = db::seen_high_watermarks(&shells.db, cluster, name.as_str()).await?;
        let topic = name.clone();
        let (before, mut looks, after) = shells
            .ask_kafka(move |kafka| {
                let before = kafka.describe_topic(&topic)?;
                let looks = kafka.look(&topic, &before.partitions, &window)?;
                let after = kafka.topic_id(&topic)?;
                Ok((before, looks, after))
            })
            .instrument(tracing::info_span!("kafka.look", topic = %name))
            .await?;
        if before.topic_id == after {
            let topic_id = topic_id(&before);
            check_watermarks(name, &topic_id, seen, &looks)?;
            let topic = (cluster, name, topic_id.as_str());
            let (poison, now) = judge(shells, topic, &window, &mut looks).await?;
            // The grace is the margin for clocks that differ.
            let grace = u64::from(shells.limits.grace_seconds);
            if before.timestamp_type == Some(TimestampType::LogAppendTime)
                && now >= window.end().plus_seconds(grace)
            {
                looks.iter_mut().for_each(PartitionLook::close_by_clock);
            }
            return Ok(Looked { described: before, looks, poison });
        }
    }
    Err(JobError::Failed(Failure::new(
        FailureKind::TopicRecreated,
        format!("topic {name} was deleted and made again {MAX_LOOKS} times while it was looked at"),
    )))
}

/// The failure of a run whose topic is another one now.
pub(super) fn recreated(task: &ClaimedTask) -> Failure {
    Failure::new(
        FailureKind::TopicRecreated,
        format!(
            "topic {} was deleted and made again; what is stored of the old one stays, send the same request again for a snapshot of the new one",
            task.topic
        ),
    )
}

/// A log that ends below what was seen of it is not the log that was seen: old offsets
/// would pass for new ones. Brokers without topic ids tell a new incarnation only so.
fn check_watermarks(
    name: &TopicName,
    topic_id: &str,
    seen: Option<(String, BTreeMap<i32, i64>)>,
    looks: &[PartitionLook],
) -> Result<(), JobError> {
    let Some((_, seen)) = seen.filter(|(seen_id, _)| seen_id == topic_id) else { return Ok(()) };
    let went_back = looks.iter().find_map(|look| {
        let seen = *seen.get(&look.partition)?;
        (look.high_watermark < seen).then_some((look, seen))
    });
    match went_back {
        None => Ok(()),
        Some((look, seen)) => Err(JobError::Failed(Failure {
            kind: FailureKind::TopicRecreated,
            message: format!(
                "partition {} of topic {} now ends at offset {}, but {} had been seen: the topic was made again or an unclean leader election cut its log",
                look.partition, name, look.high_watermark, seen
            ),
            partition: Some(look.partition),
        })),
    }
}

/// Records the look and works out, with all that was recorded before, what each partition
/// means for the window.
pub(super) async fn plan_partitions(
    tx: &PlanTransaction<'_>,
    window: &Window,
    capture: Capture,
    topic: &KnownTopic,
    looks: &[PartitionLook],
) -> Result<Vec<PartitionPlan>, JobError> {
    tx.record_look(topic, window, looks).await?;
    let facts = tx.facts(topic.key, window, looks).await?;
    let plan = |look: &PartitionLook, stored: &BTreeMap<i32, OffsetRanges>| {
        let nothing = OffsetRanges::new();
        let facts = facts.get(&look.partition).map(Vec::as_slice).unwrap_or_default();
        let stored = stored.get(&look.partition).unwrap_or(&nothing);
        plan_partition(window, *look, facts, stored)
    };
    let ranges: Vec<PartitionRange> = looks
        .iter()
        .map(|look| PartitionRange {
            partition: look.partition,
            range: plan(look, &BTreeMap::new()).range,
        })
        .collect();
    let stored = tx.stored(topic.key, capture, &ranges).await?;
    Ok(looks.iter().map(|look| plan(look, &stored)).collect())
}

fn ranges_to_read(plan: &PartitionPlan) -> Vec<PartitionRange> {
    let partition = plan.look.partition;
    plan.to_read.iter().map(|range| PartitionRange { partition, range }).collect()
}
