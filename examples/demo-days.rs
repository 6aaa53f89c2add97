//! Takes one snapshot a day over HTTP and prints what came of it, as a table.
//!
//! ```sh
//! cargo run --example demo-days -- --url http://127.0.0.1:8080 --topic flights \
//!   --from 2013-01-01 --days 32
//! ```
//!
//! It does what a scheduler would do: one POST a window, then wait for each. Running
//! it again asks for the same windows, which are the same snapshots.
#![allow(clippy::print_stdout, reason = "a command-line program reports on standard output")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use jiff::ToSpan;
use jiff::civil::Date;
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Takes one snapshot a day over HTTP and prints what came of it, as a table
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where Strandline listens
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Topic to take snapshots of
    #[arg(long)]
    topic: String,
    /// First day, in UTC
    #[arg(long)]
    from: Date,
    /// Number of days
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    days: u16,
    /// Fail unless the records sum to this
    #[arg(long)]
    expect_records: Option<u64>,
    /// Fail unless the first day has so many records
    #[arg(long)]
    expect_first: Option<u64>,
    /// Fail unless the last day has so many records
    #[arg(long)]
    expect_last: Option<u64>,
    /// File to write, with the first snapshot's id and where the Parquet files are
    #[arg(long)]
    summary: Option<PathBuf>,
    /// Seconds after which to give up
    #[arg(long, default_value_t = 600)]
    timeout_seconds: u64,
}

/// What this program reads of a snapshot document.
#[derive(Deserialize)]
struct Snapshot {
    id: String,
    state: String,
    completeness: Option<String>,
    result: Option<Counts>,
    error: Option<Failure>,
}

#[derive(Deserialize, Default)]
struct Counts {
    records: u64,
    files: u64,
    lost_offsets: u64,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Files {
    items: Vec<StoredFile>,
}

#[derive(Deserialize)]
struct StoredFile {
    url: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is installed already")?;
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
    let give_up_at = Instant::now() + Duration::from_secs(arguments.timeout_seconds);

    let mut days = Vec::new();
    for number in 0..i64::from(arguments.days) {
        let day = arguments.from.checked_add(number.days())?;
        days.push((day, ask(&client, arguments, day).await?));
    }
    for (_, snapshot) in &mut days {
        *snapshot = wait(&client, &arguments.url, snapshot, give_up_at).await?;
    }

    print_table(&days)?;
    check(arguments, &days)?;
    write_summary(&client, arguments, &days).await
}

/// Asks for the snapshot of one UTC day; the answer comes at once.
async fn ask(client: &Client, arguments: &Arguments, day: Date) -> Result<Snapshot> {
    let window = json!({
        "topic": arguments.topic,
        "window_start": format!("{day}T00:00:00Z"),
        "window_end": format!("{}T00:00:00Z", day.tomorrow()?),
    });
    let url = format!("{}/v1/snapshots", arguments.url);
    answer(client.post(url).json(&window)).await
}

async fn wait(
    client: &Client,
    url: &str,
    asked: &Snapshot,
    give_up_at: Instant,
) -> Result<Snapshot> {
    let url = format!("{url}/v1/snapshots/{}?wait=20", asked.id);
    loop {
        let asked_at = Instant::now();
        let snapshot: Snapshot = answer(client.get(&url)).await?;
        if !matches!(snapshot.state.as_str(), "queued" | "running") {
            return Ok(snapshot);
        }
        if Instant::now() > give_up_at {
            let Snapshot { id, state, .. } = snapshot;
            return Err(format!("snapshot {id} is still {state}, giving up").into());
        }
        if asked_at.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_secs(1)).await; // the wait was not honoured
        }
    }
}

/// Sends a request; an error of the service is told in its own words.
async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    let response = request.send().await?;
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await?;
    if !status.is_success() {
        return Err(format!("{url} answered {status}: {body}").into());
    }
    serde_json::from_str(&body).map_err(|e| format!("{url}: {e} in {body}").into())
}

fn print_table(days: &[(Date, Snapshot)]) -> Result<()> {
    println!(
        "{:<24}  {:<9}  {:<12}  {:>9}  {:>5}",
        "window", "state", "completeness", "records", "files"
    );
    let mut sum = Counts::default();
    for (day, snapshot) in days {
        let window = format!("{day} to {}", day.tomorrow()?);
        let completeness = snapshot.completeness.as_deref().unwrap_or("-");
        let counts = snapshot.counts();
        let state = &snapshot.state;
        println!(
            "{window:<24}  {state:<9}  {completeness:<12}  {:>9}  {:>5}",
            thousands(counts.records),
            counts.files
        );
        sum.records += counts.records;
        sum.files += counts.files;
    }
    let number = format!("{} windows", days.len());
    println!(
        "{number:<24}  {:<9}  {:<12}  {:>9}  {:>5}",
        "",
        "",
        thousands(sum.records),
        sum.files
    );
    Ok(())
}

fn check(arguments: &Arguments, days: &[(Date, Snapshot)]) -> Result<()> {
    for (day, snapshot) in days {
        let id = &snapshot.id;
        if let Some(Failure { code, message }) = &snapshot.error {
            return Err(format!("{day} failed, snapshot {id}: {code}, {message}").into());
        }
        if snapshot.state != "succeeded" {
            return Err(format!("{day} is {}, snapshot {id}", snapshot.state).into());
        }
        if snapshot.counts().lost_offsets > 0 {
            return Err(format!("{day} has lost offsets, snapshot {id}").into());
        }
    }
    let records = |days: &[(Date, Snapshot)]| days.iter().map(|(_, s)| s.counts().records).sum();
    let expectations: [(&str, u64, Option<u64>); 3] = [
        ("the sum", records(days), arguments.expect_records),
        ("the first day", records(&days[..1]), arguments.expect_first),
        ("the last day", records(&days[days.len() - 1..]), arguments.expect_last),
    ];
    for (what, found, expected) in expectations {
        if let Some(expected) = expected.filter(|&expected| expected != found) {
            return Err(format!("{what} is {found} records, should be {expected}").into());
        }
    }
    Ok(())
}

/// Writes what a script needs to go on: `snapshot=ID` (of the first day) and, for
/// local files, `files=GLOB`, a pattern that matches all files of these days.
async fn write_summary(
    client: &Client,
    arguments: &Arguments,
    days: &[(Date, Snapshot)],
) -> Result<()> {
    let Some(summary) = &arguments.summary else {
        return Ok(());
    };
    let mut folder: Option<PathBuf> = None;
    for (_, snapshot) in days {
        let page = format!("{}/v1/snapshots/{}/files?limit=200", arguments.url, snapshot.id);
        let files: Files = answer(client.get(page)).await?;
        for file in files.items {
            let Ok(path) = Url::parse(&file.url)?.to_file_path() else {
                continue; // in an object store
            };
            folder = Some(common_folder(folder.as_deref(), &path));
        }
    }
    let mut text = String::new();
    if let Some((_, snapshot)) = days.first() {
        text += &format!("snapshot={}\n", snapshot.id);
    }
    if let Some(folder) = folder {
        text += &format!("files={}\n", folder.join("**/*.parquet").display());
    }
    std::fs::write(summary, text).map_err(|e| format!("{}: {e}", summary.display()).into())
}

/// The deepest folder that holds both.
fn common_folder(folder: Option<&Path>, file: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(file);
    let Some(folder) = folder else {
        return parent.to_owned();
    };
    let both = folder.components().zip(parent.components());
    both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// 27004 as `27,004`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Snapshot {
    fn counts(&self) -> &Counts {
        const NONE: Counts = Counts { records: 0, files: 0, lost_offsets: 0 };
        self.result.as_ref().unwrap_or(&NONE)
    }
}
