//! No message floods the log: of each, so many lines are written in a window of time, and how
//! many were left out is told.
//!
//! A message is a place in the code (of libraries that use `log`, all of a module at one level),
//! so that what is kept is bounded whatever callers send. What is asked for by the settings,
//! `debug` and `trace`, comes whole.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level};
use tracing_log::NormalizeEvent;

use super::line::message_of;

/// Lines of one message per [`WINDOW`].
const LINES_PER_WINDOW: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// The event of which every line counts, by the name that `story` gives it.
const NEVER_LEFT_OUT: &str = "snapshot_finished";

static MESSAGES: LazyLock<Mutex<HashMap<Key, Message>>> = LazyLock::new(Mutex::default);

type Key = (Identifier, Option<String>);

#[derive(Default)]
struct Message {
    limit: LineLimit,
    text: String,
    target: String,
}

/// `None` if the event's line is one too many, else how many of its message were left out
/// before it.
pub(super) fn admit(event: &Event<'_>) -> Option<u64> {
    let metadata = event.metadata();
    if *metadata.level() > Level::INFO || metadata.name() == NEVER_LEFT_OUT {
        return Some(0);
    }
    let of_log = event.normalized_metadata();
    let module = of_log.as_ref().map(|metadata| metadata.target().to_owned());
    let target = module.as_deref().unwrap_or(metadata.target()).to_owned();
    let mut messages = locked();
    let message = messages.entry((metadata.callsite(), module)).or_default();
    let admitted = message.limit.admit(Instant::now());
    if admitted.is_none() && message.text.is_empty() {
        (message.text, message.target) = (message_of(event), target);
    }
    admitted
}

/// Tells of lines that were left out in windows that are over. To be called every few seconds.
pub fn tell_left_out() {
    tell(|limit| limit.is_over(Instant::now()));
}

/// Tells of all lines that were left out. To be called before the program ends.
pub fn tell_left_out_so_far() {
    tell(|_| true);
}

fn tell(due: impl Fn(&LineLimit) -> bool) {
    let mut told = Vec::new();
    for message in locked().values_mut().filter(|message| due(&message.limit)) {
        match std::mem::take(&mut message.limit.left_out) {
            0 => {}
            left_out => told.push((left_out, message.text.clone(), message.target.clone())),
        }
    }
    for (left_out, of_message, of_target) in told {
        tracing::warn!(left_out, of_message, of_target, "log lines left out");
    }
}

fn locked() -> MutexGuard<'static, HashMap<Key, Message>> {
    // Nothing that is kept here can be left half-written by a panic.
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct LineLimit {
    window_start: Option<Instant>,
    admitted: u32,
    left_out: u64,
}

impl LineLimit {
    fn is_over(&self, now: Instant) -> bool {
        self.window_start.is_none_or(|start| now.duration_since(start) >= WINDOW)
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.is_over(now) {
            self.window_start = Some(now);
            self.admitted = 0;
        }
        if self.admitted >= LINES_PER_WINDOW {
            self.left_out += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// As if the windows of all messages were over.
#[cfg(test)]
pub(super) fn end_windows() {
    for message in locked().values_mut() {
        message.limit.window_start = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_those_left_out_counted() {
        let start = Instant::now();
        let mut limit = LineLimit::default();
        let lines = LINES_PER_WINDOW + 15;
        let admitted = (0..lines).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(admitted as u32, LINES_PER_WINDOW);
        assert!(!limit.is_over(start) && limit.is_over(start + WINDOW));
        assert_eq!(limit.admit(start + WINDOW), Some(15));
        assert_eq!(limit.admit(start + WINDOW), Some(0));
    }
}
