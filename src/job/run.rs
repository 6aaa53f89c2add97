//! A run on one screen: plan → read → write → commit → finish.
//!
//! ```text
//! plan    boundaries and watermarks from Kafka, ranges and tasks into Postgres
//! read    what is left of a task's ranges, straight into a Parquet file in the store
//! commit  file, segments and the task's end in one Postgres transaction
//! finish  what is gone by now, what the snapshot holds, how complete it is
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tracing::Instrument;

use super::lease::HeldLease;
use super::plan::{plan, recreated};
use super::read::{FileRead, TaskReader};
use super::{JobError, Shells};
use crate::data_file;
use crate::db::{
    self, ClaimedTask, CommitOutcome, Cut, EndedRun, Finished, LastOfTask, Loss, NewFile,
    PlannedPartition, Progress, StoredCut, TaskKind,
};
use crate::fault::{self, Fault};
use crate::metrics;
use crate::snapshot::{
    Failure, FailureKind, OffsetRange, OffsetRanges, OnLoss, PartitionRange, Totals, completeness,
};
use crate::story;

/// How often a file is committed before the task is put back.
const MAX_COMMITS: u32 = 5;

/// Does one task.
pub(super) async fn do_task(
    shells: &Shells,
    task: &ClaimedTask,
    held: &HeldLease,
) -> Result<(), JobError> {
    match task.kind {
        TaskKind::Plan => plan(shells, task).await,
        TaskKind::Read => read(shells, task, held).await,
        TaskKind::Finish => finish(shells, task).await,
    }
}

/// Reads what is left of a task, file by file, until nothing is.
async fn read(shells: &Shells, task: &ClaimedTask, held: &HeldLease) -> Result<(), JobError> {
    let topic = task.topic_key.ok_or(db::DbError::unexpected("snapshots.topic"))?;
    let planned: i64 = ranges_len(&db::task_ranges(&shells.db, task.lease.task_id).await?);
    let mut reader = TaskReader::new(shells, task, planned).await?;
    fault::hit(Fault::ReaderMade);
    let mut progress = Progress::default();
    loop {
        if held.stop.wanted() {
            return Err(JobError::Stopping);
        }
        let unread = db::unread_ranges(&shells.db, task, topic).await?;
        progress.offsets_done = planned - ranges_len(&unread);
        let (back, file_read) = reader.read_file(shells, task, held, unread, progress).await?;
        reader = back;
        fault::hit(Fault::AfterUpload);
        check_incarnation(shells, task).await?;
        let committed = commit(shells, task, held, topic, &file_read).await;
        shells.generation.committed();
        match committed? {
            CommitOutcome::LeaseLost => {
                discard(shells, file_read.file.as_ref()).await;
                return Err(JobError::LeaseLost);
            }
            // Another window's run was quicker with some of it: what is left is asked anew.
            CommitOutcome::Conflict => discard(shells, file_read.file.as_ref()).await,
            CommitOutcome::Committed => {
                let records = file_read.segments.iter().map(|segment| segment.tally.records).sum();
                metrics::stored(file_read.file.as_ref().map(|f| f.bytes), records);
                progress = file_read.progress;
                if file_read.rest_empty {
                    return Ok(());
                }
                fault::hit(Fault::BetweenFiles);
            }
        }
    }
}

/// Commits what was read. Where the answer is lost, finds out what became of it, and commits
/// again only if that is nothing.
async fn commit(
    shells: &Shells,
    task: &ClaimedTask,
    held: &HeldLease,
    topic: i64,
    read: &FileRead,
) -> Result<CommitOutcome, JobError> {
    let (db, last) = (&shells.db, if read.rest_empty { LastOfTask::Yes } else { LastOfTask::No });
    let (file, segments) = (read.file.as_ref(), &read.segments);
    let started = Instant::now();
    let mut left = MAX_COMMITS;
    loop {
        left -= 1;
        let commit = db::commit_file(db, task, topic, file, segments, read.progress, last);
        let commit = while_held(held, commit).instrument(tracing::info_span!(
            "db.commit",
            bytes = file.map(|file| file.bytes as i64),
            records = segments.iter().map(|segment| segment.tally.records).sum::<i64>(),
        ));
        let outcome = match commit.await {
            Ok(outcome) => outcome,
            Err(JobError::Db(error)) if error.is_retryable() && left > 0 => {
                tracing::warn!(%error, "a commit got no answer; finding out what became of it");
                let landed = landed(shells, task, held, file, error).await?;
                metrics::commit_settled(landed, started.elapsed());
                match landed {
                    true => return Ok(CommitOutcome::Committed),
                    false => continue,
                }
            }
            Err(error) => return Err(error),
        };
        metrics::committed(outcome.as_str(), started.elapsed());
        fault::hit(Fault::AfterCommit);
        return Ok(outcome);
    }
}

/// What became of a commit whose answer was lost with `error`. Asks until there is an answer
/// or the lease is gone. (Without a file nothing tells, and nothing is at stake: whatever is
/// stored is a conflict for the next commit.)
async fn landed(
    shells: &Shells,
    task: &ClaimedTask,
    held: &HeldLease,
    file: Option<&NewFile>,
    mut error: db::DbError,
) -> Result<bool, JobError> {
    for seconds in [0.1, 0.5, 1.0, 2.0, 4.0, 8.0] {
        let pause = tokio::time::sleep(Duration::from_secs_f64(seconds));
        while_held(held, pause.map(Ok)).await?;
        let Some(file) = file else { return Ok(false) };
        match while_held(held, db::file_is_visible(&shells.db, task.lease, file.id)).await {
            Err(JobError::Db(again)) if again.is_retryable() => error = again,
            answer => return answer,
        }
    }
    Err(JobError::Db(error))
}

/// Waits for the database for as long as the lease is ours, and no longer.
async fn while_held<T>(
    held: &HeldLease,
    work: impl Future<Output = Result<T, db::DbError>>,
) -> Result<T, JobError> {
    tokio::select! {
        done = work => Ok(done?),
        () = held.stop.until_lost() => Err(JobError::Stopping),
    }
}

/// Removes an object of which it is certain that no commit names it. (Of a commit whose
/// outcome is unknown, nothing is certain, and nothing is removed.)
async fn discard(shells: &Shells, file: Option<&NewFile>) {
    let Some(file) = file else { return };
    if let Err(error) = shells.store.delete(&file.object_name).await {
        tracing::warn!(%error, "could not remove a file that was not committed");
    }
}

fn ranges_len(ranges: &[PartitionRange]) -> i64 {
    ranges.iter().map(|part| part.range.len()).sum()
}

/// What was read or asked since the plan belongs to the snapshot's topic only if the topic
/// is still the one that was planned for: ids never come back.
async fn check_incarnation(shells: &Shells, task: &ClaimedTask) -> Result<(), JobError> {
    let topic = task.topic.clone();
    let asking = shells.ask_kafka(move |kafka| kafka.topic_id(&topic));
    let id = asking.instrument(tracing::info_span!("kafka.topic_id")).await?;
    let id = id.as_ref().map(ToString::to_string).unwrap_or_default();
    if task.topic_id.as_deref() == Some(id.as_str()) {
        return Ok(());
    }
    // From now on the same request means the new incarnation.
    db::record_incarnation(&shells.db, &task.cluster, task.topic.as_str(), &id).await?;
    Err(JobError::Failed(recreated(task)))
}

/// Looks once more at what is gone, counts what is held, ends the run.
async fn finish(shells: &Shells, task: &ClaimedTask) -> Result<(), JobError> {
    let topic = task.topic_key.ok_or(db::DbError::unexpected("snapshots.topic"))?;
    let partitions = db::planned_partitions(&shells.db, task.snapshot_id).await?;
    let low_watermarks = low_watermarks(shells, task, &partitions).await?;
    check_incarnation(shells, task).await?;
    let cuts = db::stored_cuts(&shells.db, task.snapshot_id, topic, task.capture).await?;
    let (losses, unread) = settle_ranges(&partitions, &low_watermarks, &cuts);
    if !unread.is_empty() {
        // A task's conflict partner may have failed to store what it took from us.
        tracing::info!(offsets = ranges_len(&unread), "something is left to read");
        db::extend_run(&shells.db, task, &[unread]).await?;
        return Ok(());
    }
    let mut counted_now = Vec::new();
    for cut in cuts.iter().filter(|cut| !cut.counted) {
        counted_now.push(count(shells, task, cut).await?);
    }
    let segments = cuts.iter().map(|cut| cut.segment_id).collect();
    fault::hit(Fault::BeforeFinish);
    let finished = Finished { segments, counted_now, losses };
    let grace_over_at = task.window.end().plus_seconds(u64::from(shells.limits.grace_seconds));
    let ended = db::finish_run(
        &shells.db,
        task,
        &finished,
        |now| completeness(partitions.iter().map(|p| p.end), now, grace_over_at),
        |totals| verdict(task, totals),
    )
    .instrument(tracing::info_span!("db.finish"))
    .await?;
    fault::hit(Fault::AfterFinish);
    match ended {
        None => return Err(JobError::LeaseLost),
        Some(run) => tell(&run),
    }
    Ok(())
}

fn tell(run: &EndedRun) {
    let code = run.failure.as_ref().map(|failure| failure.kind);
    metrics::run_ended(run.outcome.as_str(), code, run.phases.duration_seconds);
    if let Some(totals) = &run.totals {
        metrics::run_found(totals, run.newly_lost_offsets);
    }
    story::tell(run);
}

async fn low_watermarks(
    shells: &Shells,
    task: &ClaimedTask,
    partitions: &[PlannedPartition],
) -> Result<BTreeMap<i32, i64>, JobError> {
    let (topic, numbers) =
        (task.topic.clone(), partitions.iter().map(|p| p.part.partition).collect::<Vec<_>>());
    let span = tracing::info_span!("kafka.low_watermarks", partitions = numbers.len() as i64);
    let asking = shells.ask_kafka(move |kafka| kafka.low_watermarks(&topic, &numbers));
    let answers = asking.instrument(span).await?;
    Ok(answers.into_iter().collect())
}

/// What of each range is neither stored nor there any more, and what is still there.
fn settle_ranges(
    partitions: &[PlannedPartition],
    low_watermarks: &BTreeMap<i32, i64>,
    cuts: &[StoredCut],
) -> (Vec<Loss>, Vec<PartitionRange>) {
    let mut stored: BTreeMap<i32, OffsetRanges> = BTreeMap::new();
    for cut in cuts {
        stored.entry(cut.part.partition).or_default().insert(cut.part.range);
    }
    let (mut losses, mut unread) = (Vec::new(), Vec::new());
    for PartitionRange { partition, range } in partitions.iter().map(|p| p.part) {
        let low_watermark = low_watermarks.get(&partition).copied().unwrap_or(range.start());
        let missing = stored.entry(partition).or_default().gaps(range);
        let gone = missing.within(OffsetRange::new(0, low_watermark));
        losses.push(Loss { partition, low_watermark, lost_offsets: gone.len() });
        let there = missing.difference(&gone);
        unread.extend(there.iter().map(|range| PartitionRange { partition, range }));
    }
    (losses, unread)
}

/// Counts what of a segment belongs to the snapshot; looks into the file only if it must.
async fn count(shells: &Shells, task: &ClaimedTask, cut: &StoredCut) -> Result<Cut, JobError> {
    let known = if cut.whole { cut.segment_tally.seen_from(&task.window) } else { None };
    let tally = match (known, &cut.object_name) {
        (Some(tally), _) => tally,
        (None, None) => cut.segment_tally,
        (None, Some(name)) => {
            let reader = shells.store.reader(name, None);
            data_file::tally(reader, cut.part.partition, cut.part.range, &task.window).await?
        }
    };
    Ok(Cut { segment_id: cut.segment_id, part: cut.part, tally })
}

/// Whether what is missing makes the run fail.
fn verdict(task: &ClaimedTask, totals: &Totals) -> Option<Failure> {
    let message = match (task.on_loss, totals.lost_offsets, totals.uncertain_partitions) {
        (OnLoss::Report, _, _) | (OnLoss::Fail, 0, 0) => return None,
        (OnLoss::Fail, 0, partitions) => format!(
            "retention may have taken events of the window before anyone looked (partitions with an uncertain start: {partitions}); what is left is stored, and on_loss: report accepts it"
        ),
        (OnLoss::Fail, lost, partitions) => format!(
            "offsets of the window are gone from the broker and not stored (lost offsets: {lost}, partitions with an uncertain start: {partitions}); what is left is stored, and on_loss: report accepts it"
        ),
    };
    Some(Failure::new(FailureKind::DataLost, message))
}
