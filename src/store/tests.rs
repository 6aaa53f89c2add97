//! On a disk, and in a bucket that is a fake.

use std::fs;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::snapshot::FailureKind;

fn disk() -> (TempDir, Store) {
    let folder = TempDir::new().expect("a folder");
    let store = Store::open(&format!("file://{}/store", folder.path().display())).expect("a store");
    (folder, store)
}

/// Every file below the folder, unfinished ones and all.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 15) as u8).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Writes in pieces of `piece` bytes, as a thread that blocks does.
async fn write(
    store: &Store,
    name: &str,
    bytes: &[u8],
    piece: usize,
) -> Result<StoredObject, StoreError> {
    let (mut sink, upload) = store.sink(name);
    let bytes = bytes.to_vec();
    let written = tokio::task::spawn_blocking(move || {
        bytes.chunks(piece).try_for_each(|piece| sink.write_all(piece))?;
        sink.close()
    });
    let written = written.await.expect("no panic");
    let stored = upload.finish().await;
    // A small object is on its way only after the sink was closed.
    if let Err(written) = written {
        assert_eq!(written.to_string(), stored.as_ref().expect_err("failed").to_string());
    }
    stored
}

async fn read(store: &Store, name: &str) -> Result<Bytes, ParquetError> {
    let size = store.size(&store.locate(name).await.expect("a name")).await.expect("there");
    if size == 0 {
        return Ok(Bytes::new());
    }
    store.reader(name, None).get_bytes(0..size).await
}

#[tokio::test]
async fn what_is_written_is_there_whether_small_or_large() {
    let (folder, store) = disk();
    let exactly_one_part = 8 << 20;
    for (name, size, piece) in [
        ("a/empty", 0, 1),
        ("a/small", 1000, 7),
        ("a/b/one-part", exactly_one_part, 1 << 20),
        ("a/large", 20 << 20, 3000),
        ("a/large-in-one-go", 17 << 20, 17 << 20),
    ] {
        let bytes = noise(size);
        let stored = write(&store, name, &bytes, piece).await.expect("stored");
        assert_eq!(stored, StoredObject { bytes: size as u64, sha256: sha256(&bytes) }, "{name}");
        assert!(read(&store, name).await.expect("readable") == bytes, "{name}");
    }
    assert_eq!(files(folder.path()).len(), 5);
}

#[tokio::test]
async fn async_code_writes_without_a_sink() {
    let (_folder, store) = disk();
    let mut object = store.create("a").await.expect("a name");
    object.write(Bytes::from_static(b"one ")).await.expect("room");
    object.write(Bytes::from_static(b"two")).await.expect("room");
    assert_eq!(object.finish().await.expect("stored").sha256, sha256(b"one two"));
}

#[tokio::test]
async fn nothing_is_seen_of_what_was_given_up() {
    let (folder, store) = disk();
    for size in [1000, 20 << 20] {
        let (mut sink, upload) = store.sink("x/dropped");
        let bytes = noise(size);
        let dropped = tokio::task::spawn_blocking(move || {
            sink.write_all(&bytes).expect("room");
            sink.flush().expect("room");
        });
        dropped.await.expect("no panic");
        let error = upload.finish().await.expect_err("never closed");
        assert!(matches!(error, StoreError::Abandoned { .. }), "{error}");

        let mut object = store.create("x/aborted").await.expect("a name");
        object.write(noise(size).into()).await.expect("room");
        object.abort().await.expect("aborted");
    }
    assert_eq!(files(folder.path()), [""; 0]);
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_ends() {
    let (folder, store) = disk();
    let (mut sink, upload) = store.sink("x");
    drop(upload);
    let error = tokio::task::spawn_blocking(move || {
        loop {
            if let Err(error) = sink.write_all(&[0; 300_000]) {
                return error;
            }
        }
    });
    assert!(error.await.expect("no panic").to_string().contains("given up"));
    assert_eq!(files(folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_name_leads_nowhere_else() {
    let (folder, store) = disk();
    for bad in ["", "/", "../x", "a/../x", "a//b", "a/./b", "a\nb", "a\0b"] {
        let error = store.create(bad).await.err().expect(bad);
        assert!(matches!(error, StoreError::Name { .. }), "{bad:?}: {error}");
        assert!(!error.is_retryable());
        assert!(write(&store, bad, b"x", 1).await.is_err(), "{bad:?}");
    }
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("x"), "secret").expect("a file");
    std::os::unix::fs::symlink(&outside, folder.path().join("store/link")).expect("a link");
    for error in [
        write(&store, "link/x", b"x", 1).await.expect_err("a link"),
        store.delete("link/x").await.expect_err("a link"),
        read_error(&store, "link/x").await,
    ] {
        assert!(matches!(error, StoreError::Link { .. }), "{error}");
    }
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.expect("listed"), []);
    assert_eq!(fs::read(outside.join("x")).expect("still there"), b"secret");
}

#[tokio::test]
async fn a_listing_shows_unfinished_files_and_deleting_leaves_no_empty_folders() {
    let (folder, store) = disk();
    write(&store, "a/b/done", b"123", 1).await.expect("stored");
    fs::write(folder.path().join("store/a/b/torso#1"), "12").expect("a file");
    write(&store, "c", b"1", 1).await.expect("stored");
    let names = |prefix: &'static str| {
        let listed = store.list(prefix).map_ok(|object| (object.name, object.bytes));
        async { listed.try_collect::<std::collections::BTreeMap<_, _>>().await.expect("listed") }
    };
    let all = [("a/b/done", 3), ("a/b/torso#1", 2), ("c", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(names("").await, all.clone().into());
    assert_eq!(names("a").await, all[..2].iter().cloned().collect());
    assert!(names("nothing/here").await.is_empty());
    let age = store.list("c").try_next().await.expect("listed");
    assert!(age.is_none(), "a file is no folder");
    for name in ["a/b/torso#1", "a/b/done", "a/b/done", "c"] {
        store.delete(name).await.expect("deleted, or gone already");
    }
    assert!(names("").await.is_empty());
    assert!(!folder.path().join("store/a").exists() && folder.path().join("store").exists());
}

#[tokio::test]
async fn an_error_of_the_disk_names_the_object_and_no_path() {
    let (folder, store) = disk();
    fs::write(folder.path().join("store/a"), "in the way").expect("a file");
    let error = write(&store, "a/b/c", b"x", 1).await.expect_err("a is no folder");
    assert!(error.to_string().starts_with("writing a/b/c to the storage failed: "), "{error}");
    let read = read_error(&store, "gone").await;
    for error in [&error, &read] {
        assert!(!error.to_string().contains(folder.path().to_str().expect("text")), "{error}");
        assert_eq!(error.failure_kind(), FailureKind::StorageUnavailable);
        assert!(error.is_retryable());
    }
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(Cause::local(&full).to_string(), "the disk is full");
}

async fn read_error(store: &Store, name: &str) -> StoreError {
    let error = store.reader(name, Some(9)).get_bytes(0..9).await.expect_err("not there");
    assert!(StoreError::behind(&error).is_some());
    let ParquetError::External(error) = error else { panic!("{error}") };
    *error.downcast::<StoreError>().expect("ours")
}

#[test]
fn settings_that_do_not_work_say_why() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let below_a_file = format!("file://{}/x", file.display());
    for (url, part) in [
        ("/var/lib/strandline", "has no scheme; write it as file:///dir"),
        ("strandline-data", "has no scheme"),
        ("", "has no scheme"),
        ("file:data", "is no absolute path; write it with three slashes"),
        ("file://data/dir", "is no absolute path"),
        ("ftp://host/dir", "has a scheme that is not known; write it as file:///dir"),
        ("s3://", "no bucket"),
        ("s3://id:secret@bucket/x", "credentials"),
        ("az://container/x?sig=secret", "credentials"),
        ("s3://bucket:9000/x", "a port"),
        (below_a_file.as_str(), "can't be used as a folder to write to: "),
    ] {
        let error = Store::open(url).expect_err(url);
        let text = error.to_string();
        assert!(text.starts_with("STRANDLINE_STORAGE_URL: ") && text.contains(part), "{text}");
        assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn urls_are_whole_and_encoded() {
    let folder = TempDir::new().expect("a folder");
    let root = format!("file://{}", folder.path().display());
    for (setting, shown) in
        [("/with space", "/with%20space"), ("/a%23b/", "/a%23b"), ("/ü", "/%C3%BC")]
    {
        let store = Store::open(&format!("{root}{setting}")).expect("a store");
        assert_eq!(store.url("a.b/c_d/x.parquet"), format!("{root}{shown}/a.b/c_d/x.parquet"));
        assert_eq!(
            store.url("50%/#1?"),
            format!("{root}{shown}/50%/%231%3F").replace("50%", "50%25")
        );
    }
    assert!(folder.path().join("with space").is_dir() && folder.path().join("a#b").is_dir());
    let _ = rustls::crypto::ring::default_provider().install_default();
    for url in ["s3://bucket/some/prefix", "s3://bucket", "gs://bucket/x/"] {
        let store = Store::open(url).expect("nothing is sent yet");
        assert_eq!(store.url("a/b"), format!("{}/a/b", url.trim_end_matches('/')));
    }
}

#[tokio::test]
async fn a_bucket_does_all_that_a_disk_does() {
    let (store, bucket) = fake_bucket::start(|_| None);
    for (name, size) in [("a/small", 1000), ("a/large", 20 << 20)] {
        let bytes = noise(size);
        let stored = write(&store, name, &bytes, 100_000).await.expect("stored");
        assert_eq!(stored, StoredObject { bytes: size as u64, sha256: sha256(&bytes) });
        assert!(bucket.lock().expect("no panic").objects[&format!("some/prefix/{name}")] == bytes);
        assert!(read(&store, name).await.expect("readable") == bytes, "{name}");
    }
    let listed: Vec<_> = store.list("").try_collect().await.expect("listed");
    assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a/large", "a/small"]);
    assert_eq!(listed[1].modified_at.to_string(), "2025-07-29T00:00:00.000Z");
    store.delete("a/small").await.expect("deleted");
    store.delete("a/small").await.expect("gone already");
    assert_eq!(bucket.lock().expect("no panic").objects.len(), 1);
}

#[tokio::test]
async fn a_bucket_keeps_nothing_of_what_was_given_up() {
    let (store, bucket) = fake_bucket::start(|_| None);
    let (mut sink, upload) = store.sink("x");
    let dropped = tokio::task::spawn_blocking(move || sink.write_all(&noise(20 << 20)));
    dropped.await.expect("no panic").expect("room");
    assert!(upload.finish().await.is_err());
    let bucket = bucket.lock().expect("no panic");
    assert!(bucket.objects.is_empty() && bucket.parts.is_empty());
    assert!(bucket.requests.iter().any(|request| request.starts_with("delete ")));
}

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access\n Denied</Message>\
    <StringToSign>the-signature</StringToSign></Error>";

#[tokio::test]
async fn credentials_that_are_refused_are_not_tried_again() {
    let (store, _) = fake_bucket::start(|_| Some((403, DENIED)));
    for size in [10, 20 << 20] {
        let error = write(&store, "a/x", &noise(size), 1 << 20).await.expect_err("denied");
        assert_eq!(
            error.to_string(),
            "writing a/x to the storage failed: 403 Forbidden (AccessDenied: Access Denied)"
        );
        assert_eq!(error.failure_kind(), FailureKind::StorageAuth);
        assert!(!error.is_retryable());
    }
    assert_eq!(read_error(&store, "a/x").await.failure_kind(), FailureKind::StorageAuth);
}

#[tokio::test]
async fn a_store_that_fails_or_lies_is_found_out() {
    let at_the_end: [fake_bucket::Fault; 3] = [
        |request| request.contains("partnumber=2").then_some((500, "")),
        |request| {
            (request.starts_with("post ") && request.contains("uploadid")).then_some((503, DENIED))
        },
        |request| {
            let done = request.starts_with("post ") && request.contains("uploadid");
            done.then_some((200, "<Error><Code>InternalError</Code></Error>"))
        },
    ];
    for fault in at_the_end {
        let (store, bucket) = fake_bucket::start(fault);
        let error = write(&store, "x", &noise(20 << 20), 1 << 20).await.expect_err("failed");
        assert!(matches!(error, StoreError::Write { .. }), "{error}");
        assert!(error.is_retryable() && !error.to_string().contains("signature"), "{error}");
        let bucket = bucket.lock().expect("no panic");
        assert!(bucket.objects.is_empty() && bucket.parts.is_empty(), "{error}");
    }

    let (store, _) = fake_bucket::start(|request| request.starts_with("put ").then_some((200, "")));
    let error = write(&store, "x", b"swallowed", 9).await.expect_err("a lie");
    assert_eq!(error.to_string(), "checking x in the storage failed: 404 Not Found");
    assert!(error.is_retryable());

    let (store, _) = fake_bucket::start(|r| r.contains("partnumber=2").then_some((200, "")));
    let error = write(&store, "x", &noise(20 << 20), 1 << 20).await.expect_err("a lie");
    assert!(
        matches!(error, StoreError::Size { written: 20_971_520, found: 12_582_912, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_got_lost_is_no_failure() {
    let (store, _) = fake_bucket::start(|request| {
        let last = request.starts_with("post ") && request.contains("uploadid");
        (last || request == "put /bucket/some/prefix/small")
            .then_some((fake_bucket::LOST_ANSWER, ""))
    });
    for (name, size) in [("small", 10), ("large", 20 << 20)] {
        let bytes = noise(size);
        let stored = write(&store, name, &bytes, 1 << 20).await.expect("it is there");
        assert_eq!(stored, StoredObject { bytes: size as u64, sha256: sha256(&bytes) });
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = fake_bucket::store("http://127.0.0.1:1");
    let error = write(&store, "a/x", b"x", 1).await.expect_err("nobody there");
    let text = error.to_string();
    assert!(text.contains("no answer from http://127.0.0.1:1 ("), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert_eq!(error.failure_kind(), FailureKind::StorageUnavailable);
}
