//! The schema and the OpenAPI document are what they are said to be.

use strandline::db;

use crate::harness::TestApp;

#[tokio::test]
async fn every_table_and_every_column_has_a_comment() {
    let app = TestApp::spawn().await;
    let client = app.db().client().await.expect("a connection");
    let rows = client
        .query(
            "SELECT c.relname || coalesce('.' || a.attname, '')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (
                 SELECT 0 AS attnum, NULL AS attname UNION ALL
                 SELECT attnum, attname FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
             WHERE n.nspname = 'public' AND c.relkind = 'r'
               AND c.relname <> 'refinery_schema_history'
               AND col_description(c.oid, a.attnum) IS NULL
               AND (a.attnum > 0 OR obj_description(c.oid) IS NULL)",
            &[],
        )
        .await
        .expect("the catalogue");
    let silent: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(silent.is_empty(), "without a comment: {silent:?}");
}

#[tokio::test]
async fn storing_an_offset_twice_is_impossible() {
    let app = TestApp::spawn().await;
    let client = app.db().client().await.expect("a connection");
    client
        .batch_execute("INSERT INTO topics (cluster, name, topic_id) VALUES ('c', 't', 'i')")
        .await
        .expect("a topic");
    let insert = |range: &str| {
        format!(
            "INSERT INTO segments (topic, capture, partition, offsets, records, untimed_records)
             SELECT id, 'events', 0, '{range}', 0, 0 FROM topics"
        )
    };
    client.batch_execute(&insert("[0,10)")).await.expect("stored");
    client.batch_execute(&insert("[10,20)")).await.expect("it only touches");
    let error = client.batch_execute(&insert("[9,11)")).await.expect_err("it overlaps");
    assert_eq!(error.code().map(|code| code.code()), Some("23P01"));
    let error = client.batch_execute(&insert("empty")).await.expect_err("it is empty");
    assert_eq!(error.code().map(|code| code.code()), Some("23514"));
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let app = TestApp::spawn().await;
    let applied = db::migrate(app.db()).await.expect("nothing to do");
    assert_eq!(applied.from, Some(applied.to));
    assert_eq!(db::check_schema(app.db()).await.expect("a version"), db::SchemaState::Current);
}

#[test]
fn the_committed_openapi_documents_are_those_of_the_code() {
    let lowered = strandline::api::openapi_lowered_json();
    for (name, document) in
        [("strandline", strandline::api::openapi_json()), ("strandline-3.0", &lowered)]
    {
        let path = format!("{}/openapi/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == document, "{path} is not what the code says: run `make openapi`");
    }
}
