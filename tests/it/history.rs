//! Random histories against a real broker, compared with a model that is slow and obvious:
//! sets of integers, and a copy of everything that was ever produced.
//!
//! A history produces (out of order, with tombstones, in transactions that commit or abort),
//! deletes records, adds partitions, makes the topic again, takes windows that overlap and
//! touch, kills workers in the middle, and lets the sealer go its round. After every run the
//! snapshot is what the model says, offset by offset, and after the history every event of
//! every snapshot is what was produced, byte by byte.
//!
//! `HISTORY_SEED` runs one history again, `HISTORY_COUNT` runs more of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{
    DAY, HOUR, Record, Seen, TestApp, TestTopic, TransactionEnd, at, expire_leases,
};
use crate::rows::as_seen;

const STEPS: usize = 24;
const HISTORIES: u64 = 6;

/// splitmix64: the same seed gives the same history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What the log has at one offset.
enum Entry {
    Event(Seen),
    /// Aborted, but it has a timestamp, and look-ups see it.
    Aborted(i64),
    /// A control record, stamped by the wall clock: later than every window here.
    Marker,
}

impl Entry {
    fn timestamp(&self) -> i64 {
        match self {
            Entry::Event(event) => event.timestamp.expect("all have one"),
            Entry::Aborted(timestamp) => *timestamp,
            Entry::Marker => i64::MAX,
        }
    }
}

#[derive(Default)]
struct Partition {
    log: Vec<Entry>,
    low: usize,
    stored: BTreeSet<i64>,
    /// The smallest boundary seen of each time.
    boundaries: BTreeMap<i64, i64>,
    /// Every look: the time, the low watermark, and how far everything was older.
    looks: Vec<(i64, i64, i64)>,
}

/// What a window means in a partition.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    start: i64,
    end: i64,
    sealed: bool,
    stored: i64,
    lost: i64,
    records: Vec<i64>,
    uncertain: bool,
}

impl Partition {
    fn look(&mut self, time: i64) {
        let end = self.log.len();
        let found = (self.low..end).find(|&offset| self.log[offset].timestamp() >= time);
        if let Some(offset) = found {
            let known = self.boundaries.entry(time).or_insert(offset as i64);
            *known = (*known).min(offset as i64);
        }
        self.looks.push((time, self.low as i64, found.unwrap_or(end) as i64));
    }

    fn boundary(&self, time: i64) -> Option<i64> {
        self.boundaries.range(time..).map(|(_, offset)| *offset).min()
    }

    /// A run of a window: what is there and not stored, is stored.
    fn run(&mut self, start_time: i64, end_time: i64) -> Expected {
        self.look(end_time);
        self.look(start_time);
        let all = self.log.len() as i64;
        let start = self.boundary(start_time).unwrap_or(all);
        let end = self.boundary(end_time).unwrap_or(all).max(start);
        let there = start.max(self.low as i64)..end;
        self.stored.extend(there);
        let held: Vec<i64> = self.stored.range(start..end).copied().collect();
        let shown = |&(time, low, older): &(i64, i64, i64)| {
            time <= start_time && low < start && start <= older
        };
        Expected {
            start,
            end,
            sealed: self.boundary(end_time).is_some(),
            stored: held.len() as i64,
            lost: end - start - held.len() as i64,
            records: held
                .into_iter()
                .filter(|&offset| matches!(self.log[offset as usize], Entry::Event(_)))
                .collect(),
            uncertain: start > 0 && !self.looks.iter().any(shown),
        }
    }
}

struct History {
    app: TestApp,
    topic: TestTopic,
    dice: Dice,
    partitions: Vec<Partition>,
    newest_sealed: Option<i64>,
    seen_partitions: usize,
    /// Snapshots of the topic as it is now, by window.
    snapshots: BTreeMap<(i64, i64), Value>,
    /// Snapshots of earlier incarnations, and the events that each holds.
    kept: Vec<(Value, Vec<Seen>)>,
}

impl History {
    async fn new(seed: u64) -> Self {
        History {
            app: TestApp::spawn().await,
            // A marker, stamped by the wall clock, would begin a segment of its own; what a
            // broker makes of that has a test of its own in `boundaries`.
            topic: TestTopic::create(2, &[("segment.ms", "3153600000000")]).await,
            dice: Dice(seed),
            partitions: vec![Partition::default(), Partition::default()],
            newest_sealed: None,
            seen_partitions: 0,
            snapshots: BTreeMap::new(),
            kept: Vec::new(),
        }
    }

    async fn step(&mut self) {
        match self.dice.roll(20) {
            0..=5 => self.produce().await,
            6..=7 => self.transaction().await,
            8..=9 => self.delete_records().await,
            10..=15 => self.take_window().await,
            16 => self.kill_in_the_middle().await,
            17 => self.seal().await,
            18 => self.add_partition().await,
            _ => self.recreate().await,
        }
    }

    fn records(&mut self) -> Vec<Record> {
        let count = 1 + self.dice.roll(8);
        let partition = self.dice.roll(self.partitions.len() as u64) as i32;
        (0..count)
            .map(|_| {
                let text = |dice: &mut Dice| format!("{:x}", dice.roll(1 << 40)).into_bytes();
                let maybe = |dice: &mut Dice| (dice.roll(4) > 0).then(|| text(dice));
                Record {
                    partition,
                    timestamp: DAY + self.dice.roll(6 * HOUR as u64) as i64,
                    key: maybe(&mut self.dice),
                    value: maybe(&mut self.dice),
                    headers: (0..self.dice.roll(3))
                        .map(|n| (format!("h{n}"), maybe(&mut self.dice)))
                        .collect(),
                }
            })
            .collect()
    }

    fn append(&mut self, records: &[Record], aborted: bool) {
        for record in records {
            let log = &mut self.partitions[record.partition as usize].log;
            let event = Seen {
                partition: record.partition,
                offset: log.len() as i64,
                timestamp: Some(record.timestamp),
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
            };
            log.push(if aborted { Entry::Aborted(record.timestamp) } else { Entry::Event(event) });
        }
    }

    async fn produce(&mut self) {
        let records = self.records();
        self.topic.produce(&records).await;
        self.append(&records, false);
    }

    async fn transaction(&mut self) {
        let records = self.records();
        let abort = self.dice.roll(2) == 0;
        let end = if abort { TransactionEnd::Abort } else { TransactionEnd::Commit };
        drop(self.topic.transaction(&records, end).await);
        self.append(&records, abort);
        let partition = &mut self.partitions[records[0].partition as usize];
        partition.log.push(Entry::Marker);
        self.topic.until_stable(records[0].partition, partition.log.len() as i64);
    }

    async fn delete_records(&mut self) {
        let number = self.dice.roll(self.partitions.len() as u64) as usize;
        let partition = &mut self.partitions[number];
        let most = partition.log.len() - partition.low;
        if most > 0 {
            partition.low += 1 + self.dice.roll(most as u64) as usize;
            self.topic.delete_below(number as i32, partition.low as i64).await;
        }
    }

    async fn add_partition(&mut self) {
        if self.partitions.len() < 4 {
            self.partitions.push(Partition::default());
            self.topic.add_partitions(self.partitions.len() as i32).await;
        }
    }

    async fn recreate(&mut self) {
        self.topic.recreate(2).await;
        for snapshot in std::mem::take(&mut self.snapshots).into_values() {
            let events = self.events(&snapshot).await;
            self.kept.push((snapshot, events));
        }
        self.partitions = vec![Partition::default(), Partition::default()];
        (self.newest_sealed, self.seen_partitions) = (None, 0);
        // Within one round of the sealer, requests mean the new topic.
        self.app.seal().await;
    }

    /// What a run of a window now leads to.
    fn expect(&mut self, start: i64, end: i64) -> Vec<Expected> {
        if let Some(at) = self.newest_sealed {
            for partition in self.partitions.iter_mut().skip(self.seen_partitions) {
                partition.boundaries.insert(at, 0);
            }
        }
        self.seen_partitions = self.partitions.len();
        let expected: Vec<Expected> =
            self.partitions.iter_mut().map(|partition| partition.run(start, end)).collect();
        if expected.iter().all(|partition| partition.sealed) {
            self.newest_sealed = self.newest_sealed.max(Some(end));
        }
        expected
    }

    async fn take_window(&mut self) {
        let (start, length) = (self.dice.roll(6), 1 + self.dice.roll(3));
        let (start, end) = (start as i64 * HOUR, (start + length) as i64 * HOUR);
        let was_sealed = self.snapshots.get(&(start, end)).is_some_and(is_sealed);
        let snapshot = self.app.snapshot(&self.topic.name, start, end).await;
        if !was_sealed {
            let expected = self.expect(DAY + start, DAY + end);
            self.check(&snapshot, &expected).await;
        }
        self.snapshots.insert((start, end), snapshot);
    }

    /// A worker dies somewhere in the run; another one takes over when its lease is over.
    async fn kill_in_the_middle(&mut self) {
        let (start, end) = (0, 6 * HOUR);
        let before = self.app.ask(&self.topic.name, start, end).await.1;
        for _ in 0..self.dice.roll(3) {
            self.app.work_once().await;
        }
        // Claimed, and never heard of again.
        let only = None;
        let attempt = uuid::Uuid::new_v4();
        let claimed = strandline::db::claim_task(self.app.db(), "dead", attempt, 3600, only).await;
        claimed.expect("an answer");
        expire_leases(&self.app).await;
        self.app.work().await;
        let (_, snapshot) = self.app.get(before["links"]["self"].as_str().expect("a path")).await;
        if !self.snapshots.get(&(start, end)).is_some_and(is_sealed) {
            let expected = self.expect(DAY + start, DAY + end);
            self.check(&snapshot, &expected).await;
        }
        self.snapshots.insert((start, end), snapshot);
    }

    /// After a round nothing is left that a request could add.
    async fn seal(&mut self) {
        self.app.seal().await;
        let open: Vec<(i64, i64)> = self
            .snapshots
            .iter()
            .filter(|(_, snapshot)| !is_sealed(snapshot))
            .map(|(window, _)| *window)
            .collect();
        for (start, end) in open {
            let path = self.snapshots[&(start, end)]["links"]["self"].as_str().expect("a path");
            let (_, snapshot) = self.app.get(path).await;
            let expected = self.expect(DAY + start, DAY + end);
            assert_eq!(
                snapshot["result"]["records"],
                expected.iter().map(|p| p.records.len()).sum::<usize>(),
                "the sealer left something out: {snapshot}"
            );
            self.snapshots.insert((start, end), snapshot);
        }
    }

    async fn check(&self, snapshot: &Value, expected: &[Expected]) {
        assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
        let sealed = expected.iter().all(|partition| partition.sealed);
        assert_eq!(snapshot["completeness"], if sealed { "sealed" } else { "settled" });
        let rows = self.app.detail(snapshot, "partitions").await;
        let mut held = Vec::new();
        for (number, (row, expected)) in rows.iter().zip(expected).enumerate() {
            let found = Expected {
                start: row["start_offset"].as_i64().expect("a number"),
                end: row["end_offset"].as_i64().expect("a number"),
                sealed: row["sealed"].as_bool().expect("a boolean"),
                stored: row["stored_offsets"].as_i64().expect("a number"),
                lost: row["lost_offsets"].as_i64().expect("a number"),
                records: expected.records.clone(),
                // More may be called uncertain than is, never less.
                uncertain: expected.uncertain && row["start_uncertain"] == true,
            };
            assert_eq!(found, *expected, "partition {number}");
            held.extend(expected.records.iter().map(|offset| (number as i32, *offset)));
        }
        assert_eq!(rows.len(), expected.len());
        let events = self.events(snapshot).await;
        let places: Vec<(i32, i64)> = events.iter().map(|e| (e.partition, e.offset)).collect();
        assert_eq!(places, held);
        for event in &events {
            match &self.partitions[event.partition as usize].log[event.offset as usize] {
                Entry::Event(produced) => assert_eq!(event, produced),
                Entry::Aborted(_) | Entry::Marker => panic!("{event:?} is no event"),
            }
        }
    }

    async fn events(&self, snapshot: &Value) -> Vec<Seen> {
        self.app.events(snapshot).await.iter().map(as_seen).collect()
    }

    /// What was stored stays stored, whatever has happened since.
    async fn finish(&self) {
        for (snapshot, events) in &self.kept {
            assert_eq!(&self.events(snapshot).await, events);
        }
        let twice = "SELECT count(*) FROM segments a JOIN segments b ON a.id < b.id
            AND a.topic = b.topic AND a.partition = b.partition AND a.offsets && b.offsets";
        let client = self.app.db().client().await.expect("a connection");
        assert_eq!(client.query_one(twice, &[]).await.expect("a count").get::<_, i64>(0), 0);
        self.app.has_no_orphans().await;
    }
}

fn is_sealed(snapshot: &Value) -> bool {
    snapshot["completeness"] == "sealed"
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[tokio::test]
async fn whatever_happens_what_is_stored_is_what_the_model_says() {
    let seeds = match number("HISTORY_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = uuid::Uuid::new_v4().as_u128() as u64 >> 1;
            first..first + number("HISTORY_COUNT").unwrap_or(HISTORIES)
        }
    };
    for seed in seeds {
        eprintln!("HISTORY_SEED={seed}");
        let mut history = History::new(seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        history.finish().await;
        assert!(at(0).starts_with("2025"), "the model's markers are later than its windows");
    }
}
