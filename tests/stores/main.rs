//! The store's contract with a real server, and what becomes of an upload when it is killed or
//! stands still: `make test-s3` runs this with MinIO. Not part of `cargo test`.
//!
//! `STRANDLINE_TEST_STORAGE_URL` names a bucket (`s3://…`, `gs://…` or `az://…`), and the
//! environment has what goes with it; `STRANDLINE_TEST_MINIO` is MinIO's program.

#[macro_use]
#[path = "../../src/store/tests/contract.rs"]
mod contract;
mod server;

use std::env;

use contract::{Place, Unfinished};
use strandline::store::{self, Store};

/// What a test needs and the script did not set is an error, no reason to skip it.
fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make test-s3 does that"))
}

/// A prefix of one's own in the bucket.
async fn open() -> Place {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = setting("STRANDLINE_TEST_STORAGE_URL");
    let prefix = format!("{url}/{}", uuid::Uuid::new_v4());
    let (unfinished, many) = match url.split_once(':') {
        // A page of S3's listings has a thousand.
        Some(("s3", _)) => (Unfinished::AsUploads, 1100),
        Some(("gs", _)) => (Unfinished::AsUploads, 300),
        _ => (Unfinished::Hidden, 300),
    };
    let store = || Store::open(&prefix).expect("a store");
    Place { store: store(), again: store(), unfinished, many, _guard: Box::new(()) }
}

contract!(open);
