//! Makes what is in the database before anything is measured.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use strandline::db::Database;
use strandline::snapshot::Timestamp;

use crate::load::{Check, Client, Request};
use crate::service::Service;
use crate::{Result, Settings};

/// The topic with real events: `scripts/bench-api.sh` has loaded them.
pub const TOPIC: &str = "flights";

/// 2013-01-01T00:00:00Z, the first of the events, in milliseconds.
const FIRST: i64 = 1_356_998_400_000;

/// Topics among which the ended snapshots are divided.
const TOPICS: u64 = 250;

/// The body of a request for the window `[start, start + length)`, in milliseconds.
pub fn body(topic: &str, start: i64, length: i64) -> String {
    let at = |millis| Timestamp::from_millis(millis).to_string();
    json!({"topic": topic, "window_start": at(start), "window_end": at(start + length),
        "labels": {"dag_id": format!("{topic}_hourly"), "team": "team-1"}})
    .to_string()
}

/// The windows of the queued snapshots: four minutes each, one after the other.
const QUEUED_WINDOW: i64 = 240_000;

pub fn queued_body(start: i64) -> String {
    body(TOPIC, start, QUEUED_WINDOW)
}

/// Fills the database, if that has not been done.
pub async fn fill(settings: &Settings, db: &Database) -> Result<()> {
    // Migrates; without workers, or they would begin with what is queued.
    Service::start(settings, 0).await?.stop()?;
    if count(db, "SELECT count(*) FROM topics").await? <= 1 {
        let service = Service::start(settings, 2).await?;
        // Hours, so that they are no windows of the queued ones.
        for hour in 0..24 {
            let body = body(TOPIC, FIRST + hour * 3_600_000, 3_600_000);
            let done =
                Request::post("/v1/snapshots?expect=succeeded".to_owned(), body, status(200));
            Client::new(&service.url)?.send(&done).await?;
        }
        service.stop()?;
        multiply(settings, db).await?;
    } else {
        println!("the database is filled already");
    }
    let service = Service::start(settings, 0).await?;
    queue(settings, db, &service.url).await?;
    service.stop()
}

async fn multiply(settings: &Settings, _db: &Database) -> Result<()> {
    let started = Instant::now();
    println!("filling in {} ended snapshots; takes some minutes", settings.snapshots);
    let sql = include_str!("fill.sql")
        .replace("{snapshots}", &settings.snapshots.to_string())
        .replace("{topics}", &TOPICS.to_string());
    // Outside of the pool, whose statements may not take so long.
    let db = Database::connect(&settings.database_url, Default::default())?;
    let (client, _notifications) = db.dedicated().await?;
    client.batch_execute(&sql).await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    client.batch_execute("CHECKPOINT").await?;
    println!("filled in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Asks for snapshots until as many are queued as are to be. Of a database that was kept some
/// are done already: then further windows are asked for.
pub async fn queue(settings: &Settings, db: &Database, url: &str) -> Result<()> {
    let started = Instant::now();
    let client = Client::new(url)?;
    let mut next = 0;
    loop {
        let missing = settings.queued as i64 - count(db, QUEUED).await?;
        if missing <= 0 {
            break;
        }
        if next > 20 * settings.queued as i64 {
            return Err("what is asked for does not stay in the queue".into());
        }
        let sent = stream::iter(next..next + missing).map(|number| {
            let (client, body) = (client.clone(), queued_body(FIRST + number * QUEUED_WINDOW));
            let accepted = Request::post("/v1/snapshots".to_owned(), body, accepted());
            async move { client.send(&accepted).await }
        });
        let answers: Vec<_> = sent.buffer_unordered(8).collect().await;
        if let Some(Err(wrong)) = answers.into_iter().find(|answer| answer.is_err()) {
            return Err(wrong.into());
        }
        next += missing;
    }
    let (client, _notifications) = db.dedicated().await?;
    client.batch_execute("VACUUM ANALYZE snapshots, runs, tasks").await?;
    println!(
        "{} snapshots are queued, after {:.1} s",
        settings.queued,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

const QUEUED: &str = "SELECT count(*) FROM runs WHERE outcome IS NULL AND started_at IS NULL";

fn accepted() -> Check {
    std::sync::Arc::new(|status, body| match status {
        200 | 202 => Ok(()),
        _ => Err(format!("{status} {body}")),
    })
}

fn status(wanted: u16) -> Check {
    std::sync::Arc::new(
        move |status, body| {
            if status == wanted { Ok(()) } else { Err(format!("{status} {body}")) }
        },
    )
}

pub async fn count(db: &Database, sql: &str) -> Result<i64> {
    let (client, _notifications) = db.dedicated().await?;
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// What there is when measuring begins.
pub async fn counts(settings: &Settings, db: &Database) -> Result<Value> {
    let ended =
        count(db, "SELECT count(*) FROM runs WHERE outcome IS NOT NULL AND run = 1").await?;
    let size = "SELECT pg_database_size(current_database()) / 1048576";
    let document = json!({
        "ended_snapshots": ended,
        "queued_snapshots": count(db, QUEUED).await?,
        "database_mib": count(db, size).await?,
        "requests_per_second": settings.requests_per_second,
        "rounds": settings.rounds,
        "round_seconds": settings.round.as_secs(),
    });
    println!("{document}");
    Ok(document)
}

/// Which program is measured, by its own word.
pub async fn version(url: &str) -> Result<Value> {
    let request = Request::get("/v1/version".to_owned(), status(200));
    Ok(serde_json::from_str(&Client::new(url)?.send(&request).await?)?)
}
