//! What the directed tests share: a topic with events, a fleet, and the look at everything
//! when the test is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::audit::{Audit, audit};
use crate::check::show;
use crate::dice::Dice;
use crate::fleet::{Fleet, FleetSettings, Request};
use crate::oracle::Oracle;
use crate::requests::Asked;
use crate::services::{self, Claim};
use crate::topics::{DAY, HOUR, Kind, Topic};

/// The end of the window that holds all events of a stage but the last ones.
pub const END: i64 = DAY + 24 * HOUR;

/// How many events, and how large.
#[derive(Clone, Copy)]
pub struct Events {
    pub partitions: i32,
    pub each: usize,
    pub bytes: usize,
}

/// A fleet, and a topic with one day's events.
pub struct Stage {
    pub fleet: Arc<Fleet>,
    pub topic: Topic,
    asked: std::sync::Mutex<Vec<(Asked, String)>>,
}

/// A task that is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub task: i64,
    pub token: i64,
    pub replica: usize,
}

impl Stage {
    pub async fn new(name: &str, settings: FleetSettings, events: Events) -> Self {
        let claim = Claim::shared().await;
        let topic = Topic::create(Kind::Plain, events.partitions).await;
        let filled = topic.clone();
        tokio::task::spawn_blocking(move || fill(&filled, events)).await.expect("filled");
        let fleet = Fleet::start(name, settings, claim).await;
        Stage { fleet, topic, asked: std::sync::Mutex::default() }
    }

    /// Asks for a window, in hours after the first event. Gives the snapshot's id.
    pub async fn ask(&self, first: i64, end: i64) -> String {
        let asked = Asked {
            topic: self.topic.name.clone(),
            start: DAY + first * HOUR,
            end: DAY + end * HOUR,
            offsets_only: false,
        };
        let snapshot = self.fleet.post("/v1/snapshots", asked.body("report")).await;
        let id = snapshot["id"].as_str().expect("an id").to_owned();
        self.asked.lock().expect("no panic").push((asked, id.clone()));
        id
    }

    /// Waits until the snapshot is sealed.
    pub async fn until_sealed(&self, id: &str, within: Duration) -> Value {
        let snapshot = self.fleet.until_ended(id, within).await;
        assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
        assert_eq!(snapshot["completeness"], "sealed", "{snapshot}");
        snapshot
    }

    /// Waits until a replica has read some of a task.
    pub async fn until_reading(&self) -> Reading {
        let pids = self.pids().await;
        let sql = "SELECT id, token, worker FROM tasks WHERE kind = 'read' AND ended_at IS NULL
            AND lease_expires_at > clock_timestamp() AND records > 0 ORDER BY id LIMIT 1";
        let row = self.until(sql, Duration::from_secs(60)).await;
        let worker: String = row.get(2);
        let by = |pid: &Option<u32>| pid.is_some_and(|pid| worker.contains(&format!(":{pid}/")));
        let replica = pids.iter().position(by).expect("one of ours");
        Reading { task: row.get(0), token: row.get(1), replica }
    }

    /// Waits until another worker has the task, or it is done. Gives how long that took.
    pub async fn until_taken_over(&self, reading: &Reading, within: Duration) -> Duration {
        let started = Instant::now();
        let Reading { task, token, .. } = reading;
        let sql = format!("SELECT 1 FROM tasks WHERE id = {task} AND token > {token}");
        self.until(&sql, within).await;
        started.elapsed()
    }

    /// Asks PostgreSQL until there is a row.
    pub async fn until(&self, sql: &str, within: Duration) -> tokio_postgres::Row {
        let client = self.fleet.database.client().await.expect("a connection");
        let started = Instant::now();
        while started.elapsed() < within {
            if let Some(row) = client.query_opt(sql, &[]).await.expect("good SQL") {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within {within:?}: {sql}, see {}", self.fleet.folder().display());
    }

    async fn pids(&self) -> Vec<Option<u32>> {
        let mut pids = Vec::new();
        for place in &self.fleet.replicas {
            pids.push(place.lock().await.as_ref().map(|replica| replica.pid()));
        }
        pids
    }

    /// How many events each replica has stored, by its own metrics.
    pub async fn records_stored(&self) -> Vec<u64> {
        let mut stored = Vec::new();
        for number in 0..self.fleet.replicas.len() {
            let request = Request { path: "/metrics", body: None };
            let (_, metrics) = self.fleet.send(number, &request).await.expect("metrics");
            let text = metrics.as_str().expect("text");
            let value = text.lines().find_map(|line| {
                line.strip_prefix("strandline_records_stored_total ")?.parse().ok()
            });
            stored.push(value.expect("a counter"));
        }
        stored
    }

    /// What is stored, in words that can be compared.
    pub async fn manifest(&self) -> Vec<String> {
        let client = self.fleet.database.client().await.expect("a connection");
        let sql = "SELECT g.partition::text || ' ' || g.offsets::text || ' ' || g.records || ' ' ||
                coalesce(f.object_name || ' ' || f.bytes || ' ' || encode(f.sha256, 'hex'), '-')
            FROM segments g LEFT JOIN files f ON f.id = g.file_id ORDER BY g.partition, g.offsets";
        let rows = client.query(sql, &[]).await.expect("the segments");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The end of a test: everything is as it should be.
    pub async fn finish(self) {
        let Audit { looked, differences, .. } = self.audit().await;
        assert!(looked.rows > 0);
        assert!(
            differences.is_empty(),
            "logs in {}:\n{}",
            self.fleet.folder().display(),
            differences.join("\n")
        );
        self.fleet.forget();
    }

    pub async fn audit(&self) -> Audit {
        let oracle = Oracle::start(std::slice::from_ref(&self.topic));
        let logs = tokio::task::spawn_blocking(|| oracle.finish()).await.expect("the oracle");
        let asked = self.asked.lock().expect("no panic").clone();
        let mut all = Vec::new();
        for (asked, id) in asked {
            all.push(show(&self.fleet, asked, &id).await);
        }
        audit(&self.fleet, &logs, &all).await
    }
}

/// Events over a day in each partition, and one behind it, so that windows are sealed.
fn fill(topic: &Topic, events: Events) {
    let mut config = services::client();
    config.set("enable.idempotence", "true").set("linger.ms", "20");
    config.set("queue.buffering.max.kbytes", "262144");
    let producer: BaseProducer = config.create().expect("a producer");
    let mut dice = Dice::new(1, topic.partitions as u64);
    let value: Vec<u8> = (0..events.bytes + 997).map(|_| dice.roll(256) as u8).collect();
    for number in 0..=events.each {
        let timestamp = match number == events.each {
            true => END + HOUR,
            false => DAY + number as i64 * 24 * HOUR / events.each as i64,
        };
        // Another part of the same bytes each time: no two events are alike.
        let from = number % 997;
        for partition in 0..topic.partitions {
            let key = number.to_string();
            let mut record = BaseRecord::to(&topic.name)
                .partition(partition)
                .timestamp(timestamp)
                .key(&key)
                .payload(&value[from..from + events.bytes]);
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(rdkafka::types::RDKafkaErrorCode::QueueFull)
                );
                producer.poll(Duration::from_millis(50));
                record = back;
            }
        }
    }
    producer.flush(Duration::from_secs(120)).expect("all delivered");
}
