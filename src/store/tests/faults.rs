//! Stores that refuse, fail, lie, hang or are away.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tokio::task::{block_in_place, spawn_blocking};

use super::contract::{noise, stored, write};
use super::fake_bucket::{FakeBucket, Fault, Request};
use super::store::{ListedUpload, OwnerClaim, Store, StoreError};
use super::{S3, client, google, open, patient_client, read_error, s3};
use crate::snapshot::FailureKind::{StorageAuth as Auth, StorageUnavailable as Unavailable};
use crate::snapshot::Timestamp;

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access\n Denied</Message>\
    <StringToSign>the-signature</StringToSign></Error>";

/// A store that is told nothing of checksums.
fn unsummed(endpoint: &str) -> Store {
    open(&client(S3), endpoint, &[("AWS_CHECKSUM_ALGORITHM", "none")])
}

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
        assert_eq!(error.failure_kind(), Auth);
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
        assert_eq!(error.failure_kind(), Auth, "{error}");
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
async fn a_store_that_swallows_what_it_gets_is_found_out() {
    let (store, _bucket) = faulty(|r| (r.method == "PUT").then_some(Fault::Answer(200, "")));
    let error = write(&store, "x", b"swallowed", 9).await.expect_err("a lie");
    assert_eq!(error.to_string(), "checking x in the storage failed: 404 Not Found");
    assert!(error.is_retryable());

    let (store, _bucket) = faulty(|r| r.is_part(2).then_some(Fault::Answer(200, "")));
    let error = write(&store, "x", &noise(20 << 20), 1 << 20).await.expect_err("a lie");
    assert!(
        matches!(error, StoreError::Size { written: 20_971_520, found: 15_728_640, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_that_changes_what_it_gets_is_found_out() {
    let changed = |request: &Request| {
        let change =
            Fault::Change(|bytes| bytes.iter_mut().skip(500).take(1).for_each(|b| *b ^= 1));
        (request.is_part(2) || request.key.ends_with("small")).then_some(change)
    };
    let bucket = FakeBucket::start(changed);
    // With checksums, without, and of a kind that has none.
    for store in [s3(&bucket.endpoint), unsummed(&bucket.endpoint), google(&bucket.endpoint)] {
        for (name, size) in [("small", 1000), ("large", 20 << 20)] {
            let error = write(&store, name, &noise(size), 1 << 20).await.expect_err("a lie");
            assert!(matches!(error, StoreError::Content { .. }), "{error}");
            assert!(error.is_retryable() && error.to_string().starts_with(name), "{error}");
        }
    }
}

#[tokio::test]
async fn only_a_store_without_checksums_has_to_show_what_it_has() {
    let bucket = FakeBucket::start(|_| None);
    let looks = || {
        let asked = std::mem::take(&mut bucket.contents().requests);
        asked.iter().filter(|request| request.starts_with("GET ")).count()
    };
    for (store, gets) in
        [(s3(&bucket.endpoint), 0), (unsummed(&bucket.endpoint), 2), (google(&bucket.endpoint), 2)]
    {
        for (name, size) in [("small", 1000), ("large", 20 << 20)] {
            let bytes = noise(size);
            let written = write(&store, name, &bytes, 1 << 20).await.expect("stored");
            assert_eq!(written, stored(&bytes));
        }
        assert_eq!(looks(), gets);
    }
}

#[tokio::test]
async fn what_has_changed_since_is_found_out() {
    let (store, bucket) = faulty(|_| None);
    let bytes = noise(1000);
    let written = write(&store, "x", &bytes, 1000).await.expect("stored");
    store.verify("x", &written).await.expect("it is as it was");
    let change = |change: fn(&mut Vec<u8>)| {
        change(&mut bucket.contents().objects.get_mut("some/prefix/x").expect("there").bytes);
    };
    change(|bytes| bytes[7] ^= 1);
    let error = store.verify("x", &written).await.expect_err("changed");
    assert!(matches!(error, StoreError::Content { .. }), "{error}");
    change(|bytes| bytes.truncate(999));
    let error = store.verify("x", &written).await.expect_err("cut off");
    assert!(matches!(error, StoreError::Size { written: 1000, found: 999, .. }), "{error}");
    bucket.contents().objects.clear();
    let error = store.verify("x", &written).await.expect_err("gone");
    assert!(matches!(error, StoreError::Check { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_ends_early_is_no_part_of_a_file() {
    let cut = |request: &Request| {
        let cut = Fault::ChangeAnswer(|bytes| bytes.truncate(6));
        (request.method == "GET").then_some(cut)
    };
    let (store, _bucket) = faulty(cut);
    write(&store, "x", b"123456789", 9).await.expect("stored");
    let error = read_error(&store, "x").await;
    assert!(error.to_string().ends_with("the answer is 6 bytes where 9 were asked for"), "{error}");
    assert!(error.is_retryable());
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
        assert_eq!(error.failure_kind(), Unavailable);
    }
}

/// What a person reads, and whether it is tried again.
#[tokio::test]
async fn a_wrong_setting_is_named() {
    let no_bucket =
        "<Error><Code>NoSuchBucket</Code><Message>The bucket is not there</Message></Error>";
    let region = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message></Error>";
    let clock = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    for (status, body, kind, said) in [
        (
            404,
            no_bucket,
            Unavailable,
            "404 Not Found (NoSuchBucket: The bucket is not there); STRANDLINE_STORAGE_URL names a bucket that is not there",
        ),
        (
            400,
            region,
            Unavailable,
            "400 Bad Request (AuthorizationHeaderMalformed: the region 'us-east-1' is wrong; expecting 'eu-west-1'); AWS_REGION may not be the bucket's",
        ),
        (
            301,
            "",
            Unavailable,
            "Received redirect without LOCATION, this normally indicates an incorrectly configured region; AWS_REGION may not be the bucket's",
        ),
        (
            403,
            clock,
            Auth,
            "403 Forbidden (RequestTimeTooSkewed: The difference is too large.); the clock of this machine is wrong",
        ),
    ] {
        let (store, _bucket) = faulty(move |_| Some(Fault::Answer(status, body)));
        for size in [10, 20 << 20] {
            let error = write(&store, "x", &noise(size), 1 << 20).await.expect_err("refused");
            assert_eq!(error.to_string(), format!("writing x to the storage failed: {said}"));
            assert_eq!(error.failure_kind(), kind, "{error}");
        }
        let error = store.list("").try_next().await.expect_err("refused");
        assert_eq!(error.to_string(), format!("listing the storage failed: {said}"));
    }
}

/// Three answers out of ten are "slow down" or none at all.
#[tokio::test]
async fn a_storm_is_ridden_out() {
    let asked = AtomicU32::new(0);
    let bucket = FakeBucket::start(move |_| {
        match asked.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761) >> 16 & 15 {
            0 => Some(Fault::Answer(500, "")),
            1 | 2 => Some(Fault::Answer(503, SLOW_DOWN)),
            3 => Some(Fault::Reset),
            4 => Some(Fault::LoseAnswer),
            _ => None,
        }
    });
    let store = open(&patient_client(S3), &bucket.endpoint, &[]);
    for i in 0..20 {
        let (name, bytes) = (format!("a/{i}"), noise(if i % 4 == 0 { 20 << 20 } else { 1000 }));
        let written = write(&store, &name, &bytes, 1 << 20).await.expect("stored");
        assert_eq!(written, stored(&bytes));
    }
    assert_eq!(bucket.contents().objects.len(), 20);
}

const SLOW_DOWN: &str =
    "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

#[tokio::test]
async fn a_storm_that_lasts_is_a_failure_to_try_again() {
    for (fault, said) in [
        (
            Fault::Answer(503, SLOW_DOWN),
            "503 Service Unavailable (SlowDown: Please reduce your request rate.)",
        ),
        (Fault::Reset, "no answer from http://127.0.0.1"),
    ] {
        let bucket = FakeBucket::start(move |_| Some(fault));
        let store = open(&patient_client(S3), &bucket.endpoint, &[]);
        for size in [10, 20 << 20] {
            let error = write(&store, "x", &noise(size), 1 << 20).await.expect_err("refused");
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.is_retryable(), "{error}");
        }
    }
}

/// It says nothing for longer than we wait, but not for good.
#[tokio::test]
async fn a_store_that_hangs_for_a_while_is_waited_for() {
    let asked = AtomicU32::new(0);
    let bucket = FakeBucket::start(move |_| {
        asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(3).then_some(Fault::Hang)
    });
    let store = open(&patient_client(S3), &bucket.endpoint, &[("AWS_TIMEOUT", "1 second")]);
    let bytes = noise(20 << 20);
    assert_eq!(write(&store, "x", &bytes, 1 << 20).await.expect("stored"), stored(&bytes));

    let bucket = FakeBucket::start(|_| Some(Fault::Hang));
    let store = open(&client(S3), &bucket.endpoint, &[("AWS_TIMEOUT", "1 second")]);
    let error = write(&store, "x", b"x", 1).await.expect_err("no answer");
    assert!(error.to_string().contains("(operation timed out)"), "{error}");
    assert!(error.is_retryable(), "{error}");
}

/// A lease that is lost, or a stop, does not wait for the store.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_store_that_hangs_can_be_given_up() {
    type Hangs = fn(&Request) -> bool;
    let at: [(usize, Hangs); 4] = [
        (10, |request| request.method == "PUT"),
        (20 << 20, |request| request.query.contains_key("uploads")),
        (20 << 20, |request| request.is_part(1)),
        (20 << 20, Request::completes),
    ];
    for (size, hangs) in at {
        let (told, asked) = std::sync::mpsc::channel();
        let bucket = FakeBucket::start(move |request| {
            let hangs = hangs(request);
            hangs.then(|| told.send(()).map_or(Fault::Reset, |()| Fault::Hang))
        });
        let (mut sink, upload) = s3(&bucket.endpoint).sink("x");
        let written = spawn_blocking(move || {
            sink.write_all(&noise(size))?;
            sink.close()
        });
        block_in_place(|| asked.recv_timeout(Duration::from_secs(60)).expect("asked"));
        let started = Instant::now();
        drop(upload);
        // Where all of it had been handed over, that went well.
        let _ = written.await.expect("no panic");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}
