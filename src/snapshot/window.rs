//! The window: the span of time that a snapshot is about.

use std::fmt;

use super::Timestamp;

/// `[start, end)` in time. The start is always before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

/// Why two times make no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Start and end are the same moment.
    #[error(
        "window_start equals window_end ({0}), so the window is empty; in Airflow 3 a cron schedule has empty data intervals unless it is a CronDataIntervalTimetable"
    )]
    Empty(Timestamp),
    /// The end comes first.
    #[error("window_end ({end}) is before window_start ({start}); swap them")]
    Reversed {
        /// The start that was asked for.
        start: Timestamp,
        /// The end that was asked for.
        end: Timestamp,
    },
}

impl Window {
    /// The window from `start` up to, but not including, `end`.
    ///
    /// # Errors
    /// [`WindowError`] if `end` is not after `start`.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, WindowError> {
        match start.cmp(&end) {
            std::cmp::Ordering::Less => Ok(Window { start, end }),
            std::cmp::Ordering::Equal => Err(WindowError::Empty(start)),
            std::cmp::Ordering::Greater => Err(WindowError::Reversed { start, end }),
        }
    }

    /// The first moment of the window.
    pub const fn start(&self) -> Timestamp {
        self.start
    }

    /// The first moment after the window.
    pub const fn end(&self) -> Timestamp {
        self.end
    }

    /// Whether an event of this time lies in the window. An event without a time does not.
    pub fn contains(&self, timestamp: Option<Timestamp>) -> bool {
        timestamp.is_some_and(|t| self.start <= t && t < self.end)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_end_is_outside() {
        let window = Window::new(at(10), at(20)).expect("a window");
        assert!(window.contains(Some(at(10))) && window.contains(Some(at(19))));
        assert!(!window.contains(Some(at(9))) && !window.contains(Some(at(20))));
        assert!(!window.contains(None));
    }

    #[test]
    fn an_empty_window_names_the_likely_cause() {
        let error = Window::new(at(10), at(10)).expect_err("empty");
        assert!(error.to_string().contains("CronDataIntervalTimetable"));
        assert!(Window::new(at(20), at(10)).is_err());
    }
}
