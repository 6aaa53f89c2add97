//! Which offsets a time means, and where a partition begins and ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::producer::{FutureRecord, Producer};
use strandline::kafka::{KafkaClient, KafkaError, ReadEnd};
use strandline::snapshot::{PartitionLook, Timestamp, TopicName, Watermarks};

use super::{client, name, range, read, reader, time, window};
use crate::harness::{DAY, TestTopic, TransactionEnd, producer, record, until};

/// The boundaries' offsets.
fn boundaries(
    client: &KafkaClient,
    topic: &TopicName,
    partitions: &[i32],
    at: Timestamp,
) -> Vec<(i32, Option<i64>)> {
    let found = client.boundaries(topic, partitions, at).expect("boundaries");
    found.into_iter().map(|(partition, found)| (partition, found.map(|f| f.offset))).collect()
}

/// A topic with ten events, one a second, in partition 0, seven out of order in partition 1,
/// and none in partition 2.
async fn three_partitions() -> TestTopic {
    let topic = TestTopic::create(3, &[]).await;
    let ordered = (0..10).map(|i| record(0, i * 1000, "x"));
    let disordered = [100, 400, 200, 500, 50, 300, 600].map(|millis| record(1, millis, "x"));
    topic.produce(&ordered.chain(disordered).collect::<Vec<_>>()).await;
    topic
}

#[tokio::test]
async fn a_boundary_is_the_first_offset_in_log_order_stamped_at_or_after_it() {
    let topic = three_partitions().await;
    let (client, name) = (client(), name(&topic));
    let answers = |at: Timestamp| boundaries(&client, &name, &[0, 1, 2], at);
    for (millis, ordered, disordered) in [
        (-1, Some(0), Some(0)),
        (0, Some(0), Some(0)),
        (1, Some(1), Some(0)),
        (101, Some(1), Some(1)),
        (401, Some(1), Some(3)),
        (501, Some(1), Some(6)),
        (601, Some(1), None),
        (9000, Some(9), None),
        (9001, None, None),
    ] {
        let expected = [(0, ordered), (1, disordered), (2, None)];
        assert_eq!(answers(time(millis)), expected, "{millis} ms");
    }
    // Negative times have special meanings to Kafka, but not here.
    for before in [0, -1, -2, -3, -4, i64::MIN] {
        let expected = [(0, Some(0)), (1, Some(0)), (2, None)];
        assert_eq!(answers(Timestamp::from_millis(before)), expected, "{before}");
    }
    assert_eq!(answers(Timestamp::from_millis(i64::MAX)), [(0, None), (1, None), (2, None)]);
}

#[tokio::test]
async fn a_look_answers_for_each_partition_in_the_order_asked() {
    let topic = three_partitions().await;
    let (client, name) = (client(), name(&topic));
    let looks =
        |partitions: &[i32], end| client.look(&name, partitions, &window(450, end)).expect("looks");
    let expected = [
        look(2, [0, 0], [None, None]),
        look(0, [0, 10], [Some((1, 1000)), Some((5, 5000))]),
        look(1, [0, 7], [Some((3, 500)), None]),
    ];
    assert_eq!(looks(&[2, 0, 1], 5000), expected);
    assert_eq!(looks(&[], 5000), []);
    // Where the front is gone, the first event that is left answers for it.
    topic.delete_below(0, 3).await;
    let cut = look(0, [3, 10], [Some((3, 3000)), Some((5, 5000))]);
    assert_eq!(looks(&[0], 5000), [cut]);
    let end = look(0, [3, 10], [Some((3, 3000)), None]);
    assert_eq!(looks(&[0], 9001), [PartitionLook { newest: Some((9, time(9000))), ..end }]);
    assert_eq!(client.low_watermarks(&name, &[1, 0]).expect("low watermarks"), [(1, 0), (0, 3)]);
    topic.delete_below(0, 10).await;
    let emptied = look(0, [10, 10], [None, None]);
    assert_eq!(looks(&[0, 2], 5000), [emptied, look(2, [0, 0], [None, None])]);
}

/// Low and high watermark; the answers for start and end, offset and milliseconds.
fn look(
    partition: i32,
    [low_watermark, high_watermark]: [i64; 2],
    [start, end]: [Option<(i64, i64)>; 2],
) -> PartitionLook {
    PartitionLook {
        partition,
        low_watermark,
        high_watermark,
        last_stable_offset: high_watermark,
        start_answer: start.map(|(offset, _)| offset),
        end_answer: end.map(|(offset, _)| offset),
        start_timestamp: start.map(|(_, millis)| time(millis)),
        end_timestamp: end.map(|(_, millis)| time(millis)),
        newest: None,
    }
}

#[tokio::test]
async fn what_is_behind_an_open_transaction_has_no_boundary() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let open = topic.transaction(&[record(0, 1, "open")], TransactionEnd::LeaveOpen).await;
    topic.produce(&[record(0, 2, "b")]).await;
    let (client, name) = (client(), name(&topic));
    let marks = |high_watermark, last_stable_offset| {
        [Watermarks { partition: 0, low_watermark: 0, high_watermark, last_stable_offset }]
    };
    assert_eq!(client.watermarks(&name, &[0]).expect("watermarks"), marks(3, 1));
    assert_eq!(boundaries(&client, &name, &[0], time(0)), [(0, Some(0))]);
    assert_eq!(boundaries(&client, &name, &[0], time(1)), [(0, None)]);
    open.abort_transaction(Duration::from_secs(30)).expect("aborted");
    topic.until_stable(0, 4);
    assert_eq!(client.watermarks(&name, &[0]).expect("watermarks"), marks(4, 4));
    // The aborted event still has its place in the log, and its time.
    assert_eq!(boundaries(&client, &name, &[0], time(1)), [(0, Some(1))]);
}

#[tokio::test]
async fn retention_moves_the_low_watermark_and_the_look_says_so() {
    let topic = TestTopic::create(1, &[("retention.ms", "1000")]).await;
    topic.produce(&[record(0, 0, "old"), record(0, 1, "old")]).await;
    let (client, name) = (client(), name(&topic));
    until("retention acts", || client.low_watermarks(&name, &[0]).expect("one") == [(0, 2)]);
    let look = client.look(&name, &[0], &window(0, 1)).expect("a look")[0];
    assert_eq!((look.low_watermark, look.high_watermark), (2, 2));
    assert_eq!((look.start_answer, look.end_answer), (None, None));
    let (end, _) = read(&mut reader(&topic), 0, range(0, 2));
    assert_eq!(end, Ok(ReadEnd::OutOfRange { next_offset: 0 }));
}

#[tokio::test]
async fn looks_hold_while_events_arrive() {
    let topic = TestTopic::create(4, &[]).await;
    let (client, name) = (client(), name(&topic));
    let done = AtomicBool::new(false);
    let producer = producer(&[("linger.ms", "0")]);
    let mut sent = 0;
    let mut write = || {
        let batch: Vec<_> = (0..20)
            .map(|_| {
                let message = FutureRecord::<[u8], [u8]>::to(&topic.name)
                    .partition(sent % 4)
                    .timestamp(DAY + i64::from(sent));
                sent += 1;
                producer.send_result(message).map_err(|(error, _)| error).expect("queued")
            })
            .collect();
        futures_util::future::join_all(batch)
    };
    write().await;
    let look = |_| {
        let marks = client.watermarks(&name, &[0, 1, 2, 3])?;
        // The end is just ahead of what is being written.
        let ahead = marks[0].high_watermark * 4 + 20;
        Ok((marks, client.look(&name, &[0, 1, 2, 3], &window(0, ahead))?))
    };
    let runtime = tokio::runtime::Handle::current();
    let found: Vec<Result<_, KafkaError>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                runtime.block_on(write());
            }
        });
        let found = (0..60).map(look).collect();
        done.store(true, Ordering::Relaxed);
        found
    });
    for look in found {
        let (marks, _) = look.expect("answers that fit together");
        // An event that arrives between two questions is no open transaction.
        assert!(marks.iter().all(|m| m.last_stable_offset == m.high_watermark), "{marks:?}");
    }
}

/// librdkafka's own search for a leader that it does not know is unsound: this ended the process
/// by a signal, within a second or two, as long as offsets were asked for without a look first.
#[test]
fn many_may_ask_for_what_is_not_there_while_metadata_arrives() {
    let client = client();
    let asking = AtomicBool::new(true);
    // With so many at once some may get no answer in time.
    let ask = |topic: &TopicName| match client.low_watermarks(topic, &[0]) {
        Err(KafkaError::TopicNotFound { .. }) => true,
        Err(KafkaError::Unavailable { .. }) => false,
        other => panic!("{other:?}"),
    };
    // Each of another topic, as one waits for the other where it is the same.
    let ask_often = |number: usize| {
        let topic = TopicName::parse(&format!("nobody-made-this-{number}")).expect("a name");
        (0..5).filter(|_| ask(&topic)).count()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while asking.load(Ordering::Relaxed) {
                    let _ = client.list_topics();
                }
            });
        }
        let asks: Vec<_> = (0..300).map(|number| scope.spawn(move || ask_often(number))).collect();
        let ended: Vec<_> = asks.into_iter().map(|ask| ask.join()).collect();
        asking.store(false, Ordering::Relaxed);
        let told: usize = ended.into_iter().map(|told| told.expect("no other answer")).sum();
        assert!(told > 0, "nobody is told that it is not there");
    });
}
