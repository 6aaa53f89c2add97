//! The shape of a dry run's answer.

use actix_web::http::header::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

use super::views::CompletenessSchema;
use crate::db::SnapshotRequest;
use crate::snapshot::{Completeness, DryPlan, PartitionPlan, Timestamp};

/// A media type of its own, so that each media type of the answer has one schema.
pub(super) const PLAN_MEDIA_TYPE: HeaderValue =
    HeaderValue::from_static("application/vnd.strandline.plan+json");

/// What a run would find and do.
#[derive(Serialize, ToSchema)]
pub struct Plan {
    /// Name of the Kafka cluster.
    cluster: String,
    /// Name of the topic.
    topic: String,
    /// Kafka's id of the topic; empty where the brokers give none.
    topic_id: String,
    /// First moment of the window.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// First moment after the window.
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
    /// How complete the snapshot would be.
    #[schema(value_type = CompletenessSchema)]
    completeness: Completeness,
    /// Offsets that are missing and still there.
    offsets_to_read: i64,
    /// Offsets that are stored already.
    offsets_stored: i64,
    /// Offsets that are gone and not stored.
    lost_offsets: i64,
    /// Partitions in which retention may have taken events before anyone looked.
    uncertain_partitions: i64,
    /// The partitions, by number.
    partitions: Vec<PlannedPartition>,
}

/// What a window means in one partition.
#[derive(Serialize, ToSchema)]
pub struct PlannedPartition {
    /// Number of the partition.
    partition: i32,
    /// First offset of the window.
    start_offset: i64,
    /// First offset after the window; the last stable offset while no later event is known.
    end_offset: i64,
    /// Whether both boundaries are known.
    sealed: bool,
    /// First offset that the broker still has.
    low_watermark: i64,
    /// Next offset to be written.
    high_watermark: i64,
    /// Where the first open transaction begins; the high watermark without one.
    last_stable_offset: i64,
    /// Offsets that are stored already.
    stored_offsets: i64,
    /// Offsets that are missing and still there.
    offsets_to_read: i64,
    /// Offsets that are gone and not stored.
    lost_offsets: i64,
    /// Whether retention may have taken events of the window before anyone looked.
    start_uncertain: bool,
}

impl Plan {
    pub(super) fn new(request: &SnapshotRequest, plan: &DryPlan) -> Self {
        let sum = |of: fn(&PartitionPlan) -> i64| plan.partitions.iter().map(of).sum();
        Plan {
            cluster: request.cluster.clone(),
            topic: request.topic.to_string(),
            topic_id: plan.topic_id.clone(),
            window_start: request.window.start(),
            window_end: request.window.end(),
            completeness: plan.completeness,
            offsets_to_read: sum(|partition| partition.to_read.len()),
            offsets_stored: sum(|partition| partition.stored.len()),
            lost_offsets: sum(|partition| partition.lost.len()),
            uncertain_partitions: sum(|partition| i64::from(partition.start_uncertain)),
            partitions: plan.partitions.iter().map(PlannedPartition::from).collect(),
        }
    }
}

impl From<&PartitionPlan> for PlannedPartition {
    fn from(plan: &PartitionPlan) -> Self {
        PlannedPartition {
            partition: plan.look.partition,
            start_offset: plan.range.start(),
            end_offset: plan.range.end(),
            sealed: plan.sealed,
            low_watermark: plan.look.low_watermark,
            high_watermark: plan.look.high_watermark,
            last_stable_offset: plan.look.last_stable_offset,
            stored_offsets: plan.stored.len(),
            offsets_to_read: plan.to_read.len(),
            lost_offsets: plan.lost.len(),
            start_uncertain: plan.start_uncertain,
        }
    }
}
