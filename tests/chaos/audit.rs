//! Everything is looked at: rows of PostgreSQL, files, documents and logs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::check::{Boundaries, Shown, check_chains, check_coverage, check_snapshot};
use crate::fleet::{Fleet, ORPHAN_GRACE_SECONDS, SEAL_INTERVAL_SECONDS, SECRET};
use crate::objects::files_below;
use crate::oracle::Logs;
use crate::stored::{Looked, check_files, segments};

/// Say which database the store belongs to, and what it was told: no data, and no orphans.
const MARKS: [&str; 2] = [".strandline-owner", ".strandline-generation"];

/// What was looked at.
pub struct Audit {
    pub looked: Looked,
    /// Pairs of windows that touch.
    pub links: u64,
    /// All that is wrong.
    pub differences: Vec<String>,
}

/// To be called when no run is open and nobody writes.
pub async fn audit(fleet: &Fleet, logs: &Logs, all: &[Shown]) -> Audit {
    let client = fleet.database.client().await.expect("a connection");
    let mut differ = Vec::new();
    let segments = segments(&client, &mut differ).await;
    let boundaries = Boundaries::of(logs);
    for shown in all {
        check_snapshot(shown, logs, &boundaries, &segments, &mut differ);
    }
    let links = check_chains(all, &mut differ);
    check_coverage(fleet, all, logs, &segments, &mut differ).await;
    let looked = check_files(&client, &fleet.objects, &segments, logs, &mut differ).await;
    check_failures(&client, &mut differ).await;
    check_orphans(fleet, &client, &mut differ).await;
    check_logs(fleet, &mut differ);
    Audit { looked, links, differences: differ }
}

/// Runs fail only because the request wanted lost data to be a failure.
async fn check_failures(client: &tokio_postgres::Client, differ: &mut Vec<String>) {
    let sql = "SELECT snapshot_id::text, run, error::text FROM runs
        WHERE outcome = 'failed' AND error->>'code' <> 'DATA_LOST'";
    for row in client.query(sql, &[]).await.expect("runs") {
        let (id, run, error): (String, i32, Option<String>) = (row.get(0), row.get(1), row.get(2));
        differ.push(format!("run {run} of {id} failed: {error:?}"));
    }
}

/// When the grace is over, nothing is left in the store that is not named.
async fn check_orphans(fleet: &Fleet, client: &tokio_postgres::Client, differ: &mut Vec<String>) {
    let patience = Duration::from_secs(ORPHAN_GRACE_SECONDS + 4 * SEAL_INTERVAL_SECONDS + 10);
    let started = Instant::now();
    loop {
        let sql = "SELECT object_name FROM files";
        let rows = client.query(sql, &[]).await.expect("the files");
        let named: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let orphans: Vec<String> = fleet
            .objects
            .names()
            .await
            .into_iter()
            .filter(|name| !named.contains(name) && !MARKS.contains(&name.as_str()))
            .collect();
        if orphans.is_empty() {
            return;
        }
        if started.elapsed() > patience {
            differ.push(format!(
                "{} orphans are left: {:?}",
                orphans.len(),
                &orphans[..orphans.len().min(3)]
            ));
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// No panic, no defect and no secret in any log.
fn check_logs(fleet: &Fleet, differ: &mut Vec<String>) {
    let bucket_secret =
        std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|_| SECRET.to_owned());
    for name in files_below(fleet.folder()) {
        if !name.ends_with(".log") {
            continue;
        }
        let text = std::fs::read(fleet.folder().join(&name)).expect("a log");
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines() {
            let bad = ["panicked", "defect of strandline", SECRET, &bucket_secret];
            if name != "journal.log" && bad.iter().any(|bad| line.contains(bad)) {
                differ.push(format!("{name}: {line}"));
            }
        }
    }
}
