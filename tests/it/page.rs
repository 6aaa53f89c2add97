//! How the page at `/` is served; what it does is tested in a browser (`make test-page`).

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::HeaderMap;
use strandline::snapshot::Scope;

use crate::harness::TestApp;

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

async fn ask(
    app: &TestApp,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, String) {
    let mut request = app.http.request(method, format!("{}{path}", app.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.text().await.expect("a body"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("-", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn every_part_comes_under_the_same_strict_policy() {
    let app = TestApp::spawn().await;
    // From now on who calls must be known; the page, which knows nothing, is for all.
    app.token("somebody", Scope::Read, &[]).await;
    let mut tags = BTreeSet::new();
    let parts = [
        ("/", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/vendor/preact.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ];
    for (path, content_type) in parts {
        let (status, headers, body) = ask(&app, Method::GET, path, &[("accept", BROWSER)]).await;
        assert_eq!((status, header(&headers, "content-type")), (200, content_type), "{path}");
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            ),
            ("cache-control", "no-cache"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(header(&headers, name), value, "{name} of {path}");
        }
        let (status, head, nothing) = ask(&app, Method::HEAD, path, &[("accept", BROWSER)]).await;
        assert_eq!((status, nothing.as_str()), (200, ""), "{path}");
        assert_eq!(header(&head, "content-length"), body.len().to_string(), "{path}");
        assert_eq!(header(&head, "etag"), header(&headers, "etag"));
        tags.insert(header(&headers, "etag").to_owned());
    }
    assert_eq!(tags.len(), parts.len(), "each has its own tag: {tags:?}");
}

#[tokio::test]
async fn what_was_seen_is_not_sent_again() {
    let app = TestApp::spawn().await;
    let (_, first, _) = ask(&app, Method::GET, "/page/app.js", &[]).await;
    let tag = header(&first, "etag").to_owned();
    for (seen, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        (tag.trim_matches('"').to_owned(), 200),
    ] {
        let headers = [("if-none-match", seen.as_str())];
        let (found, headers, body) = ask(&app, Method::GET, "/page/app.js", &headers).await;
        assert_eq!((found, body.is_empty()), (status, status == 304), "{seen}");
        assert_eq!(header(&headers, "etag"), tag, "{seen}");
        assert_eq!(header(&headers, "cache-control"), "no-cache", "{seen}");
    }
}

#[tokio::test]
async fn who_shows_no_pages_gets_a_hint_and_the_rest_is_a_problem() {
    let app = TestApp::spawn().await;
    for accept in [&[("accept", "*/*")][..], &[("accept", "application/json")], &[]] {
        let (status, headers, hint) = ask(&app, Method::GET, "/", accept).await;
        assert_eq!((status, header(&headers, "content-type")), (200, "text/plain; charset=utf-8"));
        assert_eq!(header(&headers, "vary"), "accept");
        assert!(hint.contains("/v1/snapshots ") && !hint.contains('<'), "{hint}");
    }
    let (_, headers, _) = ask(&app, Method::GET, "/", &[("accept", BROWSER)]).await;
    assert_eq!(header(&headers, "vary"), "accept");
    for (method, path, status) in [
        (Method::GET, "/page/", 404),
        (Method::GET, "/page/none.js", 404),
        (Method::GET, "/page/%2e%2e/Cargo.toml", 404),
        (Method::GET, "/page/vendor/../index.html.bak", 404),
        (Method::GET, "/index.html", 404),
        (Method::POST, "/", 405),
        (Method::DELETE, "/page/app.js", 405),
        (Method::POST, "/page/none.js", 404),
    ] {
        let (found, headers, body) = ask(&app, method, path, &[("accept", BROWSER)]).await;
        assert_eq!((found, header(&headers, "content-type")), (status, "application/problem+json"));
        let allow = if status == 405 { "GET, HEAD" } else { "-" };
        assert_eq!(header(&headers, "allow"), allow, "{path}: {body}");
    }
}
