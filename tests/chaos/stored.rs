//! What is stored: the rows of PostgreSQL and the files that they name, against the oracle.

use std::collections::{BTreeMap, BTreeSet};

use crate::files;
use crate::objects::Objects;
use crate::oracle::{Kept, Logs};

/// A stretch of offsets that is stored.
#[derive(Clone, Debug)]
pub struct Segment {
    pub start: i64,
    pub end: i64,
    pub file: Option<String>,
}

/// By topic, partition and whether only the offsets are recorded; in order.
pub type Segments = BTreeMap<(String, i32, bool), Vec<Segment>>;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// A file, as it is recorded.
#[derive(Debug)]
struct Recorded {
    topic: String,
    name: String,
    records: i64,
    bytes: i64,
    sha256: String,
}

/// All segments; where two overlap, that is a difference.
pub async fn segments(client: &tokio_postgres::Client, differ: &mut Vec<String>) -> Segments {
    let sql =
        "SELECT t.name, g.partition, g.capture, lower(g.offsets), upper(g.offsets), f.object_name
        FROM segments g JOIN topics t ON t.id = g.topic LEFT JOIN files f ON f.id = g.file_id
        ORDER BY 1, 2, 3, 4";
    let mut segments = Segments::new();
    for row in client.query(sql, &[]).await.expect("the segments") {
        let place = (row.get(0), row.get(1), row.get::<_, String>(2) == "offsets");
        let segment = Segment { start: row.get(3), end: row.get(4), file: row.get(5) };
        let all: &mut Vec<Segment> = segments.entry(place.clone()).or_default();
        if all.last().is_some_and(|last| last.end > segment.start) {
            differ.push(format!("{place:?}: {segment:?} is stored twice"));
        }
        all.push(segment);
    }
    segments
}

/// Every file that is named is there, is what was recorded, and holds the oracle's events of
/// its segments: all of them, nothing else, byte by byte. And no event is anywhere else.
pub async fn check_files(
    client: &tokio_postgres::Client,
    objects: &Objects,
    segments: &Segments,
    logs: &Logs,
    differ: &mut Vec<String>,
) -> Looked {
    let mut looked = Looked::default();
    let mut expected = expected_rows(segments, logs, differ);
    for file in recorded(client).await {
        looked.files += 1;
        let content = match objects.read(&file.name).await {
            Ok(content) => content,
            Err(error) => {
                differ.push(format!("{}: {error}", file.name));
                continue;
            }
        };
        looked.bytes += content.len() as u64;
        if content.len() as i64 != file.bytes || files::sha256(&content) != file.sha256 {
            differ.push(format!("{} is not what was recorded: {file:?}", file.name));
        }
        let expected = expected.remove(&file.name).unwrap_or_default();
        match files::rows(content) {
            Ok(rows) => {
                looked.rows += rows.len() as u64;
                compare(&file, &rows, &expected, logs, differ);
            }
            Err(error) => differ.push(format!("{}: {error}", file.name)),
        }
    }
    looked
}

async fn recorded(client: &tokio_postgres::Client) -> Vec<Recorded> {
    let sql = "SELECT t.name, f.object_name, f.records, f.bytes, encode(f.sha256, 'hex')
        FROM files f JOIN topics t ON t.id = f.topic ORDER BY 2";
    let rows = client.query(sql, &[]).await.expect("the files");
    rows.iter()
        .map(|row| Recorded {
            topic: row.get(0),
            name: row.get(1),
            records: row.get(2),
            bytes: row.get(3),
            sha256: row.get(4),
        })
        .collect()
}

/// Where the rows of each file are, in order.
fn expected_rows(
    segments: &Segments,
    logs: &Logs,
    differ: &mut Vec<String>,
) -> BTreeMap<String, Vec<(i32, i64)>> {
    let mut expected: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
    for ((topic, partition, offsets_only), all) in segments {
        let log = &logs[&(topic.clone(), *partition)];
        for segment in all.iter().filter(|_| !offsets_only) {
            let events = log.committed_in(segment.start, segment.end);
            let places: Vec<(i32, i64)> = events.map(|(offset, _)| (*partition, offset)).collect();
            match &segment.file {
                Some(file) => expected.entry(file.clone()).or_default().extend(places),
                None if places.is_empty() => {}
                None => differ.push(format!(
                    "{topic} {partition}: {segment:?} is called empty and has {} events",
                    places.len()
                )),
            }
        }
    }
    expected
}

fn compare(
    file: &Recorded,
    rows: &[files::Row],
    expected: &[(i32, i64)],
    logs: &Logs,
    differ: &mut Vec<String>,
) {
    let places: Vec<(i32, i64)> = rows.iter().map(|row| (row.partition, row.offset)).collect();
    if places != expected || rows.len() as i64 != file.records {
        let (there, wanted): (BTreeSet<_>, BTreeSet<_>) =
            (places.iter().collect(), expected.iter().collect());
        let missing: Vec<_> = wanted.difference(&there).take(5).collect();
        let extra: Vec<_> = there.difference(&wanted).take(5).collect();
        differ.push(format!(
            "{} has {} rows, {} expected, missing {missing:?} …, too many {extra:?} …: {file:?}",
            file.name,
            rows.len(),
            expected.len(),
        ));
    }
    for row in rows {
        let log = logs.get(&(file.topic.clone(), row.partition));
        let kept: Option<&Kept> = log.and_then(|log| log.committed.get(&row.offset));
        if kept.is_none_or(|kept| kept.fingerprint != row.event.fingerprint()) {
            differ.push(format!("{} holds what Kafka never had: {row:?}", file.name));
        }
    }
}

/// What of a range is covered, and how many events that is.
pub fn covered(segments: Option<&Vec<Segment>>, start: i64, end: i64) -> Vec<(i64, i64)> {
    let cut = |segment: &Segment| (segment.start.max(start), segment.end.min(end));
    segments.into_iter().flatten().map(cut).filter(|(start, end)| start < end).collect()
}

/// Ranges in order, with those that touch made one.
pub fn joined(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
