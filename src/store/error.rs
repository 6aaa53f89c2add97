//! What can go wrong with the store.
//!
//! The texts end up in answers and logs: they name objects relative to the storage's root,
//! never a path of the machine, and of a request the server alone, never what signs it.

use std::error::Error;
use std::fmt;
use std::io;

use http::StatusCode;
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
            let text = error.to_string();
            let url = text.split_once("Error performing ");
            let url = url.and_then(|(_, rest)| rest.split(' ').nth(1)).unwrap_or_default();
            return Cause::unanswered(url, http);
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

    /// No answer came: what is innermost says why. Of the request, the server alone is named.
    pub(super) fn unanswered(url: &str, error: &HttpError) -> Self {
        let server = Url::parse(url).ok().map(|url| url.origin().ascii_serialization());
        let server = server.unwrap_or_else(|| "the store".to_owned());
        let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
        let text = format!("no answer from {server} ({})", one_line(&innermost));
        Cause { text, kind: FailureKind::StorageUnavailable }
    }

    /// An answer that is no success.
    pub(super) fn status(status: StatusCode, body: &str) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::StorageAuth,
            _ => FailureKind::StorageUnavailable,
        };
        Cause { text: with_details(&status.to_string(), body), kind }
    }

    /// An answer that makes no sense.
    pub(super) fn senseless(what: &str) -> Self {
        let text = format!("the answer is {}", one_line(what));
        Cause { text, kind: FailureKind::StorageUnavailable }
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

/// What the store answered, if it did.
fn answer(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let (_, answer) = text.split_once("status code: ").or_else(|| text.split_once("response: "))?;
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    Some(with_details(status, body))
}

/// The status and, of the body, what stores put into `Code` and `Message`. The rest of it
/// may repeat the request that was signed.
fn with_details(status: &str, body: &str) -> String {
    let part = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        Some(one_line(rest.split_once("</")?.0))
    };
    let details: Vec<_> = ["Code", "Message"].into_iter().filter_map(part).collect();
    match details.is_empty() {
        true => one_line(status),
        false => format!("{} ({})", one_line(status), details.join(": ")),
    }
}

/// At most 200 characters, and no line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
