//! Reading ranges of offsets: each event once, in order, to the end of the range, whatever
//! the log holds there.

use std::cell::Cell;
use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::json;
use strandline::kafka::{Flow, ReadEnd, ReadLimits};
use strandline::snapshot::{Event, FailureKind};

use super::{range, read, read_at_most, reader, reader_with, wire};
use crate::harness::{DAY, HOUR, Record, TestApp, TestTopic, TransactionEnd, record};

fn records(partition: i32, count: i64) -> Vec<Record> {
    (0..count).map(|i| record(partition, i, "x")).collect()
}

fn complete(offsets: impl IntoIterator<Item = i64>) -> (super::Ended, Vec<i64>) {
    (Ok(ReadEnd::Complete), offsets.into_iter().collect())
}

#[tokio::test]
async fn a_read_can_be_paused_resumed_and_followed_by_any_other() {
    let topic = TestTopic::create(2, &[]).await;
    topic.produce(&[records(0, 100), records(1, 10)].concat()).await;
    let mut reader = reader(&topic);
    assert_eq!(read(&mut reader, 0, range(10, 20)), complete(10..20));
    assert_eq!(read(&mut reader, 0, range(7, 7)), complete([]));

    let paused = |next_offset| Ok(ReadEnd::Paused { next_offset });
    let at_most = read_at_most;
    assert_eq!(at_most(&mut reader, 1, range(0, 10), 4), (paused(4), vec![0, 1, 2, 3]));
    assert_eq!(at_most(&mut reader, 1, range(4, 10), 4), (paused(8), vec![4, 5, 6, 7]));
    // Another partition in between, one that was read before, and then the paused one.
    assert_eq!(read(&mut reader, 0, range(50, 53)), complete(50..53));
    assert_eq!(at_most(&mut reader, 1, range(8, 10), 2), complete([8, 9]), "nothing was left");
    assert_eq!(read(&mut reader, 0, range(0, 100)), complete(0..100), "backwards");
    // Elsewhere than where it paused.
    assert_eq!(at_most(&mut reader, 1, range(0, 10), 4), (paused(4), vec![0, 1, 2, 3]));
    assert_eq!(read(&mut reader, 1, range(2, 6)), complete(2..6));
}

#[tokio::test]
async fn a_read_stops_when_told_and_goes_on_there() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&records(0, 300)).await;
    let mut reader = reader(&topic);
    let seen = Cell::new(0);
    let on_event = &mut |_: &Event<'_>| {
        seen.set(seen.get() + 1);
        Flow::Continue
    };
    let end = reader.read(0, range(0, 300), on_event, &|| seen.get() >= 2);
    let Ok(ReadEnd::Stopped { next_offset }) = end else { panic!("{end:?}") };
    assert_eq!(next_offset, seen.get());
    assert!((2..200).contains(&next_offset), "it is asked every few events: {next_offset}");
    // It waits for what is not there yet, and asks whether to stop all the while.
    let (asked, waited) = (Cell::new(0), Cell::new(0));
    let end = reader.read(0, range(next_offset, 302), on_event, &|| {
        asked.set(asked.get() + 1);
        waited.set(waited.get() + i32::from(seen.get() >= 300));
        waited.get() >= 20
    });
    assert_eq!(end, Ok(ReadEnd::Stopped { next_offset: 300 }));
    // librdkafka's position is wrong here: the end of partition has moved it to 301.
    waited.set(0);
    let end = reader.read(0, range(300, 302), on_event, &|| {
        waited.set(waited.get() + 1);
        waited.get() >= 20
    });
    assert_eq!(end, Ok(ReadEnd::Stopped { next_offset: 300 }));
    topic.produce(&records(0, 2)).await;
    assert_eq!(read(&mut reader, 0, range(300, 302)), complete([300, 301]));
}

#[tokio::test]
async fn a_read_that_stands_for_too_long_fails_and_keeps_what_it_gave() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&records(0, 3)).await;
    let limits = ReadLimits { stall_seconds: 3, ..ReadLimits::default() };
    let mut reader = reader_with(&topic, limits);
    // Where the machine is busy, three seconds may be too few for what is there.
    let mut found = (0..10).map(|_| read(&mut reader, 0, range(1, 5)));
    let found = found.find(|(_, offsets)| *offsets == [1, 2]);
    let error = found.expect("what is there").0.expect_err("nobody writes more");
    assert_eq!(error.failure_kind(), FailureKind::ReadStalled);
    assert_eq!(error.partition(), Some(0));
    assert!(error.to_string().contains("stands at offset 3 of [1, 5) for 3 s"), "{error}");
    let mut again = (0..10).map(|_| read(&mut reader, 0, range(1, 3)));
    assert!(again.any(|found| found == complete([1, 2])), "it can be used again");
}

#[tokio::test]
async fn ranges_end_inside_aborted_transactions_and_at_their_markers_too() {
    use TransactionEnd::{Abort, Commit, LeaveOpen};
    let topic = TestTopic::create(1, &[]).await;
    // 0–4 committed, 5 its marker, 6–10 aborted, 11, 12–16 committed, 17, 18–22 aborted, 23.
    for end in [Commit, Abort, Commit, Abort] {
        drop(topic.transaction(&records(0, 5), end).await);
    }
    topic.until_stable(0, 24);
    let open = topic.transaction(&records(0, 3), LeaveOpen).await;
    let committed = |start, end| (0..5).chain(12..17).filter(move |o| (start..end).contains(o));
    let mut reader = reader(&topic);
    for (start, end) in [
        (0, 24),
        (0, 18),
        (0, 23),
        (0, 9),
        (5, 6),
        (11, 12),
        (17, 18),
        (17, 24),
        (23, 24),
        (6, 12),
        (7, 8),
        (20, 21),
        (4, 13),
    ] {
        let found = read(&mut reader, 0, range(start, end));
        assert_eq!(found, complete(committed(start, end)), "[{start}, {end})");
    }
    open.abort_transaction(Duration::from_secs(30)).expect("aborted");
    topic.until_stable(0, 28);
    assert_eq!(read(&mut reader, 0, range(24, 28)), complete([]), "all of the tail is aborted");
    // Paused right before a marker, with nothing but aborted events behind it.
    let (end, _) = read_at_most(&mut reader, 0, range(0, 12), 5);
    assert_eq!(end, Ok(ReadEnd::Paused { next_offset: 5 }));
    assert_eq!(read(&mut reader, 0, range(5, 12)), complete([]));
}

#[tokio::test]
async fn offsets_that_are_not_there_are_out_of_range_and_never_skipped() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&records(0, 20)).await;
    topic.delete_below(0, 10).await;
    let mut reader = reader(&topic);
    let out_of_range = |next_offset| (Ok(ReadEnd::OutOfRange { next_offset }), vec![]);
    assert_eq!(read(&mut reader, 0, range(5, 15)), out_of_range(5));
    assert_eq!(read(&mut reader, 0, range(10, 15)), complete(10..15));
    // As after a topic was made again, and is shorter.
    assert_eq!(read(&mut reader, 0, range(25, 30)), out_of_range(25));
}

#[tokio::test]
async fn offsets_that_are_deleted_during_a_read_end_it_where_it_is() {
    let topic = TestTopic::create(1, &[]).await;
    let large = Record { value: Some(vec![b'x'; 1000]), ..record(0, 0, "") };
    // Small batches, so that one fetch, of 1 MiB, does not bring all.
    topic.produce_with(&vec![large; 3000], &[("batch.size", "20000")]).await;
    let mut reader = reader_with(&topic, ReadLimits { queue_kbytes: 1, ..ReadLimits::default() });
    let (paused, _) = read_at_most(&mut reader, 0, range(0, 3000), 10);
    assert_eq!(paused, Ok(ReadEnd::Paused { next_offset: 10 }));
    topic.delete_below(0, 2900).await;
    // What was fetched before still comes, without a gap.
    let (end, offsets) = read(&mut reader, 0, range(10, 3000));
    let next_offset = 10 + offsets.len() as i64;
    assert_eq!(offsets, (10..next_offset).collect::<Vec<_>>());
    assert_eq!(end, Ok(ReadEnd::OutOfRange { next_offset }));
    assert!(next_offset < 2900, "{next_offset}");
    assert_eq!(read(&mut reader, 0, range(2900, 3000)), complete(2900..3000));
}

#[tokio::test]
async fn a_topic_that_is_deleted_during_a_read_is_not_found() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&records(0, 5)).await;
    let mut reader = reader(&topic);
    let (paused, _) = read_at_most(&mut reader, 0, range(0, 10), 5);
    assert_eq!(paused, Ok(ReadEnd::Paused { next_offset: 5 }));
    topic.delete().await;
    let (end, offsets) = read(&mut reader, 0, range(5, 10));
    let error = end.expect_err("it is gone");
    assert_eq!(error.failure_kind(), FailureKind::TopicNotFound, "{error}");
    assert!(offsets.is_empty(), "{offsets:?}");
}

#[tokio::test]
async fn events_larger_than_the_queue_are_read() {
    let topic = TestTopic::create(1, &[("max.message.bytes", "20000000")]).await;
    let large = Record { value: Some(vec![b'x'; 8_000_000]), ..record(0, 0, "") };
    topic.produce_with(&vec![large; 2], &[("message.max.bytes", "20000000")]).await;
    let mut reader = reader_with(&topic, ReadLimits { queue_kbytes: 1, ..ReadLimits::default() });
    assert_eq!(read(&mut reader, 0, range(0, 2)), complete([0, 1]));
}

#[tokio::test]
async fn header_keys_that_are_not_utf_8_come_as_they_are_and_are_shown_with_marks() {
    let topic = TestTopic::create(1, &[]).await;
    wire::produce(&topic.name, DAY, b"\xff\xfekey");
    let mut found = Vec::new();
    let on_event = &mut |event: &Event<'_>| {
        found.extend(event.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))));
        Flow::Continue
    };
    assert_eq!(reader(&topic).read(0, range(0, 1), on_event, &|| false), Ok(ReadEnd::Complete));
    assert_eq!(found, [(b"\xff\xfekey".to_vec(), Some(b"v".to_vec()))]);
    let app = TestApp::spawn().await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 1, "{snapshot}");
    let headers = &app.events(&snapshot).await[0]["headers"];
    assert_eq!(headers, &json!([{"key": "\u{fffd}\u{fffd}key", "value": "v"}]));
}

#[tokio::test]
async fn events_without_a_time_are_stored_without_one() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    wire::produce(&topic.name, -1, b"key");
    topic.produce(&[record(0, HOUR, "end")]).await;
    let app = TestApp::spawn().await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 2, "{snapshot}");
    assert_eq!(snapshot["result"]["out_of_window_records"], 1);
    assert_eq!(app.events(&snapshot).await[1]["timestamp"], json!(null));
}
