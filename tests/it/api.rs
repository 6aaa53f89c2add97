//! The HTTP contract, as far as this version has it.

use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::harness::{HOUR, TestApp, TestTopic, answer, at, record};

fn body(topic: &str) -> Value {
    json!({"topic": topic, "window_start": at(0), "window_end": at(HOUR)})
}

#[tokio::test]
async fn the_request_is_its_own_key() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let first = app.http.post(format!("{}/v1/snapshots", app.url)).json(&body(&topic.name));
    let first = first.send().await.expect("an answer");
    assert_eq!(first.status(), 202);
    let location = first.headers()["location"].to_str().expect("ASCII").to_owned();
    assert!(first.headers().contains_key("retry-after"));
    let queued: Value = first.json().await.expect("JSON");
    assert_eq!(location, queued["links"]["self"]);
    assert_eq!(queued["state"], "queued");

    let (status, joined) = app.ask(&topic.name, 0, HOUR).await;
    assert_eq!((status, &joined["id"], &joined["run"]), (202, &queued["id"], &json!(1)));
    app.work().await;
    let (status, not_sealed) = app.ask(&topic.name, 0, HOUR).await;
    assert_eq!((status, &not_sealed["id"], &not_sealed["run"]), (202, &queued["id"], &json!(2)));
    assert_eq!(not_sealed["state"], "queued");
    assert_eq!(not_sealed["result"]["records"], 1, "the last success is kept");
    topic.produce(&[record(0, HOUR, "end")]).await;
    app.work().await;
    let (status, sealed) = app.ask(&topic.name, 0, HOUR).await;
    assert_eq!((status, &sealed["state"], &sealed["run"]), (200, &json!("succeeded"), &json!(2)));
    // The same moments, written otherwise, are the same window; labels are replaced.
    let mut other = body(&topic.name);
    other["window_start"] = json!(at(0).replace('T', " ").replace(".000Z", "+00:00"));
    other["labels"] = json!({"a": "b"});
    let (status, same) = app.post("/v1/snapshots", &other).await;
    assert_eq!((status, &same["id"], &same["labels"]), (200, &sealed["id"], &json!({"a": "b"})));
}

#[tokio::test]
async fn many_at_once_are_one_snapshot() {
    let app = TestApp::spawn().await;
    let request = body("some-topic");
    let asked =
        futures_util::future::join_all((0..50).map(|_| app.post("/v1/snapshots", &request)));
    let asked = asked.await;
    let (_, first) = &asked[0];
    for (status, snapshot) in &asked {
        assert_eq!((*status, &snapshot["id"]), (202, &first["id"]), "{snapshot}");
        assert_eq!(snapshot["run"], 1);
    }
}

#[tokio::test]
async fn waiting_ends_with_the_run_and_expect_turns_it_into_a_status() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let _workers = app.start_workers(1);
    let request = body(&topic.name);
    // Not when the wait is over.
    let waited = app.post("/v1/snapshots?wait=60", &request);
    let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
    let (status, done) = waited.expect("it was told");
    assert_eq!((status, &done["state"]), (200, &json!("succeeded")));
    let (status, expected) = app.post("/v1/snapshots?expect=sealed", &body(&topic.name)).await;
    assert_eq!((status, &expected["id"]), (200, &done["id"]));
    let preferred = app.http.post(format!("{}/v1/snapshots", app.url)).json(&body(&topic.name));
    let preferred = preferred.header("prefer", "respond-async, wait=1000000").send().await;
    let preferred = preferred.expect("an answer");
    assert_eq!(
        (preferred.status().as_u16(), &preferred.headers()["preference-applied"]),
        (200, &HeaderValue::from_static("wait=60"))
    );
    let (status, failed) = app.post("/v1/snapshots?wait=60", &body("no-such-topic")).await;
    assert_eq!((status, &failed["state"]), (200, &json!("failed")));
    let (status, problem) =
        app.post("/v1/snapshots?expect=succeeded", &body("no-such-topic")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("SNAPSHOT_FAILED")));
    assert_eq!(problem["error"]["code"], "TOPIC_NOT_FOUND");
    assert_eq!(problem["status"], 409);
    let result = failed["links"]["result"].as_str().expect("a path");
    assert_eq!(app.get(result).await.0, 409);
    assert_eq!(app.get(done["links"]["result"].as_str().expect("a path")).await.0, 200);
}

#[tokio::test]
async fn expect_waits_for_the_run_that_was_just_asked_for() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let _workers = app.start_workers(1);
    let path = "/v1/snapshots?expect=settled";
    let (_, settled) = app.post(path, &body(&topic.name)).await;
    assert_eq!(settled["result"]["records"], 1, "{settled}");
    topic.produce(&[record(0, 1, "late")]).await;
    let (status, again) = app.post(path, &body(&topic.name)).await;
    assert_eq!((status, &again["run"], &again["result"]["records"]), (200, &json!(2), &json!(2)));
}

#[tokio::test]
async fn what_is_not_ready_says_so_in_time() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let (status, problem) =
        app.post("/v1/snapshots?expect=succeeded&wait=0", &body(&topic.name)).await;
    assert_eq!((status, &problem["code"]), (504, &json!("NOT_READY")));
    let (status, list) = app.get("/v1/snapshots").await;
    assert_eq!(status, 200);
    let result = list["items"][0]["links"]["result"].as_str().expect("a path").to_owned();
    let response = app.http.get(format!("{}{result}", app.url)).send().await.expect("an answer");
    assert_eq!(response.status(), 404);
    assert!(response.headers().contains_key("retry-after"));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "NOT_READY");
    app.work().await;
    assert_eq!(app.get(&result).await.0, 200);
    assert_eq!(app.get(&format!("{result}?expect=settled")).await.0, 200);
    let (status, problem) = app.get(&format!("{result}?expect=sealed")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("NOT_READY")));
    // Asked once more: what succeeded and is settled stays good while it runs again.
    assert_eq!(app.ask(&topic.name, 0, HOUR).await.0, 202);
    assert_eq!(app.get(&result).await.0, 200);
}

#[tokio::test]
async fn those_who_wait_get_their_answer_when_the_replica_stops() {
    let app = TestApp::spawn().await;
    let (_, queued) = app.post("/v1/snapshots", &body("some-topic")).await;
    let path = format!("{}{}?wait=60", app.url, queued["links"]["self"].as_str().expect("a path"));
    let waiting = tokio::spawn(answer(app.http.get(path)));
    tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.ok();
    app.draining.cancel();
    // Well before the minute that was asked for.
    let answered = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let (status, snapshot) = answered.expect("an answer in time").expect("an answer");
    assert!(status == 200 && snapshot["state"] == "queued" || status == 503, "{status} {snapshot}");
    let (status, problem) = app.get("/v1/snapshots").await;
    assert_eq!((status, &problem["code"]), (503, &json!("DRAINING")));
    assert_eq!(app.get("/readyz").await.0, 503);
    assert_eq!(app.get("/livez").await.0, 200);
}

#[tokio::test]
async fn bad_requests_are_problem_documents() {
    let app = TestApp::spawn().await;
    let unknown_id = "/v1/snapshots/01890000-0000-7000-8000-000000000000";
    for (path, status, code) in [
        ("/v1/snapshots/x", 404, "NOT_FOUND"),
        ("/v1/snapshots/%00", 404, "NOT_FOUND"),
        (unknown_id, 404, "NOT_FOUND"),
        (&format!("{unknown_id}/result"), 404, "NOT_FOUND"),
        (&format!("{unknown_id}/partitions"), 404, "NOT_FOUND"),
        (&format!("{unknown_id}/files"), 404, "NOT_FOUND"),
        (&format!("{unknown_id}/events"), 404, "NOT_FOUND"),
        ("/v1/snapshot", 404, "NOT_FOUND"),
        ("/v2", 404, "NOT_FOUND"),
        ("/v1/snapshots?limit=0", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?limit=x", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?cursor=x", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?state=bogus", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?label=x", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?label=a%00:b", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?topic=%00", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?window_from=2025-07-29", 400, "INVALID_PARAMETER"),
        ("/v1/snapshots?tpoic=x", 400, "INVALID_PARAMETER"),
        (&format!("{unknown_id}?wait=x"), 400, "INVALID_PARAMETER"),
        (&format!("{unknown_id}/events?limit=-1"), 400, "INVALID_PARAMETER"),
    ] {
        let response = app.http.get(format!("{}{path}", app.url)).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let request_id = response.headers()["x-request-id"].clone();
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["code"], code, "{path}: {problem}");
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(problem["request_id"], request_id.to_str().expect("ASCII"));
        assert!(!problem["detail"].as_str().expect("text").contains('\n'));
    }
}

#[tokio::test]
async fn bad_bodies_and_methods_are_problem_documents() {
    let app = TestApp::spawn().await;
    let url = format!("{}/v1/snapshots", app.url);
    let post = || app.http.post(&url);
    let good = body("some-topic").to_string();
    for (request, status, code) in [
        (post(), 400, "INVALID_JSON"),
        (post().body("{"), 400, "INVALID_JSON"),
        (post().body("x".repeat(65 * 1024)), 413, "BODY_TOO_LARGE"),
        (
            post().body(good.clone()).header("content-type", "text/html"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (post().body(good.replace("some-topic", "a/b")), 422, "FIELD_INVALID"),
        (post().body(good.replace("some-topic", "__offsets")), 403, "TOPIC_NOT_ALLOWED"),
        (post().body(good.replace(&at(HOUR), &at(0))), 422, "WINDOW_INVALID"),
        (post().body(good.clone()).header("origin", "https://evil.example"), 403, "FORBIDDEN"),
        (post().body(good.clone()).header("origin", "null"), 403, "FORBIDDEN"),
        (post().body(good.clone()).header("sec-fetch-site", "cross-site"), 403, "FORBIDDEN"),
        (app.http.put(&url).body(good.clone()), 405, "METHOD_NOT_ALLOWED"),
        (app.http.delete(&url), 405, "METHOD_NOT_ALLOWED"),
    ] {
        let (got, problem) = answer(request).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let (_, list) = app.get("/v1/snapshots").await;
    assert_eq!(list["items"], json!([]), "nothing was made");
    for origin in [app.url.as_str(), "https://allowed.example"] {
        let (status, _) = answer(post().body(good.clone()).header("origin", origin)).await;
        assert_eq!(status, 202, "{origin}");
    }
    let put = app.http.put(&url).send().await.expect("an answer");
    assert_eq!(put.headers()["allow"], "GET, HEAD, POST");
}

#[tokio::test]
async fn a_full_queue_is_429_and_joins_are_not() {
    let app = TestApp::spawn_with_queue(5).await;
    for number in 0..5 {
        assert_eq!(app.ask("some-topic", number, HOUR).await.0, 202);
    }
    let response = app
        .http
        .post(format!("{}/v1/snapshots", app.url))
        .json(&body("one-more"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "QUEUE_FULL");
    assert_eq!(app.ask("some-topic", 0, HOUR).await.0, 202, "it is there already");
    assert_eq!(app.get("/v1/snapshots?topic=one-more").await.1["items"], json!([]));
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let app = TestApp::spawn().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let mut request = body(if number < 3 { "one" } else { "two" });
        request["window_start"] = json!(at(number * 1000));
        request["labels"] = json!({"number": number.to_string(), "all": "yes"});
        let (_, snapshot) = app.post("/v1/snapshots", &request).await;
        ids.insert(0, snapshot["id"].clone());
    }
    let list = |query: &'static str| {
        let app = &app;
        async move { app.get(&format!("/v1/snapshots?{query}")).await.1 }
    };
    let of = |page: &Value| -> Vec<Value> {
        page["items"].as_array().expect("items").iter().map(|item| item["id"].clone()).collect()
    };
    let first = list("limit=2").await;
    assert_eq!(of(&first), ids[..2]);
    let cursor = first["next_cursor"].as_str().expect("more");
    let (_, second) = app.get(&format!("/v1/snapshots?limit=200&cursor={cursor}")).await;
    assert_eq!(of(&second), ids[2..]);
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(of(&list("topic=one").await).len(), 3);
    assert_eq!(of(&list("state=queued&state=failed").await).len(), 5);
    assert_eq!(of(&list("state=failed").await).len(), 0);
    assert_eq!(of(&list("label=number:3&label=all:yes").await), [ids[1].clone()]);
    assert_eq!(of(&list("label=number:3&label=all:no").await).len(), 0);
    assert_eq!(of(&list("completeness=sealed").await).len(), 0);
    let (from, to) = (at(HOUR), at(1));
    let (_, none) = app.get(&format!("/v1/snapshots?window_from={from}")).await;
    assert_eq!(of(&none).len(), 0, "a window's end is outside of it");
    let (_, one) = app.get(&format!("/v1/snapshots?window_to={to}")).await;
    assert_eq!(of(&one), [ids[4].clone()]);
}

#[tokio::test]
async fn lists_show_what_is_so_now() {
    let app = TestApp::spawn().await;
    let listed = async |query: &str| {
        let (status, page) = app.get(&format!("/v1/snapshots?{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("items").len()
    };
    // There is no such topic, so the run fails.
    let mut request = body("no-such-topic");
    request["labels"] = json!({"night": "1", "team": "a"});
    app.post("/v1/snapshots", &request).await;
    app.work().await;
    assert_eq!((listed("state=failed").await, listed("state=queued").await), (1, 0));
    request["labels"] = json!({"night": "2", "team": "a"});
    app.post("/v1/snapshots", &request).await;
    assert_eq!((listed("state=failed").await, listed("state=queued").await), (0, 1));
    assert_eq!((listed("label=night:1").await, listed("label=night:2").await), (0, 1));
    assert_eq!(listed("label=team:a&label=night:2&state=queued&state=failed").await, 1);
    app.work().await;
    assert_eq!((listed("state=failed").await, listed("state=queued").await), (1, 0));
    let span =
        |from, to| format!("topic=no-such-topic&window_from={}&window_to={}", at(from), at(to));
    assert_eq!(listed(&span(0, HOUR)).await, 1);
    assert_eq!(listed(&span(HOUR, 2 * HOUR)).await, 0, "it ends where the span begins");
    assert_eq!(listed(&(span(0, 1) + "&state=failed&limit=7")).await, 1);
}

#[tokio::test]
async fn an_unchanged_document_is_304() {
    let app = TestApp::spawn().await;
    let (_, snapshot) = app.post("/v1/snapshots", &body("some-topic")).await;
    let url = format!("{}{}", app.url, snapshot["links"]["self"].as_str().expect("a path"));
    let first = app.http.get(&url).send().await.expect("an answer");
    let tag = first.headers()["etag"].clone();
    let again = app.http.get(&url).header("if-none-match", &tag).send().await.expect("an answer");
    assert_eq!(again.status(), 304);
    app.work().await;
    let moved = app.http.get(&url).header("if-none-match", &tag).send().await.expect("an answer");
    assert_eq!(moved.status(), 200);
}

#[tokio::test]
async fn spellings_heads_and_ids_of_requests() {
    let app = TestApp::spawn().await;
    assert_eq!(app.get("//v1//snapshots/").await.0, 200);
    let url = format!("{}/v1/snapshots", app.url);
    let head = app.http.head(&url).send().await.expect("an answer");
    let get = app.http.get(&url).send().await.expect("an answer");
    assert_eq!(head.status(), 200);
    for header in ["content-type", "content-length"] {
        assert_eq!(head.headers()[header], get.headers()[header], "{header}");
    }
    let id = |sent: &'static str| {
        let request = app.http.get(format!("{}/livez", app.url)).header("x-request-id", sent);
        async move {
            let response = request.send().await.expect("an answer");
            response.headers()["x-request-id"].to_str().expect("ASCII").to_owned()
        }
    };
    assert_eq!(id("from-the-caller_1.2").await, "from-the-caller_1.2");
    assert_ne!(id("spaces are not kept").await, "spaces are not kept");
}

#[tokio::test]
async fn events_can_be_narrowed() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b"), record(1, 0, "c")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let events = snapshot["links"]["events"].as_str().expect("a path").to_owned();
    let values = |query: &'static str| {
        let request = app.http.get(format!("{}{events}{query}", app.url));
        async move {
            let text = request.send().await.expect("an answer").text().await.expect("lines");
            let value = |line| -> Value {
                serde_json::from_str::<Value>(line).expect("JSON")["value"].take()
            };
            text.lines().map(value).collect::<Vec<Value>>()
        }
    };
    assert_eq!(values("").await, ["a", "b", "c"]);
    assert_eq!(values("?partition=1").await, ["c"]);
    assert_eq!(values("?limit=2").await, ["a", "b"]);
    assert_eq!(values("?partition=7").await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_is_there_besides() {
    let app = TestApp::spawn().await;
    let (status, version) = app.get("/v1/version").await;
    assert_eq!(status, 200);
    assert_eq!(version["schema_version"], strandline::db::expected_version());
    assert!(version["librdkafka"].as_str().is_some_and(|version| version.starts_with("2.")));
    assert_eq!(app.get("/readyz").await.0, 200);
    let (status, document) = app.get("/openapi.json").await;
    assert_eq!((status, &document["info"]["title"]), (200, &json!("Strandline")));
    for path in [
        "/docs",
        "/docs/",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-initializer.js",
        "/metrics",
    ] {
        assert_eq!(app.get(path).await.0, 200, "{path}");
    }
    assert_eq!(app.get("/docs/nothing.js").await.0, 404);
}
