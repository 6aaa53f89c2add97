//! What the kernel and the services say of themselves.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strandline::db::Database;

/// How much of the machine may be busy with other things while we measure.
const QUIET: f64 = 0.15;

/// Seconds that all cores together were busy and idle since the start of the machine.
fn core_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let idle = ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0);
    (ticks.iter().sum::<u64>() - idle, idle)
}

/// The part of all cores' time that is used, from one moment to another.
pub struct Busy {
    start: (u64, u64),
}

impl Busy {
    pub fn now() -> Self {
        Busy { start: core_ticks() }
    }

    pub fn share(&self) -> f64 {
        let (busy, idle) = core_ticks();
        let (busy, idle) = (busy - self.start.0, idle - self.start.1);
        busy as f64 / (busy + idle).max(1) as f64
    }
}

/// Waits until others leave the machine alone, but for no longer than `most`. Gives the share
/// of it that they used last.
pub async fn quiet(most: Duration) -> f64 {
    let started = Instant::now();
    loop {
        let busy = Busy::now();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let share = busy.share();
        if share <= QUIET || started.elapsed() >= most {
            return share;
        }
    }
}

/// CPU seconds, user and system, that a process has used.
pub fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 of proc(5); a tick is a hundredth of a second on Linux.
    let ticks = |field: usize| -> f64 {
        after_name.split_whitespace().nth(field).and_then(|n| n.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// Resident memory of a process, in MiB.
pub fn rss_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Which machine and which programs these are.
pub async fn facts(db: &Database, service: &Value) -> crate::Result<Value> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let client = db.client().await?;
    let mut settings = serde_json::Map::new();
    for name in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await?;
        settings.insert(name.to_owned(), json!(row.get::<_, String>(0)));
    }
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": after(&read("/proc/cpuinfo"), "model name"),
        "memory": after(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
        "postgres": settings,
        "strandline": service,
    }))
}
