//! What a run has to do: the offsets of the window, less what is stored, less what is gone.

use super::{
    BoundaryFact, Completeness, OffsetRange, OffsetRanges, Timestamp, TimestampType, TopicName,
    Window, resolve_boundary, start_uncertain,
};

/// What Kafka said about one partition at one moment: the watermarks first, then the
/// boundary of the window's end, then that of its start, so that neither "no such event"
/// nor an event that arrives in between can skip anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLook {
    /// The partition's number.
    pub partition: i32,
    /// The first offset that the broker still has.
    pub low_watermark: i64,
    /// The next offset to be written.
    pub high_watermark: i64,
    /// Where the first open transaction begins; the high watermark if none is open.
    pub last_stable_offset: i64,
    /// The answer for the window's start, `None` if there is no such event.
    pub start_answer: Option<i64>,
    /// The answer for the window's end, `None` if there is no such event.
    pub end_answer: Option<i64>,
    /// The timestamp of the event that is the answer for the start.
    pub start_timestamp: Option<Timestamp>,
    /// The timestamp of the event that is the answer for the end.
    pub end_timestamp: Option<Timestamp>,
    /// The event with the largest timestamp, offset and timestamp, where an answer is "no such
    /// event" and a broker may be wrong about that.
    pub newest: Option<(i64, Timestamp)>,
}

/// A partition's ends at one moment: `low_watermark <= last_stable_offset <= high_watermark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The partition's number.
    pub partition: i32,
    /// The first offset that the broker still has.
    pub low_watermark: i64,
    /// The next offset to be written.
    pub high_watermark: i64,
    /// Where the first open transaction begins; the high watermark if none is open.
    pub last_stable_offset: i64,
}

impl PartitionLook {
    /// Where the broker's clock stamps records (`LogAppendTime`) and has passed the window's
    /// end, whatever comes next is later: the end of the log is the boundary. An open
    /// transaction may still turn out to hold earlier records.
    pub fn close_by_clock(&mut self) {
        if self.end_answer.is_none() && self.last_stable_offset == self.high_watermark {
            self.end_answer = Some(self.last_stable_offset);
        }
    }

    /// The two facts that this look adds to what is known about the window's ends.
    pub fn facts(&self, window: &Window) -> [BoundaryFact; 2] {
        let seen = |at, answer| {
            BoundaryFact::seen(at, answer, self.low_watermark, self.last_stable_offset)
        };
        [seen(window.start(), self.start_answer), seen(window.end(), self.end_answer)]
    }
}

/// What one partition means for a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    /// What Kafka said.
    pub look: PartitionLook,
    /// The offsets of the window, as far as they are known.
    pub range: OffsetRange,
    /// Both boundaries are known: the range can't grow any more.
    pub sealed: bool,
    /// Retention may have taken events of the window before anyone looked.
    pub start_uncertain: bool,
    /// What of the range is stored already.
    pub stored: OffsetRanges,
    /// What is missing and still there.
    pub to_read: OffsetRanges,
    /// What is missing and gone.
    pub lost: OffsetRanges,
}

/// Works out what a partition means for a window.
///
/// `facts` are all that is known about the boundaries of this partition, this look's
/// included; `stored` is what earlier runs, of whatever window, have stored of it.
pub fn plan_partition(
    window: &Window,
    look: PartitionLook,
    facts: &[BoundaryFact],
    stored: &OffsetRanges,
) -> PartitionPlan {
    let start = resolve_boundary(window.start(), facts).unwrap_or(look.last_stable_offset);
    let end = resolve_boundary(window.end(), facts);
    let range = OffsetRange::new(start, end.unwrap_or(look.last_stable_offset));
    let stored = stored.within(range);
    let (gone, there) = range.split_at(look.low_watermark);
    PartitionPlan {
        look,
        range,
        sealed: end.is_some(),
        start_uncertain: start_uncertain(start, window.start(), facts),
        to_read: stored.gaps(there),
        lost: stored.gaps(gone),
        stored,
    }
}

/// What a run would find and do.
#[derive(Clone, Debug)]
pub struct DryPlan {
    /// Kafka's id of the topic, empty where the brokers give none.
    pub topic_id: String,
    /// How complete the snapshot would be.
    pub completeness: Completeness,
    /// The partitions, by number.
    pub partitions: Vec<PartitionPlan>,
}

/// Where each partition of a topic begins and ends, and the boundary of one time
/// (`start_answer`).
#[derive(Clone, Debug)]
pub struct TopicOffsets {
    /// Kafka's id of the topic, empty where the brokers give none.
    pub topic_id: String,
    /// The partitions, by number.
    pub partitions: Vec<PartitionLook>,
}

/// A topic as Kafka describes it.
#[derive(Clone, Debug)]
pub struct TopicFacts {
    /// Its name.
    pub topic: TopicName,
    /// Kafka's id, empty where the brokers give none.
    pub topic_id: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// Whose clock stamps the records, if that may be read.
    pub timestamp_type: Option<TimestampType>,
    /// How long records are kept, in milliseconds; `None` for good or unknown.
    pub retention_ms: Option<i64>,
}

/// An offset range and the partition that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionRange {
    /// The partition's number.
    pub partition: i32,
    /// The offsets.
    pub range: OffsetRange,
}

/// How many of `total` offsets a task takes, where `most` make a file of the size aimed at: so many
/// that the tasks are even in number and about as long. The last of three would keep one worker
/// busy and leave another idle, and so would the only one. Less than a quarter of a file is not
/// worth a second one.
pub fn offsets_per_task(total: i64, most: i64) -> i64 {
    let most = most.max(1);
    if total < most / 4 {
        return most;
    }
    let pairs = (total.saturating_add(most) / most.saturating_mul(2)).max(1);
    (total / (2 * pairs) + i64::from(total % (2 * pairs) > 0)).max(1)
}

/// Divides what is to be read into tasks of about `offsets_per_task` offsets: large ranges
/// are cut into equal parts, small ones packed together. Every offset is in exactly one
/// task; tasks and the ranges in them are in order of partition and offset.
pub fn split_into_tasks(
    to_read: &[PartitionRange],
    offsets_per_task: i64,
) -> Vec<Vec<PartitionRange>> {
    let target = offsets_per_task.max(1);
    let mut tasks: Vec<Vec<PartitionRange>> = Vec::new();
    let mut open: Vec<PartitionRange> = Vec::new();
    let mut open_offsets = 0;
    for &PartitionRange { partition, range } in to_read.iter().filter(|r| !r.range.is_empty()) {
        if open_offsets > 0 && open_offsets + range.len() > target {
            tasks.push(std::mem::take(&mut open));
            open_offsets = 0;
        }
        for part in equal_parts(range, target) {
            open.push(PartitionRange { partition, range: part });
            open_offsets += part.len();
            // A part of a large range makes a file of its own; the next range starts anew.
            if range.len() > target {
                tasks.push(std::mem::take(&mut open));
                open_offsets = 0;
            }
        }
    }
    tasks.extend((!open.is_empty()).then_some(open));
    tasks
}

/// Cuts a range into as few parts of at most `longest` offsets as possible, all about as long.
fn equal_parts(range: OffsetRange, longest: i64) -> Vec<OffsetRange> {
    let count = range.len().div_euclid(longest) + i64::from(range.len() % longest > 0);
    let (each, longer) = (range.len() / count.max(1), range.len() % count.max(1));
    let mut rest = range;
    (0..count)
        .map(|i| {
            let (part, after) = rest.split_at(rest.start() + each + i64::from(i < longer));
            rest = after;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window::new(Timestamp::from_millis(start), Timestamp::from_millis(end)).expect("a window")
    }

    /// A log as a broker has it: every offset has a timestamp, those below `low` are gone.
    fn look(log: &[i64], low: usize, partition: i32, window: &Window) -> PartitionLook {
        let find = |time: i64| (low..log.len()).find(|&o| log[o] >= time).map(|o| o as i64);
        PartitionLook {
            partition,
            low_watermark: low as i64,
            high_watermark: log.len() as i64,
            last_stable_offset: log.len() as i64,
            start_answer: find(window.start().millis()),
            end_answer: find(window.end().millis()),
            start_timestamp: None,
            end_timestamp: None,
            newest: None,
        }
    }

    fn offsets(set: &OffsetRanges) -> BTreeSet<i64> {
        set.iter().flat_map(|r| r.start()..r.end()).collect()
    }

    #[test]
    fn tasks_are_even_in_number_and_about_as_long() {
        for (total, most, each) in [
            (0, 100, 100),
            (24, 100, 100),
            (25, 100, 13),
            (100, 100, 50),
            (250, 100, 125),
            (299, 100, 150),
            (300, 100, 75),
            (10_000, 100, 100),
            (i64::MAX, 1, 2),
            (5, 0, 1),
        ] {
            assert_eq!(offsets_per_task(total, most), each, "{total} of {most}");
        }
    }

    #[test]
    fn everything_retired_is_nothing_to_read() {
        let window = window(10, 20);
        let look = look(&[10, 11, 12], 3, 0, &window);
        let plan = plan_partition(&window, look, &look.facts(&window), &OffsetRanges::new());
        assert!(plan.range.is_empty() && plan.to_read.is_empty() && plan.lost.is_empty());
        assert!(plan.start_uncertain && !plan.sealed);
    }

    #[test]
    fn what_an_earlier_run_saw_and_retention_took_is_lost_exactly() {
        let window = window(10, 20);
        let log = [5, 10, 11, 12, 13, 20];
        let before = look(&log, 0, 0, &window);
        let after = look(&log, 3, 0, &window);
        let facts: Vec<BoundaryFact> =
            before.facts(&window).into_iter().chain(after.facts(&window)).collect();
        let stored = OffsetRanges::from(OffsetRange::new(1, 2));
        let plan = plan_partition(&window, after, &facts, &stored);
        assert_eq!(plan.range, OffsetRange::new(1, 5));
        assert_eq!(offsets(&plan.lost), BTreeSet::from([2]));
        assert_eq!(offsets(&plan.to_read), BTreeSet::from([3, 4]));
        assert!(plan.sealed && !plan.start_uncertain);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn every_offset_of_the_range_is_stored_or_read_or_lost(
            log in prop::collection::vec(0i64..40, 0..25),
            low in 0usize..25,
            (start, length) in (0i64..40, 1i64..20),
            stored in prop::collection::vec((0i64..25, 0i64..6), 0..4),
        ) {
            let window = window(start, start + length);
            let look = look(&log, low.min(log.len()), 0, &window);
            let stored = stored.into_iter().map(|(s, n)| OffsetRange::new(s, s + n)).collect();
            let plan = plan_partition(&window, look, &look.facts(&window), &stored);
            let parts = [&plan.stored, &plan.to_read, &plan.lost];
            prop_assert_eq!(parts.iter().map(|p| p.len()).sum::<i64>(), plan.range.len());
            let union = parts.iter().fold(OffsetRanges::new(), |sum, p| sum.union(p));
            prop_assert_eq!(union, OffsetRanges::from(plan.range).union(&OffsetRanges::new()));
            prop_assert!(plan.lost.iter().all(|r| r.end() <= look.low_watermark));
            prop_assert!(plan.to_read.iter().all(|r| r.start() >= look.low_watermark));
        }

        #[test]
        fn windows_that_touch_in_time_touch_in_offsets(
            log in prop::collection::vec(0i64..40, 0..25),
            low in 0usize..25,
            cuts in prop::collection::btree_set(0i64..45, 2..6),
        ) {
            let low = low.min(log.len());
            let cuts: Vec<i64> = cuts.into_iter().collect();
            let windows: Vec<Window> = cuts.windows(2).map(|w| window(w[0], w[1])).collect();
            let facts: Vec<BoundaryFact> =
                windows.iter().flat_map(|w| look(&log, low, 0, w).facts(w)).collect();
            let plans: Vec<PartitionPlan> = windows
                .iter()
                .map(|w| plan_partition(w, look(&log, low, 0, w), &facts, &OffsetRanges::new()))
                .collect();
            for pair in plans.windows(2) {
                prop_assert_eq!(pair[0].range.end(), pair[1].range.start());
            }
        }

        #[test]
        fn tasks_hold_every_offset_once_and_none_is_too_large(
            ranges in prop::collection::vec((0i32..5, 0i64..50, 0i64..40), 0..8),
            target in 1i64..30,
        ) {
            let mut to_read: Vec<PartitionRange> = ranges
                .into_iter()
                .map(|(partition, s, n)| PartitionRange { partition, range: OffsetRange::new(s, s + n) })
                .collect();
            to_read.sort();
            let tasks = split_into_tasks(&to_read, target);
            let all = |ranges: &[PartitionRange]| -> Vec<(i32, i64)> {
                let mut all: Vec<(i32, i64)> = ranges
                    .iter()
                    .flat_map(|r| (r.range.start()..r.range.end()).map(|o| (r.partition, o)))
                    .collect();
                all.sort_unstable();
                all
            };
            prop_assert_eq!(all(&tasks.concat()), all(&to_read));
            for task in &tasks {
                prop_assert!(!task.is_empty());
                prop_assert!(task.iter().map(|r| r.range.len()).sum::<i64>() <= target);
                prop_assert!(task.is_sorted());
            }
        }
    }
}
