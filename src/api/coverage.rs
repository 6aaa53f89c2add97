//! "Is this day complete?", in one look.

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ApiState;
use super::auth::Caller;
use super::kafka::topic_in_path;
use super::params::{Params, quoted};
use super::problem::{Problem, ProblemCode};
use super::snapshots::json;
use super::views::{CompletenessSchema, StateSchema};
use crate::db::{self, CoveredWindow, KnownIncarnation, SnapshotRequest};
use crate::snapshot::{
    Capture, Completeness, DEFAULT_CLUSTER, FailureKind, OffsetRanges, OnLoss, PartitionPlan,
    PartitionRange, State, Timestamp, TopicName, Window, plan_partition, time_gaps,
};

/// The most windows that one answer tells of.
const MAX_WINDOWS: i64 = 20_000;

/// What is held of a topic in a span of time.
#[derive(Serialize, ToSchema)]
pub struct Coverage {
    /// Name of the cluster.
    cluster: &'static str,
    /// Name of the topic.
    topic: String,
    /// Kafka's id of the incarnation.
    topic_id: String,
    /// First moment of the span.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// First moment after the span.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Whether there is no gap, and nothing missing, provisional, lost or uncertain.
    complete: bool,
    /// Snapshots with events whose windows overlap the span, oldest first.
    windows: Vec<WindowCoverage>,
    /// Time of the span that is in no snapshot that has succeeded, oldest first.
    gaps: Vec<TimeSpan>,
    /// The partitions, by number.
    partitions: Vec<PartitionCoverage>,
}

/// A snapshot whose window overlaps the span.
#[derive(Serialize, ToSchema)]
pub struct WindowCoverage {
    /// Id of the snapshot.
    snapshot_id: Uuid,
    /// First moment of its window.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// First moment after its window.
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
    /// Where its newest asked run stands.
    #[schema(value_type = StateSchema)]
    state: State,
    /// As of its last success; null before the first.
    #[schema(value_type = Option<CompletenessSchema>, required)]
    completeness: Option<Completeness>,
    /// Events stored, as of its last success.
    records: i64,
    /// Offsets lost.
    lost_offsets: i64,
    /// Partitions with an uncertain start.
    uncertain_partitions: i64,
}

/// A span of time.
#[derive(Serialize, ToSchema)]
pub struct TimeSpan {
    /// Its first moment.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// The first moment after it.
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
}

/// What is held of a partition.
#[derive(Serialize, ToSchema)]
pub struct PartitionCoverage {
    /// Number of the partition.
    partition: i32,
    /// First offset that the broker still has.
    low_watermark: i64,
    /// Next offset to be written.
    high_watermark: i64,
    /// Offsets of the span that are stored.
    stored: Vec<Offsets>,
    /// Offsets of the span that are not stored, but still there.
    missing: Vec<Offsets>,
    /// Offsets of the span that are neither stored nor there any more.
    lost: Vec<Offsets>,
}

/// A range of offsets.
#[derive(Serialize, ToSchema)]
#[schema(as = OffsetRange)]
pub struct Offsets {
    /// First offset.
    start_offset: i64,
    /// First offset after it.
    end_offset: i64,
}

/// Get what is held of a topic, and what is not
///
/// Tells what is stored of a topic in a span of time, what is missing but still there, what
/// is lost and what is provisional, per window and per partition.
#[utoipa::path(
    tag = "topics",
    operation_id = "getTopicCoverage",
    responses(
        (status = 200, description = "The coverage", body = Coverage),
    ),
)]
#[get("/v1/topics/{topic}/coverage")]
pub(super) async fn get_topic_coverage(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    topic: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["from", "to", "topic_id"])?;
    let (from, to) = (params.required_time("from")?, params.required_time("to")?);
    let span = Window::new(from, to).map_err(|_| {
        Problem::parameter("to", format!("{to} is not after from, which is {from}"))
    })?;
    let wanted = params.one("topic_id")?;
    if wanted.is_some_and(|id| id.contains('\0')) {
        return Err(Problem::parameter("topic_id", "holds the character U+0000"));
    }
    let topic = topic_in_path(&topic)?;
    caller.check_topic(&topic)?;
    let known = db::find_incarnation(&state.db, DEFAULT_CLUSTER, topic.as_str(), wanted).await?;
    let (topic_id, plans) = look(&state, &topic, &span, known.as_ref(), wanted).await?;
    // The topic may have been made again since a plan or the sealer last met it.
    let current = known.filter(|known| known.topic_id == topic_id);
    let windows = match &current {
        Some(known) => db::covered_windows(&state.db, known.key, &span, MAX_WINDOWS + 1).await?,
        None => Vec::new(),
    };
    if windows.len() as i64 > MAX_WINDOWS {
        let detail =
            format!("more than {MAX_WINDOWS} windows lie in the span; ask for a shorter one");
        return Err(Problem::parameter("to", detail));
    }
    Ok(json(&mut HttpResponse::Ok(), &document(&topic, topic_id, &span, &windows, &plans)))
}

/// What each partition means for the span: by asking Kafka, or, of an incarnation that is
/// gone, by what is recorded.
async fn look(
    state: &ApiState,
    topic: &TopicName,
    span: &Window,
    known: Option<&KnownIncarnation>,
    wanted: Option<&str>,
) -> Result<(String, Vec<PartitionPlan>), Problem> {
    let request = SnapshotRequest {
        cluster: DEFAULT_CLUSTER.to_owned(),
        topic: topic.clone(),
        window: *span,
        capture: Capture::Events,
        on_loss: OnLoss::Report,
        labels: None,
    };
    match state.kafka.dry_run(&request).await {
        Ok(plan) if wanted.is_none_or(|id| id == plan.topic_id) => {
            return Ok((plan.topic_id, plan.partitions));
        }
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::TopicNotFound && known.is_some() => {}
        Err(failure) => return Err(failure.into()),
    }
    let Some(known) = known else {
        let detail = format!(
            "topic {topic} has no known incarnation {}",
            quoted(wanted.unwrap_or_default())
        );
        return Err(Problem::new(ProblemCode::TopicNotFound, detail));
    };
    let recorded = db::recorded_partitions(&state.db, known.key, span).await?;
    let plan = |stored: &std::collections::BTreeMap<i32, OffsetRanges>| -> Vec<PartitionPlan> {
        let nothing = OffsetRanges::new();
        let plan = |partition: &db::RecordedPartition| {
            let stored = stored.get(&partition.look.partition).unwrap_or(&nothing);
            plan_partition(span, partition.look, &partition.facts, stored)
        };
        recorded.iter().map(plan).collect()
    };
    let ranges: Vec<PartitionRange> = plan(&Default::default())
        .iter()
        .map(|plan| PartitionRange { partition: plan.look.partition, range: plan.range })
        .collect();
    let stored = db::stored_events(&state.db, known.key, &ranges).await?;
    Ok((known.topic_id.clone(), plan(&stored)))
}

fn document(
    topic: &TopicName,
    topic_id: String,
    span: &Window,
    windows: &[CoveredWindow],
    plans: &[PartitionPlan],
) -> Coverage {
    let held: Vec<Window> =
        windows.iter().filter(|w| w.completeness.is_some()).map(|w| w.window).collect();
    let gaps = time_gaps(span, &held);
    let all_well = windows.iter().filter(|w| w.completeness.is_some()).all(|w| {
        w.completeness != Some(Completeness::Provisional) && w.totals.uncertain_partitions == 0
    });
    let all_there = plans.iter().all(|plan| plan.to_read.is_empty() && plan.lost.is_empty());
    Coverage {
        cluster: DEFAULT_CLUSTER,
        topic: topic.to_string(),
        topic_id,
        from: span.start(),
        to: span.end(),
        complete: gaps.is_empty() && all_well && all_there,
        windows: windows.iter().map(WindowCoverage::from).collect(),
        gaps: gaps
            .iter()
            .map(|gap| TimeSpan { window_start: gap.start(), window_end: gap.end() })
            .collect(),
        partitions: plans
            .iter()
            .map(|plan| PartitionCoverage {
                partition: plan.look.partition,
                low_watermark: plan.look.low_watermark,
                high_watermark: plan.look.high_watermark,
                stored: offsets(&plan.stored),
                missing: offsets(&plan.to_read),
                lost: offsets(&plan.lost),
            })
            .collect(),
    }
}

fn offsets(ranges: &OffsetRanges) -> Vec<Offsets> {
    ranges
        .iter()
        .map(|range| Offsets { start_offset: range.start(), end_offset: range.end() })
        .collect()
}

impl From<&CoveredWindow> for WindowCoverage {
    fn from(covered: &CoveredWindow) -> Self {
        WindowCoverage {
            snapshot_id: covered.snapshot_id,
            window_start: covered.window.start(),
            window_end: covered.window.end(),
            state: covered.state,
            completeness: covered.completeness,
            records: covered.totals.records,
            lost_offsets: covered.totals.lost_offsets,
            uncertain_partitions: covered.totals.uncertain_partitions,
        }
    }
}
