//! Ranges of offsets, `[start, end)`, and sets of them.
//!
//! This is the one place where offsets are compared and cut; everything else asks.

use std::fmt;

/// `[start, end)` in one partition. Never negative, never reversed; may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetRange {
    start: i64,
    end: i64,
}

impl OffsetRange {
    /// The offsets from `start` up to, but not including, `end`. A reversed or negative
    /// pair is cut to an empty range, or to what is not negative of it.
    pub fn new(start: i64, end: i64) -> Self {
        let start = start.max(0);
        OffsetRange { start, end: end.max(start) }
    }

    /// The first offset.
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// The first offset after the range.
    pub const fn end(&self) -> i64 {
        self.end
    }

    /// How many offsets there are (not events: offsets may be without one).
    pub const fn len(&self) -> i64 {
        self.end - self.start
    }

    /// Whether there is no offset in it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `offset` lies in the range.
    pub const fn contains(&self, offset: i64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// What both have; empty if nothing.
    #[must_use]
    pub fn intersection(&self, other: &OffsetRange) -> OffsetRange {
        OffsetRange::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Cut in two at `offset`: what is below it and what is not.
    #[must_use]
    pub fn split_at(&self, offset: i64) -> (OffsetRange, OffsetRange) {
        let cut = offset.clamp(self.start, self.end);
        (OffsetRange::new(self.start, cut), OffsetRange::new(cut, self.end))
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// A set of offsets of one partition, held as ranges that are in order, not empty and
/// do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRanges(Vec<OffsetRange>);

impl OffsetRanges {
    /// The empty set.
    pub const fn new() -> Self {
        OffsetRanges(Vec::new())
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = OffsetRange> + '_ {
        self.0.iter().copied()
    }

    /// How many offsets there are.
    pub fn len(&self) -> i64 {
        self.0.iter().map(OffsetRange::len).sum()
    }

    /// Whether there is no offset in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range.
    pub fn insert(&mut self, range: OffsetRange) {
        if range.is_empty() {
            return;
        }
        // The ranges that touch the new one become one with it.
        let first = self.0.partition_point(|r| r.end < range.start);
        let after = self.0.partition_point(|r| r.start <= range.end);
        let joined = self.0[first..after].iter().fold(range, |sum, r| OffsetRange {
            start: sum.start.min(r.start),
            end: sum.end.max(r.end),
        });
        self.0.splice(first..after, [joined]);
    }

    /// What either has.
    #[must_use]
    pub fn union(&self, other: &OffsetRanges) -> OffsetRanges {
        self.iter().chain(other.iter()).collect()
    }

    /// What this has and `other` has not.
    #[must_use]
    pub fn difference(&self, other: &OffsetRanges) -> OffsetRanges {
        let mut left = Vec::with_capacity(self.0.len());
        let mut others = other.0.as_slice();
        for range in self.iter() {
            let skip = others.partition_point(|r| r.end <= range.start);
            others = &others[skip..];
            let mut rest = range;
            for hole in others.iter().take_while(|r| r.start < range.end) {
                let (before, from_hole) = rest.split_at(hole.start);
                left.extend((!before.is_empty()).then_some(before));
                rest = from_hole.split_at(hole.end).1;
            }
            left.extend((!rest.is_empty()).then_some(rest));
        }
        OffsetRanges(left)
    }

    /// What both have.
    #[must_use]
    pub fn intersection(&self, other: &OffsetRanges) -> OffsetRanges {
        self.difference(&self.difference(other))
    }

    /// What lies in `range`.
    #[must_use]
    pub fn within(&self, range: OffsetRange) -> OffsetRanges {
        self.intersection(&range.into())
    }

    /// What of `range` is missing here.
    #[must_use]
    pub fn gaps(&self, range: OffsetRange) -> OffsetRanges {
        OffsetRanges::from(range).difference(self)
    }
}

impl From<OffsetRange> for OffsetRanges {
    fn from(range: OffsetRange) -> Self {
        OffsetRanges::from_iter([range])
    }
}

impl FromIterator<OffsetRange> for OffsetRanges {
    fn from_iter<I: IntoIterator<Item = OffsetRange>>(ranges: I) -> Self {
        let mut set = OffsetRanges::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The naive model: the offsets themselves.
    fn model(set: &OffsetRanges) -> BTreeSet<i64> {
        set.iter().flat_map(|r| r.start()..r.end()).collect()
    }

    fn well_formed(set: &OffsetRanges) -> bool {
        set.0.iter().all(|r| !r.is_empty()) && set.0.windows(2).all(|w| w[0].end < w[1].start)
    }

    prop_compose! {
        fn ranges()(pairs in prop::collection::vec((0i64..60, 0i64..12), 0..8)) -> OffsetRanges {
            pairs.into_iter().map(|(start, length)| OffsetRange::new(start, start + length)).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn operations_are_those_of_sets(a in ranges(), b in ranges()) {
            let (ma, mb) = (model(&a), model(&b));
            for set in [&a, &a.union(&b), &a.difference(&b), &a.intersection(&b)] {
                prop_assert!(well_formed(set));
            }
            prop_assert_eq!(model(&a.union(&b)), &ma | &mb);
            prop_assert_eq!(model(&a.difference(&b)), &ma - &mb);
            prop_assert_eq!(model(&a.intersection(&b)), &ma & &mb);
            prop_assert_eq!(a.len(), ma.len() as i64);
        }

        #[test]
        fn laws(a in ranges(), b in ranges()) {
            prop_assert!(a.difference(&a).is_empty());
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
        }

        #[test]
        fn gaps_and_within_divide_a_range(a in ranges(), start in 0i64..60, length in 0i64..30) {
            let range = OffsetRange::new(start, start + length);
            let whole = a.within(range).union(&a.gaps(range));
            prop_assert_eq!(whole, OffsetRanges::from(range));
        }

        #[test]
        fn a_range_is_never_reversed_or_negative(start in any::<i64>(), end in any::<i64>(), cut in any::<i64>()) {
            let range = OffsetRange::new(start, end);
            prop_assert!(0 <= range.start() && range.start() <= range.end());
            let (below, rest) = range.split_at(cut);
            prop_assert_eq!(below.len() + rest.len(), range.len());
        }
    }
}
