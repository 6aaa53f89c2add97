//! Postgres: the state of everything. SQL text exists only in here.
//!
//! One function per statement or per transaction; the first line of each statement is its
//! name, so that it can be found in `pg_stat_statements`. No transaction stays open across
//! Kafka or the object store, and every write of a worker is guarded by its lease.

mod activity;
mod coverage;
mod embedded;
mod ended;
mod error;
mod files;
mod listen;
mod lists;
mod migrate;
mod partitions;
mod plans;
mod pool;
mod requests;
mod runs;
mod sealing;
mod seen;
mod segments;
mod snapshots;
mod sweep;
mod tasks;
mod time;
mod tls;
mod tokens;

pub use activity::{activity, topic_backlogs};
pub use coverage::{
    CoveredWindow, KnownIncarnation, RecordedPartition, TopicFileRow, TopicPlace, TopicSnapshots,
    covered_windows, find_incarnation, list_topic_files, recorded_partitions, stored_events,
    topic_snapshots,
};
pub use embedded::{EmbeddedPostgres, Sharing};
pub use ended::{EndedRun, EndedWork, Phases, Resolved};
pub use error::{Attempt, DbError};
pub use files::{FileRow, Place, SegmentRow, list_files, list_segments};
pub use listen::{ENDED_CHANNEL, TASKS_CHANNEL, listen};
pub use lists::{Page, SnapshotFilter, list_snapshots};
pub use migrate::{
    Applied, SchemaState, check as check_schema, expected_version, migrate, schema_version,
};
pub use partitions::{PartitionRow, list_partitions};
pub use plans::{KnownTopic, PlanTransaction, SeenTopic};
pub use pool::{Database, Notification, PoolLimits};
pub use requests::{QueueLimit, refresh_snapshot, request_snapshot};
pub use runs::{
    Cancelled, Finished, Loss, PlannedPartition, RunRow, cancel_run, extend_run, fail_run,
    finish_run, list_runs, planned_partitions,
};
pub use sealing::{WatchedTopic, queue_due_runs, record_incarnation, watched_topics};
pub use seen::{boundary_fact, poison_verdicts, seen_high_watermarks};
pub use segments::{
    CommitOutcome, Cut, LastOfTask, NewFile, NewSegment, StoredCut, commit_file, file_is_visible,
    stored_cuts, unread_ranges,
};
pub use snapshots::{
    ProgressRow, SnapshotRequest, SnapshotRow, get_snapshot, get_states, queue_length,
};
pub use sweep::{begin_sweep, generation, next_generation, now, owner, sweepable};
pub use tasks::{
    ClaimedTask, Lease, LeaseState, Progress, RetryOutcome, TaskKind, claim_task, release_task,
    renew_lease, retry_task, show_waiting, task_ranges,
};
pub use time::DbTime;
pub use tokens::{
    NewToken, TOKENS_CHANNEL, TokenRow, create_token, list_tokens, note_use, revoke_token,
};
