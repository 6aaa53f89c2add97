//! `strandline snapshot`: one window in the foreground, with a progress bar, without a server.
//!
//! It asks for the snapshot as any caller does and does its tasks itself; replicas on the
//! same Postgres may help.

mod bar;

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::HumanBytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::bar::Bar;
use crate::api::Snapshot;
use crate::app::{self, AppError, State, StopSignal};
use crate::background::Background;
use crate::db::{self, Page, QueueLimit, Sharing, SnapshotRequest, SnapshotRow};
use crate::job::{self, Shells, WorkSource};
use crate::settings::SnapshotSettings;
use crate::snapshot::{
    Capture, Completeness, DEFAULT_CLUSTER, OnLoss, State as SnapshotState, Totals, Window,
};

/// How often the bar is brought up to date.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How many of its files the result names.
const FILES_SHOWN: i64 = 10;

/// `strandline snapshot`: exit code 0 succeeded, 1 failed.
///
/// # Errors
/// [`AppError`] if it can't start, or Postgres goes away meanwhile.
pub async fn snapshot(settings: SnapshotSettings) -> Result<ExitCode, AppError> {
    let window = Window::new(settings.start, settings.end)
        .map_err(|error| AppError::setting("--end", error))?;
    let ends = app::ends(&settings.database.data_dir, &settings.kafka, &settings.work)?;
    let state = State::open(&settings.database, Sharing::Join).await?;
    let shells = app::shells(&state.db, ends, &settings.work);
    let done = take(&settings, window, &shells).await;
    if let Err(error) = job::tell_round(&shells).await {
        tracing::warn!(%error, "the store could not be told of what was committed; a server's next round tells it");
    }
    drop(shells);
    state.close();
    done
}

async fn take(
    settings: &SnapshotSettings,
    window: Window,
    shells: &Shells,
) -> Result<ExitCode, AppError> {
    let request = SnapshotRequest {
        cluster: DEFAULT_CLUSTER.to_owned(),
        topic: settings.topic.clone(),
        window,
        capture: Capture::Events,
        on_loss: if settings.fail_on_loss { OnLoss::Fail } else { OnLoss::Report },
        labels: None,
    };
    let mut stop = StopSignal::listen()?;
    let (asked, _) = db::request_snapshot(
        &shells.db,
        &request,
        Uuid::now_v7(),
        None,
        &QueueLimit::new(u32::MAX),
    )
    .await?;
    let stopping = CancellationToken::new();
    let workers = start_workers(settings, shells, asked.id, &stopping);
    let row = tokio::select! {
        row = watch(shells, asked.id) => row.map(Some),
        _ = stop.wanted() => Ok(None),
    };
    stopping.cancel();
    workers.ended().await;
    match row? {
        Some(row) => report(settings, shells, &row).await,
        None => {
            app::print("interrupted; what is stored stays, the same command goes on from there\n")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn start_workers(
    settings: &SnapshotSettings,
    shells: &Shells,
    id: Uuid,
    stopping: &CancellationToken,
) -> Background {
    let workers = Background::new(stopping);
    let wake = Arc::new(Notify::new());
    for number in 0..app::worker_count(&settings.work).max(1) {
        let worker = format!("snapshot:{}/{number}", std::process::id());
        let source = WorkSource { worker, only: Some(id), wake: wake.clone() };
        let shells = shells.clone();
        workers.keep(move |stopping| job::work(shells.clone(), source.clone(), stopping));
    }
    workers
}

/// Shows progress until the run has ended.
async fn watch(shells: &Shells, id: Uuid) -> Result<SnapshotRow, AppError> {
    let mut bar = Bar::new();
    loop {
        let row = db::get_snapshot(&shells.db, id).await?;
        let row = row.ok_or(AppError::Db(db::DbError::unexpected("snapshots.id")))?;
        let progress = &row.progress;
        let (done, total) = (progress.offsets_done, progress.offsets_total);
        bar.show(row.state.as_str(), row.last_error.as_ref(), done, total);
        match row.state {
            SnapshotState::Queued | SnapshotState::Running => {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            SnapshotState::Succeeded | SnapshotState::Failed | SnapshotState::Cancelled => {
                bar.clear();
                return Ok(row);
            }
        }
    }
}

async fn report(
    settings: &SnapshotSettings,
    shells: &Shells,
    row: &SnapshotRow,
) -> Result<ExitCode, AppError> {
    let text = if settings.json {
        serde_json::to_string_pretty(&Snapshot::from(row)).unwrap_or_default() + "\n"
    } else {
        let files =
            db::list_files(&shells.db, row.id, Page { after: None, limit: FILES_SHOWN }).await?;
        let urls = files.iter().map(|file| shells.store.url(&file.object_name)).collect();
        table(row, urls)
    };
    app::print(&text)?;
    Ok(match row.state {
        SnapshotState::Succeeded => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn table(row: &SnapshotRow, urls: Vec<String>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line("snapshot", row.id.to_string());
    line("topic", row.topic.clone());
    line("window", format!("{} to {}", row.window_start, row.window_end));
    line("state", row.state.as_str().to_owned());
    if let Some(error) = &row.error {
        line("error", error.to_string());
    }
    if let (Some(result), Some(completeness)) = (&row.result, row.completeness) {
        line("completeness", completeness_text(completeness).to_owned());
        line("records", format!("{} ({} added)", result.records, result.records_added));
        line("files", format!("{} ({})", result.files, HumanBytes(result.bytes.unsigned_abs())));
        for (name, value) in remarks(result) {
            line(name, value);
        }
        let more = result.files - urls.len() as i64;
        for url in urls {
            line("", url);
        }
        if more > 0 {
            line("", format!("and {more} more"));
        }
    }
    text
}

const fn completeness_text(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Provisional => "provisional: more events may still come, take it again later",
        Completeness::Settled => "settled: all that there is, though a late event would be added",
        Completeness::Sealed => "sealed: nothing can be added any more",
    }
}

/// What is not as one would wish.
fn remarks(result: &Totals) -> Vec<(&'static str, String)> {
    let mut remarks = Vec::new();
    let mut remark = |name, count: i64, text: &str| {
        if count > 0 {
            remarks.push((name, format!("{count} {text}")));
        }
    };
    remark("lost", result.lost_offsets, "offsets of the window are gone from the broker");
    remark(
        "uncertain",
        result.uncertain_partitions,
        "partitions may have lost events of the window before anyone looked",
    );
    remark(
        "late or early",
        result.out_of_window_records,
        "events have a timestamp outside the window",
    );
    remark("poison", result.poison_records, "events are stamped far ahead of time");
    remarks
}
