//! Poison records: stamped so far ahead of time that, taken as boundaries, they would
//! swallow every later window.

use std::collections::BTreeSet;

use super::Timestamp;

/// How far ahead of the database's clock a boundary record may be stamped, in seconds.
const MAX_AHEAD_SECONDS: u64 = 3600;

/// A record that was found to be poison when it was first looked at. That is for good, also
/// when its time has come, or a sealed window would shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoisonRecord {
    /// The partition's number.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// Tells poison from boundaries.
#[derive(Clone, Debug)]
pub struct PoisonJudge {
    latest: Timestamp,
    known: BTreeSet<(i32, i64)>,
}

impl PoisonJudge {
    /// Judges by the database's clock, and by the verdicts that stand.
    pub fn new(now: Timestamp, known: BTreeSet<(i32, i64)>) -> Self {
        PoisonJudge { latest: now.plus_seconds(MAX_AHEAD_SECONDS), known }
    }

    /// Whether this record is poison.
    pub fn is_poison(&self, partition: i32, offset: i64, timestamp: Option<Timestamp>) -> bool {
        self.known.contains(&(partition, offset)) || timestamp.is_some_and(|t| t > self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_stands_when_the_records_time_has_come() {
        let time = Timestamp::from_millis;
        let judge = PoisonJudge::new(time(0), BTreeSet::new());
        assert!(!judge.is_poison(0, 7, Some(time(3_600_000))));
        assert!(judge.is_poison(0, 7, Some(time(3_600_001))));
        assert!(!judge.is_poison(0, 7, None));
        let later = PoisonJudge::new(time(i64::MAX), BTreeSet::from([(0, 7)]));
        assert!(later.is_poison(0, 7, Some(time(3_600_001))));
        assert!(!later.is_poison(1, 7, Some(time(3_600_001))));
    }
}
