//! Moves of leaders, which rdkafka's admin client can't ask for: two requests of Kafka's own
//! protocol. The order of the replicas is changed, and then the first one is elected.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::services;

const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
const TIMEOUT_MS: i32 = 10_000;

/// Makes `leader` the leader of these partitions of a topic.
///
/// # Errors
/// Where no broker answers or one refuses.
pub async fn move_leaders(topic: &str, partitions: &[i32], leader: i32) -> Result<()> {
    let mut replicas = vec![leader];
    replicas.extend((1..=services::BROKERS as i32).filter(|broker| *broker != leader));
    let reassignment = reassignment(topic, partitions, &replicas);
    let answer = call(ALTER_PARTITION_REASSIGNMENTS, 0, true, &reassignment).await?;
    // Tagged fields of the header, the throttle time, then the error.
    refused("reassign", answer.get(5..7))?;
    let answer = call(ELECT_LEADERS, 1, false, &election(topic, partitions)).await?;
    refused("elect", answer.get(4..6))
}

/// Who leads a partition now.
pub fn leader(topic: &str, partition: i32) -> Option<i32> {
    let client: AdminClient<DefaultClientContext> = services::client().create().expect("a client");
    let metadata = client.inner().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
    let leader = metadata.topics().first()?.partitions().get(partition as usize)?.leader();
    (leader > 0).then_some(leader)
}

fn refused(what: &str, code: Option<&[u8]>) -> Result<()> {
    match code {
        Some([0, 0]) => Ok(()),
        code => Err(Error::other(format!("can't {what}: code {code:?}"))),
    }
}

/// The body in version 0, with its compact arrays: lengths are one more than they are.
fn reassignment(topic: &str, partitions: &[i32], replicas: &[i32]) -> Vec<u8> {
    let mut body = TIMEOUT_MS.to_be_bytes().to_vec();
    body.push(2); // one topic
    body.push(topic.len() as u8 + 1);
    body.extend(topic.as_bytes());
    body.push(partitions.len() as u8 + 1);
    for partition in partitions {
        body.extend(partition.to_be_bytes());
        body.push(replicas.len() as u8 + 1);
        for replica in replicas {
            body.extend(replica.to_be_bytes());
        }
        body.push(0);
    }
    body.extend([0, 0]);
    body
}

/// The body in version 1: the preferred replica, the first one, is to lead.
fn election(topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend((partitions.len() as i32).to_be_bytes());
    for partition in partitions {
        body.extend(partition.to_be_bytes());
    }
    body.extend(TIMEOUT_MS.to_be_bytes());
    body
}

/// Sends a request to the first broker that answers, and gives the answer without its number.
async fn call(key: i16, version: i16, flexible: bool, body: &[u8]) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(5i16.to_be_bytes());
    request.extend(b"chaos");
    if flexible {
        request.push(0);
    }
    request.extend(body);
    let mut last = Error::new(ErrorKind::NotFound, "no broker");
    for broker in services::kafka().split(',') {
        let asked = tokio::time::timeout(Duration::from_secs(15), exchange(broker, &request));
        match asked.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::new(ErrorKind::TimedOut, format!("{broker} does not answer")),
        }
    }
    Err(last)
}

async fn exchange(broker: &str, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(&(request.len() as i32).to_be_bytes()).await?;
    stream.write_all(request).await?;
    let length = stream.read_i32().await?;
    let mut answer = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut answer).await?;
    Ok(answer.split_off(4.min(answer.len())))
}
