//! The list of a snapshot's runs.

use serde_json::{Value, json};

use crate::harness::{HOUR, TestApp, TestTopic, record};

async fn list(app: &TestApp, snapshot: &Value, query: &str) -> (u16, Value) {
    let path = snapshot["links"]["self"].as_str().expect("a path");
    app.get(&format!("{path}/runs{query}")).await
}

#[tokio::test]
async fn each_run_tells_who_asked_and_how_it_ended() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.delete().await;
    topic.until_gone();
    let failed = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    topic.make(1).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    app.snapshot(&topic.name, 0, HOUR).await;
    topic.produce(&[record(0, 2, "c"), record(0, HOUR, "end")]).await;
    assert_eq!(app.seal().await, 1);
    let (_, asked) = app
        .post(
            &format!("{}/refresh", failed["links"]["self"].as_str().expect("a path")),
            &Value::Null,
        )
        .await;
    assert_eq!((&asked["id"], &asked["run"]), (&failed["id"], &json!(4)));

    let (status, page) = list(&app, &failed, "").await;
    let runs = page["items"].as_array().expect("items");
    let told = |run: &Value| {
        ["run", "origin", "state", "records_added"].map(|name| run[name].clone()).to_vec()
    };
    let expected = json!([
        [4, "request", "queued", 0],
        [3, "sealer", "succeeded", 1],
        [2, "request", "succeeded", 2],
        [1, "request", "failed", 0],
    ]);
    assert_eq!((status, json!(runs.iter().map(told).collect::<Vec<_>>())), (200, expected));
    assert_eq!(page["next_cursor"], Value::Null);
    assert_eq!(runs[3]["error"], failed["error"]);
    assert_eq!(runs[3]["error"]["code"], "TOPIC_NOT_FOUND");
    assert_eq!((&runs[2]["error"], &runs[0]["started_at"]), (&Value::Null, &Value::Null));
    for run in &runs[1..] {
        let times = ["requested_at", "started_at", "finished_at"];
        let times = times.map(|name| run[name].as_str().expect("a time").to_owned());
        assert!(times.is_sorted(), "{times:?}");
    }
}

#[tokio::test]
async fn they_come_in_pages_and_only_of_a_snapshot_that_is_there() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    for _ in 0..2 {
        let path = snapshot["links"]["self"].as_str().expect("a path");
        app.post(&format!("{path}/refresh"), &Value::Null).await;
        app.work().await;
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let (_, page) = list(&app, &snapshot, &query).await;
        seen.push(
            page["items"].as_array().expect("items").iter().map(|r| r["run"].clone()).collect(),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    let pages: Vec<Vec<Value>> = seen;
    assert_eq!(json!(pages), json!([[3, 2], [1]]));
    let missing = "/v1/snapshots/01890000-0000-7000-8000-000000000000/runs";
    assert_eq!(app.get(missing).await.0, 404);
    assert_eq!(list(&app, &snapshot, "?cursor=2").await.1["code"], "INVALID_PARAMETER");
}
