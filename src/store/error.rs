//! What can go wrong with the store.
//!
//! The texts end up in answers and logs: they name objects relative to the storage's root,
//! never a path of the machine, and of a request the server alone, never what signs it.

use std::error::Error;

use super::Cause;
use super::cause::chain;
use crate::snapshot::FailureKind;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage can't be used as it is set. The text is for the operator and may have
    /// the path.
    #[error("STRANDLINE_STORAGE_URL: {0}")]
    Setting(String),
    /// No name that an object can have.
    #[error("{name:?} is no name of an object: {problem}")]
    Name {
        /// What was asked for.
        name: String,
        /// The rule that it breaks.
        problem: String,
    },
    /// A symbolic link below the storage's root, which may lead anywhere.
    #[error("{name} leads through a symbolic link; the storage follows none below its root")]
    Link {
        /// The object's name.
        name: String,
    },
    /// An object can't be written.
    #[error("writing {name} to the storage failed: {cause}")]
    Write {
        /// The object's name.
        name: String,
        /// What the store said.
        cause: Cause,
    },
    /// An object that was just written can't be looked at.
    #[error("checking {name} in the storage failed: {cause}")]
    Check {
        /// The object's name.
        name: String,
        /// What the store said.
        cause: Cause,
    },
    /// An object that was just written is not what was written.
    #[error("{name} has {found} bytes in the storage right after {written} were written")]
    Size {
        /// The object's name.
        name: String,
        /// Bytes that were written.
        written: u64,
        /// Bytes that the store says there are.
        found: u64,
    },
    /// An object that was just written has other bytes than those that were written.
    #[error("{name} is not in the storage as it was written: its checksum is another one")]
    Content {
        /// The object's name.
        name: String,
    },
    /// The writer was dropped before it was closed.
    #[error("writing {name} to the storage was given up")]
    Abandoned {
        /// The object's name.
        name: String,
    },
    /// The task that uploads panicked, or the runtime has shut down.
    #[error("the upload of {name} ended without a result")]
    Lost {
        /// The object's name.
        name: String,
    },
    /// An object can't be read.
    #[error("reading {name} from the storage failed: {cause}")]
    Read {
        /// The object's name.
        name: String,
        /// What the store said.
        cause: Cause,
    },
    /// An object can't be deleted.
    #[error("deleting {name} from the storage failed: {cause}")]
    Delete {
        /// The object's name.
        name: String,
        /// What the store said.
        cause: Cause,
    },
    /// An upload that was never finished can't be removed.
    #[error("removing an unfinished upload of {name} from the storage failed: {cause}")]
    Abort {
        /// The name of the object that it would have become.
        name: String,
        /// What the store said.
        cause: Cause,
    },
    /// Whose the storage is, can't be found out.
    #[error("finding out whose the storage is failed: {0}")]
    Owner(Cause),
    /// Objects can't be listed.
    #[error("listing the storage failed: {0}")]
    List(Cause),
}

impl StoreError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Setting(_) | StoreError::Name { .. } | StoreError::Link { .. } => false,
            _ => self.failure_kind().is_retryable(),
        }
    }

    /// What a run that ends by this error failed of.
    pub fn failure_kind(&self) -> FailureKind {
        match self {
            StoreError::Write { cause, .. }
            | StoreError::Check { cause, .. }
            | StoreError::Read { cause, .. }
            | StoreError::Delete { cause, .. }
            | StoreError::Abort { cause, .. }
            | StoreError::Owner(cause)
            | StoreError::List(cause) => cause.kind(),
            StoreError::Setting(_)
            | StoreError::Link { .. }
            | StoreError::Size { .. }
            | StoreError::Content { .. }
            | StoreError::Abandoned { .. } => FailureKind::StorageUnavailable,
            StoreError::Name { .. } | StoreError::Lost { .. } => FailureKind::Internal,
        }
    }

    /// The error of the store behind another one: readers of files pass ours on inside
    /// theirs.
    pub fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
        chain(error).find_map(|error| error.downcast_ref())
    }
}
