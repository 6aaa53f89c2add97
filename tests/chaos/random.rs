//! The random run: everything at once, from one seed, for as long as asked; and when it is
//! over, everything is looked at.

use std::time::{Duration, Instant};

use crate::audit::{Audit, audit};
use crate::check::{Shown, show};
use crate::dice::{Dice, seed};
use crate::faults::{Journal, Scene};
use crate::fleet::{Fleet, FleetSettings};
use crate::oracle::{Logs, Oracle};
use crate::requests::{PATIENCE, Told, ask, see_files, see_snapshot, watch};
use crate::services::Claim;
use crate::topics::{Kind, Topic, Writers};

/// What `CHAOS_MINUTES` says; a part of a minute is fine.
fn length() -> Duration {
    let minutes: f64 = match std::env::var("CHAOS_MINUTES") {
        Ok(text) if !text.is_empty() => text.parse().expect("CHAOS_MINUTES is a number"),
        _ => 1.0,
    };
    Duration::from_secs_f64(minutes * 60.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_what_is_stored_is_what_kafka_had_once() {
    let seed = seed();
    eprintln!("CHAOS_SEED={seed} CHAOS_MINUTES={:.1}", length().as_secs_f64() / 60.0);
    let claim = Claim::alone().await;
    let fleet = Fleet::start(&seed.to_string(), FleetSettings::default(), claim).await;
    let topics = vec![
        Topic::create(Kind::Plain, 4).await,
        Topic::create(Kind::Transactional, 3).await,
        Topic::create(Kind::LogAppend, 3).await,
    ];
    let started = Instant::now();
    let scene = Scene {
        journal: Journal::new(fleet.folder()),
        oracle: Oracle::start(&topics),
        until: started + length(),
        topics,
        fleet,
    };
    let told = Told::default();
    let writers = Writers::start(&scene.topics, seed, started);
    tokio::join!(
        ask(&scene, &told, Dice::new(seed, 1), started),
        ask(&scene, &told, Dice::new(seed, 5), started),
        ask(&scene, &told, Dice::new(seed, 6), started),
        watch(&scene, &told, Dice::new(seed, 2)),
        scene.hurt_processes(Dice::new(seed, 3)),
        scene.hurt_services(Dice::new(seed, 4)),
    );
    scene.journal.say("the faults are over");
    let sent = writers.sent();
    tokio::task::spawn_blocking(|| writers.finish()).await.expect("the writers");

    let all = settle(&scene, &told).await;
    scene.look_at_replicas().await;
    let Scene { fleet, oracle, journal, .. } = scene;
    let logs = tokio::task::spawn_blocking(|| oracle.finish()).await.expect("the oracle");
    let report = look_at_everything(&fleet, &journal, &logs, &all, &told).await;
    let faults = journal.faults();
    let differences = journal.differences();
    let lines = [
        format!("chaos report: seed {seed}, {:.1} min", length().as_secs_f64() / 60.0),
        format!(
            "  events sent {sent}, requests {:?} of them answered {:?}",
            told.requests, told.answers
        ),
        report,
        format!("  faults {}: {faults:?}", faults.values().sum::<u64>()),
        format!("  differences {}", differences.len()),
    ];
    journal.say(&lines.join("\n"));
    eprintln!("{}", lines.join("\n"));
    assert!(
        differences.is_empty(),
        "CHAOS_SEED={seed}, logs in {}:\n{}",
        fleet.folder().display(),
        differences[..differences.len().min(20)].join("\n")
    );
    fleet.forget();
}

/// Asks for every window once more, and waits until nothing is open.
async fn settle(scene: &Scene, told: &Told) -> Vec<Shown> {
    let asked: Vec<_> = told.asked.lock().expect("no panic").keys().cloned().collect();
    let mut ids = Vec::new();
    for asked in asked {
        let snapshot = scene.fleet.post("/v1/snapshots", asked.body("report")).await;
        ids.push((asked, snapshot["id"].as_str().expect("an id").to_owned()));
    }
    let client = scene.fleet.database.client().await.expect("a connection");
    let started = Instant::now();
    loop {
        let sql = "SELECT count(*), min(snapshot_id::text) FROM runs WHERE outcome IS NULL";
        let row = client.query_one(sql, &[]).await.expect("a count");
        let (open, one): (i64, Option<String>) = (row.get(0), row.get(1));
        if open == 0 {
            break;
        }
        if started.elapsed() > PATIENCE {
            let one = scene.fleet.get(&format!("/v1/snapshots/{}", one.expect("one"))).await;
            scene.journal.differs(format!("{open} runs do not end, one of them: {one}"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.journal.say(&format!("settled after {:?}", started.elapsed()));
    let _ = see_files(scene, told, &client).await;
    let mut all = Vec::new();
    for (asked, id) in ids {
        let shown = show(&scene.fleet, asked, &id).await;
        see_snapshot(scene, told, &shown.snapshot);
        all.push(shown);
    }
    all
}

/// All that is wrong goes to the journal.
async fn look_at_everything(
    fleet: &Fleet,
    journal: &Journal,
    logs: &Logs,
    all: &[Shown],
    told: &Told,
) -> String {
    let Audit { looked, links, differences } = audit(fleet, logs, all).await;
    differences.into_iter().for_each(|what| journal.differs(what));
    let client = fleet.database.client().await.expect("a connection");
    let count = "SELECT count(*), count(*) FILTER (WHERE outcome = 'failed'),
        count(*) FILTER (WHERE outcome = 'cancelled') FROM runs";
    let runs = client.query_one(count, &[]).await.expect("counts");
    let [runs, failed, cancelled] = [0, 1, 2].map(|column| runs.get::<_, i64>(column));
    let sum = |name: &str| -> i64 {
        all.iter().filter_map(|shown| shown.snapshot["result"][name].as_i64()).sum()
    };
    format!(
        "  snapshots {}, runs {runs} ({failed} failed for lost data, {cancelled} cancelled), pairs that touch {links}\n  files checked {}, rows checked {}, bytes {}, sealed results compared {}\n  lost offsets {}, uncertain starts {}, late events {}, all of them as expected",
        all.len(),
        looked.files,
        looked.rows,
        looked.bytes,
        told.sealed.lock().expect("no panic").len(),
        sum("lost_offsets"),
        sum("uncertain_partitions"),
        sum("out_of_window_records"),
    )
}
