//! The table of operations: parameters, headers, who may call, and every way to be refused.

use serde_json::{Value, json};

use crate::api::problem::ProblemCode::{self, *};

/// What the document says of an operation besides what stands at its handler.
pub(super) struct Operation {
    /// The operation's id.
    pub(super) id: &'static str,
    /// Names among the document's parameters.
    pub(super) parameters: &'static [&'static str],
    /// Headers of answers that are no problem, by status.
    pub(super) headers: &'static [(u16, &'static [&'static str])],
    /// Every problem that it may answer with.
    pub(super) problems: &'static [&'static [ProblemCode]],
    /// Who may call it.
    pub(super) access: Access,
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever has a token, and everybody where there are no tokens.
    Token,
    /// Everybody.
    Everybody,
}

impl Access {
    pub(super) fn requirements(self) -> Value {
        match self {
            Access::Token => json!([{"bearer": []}, {"basic": []}, {}]),
            Access::Everybody => json!([{}]),
        }
    }
}

/// The entry of an operation.
pub(super) fn find(id: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.id == id)
}

/// What every operation may answer.
const ANY: &[ProblemCode] = &[MethodNotAllowed, Internal];
/// What every operation may answer that only those with a token may call.
const CALLER: &[ProblemCode] = &[
    InvalidParameter,
    Unauthenticated,
    Forbidden,
    MethodNotAllowed,
    RateLimited,
    Internal,
    Draining,
    DatabaseUnavailable,
];
/// What a body is refused for.
const BODY: &[ProblemCode] = &[
    InvalidJson,
    TopicNotAllowed,
    BodyTooLarge,
    UnsupportedMediaType,
    FieldInvalid,
    WindowInvalid,
];
/// What becomes of a topic's name in a path.
const TOPIC: &[ProblemCode] = &[TopicNotAllowed, TopicNotFound];
/// How a snapshot may end other than well.
const OUTCOME: &[ProblemCode] = &[SnapshotFailed, SnapshotCancelled];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "createSnapshot",
        parameters: &["Wait", "Expect", "DryRun", "Prefer"],
        headers: &[
            (200, &["LocationIfSnapshot", "PreferenceApplied"]),
            (202, &["Location", "RetryAfter", "PreferenceApplied"]),
        ],
        problems: &[
            CALLER,
            BODY,
            OUTCOME,
            &[TopicNotFound, QueueFull, KafkaUnavailable, NotReadyInTime],
        ],
        access: Access::Token,
    },
    Operation {
        id: "listSnapshots",
        parameters: &[
            "ClusterFilter",
            "TopicFilter",
            "StateFilter",
            "CompletenessFilter",
            "WindowFrom",
            "WindowTo",
            "LabelFilter",
            "Limit",
            "Cursor",
        ],
        headers: &[],
        problems: &[CALLER],
        access: Access::Token,
    },
    Operation {
        id: "getSnapshot",
        parameters: &["SnapshotId", "Wait", "Prefer", "IfNoneMatch"],
        headers: &[(200, &["ETag"]), (304, &["ETag"])],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "getSnapshotResult",
        parameters: &["SnapshotId", "Wait", "Expect", "Prefer"],
        headers: &[],
        problems: &[CALLER, OUTCOME, &[NotFound, NotReady]],
        access: Access::Token,
    },
    Operation {
        id: "listSnapshotRuns",
        parameters: &["SnapshotId", "Limit", "Cursor"],
        headers: &[],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "listSnapshotPartitions",
        parameters: &["SnapshotId", "Limit", "Cursor"],
        headers: &[],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "listSnapshotFiles",
        parameters: &["SnapshotId", "Limit", "Cursor"],
        headers: &[],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "streamSnapshotEvents",
        parameters: &["SnapshotId", "PartitionFilter", "EventLimit"],
        headers: &[],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "cancelSnapshot",
        parameters: &["SnapshotId"],
        headers: &[(202, &["Location"])],
        problems: &[CALLER, &[NotFound]],
        access: Access::Token,
    },
    Operation {
        id: "refreshSnapshot",
        parameters: &["SnapshotId", "Wait", "Prefer"],
        headers: &[(200, &["Location"]), (202, &["Location", "RetryAfter"])],
        problems: &[CALLER, &[NotFound, QueueFull]],
        access: Access::Token,
    },
    Operation {
        id: "listTopics",
        parameters: &["Limit", "Cursor"],
        headers: &[],
        problems: &[CALLER, &[KafkaUnavailable]],
        access: Access::Token,
    },
    Operation {
        id: "getTopicOffsets",
        parameters: &["TopicName", "At"],
        headers: &[],
        problems: &[CALLER, TOPIC, &[KafkaUnavailable]],
        access: Access::Token,
    },
    Operation {
        id: "getTopicCoverage",
        parameters: &["TopicName", "SpanFrom", "SpanTo", "TopicId"],
        headers: &[],
        problems: &[CALLER, TOPIC, &[KafkaUnavailable]],
        access: Access::Token,
    },
    Operation {
        id: "listTopicFiles",
        parameters: &["TopicName", "EventsFrom", "EventsTo", "Limit", "Cursor"],
        headers: &[],
        problems: &[CALLER, TOPIC],
        access: Access::Token,
    },
    Operation {
        id: "getVersion",
        parameters: &[],
        headers: &[],
        problems: &[CALLER],
        access: Access::Token,
    },
    Operation {
        id: "getMetrics",
        parameters: &[],
        headers: &[],
        problems: &[CALLER],
        access: Access::Token,
    },
    Operation {
        id: "getLivez",
        parameters: &[],
        headers: &[],
        problems: &[ANY],
        access: Access::Everybody,
    },
    Operation {
        id: "getReadyz",
        parameters: &[],
        headers: &[],
        problems: &[ANY, &[Draining, DatabaseUnavailable]],
        access: Access::Everybody,
    },
    Operation {
        id: "getOpenapi",
        parameters: &[],
        headers: &[],
        problems: &[ANY, &[Draining]],
        access: Access::Everybody,
    },
    Operation {
        id: "getDocs",
        parameters: &[],
        headers: &[],
        problems: &[ANY, &[Draining]],
        access: Access::Everybody,
    },
];
