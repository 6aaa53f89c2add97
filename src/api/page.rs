//! The page for people: static files that are part of the program. What it shows it asks of the
//! API, with a token that it is given; by itself it knows nothing, so anybody may have it.

use std::sync::LazyLock;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, get, web};
use sha2::{Digest, Sha256};

use super::problem::{Problem, ProblemCode};
use super::snapshots::was_seen;

/// Nothing is loaded from elsewhere, nothing is inline, no frame may hold it, and no text can
/// become markup.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);

/// For whoever asks for `/` and can't show a page.
const HINT: &str = "\
Strandline takes snapshots of Kafka topics. In a browser this address is a page to look at them.

  /v1/snapshots    the snapshots, newest first
  /v1/topics       the topics
  /docs            every endpoint, to read and to try
  /openapi.json    the same for programs
";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
    entity_tag: String,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

macro_rules! assets {
    ($($name:literal $content_type:expr,)+) => {
        [$(($name, $content_type, include_str!(concat!("../../page/", $name)))),+]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let all = assets! {
        "index.html" "text/html; charset=utf-8",
        "icon.svg" "image/svg+xml",
        "style.css" CSS,
        "calendar.css" CSS,
        "api.js" JAVASCRIPT,
        "app.js" JAVASCRIPT,
        "ask.js" JAVASCRIPT,
        "calendar.js" JAVASCRIPT,
        "cover.js" JAVASCRIPT,
        "coverage.js" JAVASCRIPT,
        "curl.js" JAVASCRIPT,
        "details.js" JAVASCRIPT,
        "live.js" JAVASCRIPT,
        "parts.js" JAVASCRIPT,
        "risk.js" JAVASCRIPT,
        "route.js" JAVASCRIPT,
        "snapshot.js" JAVASCRIPT,
        "snapshots.js" JAVASCRIPT,
        "store.js" JAVASCRIPT,
        "take.js" JAVASCRIPT,
        "time.js" JAVASCRIPT,
        "timeline.js" JAVASCRIPT,
        "topics.js" JAVASCRIPT,
        "words.js" JAVASCRIPT,
        "vendor/hooks.js" JAVASCRIPT,
        "vendor/htm.js" JAVASCRIPT,
        "vendor/preact.js" JAVASCRIPT,
    };
    all.into_iter()
        .map(|(name, content_type, text)| Asset {
            name,
            content_type,
            text,
            entity_tag: entity_tag(text),
        })
        .collect()
});

fn entity_tag(text: &str) -> String {
    let hash = Sha256::digest(text);
    let start = u64::from_be_bytes(hash[..8].try_into().unwrap_or_default());
    format!("\"{start:016x}\"")
}

/// Whether there is something of the page at this path.
pub(super) fn is_at(path: &str) -> bool {
    path == "/" || path.strip_prefix("/page/").is_some_and(|name| find(name).is_some())
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The page, or a hint for programs.
#[get("/")]
pub(super) async fn get_page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let accept = request.headers().get(header::ACCEPT).map(HeaderValue::as_bytes);
    let wants_page = accept.is_some_and(|types| types.windows(9).any(|part| part == b"text/html"));
    let mut response = match wants_page {
        true => answer(&request, "index.html")?,
        false => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(HINT),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// What the page loads.
#[get("/page/{file:.*}")]
pub(super) async fn get_page_asset(
    request: HttpRequest,
    file: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    answer(&request, &file)
}

fn answer(request: &HttpRequest, name: &str) -> Result<HttpResponse, Problem> {
    let missing = || Problem::new(ProblemCode::NotFound, "the page has no such part");
    let asset = find(name).ok_or_else(missing)?;
    let seen = was_seen(request, &asset.entity_tag);
    let mut response = if seen { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, asset.entity_tag.as_str()))
        // Asked for each time, so that a new version is never mixed with an old one.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"));
    Ok(match seen {
        true => response.finish(),
        false => response.content_type(asset.content_type).body(asset.text),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The files of the page, less those that say where the library comes from.
    fn files(folder: &Path, prefix: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                found.extend(files(&entry.path(), &format!("{name}/")));
            } else if !name.starts_with("vendor/LICENSE") && !name.ends_with(".md") {
                found.insert(name);
            }
        }
        found
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(served, files(&folder, ""));
    }

    #[test]
    fn what_a_file_loads_is_there() {
        for asset in ASSETS.iter() {
            let folder = asset.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let loads = |text: &'static str| text.split("from").skip(1);
            for rest in loads(asset.text).filter(|_| asset.content_type == JAVASCRIPT) {
                let Some(path) = rest.trim_start().strip_prefix("\"./") else { continue };
                let path = path.split('"').next().unwrap_or_default();
                let name = format!("{folder}/{path}");
                assert!(find(name.trim_start_matches('/')).is_some(), "{}: {path}", asset.name);
            }
            for rest in asset.text.split("\"/page/").skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                assert!(find(name).is_some(), "{}: {name}", asset.name);
            }
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_is_inline() {
        let page = find("index.html").expect("the page").text;
        for forbidden in ["<style", "style=", "onload=", "http:", "https:", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.content_type == CSS) {
            assert!(!asset.text.contains("url(") && !asset.text.contains("@import"));
        }
    }

    #[test]
    fn files_of_the_page_are_short() {
        for asset in ASSETS.iter() {
            assert!(asset.text.lines().count() <= 500, "{} is too long", asset.name);
        }
    }
}
