//! What every store does, whatever it is: the same tests for a disk, for buckets that are
//! fakes, and for real ones (`tests/stores`).
//!
//! `contract!(open)` makes tests of them in a module that imports this one; `open` gives each
//! a [`Place`].

use std::any::Any;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::store::{ListedUpload, OwnerClaim, Store, StoreError, StoredObject};

/// All parts of an upload but its last have this size.
const PART_BYTES: usize = 5 << 20;

/// A store of a test's own.
pub struct Place {
    pub store: Store,
    /// The same storage as another replica has it.
    pub again: Store,
    /// How unfinished uploads show.
    pub unfinished: Unfinished,
    /// Objects that need more than one page of a listing.
    pub many: usize,
    /// What is dropped when the test ends.
    pub _guard: Box<dyn Any + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// In the listing, as files with another name.
    AsFiles,
    /// In a listing of their own.
    AsUploads,
    /// Not at all.
    Hidden,
}

macro_rules! contract {
    ($open:path) => {
        contract!($open =>
            what_is_written_is_there_whether_small_or_large
            async_code_writes_without_a_sink
            an_object_is_not_seen_before_it_is_finished
            nothing_is_left_of_what_was_given_up
            an_upload_that_nobody_waits_for_ends
            attempts_do_not_meet
            deleting_twice_is_no_error
            a_listing_shows_what_is_below_a_folder
            a_long_listing_is_whole
            every_part_of_an_object_can_be_read
            what_is_not_there_can_not_be_read
            odd_characters_make_a_name
            names_that_lead_elsewhere_are_refused
            unfinished_uploads_are_found_and_removed
            a_storage_has_one_owner
            a_storage_knows_the_last_generation_that_it_was_told_of
            replicas_that_claim_at_once_own_it_together
        );
    };
    ($open:path => $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                contract::$test(&$open().await).await;
            }
        )*
    };
}

pub fn noise(bytes: usize) -> Vec<u8> {
    // Made once: it takes longer than a test should.
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 15) as u8;
    NOISE.get_or_init(|| (0..20 << 20).map(number).collect())[..bytes].to_vec()
}

pub fn stored(bytes: &[u8]) -> StoredObject {
    StoredObject { bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
}

/// Writes in pieces of `piece` bytes, as a thread that blocks does.
pub async fn write(
    store: &Store,
    name: &str,
    bytes: &[u8],
    piece: usize,
) -> Result<StoredObject, StoreError> {
    let (mut sink, upload) = store.sink(name);
    let bytes = bytes.to_vec();
    let written = spawn_blocking(move || {
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

pub async fn read(store: &Store, name: &str, bytes: usize) -> Result<Bytes, ParquetError> {
    store.reader(name, Some(bytes as u64)).get_bytes(0..bytes as u64).await
}

pub async fn names(store: &Store, folder: &str) -> BTreeSet<String> {
    let listed = store.list(folder).map_ok(|object| object.name);
    listed.try_collect().await.expect("listed")
}

async fn uploads(store: &Store) -> Vec<ListedUpload> {
    store.list_uploads().try_collect().await.expect("listed")
}

/// Nothing is there, seen or unseen.
async fn assert_empty(store: &Store) {
    assert_eq!(names(store, "").await, BTreeSet::new());
    assert_eq!(uploads(store).await, []);
}

pub async fn what_is_written_is_there_whether_small_or_large(place: &Place) {
    for (name, size, piece) in [
        ("a/empty", 0, 1),
        ("a/small", 1000, 7),
        ("a/nearly-a-part", PART_BYTES - 1, 1 << 20),
        ("a/b/one-part", PART_BYTES, 1 << 20),
        ("a/a-little-more", PART_BYTES + 1, PART_BYTES),
        ("a/two-parts", 2 * PART_BYTES, 3 << 20),
        ("a/large", 20 << 20, 3000),
        ("a/large-in-one-go", 17 << 20, 17 << 20),
    ] {
        let bytes = noise(size);
        let written = write(&place.store, name, &bytes, piece).await.expect("stored");
        assert_eq!(written, stored(&bytes), "{name}");
        let listed: Vec<_> = place.again.list("").try_collect().await.expect("listed");
        let listed = listed.iter().find(|object| object.name == name).expect("listed");
        assert_eq!(listed.bytes, size as u64, "{name}");
        if size > 0 {
            assert!(read(&place.again, name, size).await.expect("readable") == bytes, "{name}");
        }
    }
    assert_eq!(uploads(&place.store).await, []);
}

pub async fn async_code_writes_without_a_sink(place: &Place) {
    let mut object = place.store.create("a").await.expect("a name");
    object.write(Bytes::from_static(b"one ")).await.expect("room");
    object.write(Bytes::from_static(b"two")).await.expect("room");
    assert_eq!(object.finish().await.expect("stored"), stored(b"one two"));
    assert_eq!(read(&place.store, "a", 7).await.expect("readable"), "one two");
}

pub async fn an_object_is_not_seen_before_it_is_finished(place: &Place) {
    for (name, size) in [("small", 1000), ("large", 20 << 20)] {
        let bytes = noise(size);
        let mut object = place.store.create(name).await.expect("a name");
        object.write(bytes.clone().into()).await.expect("room");
        assert!(!names(&place.again, "").await.contains(name), "{name}");
        assert!(read(&place.again, name, 1).await.is_err(), "{name}");
        assert_eq!(object.finish().await.expect("stored"), stored(&bytes));
        assert!(names(&place.again, "").await.contains(name), "{name}");
    }
}

pub async fn nothing_is_left_of_what_was_given_up(place: &Place) {
    for size in [1000, 20 << 20] {
        let (mut sink, upload) = place.store.sink("x/dropped");
        let bytes = noise(size);
        let dropped = spawn_blocking(move || {
            sink.write_all(&bytes).expect("room");
            sink.flush().expect("room");
        });
        dropped.await.expect("no panic");
        let error = upload.finish().await.expect_err("never closed");
        assert!(matches!(error, StoreError::Abandoned { .. }), "{error}");

        let mut object = place.store.create("x/aborted").await.expect("a name");
        object.write(noise(size).into()).await.expect("room");
        object.abort().await.expect("aborted");
    }
    assert_empty(&place.store).await;
}

pub async fn an_upload_that_nobody_waits_for_ends(place: &Place) {
    let (mut sink, upload) = place.store.sink("x");
    drop(upload);
    let error = spawn_blocking(move || {
        loop {
            if let Err(error) = sink.write_all(&[0; 300_000]) {
                return error;
            }
        }
    });
    assert!(error.await.expect("no panic").to_string().contains("given up"));
    assert_empty(&place.store).await;
}

/// Two workers that have the same task write under names of their own, the same time.
pub async fn attempts_do_not_meet(place: &Place) {
    let bytes = [noise(20 << 20), noise(19 << 20)];
    let (first, second) = tokio::join!(
        write(&place.store, "t/1-0.parquet", &bytes[0], 1 << 20),
        write(&place.again, "t/2-0.parquet", &bytes[1], 1 << 20),
    );
    assert_eq!(first.expect("stored"), stored(&bytes[0]));
    assert_eq!(second.expect("stored"), stored(&bytes[1]));
    place.store.delete("t/1-0.parquet").await.expect("deleted");
    assert_eq!(names(&place.store, "t").await, BTreeSet::from(["t/2-0.parquet".to_owned()]));
    assert!(read(&place.store, "t/2-0.parquet", 19 << 20).await.expect("readable") == bytes[1]);
}

pub async fn deleting_twice_is_no_error(place: &Place) {
    write(&place.store, "a/x", b"x", 1).await.expect("stored");
    for name in ["a/x", "a/x", "a/never", "never/at/all"] {
        place.store.delete(name).await.expect("deleted, or gone already");
    }
    assert_empty(&place.store).await;
}

pub async fn a_listing_shows_what_is_below_a_folder(place: &Place) {
    for name in ["a/b/c", "a/d", "ab", "e"] {
        write(&place.store, name, name.as_bytes(), 1).await.expect("stored");
    }
    for (folder, found) in [
        ("", &["a/b/c", "a/d", "ab", "e"][..]),
        ("a", &["a/b/c", "a/d"]),
        ("a/b", &["a/b/c"]),
        ("e", &[]),
        ("nothing/here", &[]),
    ] {
        let found = found.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names(&place.again, folder).await, found, "below {folder:?}");
    }
}

pub async fn a_long_listing_is_whole(place: &Place) {
    let all: BTreeSet<_> = (0..place.many).map(|i| format!("many/{i:05}")).collect();
    stream::iter(all.iter())
        .for_each_concurrent(16, async |name| {
            let mut object = place.store.create(name).await.expect("a name");
            object.write(Bytes::from_static(b"x")).await.expect("room");
            object.finish().await.expect("stored");
        })
        .await;
    assert!(names(&place.again, "").await == all);
    stream::iter(all.iter())
        .for_each_concurrent(16, async |name| place.store.delete(name).await.expect("deleted"))
        .await;
    assert_empty(&place.again).await;
}

pub async fn every_part_of_an_object_can_be_read(place: &Place) {
    let bytes = noise(PART_BYTES + 1000);
    write(&place.store, "x", &bytes, 1 << 20).await.expect("stored");
    let size = bytes.len() as u64;
    let mut reader = place.again.reader("x", Some(size));
    for range in [0..1, 0..1000, size - 1..size, PART_BYTES as u64 - 1..PART_BYTES as u64 + 1] {
        let read = reader.get_bytes(range.clone()).await.expect("readable");
        assert!(read == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    let ranges = vec![5..10, 0..3, 100..5000, size - 7..size];
    let read = reader.get_byte_ranges(ranges.clone()).await.expect("readable");
    for (range, read) in ranges.iter().zip(&read) {
        assert!(*read == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    // A file that is shorter than it is recorded to be is no file to read.
    for range in [size - 1..size + 1, size..size + 1, size + 5..size + 9] {
        let error = reader.get_bytes(range.clone()).await.expect_err("there is no more");
        assert!(StoreError::behind(&error).is_some(), "{range:?}: {error}");
    }
}

pub async fn what_is_not_there_can_not_be_read(place: &Place) {
    let error = read(&place.store, "gone", 9).await.expect_err("not there");
    let error = StoreError::behind(&error).expect("ours");
    assert!(matches!(error, StoreError::Read { .. }) && error.is_retryable(), "{error}");
}

/// Those that URLs encode among them.
pub async fn odd_characters_make_a_name(place: &Place) {
    let odd = ["a b+c/d&e=f", "50%/25%20", "é/ф", "x'y/(z)~!", "a.b/c_d-e/.f", "q?r/s;t:u@v,w$"];
    for name in odd {
        let bytes = name.as_bytes();
        write(&place.store, name, bytes, 5).await.expect(name);
        assert_eq!(read(&place.again, name, bytes.len()).await.expect(name), bytes);
    }
    assert_eq!(names(&place.again, "").await, odd.map(ToOwned::to_owned).into());
    for name in odd {
        place.store.delete(name).await.expect(name);
    }
    assert_empty(&place.again).await;
}

pub async fn names_that_lead_elsewhere_are_refused(place: &Place) {
    for bad in ["", "/", "../x", "a/../x", "a//b", "a/./b", "a\nb", "a\0b"] {
        let error = place.store.create(bad).await.err().expect(bad);
        assert!(matches!(error, StoreError::Name { .. }), "{bad:?}: {error}");
        assert!(!error.is_retryable());
        assert!(write(&place.store, bad, b"x", 1).await.is_err(), "{bad:?}");
        assert!(place.store.delete(bad).await.is_err(), "{bad:?}");
    }
    assert_empty(&place.store).await;
}

/// What a crash leaves behind; `forget` does what a crash does.
pub async fn unfinished_uploads_are_found_and_removed(place: &Place) {
    write(&place.store, "a/done", &noise(20 << 20), 1 << 20).await.expect("stored");
    let mut crashed = Vec::new();
    for name in ["a/x y+z/1", "a/x y+z/1", "b/2"] {
        let mut object = place.store.create(name).await.expect("a name");
        object.write(noise(20 << 20).into()).await.expect("room");
        crashed.push(object);
    }
    let found = uploads(&place.again).await;
    let mut found_names: Vec<_> = found.iter().map(|upload| upload.name.as_str()).collect();
    found_names.sort_unstable();
    match place.unfinished {
        Unfinished::AsUploads => assert_eq!(found_names, ["a/x y+z/1", "a/x y+z/1", "b/2"]),
        _ => assert!(found.is_empty()),
    }
    for upload in &found {
        // Once more: another replica's sweeper may be quicker.
        place.again.abort_upload(upload).await.expect("removed");
        place.store.abort_upload(upload).await.expect("gone already");
    }
    if place.unfinished == Unfinished::AsFiles {
        let files = names(&place.again, "").await;
        let torsos: Vec<_> = files.iter().filter(|name| name.contains('#')).collect();
        assert_eq!(torsos, ["a/x y+z/1#1", "a/x y+z/1#2", "b/2#1"]);
        for name in torsos {
            place.again.delete(name).await.expect("removed");
        }
    }
    if place.unfinished != Unfinished::Hidden {
        // The writer whose upload was taken away learns it, and no object appears.
        for object in crashed.drain(..) {
            object.finish().await.expect_err("there is nothing to finish");
        }
    }
    assert_eq!(uploads(&place.store).await, []);
    assert_eq!(names(&place.store, "").await, BTreeSet::from(["a/done".to_owned()]));
}

pub async fn a_storage_has_one_owner(place: &Place) {
    let ours = OwnerClaim::Ours;
    assert_eq!(place.store.claim_owner("database 1").await.expect("claimed"), ours);
    assert_eq!(place.again.claim_owner("database 1").await.expect("claimed"), ours);
    let foreign = place.again.claim_owner("database 2").await.expect("looked at");
    assert_eq!(foreign, OwnerClaim::Foreign("database 1".to_owned()));
    assert_eq!(place.store.claim_owner("database 1").await.expect("claimed"), ours);
    assert_eq!(names(&place.store, "").await, BTreeSet::from([".strandline-owner".to_owned()]));
}

pub async fn a_storage_knows_the_last_generation_that_it_was_told_of(place: &Place) {
    assert_eq!(place.store.generation().await.expect("looked at"), 0);
    for generation in [1, 20, 3] {
        place.store.tell_generation(generation).await.expect("told");
        assert_eq!(place.again.generation().await.expect("looked at"), generation);
    }
    let mark = BTreeSet::from([".strandline-generation".to_owned()]);
    assert_eq!(names(&place.store, "").await, mark);
}

pub async fn replicas_that_claim_at_once_own_it_together(place: &Place) {
    let claim = async |i: usize| {
        let (store, owner) =
            if i.is_multiple_of(2) { (&place.store, "a") } else { (&place.again, "b") };
        (owner, store.claim_owner(owner).await.expect("claimed"))
    };
    let claims: Vec<_> = stream::iter(0..16).map(claim).buffer_unordered(16).collect().await;
    let ours = claims.iter().filter(|(_, claim)| *claim == OwnerClaim::Ours);
    let owners: BTreeSet<_> = ours.map(|(owner, _)| *owner).collect();
    let [owner] = owners.iter().collect::<Vec<_>>()[..] else { panic!("{claims:?}") };
    for (asked, claim) in &claims {
        match asked == owner {
            true => assert_eq!(*claim, OwnerClaim::Ours),
            false => assert_eq!(*claim, OwnerClaim::Foreign((*owner).to_owned())),
        }
    }
}
