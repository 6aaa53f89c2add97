//! What is asked of a fleet while it is hurt: windows that are new, repeated, overlapping and
//! touching, refreshes and cancels. And what it tells meanwhile, kept to be compared.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::faults::Scene;
use crate::fleet::{Request, time};
use crate::topics::{HOUR, Kind, SPEED, Topic, record_clock};

/// More open runs than this are not asked for: it is not about load.
const MOST_OPEN: i64 = 30;

/// A window that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub topic: String,
    pub start: i64,
    pub end: i64,
    pub offsets_only: bool,
}

impl Asked {
    pub fn body(&self, on_loss: &str) -> Value {
        json!({"topic": self.topic, "window_start": time(self.start), "window_end": time(self.end),
            "capture": if self.offsets_only { "offsets" } else { "events" }, "on_loss": on_loss})
    }
}

/// What was asked, and what was told.
#[derive(Default)]
pub struct Told {
    /// The snapshot's id, where an answer came.
    pub asked: Mutex<BTreeMap<Asked, Option<String>>>,
    /// The result of snapshots that were sealed when they were looked at, by id.
    pub sealed: Mutex<BTreeMap<String, Value>>,
    /// Files, size and checksum by name.
    pub files: Mutex<BTreeMap<String, (i64, String)>>,
    pub requests: std::sync::atomic::AtomicU64,
    pub answers: std::sync::atomic::AtomicU64,
}

/// Asks until the time is over.
pub async fn ask(scene: &Scene, told: &Told, mut dice: Dice, started: Instant) {
    let wall = record_wall();
    while Instant::now() < scene.until {
        tokio::time::sleep(dice.millis(50, 600)).await;
        if open_runs(scene).await.is_some_and(|open| open > MOST_OPEN) {
            continue;
        }
        let known: Vec<(Asked, Option<String>)> = told
            .asked
            .lock()
            .expect("no panic")
            .iter()
            .map(|(asked, id)| (asked.clone(), id.clone()))
            .collect();
        let ids: Vec<&String> = known.iter().filter_map(|(_, id)| id.as_ref()).collect();
        match dice.roll(20) {
            0..=1 if !ids.is_empty() => {
                let verb = if dice.one_in(2) { "cancel" } else { "refresh" };
                let path = format!("/v1/snapshots/{}/{verb}", dice.pick(&ids));
                send(scene, told, &mut dice, &path, json!({})).await;
            }
            2..=4 if !known.is_empty() => {
                let again = dice.pick(&known).0.clone();
                post(scene, told, &mut dice, again).await;
            }
            5..=8 if !known.is_empty() => {
                let near = neighbour(&mut dice, &known);
                post(scene, told, &mut dice, near).await;
            }
            _ => {
                let topic = dice.pick(&scene.topics).clone();
                let new = new_window(&mut dice, &topic, started, wall);
                post(scene, told, &mut dice, new).await;
            }
        }
    }
}

fn record_wall() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as i64
}

/// Somewhere between the first record and a little after the last one.
fn new_window(dice: &mut Dice, topic: &Topic, started: Instant, wall: i64) -> Asked {
    // Of a topic that the brokers stamp, a second is a second.
    let (first, now, hour) = match topic.kind {
        Kind::LogAppend => (wall, record_wall(), HOUR / SPEED),
        Kind::Plain | Kind::Transactional => (crate::topics::DAY, record_clock(started), HOUR),
    };
    let hours = (now - first) / hour + 2;
    let mut start = first / hour * hour + dice.roll(hours as u64) as i64 * hour;
    let mut end = start + dice.between(1, 12) as i64 * hour;
    if dice.one_in(5) {
        (start, end) = (start + dice.roll(hour as u64) as i64, end + dice.roll(hour as u64) as i64);
    }
    Asked { topic: topic.name.clone(), start, end, offsets_only: dice.one_in(12) }
}

/// A window that touches or overlaps one that was asked for.
fn neighbour(dice: &mut Dice, known: &[(Asked, Option<String>)]) -> Asked {
    let (asked, _) = dice.pick(known).clone();
    let length = asked.end - asked.start;
    let start = match dice.roll(4) {
        0 | 1 => asked.end,
        2 => asked.start + length / 2,
        _ => asked.start - length / 3,
    };
    Asked { start, end: start + length, offsets_only: false, ..asked }
}

async fn post(scene: &Scene, told: &Told, dice: &mut Dice, asked: Asked) {
    told.asked.lock().expect("no panic").entry(asked.clone()).or_default();
    let on_loss = if dice.one_in(10) { "fail" } else { "report" };
    let answer = send(scene, told, dice, "/v1/snapshots", asked.body(on_loss)).await;
    if let Some(id) = answer.as_ref().and_then(|answer| answer["id"].as_str()) {
        told.asked.lock().expect("no panic").insert(asked, Some(id.to_owned()));
    }
}

/// Sends once: nobody insists here.
async fn send(
    scene: &Scene,
    told: &Told,
    dice: &mut Dice,
    path: &str,
    body: Value,
) -> Option<Value> {
    use std::sync::atomic::Ordering::Relaxed;
    told.requests.fetch_add(1, Relaxed);
    let first = dice.roll(8) as usize;
    let (status, answer) = scene.fleet.send(first, &Request { path, body: Some(body) }).await?;
    told.answers.fetch_add(1, Relaxed);
    match status {
        200 | 202 => Some(answer),
        // Draining, or without its database.
        503 => None,
        _ => {
            scene.journal.differs(format!("POST {path}: {status} {answer}"));
            None
        }
    }
}

async fn open_runs(scene: &Scene) -> Option<i64> {
    let client = scene.fleet.database.client().await.ok()?;
    let sql = "SELECT count(*) FROM runs WHERE outcome IS NULL";
    Some(client.query_one(sql, &[]).await.ok()?.get(0))
}

/// Looks at what can be seen until the time is over: what is sealed never changes, and no
/// file is ever changed or withdrawn.
pub async fn watch(scene: &Scene, told: &Told, mut dice: Dice) {
    while Instant::now() < scene.until {
        tokio::time::sleep(dice.millis(200, 1000)).await;
        let ids: Vec<String> =
            told.asked.lock().expect("no panic").values().flatten().cloned().collect();
        if !ids.is_empty() {
            let path = format!("/v1/snapshots/{}", dice.pick(&ids));
            let first = dice.roll(8) as usize;
            let answer = scene.fleet.send(first, &Request { path: &path, body: None }).await;
            if let Some((200, snapshot)) = answer {
                see_snapshot(scene, told, &snapshot);
            }
        }
        if let Ok(client) = scene.fleet.database.client().await {
            let _ = see_files(scene, told, &client).await;
        }
    }
}

/// A result without what is about the last run alone.
pub fn lasting(result: &Value) -> Value {
    let mut result = result.clone();
    if let Some(object) = result.as_object_mut() {
        object.remove("records_added");
    }
    result
}

pub fn see_snapshot(scene: &Scene, told: &Told, snapshot: &Value) {
    let id = snapshot["id"].as_str().unwrap_or_default().to_owned();
    let result = lasting(&snapshot["result"]);
    let mut sealed = told.sealed.lock().expect("no panic");
    if let Some(before) = sealed.get(&id) {
        if *before != result || snapshot["completeness"] != "sealed" {
            scene.journal.differs(format!("{id} was sealed with {before}, is {snapshot}"));
        }
    } else if snapshot["completeness"] == "sealed" {
        sealed.insert(id, result);
    }
}

pub async fn see_files(
    scene: &Scene,
    told: &Told,
    client: &tokio_postgres::Client,
) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT object_name, bytes, encode(sha256, 'hex') FROM files";
    let now: BTreeMap<String, (i64, String)> = client
        .query(sql, &[])
        .await?
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    let mut files = told.files.lock().expect("no panic");
    for (name, before) in files.iter() {
        if now.get(name) != Some(before) {
            scene.journal.differs(format!("{name} was {before:?}, is {:?}", now.get(name)));
        }
    }
    *files = now;
    Ok(())
}

/// How long faults may still be felt.
pub const PATIENCE: Duration = Duration::from_secs(240);
