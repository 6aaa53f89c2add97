//! What librdkafka says beside its answers: log lines, and the causes of errors.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::call::CallError;
use super::error::{KafkaError, LastError};
use crate::metrics;
use crate::snapshot::TopicName;

/// Log lines per client and [`LINE_WINDOW`]: librdkafka prints some 20 a second while a
/// broker is down, all the same.
const LINES_PER_WINDOW: u32 = 10;
const LINE_WINDOW: Duration = Duration::from_secs(10);

/// Where one client's log lines and errors go.
pub(super) struct Context {
    brokers: String,
    cause: Mutex<Option<CallError>>,
    lines: Mutex<LineLimit>,
}

impl Context {
    pub(super) fn new(brokers: &str) -> Self {
        Context {
            brokers: brokers.to_owned(),
            cause: Mutex::new(None),
            lines: Mutex::new(LineLimit::new(Instant::now())),
        }
    }

    /// Keeps the cause of an error that is reported apart from any answer: a timeout alone
    /// does not tell a wrong password from an unplugged cable.
    pub(super) fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        metrics::kafka_error(&format!("{code:?}"));
        let mut cause = locked(&self.cause);
        // "All brokers are down" follows each cause and would hide it.
        if code != RDKafkaErrorCode::AllBrokersDown || cause.is_none() {
            *cause = Some(CallError { code, reason: one_line(reason) });
        }
    }

    /// To be called when a broker has answered: what went wrong before is over.
    pub(super) fn answered(&self) {
        *locked(&self.cause) = None;
    }

    pub(super) fn last_error(&self) -> LastError {
        LastError(locked(&self.cause).as_ref().map(|cause| cause.reason.clone()))
    }

    /// Whether the brokers can't be reached because they refuse our credentials.
    pub(super) fn refused(&self) -> Option<CallError> {
        locked(&self.cause).clone().filter(|cause| is_refusal(cause.code))
    }

    /// The error for a call that failed.
    pub(super) fn failed(
        &self,
        attempt: &str,
        topic: Option<&TopicName>,
        error: &CallError,
    ) -> KafkaError {
        metrics::kafka_error(&format!("{:?}", error.code));
        let unknown_topic = matches!(
            error.code,
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
        );
        if let (true, Some(topic)) = (unknown_topic, topic) {
            return self.topic_not_found(topic);
        }
        let refusal = if is_refusal(error.code) { Some(error.clone()) } else { self.refused() };
        if let Some(refusal) = refusal {
            return self.unauthorized(attempt, &refusal);
        }
        KafkaError::Unavailable {
            attempt: attempt.to_owned(),
            brokers: self.brokers.clone(),
            reason: one_line(&error.reason),
            last_error: self.last_error(),
        }
    }

    pub(super) fn topic_not_found(&self, topic: &TopicName) -> KafkaError {
        KafkaError::TopicNotFound { topic: topic.to_string(), brokers: self.brokers.clone() }
    }

    pub(super) fn unauthorized(&self, attempt: &str, refusal: &CallError) -> KafkaError {
        KafkaError::Unauthorized {
            attempt: attempt.to_owned(),
            brokers: self.brokers.clone(),
            reason: one_line(&refusal.reason),
        }
    }

    /// One line of librdkafka's log. `level` is syslog's: 3 error, 4 warning, 5 notice.
    pub(super) fn log_line(&self, level: i32, facility: &str, text: &str) {
        let Some(dropped) = locked(&self.lines).admit(Instant::now()) else { return };
        if dropped > 0 {
            tracing::warn!(target: "librdkafka", dropped, "log lines left out");
        }
        let text = one_line(text);
        match level {
            // What fails is reported where it is handled; these lines are for diagnosis.
            ..=4 => tracing::warn!(target: "librdkafka", facility, "{text}"),
            5 | 6 => tracing::info!(target: "librdkafka", facility, "{text}"),
            _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.log_line(level as i32, facility, text);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.note(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Context {}

/// Whether a code means that the brokers know us and say no.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::IllegalSASLState
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is kept here can be left half-written by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct LineLimit {
    window_start: Instant,
    admitted: u32,
    dropped: u64,
}

impl LineLimit {
    fn new(now: Instant) -> Self {
        LineLimit { window_start: now, admitted: 0, dropped: 0 }
    }

    /// `None` if the line is one too many, else how many were dropped before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.window_start) >= LINE_WINDOW {
            self.window_start = now;
            self.admitted = 0;
        }
        if self.admitted >= LINES_PER_WINDOW {
            self.dropped += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_the_dropped_ones_counted() {
        let start = Instant::now();
        let mut limit = LineLimit::new(start);
        let admitted = (0..25).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(admitted as u32, LINES_PER_WINDOW);
        assert_eq!(limit.admit(start + LINE_WINDOW), Some(15));
        assert_eq!(limit.admit(start + LINE_WINDOW), Some(0));
    }

    #[test]
    fn a_cause_is_not_hidden_by_all_brokers_down_and_ends_with_an_answer() {
        let context = Context::new("127.0.0.1:1");
        let timeout =
            CallError { code: RDKafkaErrorCode::OperationTimedOut, reason: "timed out".into() };
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        context.note(RDKafkaErrorCode::Authentication, "bad\n password");
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let error = context.failed("listing topics", None, &timeout);
        assert_eq!(error.failure_kind(), crate::snapshot::FailureKind::KafkaAuth);
        assert!(error.to_string().contains("refused listing topics: bad password"), "{error}");
        context.answered();
        let error = context.failed("listing topics", None, &timeout);
        assert_eq!(error.failure_kind(), crate::snapshot::FailureKind::KafkaUnavailable);
        assert!(error.to_string().starts_with("listing topics failed: timed out; check"));
    }
}
