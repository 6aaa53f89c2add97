//! How fast the API and the claims are with a million ended snapshots and ten thousand queued
//! ones, and what a thousand who wait cost. `scripts/bench-api.sh` starts what this needs.
//!
//! First the real service makes some snapshots of a real topic (`fill`), of which `fill.sql`
//! makes a million. Then requests are sent at a constant rate (`load`, `cases`), tasks are
//! claimed by the service's own statement (`claims`), a thousand clients wait (`waiters`), and
//! all of it goes on at once (`mixed` in `cases`). `report` prints and writes the numbers.
#![allow(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![allow(missing_docs, reason = "nobody imports a benchmark")]

mod cases;
mod claims;
mod fill;
mod load;
mod machine;
mod report;
mod service;
mod throughput;
mod waiters;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use strandline::db::{Database, PoolLimits};

use crate::report::Report;
use crate::service::Service;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where things are, and how much is done.
pub struct Settings {
    /// The program to measure.
    pub program: String,
    /// Folder for logs and files of this run.
    pub state: String,
    /// Where the numbers go.
    pub output: String,
    pub database_url: String,
    pub brokers: String,
    /// Where the service is to listen.
    pub listen: String,
    /// Ended snapshots.
    pub snapshots: u64,
    /// Queued ones.
    pub queued: u64,
    pub requests_per_second: u32,
    pub round: Duration,
    pub rounds: usize,
    /// How many wait at once.
    pub waiters: usize,
    /// How long to wait for others to leave the machine alone, before each round.
    pub quiet: Duration,
    /// Of the cases, those whose names hold this; empty for all and everything else.
    pub only: String,
}

impl Settings {
    fn read() -> Result<Self> {
        let text = |name: &str| {
            std::env::var(name).map_err(|_| format!("{name} is not set: use scripts/bench-api.sh"))
        };
        let number = |name: &str, default: u64| -> Result<u64> {
            match std::env::var(name) {
                Ok(text) if !text.is_empty() => Ok(text
                    .parse()
                    .map_err(|_| format!("{name} is {text:?}, should be a number"))?),
                _ => Ok(default),
            }
        };
        Ok(Settings {
            program: text("BENCH_API_PROGRAM")?,
            state: text("BENCH_API_STATE")?,
            output: text("BENCH_API_OUTPUT")?,
            database_url: text("BENCH_API_DATABASE_URL")?,
            brokers: text("BENCH_API_BROKERS")?,
            listen: text("BENCH_API_LISTEN")?,
            snapshots: number("BENCH_API_SNAPSHOTS", 1_000_000)?,
            queued: number("BENCH_API_QUEUED", 10_000)?,
            requests_per_second: u32::try_from(number("BENCH_API_RATE", 500)?)?,
            round: Duration::from_secs(number("BENCH_API_SECONDS", 6)?),
            rounds: usize::try_from(number("BENCH_API_ROUNDS", 3)?)?,
            waiters: usize::try_from(number("BENCH_API_WAITERS", 1000)?)?,
            quiet: Duration::from_secs(number("BENCH_API_QUIET_SECONDS", 20)?),
            only: std::env::var("BENCH_API_ONLY").unwrap_or_default(),
        })
    }
}

async fn run() -> Result<u64> {
    let settings = Settings::read()?;
    let db = Database::connect(&settings.database_url, PoolLimits::default())?;
    let mut report = Report::default();
    fill::fill(&settings, &db).await?;

    let service = Service::start(&settings, 0).await?;
    report.set("machine", machine::facts(&db, &fill::version(&service.url).await?).await?);
    report.set("settings", fill::counts(&settings, &db).await?);
    let sample = cases::Sample::take(&db).await?;
    let mut service = cases::measure(&settings, &db, service, &sample, &mut report).await?;
    if settings.only.is_empty() {
        throughput::measure(&settings, &db, &service, &sample, &mut report).await?;
        waiters::measure(&settings, &db, &service, &sample, &mut report).await?;
    }
    if settings.only.is_empty() || "claim".contains(&settings.only) {
        claims::measure(&settings, &db, &mut report).await?;
        fill::queue(&settings, &db, &service.url).await?;
    }
    if settings.only.is_empty() || "mixed".contains(&settings.only) {
        service.stop()?;
        service = Service::start(&settings, 2).await?;
        cases::mixed(&settings, &db, &service, &sample, &mut report).await?;
    }
    service.stop()?;
    Ok(report.finish(&settings.output)?)
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread besides this: the service is to have the machine.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Postgres hides what it says in the source.
            let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            println!("error: {error}{why}");
            ExitCode::FAILURE
        }
    }
}
