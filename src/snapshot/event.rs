//! An event as Kafka returns it, and the tally that is kept of events while they pass.

use super::{Timestamp, Window};

/// Where a record's timestamp comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's word (`CreateTime`).
    CreateTime,
    /// The broker's clock when the record was appended (`LogAppendTime`).
    LogAppendTime,
}

impl TimestampType {
    /// The name that data files carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "create_time",
            TimestampType::LogAppendTime => "log_append_time",
        }
    }
}

/// One header of an event. The same key may occur more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key's bytes; Kafka says UTF-8, but nothing makes producers keep to it.
    pub key: &'a [u8],
    /// `None` where Kafka has null.
    pub value: Option<&'a [u8]>,
}

/// One event (record) of a topic, borrowed from the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The partition's number.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// `None` where the record has none (−1 in the log).
    pub timestamp: Option<Timestamp>,
    /// `None` without a timestamp.
    pub timestamp_type: Option<TimestampType>,
    /// `None` where Kafka has null.
    pub key: Option<&'a [u8]>,
    /// `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order, duplicates kept.
    pub headers: &'a [Header<'a>],
}

/// What a range of offsets turned out to hold, seen from one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeTally {
    /// Events in the range.
    pub records: i64,
    /// Events whose own timestamp is outside the window, those without one included.
    pub out_of_window_records: i64,
    /// Events without a timestamp.
    pub untimed_records: i64,
    /// The smallest timestamp of an event that has one.
    pub min_timestamp: Option<Timestamp>,
    /// The largest timestamp of an event that has one.
    pub max_timestamp: Option<Timestamp>,
}

impl RangeTally {
    /// Counts one event.
    pub fn add(&mut self, timestamp: Option<Timestamp>, window: &Window) {
        self.records += 1;
        if !window.contains(timestamp) {
            self.out_of_window_records += 1;
        }
        match timestamp {
            Some(time) => {
                self.min_timestamp = Some(self.min_timestamp.map_or(time, |min| min.min(time)));
                self.max_timestamp = Some(self.max_timestamp.map_or(time, |max| max.max(time)));
            }
            None => self.untimed_records += 1,
        }
    }

    /// The same events seen from another window, where that can be told without looking
    /// at them again: none has a place to be outside of it, or all of them are.
    #[must_use]
    pub fn seen_from(&self, window: &Window) -> Option<RangeTally> {
        let out_of_window_records = match (self.min_timestamp, self.max_timestamp) {
            (Some(min), Some(max)) if window.contains(Some(min)) && window.contains(Some(max)) => {
                self.untimed_records
            }
            (Some(min), Some(max)) if max < window.start() || window.end() <= min => self.records,
            (Some(_), Some(_)) => return None,
            _ => self.records,
        };
        Some(RangeTally { out_of_window_records, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn seen_from_another_window_is_what_counting_again_gives(
            times in prop::collection::vec(prop::option::of(0i64..50), 0..8),
            (a, b) in (0i64..50, 1i64..30),
            (c, d) in (0i64..50, 1i64..30),
        ) {
            let window = |start: i64, length: i64| {
                Window::new(Timestamp::from_millis(start), Timestamp::from_millis(start + length)).expect("longer than 0")
            };
            let tally = |window: &Window| {
                let mut tally = RangeTally::default();
                times.iter().for_each(|t| tally.add(t.map(Timestamp::from_millis), window));
                tally
            };
            let (first, second) = (window(a, b), window(c, d));
            if let Some(seen) = tally(&first).seen_from(&second) {
                prop_assert_eq!(seen, tally(&second));
            }
        }
    }
}
