//! Topics that are not there, made again, or grow.

use strandline::job::WorkLimits;

use crate::harness::{DAY, DEFAULT_LIMITS, HOUR, Record, TestApp, TestTopic, record};

#[tokio::test]
async fn a_topic_that_does_not_exist_fails_the_run_and_is_not_made() {
    let app = TestApp::spawn().await;
    let snapshot = app.snapshot("no-such-topic", 0, HOUR).await;
    assert_eq!(snapshot["state"], "failed");
    assert_eq!(snapshot["error"]["code"], "TOPIC_NOT_FOUND");
    assert_eq!(snapshot["progress"]["fraction"], 0.0);
    let again = app.snapshot("no-such-topic", 0, HOUR).await;
    assert_eq!(again["id"], snapshot["id"]);
    assert_eq!(again["run"], 2);
    assert_eq!(again["error"]["code"], "TOPIC_NOT_FOUND");
}

#[tokio::test]
async fn a_topic_made_again_is_another_topic() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "old"), record(0, HOUR, "end")]).await;
    let old = app.snapshot(&topic.name, 0, HOUR).await;
    let unsealed = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    topic.recreate(1).await;
    let new: Vec<Record> = (0..5).map(|i| record(0, i, "new")).collect();
    topic.produce(&new).await;
    topic.produce(&[record(0, HOUR, "end")]).await;
    // A run of the old one meets the new one, keeps what is stored, and says so.
    let met = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(met["id"], unsealed["id"]);
    assert_eq!(met["error"]["code"], "TOPIC_RECREATED");
    assert_eq!(app.events(&met).await.len(), 1);
    // From now on the same request means the new one.
    let fresh = app.snapshot(&topic.name, 0, HOUR).await;
    assert_ne!(fresh["id"], old["id"]);
    assert_ne!(fresh["topic_id"], old["topic_id"]);
    assert_eq!(fresh["result"]["records"], 5, "{fresh}");
    let (_, kept) = app.get(old["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(kept["state"], "succeeded");
    assert_eq!(app.events(&kept).await[0]["value"], "old");
}

#[tokio::test]
async fn a_partition_that_appears_later_begins_at_the_boundary_that_was_sealed() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "b"), record(0, 2 * HOUR, "c")]).await;
    let first = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(first["completeness"], "sealed");
    topic.add_partitions(2).await;
    // Late, of the sealed first hour: it must fall into a later window, not into none.
    topic
        .produce(&[record(1, 5, "late"), record(1, HOUR + 5, "d"), record(1, 2 * HOUR, "e")])
        .await;
    let second = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(second["completeness"], "sealed");
    assert_eq!(second["result"]["records"], 3);
    assert_eq!(second["result"]["out_of_window_records"], 1);
    assert_eq!(app.detail(&second, "partitions").await[1]["start_offset"], 0);
    let (_, first) = app.get(first["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(app.detail(&first, "partitions").await.len(), 1);
}

#[tokio::test]
async fn two_hundred_partitions_are_a_few_files_not_two_hundred() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(200, &[]).await;
    // Before the window as many events as tell partitions apart, and one in it.
    let before = |partition: i32| (0..partition % 3).map(move |_| record(partition, -1, "before"));
    let records: Vec<Record> = (0..200)
        .flat_map(|p| before(p).chain([record(p, 0, "x"), record(p, HOUR, "end")]))
        .collect();
    topic.produce(&records).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 200, "{snapshot}");
    assert_eq!(snapshot["result"]["files"], 1);
    let (_, page) = app
        .get(&format!("{}?limit=150", snapshot["links"]["partitions"].as_str().expect("a path")))
        .await;
    let items = page["items"].as_array().expect("items");
    assert_eq!(items.len(), 150);
    for (partition, item) in (0..).zip(items) {
        assert_eq!(item["partition"], partition);
        assert_eq!(item["start_offset"], partition % 3);
        assert_eq!(item["end_offset"], partition % 3 + 1);
    }
    let cursor = page["next_cursor"].as_str().expect("another page");
    let path = snapshot["links"]["partitions"].as_str().expect("a path");
    let (_, rest) = app.get(&format!("{path}?limit=150&cursor={cursor}")).await;
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(50));
    assert_eq!(rest["items"][0]["partition"], 150);
    assert_eq!(rest["next_cursor"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_record_stamped_far_ahead_does_not_swallow_the_windows_behind_it() {
    let app = TestApp::spawn().await;
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807")];
    let topic = TestTopic::create(1, &any_time).await;
    let in_2100 = 4_102_444_800_000 - crate::harness::DAY;
    let beyond_9999 = 300_000_000_000_000 - crate::harness::DAY;
    topic
        .produce(&[
            record(0, 0, "a"),
            record(0, in_2100, "poison"),
            record(0, 1, "b"),
            record(0, beyond_9999, "poison"),
            record(0, 2, "c"),
        ])
        .await;
    let open = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(open["completeness"], "settled", "{open}");
    assert_eq!(open["result"]["records"], 5);
    assert_eq!(open["result"]["poison_records"], 2);
    assert_eq!(open["result"]["out_of_window_records"], 2);
    topic.produce(&[record(0, HOUR, "d"), record(0, 2 * HOUR, "e")]).await;
    let first = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(first["completeness"], "sealed");
    assert_eq!(first["result"]["records"], 5);
    let second = app.snapshot(&topic.name, HOUR, 2 * HOUR).await;
    assert_eq!(
        (&second["result"]["records"], &second["result"]["poison_records"]),
        (&1.into(), &0.into())
    );
    let partitions = app.detail(&first, "partitions").await;
    assert_eq!(
        (&partitions[0]["end_offset"], &partitions[0]["poison_records"]),
        (&5.into(), &2.into())
    );
    assert_eq!(
        partitions[0]["max_timestamp"], "9999-12-31T23:59:59.999Z",
        "shown as near as can be"
    );
    // The verdict stands, also for a window in which the record lies by its own time.
    let of_2100 = app.snapshot(&topic.name, in_2100 - HOUR, in_2100 + HOUR).await;
    assert_eq!(of_2100["result"]["records"], 0);
    assert_eq!(of_2100["completeness"], "provisional");
}

#[tokio::test]
async fn with_log_append_time_the_clock_seals_an_idle_partition() {
    let limits = WorkLimits { grace_seconds: 0, ..DEFAULT_LIMITS };
    let app = TestApp::spawn_with(limits).await;
    let topic = TestTopic::create(2, &[("message.timestamp.type", "LogAppendTime")]).await;
    topic.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    // The broker's clock stamped them, and has passed the end of this window by now.
    let stamped = topic.read_all()[1].timestamp.expect("the broker's clock") - DAY;
    let snapshot = app.snapshot(&topic.name, 0, stamped + 1).await;
    assert_eq!(
        (&snapshot["completeness"], &snapshot["result"]["records"]),
        (&"sealed".into(), &2.into())
    );
    topic.produce(&[record(0, 2, "c")]).await;
    let next = app.snapshot(&topic.name, stamped + 1, stamped + HOUR).await;
    assert_eq!(
        (&next["completeness"], &next["result"]["records"]),
        (&"provisional".into(), &1.into())
    );
}

#[tokio::test]
async fn a_topic_made_again_during_a_run_ends_it_and_mixes_nothing_in() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "old"), record(0, HOUR, "end")]).await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    assert!(app.work_once().await, "the plan");
    topic.recreate(1).await;
    topic.produce(&[record(0, 0, "new"), record(0, 1, "new"), record(0, HOUR, "end")]).await;
    app.work().await;
    let (_, met) = app.get(asked["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(
        (&met["state"], &met["error"]["code"]),
        (&"failed".into(), &"TOPIC_RECREATED".into())
    );
    assert_eq!(app.events(&met).await.len(), 0, "events of the new one are not the old one's");
    let fresh = app.snapshot(&topic.name, 0, HOUR).await;
    assert_ne!(fresh["id"], met["id"]);
    assert_eq!(fresh["result"]["records"], 2);
}

#[tokio::test]
async fn a_partition_added_during_a_run_is_in_the_next_one() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    assert!(app.work_once().await, "the plan");
    topic.add_partitions(2).await;
    topic.produce(&[record(1, 1, "b")]).await;
    app.work().await;
    let path = asked["links"]["self"].as_str().expect("a path");
    let (_, first) = app.get(path).await;
    assert_eq!((&first["state"], &first["result"]["records"]), (&"succeeded".into(), &1.into()));
    assert_eq!(app.seal().await, 1, "the sealer meets the partition");
    assert_eq!(app.get(path).await.1["result"]["records"], 2);
}
