//! What a snapshot holds and lacks, in numbers.

use serde::{Deserialize, Serialize};

/// A snapshot as a whole, over all its runs, as of the last one that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events of the window that are stored.
    pub records: i64,
    /// Of these, events that the last run stored.
    pub records_added: i64,
    /// Files that hold them; a file may also hold events of other windows.
    pub files: i64,
    /// Size of these files together.
    pub bytes: i64,
    /// Offsets of the window that are gone from the broker and not stored.
    pub lost_offsets: i64,
    /// Partitions in which retention may have taken events before anyone looked.
    pub uncertain_partitions: i64,
    /// Stored events whose own timestamp is outside the window or missing.
    pub out_of_window_records: i64,
    /// Stored events stamped so far ahead of time that they are no boundary.
    pub poison_records: i64,
}
