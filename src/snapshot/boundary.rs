//! Boundaries: "in this partition, the first offset with a timestamp at or after T is o".

use super::{OffsetRange, Timestamp};

/// What look-ups of one time in one partition have shown so far.
///
/// Look-ups can only move up later (retention and compaction remove events), so the
/// smallest answer ever seen is the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundaryFact {
    /// The time that was looked up.
    pub at: Timestamp,
    /// The smallest answer seen, `None` while every answer was "no such event".
    pub offset: Option<i64>,
    /// Offsets that a look-up passed over: all events in there are older than `at`.
    /// From the low watermark of then up to the answer, or to the last stable offset
    /// where there was none.
    pub older: OffsetRange,
}

impl BoundaryFact {
    /// One look-up: `answer` is Kafka's, the watermarks are those asked just before.
    pub fn seen(
        at: Timestamp,
        answer: Option<i64>,
        low_watermark: i64,
        last_stable_offset: i64,
    ) -> Self {
        let older_end = answer.unwrap_or(last_stable_offset);
        BoundaryFact {
            at,
            offset: answer,
            older: OffsetRange::new(low_watermark.min(older_end), older_end),
        }
    }

    /// What an earlier and a later look at the same time show together.
    #[must_use]
    pub fn merge(self, later: BoundaryFact) -> BoundaryFact {
        let offset = match (self.offset, later.offset) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        // What lies above the boundary says nothing about it.
        let below = |older: OffsetRange| offset.map_or(older, |o| older.split_at(o).0);
        let (earlier, later) = (below(self.older), below(later.older));
        let older = if later.is_empty() {
            earlier
        } else if earlier.is_empty() || later.start() > earlier.end() {
            // Two stretches that do not meet can't be told as one; the newer reaches further.
            later
        } else {
            OffsetRange::new(earlier.start().min(later.start()), earlier.end().max(later.end()))
        };
        BoundaryFact { at: self.at, offset, older }
    }
}

/// The boundary of `at`: the smallest offset seen for it or for any later time, since a
/// boundary is never above that of a later time. `None` while it is not known.
pub fn resolve_boundary(at: Timestamp, facts: &[BoundaryFact]) -> Option<i64> {
    facts.iter().filter(|fact| fact.at >= at).filter_map(|fact| fact.offset).min()
}

/// Whether retention may have taken events of the window that starts at `at`, unseen: its
/// range starts at `start_offset` above 0, and no look at `at` or an earlier time found
/// the event just below it, or one further down, to be older than the window.
pub fn start_uncertain(start_offset: i64, at: Timestamp, facts: &[BoundaryFact]) -> bool {
    let shown_older = |fact: &BoundaryFact| {
        fact.at <= at && fact.older.start() < start_offset && start_offset <= fact.older.end()
    };
    start_offset > 0 && !facts.iter().any(shown_older)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_start_at_the_low_watermark_is_uncertain_unless_seen_earlier() {
        let first_look = BoundaryFact::seen(at(100), Some(50), 50, 80);
        assert!(start_uncertain(50, at(100), &[first_look]));
        let found_above = BoundaryFact::seen(at(100), Some(50), 40, 80);
        assert!(!start_uncertain(50, at(100), &[found_above]));
        let at_zero = BoundaryFact::seen(at(100), Some(0), 0, 80);
        assert!(!start_uncertain(0, at(100), &[at_zero]));
        let earlier_none = BoundaryFact::seen(at(90), None, 0, 60);
        assert!(!start_uncertain(50, at(100), &[first_look, earlier_none]));
        let later_time = BoundaryFact::seen(at(110), None, 0, 60);
        assert!(start_uncertain(50, at(100), &[first_look, later_time]));
        let all_retired = BoundaryFact::seen(at(100), None, 80, 80);
        assert!(start_uncertain(80, at(100), &[all_retired]));
    }

    #[test]
    fn what_an_early_look_showed_is_not_forgotten_when_retention_has_passed() {
        let early = BoundaryFact::seen(at(100), Some(1), 0, 3);
        let late = BoundaryFact::seen(at(100), Some(2), 2, 4);
        let facts = [early.merge(late)];
        assert_eq!(resolve_boundary(at(100), &facts), Some(1));
        assert!(!start_uncertain(1, at(100), &facts));
    }

    #[test]
    fn it_stays_uncertain_whatever_later_looks_say() {
        let first = BoundaryFact::seen(at(100), Some(50), 50, 80);
        for later in [
            BoundaryFact::seen(at(100), Some(60), 60, 90),
            BoundaryFact::seen(at(100), Some(70), 60, 90),
            BoundaryFact::seen(at(100), None, 90, 90),
            BoundaryFact::seen(at(100), None, 85, 90),
        ] {
            let facts = [first.merge(later)];
            assert_eq!(resolve_boundary(at(100), &facts), Some(50));
            assert!(start_uncertain(50, at(100), &facts), "{later:?}");
        }
    }

    /// A log with timestamps, and look-ups made while retention moves the low watermark.
    fn look(log: &[i64], low: usize, time: i64) -> BoundaryFact {
        let answer = (low..log.len()).find(|&o| log[o] >= time).map(|o| o as i64);
        BoundaryFact::seen(at(time), answer, low as i64, log.len() as i64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn the_smallest_answer_wins_and_later_looks_never_move_it_up(
            log in prop::collection::vec(0i64..20, 1..20),
            lows in prop::collection::vec(0usize..20, 1..5),
            time in 0i64..20,
        ) {
            let mut lows: Vec<usize> = lows.into_iter().map(|l| l.min(log.len())).collect();
            lows.sort_unstable();
            let looks: Vec<BoundaryFact> = lows.iter().map(|&low| look(&log, low, time)).collect();
            let merged = looks.iter().copied().reduce(BoundaryFact::merge).expect("at least one");
            prop_assert_eq!(merged.offset, looks[0].offset);
            // Everything that is called older is older, or was gone before the first look.
            for offset in merged.older.start()..merged.older.end() {
                prop_assert!(log[offset as usize] < time);
            }
        }

        #[test]
        fn boundaries_are_in_the_order_of_their_times(
            log in prop::collection::vec(0i64..20, 1..20),
            looks in prop::collection::vec((0usize..20, 0i64..20), 1..6),
            (a, b) in (0i64..20, 0i64..20),
        ) {
            let facts: Vec<BoundaryFact> =
                looks.into_iter().map(|(low, time)| look(&log, low.min(log.len()), time)).collect();
            let (earlier, later) = (at(a.min(b)), at(a.max(b)));
            if let (Some(later), earlier) = (resolve_boundary(later, &facts), resolve_boundary(earlier, &facts)) {
                prop_assert!(earlier.is_some_and(|earlier| earlier <= later));
            }
        }
    }
}
