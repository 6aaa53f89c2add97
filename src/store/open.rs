//! From `STRANDLINE_STORAGE_URL` to a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use super::{StoreError, local};

const FORMS: &str = "file:///dir, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// A store and where in it our objects are.
pub(super) struct Place {
    pub objects: Arc<dyn ObjectStore>,
    /// Of the storage's root, as it is shown.
    pub url: Url,
    /// In front of every object's name; empty on a disk.
    pub prefix: Path,
    /// The folder, on a disk.
    pub root: Option<PathBuf>,
}

pub(super) fn open(text: &str) -> Result<Place, StoreError> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            return Err(setting(text, &format!("has no scheme; write it as {FORMS}")));
        }
        Err(error) => return Err(setting(text, &format!("is no URL ({error})"))),
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(setting(
            text,
            "has credentials or parameters in it; give them in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL …)",
        ));
    }
    if url.fragment().is_some() || url.port().is_some() {
        return Err(setting(text, "has a port or a fragment, which mean nothing here"));
    }
    match url.scheme() {
        "file" => disk(text, url),
        "s3" => bucket(text, url, |bucket| {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            Ok(Arc::new(builder.with_retry(retries()).build()?))
        }),
        "gs" => bucket(text, url, |bucket| {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            Ok(Arc::new(builder.with_retry(retries()).build()?))
        }),
        "az" => bucket(text, url, |container| {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
            Ok(Arc::new(builder.with_retry(retries()).build()?))
        }),
        _ => Err(setting(text, &format!("has a scheme that is not known; write it as {FORMS}"))),
    }
}

/// Enough to ride out a hiccup. What lasts longer is retried by the run, where it is seen.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

fn disk(text: &str, url: Url) -> Result<Place, StoreError> {
    // `file:dir` and `file://dir/…` parse as well, as something else than what was meant.
    let root = match text.get(..8) {
        Some(start) if start.eq_ignore_ascii_case("file:///") => url.to_file_path().ok(),
        _ => None,
    };
    let absolute =
        "is no absolute path; write it with three slashes, as in file:///var/lib/strandline";
    let root = root.ok_or_else(|| setting(text, absolute))?;
    local::prepare(&root).map_err(|error| {
        setting(text, &format!("can't be used as a folder to write to: {error}"))
    })?;
    // The client resolves links in the path of the root, once; that one is the operator's.
    let objects = LocalFileSystem::new_with_prefix(&root)
        .map_err(|error| setting(text, &format!("can't be used: {error}")))?;
    let root = root.canonicalize().map_err(|error| setting(text, &error.to_string()))?;
    // Without `fsync`, what was committed in Postgres could be gone after a power cut.
    let objects = Arc::new(objects.with_fsync(true));
    Ok(Place { objects, url, prefix: Path::default(), root: Some(root) })
}

fn bucket(
    text: &str,
    url: Url,
    build: impl FnOnce(&str) -> object_store::Result<Arc<dyn ObjectStore>>,
) -> Result<Place, StoreError> {
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
    let bucket = bucket.ok_or_else(|| setting(text, "names no bucket"))?;
    let prefix = Path::from_url_path(url.path())
        .map_err(|error| setting(text, &format!("has a prefix that can't be: {error}")))?;
    let objects =
        build(bucket).map_err(|error| setting(text, &format!("can't be used: {error}")))?;
    Ok(Place { objects, url, prefix, root: None })
}

/// Quotes the setting, unless something in it looks like a secret.
fn setting(text: &str, problem: &str) -> StoreError {
    let problem: Vec<_> = problem.split_whitespace().collect();
    let problem = problem.join(" ");
    match text.contains(['@', '?']) {
        true => StoreError::Setting(format!("the URL {problem}")),
        false => StoreError::Setting(format!("{text:?} {problem}")),
    }
}
