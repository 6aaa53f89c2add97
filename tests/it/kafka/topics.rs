//! What a topic is: its settings, its partitions, its id.

use std::fmt::Debug;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use strandline::kafka::{Flow, KafkaError, RangeReader, ReadLimits, TopicSummary};
use strandline::snapshot::{Event, FailureKind, Timestamp, TimestampType, TopicName};

use super::{client, config, name, range, read, reader, reader_with, window};
use crate::harness::{HOUR, PATIENCE, TestTopic, record};

/// How a call fails that can't succeed, once the broker has answered it in time.
fn answered<T: Debug>(mut call: impl FnMut() -> Result<T, KafkaError>) -> KafkaError {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().expect_err("it can't succeed") {
            KafkaError::Unavailable { .. } | KafkaError::ReadStalled { .. }
                if Instant::now() < deadline => {}
            error => return error,
        }
    }
}

#[tokio::test]
async fn a_topic_is_described() {
    let settings = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "86400000")];
    let topic = TestTopic::create(3, &settings).await;
    let (client, name) = (client(), name(&topic));
    let found = client.describe_topic(&name).expect("described");
    assert_eq!(found.partitions, [0, 1, 2]);
    assert_eq!(found.timestamp_type, Some(TimestampType::LogAppendTime));
    assert_eq!(found.retention_ms, Some(86_400_000));
    assert!(found.topic_id.is_some());
    assert_eq!(client.topic_id(&name).expect("an id"), found.topic_id);
    let listed = client.list_topics().expect("listed");
    assert!(listed.contains(&TopicSummary { topic: topic.name.clone(), partitions: 3 }));
    let plain = TestTopic::create(1, &[]).await;
    let found = client.describe_topic(&super::name(&plain)).expect("described");
    assert_eq!(found.timestamp_type, Some(TimestampType::CreateTime));
    assert_eq!(found.retention_ms, Some(-1), "events are kept for good");
}

#[tokio::test]
async fn under_log_append_time_the_brokers_clock_stamps_and_is_looked_up() {
    let topic = TestTopic::create(1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    let mut stamps = Vec::new();
    let on_event = &mut |event: &Event<'_>| {
        stamps.push((event.timestamp.expect("a time").millis(), event.timestamp_type));
        Flow::Continue
    };
    reader(&topic).read(0, range(0, 2), on_event, &|| false).expect("read");
    for &(stamp, kind) in &stamps {
        assert_eq!(kind, Some(TimestampType::LogAppendTime));
        assert!(stamp >= before as i64, "{stamp} is the producer's");
    }
    let client = client();
    let offset_at = |millis| {
        let at = Timestamp::from_millis(millis);
        let found = client.boundaries(&name(&topic), &[0], at).expect("a boundary");
        found[0].1.map(|found| found.offset)
    };
    assert_eq!(offset_at(stamps[0].0), Some(0));
    assert_eq!(offset_at(stamps[1].0 + 1), None);
}

#[tokio::test]
async fn an_unknown_topic_is_not_found_and_not_made() {
    let (client, unknown) = (client(), TopicName::parse("no-such-topic").expect("a name"));
    let limits = ReadLimits { stall_seconds: 1, ..ReadLimits::default() };
    let mut reader = RangeReader::new(&config(), &unknown, limits).expect("a reader");
    for error in [
        answered(|| client.describe_topic(&unknown)),
        answered(|| client.topic_id(&unknown)),
        answered(|| client.look(&unknown, &[0], &window(0, HOUR))),
        answered(|| client.low_watermarks(&unknown, &[0, 1])),
        answered(|| read(&mut reader, 0, range(0, 1)).0),
    ] {
        assert_eq!(error.failure_kind(), FailureKind::TopicNotFound, "{error}");
        assert!(error.to_string().starts_with("topic no-such-topic does not exist"), "{error}");
    }
    let listed = client.list_topics().expect("listed");
    assert!(listed.iter().all(|topic| topic.topic != unknown.as_str()));
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_named() {
    let topic = TestTopic::create(2, &[]).await;
    let (client, name) = (client(), name(&topic));
    let limits = ReadLimits { stall_seconds: 1, ..ReadLimits::default() };
    let mut reader = reader_with(&topic, limits);
    for error in [
        answered(|| client.watermarks(&name, &[0, 5])),
        answered(|| client.look(&name, &[5, 1], &window(0, HOUR))),
        answered(|| read(&mut reader, 5, range(0, 1)).0),
    ] {
        assert_eq!(error.partition(), Some(5), "{error}");
        assert!(error.to_string().contains("has no partition 5 now"), "{error}");
        assert!(error.is_retryable(), "it may be too new to be known");
    }
}

#[tokio::test]
async fn added_partitions_are_seen_by_a_client_that_knew_the_topic_before() {
    let topic = TestTopic::create(1, &[]).await;
    let (client, name) = (client(), name(&topic));
    assert_eq!(client.watermarks(&name, &[0]).expect("watermarks").len(), 1);
    topic.add_partitions(4).await;
    assert_eq!(client.describe_topic(&name).expect("described").partitions, [0, 1, 2, 3]);
    assert_eq!(client.watermarks(&name, &[0, 1, 2, 3]).expect("watermarks").len(), 4);
}

#[tokio::test]
async fn a_topic_made_again_has_another_id_and_a_client_that_knew_the_old_one_sees_the_new() {
    let topic = TestTopic::create(2, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    let (client, name) = (client(), name(&topic));
    let old = client.topic_id(&name).expect("an id");
    assert_eq!(client.watermarks(&name, &[0]).expect("watermarks")[0].high_watermark, 2);
    topic.recreate(1).await;
    topic.produce(&[record(0, 0, "new")]).await;
    assert_ne!(client.topic_id(&name).expect("an id"), old);
    assert_eq!(client.watermarks(&name, &[0]).expect("watermarks")[0].high_watermark, 1);
    let error = client.watermarks(&name, &[0, 1]).expect_err("it has one partition less");
    assert_eq!(error.partition(), Some(1), "{error}");
    assert_eq!(read(&mut reader(&topic), 0, range(0, 1)).1, [0]);
}
