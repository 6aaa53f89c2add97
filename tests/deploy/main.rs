//! What is deployed fits the program: the image, docker-compose.yml and the Kubernetes
//! manifests name real settings, real routes and each other, and open nothing to strangers.

mod compose;
mod image;
mod kubernetes;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text(name)).expect(name);
    let [document] = <[Value; 1]>::try_from(documents).expect("one document");
    document
}

fn strings<'a>(list: &'a Value, what: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap_or_else(|| panic!("{what} is no list"));
    list.iter().map(|one| one.as_str().expect("a string")).collect()
}

/// Name and value of each variable.
fn variables(environment: &Value) -> Vec<(&str, String)> {
    let map = environment.as_object().expect("a map of variables");
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.iter().map(|(name, value)| (name.as_str(), plain(value))).collect()
}

/// Whether a variable's value is for few eyes: by its name, or a URL with a password in it.
fn is_secret(name: &str, value: &str) -> bool {
    let words = ["PASSWORD", "SECRET", "ACCESS_KEY", "TOKEN", "PROPERTIES", "DATABASE_URL"];
    let with_password = value.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/').next().is_some_and(|authority| authority.contains('@'))
    });
    words.iter().any(|word| name.contains(word)) || with_password
}

/// The routes of the program, as documented; another test compares the document with them.
fn is_route(path: &str) -> bool {
    let document: Value = serde_json::from_str(&text("openapi/strandline.json")).expect("JSON");
    document["paths"].get(path).is_some()
}

/// An image with a version, and no moving tag.
fn check_pinned(image: &str) {
    let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no version"));
    assert!(tag.contains(|c: char| c.is_ascii_digit()) && tag != "latest", "{image}");
    if name == "strandline" {
        assert_eq!(tag, env!("CARGO_PKG_VERSION"), "the image is that of this version");
    }
}
