//! Read and write: events go from Kafka straight into a Parquet file in the store.
//!
//! One thread polls the consumer and encodes; the upload runs beside it and takes the bytes
//! as they come, so that memory stays bounded whatever the window holds.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use super::lease::{HeldLease, SharedProgress, Stop};
use super::{Cluster, JobError, Shells};
use crate::data_file::{DataFileError, FileWriter, WriteLimits};
use crate::db::{ClaimedTask, NewFile, NewSegment, Progress};
use crate::fault::{self, Fault};
use crate::kafka::{Flow, RangeReader, ReadEnd, TopicId};
use crate::snapshot::{
    Event, Failure, FailureKind, OffsetRange, PartitionRange, RangeTally, TopicName, Window,
};
use crate::store::layout::object_name;
use crate::store::{ObjectSink, StoreError, UploadHandle};

/// What one file took.
pub(super) struct FileRead {
    /// The file; `None` if there was no event in all that was read.
    pub(super) file: Option<NewFile>,
    /// What was read past.
    pub(super) segments: Vec<NewSegment>,
    /// Whether nothing of the task is left.
    pub(super) rest_empty: bool,
    /// How far the task is with this.
    pub(super) progress: Progress,
}

/// A file that a stopping replica leaves unfinished is kept from this size on (less where
/// files are meant to be small); below it is quicker read again than opened for good.
const WORTH_KEEPING_BYTES: u64 = 1 << 20;

/// How many ranges of a file a trace has.
const RANGES_TOLD: usize = 32;

/// How long no event may come until that is shown. A read fails for it only much later.
const SILENCE_SHOWS_AFTER: Duration = Duration::from_secs(15);

/// Reads the ranges of a task. Moves to a thread that may block and back.
pub(super) struct TaskReader {
    reader: RangeReader,
    /// Files that this attempt has begun.
    files: u32,
}

impl TaskReader {
    /// A reader for a task of so many offsets.
    pub(super) async fn new(
        shells: &Shells,
        task: &ClaimedTask,
        offsets: i64,
    ) -> Result<Self, JobError> {
        let (cluster, topic) = (shells.cluster.clone(), task.topic.clone());
        let made = tokio::task::spawn_blocking(move || cluster.readers.reader(&topic, offsets));
        Ok(TaskReader { reader: made.await.map_err(JobError::panicked)??, files: 0 })
    }

    /// Reads `ranges` into one file, until all is read, the file has its size, or the replica
    /// stops.
    pub(super) async fn read_file(
        mut self,
        shells: &Shells,
        task: &ClaimedTask,
        held: &HeldLease,
        ranges: Vec<PartitionRange>,
        progress: Progress,
    ) -> Result<(Self, FileRead), JobError> {
        self.files += 1;
        let name = object_name(
            &task.cluster,
            &task.topic,
            topic_uuid(task),
            task.window.start(),
            task.lease.attempt_id,
            self.files,
        );
        let put = tracing::info_span!("store.put", bytes = Empty);
        let (sink, upload) = shells.store.sink(&name);
        let pass = Pass {
            cluster: shells.cluster.clone(),
            topic: task.topic.clone(),
            window: task.window,
            target_bytes: shells.limits.target_file_bytes,
            stop: held.stop.clone(),
            shared: held.progress.clone(),
            metadata: metadata(task),
            progress,
            segments: Vec::new(),
        };
        let mut reader = self.reader;
        let files = self.files;
        let read = tracing::info_span!("kafka.read", ranges = told(&ranges), records = Empty);
        let joined = tokio::task::spawn_blocking(move || {
            let done = pass.run(&mut reader, ranges, sink);
            (reader, done)
        });
        let (reader, done) = joined.instrument(read.clone()).await.map_err(JobError::panicked)?;
        if let Ok(end) = &done {
            let tallies = end.file_read.segments.iter().map(|segment| segment.tally.records);
            read.record("records", tallies.sum::<i64>());
        }
        drop(read);
        let file_read = finish_upload(done, upload, name).instrument(put.clone()).await?;
        put.record("bytes", file_read.file.as_ref().map(|file| file.bytes as i64));
        Ok((TaskReader { reader, files }, file_read))
    }
}

/// The ranges for a trace, `partition=start..end`; of many the first few.
fn told(ranges: &[PartitionRange]) -> String {
    let one = |PartitionRange { partition, range }: &PartitionRange| {
        format!("{partition}={}..{}", range.start(), range.end())
    };
    let few: Vec<_> = ranges.iter().take(RANGES_TOLD).map(one).collect();
    few.join(" ")
}

/// If the upload broke, the store's own reason beats the one that the encoder saw.
async fn finish_upload(
    done: Result<PassEnd, JobError>,
    upload: UploadHandle,
    object_name: String,
) -> Result<FileRead, JobError> {
    let (end, uploaded) = match done {
        Err(error @ (JobError::DataFile(_) | JobError::Upload(_))) => {
            return Err(match upload.finish().await {
                Err(StoreError::Abandoned { .. }) | Ok(_) => error,
                Err(cause) => JobError::Store(cause),
            });
        }
        Err(error) => return Err(error),
        Ok(end) if !end.wrote => return Ok(end.file_read),
        Ok(end) => {
            fault::hit(Fault::BeforeUploadEnds);
            (end, upload.finish().await?)
        }
    };
    let mut file_read = end.file_read;
    file_read.progress.bytes += i64::try_from(uploaded.bytes).unwrap_or(i64::MAX);
    file_read.file = Some(NewFile {
        id: Uuid::new_v4(),
        object_name,
        bytes: uploaded.bytes,
        sha256: uploaded.sha256,
    });
    Ok(file_read)
}

/// The topic's id as the object store's names have it; nil where the brokers give none.
fn topic_uuid(task: &ClaimedTask) -> Uuid {
    let id = task.topic_id.as_deref().and_then(|id| id.parse::<TopicId>().ok());
    id.map_or(Uuid::nil(), |id| Uuid::from_bytes(id.bytes()))
}

/// What a file says about itself to whoever finds it alone.
fn metadata(task: &ClaimedTask) -> Vec<(String, String)> {
    [
        ("strandline.cluster", task.cluster.clone()),
        ("strandline.topic", task.topic.to_string()),
        ("strandline.topic_id", task.topic_id.clone().unwrap_or_default()),
        ("strandline.snapshot_id", task.snapshot_id.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

struct PassEnd {
    wrote: bool,
    file_read: FileRead,
}

/// How far a range was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RangeEnd {
    /// To its end.
    Read,
    /// Until the file was full.
    Full,
    /// Until we were told to stop.
    Stopped,
}

/// One pass over ranges, into one file.
struct Pass {
    cluster: Arc<Cluster>,
    topic: TopicName,
    window: Window,
    target_bytes: u64,
    stop: Stop,
    shared: Arc<SharedProgress>,
    metadata: Vec<(String, String)>,
    progress: Progress,
    segments: Vec<NewSegment>,
}

impl Pass {
    fn run(
        mut self,
        reader: &mut RangeReader,
        ranges: Vec<PartitionRange>,
        sink: ObjectSink,
    ) -> Result<PassEnd, JobError> {
        let metadata = std::mem::take(&mut self.metadata);
        let mut file = FileWriter::new(sink, WriteLimits::default(), metadata)?;
        let mut end = RangeEnd::Read;
        reader.expect(ranges.iter().copied());
        let mut rest = ranges.into_iter();
        for PartitionRange { partition, range } in rest.by_ref() {
            end = self.read_range(reader, &mut file, partition, range)?;
            if end != RangeEnd::Read {
                break;
            }
            fault::hit(Fault::RangeRead);
        }
        if end == RangeEnd::Stopped {
            let enough = WORTH_KEEPING_BYTES.min(self.target_bytes / 8);
            if self.stop.lost() || (file.estimated_bytes() as u64) < enough {
                return Err(JobError::Stopping);
            }
        }
        let records: i64 = self.segments.iter().map(|s| s.tally.records).sum();
        let wrote = records > 0;
        if wrote {
            // Without a single event the sink is dropped, which abandons the upload.
            fault::hit(Fault::BeforeFooter);
            file.finish()?.close().map_err(JobError::Upload)?;
        }
        let rest_empty = end == RangeEnd::Read && rest.next().is_none();
        let file_read =
            FileRead { file: None, segments: self.segments, rest_empty, progress: self.progress };
        Ok(PassEnd { wrote, file_read })
    }

    /// Reads one range.
    fn read_range(
        &mut self,
        reader: &mut RangeReader,
        file: &mut FileWriter<ObjectSink>,
        partition: i32,
        mut range: OffsetRange,
    ) -> Result<RangeEnd, JobError> {
        loop {
            let (end, tally) = self.read_stretch(reader, file, partition, range)?;
            let reached = match end {
                ReadEnd::Complete => range.end(),
                ReadEnd::Paused { next_offset }
                | ReadEnd::Stopped { next_offset }
                | ReadEnd::OutOfRange { next_offset } => next_offset,
            };
            let (read, left) = range.split_at(reached);
            if !read.is_empty() {
                self.segments
                    .push(NewSegment { part: PartitionRange { partition, range: read }, tally });
            }
            match end {
                ReadEnd::OutOfRange { next_offset } => {
                    range = left.split_at(self.skip_deleted(partition, next_offset)?).1;
                    if range.is_empty() {
                        return Ok(RangeEnd::Read);
                    }
                }
                ReadEnd::Stopped { .. } => return Ok(RangeEnd::Stopped),
                _ if left.is_empty() => return Ok(RangeEnd::Read),
                _ => return Ok(RangeEnd::Full),
            }
        }
    }

    /// Where to go on when the broker no longer has `next_offset`.
    fn skip_deleted(&self, partition: i32, next_offset: i64) -> Result<i64, JobError> {
        let answers = self.cluster.client.low_watermarks(&self.topic, &[partition])?;
        let low_watermark = answers.first().map_or(next_offset, |(_, low)| *low);
        if low_watermark > next_offset {
            tracing::warn!(
                partition,
                next_offset,
                low_watermark,
                "events were deleted before they were read"
            );
            return Ok(low_watermark);
        }
        Err(JobError::Failed(Failure {
            kind: FailureKind::KafkaUnavailable,
            message: format!(
                "the leader of partition {partition} of topic {} does not have offset {next_offset}, though it says that its log begins at {low_watermark}; a leader change may be under way",
                self.topic
            ),
            partition: Some(partition),
        }))
    }

    fn read_stretch(
        &mut self,
        reader: &mut RangeReader,
        file: &mut FileWriter<ObjectSink>,
        partition: i32,
        range: OffsetRange,
    ) -> Result<(ReadEnd, RangeTally), JobError> {
        let mut tally = RangeTally::default();
        let mut write_error: Option<DataFileError> = None;
        let (before, written_before) = (self.progress, file.bytes_written());
        let silence = Silence::default();
        let mut on_event = |event: &Event<'_>| {
            silence.broken();
            tally.add(event.timestamp, &self.window);
            if let Err(error) = file.push(event) {
                write_error = Some(error);
                return Flow::Break;
            }
            fault::hit(if tally.records == 1 { Fault::FirstEvent } else { Fault::MidRange });
            if tally.records % 1024 == 0 {
                self.shared.set(Progress {
                    offsets_done: before.offsets_done + event.offset - range.start(),
                    records: before.records + tally.records,
                    bytes: before.bytes + (file.bytes_written() - written_before) as i64,
                });
            }
            if file.estimated_bytes() as u64 >= self.target_bytes {
                Flow::Break
            } else {
                Flow::Continue
            }
        };
        let stop = || {
            if silence.is_long() {
                self.shared.wait_for(self.silent(partition, range));
            }
            self.stop.wanted()
        };
        let end = reader.read(partition, range, &mut on_event, &stop)?;
        if let Some(error) = write_error {
            return Err(error.into());
        }
        let reached = match end {
            ReadEnd::Complete => range.end(),
            ReadEnd::Paused { next_offset }
            | ReadEnd::Stopped { next_offset }
            | ReadEnd::OutOfRange { next_offset } => next_offset,
        };
        self.progress.offsets_done += reached - range.start();
        self.progress.records += tally.records;
        self.shared.set(self.progress);
        Ok((end, tally))
    }

    /// What a silence is shown as, long before it counts as a stall.
    fn silent(&self, partition: i32, range: OffsetRange) -> Failure {
        let seconds = SILENCE_SHOWS_AFTER.as_secs();
        Failure {
            kind: FailureKind::ReadStalled,
            message: format!(
                "no event of partition {partition} of topic {} (offsets {} to {}) has come for {seconds} s; waiting for its leader",
                self.topic,
                range.start(),
                range.end()
            ),
            partition: Some(partition),
        }
    }
}

/// Notices that no event comes.
#[derive(Default)]
struct Silence {
    broken: Cell<bool>,
    /// When it began; `None` while events come.
    since: Cell<Option<Instant>>,
    noticed: Cell<bool>,
}

impl Silence {
    /// An event has come.
    fn broken(&self) {
        self.broken.set(true);
    }

    /// Whether it has become long; `true` once in a silence. To be asked often.
    fn is_long(&self) -> bool {
        if self.broken.take() {
            self.since.set(None);
            self.noticed.set(false);
            return false;
        }
        let Some(since) = self.since.get() else {
            self.since.set(Some(Instant::now()));
            return false;
        };
        since.elapsed() >= SILENCE_SHOWS_AFTER && !self.noticed.replace(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_ranges_the_first_ones_are_told() {
        let range = |partition| PartitionRange { partition, range: OffsetRange::new(5, 7) };
        let of = |partitions| told(&(0..partitions).map(range).collect::<Vec<_>>());
        assert_eq!(of(2), "0=5..7 1=5..7");
        assert_eq!(of(33), of(32));
        assert_eq!(of(32).split(' ').count(), RANGES_TOLD);
    }
}
