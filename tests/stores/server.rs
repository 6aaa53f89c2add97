//! MinIO, started by a test, killed and stopped in the middle of what it does.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strandline::snapshot::FailureKind;
use strandline::store::{Store, StoreError};
use tempfile::TempDir;

use super::contract::{noise, read, stored, write};
use super::setting;

/// A server of the test's own, killed with it.
struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

const SECRET: &str = "the-right-secret";

impl Server {
    fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let folder = TempDir::new().expect("a folder");
        // To MinIO, on one disk, a folder is a bucket.
        std::fs::create_dir_all(folder.path().join("bucket")).expect("a folder");
        Server { process: run(&folder, port), port, folder }
    }

    fn restart(&mut self) {
        self.process = run(&self.folder, self.port);
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// `STOP` or `CONT`.
    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("a kill command").success());
    }

    fn store(&self, url: &str, secret: &str) -> Store {
        let settings = [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "the-id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_TIMEOUT", "5 seconds".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Store::open_with(url, settings).expect("a store")
    }

    /// Waits until an object can be written.
    async fn ready(&self) -> Store {
        let store = self.store("s3://bucket/prefix", SECRET);
        let started = Instant::now();
        loop {
            match write(&store, "ready", b"x", 1).await {
                Ok(_) => return store,
                Err(error) if started.elapsed() > Duration::from_secs(60) => panic!("{error}"),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(folder: &TempDir, port: u16) -> Child {
    Command::new(setting("STRANDLINE_TEST_MINIO"))
        .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
        .arg(folder.path())
        .env("MINIO_ROOT_USER", "the-id")
        .env("MINIO_ROOT_PASSWORD", SECRET)
        .env("MINIO_BROWSER", "off")
        .stdout(Stdio::null())
        .spawn()
        .expect("MinIO starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_so_that_it_can_be_put_right() {
    let server = Server::start();
    server.ready().await;
    for (url, secret, kind, said) in [
        (
            "s3://bucket",
            "a-wrong-secret",
            FailureKind::StorageAuth,
            "403 Forbidden (SignatureDoesNotMatch: ",
        ),
        (
            "s3://nowhere",
            SECRET,
            FailureKind::StorageUnavailable,
            "404 Not Found (NoSuchBucket: The specified bucket does not exist); STRANDLINE_STORAGE_URL names",
        ),
    ] {
        let store = server.store(url, secret);
        for size in [10, 20 << 20] {
            let error = write(&store, "x", &noise(size), 1 << 20).await.expect_err(said);
            assert!(error.to_string().contains(said), "{error}");
            assert!(!error.to_string().contains(secret), "{error}");
            assert_eq!(error.failure_kind(), kind, "{error}");
        }
    }
}

/// What was begun there is gone, and what was finished is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_fails_the_upload_and_nothing_else() {
    let mut server = Server::start();
    let store = server.ready().await;
    let bytes = noise(20 << 20);
    let before = write(&store, "before", &bytes, 1 << 20).await.expect("stored");

    let mut object = store.create("x").await.expect("a name");
    object.write(bytes.clone().into()).await.expect("room");
    server.kill();
    let error = object.finish().await.expect_err("nobody there");
    assert!(matches!(error, StoreError::Write { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("no answer from http://127.0.0.1:"), "{error}");

    server.restart();
    let store = server.ready().await;
    store.verify("before", &before).await.expect("it is as it was");
    assert!(read(&store, "x", 1).await.is_err(), "it was never finished");
    assert_eq!(write(&store, "x2", &bytes, 1 << 20).await.expect("stored"), stored(&bytes));
}

/// For less time than a request and its repetitions may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_for_a_while_is_waited_for() {
    let server = Server::start();
    let store = server.ready().await;
    let bytes = noise(20 << 20);
    let mut object = store.create("x").await.expect("a name");
    object.write(bytes.clone().into()).await.expect("room");
    server.signal("STOP");
    let finished = tokio::spawn(object.finish());
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!finished.is_finished(), "nobody answered");
    server.signal("CONT");
    assert_eq!(finished.await.expect("no panic").expect("stored"), stored(&bytes));
}
