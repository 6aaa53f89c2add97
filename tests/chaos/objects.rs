//! Where the files are: a folder, or a bucket behind a proxy. The tests themselves look past
//! the proxy, and at everything that is there.
//!
//! A bucket is given by `STRANDLINE_CHAOS_STORAGE` (`s3://bucket/prefix`) and the usual
//! variables, of which `AWS_ENDPOINT_URL` (`http://127.0.0.1:port`) has to be one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::proxy::{Proxy, Target};

pub enum Objects {
    Folder(PathBuf),
    Bucket(Bucket),
}

pub struct Bucket {
    url: String,
    prefix: String,
    direct: Arc<dyn ObjectStore>,
    pub proxy: Proxy,
}

impl Objects {
    pub async fn open(folder: PathBuf) -> Self {
        let url = std::env::var("STRANDLINE_CHAOS_STORAGE").unwrap_or_default();
        let Some(place) = url.strip_prefix("s3://") else {
            assert!(url.is_empty(), "STRANDLINE_CHAOS_STORAGE: only s3:// is known");
            std::fs::create_dir_all(&folder).expect("a folder");
            return Objects::Folder(folder);
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = format!("{prefix}/{}", Uuid::new_v4()).trim_start_matches('/').to_owned();
        let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL");
        let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
        let target = Target::Tcp(address.parse().expect("http://ADDRESS:PORT"));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true);
        Objects::Bucket(Bucket {
            url: format!("s3://{bucket}/{prefix}"),
            prefix,
            direct: Arc::new(builder.build().expect("a bucket")),
            proxy: Proxy::start(any, target).await.expect("a port"),
        })
    }

    /// What Strandline is told.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Objects::Folder(folder) => {
                let url = url::Url::from_directory_path(folder).expect("a path");
                vec![("STRANDLINE_STORAGE_URL", url.to_string())]
            }
            Objects::Bucket(bucket) => vec![
                ("STRANDLINE_STORAGE_URL", bucket.url.clone()),
                ("AWS_ENDPOINT_URL", format!("http://{}", bucket.proxy.address())),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
            ],
        }
    }

    /// The way that can be hurt.
    pub fn proxy(&self) -> Option<&Proxy> {
        match self {
            Objects::Folder(_) => None,
            Objects::Bucket(bucket) => Some(&bucket.proxy),
        }
    }

    /// The names of all objects, on a disk unfinished ones as well.
    pub async fn names(&self) -> Vec<String> {
        match self {
            Objects::Folder(folder) => files_below(folder),
            Objects::Bucket(bucket) => {
                let prefix = object_store::path::Path::from(bucket.prefix.as_str());
                let listed = bucket.direct.list(Some(&prefix)).try_collect::<Vec<_>>();
                let names = listed.await.expect("a list").into_iter().map(|object| {
                    let name = object.location.to_string();
                    name[bucket.prefix.len() + 1..].to_owned()
                });
                names.collect()
            }
        }
    }

    /// # Errors
    /// Why it can't be had.
    pub async fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        match self {
            Objects::Folder(folder) => {
                std::fs::read(folder.join(name)).map_err(|error| error.to_string())
            }
            Objects::Bucket(bucket) => {
                let got = bucket.direct.get(&bucket.path(name)).await;
                let content = got.map_err(|error| error.to_string())?.bytes().await;
                content.map(|content| content.to_vec()).map_err(|error| error.to_string())
            }
        }
    }

    pub async fn write(&self, name: &str, content: Vec<u8>) {
        match self {
            Objects::Folder(folder) => {
                std::fs::write(folder.join(name), content).expect("written");
            }
            Objects::Bucket(bucket) => {
                let content = Bytes::from(content).into();
                bucket.direct.put(&bucket.path(name), content).await.expect("written");
            }
        }
    }

    pub async fn remove(&self, name: &str) {
        match self {
            Objects::Folder(folder) => {
                std::fs::remove_file(folder.join(name)).expect("removed");
            }
            Objects::Bucket(bucket) => {
                bucket.direct.delete(&bucket.path(name)).await.expect("removed");
            }
        }
    }
}

impl Bucket {
    fn path(&self, name: &str) -> object_store::path::Path {
        object_store::path::Path::from(format!("{}/{name}", self.prefix))
    }
}

/// The names of all files below a folder, relative to it.
pub fn files_below(root: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root");
                names.push(name.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    names.sort();
    names
}
