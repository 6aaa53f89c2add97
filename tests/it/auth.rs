//! Who may call, and what they may have.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use strandline::db;
use strandline::snapshot::Scope;

use crate::harness::{HOUR, TestApp, TestTopic, answer, at, record};

fn get(app: &TestApp, path: &str) -> RequestBuilder {
    app.http.get(format!("{}{path}", app.url))
}

fn post(app: &TestApp, topic: &str) -> RequestBuilder {
    let body = json!({"topic": topic, "window_start": at(0), "window_end": at(HOUR)});
    app.http.post(format!("{}/v1/snapshots", app.url)).json(&body)
}

#[tokio::test]
async fn the_first_token_closes_the_door() {
    let app = TestApp::spawn().await;
    for path in ["/v1/snapshots", "/v1/version", "/metrics"] {
        assert_eq!(app.get(path).await.0, 200, "{path} before the first token");
    }
    let token = app.token("airflow", Scope::Write, &[]).await;
    for path in
        ["/v1/snapshots", "/v1/version", "/metrics", "/none", "/v2", "/v1//snapshots/x/../.."]
    {
        let response = get(&app, path).send().await.expect("an answer");
        assert_eq!(response.status(), 401, "{path}");
        let schemes: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
        assert_eq!(schemes.len(), 2, "Bearer and Basic: {schemes:?}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["code"], "UNAUTHENTICATED");
        assert!(problem["detail"].as_str().expect("text").contains("Bearer TOKEN"), "{problem}");
    }
    for path in ["/", "/page/app.js", "/livez", "/readyz", "/openapi.json", "/docs"] {
        assert_eq!(get(&app, path).send().await.expect("an answer").status(), 200, "{path}");
    }
    for path in ["/v1/snapshots", "/metrics"] {
        assert_eq!(answer(get(&app, path).bearer_auth(&token)).await.0, 200, "{path}");
        let basic = get(&app, path).basic_auth("airflow", Some(&token));
        assert_eq!(answer(basic).await.0, 200, "{path}");
    }
    assert_eq!(answer(get(&app, "/v2").bearer_auth(&token)).await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said() {
    let app = TestApp::spawn().await;
    let good = app.token("airflow", Scope::Read, &[]).await;
    let (old, gone) =
        (app.token("old", Scope::Read, &[]).await, app.token("gone", Scope::Read, &[]).await);
    let sql = "UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'old'";
    app.db().client().await.expect("a connection").batch_execute(sql).await.expect("expired");
    assert!(db::revoke_token(app.db(), "gone").await.expect("revoked"));
    assert!(!db::revoke_token(app.db(), "gone").await.expect("asked"), "it is revoked already");
    app.read_tokens().await;
    let list = || get(&app, "/v1/snapshots");
    for (request, part) in [
        (list().bearer_auth(format!("{good}x")), "not known"),
        (list().bearer_auth(""), "not known"),
        (list().bearer_auth(&old), "the token old has expired at"),
        (list().bearer_auth(&gone), "the token gone was revoked at"),
        (list().basic_auth("someone", Some(&good)), "the login is not the token's name"),
        (list().basic_auth(&good, None::<&str>), "not known"),
        (list().header("authorization", "Digest x"), "neither Bearer"),
        (list().header("authorization", "Basic %"), "Base64"),
        (list().bearer_auth(&good).header("authorization", "Basic YTpi"), "more than once"),
    ] {
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (401, &json!("UNAUTHENTICATED")), "{problem}");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains(part), "{detail}");
        assert!(!problem.to_string().contains(&good), "{problem}");
    }
    // A name is free again once its token is revoked, and a revoked token leaves the door shut.
    let again = app.token("gone", Scope::Read, &[]).await;
    assert_eq!(answer(list().bearer_auth(&again)).await.0, 200);
    let (status, problem) = answer(get(&app, &format!("/v1/snapshots?token={good}"))).await;
    assert_eq!((status, &problem["code"]), (401, &json!("UNAUTHENTICATED")));
}

#[tokio::test]
async fn revoking_the_last_token_opens_nothing() {
    let app = TestApp::spawn().await;
    app.token("only", Scope::Admin, &[]).await;
    assert!(db::revoke_token(app.db(), "only").await.expect("revoked"));
    app.read_tokens().await;
    assert_eq!(app.get("/v1/snapshots").await.0, 401);
}

#[tokio::test]
async fn a_token_that_was_just_made_is_found_without_being_told_of() {
    let app = TestApp::spawn().await;
    app.token("first", Scope::Read, &[]).await;
    let secret = strandline::api::Secret::new(&[9; 32]);
    let token = db::NewToken {
        name: "second".to_owned(),
        sha256: secret.sha256(),
        grant: strandline::snapshot::Grant { scope: Scope::Read, topics: Vec::new() },
        expires_in_days: None,
    };
    assert!(db::create_token(app.db(), uuid::Uuid::now_v7(), &token).await.expect("recorded"));
    assert!(!db::create_token(app.db(), uuid::Uuid::now_v7(), &token).await.is_ok_and(|made| made));
    assert_eq!(answer(get(&app, "/v1/version").bearer_auth(secret.reveal())).await.0, 200);
}

#[tokio::test]
async fn a_scope_covers_what_is_below_it() {
    let app = TestApp::spawn().await;
    let read = app.token("reader", Scope::Read, &[]).await;
    let write = app.token("writer", Scope::Write, &[]).await;
    let admin = app.token("admin", Scope::Admin, &[]).await;
    let (status, problem) = answer(post(&app, "orders").bearer_auth(&read)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("FORBIDDEN")));
    let detail = problem["detail"].as_str().expect("text");
    assert_eq!(detail, "the token reader has the scope read, this needs write");
    let (status, snapshot) = answer(post(&app, "orders").bearer_auth(&write)).await;
    assert_eq!(status, 202, "{snapshot}");
    assert_eq!(answer(post(&app, "orders").bearer_auth(&admin)).await.0, 202);
    let path = snapshot["links"]["self"].as_str().expect("a path");
    for action in ["cancel", "refresh"] {
        let request =
            |token| app.http.post(format!("{}{path}/{action}", app.url)).bearer_auth(token);
        assert_eq!(answer(request(&read)).await.0, 403, "{action}");
        assert_eq!(answer(request(&write)).await.0, 202, "{action}");
    }
    assert_eq!(answer(get(&app, path).bearer_auth(&read)).await.0, 200);
    let head = app.http.head(format!("{}{path}", app.url)).bearer_auth(&read);
    assert_eq!(head.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn another_teams_topics_are_out_of_sight() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let own = format!("{}*", &topic.name[..12]);
    let team = app.token("team", Scope::Write, &[&own]).await;
    let other = app.token("other", Scope::Write, &["team_a.*", "x?"]).await;
    let id = snapshot["id"].as_str().expect("an id");
    let path = format!("/v1/snapshots/{id}");
    for part in ["", "?wait=1", "/result", "/runs", "/partitions", "/files", "/events"] {
        let path = format!("{path}{part}");
        assert_eq!(answer(get(&app, &path).bearer_auth(&team)).await.0, 200, "{path}");
        let (status, problem) = answer(get(&app, &path).bearer_auth(&other)).await;
        assert_eq!((status, &problem["code"]), (404, &json!("NOT_FOUND")), "{path}");
        assert_eq!(problem["detail"], format!("there is no snapshot {id}"), "{path}");
    }
    for action in ["cancel", "refresh"] {
        let request = app.http.post(format!("{}{path}/{action}", app.url)).bearer_auth(&other);
        assert_eq!(answer(request).await.0, 404, "{action}");
    }
    let listed = async |token: &str, path: &str| {
        let (status, page) = answer(get(&app, path).bearer_auth(token)).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("items").len()
    };
    for path in ["/v1/snapshots", "/v1/snapshots?state=succeeded&limit=7", "/v1/topics"] {
        assert_eq!((listed(&team, path).await, listed(&other, path).await), (1, 0), "{path}");
    }
    assert_eq!(listed(&other, &format!("/v1/snapshots?topic={}", topic.name)).await, 0);
    let span = format!("from={}&to={}", at(0), at(HOUR));
    for path in [format!("offsets?at={}", at(0)), format!("coverage?{span}"), "files".to_owned()] {
        let path = format!("/v1/topics/{}/{path}", topic.name);
        assert_eq!(answer(get(&app, &path).bearer_auth(&team)).await.0, 200, "{path}");
        let (status, problem) = answer(get(&app, &path).bearer_auth(&other)).await;
        assert_eq!((status, &problem["code"]), (403, &json!("TOPIC_NOT_ALLOWED")), "{path}");
    }
    let (status, problem) = answer(post(&app, &topic.name).bearer_auth(&other)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("TOPIC_NOT_ALLOWED")));
}

#[tokio::test]
async fn a_pattern_means_the_same_in_lists_as_elsewhere() {
    let app = TestApp::spawn().await;
    let all = app.token("all", Scope::Write, &[]).await;
    let some = app.token("some", Scope::Write, &["team_a.*", "x?"]).await;
    // An underscore stands for itself alone, a question mark for any one character.
    let topics = ["team_a.y", "teamxa.y", "xy", "x", "xyz"];
    for topic in topics {
        assert_eq!(answer(post(&app, topic).bearer_auth(&all)).await.0, 202, "{topic}");
    }
    let mut allowed = Vec::new();
    for topic in topics {
        match answer(post(&app, topic).bearer_auth(&some)).await.0 {
            202 => allowed.push(topic),
            status => assert_eq!(status, 403, "{topic}"),
        }
    }
    assert_eq!(allowed, ["team_a.y", "xy"]);
    let (_, page) = answer(get(&app, "/v1/snapshots").bearer_auth(&some)).await;
    let items = page["items"].as_array().expect("items");
    let mut listed: Vec<&str> = items.iter().filter_map(|item| item["topic"].as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, allowed);
}

#[tokio::test]
async fn too_many_wrong_tokens_are_429_and_right_ones_pass() {
    let app = TestApp::spawn().await;
    let good = app.token("airflow", Scope::Read, &[]).await;
    let wrong = || answer(get(&app, "/v1/version").bearer_auth("strandline_wrong"));
    // While they are asked, time makes up for one every 0.6 seconds.
    let answers = futures_util::future::join_all((0..200).map(|_| wrong())).await;
    let told = answers.iter().filter(|(status, _)| *status == 401).count();
    assert!((100..200).contains(&told), "{told}");
    let (_, problem) = answers.iter().find(|(status, _)| *status == 429).expect("one too many");
    assert_eq!(problem["code"], "RATE_LIMITED");
    assert_eq!(answer(get(&app, "/v1/version").bearer_auth(&good)).await.0, 200);
}

#[tokio::test]
async fn a_page_gets_nothing_through_a_name_of_its_own() {
    let app = TestApp::spawn().await;
    let rebound = || get(&app, "/v1/snapshots").header("host", "evil.example:8080");
    let from_page = rebound().header("sec-fetch-site", "same-origin");
    let (status, problem) = answer(from_page).await;
    assert_eq!((status, &problem["code"]), (403, &json!("FORBIDDEN")));
    let posted = post(&app, "orders").header("host", "evil.example:8080");
    assert_eq!(answer(posted.header("origin", "http://evil.example:8080")).await.0, 403);
    assert_eq!(answer(rebound()).await.0, 200, "no browser, no page");
    let allowed = get(&app, "/v1/snapshots").header("host", "allowed.example");
    assert_eq!(answer(allowed.header("sec-fetch-site", "same-origin")).await.0, 200);
    let local = get(&app, "/v1/snapshots").header("sec-fetch-site", "same-origin");
    assert_eq!(answer(local).await.0, 200);
    // A link leads here from anywhere.
    let followed = get(&app, "/v1/snapshots").header("sec-fetch-site", "cross-site");
    assert_eq!(answer(followed).await.0, 200);
    // Once a token is asked for, a name is no way in, and a proxy's own will do.
    let token = app.token("airflow", Scope::Read, &[]).await;
    let proxied = rebound().header("sec-fetch-site", "same-origin").bearer_auth(&token);
    assert_eq!(answer(proxied).await.0, 200);
}
