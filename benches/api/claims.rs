//! How long it takes to claim a task while thousands are queued, by the service's own statement.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use strandline::db::{self, Database, PoolLimits};
use strandline::snapshot::{Failure, FailureKind};
use uuid::Uuid;

use crate::machine::quiet;
use crate::report::{Latencies, Report, head};
use crate::{Result, Settings};

/// Claims of a round, over all connections.
const CLAIMS: usize = 3000;

/// What the issue wants, in milliseconds.
const CLAIM_P99: f64 = 10.0;

const LEASE_SECONDS: u32 = 60;

/// What becomes of a task that was claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is given back, so the queue stays as it is.
    Release,
    /// Its run is ended, so the queue moves on.
    End,
}

struct Claimed {
    latencies: Latencies,
    errors: u64,
    example: Option<String>,
}

pub async fn measure(settings: &Settings, db: &Database, report: &mut Report) -> Result<()> {
    let queued = crate::fill::count(
        db,
        "SELECT count(*) FROM tasks WHERE ended_at IS NULL AND lease_expires_at IS NULL",
    )
    .await?;
    head(&format!("claims, {queued} queued"));
    let mut documents = Vec::new();
    for (name, workers, then) in [
        ("1 worker, given back", 1, Then::Release),
        ("4 workers, given back", 4, Then::Release),
        ("16 workers, given back", 16, Then::Release),
        ("4 workers, run ended", 4, Then::End),
    ] {
        let busy = quiet(settings.quiet).await;
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            let round =
                claim(settings, workers, CLAIMS / if then == Then::End { 3 } else { 1 }, then)
                    .await?;
            rounds.push(round);
        }
        rounds.sort_by(|a, b| a.latencies.quantile(0.99).total_cmp(&b.latencies.quantile(0.99)));
        let errors = rounds.iter().map(|round| round.errors).sum();
        let example = rounds.iter().find_map(|round| round.example.clone());
        let middle = &rounds[rounds.len() / 2].latencies;
        report.line(
            name,
            middle,
            errors,
            example.as_deref(),
            &format!("busy {:.0} % before", busy * 100.0),
        );
        report.figure(format!("claim p99: {name}"), CLAIM_P99, middle.quantile(0.99));
        let all: Vec<_> = rounds.iter().map(|round| round.latencies.json()).collect();
        documents.push(json!({"name": name, "workers": workers, "median_round": middle.json(),
            "errors": errors, "rounds": all, "machine_busy_before": busy}));
    }
    report.set("claims", json!(documents));
    Ok(())
}

async fn claim(settings: &Settings, workers: usize, claims: usize, then: Then) -> Result<Claimed> {
    let limits = PoolLimits { connections: workers, ..PoolLimits::default() };
    let db = Database::connect(&settings.database_url, limits)?;
    let held: Arc<Mutex<HashSet<i64>>> = Arc::default();
    let claiming: Vec<_> = (0..workers)
        .map(|number| {
            tokio::spawn(claim_as_worker(db.clone(), held.clone(), number, claims / workers, then))
        })
        .collect();
    let mut all = Claimed { latencies: Latencies::default(), errors: 0, example: None };
    for worker in claiming {
        let claimed = worker.await??;
        all.latencies.extend(&claimed.latencies);
        all.errors += claimed.errors;
        all.example = all.example.or(claimed.example);
    }
    Ok(all)
}

/// Claims and settles one task after the other. No two workers may hold the same.
async fn claim_as_worker(
    db: Database,
    held: Arc<Mutex<HashSet<i64>>>,
    number: usize,
    claims: usize,
    then: Then,
) -> Result<Claimed> {
    let mut claimed = Claimed { latencies: Latencies::default(), errors: 0, example: None };
    let name = format!("bench/{number}");
    let failure = Failure::new(FailureKind::Internal, "ended by the benchmark".to_owned());
    for _ in 0..claims {
        let started = Instant::now();
        let task = db::claim_task(&db, &name, Uuid::new_v4(), LEASE_SECONDS, None).await?;
        claimed.latencies.add(started.elapsed());
        let Some(task) = task else {
            claimed.errors += 1;
            claimed.example = Some("there was no task to claim".to_owned());
            continue;
        };
        let id = task.lease.task_id;
        if !held.lock().is_ok_and(|mut held| held.insert(id)) {
            claimed.errors += 1;
            claimed.example = Some(format!("two workers hold task {id}"));
        }
        // Before it is given back: from then on another one may have it.
        let _ = held.lock().map(|mut held| held.remove(&id));
        match then {
            Then::Release => db::release_task(&db, task.lease).await?,
            Then::End => drop(db::fail_run(&db, &task, &failure).await?),
        }
    }
    Ok(claimed)
}
