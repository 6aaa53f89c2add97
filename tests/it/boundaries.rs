//! Boundaries where a broker's own answer misleads.

use crate::harness::{HOUR, TestApp, TestTopic, record};

/// Deleting records in the middle of a segment leaves the segment, with the timestamps that
/// it has held: a look-up stops there and says "none", although there are later segments.
#[tokio::test]
async fn an_event_behind_a_half_deleted_segment_is_found_all_the_same() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 10, "a"), record(0, 100, "b"), record(0, 20, "c")]).await;
    // So much later that the broker begins another segment.
    topic.produce(&[record(0, 9 * 24 * HOUR, "d")]).await;
    topic.delete_below(0, 2).await;
    let first = app.snapshot(&topic.name, 0, 50).await;
    assert_eq!(first["completeness"], "sealed", "{first}");
    assert_eq!(first["result"]["records"], 1);
    assert_eq!(app.events(&first).await[0]["value"], "c");
    let second = app.snapshot(&topic.name, 50, 60).await;
    assert_eq!(
        (&second["completeness"], &second["result"]["records"]),
        (&"sealed".into(), &0.into())
    );
    let last = app.snapshot(&topic.name, 60, 10 * 24 * HOUR).await;
    assert_eq!(last["result"]["records"], 1);
    assert_eq!(app.events(&last).await[0]["value"], "d");
}
