//! What is said of single topics. Which topics those are changes, and a gauge that was set once
//! would stay for good, so each look at them makes this part of the metrics anew.

use std::cmp::Ordering;
use std::sync::{PoisonError, RwLock};

use metrics::{gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::table::{self, MOST_TOPICS};

/// The name under which topics are summed up that have no series of their own.
const OTHER: &str = "other";

/// What is said now, as text.
static SHOWN: RwLock<String> = RwLock::new(String::new());

/// What a topic's snapshots wait for. Times are Unix times in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicBacklog {
    /// Its name.
    pub topic: String,
    /// Snapshots that may still grow.
    pub unsealed: i64,
    /// The earliest end of a window that is provisional.
    pub provisional_end: Option<f64>,
    /// Snapshots whose last run is queued, under way or failed, and whose data Kafka may have.
    pub unstored: i64,
    /// The earliest start of their windows.
    pub unstored_start: Option<f64>,
    /// How long Kafka keeps events; `None` if for good, or if that is not known.
    pub retention_seconds: Option<f64>,
}

impl TopicBacklog {
    /// When the first data is lost that was asked for and is not stored.
    fn lost_from(&self) -> f64 {
        match (self.unstored_start, self.retention_seconds) {
            (Some(start), Some(retention)) => start + retention,
            _ => f64::INFINITY,
        }
    }

    fn in_danger_first(&self, other: &Self) -> Ordering {
        let urgency = |one: &Self| {
            let first = |time: Option<f64>| time.unwrap_or(f64::INFINITY);
            [one.lost_from(), first(one.unstored_start), first(one.provisional_end)]
        };
        let by_time = urgency(self)
            .iter()
            .zip(urgency(other))
            .fold(Ordering::Equal, |decided, (a, b)| decided.then(a.total_cmp(&b)));
        by_time.then(other.unsealed.cmp(&self.unsealed)).then_with(|| self.topic.cmp(&other.topic))
    }

    fn add(&mut self, more: &Self) {
        self.unsealed += more.unsealed;
        self.unstored += more.unstored;
        earlier(&mut self.provisional_end, more.provisional_end);
        earlier(&mut self.unstored_start, more.unstored_start);
        earlier(&mut self.retention_seconds, more.retention_seconds);
    }
}

fn earlier(kept: &mut Option<f64>, other: Option<f64>) {
    *kept = match (*kept, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

/// Says this of these topics, and nothing of others any more.
pub fn topics(backlogs: Vec<TopicBacklog>) {
    let text = render(backlogs);
    *SHOWN.write().unwrap_or_else(PoisonError::into_inner) = text;
}

/// What is said at the moment.
pub(super) fn shown() -> String {
    SHOWN.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn render(mut backlogs: Vec<TopicBacklog>) -> String {
    backlogs.sort_by(TopicBacklog::in_danger_first);
    let rest = backlogs.split_off(backlogs.len().min(MOST_TOPICS));
    if !rest.is_empty() {
        let mut other = TopicBacklog { topic: OTHER.to_owned(), ..TopicBacklog::default() };
        rest.iter().for_each(|backlog| other.add(backlog));
        backlogs.push(other);
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        table::ALL.iter().filter(|metric| metric.is_of_topics()).for_each(super::describe);
        backlogs.iter().for_each(set);
    });
    recorder.handle().render()
}

fn set(backlog: &TopicBacklog) {
    let values = [
        (table::TOPIC_UNSEALED, Some(backlog.unsealed as f64)),
        (table::TOPIC_PROVISIONAL_END, backlog.provisional_end),
        (table::TOPIC_UNSTORED, Some(backlog.unstored as f64)),
        (table::TOPIC_UNSTORED_START, backlog.unstored_start),
        (table::TOPIC_RETENTION, backlog.retention_seconds),
    ];
    for (name, value) in values {
        let Some(value) = value else { continue };
        gauge!(name, "topic" => backlog.topic.clone()).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(topic: &str, unstored_start: f64, retention_seconds: Option<f64>) -> TopicBacklog {
        TopicBacklog {
            topic: topic.to_owned(),
            unstored: 1,
            unstored_start: Some(unstored_start),
            retention_seconds,
            ..TopicBacklog::default()
        }
    }

    #[test]
    fn what_is_in_danger_has_a_series_of_its_own_and_the_rest_is_summed_up() {
        let safe = (0..500).map(|n| waits(&format!("safe-{n}"), 1000.0 + f64::from(n), None));
        let text = render(safe.chain([waits("at-risk", 9000.0, Some(60.0))]).collect());
        let start = "strandline_topic_oldest_unstored_window_start_timestamp_seconds";
        assert!(text.contains(&format!("{start}{{topic=\"at-risk\"}} 9000")), "{text}");
        assert!(text.contains(&format!("{start}{{topic=\"other\"}} 1099")), "{text}");
        assert!(
            text.contains("strandline_topic_unstored_snapshots{topic=\"other\"} 401"),
            "{text}"
        );
        let series = text.lines().filter(|line| line.starts_with("strandline_topic_")).count();
        assert_eq!(series, (MOST_TOPICS + 1) * 3 + 1, "{text}");
    }

    #[test]
    fn a_name_can_not_break_a_line() {
        let text = render(vec![waits("a\"b\n", 1.0, None)]);
        assert!(text.contains("{topic=\"a\\\"b\\n\"} 1"), "{text}");
    }
}
