//! A round trip with the client of openapi-generator (`-g rust`).
//!
//! Usage: generator URL DAY, where DAY is a date of the topic `flights`.
//! `STRANDLINE_TOKEN` is sent if it is set.

use std::error::Error;

use chrono::{DateTime, Days, FixedOffset};
use strandline_client::apis::snapshots_api::{
    create_snapshot, get_snapshot, get_snapshot_result, list_snapshot_files,
    list_snapshot_partitions, list_snapshots,
};
use strandline_client::apis::topics_api::{get_topic_coverage, list_topics};
use strandline_client::apis::{self, configuration::Configuration};
use strandline_client::models::{Problem, SnapshotRequest, State};

type Done = Result<(), Box<dyn Error>>;
type Time = DateTime<FixedOffset>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(day)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generator URL DAY".into());
    };
    let api = Configuration {
        base_path: url,
        bearer_access_token: std::env::var("STRANDLINE_TOKEN").ok(),
        ..Configuration::default()
    };
    let start = format!("{day}T00:00:00Z").parse::<Time>()?;
    let window = (start, start + Days::new(1));
    look_at_snapshot(&api, window).await?;
    be_refused(&api, window).await
}

fn request(topic: &str, (start, end): (Time, Time)) -> SnapshotRequest {
    SnapshotRequest::new(topic.to_owned(), start, end)
}

async fn look_at_snapshot(api: &Configuration, window: (Time, Time)) -> Done {
    let mut wanted = request("flights", window);
    wanted.labels = Some([("client".to_owned(), "rust".to_owned())].into());
    let asked = create_snapshot(api, wanted, None, None, None, None).await?;
    let id = asked.id.to_string();
    let snapshot = get_snapshot(api, &id, Some(60), None, None).await?;
    assert_eq!(snapshot.state, State::Succeeded);
    let records = snapshot.result.ok_or("no result")?.records;
    assert!(records > 0);

    let labels = Some(vec!["client:rust".to_owned()]);
    let page = list_snapshots(api, None, None, None, None, None, None, labels, None, None).await?;
    assert!(page.items.iter().map(|item| item.id).eq([asked.id]));
    let partitions = list_snapshot_partitions(api, &id, None, None).await?;
    assert_eq!(partitions.items.iter().map(|item| item.records).sum::<i64>(), records);
    let files = list_snapshot_files(api, &id, None, None).await?;
    assert_eq!(files.items.iter().map(|file| file.records_in_window).sum::<i64>(), records);

    let topics = list_topics(api, None, None).await?;
    assert!(topics.items.iter().any(|topic| topic.topic == "flights"));
    let coverage = get_topic_coverage(api, "flights", window.0, window.1, None).await?;
    assert!(coverage.complete);
    Ok(())
}

async fn be_refused(api: &Configuration, window: (Time, Time)) -> Done {
    let empty = request("flights", (window.0, window.0));
    let problem = refusal(create_snapshot(api, empty, None, None, None, None).await)?;
    assert_eq!((problem.status, problem.code.as_str()), (422, "WINDOW_INVALID"));
    let unknown = "00000000-0000-4000-8000-000000000000";
    let problem = refusal(get_snapshot(api, unknown, None, None, None).await)?;
    assert_eq!((problem.status, problem.code.as_str()), (404, "NOT_FOUND"));
    let missing = request("not-there", window);
    let failed = create_snapshot(api, missing, Some(60), None, None, None).await?;
    assert_eq!(failed.state, State::Failed);
    let id = failed.id.to_string();
    let problem = refusal(get_snapshot_result(api, &id, None, None, None).await)?;
    assert_eq!(problem.error.ok_or("no error")?.code, "TOPIC_NOT_FOUND");
    Ok(())
}

/// The problem document. Of the `entity`, which is an enum by status, serde takes the first one
/// that fits, whatever the status is.
fn refusal<T, E>(answer: Result<T, apis::Error<E>>) -> Result<Problem, Box<dyn Error>> {
    match answer {
        Err(apis::Error::ResponseError(refused)) => {
            let problem: Problem = serde_json::from_str(&refused.content)?;
            assert_eq!(refused.status.as_u16(), u16::try_from(problem.status)?);
            Ok(problem)
        }
        Err(_) => Err("there is no answer".into()),
        Ok(_) => Err("it was not refused".into()),
    }
}
