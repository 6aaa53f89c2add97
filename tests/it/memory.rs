//! What a server takes of the machine's memory, as the kernel counts it.

use serde_json::json;

use crate::harness::{HOUR, TestTopic, at, empty_database, record};
use crate::process::{Serving, folder};

const PARTITIONS: i32 = 64;

/// The most that the process has had at any time, in MiB.
fn peak(serving: &Serving) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.pid()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}

/// Many partitions, of which a little is wanted, and much comes after it.
#[tokio::test]
async fn what_was_fetched_beyond_a_window_is_not_kept() {
    let topic = TestTopic::create(PARTITIONS, &[]).await;
    // Enough to be read with large fetches.
    let wanted = (0..PARTITIONS * 200).map(|number| record(number % PARTITIONS, 1, "wanted"));
    topic.produce(&wanted.collect::<Vec<_>>()).await;
    let later = "x".repeat(500);
    for first in 0..PARTITIONS / 8 {
        let of = |partition| (0..3000).map(move |_| partition);
        let partitions = (first * 8..first * 8 + 8).flat_map(of);
        let later = partitions.map(|partition| record(partition, HOUR, &later));
        topic.produce(&later.collect::<Vec<_>>()).await;
    }
    let (folder, database) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", database.as_str()), ("STRANDLINE_WORKERS", "1")];
    let serving = Serving::start_with(folder.path(), &settings);
    let before = peak(&serving);
    let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
    let mut snapshot = serving.post("/v1/snapshots?wait=60", &body).await;
    for _ in 0..5 {
        if snapshot["state"] != "succeeded" {
            snapshot = serving.post("/v1/snapshots?wait=60", &body).await;
        }
    }
    assert_eq!(snapshot["result"]["records"], PARTITIONS * 200, "{snapshot}");
    let after = peak(&serving);
    eprintln!("{before} MiB before the window, {after} MiB at most");
    // What is fetched of all of them is 100 MiB and more.
    assert!(after - before < 50, "{before} MiB, then {after} MiB");
}
