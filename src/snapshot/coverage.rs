//! Which time is in no snapshot.

use super::{OffsetRange, OffsetRanges, Timestamp, Window};

/// What of `span` is in none of `windows`, oldest first.
pub fn time_gaps(span: &Window, windows: &[Window]) -> Vec<Window> {
    // Milliseconds are counted as offsets are: [start, end), never negative.
    let as_range = |w: &Window| OffsetRange::new(w.start().millis(), w.end().millis());
    let covered: OffsetRanges = windows.iter().map(as_range).collect();
    let time = Timestamp::from_millis;
    covered
        .gaps(as_range(span))
        .iter()
        .filter_map(|gap| Window::new(time(gap.start()), time(gap.end())).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        let time = Timestamp::from_millis;
        Window::new(time(start), time(end)).expect("a window")
    }

    #[test]
    fn gaps_are_cut_to_the_span() {
        let span = window(10, 50);
        assert_eq!(time_gaps(&span, &[]), [span]);
        assert_eq!(time_gaps(&span, &[window(0, 60)]), []);
        let some = [window(30, 40), window(0, 20), window(15, 25)];
        assert_eq!(time_gaps(&span, &some), [window(25, 30), window(40, 50)]);
    }
}
