//! What can go wrong with the store.
//!
//! The texts end up in answers and logs: they name objects relative to the storage's root,
//! never a path of the machine, and of a request the server alone, never what signs it.

use std::error::Error;
use std::fmt;
use std::io;

use object_store::client::HttpError;
use url::Url;

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
            | StoreError::List(cause) => cause.kind,
            StoreError::Setting(_)
            | StoreError::Link { .. }
            | StoreError::Size { .. }
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

/// What a store said, in one line.
#[derive(Debug)]
pub struct Cause {
    text: String,
    kind: FailureKind,
}

impl Cause {
    /// Of a disk.
    pub(super) fn local(error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::StorageFull => "the disk is full".to_owned(),
            io::ErrorKind::QuotaExceeded => "the quota on the disk is used up".to_owned(),
            _ => error.to_string(),
        };
        Cause { text, kind: FailureKind::StorageUnavailable }
    }

    /// Of the object store's client.
    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error::{Generic, NotFound, PermissionDenied, Unauthenticated};
        if let Some(http) = chain(error).find_map(|e| e.downcast_ref::<HttpError>()) {
            return Cause { text: unanswered(error, http), kind: FailureKind::StorageUnavailable };
        }
        // What the client does to a disk fails with the system's own error; what is around it
        // has the path.
        if let Some(error) = chain(error).find_map(|e| e.downcast_ref::<io::Error>()) {
            return Cause::local(error);
        }
        let kind = match error {
            PermissionDenied { .. } | Unauthenticated { .. } => FailureKind::StorageAuth,
            _ => FailureKind::StorageUnavailable,
        };
        let text = answer(error).unwrap_or_else(|| match error {
            NotFound { .. } => "it is not there".to_owned(),
            Generic { store: "LocalFileSystem", .. } => "the file is not what it was".to_owned(),
            _ => one_line(&error.to_string()),
        });
        Cause { text, kind }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// No answer came: what is innermost says why. Of the request, the server alone is named.
fn unanswered(error: &object_store::Error, http: &HttpError) -> String {
    let text = error.to_string();
    let url = text.split_once("Error performing ").and_then(|(_, rest)| rest.split(' ').nth(1));
    let server = url.and_then(|url| Url::parse(url).ok()).map(|url| url.origin());
    let server = server.map_or_else(|| "the store".to_owned(), |o| o.ascii_serialization());
    let innermost = chain(http).last().map(ToString::to_string).unwrap_or_default();
    format!("no answer from {server} ({})", one_line(&innermost))
}

/// The status and, of the body, what stores put into `Code` and `Message`. The rest of it
/// may repeat the request that was signed.
fn answer(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let (_, answer) = text.split_once("status code: ").or_else(|| text.split_once("response: "))?;
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    let part = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        Some(one_line(rest.split_once("</")?.0))
    };
    let details: Vec<_> = ["Code", "Message"].into_iter().filter_map(part).collect();
    match details.is_empty() {
        true => Some(one_line(status)),
        false => Some(format!("{} ({})", one_line(status), details.join(": "))),
    }
}

/// At most 200 characters, and no line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
