//! The contract with a disk and with fake buckets, faults, settings.

#[macro_use]
mod contract;
mod bucket;
mod disk;
#[cfg(target_os = "linux")]
mod disk_faults;
mod fake_bucket;
mod faults;
mod settings;

use object_store::{BackoffConfig, RetryConfig};
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

/// As [`client`], but tries again, and soon.
fn patient_client(settings: &[(&str, &str)]) -> Client {
    let backoff = BackoffConfig {
        init_backoff: std::time::Duration::from_millis(1),
        ..BackoffConfig::default()
    };
    let client = client(settings);
    let retries = RetryConfig { max_retries: 5, backoff, ..client.retries };
    Client { retries, ..client }
}

const S3: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "the-id"),
    ("AWS_SECRET_ACCESS_KEY", "the-secret"),
    ("AWS_ALLOW_HTTP", "true"),
];

/// A store in a bucket of S3's kind whose server is at `endpoint`.
fn s3(endpoint: &str) -> Store {
    open(&client(S3), endpoint, &[])
}

/// The same by a client of one's own, and with settings besides.
fn open(client: &Client, endpoint: &str, more: &[(&str, &str)]) -> Store {
    let more = [&[("AWS_ENDPOINT_URL", endpoint)], more].concat();
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let settings = client.settings.iter().cloned().chain(more).collect();
    let client = Client { settings, retries: client.retries.clone() };
    Store::open_by("s3://bucket/some/prefix", &client).expect("a store")
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
