//! The contract with a disk and with fake buckets, faults, settings.

#[macro_use]
mod contract;
mod bucket;
mod disk;
mod fake_bucket;
mod faults;
mod settings;

use object_store::RetryConfig;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;

use super::open::Client;
use crate::store::{self, Store, StoreError};

/// Does not try again, so that a fault is a failure.
fn client(settings: &[(&str, &str)]) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    Client { settings: settings.collect(), retries }
}

const S3: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "the-id"),
    ("AWS_SECRET_ACCESS_KEY", "the-secret"),
    ("AWS_ALLOW_HTTP", "true"),
];

/// A store in a bucket of S3's kind whose server is at `endpoint`.
fn s3(endpoint: &str) -> Store {
    let settings = [S3, &[("AWS_ENDPOINT_URL", endpoint)]].concat();
    Store::open_by("s3://bucket/some/prefix", &client(&settings)).expect("a store")
}

/// The same of Google's kind.
fn google(endpoint: &str) -> Store {
    let settings = [
        ("GOOGLE_BASE_URL", endpoint),
        ("GOOGLE_ALLOW_HTTP", "true"),
        ("GOOGLE_BEARER_TOKEN", "the-token"),
    ];
    Store::open_by("gs://bucket/some/prefix", &client(&settings)).expect("a store")
}

async fn read_error(store: &Store, name: &str) -> StoreError {
    let error = store.reader(name, Some(9)).get_bytes(0..9).await.expect_err("not there");
    assert!(StoreError::behind(&error).is_some());
    let ParquetError::External(error) = error else { panic!("{error}") };
    *error.downcast::<StoreError>().expect("ours")
}
