//! Topics: which there are, where they begin and end, and their files.

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ApiState;
use super::auth::Caller;
use super::kafka::topic_in_path;
use super::params::{Params, encode_cursor};
use super::problem::Problem;
use super::snapshots::json;
use super::views::{File, Page};
use crate::db::{self, TopicFileRow, TopicPlace};
use crate::snapshot::{DEFAULT_CLUSTER, Timestamp, TimestampType};

/// Whose clock stamps a topic's records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TimestampType)]
enum TimestampTypeView {
    /// The producers' word.
    CreateTime,
    /// The broker's clock.
    LogAppendTime,
}

impl From<TimestampType> for TimestampTypeView {
    fn from(kind: TimestampType) -> Self {
        match kind {
            TimestampType::CreateTime => TimestampTypeView::CreateTime,
            TimestampType::LogAppendTime => TimestampTypeView::LogAppendTime,
        }
    }
}

/// A topic that may be snapshot.
#[derive(Serialize, ToSchema)]
pub struct Topic {
    /// Name of the cluster.
    #[schema(example = "default")]
    cluster: &'static str,
    /// Name of the topic.
    #[schema(example = "orders")]
    topic: String,
    /// Kafka's id of it; empty where the brokers give none.
    topic_id: String,
    /// How many partitions it has.
    partitions: usize,
    /// Whose clock stamps its records; null where that may not be read.
    #[schema(required)]
    timestamp_type: Option<TimestampTypeView>,
    /// How long records are kept, in milliseconds; null for good, or where that may not be read.
    #[schema(required)]
    retention_ms: Option<i64>,
    /// How many snapshots there are, of all incarnations.
    snapshots: i64,
    /// First moment of the oldest window.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    oldest_window_start: Option<Timestamp>,
    /// End of the newest window.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    newest_window_end: Option<Timestamp>,
}

/// List the topics that may be snapshot
///
/// Lists the topics that may be snapshot, by name, with what there is of each.
#[utoipa::path(
    tag = "topics",
    operation_id = "listTopics",
    responses(
        (status = 200, description = "A page", body = Page<Topic>),
    ),
)]
#[get("/v1/topics")]
pub(super) async fn list_topics(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["limit", "cursor"])?;
    let limit = params.limit()?;
    let after = params.cursor(|name| (!name.is_empty()).then(|| name.to_owned()))?;
    let most = usize::try_from(limit + 1).unwrap_or(usize::MAX);
    let facts = state.kafka.topics(caller.grant().clone(), after, most).await?;
    let names: Vec<&str> = facts.iter().map(|topic| topic.topic.as_str()).collect();
    let held = db::topic_snapshots(&state.db, DEFAULT_CLUSTER, &names).await?;
    let topics: Vec<_> = facts.iter().zip(held).collect();
    let view = |(facts, held): &(&crate::snapshot::TopicFacts, db::TopicSnapshots)| Topic {
        cluster: DEFAULT_CLUSTER,
        topic: facts.topic.to_string(),
        topic_id: facts.topic_id.clone(),
        partitions: facts.partitions,
        timestamp_type: facts.timestamp_type.map(TimestampTypeView::from),
        retention_ms: facts.retention_ms,
        snapshots: held.snapshots,
        oldest_window_start: held.oldest_window_start,
        newest_window_end: held.newest_window_end,
    };
    let page = Page::new(topics, limit, |(facts, _)| encode_cursor(&facts.topic), view);
    Ok(json(&mut HttpResponse::Ok(), &page))
}

/// Where a topic's partitions begin and end, and the boundary of one time.
#[derive(Serialize, ToSchema)]
pub struct TopicOffsets {
    /// Name of the cluster.
    cluster: &'static str,
    /// Name of the topic.
    topic: String,
    /// Kafka's id of it.
    topic_id: String,
    /// The time that was looked up.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The partitions, by number.
    partitions: Vec<PartitionOffsets>,
}

/// Where a partition begins and ends, and the boundary of one time.
#[derive(Serialize, ToSchema)]
pub struct PartitionOffsets {
    /// Number of the partition.
    partition: i32,
    /// First offset that the broker still has.
    low_watermark: i64,
    /// Next offset to be written.
    high_watermark: i64,
    /// Where the first open transaction begins; the high watermark without one.
    last_stable_offset: i64,
    /// First offset with a timestamp at or after the time; null if there is none.
    #[schema(required)]
    offset: Option<i64>,
}

/// Get watermarks and the boundary of a time
///
/// Asks Kafka where a topic's partitions begin and end, and for the boundary of a time.
#[utoipa::path(
    tag = "topics",
    operation_id = "getTopicOffsets",
    responses(
        (status = 200, description = "The offsets", body = TopicOffsets),
    ),
)]
#[get("/v1/topics/{topic}/offsets")]
pub(super) async fn get_topic_offsets(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    topic: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["at"])?;
    let at = params.required_time("at")?;
    let topic = topic_in_path(&topic)?;
    caller.check_topic(&topic)?;
    let offsets = state.kafka.offsets(&topic, at).await?;
    let partitions = offsets.partitions.iter().map(|look| PartitionOffsets {
        partition: look.partition,
        low_watermark: look.low_watermark,
        high_watermark: look.high_watermark,
        last_stable_offset: look.last_stable_offset,
        offset: look.start_answer,
    });
    let document = TopicOffsets {
        cluster: DEFAULT_CLUSTER,
        topic: topic.to_string(),
        topic_id: offsets.topic_id.clone(),
        at,
        partitions: partitions.collect(),
    };
    Ok(json(&mut HttpResponse::Ok(), &document))
}

/// A file of a topic.
#[derive(Serialize, ToSchema)]
pub struct TopicFile {
    /// The file; all of it counts.
    #[serde(flatten)]
    file: File,
    /// Kafka's id of the topic.
    topic_id: String,
    /// The snapshot whose run wrote it.
    snapshot_id: Uuid,
}

/// List the files of a topic by the time of their events
///
/// Lists every stored file, of all incarnations of the topic, that can hold an event whose
/// own timestamp is in `[from, to)`. Filter its rows on the column `timestamp`.
#[utoipa::path(
    tag = "topics",
    operation_id = "listTopicFiles",
    responses(
        (status = 200, description = "A page", body = Page<TopicFile>),
    ),
)]
#[get("/v1/topics/{topic}/files")]
pub(super) async fn list_topic_files(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    topic: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["from", "to", "limit", "cursor"])?;
    let times = (params.time("from")?, params.time("to")?);
    let limit = params.limit()?;
    let after = params.cursor(read_place)?;
    let topic = topic_in_path(&topic)?;
    caller.check_topic(&topic)?;
    let page = db::Page { after, limit: limit + 1 };
    let rows =
        db::list_topic_files(&state.db, DEFAULT_CLUSTER, topic.as_str(), times, page).await?;
    let cursor = |row: &TopicFileRow| {
        let first = row.file.segments.first();
        let (partition, offset) = first.map_or((0, 0), |part| (part.partition, part.range.start()));
        encode_cursor(format_args!("{} {partition} {offset}", row.topic))
    };
    let view = |row: &TopicFileRow| TopicFile {
        file: File::new(&row.file, state.store.url(&row.file.object_name)),
        topic_id: row.topic_id.clone(),
        snapshot_id: row.snapshot_id,
    };
    Ok(json(&mut HttpResponse::Ok(), &Page::new(rows, limit, cursor, view)))
}

fn read_place(text: &str) -> Option<TopicPlace> {
    let mut parts = text.split(' ');
    let place =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(place)
}
