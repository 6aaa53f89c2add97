//! What is asked at a constant rate, and what must come of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use strandline::db::Database;
use strandline::snapshot::Timestamp;
use uuid::Uuid;

use crate::fill::{body, queued_body};
use crate::load::{Check, Client, Request, Round, at_rate};
use crate::machine::{Busy, cpu_seconds, quiet, rss_mib};
use crate::report::{Latencies, Report, head};
use crate::service::Service;
use crate::{Result, Settings};

/// The topic of new snapshots; Kafka has none of this name.
const NEW_TOPIC: &str = "bench-new";

/// Items of a page, if the request names no number.
const PAGE: usize = 50;

/// What the issue wants, in milliseconds.
const API_P99: f64 = 10.0;

/// Snapshots to ask for.
pub struct Sample {
    /// Ended ones from everywhere: id and the body of the request for it.
    pub ended: Vec<(Uuid, String)>,
    /// Queued ones.
    pub queued: Vec<(Uuid, String)>,
    fresh: AtomicU64,
}

impl Sample {
    pub async fn take(db: &Database) -> Result<Arc<Self>> {
        let (client, _notifications) = db.dedicated().await?;
        let ended = "SELECT s.id, s.topic_name, (extract(epoch FROM s.window_start) * 1000)::bigint,
                (extract(epoch FROM s.window_end) * 1000)::bigint
            FROM snapshots s TABLESAMPLE system (2) REPEATABLE (1)
            WHERE s.completeness = 'sealed' AND s.topic_name LIKE 'orders-%' ORDER BY md5(s.id::text) LIMIT 10000";
        let mut sample = Sample { ended: vec![], queued: vec![], fresh: AtomicU64::new(0) };
        for row in client.query(ended, &[]).await? {
            let topic: String = row.get(1);
            let (start, end): (i64, i64) = (row.get(2), row.get(3));
            let labels: Value = client
                .query_one("SELECT labels FROM snapshots WHERE id = $1", &[&row.get::<_, Uuid>(0)])
                .await?
                .get(0);
            let mut body: Value = serde_json::from_str(&body(&topic, start, end - start))?;
            body["labels"] = labels;
            sample.ended.push((row.get(0), body.to_string()));
        }
        let queued =
            "SELECT s.id, (extract(epoch FROM s.window_start) * 1000)::bigint FROM snapshots s
            JOIN runs r ON r.snapshot_id = s.id AND r.outcome IS NULL
            WHERE r.started_at IS NULL AND s.topic_name = 'flights' ORDER BY s.window_start";
        for row in client.query(queued, &[]).await? {
            sample.queued.push((row.get(0), queued_body(row.get(1))));
        }
        if sample.ended.is_empty() || sample.queued.is_empty() {
            return Err("there is nothing to ask for".into());
        }
        Ok(Arc::new(sample))
    }

    pub fn any_ended(&self, number: u64) -> &(Uuid, String) {
        &self.ended[number as usize % self.ended.len()]
    }

    fn any_queued(&self, number: u64) -> &(Uuid, String) {
        &self.queued[number as usize % self.queued.len()]
    }

    fn new_body(&self) -> String {
        let number = self.fresh.fetch_add(1, Ordering::Relaxed) as i64;
        body(NEW_TOPIC, 1_700_000_000_000 + number * 60_000, 60_000)
    }
}

type Make = Box<dyn Fn(u64) -> Request + Sync>;

struct Case {
    name: &'static str,
    make: Make,
}

fn case(name: &'static str, make: impl Fn(u64) -> Request + Sync + 'static) -> Case {
    Case { name, make: Box::new(make) }
}

/// The answer is this snapshot, with this status.
fn snapshot(wanted: u16, id: Uuid) -> Check {
    let start = format!("{{\"id\":\"{id}\"");
    Arc::new(move |status, body| match (status == wanted, body.starts_with(&start)) {
        (true, true) => Ok(()),
        _ => Err(format!("{status} {body}, wanted {wanted} {start}")),
    })
}

/// The answer is a new snapshot, queued.
fn queued() -> Check {
    Arc::new(|status, body| match (status, body.contains("\"state\":\"queued\"")) {
        (202, true) => Ok(()),
        _ => Err(format!("{status} {body}")),
    })
}

/// The answer is a page of so many items, newest first, each of which is right. One in eight
/// is read whole: reading takes the driver longer than writing takes the service.
fn page(
    number: u64,
    items: usize,
    right: impl Fn(&Value) -> bool + Send + Sync + 'static,
) -> Check {
    Arc::new(move |status, body| {
        if status != 200 || !body.starts_with("{\"items\":[") {
            return Err(format!("{status} {body}"));
        }
        if !number.is_multiple_of(8) {
            return Ok(());
        }
        let page: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let found = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = found.iter().filter_map(|item| item["id"].as_str()).collect();
        let distinct: HashSet<&&str> = ids.iter().collect();
        if found.len() != items || distinct.len() != items {
            return Err(format!("{} items, wanted {items}", found.len()));
        }
        match ids.is_sorted_by(|a, b| a > b) && found.iter().all(&right) {
            true => Ok(()),
            false => Err(format!("wrong items: {body}")),
        }
    })
}

fn list(number: u64, query: &str, items: usize, right: fn(&Value) -> bool) -> Request {
    Request::get(format!("/v1/snapshots{query}"), page(number, items, right))
}

fn cases(sample: &Arc<Sample>) -> Vec<Case> {
    let own = || sample.clone();
    let (get, wait, replay, join, new, deep) = (own(), own(), own(), own(), own(), own());
    vec![
        case("GET one", move |n| {
            let id = get.any_ended(n).0;
            Request::get(format!("/v1/snapshots/{id}"), snapshot(200, id))
        }),
        case("GET ended, wait=30", move |n| {
            let id = wait.any_ended(n).0;
            Request::get(format!("/v1/snapshots/{id}?wait=30"), snapshot(200, id))
        }),
        case("POST replay", move |n| {
            let (id, body) = replay.any_ended(n);
            Request::post("/v1/snapshots".to_owned(), body.clone(), snapshot(200, *id))
        }),
        case("POST join", move |n| {
            let (id, body) = join.any_queued(n);
            Request::post("/v1/snapshots".to_owned(), body.clone(), snapshot(202, *id))
        }),
        case("POST new", move |_| {
            Request::post("/v1/snapshots".to_owned(), new.new_body(), queued())
        }),
        case("list", |n| list(n, "", PAGE, |_| true)),
        case("list deep page", move |n| {
            let before = deep.any_ended(n).0;
            let check = page(n, PAGE, move |item| item["id"].as_str() < Some(&before.to_string()));
            Request::get(format!("/v1/snapshots?cursor={}", cursor(before)), check)
        }),
        case("list topic", |n| {
            let topic = format!("orders-{:03}", n % 250 + 1);
            let query = format!("/v1/snapshots?topic={topic}");
            Request::get(query, page(n, PAGE, move |item| item["topic"] == topic.as_str()))
        }),
        case("list rare topic", |n| list(n, "?topic=rare", 20, |item| item["topic"] == "rare")),
        case("list failed", |n| list(n, "?state=failed", PAGE, |item| item["state"] == "failed")),
        case("list failed, cancelled", |n| {
            let right = |item: &Value| item["state"] == "failed" || item["state"] == "cancelled";
            list(n, "?state=failed&state=cancelled", PAGE, right)
        }),
        case("list queued", |n| list(n, "?state=queued", PAGE, |item| item["state"] == "queued")),
        case("list running: none", |n| list(n, "?state=running", 0, |_| true)),
        case("list label", |n| {
            let dag = format!("orders-{:03}_hourly", n % 250 + 1);
            let query = format!("/v1/snapshots?label=dag_id:{dag}");
            Request::get(query, page(n, PAGE, move |item| item["labels"]["dag_id"] == dag.as_str()))
        }),
        case("list rare label", |n| {
            list(n, "?label=backfill:first", 10, |item| item["labels"]["backfill"] == "first")
        }),
        case("list topic, window", |n| {
            list(n, &window(n), 24, |item| item["topic"] == "orders-007")
        }),
    ]
}

/// A day of one topic.
fn window(number: u64) -> String {
    let day = 1_704_153_600_000 + (number % 150) as i64 * 86_400_000;
    let at = |millis| Timestamp::from_millis(millis).to_string();
    format!("?topic=orders-007&window_from={}&window_to={}", at(day), at(day + 86_400_000))
}

fn cursor(id: Uuid) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.to_string())
}

/// Rounds of each case; the one in the middle, by its p99, counts. Gives the service back, or
/// another one where that was left with requests that nobody waits for.
pub async fn measure(
    settings: &Settings,
    db: &Database,
    mut service: Service,
    sample: &Arc<Sample>,
    report: &mut Report,
) -> Result<Service> {
    head(&format!("{} requests/s", settings.requests_per_second));
    let mut documents = Vec::new();
    for case in cases(sample).iter().filter(|case| case.name.contains(&settings.only)) {
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            let measured = measure_round(settings, &service, case.make.as_ref()).await?;
            if measured.round.errors > 0 {
                drop(service);
                service = Service::start(settings, 0).await?;
            }
            rounds.push(measured);
        }
        documents.push(summary(case.name, rounds, report, &format!("API p99: {}", case.name)));
        forget_new(db).await?;
    }
    report.set("latency", json!(documents));
    Ok(service)
}

/// Six gets, two lists, a new snapshot and a replay, and so on, while two workers work.
pub async fn mixed(
    settings: &Settings,
    db: &Database,
    service: &Service,
    sample: &Arc<Sample>,
    report: &mut Report,
) -> Result<()> {
    let all = cases(sample);
    let named = |name: &str| all.iter().find(|case| case.name == name).map(|case| &case.make);
    let parts = ["GET one", "list", "POST new", "POST replay", "list topic"].map(named);
    let [Some(get), Some(list), Some(new), Some(replay), Some(topic)] = parts else {
        return Err("a case has another name".into());
    };
    let make = |n: u64| match n % 10 {
        0 => list(n),
        5 => topic(n),
        2 => new(n),
        7 => replay(n),
        _ => get(n),
    };
    head("mixed, 2 workers");
    let ended = "SELECT count(*) FROM runs r JOIN snapshots s ON s.id = r.snapshot_id
        WHERE s.topic_name = 'flights' AND r.outcome = 'succeeded'";
    let before = crate::fill::count(db, ended).await?;
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        rounds.push(measure_round_at_once(settings, service, &make).await?);
    }
    let runs = crate::fill::count(db, ended).await? - before;
    let mut document = summary("mixed", rounds, report, "API p99: mixed load, 2 workers working");
    document["runs_succeeded_meanwhile"] = json!(runs);
    println!("    {runs} runs succeeded meanwhile");
    report.set("mixed", document);
    forget_new(db).await
}

struct Measured {
    round: Round,
    busy_before: f64,
    busy: f64,
    cpu_ms: f64,
    rss_mib: f64,
}

async fn measure_round(
    settings: &Settings,
    service: &Service,
    make: &(dyn Fn(u64) -> Request + Sync),
) -> Result<Measured> {
    let busy_before = quiet(settings.quiet).await;
    let measured = measure_round_at_once(settings, service, make).await?;
    Ok(Measured { busy_before, ..measured })
}

async fn measure_round_at_once(
    settings: &Settings,
    service: &Service,
    make: &(dyn Fn(u64) -> Request + Sync),
) -> Result<Measured> {
    let client = Client::new(&service.url)?;
    let rate = settings.requests_per_second;
    // Connections are opened and statements prepared.
    at_rate(&client, rate, settings.round / 6, make).await;
    let (cpu, busy) = (cpu_seconds(service.pid()), Busy::now());
    let round = at_rate(&client, rate, settings.round, make).await;
    let cpu_ms = (cpu_seconds(service.pid()) - cpu) * 1000.0 / round.latencies.count() as f64;
    let rss_mib = rss_mib(service.pid());
    Ok(Measured { busy_before: 0.0, busy: busy.share(), cpu_ms, rss_mib, round })
}

fn summary(name: &str, mut rounds: Vec<Measured>, report: &mut Report, figure: &str) -> Value {
    rounds.sort_by(|a, b| {
        a.round.latencies.quantile(0.99).total_cmp(&b.round.latencies.quantile(0.99))
    });
    let errors = rounds.iter().map(|measured| measured.round.errors).sum();
    let example = rounds.iter().find_map(|measured| measured.round.example.clone());
    let shown: Vec<Value> = rounds
        .iter()
        .map(|m| {
            json!({"latency": m.round.latencies.json(), "errors": m.round.errors,
                "driver_lateness": m.round.lateness.json(), "service_cpu_ms_per_request": m.cpu_ms,
                "service_rss_mib": m.rss_mib, "machine_busy_before": m.busy_before, "machine_busy": m.busy})
        })
        .collect();
    let middle = &rounds[rounds.len() / 2];
    let rest = format!(
        "cpu {:.2} ms  busy {:.0} % ({:.0} % before)  late p99 {:.2}",
        middle.cpu_ms,
        middle.busy * 100.0,
        middle.busy_before * 100.0,
        middle.round.lateness.quantile(0.99)
    );
    report.line(name, &middle.round.latencies, errors, example.as_deref(), &rest);
    report.figure(figure.to_owned(), API_P99, middle.round.latencies.quantile(0.99));
    let mut all = Latencies::default();
    rounds.iter().for_each(|measured| all.extend(&measured.round.latencies));
    json!({"name": name, "median_round": middle.round.latencies.json(), "all_rounds": all.json(),
        "errors": errors, "rounds": shown})
}

/// New snapshots would make the queue longer for what is measured next.
async fn forget_new(db: &Database) -> Result<()> {
    let (client, _notifications) = db.dedicated().await?;
    client
        .batch_execute(&format!(
            "DELETE FROM tasks WHERE snapshot_id IN (SELECT id FROM snapshots WHERE topic_name = '{NEW_TOPIC}');
             DELETE FROM runs WHERE snapshot_id IN (SELECT id FROM snapshots WHERE topic_name = '{NEW_TOPIC}');
             DELETE FROM snapshots WHERE topic_name = '{NEW_TOPIC}'"
        ))
        .await?;
    Ok(())
}
