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

/// Where one client's log lines and errors go.
pub(super) struct Context {
    brokers: String,
    cause: Mutex<Option<CallError>>,
    /// Since when no call has been answered.
    failing_since: Mutex<Option<Instant>>,
}

impl Context {
    pub(super) fn new(brokers: &str) -> Self {
        Context {
            brokers: brokers.to_owned(),
            cause: Mutex::default(),
            failing_since: Mutex::default(),
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
        *locked(&self.failing_since) = None;
    }

    /// How long calls have failed for want of an answer, none succeeding.
    pub(super) fn failing_for(&self) -> Duration {
        locked(&self.failing_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Begins where another client of the same brokers has ended: with its trouble.
    pub(super) fn distrust(&self, other: &Context) {
        let cause = locked(&other.cause).clone();
        let silence = || CallError::of(RDKafkaErrorCode::OperationTimedOut);
        *locked(&self.cause) = Some(cause.unwrap_or_else(silence));
    }

    /// Whether something went wrong since a broker last answered.
    pub(super) fn is_troubled(&self) -> bool {
        locked(&self.cause).is_some()
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
        locked(&self.failing_since).get_or_insert_with(Instant::now);
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

    /// One line of librdkafka's log, which has syslog's levels. (It prints some 20 a second
    /// while a broker is down, all the same; `telemetry` leaves out what is too much.)
    pub(super) fn log_line(&self, level: i32, facility: &str, text: &str) {
        let text = one_line(text);
        match level {
            ..=2 => tracing::error!(target: "librdkafka", facility, text, "librdkafka says"),
            // An error of one connection is tried again; what fails in the end is reported
            // where it is handled. These lines are for diagnosis.
            3 | 4 => tracing::warn!(target: "librdkafka", facility, text, "librdkafka says"),
            5 | 6 => tracing::info!(target: "librdkafka", facility, text, "librdkafka says"),
            _ => tracing::debug!(target: "librdkafka", facility, text, "librdkafka says"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let next = Context::new("127.0.0.1:1");
        next.distrust(&context);
        assert!(next.is_troubled() && next.failing_for().is_zero());
        assert_eq!(next.last_error(), context.last_error());
        context.answered();
        assert!(!context.is_troubled());
        let error = context.failed("listing topics", None, &timeout);
        assert_eq!(error.failure_kind(), crate::snapshot::FailureKind::KafkaUnavailable);
        assert!(error.to_string().starts_with("listing topics failed: timed out; check"));
    }
}
