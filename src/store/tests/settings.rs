//! `STRANDLINE_STORAGE_URL` and what goes with it.

use std::fs;

use tempfile::TempDir;

use super::client;
use super::store::Store;

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

#[test]
fn plain_http_needs_the_operators_word() {
    let plain = "http://127.0.0.1:9000";
    for (url, settings, said) in [
        ("s3://b", &[("AWS_ENDPOINT_URL", plain)][..], "AWS_ENDPOINT_URL is plain http"),
        ("s3://b", &[("AWS_ENDPOINT_URL_S3", plain)], "set AWS_ALLOW_HTTP=true or use https"),
        ("s3://b", &[("AWS_ENDPOINT", plain), ("AWS_ALLOW_HTTP", "false")], "AWS_ENDPOINT is"),
        ("s3://b", &[("AWS_ENDPOINT_URL", "127.0.0.1:9000")], "AWS_ENDPOINT_URL is no URL"),
        ("s3://b", &[("AWS_ENDPOINT_URL", "minio:9000")], "write it as https://host:port"),
        ("gs://b", &[("GOOGLE_BASE_URL", plain)], "set GOOGLE_ALLOW_HTTP=true or use https"),
        ("az://b", &[("AZURE_ENDPOINT", plain)], "set AZURE_ALLOW_HTTP=true or use https"),
    ] {
        let error = Store::open_by(url, &client(settings)).expect_err(said);
        let text = error.to_string();
        assert!(text.starts_with("STRANDLINE_STORAGE_URL: ") && text.contains(said), "{text}");
        assert!(!error.is_retryable());
    }
    for allowed in ["true", "1", "TRUE"] {
        let settings = [("AWS_ENDPOINT_URL", plain), ("AWS_ALLOW_HTTP", allowed)];
        Store::open_by("s3://b", &client(&settings)).expect("allowed");
    }
}
