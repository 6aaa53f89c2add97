//! The invariants, looked at when all faults are over: what every snapshot tells of itself is
//! what the oracle and the files say.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fleet::{Fleet, time};
use crate::oracle::{Log, Logs};
use crate::requests::Asked;
use crate::stored::{Segments, covered, joined};

/// A snapshot and its partitions.
pub struct Shown {
    pub asked: Asked,
    pub snapshot: Value,
    pub partitions: Vec<Value>,
    pub files: Vec<Value>,
}

pub async fn show(fleet: &Fleet, asked: Asked, id: &str) -> Shown {
    let path = format!("/v1/snapshots/{id}");
    Shown {
        asked,
        snapshot: fleet.get(&path).await,
        partitions: fleet.list(&format!("{path}/partitions")).await,
        files: fleet.list(&format!("{path}/files")).await,
    }
}

/// The largest timestamp up to each offset: the first place that is not below a time is that
/// time's boundary.
pub struct Boundaries(BTreeMap<(String, i32), Vec<i64>>);

impl Boundaries {
    pub fn of(logs: &Logs) -> Self {
        let rising = |log: &Log| {
            let mut largest = i64::MIN;
            (0..log.end)
                .map(|offset| {
                    // A control record is stamped by the wall clock, later than all windows.
                    largest = largest.max(log.all.get(&offset).copied().unwrap_or(i64::MAX));
                    largest
                })
                .collect()
        };
        Boundaries(logs.iter().map(|(place, log)| (place.clone(), rising(log))).collect())
    }

    /// The first offset whose record is not older; the end of the log if there is none.
    fn at(&self, topic: &str, partition: i32, time: i64) -> i64 {
        let rising = &self.0[&(topic.to_owned(), partition)];
        rising.partition_point(|largest| *largest < time) as i64
    }
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or(-1)
}

/// What one snapshot tells.
pub fn check_snapshot(
    shown: &Shown,
    logs: &Logs,
    boundaries: &Boundaries,
    segments: &Segments,
    differ: &mut Vec<String>,
) {
    let Shown { asked, snapshot, partitions, .. } = shown;
    let mut say = |what: String| differ.push(format!("{asked:?} {}: {what}", snapshot["id"]));
    if snapshot["state"] != "succeeded" && snapshot["error"]["code"] != "DATA_LOST" {
        return say(format!("it has not succeeded: {snapshot}"));
    }
    let (mut records, mut lost, mut uncertain, mut late) = (0, 0, 0, 0);
    for row in partitions {
        let partition = number(row, "partition") as i32;
        let log = &logs[&(asked.topic.clone(), partition)];
        let (start, end) = (number(row, "start_offset"), number(row, "end_offset"));
        check_range(asked, row, log, boundaries, &mut say);
        let place = (asked.topic.clone(), partition, asked.offsets_only);
        let stored = covered(segments.get(&place), start, end);
        let stored_offsets: i64 = stored.iter().map(|(start, end)| end - start).sum();
        let mut events = Vec::new();
        for (start, end) in stored.iter().filter(|_| !asked.offsets_only) {
            events.extend(log.committed_in(*start, *end).map(|(_, kept)| kept.timestamp));
        }
        let outside =
            events.iter().filter(|at| !(asked.start..asked.end).contains(*at)).count() as i64;
        let expected = [
            ("stored_offsets", stored_offsets),
            ("lost_offsets", end - start - stored_offsets),
            ("records", events.len() as i64),
            ("out_of_window_records", outside),
        ];
        for (name, expected) in expected {
            if number(row, name) != expected {
                say(format!("{name} of {row} should be {expected}"));
            }
        }
        for (name, expected) in
            [("min_timestamp", events.iter().min()), ("max_timestamp", events.iter().max())]
        {
            let expected = expected.map_or(Value::Null, |at| Value::String(time(*at)));
            if row[name] != expected {
                say(format!("{name} of {row} should be {expected}"));
            }
        }
        let there =
            joined(stored).iter().map(|(start, end)| overlap(*start, *end, log.low)).sum::<i64>();
        if overlap(start, end, log.low) != there {
            say(format!("offsets above the low watermark {} are not stored: {row}", log.low));
        }
        records += events.len() as i64;
        lost += number(row, "lost_offsets");
        uncertain += i64::from(row["start_uncertain"] == true);
        late += outside;
    }
    let result = &snapshot["result"];
    let expected = [
        ("records", records),
        ("lost_offsets", lost),
        ("uncertain_partitions", uncertain),
        ("out_of_window_records", late),
    ];
    for (name, expected) in expected {
        if snapshot["state"] == "succeeded" && number(result, name) != expected {
            say(format!("{name} of {result} should be {expected}"));
        }
    }
    check_listing(shown, segments, &mut say);
}

/// How much of a range is at or above the low watermark.
fn overlap(start: i64, end: i64, low: i64) -> i64 {
    (end - start.max(low)).max(0)
}

/// Both ends are what a broker that still has everything would answer. Or, where records were
/// deleted before anyone looked, what one answers that has only the rest: then the start is
/// uncertain, unless an older record is seen just below it.
fn check_range(
    asked: &Asked,
    row: &Value,
    log: &Log,
    boundaries: &Boundaries,
    say: &mut impl FnMut(String),
) {
    let partition = number(row, "partition") as i32;
    let ends = [("start_offset", asked.start), ("end_offset", asked.end)];
    for (name, at) in ends {
        let (found, expected) = (number(row, name), boundaries.at(&asked.topic, partition, at));
        let first_of_rest = (log.low..found).all(|offset| log.is_older(offset, at));
        if found < expected || found > expected && !first_of_rest {
            say(format!("{name} should be {expected}, low watermark {}: {row}", log.low));
        }
        let shown = log.is_older(found - 1, at) || row["start_uncertain"] == true;
        if name == "start_offset" && found > expected && !shown {
            say(format!("events from {expected} on were gone, and it is not said: {row}"));
        }
    }
}

/// The files that are listed hold exactly what is stored, but for what is empty.
fn check_listing(shown: &Shown, segments: &Segments, say: &mut impl FnMut(String)) {
    let mut listed: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let mut in_window = 0;
    for file in &shown.files {
        in_window += number(file, "records_in_window");
        for segment in file["segments"].as_array().into_iter().flatten() {
            let range = (number(segment, "start_offset"), number(segment, "end_offset"));
            listed.entry(number(segment, "partition")).or_default().push(range);
        }
    }
    if shown.snapshot["state"] == "succeeded"
        && in_window != number(&shown.snapshot["result"], "records")
    {
        say(format!("the files hold {in_window} records: {}", shown.snapshot["result"]));
    }
    for row in &shown.partitions {
        let partition = number(row, "partition");
        let place = (shown.asked.topic.clone(), partition as i32, shown.asked.offsets_only);
        let of_files: Vec<_> = segments
            .get(&place)
            .into_iter()
            .flatten()
            .filter(|segment| segment.file.is_some())
            .cloned()
            .collect();
        let (start, end) = (number(row, "start_offset"), number(row, "end_offset"));
        let expected = covered(Some(&of_files), start, end);
        let found = listed.remove(&partition).unwrap_or_default();
        if joined(found.clone()) != joined(expected.clone()) {
            say(format!("partition {partition} lists {found:?}, stored is {expected:?}"));
        }
    }
}

/// Windows that touch in time touch in offsets.
pub fn check_chains(all: &[Shown], differ: &mut Vec<String>) -> u64 {
    let mut links = 0;
    for first in all {
        let next = |shown: &&Shown| {
            shown.asked.topic == first.asked.topic && shown.asked.start == first.asked.end
        };
        for second in all.iter().filter(next) {
            links += 1;
            for (before, after) in first.partitions.iter().zip(&second.partitions) {
                if before["end_offset"] != after["start_offset"] {
                    differ.push(format!(
                        "{:?} and {:?} do not touch: {before} {after}",
                        first.asked, second.asked
                    ));
                }
            }
        }
    }
    links
}

/// What a topic's coverage tells of each partition is a gapless row of what is stored, missing
/// and lost.
pub async fn check_coverage(
    fleet: &Fleet,
    all: &[Shown],
    logs: &Logs,
    segments: &Segments,
    differ: &mut Vec<String>,
) {
    let mut spans: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for shown in all.iter().filter(|shown| !shown.asked.offsets_only) {
        let span = spans.entry(&shown.asked.topic).or_insert((i64::MAX, i64::MIN));
        *span = (span.0.min(shown.asked.start), span.1.max(shown.asked.end));
    }
    for (topic, (from, to)) in spans {
        let path = format!("/v1/topics/{topic}/coverage?from={}&to={}", time(from), time(to));
        let coverage = fleet.get(&path).await;
        for row in coverage["partitions"].as_array().expect("partitions") {
            let partition = number(row, "partition") as i32;
            let ranges = |name: &str| -> Vec<(i64, i64)> {
                let ranges = row[name].as_array().expect("ranges").iter();
                ranges.map(|r| (number(r, "start_offset"), number(r, "end_offset"))).collect()
            };
            let (stored, missing, lost) = (ranges("stored"), ranges("missing"), ranges("lost"));
            let place = (topic.to_owned(), partition, false);
            let (whole, low) = (
                joined([stored.clone(), missing.clone(), lost.clone()].concat()),
                logs[&(topic.to_owned(), partition)].low,
            );
            let sum = |ranges: &[(i64, i64)]| ranges.iter().map(|(s, e)| e - s).sum::<i64>();
            let adds_up = sum(&whole) == sum(&stored) + sum(&missing) + sum(&lost);
            let (start, end) = whole.first().copied().unwrap_or_default();
            let expected = joined(covered(segments.get(&place), start, end));
            if whole.len() > 1 || !adds_up || joined(stored) != expected {
                differ.push(format!("{path}: {row} should store {expected:?}"));
            }
            let gone = lost.iter().all(|(_, end)| *end <= low);
            if !gone || missing.iter().any(|(start, _)| *start < low) {
                differ.push(format!("{path}: the low watermark is {low}: {row}"));
            }
        }
    }
}
