//! How many requests are answered in a second if all that are answered are followed by another
//! one: wrk, on connections that stay open.

use std::fmt::Write;

use serde_json::{Value, json};
use strandline::db::Database;

use crate::cases::Sample;
use crate::machine::quiet;
use crate::report::Report;
use crate::service::Service;
use crate::{Result, Settings};

/// Connections of wrk.
const CONNECTIONS: u32 = 16;

pub async fn measure(
    settings: &Settings,
    _db: &Database,
    service: &Service,
    sample: &Sample,
    report: &mut Report,
) -> Result<()> {
    println!(
        "\n{:<24} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "wrk, 16 connections", "requests/s", "p50", "p99", "max", "errors"
    );
    let gets: Vec<String> =
        sample.ended.iter().map(|(id, _)| format!("GET\t/v1/snapshots/{id}\t")).collect();
    let posts: Vec<String> =
        sample.ended.iter().map(|(_, body)| format!("POST\t/v1/snapshots\t{body}")).collect();
    let lists = vec!["GET\t/v1/snapshots\t".to_owned()];
    let mut documents = Vec::new();
    for (name, requests) in [("GET one", gets), ("POST replay", posts), ("list", lists)] {
        let busy = quiet(settings.quiet).await;
        let mut document = wrk(settings, service, &requests).await?;
        println!(
            "{name:<24} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>8}",
            document["requests_per_second"].as_f64().unwrap_or(0.0),
            document["p50_ms"].as_f64().unwrap_or(0.0),
            document["p99_ms"].as_f64().unwrap_or(0.0),
            document["max_ms"].as_f64().unwrap_or(0.0),
            document["errors"],
        );
        let errors = document["errors"].as_u64().unwrap_or(1);
        report.count_errors(errors);
        document["name"] = json!(name);
        document["machine_busy_before"] = json!(busy);
        documents.push(document);
    }
    report.set("throughput", json!(documents));
    Ok(())
}

async fn wrk(settings: &Settings, service: &Service, requests: &[String]) -> Result<Value> {
    let file = format!("{}/requests.tsv", settings.state);
    let mut text = String::new();
    for request in requests {
        writeln!(text, "{request}")?;
    }
    std::fs::write(&file, text)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/api/wrk.lua");
    let output = tokio::process::Command::new("wrk")
        .args([
            "-t",
            "1",
            "-c",
            &CONNECTIONS.to_string(),
            "-d",
            &format!("{}s", settings.round.as_secs()),
        ])
        .args(["-s", script, &service.url, "--", &file])
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().find_map(|line| line.strip_prefix("json: "));
    match line {
        Some(line) => Ok(serde_json::from_str(line)?),
        None => Err(format!(
            "wrk printed no numbers: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
    }
}
