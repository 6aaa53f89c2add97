//! The pure core: what a window means, which offsets it covers, what is left to
//! read and what is lost.
//!
//! No async, no I/O, no clock, no logging: everything that is decided is decided
//! here from facts that are handed in, so that it can be tested against naive
//! models. The shells (`kafka`, `data_file`, `store`, `db`) bring the facts and act.

mod access;
mod boundary;
mod coverage;
mod event;
mod failure;
mod manifest;
mod offsets;
mod plan;
mod poison;
mod state;
mod timestamp;
mod topic;
mod window;

pub use access::{Grant, Scope, TopicGlob, TopicGlobError};
pub use boundary::{BoundaryFact, resolve_boundary, start_uncertain};
pub use coverage::time_gaps;
pub use event::{Event, Header, RangeTally, TimestampType};
pub use failure::{Failure, FailureKind};
pub use manifest::Totals;
pub use offsets::{OffsetRange, OffsetRanges};
pub use plan::{
    DryPlan, PartitionLook, PartitionPlan, PartitionRange, TopicFacts, TopicOffsets, Watermarks,
    offsets_per_task, plan_partition, split_into_tasks,
};
pub use poison::{PoisonJudge, PoisonRecord};
pub use state::{
    Capture, Completeness, OnLoss, PartitionEnd, RequestAction, State, action_on_request,
    completeness,
};
pub use timestamp::{TimeError, Timestamp};
pub use topic::{DEFAULT_CLUSTER, TopicName, TopicNameError};
pub use window::{Window, WindowError};
