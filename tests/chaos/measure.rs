//! Tests that also measure: how soon another replica takes over, and what more replicas bring.
//! `docs/reliability.md` has the numbers, and the settings that they were measured with.

use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::faults::TERMINATES_WITHIN;
use crate::fleet::FleetSettings;
use crate::proxy::Mode;
use crate::stage::{Events, Stage};

const WITHIN: Duration = Duration::from_secs(600);
/// How often a worker looks for tasks that nothing tells it of, and room for a busy machine.
const POLL: Duration = Duration::from_secs(2);
const ROOM: Duration = Duration::from_secs(30);

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => text.parse().expect(variable),
        _ => otherwise,
    }
}

/// The lengths of the leases, in seconds.
fn leases() -> Vec<u32> {
    let text = std::env::var("CHAOS_LEASES").unwrap_or_default();
    let leases = text.split_whitespace().map(|lease| lease.parse().expect("CHAOS_LEASES"));
    let leases: Vec<u32> = leases.collect();
    if leases.is_empty() { vec![2] } else { leases }
}

fn report(what: &str, lease: u32, mut times: Vec<Duration>) {
    times.sort();
    let seconds = |time: &Duration| time.as_secs_f64();
    eprintln!(
        "taken over after {what}, lease {lease} s: {} times, median {:.2} s, longest {:.2} s",
        times.len(),
        seconds(&times[times.len() / 2]),
        seconds(times.last().expect("one")),
    );
}

/// A task that is read so slowly that it outlasts the test.
async fn endless(name: &str, lease_seconds: u32) -> Stage {
    let settings =
        FleetSettings { replicas: 2, workers: 1, lease_seconds, target_file_bytes: 1 << 27 };
    let events = Events { partitions: 1, each: 20_000, bytes: 1000 };
    let stage = Stage::new(name, settings, events).await;
    stage.fleet.lane.set(Mode::Slow(60_000));
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_takes_over_when_the_lease_of_a_dead_one_is_over() {
    for lease in leases() {
        let stage = endless("takeover-kill", lease).await;
        let id = stage.ask(0, 24).await;
        let mut dice = Dice::new(1, 1);
        let mut times = Vec::new();
        for _ in 0..number("CHAOS_ROUNDS", 1) {
            // At any age of the lease.
            tokio::time::sleep(dice.millis(0, 1000 * u64::from(lease))).await;
            let reading = stage.until_reading().await;
            let replica = stage.fleet.replicas[reading.replica].lock().await.take();
            replica.expect("there").kill();
            let within = Duration::from_secs(u64::from(lease)) + POLL + ROOM;
            times.push(stage.until_taken_over(&reading, within).await);
            stage.fleet.restart(reading.replica).await;
        }
        report("kill -9", lease, times);
        stage.fleet.lane.set(Mode::Pass);
        stage.until_sealed(&id, WITHIN).await;
        stage.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_takes_over_at_once_from_one_that_is_asked_to_end() {
    let lease = 60;
    let stage = endless("takeover-term", lease).await;
    let id = stage.ask(0, 24).await;
    let (mut times, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..number("CHAOS_ROUNDS", 1) {
        let reading = stage.until_reading().await;
        let replica = stage.fleet.replicas[reading.replica].lock().await.take();
        let (ended, taken_over) = tokio::join!(
            async { replica.expect("there").terminate(TERMINATES_WITHIN).await },
            stage.until_taken_over(&reading, TERMINATES_WITHIN),
        );
        let (status, took) = ended.expect("it ends by itself");
        assert_eq!(status.code(), Some(0));
        times.push(taken_over);
        ends.push(took);
        stage.fleet.restart(reading.replica).await;
    }
    report("SIGTERM", lease, times);
    eprintln!("longest way from SIGTERM to exit code 0: {:?}", ends.iter().max().expect("one"));
    stage.fleet.lane.set(Mode::Pass);
    stage.until_sealed(&id, WITHIN).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_work_of_one_window() {
    let megabytes = number("CHAOS_MEGABYTES", 2);
    for (name, mode) in [
        ("the machine is the limit", Mode::Pass),
        ("1 MB/s a connection to Kafka is the limit", Mode::Slow(1_000_000)),
    ] {
        let mut alone = None;
        for replicas in 1..=3 {
            let took = one_window(replicas, megabytes, mode).await;
            let alone = *alone.get_or_insert(took);
            eprintln!(
                "{megabytes} MB by {replicas} replica(s) of one worker, {name}: {:.1} s, {:.2} times one",
                took.as_secs_f64(),
                alone.as_secs_f64() / took.as_secs_f64(),
            );
        }
    }
}

/// How long one window takes, from the request to the end.
async fn one_window(replicas: usize, megabytes: u64, mode: Mode) -> Duration {
    let bytes = 1000;
    let each = (megabytes * 1_000_000) as usize / bytes / 6;
    let settings = FleetSettings {
        replicas,
        workers: 1,
        lease_seconds: 30,
        // About two dozen tasks, by the size that a plan takes events to have.
        target_file_bytes: (each as u64 * 6 * 256 / 24).max(4096),
    };
    let stage = Stage::new("speed", settings, Events { partitions: 6, each, bytes }).await;
    stage.fleet.lane.set(mode);
    let started = Instant::now();
    let id = stage.ask(0, 24).await;
    stage.until_sealed(&id, WITHIN).await;
    let took = started.elapsed();
    stage.fleet.lane.set(Mode::Pass);
    let files = stage.manifest().await.len();
    assert!(files >= 12, "{files} files");
    // Where the machine is the limit, all may be done before the last replica has connected.
    if mode != Mode::Pass {
        for (number, stored) in stage.records_stored().await.into_iter().enumerate() {
            assert!(stored > 0, "replica {number} has done nothing of {files} files");
        }
    }
    stage.finish().await;
    took
}
