//! The states of a snapshot and how complete it is.
//!
//! ```text
//!             a worker starts it       the last task is done
//!  ┌─▶ queued ──────────────▶ running ───────────────────────▶ succeeded ─┐
//!  │      │                     │  │    an error that lasts                │
//!  │      │                     │  └───────────────────────────▶ failed ───┤
//!  │      │ someone cancels     │                                          │
//!  │      └─────────────────────┴──────────────────────────────▶ cancelled ┤
//!  └────────────── a new run: asked for once more, unless sealed ──────────┘
//! ```
//!
//! A state is not stored: it follows from what is known of the newest asked run — when it
//! was started, how it ended.

use super::Timestamp;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$variant_doc])* $variant),+ }

        impl $type {
            /// All of them, in the order in which they are documented.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// The name in JSON, in Postgres and in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// The one that has this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some($type::$variant),)+ _ => None }
            }
        }
    };
}

names! {
    /// Where the newest run that someone asked for stands.
    State {
        /// Accepted; no worker has started it yet.
        Queued = "queued",
        /// A worker has started it.
        Running = "running",
        /// All that could be stored is stored.
        Succeeded = "succeeded",
        /// It ended with an error; what was stored stays.
        Failed = "failed",
        /// Someone stopped it; what was stored stays.
        Cancelled = "cancelled",
    }
}

names! {
    /// Whether a snapshot that succeeded may still grow.
    Completeness {
        /// The window and its grace are not over, or a transaction is open.
        Provisional = "provisional",
        /// All that there is has been stored, but a late event would still be added.
        Settled = "settled",
        /// Nothing can be added any more.
        Sealed = "sealed",
    }
}

names! {
    /// What a snapshot takes.
    Capture {
        /// The events themselves, as Parquet files.
        Events = "events",
        /// Only the offset ranges.
        Offsets = "offsets",
    }
}

names! {
    /// What lost offsets mean for a run.
    OnLoss {
        /// They are counted and reported.
        Report = "report",
        /// They are counted and reported, what is left is stored, and the run fails.
        Fail = "fail",
    }
}

/// What a request for a snapshot leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestAction {
    /// A run is queued or running: the request joins it.
    Join,
    /// Nothing can be added: the answer is what is there.
    Replay,
    /// A new run, which adds to what is stored.
    NewRun,
}

/// What a request for a snapshot that exists leads to.
pub const fn action_on_request(state: State, completeness: Option<Completeness>) -> RequestAction {
    match (state, completeness) {
        (State::Queued | State::Running, _) => RequestAction::Join,
        (State::Succeeded, Some(Completeness::Sealed)) => RequestAction::Replay,
        (State::Succeeded, Some(Completeness::Provisional | Completeness::Settled) | None)
        | (State::Failed | State::Cancelled, _) => RequestAction::NewRun,
    }
}

/// How the end of the range stands in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Both boundaries are known.
    pub sealed: bool,
    /// An open transaction holds back offsets that are written already.
    pub transaction_open: bool,
}

/// How complete a snapshot is whose run has just stored all that there is.
///
/// `grace_over_at` is the window's end plus the grace; `now` is the database's clock.
pub fn completeness(
    partitions: impl IntoIterator<Item = PartitionEnd>,
    now: Timestamp,
    grace_over_at: Timestamp,
) -> Completeness {
    partitions
        .into_iter()
        .map(|partition| match partition {
            PartitionEnd { sealed: true, .. } => Completeness::Sealed,
            PartitionEnd { transaction_open: true, .. } => Completeness::Provisional,
            PartitionEnd { .. } if now < grace_over_at => Completeness::Provisional,
            PartitionEnd { .. } => Completeness::Settled,
        })
        .min_by_key(|completeness| *completeness as u8)
        .unwrap_or(Completeness::Sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_adds_unless_there_is_nothing_to_add() {
        use Completeness::{Provisional, Sealed, Settled};
        for (state, completeness, action) in [
            (State::Queued, None, RequestAction::Join),
            (State::Running, Some(Sealed), RequestAction::Join),
            (State::Succeeded, Some(Sealed), RequestAction::Replay),
            (State::Succeeded, Some(Settled), RequestAction::NewRun),
            (State::Succeeded, Some(Provisional), RequestAction::NewRun),
            (State::Failed, Some(Sealed), RequestAction::NewRun),
            (State::Cancelled, None, RequestAction::NewRun),
        ] {
            assert_eq!(
                action_on_request(state, completeness),
                action,
                "{state:?} {completeness:?}"
            );
        }
    }

    #[test]
    fn the_least_complete_partition_decides() {
        let at = Timestamp::from_millis;
        let sealed = PartitionEnd { sealed: true, transaction_open: true };
        let idle = PartitionEnd { sealed: false, transaction_open: false };
        let held = PartitionEnd { sealed: false, transaction_open: true };
        assert_eq!(completeness([sealed, sealed], at(0), at(10)), Completeness::Sealed);
        assert_eq!(completeness([sealed, idle], at(9), at(10)), Completeness::Provisional);
        assert_eq!(completeness([idle, sealed], at(10), at(10)), Completeness::Settled);
        assert_eq!(completeness([idle, held], at(99), at(10)), Completeness::Provisional);
    }

    #[test]
    fn names_can_be_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(*state));
        }
        assert_eq!(State::from_name("Queued"), None);
    }
}
