//! Stores that refuse, fail, lie, hang or are away.

use futures_util::TryStreamExt;

use super::contract::{noise, stored, write};
use super::fake_bucket::{FakeBucket, Fault, Request};
use super::store::{ListedUpload, OwnerClaim, Store, StoreError};
use super::{read_error, s3};
use crate::snapshot::{FailureKind, Timestamp};

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access\n Denied</Message>\
    <StringToSign>the-signature</StringToSign></Error>";

/// A bucket with this fault in whatever is asked for.
fn faulty(
    fault: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static,
) -> (Store, FakeBucket) {
    let bucket = FakeBucket::start(fault);
    (s3(&bucket.endpoint), bucket)
}

#[tokio::test]
async fn credentials_that_are_refused_are_not_tried_again() {
    let (store, _bucket) = faulty(|_| Some(Fault::Answer(403, DENIED)));
    for size in [10, 20 << 20] {
        let error = write(&store, "a/x", &noise(size), 1 << 20).await.expect_err("denied");
        assert_eq!(
            error.to_string(),
            "writing a/x to the storage failed: 403 Forbidden (AccessDenied: Access Denied)"
        );
        assert_eq!(error.failure_kind(), FailureKind::StorageAuth);
        assert!(!error.is_retryable());
    }
    let upload = ListedUpload {
        name: "a/x".to_owned(),
        upload_id: "1".to_owned(),
        started_at: Timestamp::from_millis(0),
    };
    for error in [
        read_error(&store, "a/x").await,
        store.list_uploads().try_next().await.expect_err("denied"),
        store.abort_upload(&upload).await.expect_err("denied"),
        store.claim_owner("us").await.expect_err("denied"),
    ] {
        assert!(
            error.to_string().ends_with("403 Forbidden (AccessDenied: Access Denied)"),
            "{error}"
        );
        assert_eq!(error.failure_kind(), FailureKind::StorageAuth, "{error}");
    }
}

#[tokio::test]
async fn a_store_that_fails_at_the_end_leaves_nothing() {
    let at_the_end: [fn(&Request) -> Option<Fault>; 4] = [
        |request| request.is_part(2).then_some(Fault::Answer(500, "")),
        |request| request.completes().then_some(Fault::Answer(503, DENIED)),
        |request| {
            let said = "<Error><Code>InternalError</Code></Error>";
            request.completes().then_some(Fault::Answer(200, said))
        },
        |request| {
            let said = "<Error><Code>AccessDenied</Code></Error>";
            request.completes().then_some(Fault::Answer(200, said))
        },
    ];
    for fault in at_the_end {
        let (store, bucket) = faulty(fault);
        let error = write(&store, "x", &noise(20 << 20), 1 << 20).await.expect_err("failed");
        assert!(matches!(error, StoreError::Write { .. }), "{error}");
        assert!(error.is_retryable() && !error.to_string().contains("signature"), "{error}");
        let contents = bucket.contents();
        assert!(contents.objects.is_empty() && contents.uploads.is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    let (store, _bucket) = faulty(|r| (r.method == "PUT").then_some(Fault::Answer(200, "")));
    let error = write(&store, "x", b"swallowed", 9).await.expect_err("a lie");
    assert_eq!(error.to_string(), "checking x in the storage failed: 404 Not Found");
    assert!(error.is_retryable());

    let (store, _bucket) = faulty(|r| r.is_part(2).then_some(Fault::Answer(200, "")));
    let error = write(&store, "x", &noise(20 << 20), 1 << 20).await.expect_err("a lie");
    assert!(
        matches!(error, StoreError::Size { written: 20_971_520, found: 12_582_912, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_got_lost_is_no_failure() {
    let (store, _bucket) = faulty(|request| {
        let last = request.completes() || request.line.starts_with("PUT /bucket/some/prefix/small");
        last.then_some(Fault::LoseAnswer)
    });
    for (name, size) in [("small", 10), ("large", 20 << 20)] {
        let bytes = noise(size);
        let written = write(&store, name, &bytes, 1 << 20).await.expect("it is there");
        assert_eq!(written, stored(&bytes));
    }
}

#[tokio::test]
async fn a_claim_whose_answer_got_lost_counts() {
    let (store, _bucket) = faulty(|r| (r.method == "PUT").then_some(Fault::LoseAnswer));
    assert_eq!(store.claim_owner("us").await.expect("claimed"), OwnerClaim::Ours);

    let (store, _bucket) = faulty(|r| (r.method == "PUT").then_some(Fault::Answer(409, "")));
    let error = store.claim_owner("us").await.expect_err("never written");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_store_that_is_away_is_named() {
    let store = s3("http://127.0.0.1:1");
    let error = write(&store, "a/x", b"x", 1).await.expect_err("nobody there");
    for error in [error, store.list_uploads().try_next().await.expect_err("nobody there")] {
        let text = error.to_string();
        assert!(text.contains("no answer from http://127.0.0.1:1 ("), "{text}");
        assert!(text.contains("refused"), "{text}");
        assert_eq!(error.failure_kind(), FailureKind::StorageUnavailable);
    }
}
