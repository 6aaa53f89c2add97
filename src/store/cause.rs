//! What a store said, as a line that a person can act on.

use std::error::Error;
use std::fmt;
use std::io;

use http::StatusCode;
use object_store::client::HttpError;
use url::Url;

use crate::snapshot::FailureKind;

/// What is wrong where a store says one of these, and what to do.
const HINTS: &[(&str, &str)] = &[
    ("NoSuchBucket", "STRANDLINE_STORAGE_URL names a bucket that is not there"),
    ("ContainerNotFound", "STRANDLINE_STORAGE_URL names a container that is not there"),
    ("AuthorizationHeaderMalformed", "AWS_REGION may not be the bucket's"),
    ("PermanentRedirect", "AWS_REGION may not be the bucket's"),
    ("incorrectly configured region", "AWS_REGION may not be the bucket's"),
    ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
    ("InvalidAccessKeyId", "see AWS_ACCESS_KEY_ID"),
    ("SignatureDoesNotMatch", "see AWS_SECRET_ACCESS_KEY"),
    (
        "no answer from http://169.254.169.254",
        "AWS_ACCESS_KEY_ID is not set, and this machine has no role of its own",
    ),
];

/// What a store said, in one line.
#[derive(Debug)]
pub struct Cause {
    text: String,
    kind: FailureKind,
}

impl Cause {
    pub(super) fn kind(&self) -> FailureKind {
        self.kind
    }

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
            // What is in front names the whole request.
            _ => one_line(error.to_string().rsplit(" - ").next().unwrap_or_default()),
        });
        Cause { text: with_hint(text), kind }
    }

    /// No answer came: what is innermost says why. Of the request, the server alone is named.
    pub(super) fn unanswered(url: &str, error: &HttpError) -> Self {
        let server = Url::parse(url).ok().map(|url| url.origin().ascii_serialization());
        let server = server.unwrap_or_else(|| "the store".to_owned());
        let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
        let text = format!("no answer from {server} ({})", one_line(&innermost));
        Cause { text: with_hint(text), kind: FailureKind::StorageUnavailable }
    }

    /// An answer that is no success.
    pub(super) fn status(status: StatusCode, body: &str) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::StorageAuth,
            _ => FailureKind::StorageUnavailable,
        };
        Cause { text: with_hint(with_details(&status.to_string(), body)), kind }
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

/// An error and those behind it.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
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

fn with_hint(text: String) -> String {
    match HINTS.iter().find(|(said, _)| text.contains(said)) {
        Some((_, hint)) => format!("{text}; {hint}"),
        None => text,
    }
}

/// At most 200 characters, and no line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
