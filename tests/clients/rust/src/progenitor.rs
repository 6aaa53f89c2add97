//! A round trip with the client that progenitor makes of the document in OpenAPI 3.0.3.
//!
//! Usage: progenitor URL DAY, where DAY is a date of the topic `flights`.
//! `STRANDLINE_TOKEN` is sent if it is set.

use std::error::Error;

use chrono::{DateTime, Days, NaiveDate, Utc};
use futures_util::TryStreamExt;
use uuid::Uuid;

#[allow(clippy::all, reason = "generated")]
mod client {
    progenitor::generate_api!(spec = "../rust/strandline-3.0.json", interface = Builder);
}

use client::{Client, types};

type Done = Result<(), Box<dyn Error>>;
type Refused<T> = Result<T, client::Error<client::ByteStream>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(day)) = (arguments.next(), arguments.next()) else {
        return Err("usage: progenitor URL DAY".into());
    };
    let mut headers = reqwest::header::HeaderMap::new();
    if let Ok(token) = std::env::var("STRANDLINE_TOKEN") {
        headers.insert(reqwest::header::AUTHORIZATION, format!("Bearer {token}").parse()?);
    }
    let http = reqwest::Client::builder().default_headers(headers).build()?;
    let api = Client::new_with_client(&url, http);
    let start = day.parse::<NaiveDate>()?.and_time(Default::default()).and_utc();
    let end = start + Days::new(1);
    look_at_snapshot(&api, start, end).await?;
    be_refused(&api, start, end).await
}

fn request(
    topic: &str,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<types::SnapshotRequest, Box<dyn Error>> {
    let builder = types::SnapshotRequest::builder();
    let builder = builder.topic(topic).window_start(start).window_end(end);
    let label = types::SnapshotRequestLabelsValue::try_from("progenitor")?;
    let labels = std::collections::HashMap::from([("client".to_owned(), label)]);
    Ok(builder.labels(labels).try_into()?)
}

async fn look_at_snapshot(api: &Client, start: DateTime<Utc>, end: DateTime<Utc>) -> Done {
    let asked = api.create_snapshot().body(request("flights", start, end)?).send().await?;
    assert_eq!(asked.status(), 202);
    let id = asked.id;
    let snapshot = api.get_snapshot().id(id).wait(60).send().await?;
    assert_eq!(snapshot.state, types::State::Succeeded);
    let records = snapshot.result.as_ref().ok_or("no result")?.records;
    assert!(records > 0);

    let label = types::ListSnapshotsLabelItem::try_from("client:progenitor")?;
    let page = api.list_snapshots().label(vec![label]).send().await?;
    assert!(page.items.iter().map(|item| item.id).eq([id]));
    let partitions = api.list_snapshot_partitions().id(id).send().await?;
    assert_eq!(partitions.items.iter().map(|item| item.records).sum::<i64>(), records);
    let files = api.list_snapshot_files().id(id).send().await?;
    assert_eq!(files.items.iter().map(|file| file.records_in_window).sum::<i64>(), records);

    let topics = api.list_topics().send().await?;
    assert!(topics.items.iter().any(|topic| topic.topic == "flights"));
    let coverage = api.get_topic_coverage().topic("flights").from(start).to(end).send().await?;
    assert!(coverage.complete);
    Ok(())
}

async fn be_refused(api: &Client, start: DateTime<Utc>, end: DateTime<Utc>) -> Done {
    let empty = request("flights", start, start)?;
    let problem = refusal(api.create_snapshot().body(empty).send().await).await?;
    assert_eq!(problem.code, "WINDOW_INVALID");
    let unknown = Uuid::parse_str("00000000-0000-4000-8000-000000000000")?;
    let problem = refusal(api.get_snapshot().id(unknown).send().await).await?;
    assert_eq!(problem.code, "NOT_FOUND");
    let missing = request("not-there", start, end)?;
    let failed = api.create_snapshot().wait(60).body(missing).send().await?;
    assert_eq!(failed.state, types::State::Failed);
    let problem = refusal(api.get_snapshot_result().id(failed.id).send().await).await?;
    assert_eq!(problem.error.ok_or("no error")?.code, "TOPIC_NOT_FOUND");
    Ok(())
}

/// The problem document, which progenitor gives as bytes: it takes `application/json` alone for
/// JSON.
async fn refusal<T>(answer: Refused<T>) -> Result<types::Problem, Box<dyn Error>> {
    match answer {
        Err(client::Error::ErrorResponse(problem)) => {
            let chunks: Vec<_> = problem.into_inner_stream().try_collect().await?;
            Ok(serde_json::from_slice(&chunks.concat())?)
        }
        Err(other) => Err(other.into()),
        Ok(_) => Err("it was not refused".into()),
    }
}
