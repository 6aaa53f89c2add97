//! From `STRANDLINE_STORAGE_URL`, and what the environment says besides, to a store.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use super::bucket::{Bucket, Connector};
use super::timed::Timed;
use super::{Cause, StoreError, local};

const FORMS: &str = "file:///dir, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";
/// How uploads to S3 are summed, for the store to check: `sha256` unless it says something
/// else, such as `none` for a store that refuses that.
const CHECKSUMS: &str = "AWS_CHECKSUM_ALGORITHM";
/// Where Google's buckets are.
const GOOGLE: &str = "https://storage.googleapis.com";

/// A store and where in it our objects are.
pub(super) struct Place {
    pub objects: Arc<dyn ObjectStore>,
    /// Of the storage's root, as it is shown.
    pub url: Url,
    /// In front of every object's name; empty on a disk.
    pub prefix: Path,
    /// The folder, on a disk.
    pub root: Option<PathBuf>,
    /// For what the client library has no request, in a bucket that takes it.
    pub bucket: Option<Bucket>,
}

/// What the client library is told besides the URL.
pub(super) struct Client {
    /// By the names of environment variables.
    pub settings: Vec<(String, String)>,
    pub retries: RetryConfig,
}

impl Client {
    /// The environment, and retries that ride out a hiccup. What lasts longer is retried by
    /// the run, where it is seen.
    pub(super) fn from_env() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let retry_timeout = Duration::from_secs(60);
        Client {
            settings: std::env::vars_os().filter_map(text).collect(),
            retries: RetryConfig { max_retries: 5, retry_timeout, ..RetryConfig::default() },
        }
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    /// As the library reads switches.
    fn is_on(&self, name: &str) -> bool {
        let value = self.setting(name).unwrap_or_default().to_ascii_lowercase();
        matches!(value.as_str(), "true" | "1" | "yes" | "y" | "on")
    }

    /// Plain http needs the operator's word. Without it the library fails at every request,
    /// where it passes for an outage.
    fn check_endpoint(&self, names: &[&str], allow: &str) -> Result<(), String> {
        let set = names.iter().find_map(|name| Some((*name, self.setting(name)?)));
        let Some((name, endpoint)) = set else { return Ok(()) };
        match Url::parse(endpoint).as_ref().map(Url::scheme) {
            Ok("https") => Ok(()),
            Ok("http") if self.is_on(allow) => Ok(()),
            Ok("http") => Err(format!(
                "can't be used: {name} is plain http, and {allow} does not say that events may be sent unencrypted; set {allow}=true or use https"
            )),
            _ => Err(format!("can't be used: {name} is no URL; write it as https://host:port")),
        }
    }

    /// Applies those settings that are meant and that the library knows.
    fn configure<B, K: FromStr>(
        &self,
        builder: B,
        meant: impl Fn(&str) -> bool,
        with: impl Fn(B, K, String) -> B,
    ) -> B {
        let meant = self.settings.iter().filter(|(name, _)| meant(name));
        meant.fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
            Ok(key) => with(builder, key, value.clone()),
            Err(_) => builder,
        })
    }
}

pub(super) fn open(text: &str, client: &Client) -> Result<Place, StoreError> {
    let place = open_place(text, client)?;
    Ok(Place { objects: Arc::new(Timed(place.objects)), ..place })
}

fn open_place(text: &str, client: &Client) -> Result<Place, StoreError> {
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
        "s3" => bucket(text, url, |bucket| s3(client, bucket)),
        "gs" => bucket(text, url, |bucket| google(client, bucket)),
        "az" => bucket(text, url, |container| azure(client, container)),
        _ => Err(setting(text, &format!("has a scheme that is not known; write it as {FORMS}"))),
    }
}

/// An error is what is wrong with the setting or with what goes with it.
type Opened = Result<(Arc<dyn ObjectStore>, Option<Bucket>), String>;

fn s3(client: &Client, bucket: &str) -> Opened {
    let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    client.check_endpoint(&endpoints, "AWS_ALLOW_HTTP")?;
    let checksums = client.setting(CHECKSUMS);
    // The library knows no name for "none".
    let none = checksums.is_some_and(|name| name.eq_ignore_ascii_case("none"));
    let meant = |name: &str| name.starts_with("AWS_") && !(none && name == CHECKSUMS);
    let builder = client.configure(AmazonS3Builder::new(), meant, AmazonS3Builder::with_config);
    let builder = match checksums {
        Some(_) => builder,
        None => builder.with_checksum_algorithm(Checksum::SHA256),
    };
    let connector = Connector::default();
    let builder = builder.with_bucket_name(bucket).with_http_connector(connector.clone());
    let store = builder.with_retry(client.retries.clone()).build();
    let store = Arc::new(store.map_err(|error| unusable(&error))?);
    // The library signs no requests of ours for a bucket that is open to everybody, and other
    // ones for those of S3 Express.
    let ours = !client.is_on("AWS_SKIP_SIGNATURE") && !client.is_on("AWS_S3_EXPRESS");
    let bucket = connector.client().filter(|_| ours);
    let bucket = bucket.map(|http| Bucket::s3(store.clone(), http));
    Ok((store, bucket))
}

fn google(client: &Client, bucket: &str) -> Opened {
    client.check_endpoint(&["GOOGLE_BASE_URL"], "GOOGLE_ALLOW_HTTP")?;
    let with = GoogleCloudStorageBuilder::with_config;
    let builder = GoogleCloudStorageBuilder::new();
    let builder = client.configure(builder, |name| name == "SERVICE_ACCOUNT", with);
    let builder = client.configure(builder, |name| name.starts_with("GOOGLE_"), with);
    let connector = Connector::default();
    let builder = builder.with_bucket_name(bucket).with_http_connector(connector.clone());
    let server = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let server = server.unwrap_or_else(|| GOOGLE.to_owned());
    let url = Url::parse(&format!("{server}/{bucket}")).ok();
    let store = builder.with_retry(client.retries.clone()).build();
    let store = Arc::new(store.map_err(|error| unusable(&error))?);
    let bucket = connector.client().zip(url).filter(|_| !client.is_on("GOOGLE_SKIP_SIGNATURE"));
    let bucket = bucket.map(|(http, url)| Bucket::google(store.clone(), url, http));
    Ok((store, bucket))
}

fn azure(client: &Client, container: &str) -> Opened {
    let endpoints = ["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"];
    client.check_endpoint(&endpoints, "AZURE_ALLOW_HTTP")?;
    let meant = |name: &str| name.starts_with("AZURE_") || name == "IDENTITY_ENDPOINT";
    let builder = MicrosoftAzureBuilder::new();
    let builder = client.configure(builder, meant, MicrosoftAzureBuilder::with_config);
    let builder = builder.with_container_name(container).with_retry(client.retries.clone());
    Ok((Arc::new(builder.build().map_err(|error| unusable(&error))?), None))
}

fn unusable(error: &object_store::Error) -> String {
    format!("can't be used: {error}")
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
        setting(text, &format!("can't be used as a folder to write to: {}", Cause::local(&error)))
    })?;
    // The client resolves links in the path of the root, once; that one is the operator's.
    let objects = LocalFileSystem::new_with_prefix(&root)
        .map_err(|error| setting(text, &format!("can't be used: {error}")))?;
    let root = root.canonicalize().map_err(|error| setting(text, &error.to_string()))?;
    // Without `fsync`, what was committed in Postgres could be gone after a power cut.
    let objects = Arc::new(objects.with_fsync(true));
    Ok(Place { objects, url, prefix: Path::default(), root: Some(root), bucket: None })
}

fn bucket(text: &str, url: Url, build: impl FnOnce(&str) -> Opened) -> Result<Place, StoreError> {
    let name = url.host_str().filter(|bucket| !bucket.is_empty());
    let name = name.ok_or_else(|| setting(text, "names no bucket"))?;
    let prefix = Path::from_url_path(url.path())
        .map_err(|error| setting(text, &format!("has a prefix that can't be: {error}")))?;
    let (objects, bucket) = build(name).map_err(|problem| setting(text, &problem))?;
    Ok(Place { objects, url, prefix, root: None, bucket })
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
