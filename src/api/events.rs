//! A snapshot's events, one JSON object a line, straight from the files.

use std::pin::Pin;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::SendTimeoutError;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Caller;
use super::params::{Params, snapshot_id};
use super::problem::{Problem, ProblemCode};
use super::snapshots::not_found;
use super::{ApiState, MAX_STREAMS};
use crate::data_file::{self, DataFileError, OwnedEvent};
use crate::db::{self, Database, DbError, Page, Place, SegmentRow};
use crate::metrics;
use crate::snapshot::Timestamp;
use crate::store::Store;

/// How many segments are looked up at once.
const SEGMENTS_A_PAGE: i64 = 500;

/// What leaves together, if it is ready: so much, and what the last line has above it.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a stream broke off. The connection is cut, so that the caller notices.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    #[error("an event can't be written as json")]
    Json(#[from] serde_json::Error),
    #[error("the caller has read nothing for {} s", .0.as_secs())]
    Stalled(Duration),
}

/// Stream the events of a snapshot
///
/// Streams a snapshot's events, ordered by partition and offset, one JSON object a line
/// (`Event`): what is committed so far.
#[utoipa::path(
    tag = "snapshots",
    operation_id = "streamSnapshotEvents",
    responses(
        (status = 200, description = "Events, one a line", body = String, content_type = "application/x-ndjson"),
    ),
)]
#[get("/v1/snapshots/{id}/events")]
pub(super) async fn stream_snapshot_events(
    state: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["partition", "limit"])?;
    let partition = params.number("partition", 0, i64::from(i32::MAX))?;
    let partition = partition.and_then(|number| i32::try_from(number).ok());
    let limit = params.at_least("limit", 1)?.unwrap_or(i64::MAX);
    let id = snapshot_id(&id)?;
    caller.check_snapshot(&state, id).await?;
    if db::get_snapshot(&state.db, id).await?.is_none() {
        return Err(not_found(id));
    }
    let permit = state.streams.clone().try_acquire_owned().map_err(|_| {
        metrics::refused("streams");
        let detail = format!("{MAX_STREAMS} event streams are open already; ask again later");
        Problem::new(ProblemCode::RateLimited, detail)
    })?;
    let lines = lines(state.db.clone(), state.store.clone(), id, partition)
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .inspect_err(
            move |error| tracing::error!(%error, snapshot_id = %id, "a stream of events broke off"),
        );
    let stream = at_the_readers_pace(chunked(lines), permit, state.stream_stall);
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream))
}

type Lines = Pin<Box<dyn Stream<Item = Result<Vec<u8>, StreamError>>>>;

fn lines(db: Database, store: Store, id: Uuid, partition: Option<i32>) -> Lines {
    let events = segments(db, id, partition).and_then(move |segment| {
        let reader = store.reader(&segment.object_name, Some(segment.bytes));
        let (partition, range) = (segment.part.partition, segment.part.range);
        async move { Ok(data_file::events(reader, partition, range).map_err(StreamError::from)) }
    });
    Box::pin(events.try_flatten().and_then(|event| async move { line(&event) }))
}

/// Where the events are, looked up page by page.
fn segments(
    db: Database,
    id: Uuid,
    partition: Option<i32>,
) -> impl Stream<Item = Result<SegmentRow, StreamError>> {
    let page = move |after: Option<Option<Place>>| {
        let db = db.clone();
        async move {
            let Some(after) = after else { return Ok::<_, StreamError>(None) };
            let page = Page { after, limit: SEGMENTS_A_PAGE };
            let rows = db::list_segments(&db, id, partition, page).await?;
            let last = rows.last().map(|row| (row.part.partition, row.part.range.start()));
            Ok(Some((stream::iter(rows.into_iter().map(Ok)), last.map(Some))))
        }
    };
    stream::try_unfold(Some(None), page).try_flatten()
}

/// Joins lines that are ready, so that not every event is a write of its own.
fn chunked(
    lines: impl Stream<Item = Result<Vec<u8>, StreamError>> + 'static,
) -> impl Stream<Item = Result<Bytes, StreamError>> + 'static {
    stream::try_unfold(Box::pin(lines.fuse()), |mut lines| async move {
        let Some(mut chunk) = lines.try_next().await? else { return Ok(None) };
        while chunk.len() < CHUNK_BYTES {
            match lines.try_next().now_or_never() {
                Some(next) => match next? {
                    Some(line) => chunk.extend_from_slice(&line),
                    None => break,
                },
                None => break,
            }
        }
        Ok(Some((Bytes::from(chunk), lines)))
    })
}

/// Hands out chunks as they are read, and gives the permit back when the stream has ended, its
/// reader has gone, or has read nothing for so long. Nobody asks for chunks then, so that only
/// a task of its own can notice.
fn at_the_readers_pace(
    chunks: impl Stream<Item = Result<Bytes, StreamError>> + 'static,
    permit: OwnedSemaphorePermit,
    stall: Duration,
) -> impl Stream<Item = Result<Bytes, StreamError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let produce = async move {
        let _held = (permit, metrics::Ongoing::stream());
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            match sender.send_timeout(chunk, stall).await {
                Ok(()) => {}
                Err(SendTimeoutError::Closed(_)) => return Ok(()),
                Err(SendTimeoutError::Timeout(_)) => {
                    tracing::info!(
                        stall_seconds = stall.as_secs(),
                        "a reader of events has stalled"
                    );
                    return Err(StreamError::Stalled(stall));
                }
            }
        }
        Ok(())
    };
    let producing = actix_web::rt::spawn(produce);
    // The end of the channel may be the end of the events, or of our patience.
    stream::try_unfold((receiver, Some(producing)), |(mut receiver, mut producing)| async move {
        if let Some(chunk) = receiver.recv().await {
            return Ok(Some((chunk?, (receiver, producing))));
        }
        match producing.take() {
            Some(producing) => producing.await.unwrap_or(Ok(())).map(|()| None),
            None => Ok(None),
        }
    })
}

/// One event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventLine<'a> {
    /// Number of the partition.
    partition: i32,
    /// Offset in the partition.
    offset: i64,
    /// The event's own timestamp.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    timestamp: Option<Timestamp>,
    /// UTF-8 text as a string, other bytes as `{"base64": "…"}`, null where Kafka has null.
    // Of any type: generators make little good of a union.
    #[schema(value_type = serde_json::Value)]
    key: Option<Text<'a>>,
    /// As `key`; null for a tombstone.
    #[schema(value_type = serde_json::Value)]
    value: Option<Text<'a>>,
    /// In order, duplicates kept.
    headers: Vec<HeaderLine<'a>>,
}

/// One header.
#[derive(Serialize, ToSchema)]
#[schema(as = EventHeader)]
struct HeaderLine<'a> {
    /// The key.
    key: &'a str,
    /// As an event's `value`.
    #[schema(value_type = serde_json::Value)]
    value: Option<Text<'a>>,
}

/// Bytes that are text if they can be.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    /// UTF-8.
    Utf8(&'a str),
    /// Anything else.
    Binary {
        /// The bytes.
        base64: String,
    },
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(text),
            Err(_) => Text::Binary { base64: BASE64.encode(bytes) },
        }
    }
}

fn line(event: &OwnedEvent) -> Result<Vec<u8>, StreamError> {
    let headers = event
        .headers
        .iter()
        .map(|(key, value)| HeaderLine { key, value: value.as_deref().map(Text::new) });
    let mut line = serde_json::to_vec(&EventLine {
        partition: event.partition,
        offset: event.offset,
        timestamp: event.timestamp,
        key: event.key.as_deref().map(Text::new),
        value: event.value.as_deref().map(Text::new),
        headers: headers.collect(),
    })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(lines: impl Stream<Item = Vec<u8>> + 'static) -> Vec<usize> {
        let chunks = chunked(lines.map(Ok)).map_ok(|chunk| chunk.len());
        chunks.try_collect().await.expect("lines")
    }

    #[tokio::test]
    async fn lines_that_are_ready_leave_together_as_far_as_a_chunk_goes() {
        let lines = || stream::iter(vec![vec![b'x'; 1000]; 140]);
        assert_eq!(sizes(lines()).await, [66_000, 66_000, 8_000]);
        let large = stream::iter([vec![b'x'; 2 * CHUNK_BYTES], vec![b'x']]);
        assert_eq!(sizes(large).await, [2 * CHUNK_BYTES, 1]);
        let slow = lines().then(async |line| {
            tokio::task::yield_now().await;
            line
        });
        assert_eq!(sizes(slow).await, [1000; 140], "none is waited for");
    }
}
