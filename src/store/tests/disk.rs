//! What only a disk has: links, folders, files that are in the way.

use std::fs;

use futures_util::TryStreamExt;
use tempfile::TempDir;

use super::contract::{self, Place, Unfinished, write};
use super::read_error;
use super::store::{Cause, Store, StoreError};
use crate::snapshot::FailureKind;

fn disk() -> (TempDir, Store) {
    let folder = TempDir::new().expect("a folder");
    let store = Store::open(&url(&folder)).expect("a store");
    (folder, store)
}

fn url(folder: &TempDir) -> String {
    format!("file://{}/store", folder.path().display())
}

async fn open() -> Place {
    let (folder, store) = disk();
    let again = Store::open(&url(&folder)).expect("a store");
    Place { store, again, unfinished: Unfinished::AsFiles, many: 300, _guard: Box::new(folder) }
}

contract!(open);

#[tokio::test]
async fn a_link_leads_nowhere() {
    let (folder, store) = disk();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("x"), "secret").expect("a file");
    std::os::unix::fs::symlink(&outside, folder.path().join("store/link")).expect("a link");
    for error in [
        write(&store, "link/x", b"x", 1).await.expect_err("a link"),
        store.delete("link/x").await.expect_err("a link"),
        read_error(&store, "link/x").await,
        store.list("link").try_next().await.expect_err("a link"),
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
