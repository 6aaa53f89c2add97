//! The one line that tells a run's whole story when it has ended, however it did: what one
//! greps for, and what dashboards made of logs are made of. It is never left out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::{KeyValue, Value};

use crate::db::EndedRun;
use crate::snapshot::Timestamp;
use crate::trace::RunTrace;

macro_rules! tell {
    ($level:ident, $run:ident, $trace_id:ident) => {
        tracing::$level!(
            name: "snapshot_finished",
            trace_id = $trace_id,
            snapshot_id = %$run.snapshot_id,
            run = $run.run,
            topic = $run.topic,
            cluster = $run.cluster,
            origin = $run.origin,
            window_start = %$run.window_start,
            window_end = %$run.window_end,
            outcome = $run.outcome.as_str(),
            code = $run.failure.as_ref().map(|failure| failure.kind.code()),
            error = $run.failure.as_ref().map(|failure| failure.message.as_str()),
            partition = $run.failure.as_ref().and_then(|failure| failure.partition),
            completeness = $run.completeness.map(|completeness| completeness.as_str()),
            records = $run.totals.as_ref().map(|totals| totals.records),
            records_added = $run.totals.as_ref().map(|totals| totals.records_added),
            files = $run.totals.as_ref().map(|totals| totals.files),
            bytes = $run.totals.as_ref().map(|totals| totals.bytes),
            lost_offsets = $run.totals.as_ref().map(|totals| totals.lost_offsets),
            uncertain_partitions = $run.totals.as_ref().map(|totals| totals.uncertain_partitions),
            partitions = $run.resolved.as_ref().map(|resolved| resolved.partitions),
            offsets = $run.resolved.as_ref().map(|resolved| resolved.offsets),
            ranges = $run.resolved.as_ref().map(|resolved| resolved.ranges.as_str()),
            records_read = $run.work.records_read,
            bytes_written = $run.work.bytes_written,
            tasks = $run.work.tasks,
            attempts = $run.work.attempts,
            deaths = $run.work.deaths,
            queued_seconds = $run.phases.queued_seconds,
            plan_seconds = $run.phases.plan_seconds,
            read_seconds = $run.phases.read_seconds,
            finish_seconds = $run.phases.finish_seconds,
            duration_seconds = $run.phases.duration_seconds,
            "snapshot finished"
        )
    };
}

/// Tells the story of a run. To be called once, when its end is committed.
pub fn tell(run: &EndedRun) {
    let trace = RunTrace::of(run.snapshot_id, run.run, run.trace_parent.as_deref());
    let trace_id = trace.map(|trace| trace.trace_id());
    match run.failure {
        None => tell!(info, run, trace_id),
        Some(_) => tell!(warn, run, trace_id),
    }
    if let Some(trace) = trace {
        let times = (system_time(run.requested_at), system_time(run.finished_at));
        trace.ended(times, attributes(run));
    }
}

/// What the run's span tells, by the names that the log has.
fn attributes(run: &EndedRun) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    let mut put = |name: &'static str, value: Option<Value>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    let (totals, resolved) = (run.totals.as_ref(), run.resolved.as_ref());
    put("snapshot_id", Some(run.snapshot_id.to_string().into()));
    put("run", Some(i64::from(run.run).into()));
    put("topic", Some(run.topic.clone().into()));
    put("outcome", Some(run.outcome.as_str().into()));
    put("code", run.failure.as_ref().map(|failure| failure.kind.code().into()));
    put("records", totals.map(|totals| totals.records.into()));
    put("files", totals.map(|totals| totals.files.into()));
    put("bytes", totals.map(|totals| totals.bytes.into()));
    put("lost_offsets", totals.map(|totals| totals.lost_offsets.into()));
    put("partitions", resolved.map(|resolved| resolved.partitions.into()));
    put("offsets", resolved.map(|resolved| resolved.offsets.into()));
    put("ranges", resolved.map(|resolved| resolved.ranges.clone().into()));
    attributes
}

fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(time.millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::db::{EndedWork, Phases, Resolved};
    use crate::snapshot::{Completeness, Failure, FailureKind, State, Totals};

    /// A run in which no two numbers are the same.
    fn failed() -> EndedRun {
        EndedRun {
            snapshot_id: uuid::Uuid::from_u128(1),
            run: 2,
            cluster: "default".to_owned(),
            topic: "orders".to_owned(),
            origin: "sealer".to_owned(),
            window_start: Timestamp::from_millis(0),
            window_end: Timestamp::from_millis(1000),
            outcome: State::Failed,
            failure: Some(Failure {
                partition: Some(3),
                ..Failure::new(FailureKind::DataLost, "they are gone")
            }),
            completeness: Some(Completeness::Sealed),
            totals: Some(Totals {
                records: 4,
                records_added: 5,
                files: 6,
                bytes: 7,
                lost_offsets: 8,
                uncertain_partitions: 9,
                out_of_window_records: 10,
                poison_records: 11,
            }),
            newly_lost_offsets: 12,
            work: EndedWork {
                tasks: 13,
                attempts: 14,
                deaths: 15,
                records_read: 16,
                bytes_written: 17,
            },
            resolved: Some(Resolved { partitions: 18, offsets: 19, ranges: "0=1..2".to_owned() }),
            phases: Phases {
                queued_seconds: Some(0.5),
                plan_seconds: Some(1.5),
                read_seconds: Some(2.5),
                finish_seconds: Some(3.5),
                duration_seconds: 8.0,
            },
            requested_at: Timestamp::from_millis(20),
            finished_at: Timestamp::from_millis(8020),
            trace_parent: Some(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
            ),
        }
    }

    #[test]
    fn everything_that_is_known_is_told_by_its_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let lines = tracing_subscriber::fmt().json().without_time();
        let lines = lines.with_writer(Mutex::new(file.reopen().expect("the file")));
        tracing::subscriber::with_default(lines.finish(), || tell(&failed()));
        let text = std::fs::read_to_string(file.path()).expect("what was written");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one line");
        assert_eq!(line["level"], "WARN");
        assert_eq!(
            line["fields"],
            json!({
                "message": "snapshot finished", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "snapshot_id": "00000000-0000-0000-0000-000000000001", "run": 2,
                "topic": "orders", "cluster": "default", "origin": "sealer",
                "window_start": "1970-01-01T00:00:00.000Z", "window_end": "1970-01-01T00:00:01.000Z",
                "outcome": "failed", "code": "DATA_LOST", "error": "they are gone",
                "partition": 3, "completeness": "sealed",
                "records": 4, "records_added": 5, "files": 6, "bytes": 7, "lost_offsets": 8,
                "uncertain_partitions": 9, "partitions": 18, "offsets": 19, "ranges": "0=1..2",
                "records_read": 16, "bytes_written": 17,
                "tasks": 13, "attempts": 14, "deaths": 15,
                "queued_seconds": 0.5, "plan_seconds": 1.5, "read_seconds": 2.5,
                "finish_seconds": 3.5, "duration_seconds": 8.0,
            })
        );
    }
}
