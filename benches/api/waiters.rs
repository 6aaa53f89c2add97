//! What many who wait cost: memory, CPU, the latency of others, and the time until all have
//! their answers once the snapshot has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strandline::db::Database;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cases::Sample;
use crate::load::{Client, Request, at_rate};
use crate::machine::{cpu_seconds, quiet, rss_mib};
use crate::report::{Latencies, Report, head};
use crate::service::Service;
use crate::{Result, Settings};

/// How long those who wait are watched.
const WATCHED: Duration = Duration::from_secs(6);

pub async fn measure(
    settings: &Settings,
    db: &Database,
    service: &Service,
    sample: &Arc<Sample>,
    report: &mut Report,
) -> Result<()> {
    head(&format!("{} who wait", settings.waiters));
    let one = vec![sample.queued[0].0; settings.waiters];
    let each: Vec<Uuid> =
        sample.queued.iter().skip(1).map(|queued| queued.0).take(settings.waiters).collect();
    let same = wait(settings, service, sample, "for one snapshot", &one, report).await?;
    let different = wait(settings, service, sample, "for one each", &each, report).await?;
    report.set("waiters", json!([same, different]));
    crate::fill::queue(settings, db, &service.url).await
}

async fn wait(
    settings: &Settings,
    service: &Service,
    sample: &Arc<Sample>,
    name: &str,
    ids: &[Uuid],
    report: &mut Report,
) -> Result<Value> {
    let busy = quiet(settings.quiet).await;
    let before = rss_mib(service.pid());
    let waiting = Client::new(&service.url)?;
    let mut answers = JoinSet::new();
    for id in ids.iter().copied() {
        let client = waiting.clone();
        answers.spawn(async move {
            let answer = client.send(&cancelled(format!("/v1/snapshots/{id}?wait=120"), id)).await;
            (Instant::now(), answer)
        });
    }
    idle(service.pid()).await;
    let (rss, cpu) = (rss_mib(service.pid()), cpu_seconds(service.pid()));
    tokio::time::sleep(WATCHED).await;
    let cpu = (cpu_seconds(service.pid()) - cpu) / WATCHED.as_secs_f64();

    let others = Client::new(&service.url)?;
    let get = |n: u64| {
        let id = sample.any_ended(n).0;
        Request::get(
            format!("/v1/snapshots/{id}"),
            Arc::new(|status, body| match status {
                200 => Ok(()),
                _ => Err(format!("{status} {body}")),
            }),
        )
    };
    let meanwhile = at_rate(&others, settings.requests_per_second, settings.round, &get).await;
    report.line(
        &format!("GET, they wait {name}"),
        &meanwhile.latencies,
        meanwhile.errors,
        meanwhile.example.as_deref(),
        "",
    );
    report.figure(
        format!("API p99: GET while {} wait {name}", ids.len()),
        10.0,
        meanwhile.latencies.quantile(0.99),
    );

    let ended = end(&others, ids).await?;
    let (latencies, errors, example) = collect(answers, &ended).await?;
    let after = rss_mib(service.pid());
    let rest = format!(
        "rss {before:.0} -> {rss:.0} -> {after:.0} MiB  cpu {:.2} % of a core while they wait  busy {:.0} % before",
        cpu * 100.0,
        busy * 100.0
    );
    report.line(&format!("answer, {name}"), &latencies, errors, example.as_deref(), &rest);
    Ok(json!({"name": name, "waiters": ids.len(), "rss_before_mib": before, "rss_waiting_mib": rss,
        "rss_after_mib": after, "cpu_cores_while_waiting": cpu, "get_meanwhile": meanwhile.latencies.json(),
        "end_to_answer": latencies.json(), "errors": errors + meanwhile.errors,
        "machine_busy_before": busy}))
}

fn cancelled(path: String, id: Uuid) -> Request {
    let start = format!("{{\"id\":\"{id}\"");
    Request::get(
        path,
        Arc::new(move |status, body| {
            let right = status == 200
                && body.starts_with(&start)
                && body.contains("\"state\":\"cancelled\"");
            if right { Ok(()) } else { Err(format!("{status} {body}")) }
        }),
    )
}

/// Returns when the process has nothing to do: all who wait have been looked up.
async fn idle(pid: u32) {
    for _ in 0..100 {
        let cpu = cpu_seconds(pid);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if cpu_seconds(pid) - cpu <= 0.01 {
            return;
        }
    }
}

/// Cancels the snapshots, one after the other; gives when each one's run had ended.
async fn end(client: &Client, ids: &[Uuid]) -> Result<Vec<(Uuid, Instant)>> {
    let mut distinct = ids.to_vec();
    distinct.dedup();
    let mut ended = Vec::new();
    for id in distinct {
        // Not when the answer is here: that takes another look at the database.
        let asked = Instant::now();
        let accepted = Arc::new(|status, body: &str| match status {
            202 => Ok(()),
            _ => Err(format!("{status} {body}")),
        });
        let path = format!("/v1/snapshots/{id}/cancel");
        client.send(&Request::post(path, String::new(), accepted)).await?;
        ended.push((id, asked));
    }
    Ok(ended)
}

type Answers = JoinSet<(Instant, std::result::Result<String, String>)>;

/// The times from each snapshot's end to the answers about it.
async fn collect(
    mut answers: Answers,
    ended: &[(Uuid, Instant)],
) -> Result<(Latencies, u64, Option<String>)> {
    let (mut latencies, mut errors, mut example) = (Latencies::default(), 0, None);
    let when: std::collections::HashMap<String, Instant> =
        ended.iter().map(|(id, at)| (id.to_string(), *at)).collect();
    while let Some(answer) = answers.join_next().await {
        let (at, answer) = answer?;
        match answer {
            Ok(body) => {
                let asked = body.get(7..43).and_then(|id| when.get(id));
                latencies.add(
                    asked.map_or(Duration::ZERO, |asked| at.saturating_duration_since(*asked)),
                );
            }
            Err(wrong) => {
                errors += 1;
                example.get_or_insert(wrong);
            }
        }
    }
    Ok((latencies, errors, example))
}
