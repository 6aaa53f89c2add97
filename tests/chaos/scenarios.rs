//! One fault at a time, at a chosen moment.

use std::time::{Duration, Instant};

use crate::faults::{COMMIT_OF_A_FILE, TERMINATES_WITHIN};
use crate::fleet::FleetSettings;
use crate::leaders::{leader, move_leaders};
use crate::proxy::{Mode, Outcome, Trap};
use crate::stage::{Events, Stage};

/// Some megabytes: slowed down, they take a while.
const SOME: Events = Events { partitions: 3, each: 4000, bytes: 400 };
/// Slow enough that a test can act in the middle of a read.
const SLOWLY: Mode = Mode::Slow(150_000);
const WITHIN: Duration = Duration::from_secs(120);

fn settings(replicas: usize, lease_seconds: u32) -> FleetSettings {
    FleetSettings { replicas, lease_seconds, target_file_bytes: 1024 * 1024, workers: 2 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_past_its_lease_changes_nothing() {
    let stage = Stage::new("zombie", settings(2, 2), SOME).await;
    stage.fleet.lane.set(SLOWLY);
    let id = stage.ask(0, 24).await;
    let reading = stage.until_reading().await;
    let zombie = &stage.fleet.replicas[reading.replica];
    zombie.lock().await.as_mut().expect("there").pause();
    stage.until_taken_over(&reading, WITHIN).await;
    stage.fleet.lane.set(Mode::Pass);
    let before = stage.until_sealed(&id, WITHIN).await;
    let manifest = stage.manifest().await;
    zombie.lock().await.as_mut().expect("there").go_on();
    // It is alive and well when it does the next window's work, alone.
    let other = &stage.fleet.replicas[1 - reading.replica];
    other.lock().await.as_mut().expect("there").pause();
    let late = stage.ask(24, 26).await;
    let sealed = stage.fleet.until_ended(&late, WITHIN).await;
    assert_eq!(sealed["state"], "succeeded", "{sealed}");
    other.lock().await.as_mut().expect("there").go_on();
    let mut after = stage.manifest().await;
    after.retain(|line| manifest.contains(line));
    assert_eq!(after, manifest, "what was stored is what is stored");
    let now = stage.fleet.get(&format!("/v1/snapshots/{id}")).await;
    assert_eq!((&now["result"], &now["run"]), (&before["result"], &before["run"]));
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_settled_whether_it_landed_or_not() {
    let stage = Stage::new("commit", settings(2, 2), SOME).await;
    let late = Outcome::Late(Duration::from_secs(6));
    let mut hour = 0;
    for outcome in [Outcome::Landed, Outcome::NotLanded, late] {
        for proxy in &stage.fleet.postgres {
            proxy.arm(Trap { outcome, ..COMMIT_OF_A_FILE }).await;
        }
        let id = stage.ask(hour, hour + 8).await;
        stage.until_sealed(&id, WITHIN).await;
        let sprung: u64 = stage.fleet.postgres.iter().map(|proxy| proxy.counts().sprung).sum();
        assert!(sprung > 0, "{outcome:?}");
        for proxy in &stage.fleet.postgres {
            proxy.disarm().await;
        }
        hour += 8;
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_kafka_is_survived_and_said() {
    let stage = Stage::new("blackhole", settings(2, 3), SOME).await;
    stage.fleet.lane.set(SLOWLY);
    let id = stage.ask(0, 24).await;
    stage.until_reading().await;
    stage.fleet.lane.set(Mode::Blackhole);
    let started = Instant::now();
    let mut said = None;
    // It says soon that nothing comes; or, of a task that was just to begin, that no broker
    // answers. Only after a minute, in which librdkafka may help itself, it looks for the cause
    // and begins anew.
    while started.elapsed() < Duration::from_secs(75) {
        let snapshot = stage.fleet.get(&format!("/v1/snapshots/{id}")).await;
        assert_eq!(snapshot["state"], "running", "{snapshot}");
        let code = snapshot["last_error"]["code"].as_str().unwrap_or_default().to_owned();
        if said.is_none() && !code.is_empty() {
            eprintln!("after {:?} it says {}", started.elapsed(), snapshot["last_error"]);
            said = Some(code);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        matches!(said.as_deref(), Some("READ_STALLED" | "KAFKA_UNAVAILABLE")),
        "what it waits for, not {said:?}"
    );
    stage.fleet.lane.set(Mode::Pass);
    let healed = Instant::now();
    stage.until_sealed(&id, WITHIN).await;
    eprintln!("done {:?} after Kafka was back", healed.elapsed());
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_move_every_two_seconds_do_not_disturb_a_read() {
    let events = Events { partitions: 6, each: 1700, bytes: 10_000 };
    let settings = FleetSettings { target_file_bytes: 8 * 1024 * 1024, ..settings(3, 5) };
    let stage = Stage::new("leaders", settings, events).await;
    stage.fleet.lane.set(Mode::Slow(4_000_000));
    let id = stage.ask(0, 24).await;
    stage.until_reading().await;
    let started = Instant::now();
    let partitions: Vec<i32> = (0..events.partitions).collect();
    let (mut moves, mut ended) = (0, false);
    while !ended {
        let to = 1 + moves % 3;
        let asked = Instant::now();
        while leader(&stage.topic.name, 0) != Some(to) {
            // A broker that stood still for some seconds can't be elected, until it is back.
            let moved = move_leaders(&stage.topic.name, &partitions, to).await;
            assert!(asked.elapsed() < WITHIN, "broker {to} does not lead: {moved:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        moves += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let snapshot = stage.fleet.get(&format!("/v1/snapshots/{id}")).await;
        ended = !matches!(snapshot["state"].as_str(), Some("queued" | "running"));
        assert!(moves < 60, "it does not end: {snapshot}");
    }
    eprintln!("leaders moved {moves} times during a read of {:?}", started.elapsed());
    assert!(moves >= 3);
    stage.until_sealed(&id, WITHIN).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_asked_to_end_hands_its_task_on_at_once() {
    // One task, and a lease that is longer than the test.
    let settings = FleetSettings { target_file_bytes: 1 << 27, ..settings(2, 60) };
    let stage = Stage::new("handover", settings, SOME).await;
    stage.fleet.lane.set(SLOWLY);
    let id = stage.ask(0, 24).await;
    let reading = stage.until_reading().await;
    let ending = stage.fleet.replicas[reading.replica].lock().await.take();
    let (ended, taken_over) = tokio::join!(
        async { ending.expect("there").terminate(TERMINATES_WITHIN).await },
        stage.until_taken_over(&reading, TERMINATES_WITHIN),
    );
    let (status, took) = ended.expect("it ends by itself");
    eprintln!("ended after {took:?}, taken over after {taken_over:?}");
    assert_eq!(status.code(), Some(0));
    assert!(taken_over < TERMINATES_WITHIN, "{taken_over:?}");
    stage.fleet.lane.set(Mode::Pass);
    stage.until_sealed(&id, WITHIN).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_overlapping_windows_at_once_hold_every_event_once() {
    let events = Events { partitions: 4, each: 6000, bytes: 100 };
    let settings = FleetSettings { target_file_bytes: 128 * 1024, ..settings(3, 5) };
    let stage = Stage::new("hundred", settings, events).await;
    let asks = (0..100).map(|number| {
        // Starts and lengths that overlap, touch and repeat in all ways.
        let start = number % 23;
        stage.ask(start, (start + 1 + number % 7).min(24))
    });
    let ids = futures_util::future::join_all(asks).await;
    for id in &ids {
        stage.until_sealed(id, WITHIN).await;
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_look_at_everything_finds_what_is_wrong() {
    let stage = Stage::new("self-test", settings(1, 5), SOME).await;
    let id = stage.ask(0, 24).await;
    stage.until_sealed(&id, WITHIN).await;
    assert_eq!(stage.audit().await.differences, Vec::<String>::new());
    let client = stage.fleet.database.client().await.expect("a connection");
    let first = "SELECT object_name FROM files ORDER BY 1 LIMIT 1";
    let name: String = client.query_one(first, &[]).await.expect("a file").get(0);
    let objects = &stage.fleet.objects;
    let content = objects.read(&name).await.expect("the file");
    let finds = async |what: &str| {
        let differences = stage.audit().await.differences;
        assert!(differences.iter().any(|line| line.contains(what)), "{what}: {differences:?}");
    };
    let mut changed = content.clone();
    changed[content.len() / 2] ^= 1;
    objects.write(&name, changed).await;
    finds("is not what was recorded").await;
    objects.remove(&name).await;
    finds(&format!("{name}: ")).await;
    objects.write(&name, content).await;
    let shrink = "UPDATE segments SET offsets = int8range(lower(offsets), upper(offsets) - 1)
        WHERE id = (SELECT min(id) FROM segments)";
    client.batch_execute(shrink).await.expect("changed");
    finds("rows, ").await;
    finds("stored_offsets").await;
    finds("are not stored").await;
    stage.fleet.forget();
}
