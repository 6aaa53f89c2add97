//! Boundaries where a broker's own answer misleads.

use strandline::kafka::{KafkaClient, KafkaConfig};
use strandline::snapshot::{Timestamp, TopicName, Window};

use crate::harness::{DAY, HOUR, TestApp, TestTopic, brokers, record};

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

/// What retention takes in the middle of a look was never seen: it must not pass for older.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_goes_during_a_look_passes_for_older() {
    let topic = TestTopic::create(1, &[]).await;
    let records: Vec<_> = (0..1000).map(|i| record(0, 1000 + i, "x")).collect();
    topic.produce(&records).await;
    let config = KafkaConfig::new(&brokers(), "").expect("good settings");
    let client = KafkaClient::connect(&config).expect("a client");
    let time = |millis| Timestamp::from_millis(DAY + millis);
    let window = Window::new(time(0), time(HOUR)).expect("a window");
    let name = TopicName::parse(&topic.name).expect("a name");
    let looks = tokio::task::spawn_blocking(move || {
        let (mut seen, mut low_watermark) = (0, 0);
        while low_watermark < 1000 {
            // Where the low watermark moves all the time, a look may be given up.
            let Ok(looks) = client.look(&name, &[0], &window) else { continue };
            low_watermark = looks[0].low_watermark;
            // Everything is of the window: nothing there is older than its start.
            assert!(looks[0].start_answer.is_none_or(|start| start == low_watermark), "{looks:?}");
            seen += 1;
        }
        seen
    });
    for below in (0..=1000).step_by(5) {
        topic.delete_below(0, below).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(looks.await.expect("no difference") > 0);
}
