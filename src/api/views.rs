//! The shapes of answers. A field that may be null is always there.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::RunError;
use crate::db::{FileRow, PartitionRow, ProgressRow, SnapshotRow};
use crate::snapshot::{Capture, Completeness, OnLoss, PartitionRange, State, Timestamp, Totals};

/// Where the newest run that someone asked for stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = State)]
#[expect(dead_code, reason = "gives the schema of crate::snapshot::State its values")]
pub enum StateSchema {
    /// Accepted; no worker has started it yet.
    Queued,
    /// A worker has started it.
    Running,
    /// All that could be stored is stored.
    Succeeded,
    /// It ended with an error; what was stored stays.
    Failed,
    /// Someone stopped it; what was stored stays.
    Cancelled,
}

/// Whether a snapshot that succeeded may still grow.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Completeness)]
#[expect(dead_code, reason = "gives the schema of crate::snapshot::Completeness its values")]
pub enum CompletenessSchema {
    /// The window and its grace are not over, or a transaction is open.
    Provisional,
    /// All that there is has been stored, but a late event would still be added.
    Settled,
    /// Nothing can be added any more.
    Sealed,
}

/// What a snapshot takes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Capture)]
#[expect(dead_code, reason = "gives the schema of crate::snapshot::Capture its values")]
pub enum CaptureSchema {
    /// The events themselves, as Parquet files.
    Events,
    /// Only the offset ranges.
    Offsets,
}

/// What lost offsets mean for a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OnLoss)]
#[expect(dead_code, reason = "gives the schema of crate::snapshot::OnLoss its values")]
pub enum OnLossSchema {
    /// They are counted and reported.
    Report,
    /// They are counted and reported, what is left is stored, and the run fails.
    Fail,
}

/// One topic, one window, and everything known about it.
#[derive(Serialize, ToSchema)]
pub struct Snapshot {
    /// Public id.
    id: Uuid,
    /// Name of the Kafka cluster.
    #[schema(example = "default")]
    cluster: String,
    /// Name of the topic.
    #[schema(example = "orders")]
    topic: String,
    /// Kafka's id of the topic, once it has been looked at; a topic that was deleted and made
    /// again has another. Empty where the brokers give none.
    #[schema(required, example = "kC3gQ2WbTlmXw5Ovh2XyAQ")]
    topic_id: Option<String>,
    /// First moment of the window.
    #[schema(value_type = String, format = DateTime, example = "2025-07-29T00:00:00.000Z")]
    window_start: Timestamp,
    /// First moment after the window.
    #[schema(value_type = String, format = DateTime, example = "2025-07-30T00:00:00.000Z")]
    window_end: Timestamp,
    /// What is taken.
    #[schema(value_type = CaptureSchema)]
    capture: Capture,
    /// What lost offsets mean.
    #[schema(value_type = OnLossSchema)]
    on_loss: OnLoss,
    /// Labels of the last request.
    labels: BTreeMap<String, String>,
    /// Where the newest run that someone asked for stands.
    #[schema(value_type = StateSchema)]
    state: State,
    /// Whether the snapshot may still grow, as of the last run that succeeded.
    #[schema(value_type = Option<CompletenessSchema>, required)]
    completeness: Option<Completeness>,
    /// Number of the run.
    #[schema(example = 1)]
    run: i32,
    /// When the snapshot was first asked for.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When a worker first took the run up.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Timestamp>,
    /// When the run ended.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Timestamp>,
    /// When anything changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// How far the run is.
    progress: ProgressView,
    /// What the snapshot holds and lacks, as of the last run that succeeded.
    #[schema(required)]
    result: Option<ResultView>,
    /// An error that the run is being tried again for, or that Strandline met when it brought
    /// the snapshot up to date by itself.
    #[schema(required)]
    last_error: Option<RunError>,
    /// Why the run failed.
    #[schema(required)]
    error: Option<RunError>,
    /// Where to go from here.
    links: Links,
}

/// How far a run is.
#[derive(Serialize, ToSchema)]
#[schema(as = Progress)]
pub struct ProgressView {
    /// From 0 to 1; nothing to do is 1.
    #[schema(minimum = 0, maximum = 1, example = 0.42)]
    fraction: f64,
    /// Offsets that the plan found missing and there.
    offsets_total: i64,
    /// Of these, read past.
    offsets_done: i64,
    /// Events read.
    records: i64,
    /// Bytes of files written.
    bytes: i64,
    /// Events a second, over the whole run.
    records_per_second: i64,
    /// Seconds until the run is done at this speed; null while nothing tells.
    #[schema(required)]
    eta_seconds: Option<i64>,
}

/// What a snapshot holds and lacks, over all its runs.
#[derive(Serialize, ToSchema)]
#[schema(as = SnapshotResult)]
pub struct ResultView {
    /// Events of the window that are stored.
    records: i64,
    /// Of these, stored by the last run.
    records_added: i64,
    /// Files that hold them.
    files: i64,
    /// Size of these files in bytes.
    bytes: i64,
    /// Offsets of the window that are gone from the broker and not stored: an upper bound of
    /// lost events.
    lost_offsets: i64,
    /// Partitions in which retention may have taken events of the window before anyone looked.
    uncertain_partitions: i64,
    /// Stored events whose own timestamp is outside the window or missing.
    out_of_window_records: i64,
    /// Stored events stamped so far ahead of time that they are no boundary.
    poison_records: i64,
}

impl From<Totals> for ResultView {
    fn from(totals: Totals) -> Self {
        ResultView {
            records: totals.records,
            records_added: totals.records_added,
            files: totals.files,
            bytes: totals.bytes,
            lost_offsets: totals.lost_offsets,
            uncertain_partitions: totals.uncertain_partitions,
            out_of_window_records: totals.out_of_window_records,
            poison_records: totals.poison_records,
        }
    }
}

/// Paths of what belongs to a snapshot.
#[derive(Serialize, ToSchema)]
pub struct Links {
    /// The snapshot itself.
    #[serde(rename = "self")]
    self_: String,
    /// Its state as a status code.
    result: String,
    /// Its partitions.
    partitions: String,
    /// Its files.
    files: String,
    /// Its events.
    events: String,
}

/// The path of a snapshot.
pub(super) fn snapshot_path(id: Uuid) -> String {
    format!("/v1/snapshots/{id}")
}

impl From<&SnapshotRow> for Snapshot {
    fn from(row: &SnapshotRow) -> Self {
        let path = snapshot_path(row.id);
        Snapshot {
            id: row.id,
            cluster: row.cluster.clone(),
            topic: row.topic.clone(),
            topic_id: row.topic_id.clone(),
            window_start: row.window_start,
            window_end: row.window_end,
            capture: row.capture,
            on_loss: row.on_loss,
            labels: row.labels.clone(),
            state: row.state,
            completeness: row.completeness,
            run: row.run,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            updated_at: row.updated_at,
            progress: progress(row.state, &row.progress),
            result: row.result.map(ResultView::from),
            last_error: row.last_error.as_ref().map(RunError::from),
            error: row.error.as_ref().map(RunError::from),
            links: Links {
                result: format!("{path}/result"),
                partitions: format!("{path}/partitions"),
                files: format!("{path}/files"),
                events: format!("{path}/events"),
                self_: path,
            },
        }
    }
}

fn progress(state: State, row: &ProgressRow) -> ProgressView {
    let total = row.offsets_total.unwrap_or(0);
    let done = row.offsets_done.clamp(0, total);
    let fraction = match (state, row.offsets_total) {
        (State::Succeeded, _) | (_, Some(0)) => 1.0,
        (_, None) => 0.0,
        (_, Some(total)) => done as f64 / total as f64,
    };
    ProgressView {
        fraction,
        offsets_total: total,
        offsets_done: done,
        records: row.records,
        bytes: row.bytes,
        records_per_second: (row.records as f64 / row.elapsed_seconds.max(0.001)) as i64,
        eta_seconds: eta_seconds(state, row),
    }
}

/// How long a run will still take at the speed that it had so far.
pub(super) fn eta_seconds(state: State, row: &ProgressRow) -> Option<i64> {
    let total = row.offsets_total.filter(|_| state == State::Running)?;
    let done = row.offsets_done.clamp(0, total);
    (done > 0).then(|| (row.elapsed_seconds * (total - done) as f64 / done as f64).ceil() as i64)
}

/// One partition of a snapshot.
#[derive(Serialize, ToSchema)]
#[schema(as = SnapshotPartition)]
pub struct Partition {
    /// Number of the partition.
    partition: i32,
    /// First offset of the window.
    start_offset: i64,
    /// First offset after the window; the last stable offset while no later event is known.
    end_offset: i64,
    /// Whether both boundaries are known.
    sealed: bool,
    /// First offset that the broker had when the run ended.
    low_watermark: i64,
    /// Next offset to be written when the run planned.
    high_watermark: i64,
    /// Where the first open transaction began; the high watermark without one.
    last_stable_offset: i64,
    /// Events stored.
    records: i64,
    /// Offsets stored; not every offset holds an event.
    stored_offsets: i64,
    /// Offsets that are gone from the broker and not stored.
    lost_offsets: i64,
    /// Whether retention may have taken events of the window before anyone looked.
    start_uncertain: bool,
    /// Smallest timestamp of the events stored.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    min_timestamp: Option<Timestamp>,
    /// Largest timestamp of the events stored.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    max_timestamp: Option<Timestamp>,
    /// Events whose own timestamp is outside the window or missing.
    out_of_window_records: i64,
    /// Events stamped so far ahead of time that they are no boundary.
    poison_records: i64,
}

impl From<&PartitionRow> for Partition {
    fn from(row: &PartitionRow) -> Self {
        Partition {
            partition: row.partition,
            start_offset: row.range.start(),
            end_offset: row.range.end(),
            sealed: row.sealed,
            low_watermark: row.low_watermark,
            high_watermark: row.high_watermark,
            last_stable_offset: row.last_stable_offset,
            records: row.records,
            stored_offsets: row.stored_offsets,
            lost_offsets: row.lost_offsets,
            start_uncertain: row.start_uncertain,
            min_timestamp: row.min_timestamp,
            max_timestamp: row.max_timestamp,
            out_of_window_records: row.out_of_window_records,
            poison_records: row.poison_records,
        }
    }
}

/// A file that holds events of a snapshot.
#[derive(Serialize, ToSchema)]
#[schema(as = SnapshotFile)]
pub struct File {
    /// Full URL of the object.
    #[schema(example = "file:///var/lib/strandline/files/default/orders/…/….parquet")]
    url: String,
    /// Whether all of the file belongs to the snapshot.
    whole: bool,
    /// Events in the file.
    records: i64,
    /// Of these, events whose offsets belong to the snapshot.
    records_in_window: i64,
    /// Size in bytes.
    bytes: i64,
    /// SHA-256 of the file, in hexadecimal.
    sha256: String,
    /// Smallest timestamp in the file.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    min_timestamp: Option<Timestamp>,
    /// Largest timestamp in the file.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    max_timestamp: Option<Timestamp>,
    /// What of the file belongs to the snapshot.
    segments: Vec<Segment>,
}

/// An offset range of one partition.
#[derive(Serialize, ToSchema)]
pub struct Segment {
    /// Number of the partition.
    partition: i32,
    /// First offset.
    start_offset: i64,
    /// First offset after it.
    end_offset: i64,
}

impl From<&PartitionRange> for Segment {
    fn from(part: &PartitionRange) -> Self {
        Segment {
            partition: part.partition,
            start_offset: part.range.start(),
            end_offset: part.range.end(),
        }
    }
}

impl File {
    pub(super) fn new(row: &FileRow, url: String) -> Self {
        File {
            url,
            whole: row.whole,
            records: row.records,
            records_in_window: row.records_in_window,
            bytes: row.bytes,
            sha256: row.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            min_timestamp: row.min_timestamp,
            max_timestamp: row.max_timestamp,
            segments: row.segments.iter().map(Segment::from).collect(),
        }
    }
}

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    items: Vec<T>,
    /// To be sent as `cursor` for the next part; null with the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` of `rows`, of which one more was asked for to see whether
    /// there is another page.
    pub(super) fn new<R>(
        mut rows: Vec<R>,
        limit: i64,
        cursor: impl Fn(&R) -> String,
        view: impl Fn(&R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(cursor);
        Page { items: rows.iter().map(view).collect(), next_cursor }
    }
}

/// Which Strandline this is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Version {
    /// Version of Strandline.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Commit that it was built from.
    #[schema(example = "4b825dc642cb")]
    pub commit: String,
    /// Version of librdkafka.
    #[schema(example = "2.12.1")]
    pub librdkafka: String,
    /// Version of the database schema that it works with.
    #[schema(example = 1)]
    pub schema_version: u32,
}
