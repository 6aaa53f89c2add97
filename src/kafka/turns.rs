//! Turns: who asks about a topic, asks alone.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::snapshot::TopicName;

/// The topics that are being asked about.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<TopicName>>,
    given_back: Condvar,
}

/// The right to ask about a topic, until it is dropped.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    topic: &'t TopicName,
}

impl Turns {
    /// Waits for the topic's turn, and no longer than `timeout`; `None` if it has not come.
    pub(super) fn take<'t>(&'t self, topic: &'t TopicName, timeout: Duration) -> Option<Turn<'t>> {
        let taken = |taken: &mut HashSet<TopicName>| taken.contains(topic);
        let waited = self.given_back.wait_timeout_while(self.taken(), timeout, taken);
        let (mut topics, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        topics.insert(topic.clone());
        Some(Turn { turns: self, topic })
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<TopicName>> {
        // Nothing that is kept here can be left half-written by a panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken().remove(self.topic);
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_turn_at_a_time_and_topics_do_not_wait_for_each_other() {
        let turns = Turns::default();
        let [one, other] = ["one", "other"].map(|name| TopicName::parse(name).expect("a name"));
        let turn = turns.take(&one, Duration::ZERO).expect("nobody has it");
        assert!(turns.take(&one, Duration::ZERO).is_none());
        assert!(turns.take(&other, Duration::ZERO).is_some());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(&one, Duration::from_secs(60)).is_some());
            drop(turn);
            assert!(waits.join().expect("no panic"));
        });
        assert!(turns.take(&one, Duration::ZERO).is_some());
    }
}
