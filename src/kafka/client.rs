//! One cluster, long-lived: what topics there are and what they are now.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::error::RDKafkaErrorCode;

use super::call::{CallError, FoundTopic};
use super::config::KafkaConfig;
use super::error::KafkaError;
use super::ffi;
use super::handle::{Handle, Handles};
use super::turns::Turns;
use crate::metrics;
use crate::snapshot::{TimestampType, TopicName};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A topic's id: 16 bytes that are new each time a topic is made, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId([u8; 16]);

/// A text that is no topic id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no topic id; kafka-topics --describe shows them, 22 characters of base64")]
pub struct TopicIdError(String);

impl TopicId {
    /// The id that has these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        TopicId(bytes)
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Kafka's own form: base64 with `-` and `_`, without padding, 22 characters.
    pub fn as_base64(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// 32 hexadecimal digits, small letters: safe in the names of files and objects.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Kafka's own form, as `kafka-topics --describe` prints it.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_base64())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl FromStr for TopicId {
    type Err = TopicIdError;

    fn from_str(text: &str) -> Result<Self, TopicIdError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| <[u8; 16]>::try_from(b).ok());
        bytes.map(TopicId).ok_or_else(|| TopicIdError(text.chars().take(64).collect()))
    }
}

/// What a topic is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// `None` where the broker has no topic ids (before Kafka 2.8).
    pub topic_id: Option<TopicId>,
    /// The partitions' numbers, in order; at least one.
    pub partitions: Vec<i32>,
    /// `message.timestamp.type`, `None` if this user may not see settings.
    pub timestamp_type: Option<TimestampType>,
    /// `retention.ms`, −1 where events are kept for good; `None` if this user may not see
    /// settings.
    pub retention_ms: Option<i64>,
}

/// One line of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicSummary {
    /// The topic's name; Kafka's own topics (`__…`) are in the list too.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A connection to one cluster for all that is not reading events. Cheap to clone; its calls
/// block, for [about ten seconds](KafkaError::Unavailable) at the longest.
#[derive(Clone)]
pub struct KafkaClient {
    handles: Arc<Handles>,
    /// For questions about offsets.
    turns: Arc<Turns>,
}

impl KafkaClient {
    /// Makes the client. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`KafkaError::Client`] where librdkafka does not take the settings.
    pub fn connect(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let handles = Arc::new(Handles::new(config)?);
        Ok(KafkaClient { handles, turns: Arc::default() })
    }

    /// The version of the librdkafka that is built in, as in `2.12.1`.
    pub fn librdkafka_version() -> String {
        rdkafka::util::get_rdkafka_version().1
    }

    /// What the topic is now: id, partitions, kind of timestamps, retention.
    ///
    /// # Errors
    /// [`KafkaError::TopicNotFound`], [`KafkaError::Unauthorized`],
    /// [`KafkaError::Unavailable`].
    pub fn describe_topic(&self, topic: &TopicName) -> Result<TopicDescription, KafkaError> {
        let found = self.find_topic(topic, CALL_TIMEOUT)?;
        let settings = self.topic_settings(topic)?;
        let setting = |wanted: &str| {
            settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let mut partitions: Vec<i32> = found.partitions.iter().map(|p| p.partition).collect();
        partitions.sort_unstable();
        Ok(TopicDescription {
            topic_id: known_id(&found),
            partitions,
            timestamp_type: setting("message.timestamp.type").and_then(timestamp_type),
            retention_ms: setting("retention.ms").and_then(|value| value.parse().ok()),
        })
    }

    /// The topic's id alone, to tell whether it is still the same one. `None` where the
    /// broker has no topic ids.
    ///
    /// # Errors
    /// As [`KafkaClient::describe_topic`].
    pub fn topic_id(&self, topic: &TopicName) -> Result<Option<TopicId>, KafkaError> {
        self.find_topic(topic, CALL_TIMEOUT).map(|found| known_id(&found))
    }

    /// All topics that this user may see, in order of their names.
    ///
    /// # Errors
    /// [`KafkaError::Unauthorized`], [`KafkaError::Unavailable`].
    pub fn list_topics(&self) -> Result<Vec<TopicSummary>, KafkaError> {
        let handle = self.handle();
        let metadata = timed("metadata", || handle.native().fetch_metadata(None, CALL_TIMEOUT))
            .map_err(|e| handle.context().failed("listing topics", None, &CallError::from(&e)))?;
        handle.context().answered();
        let mut topics: Vec<TopicSummary> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|t| TopicSummary { topic: t.name().to_owned(), partitions: t.partitions().len() })
            .collect();
        topics.sort_unstable();
        Ok(topics)
    }

    /// Id and partitions. A topic without partitions is none.
    pub(super) fn find_topic(
        &self,
        topic: &TopicName,
        timeout: Duration,
    ) -> Result<FoundTopic, KafkaError> {
        let handle = self.handle();
        handle.check_reach("describing the topic", topic, timeout)?;
        let describe = || ffi::describe_topic(handle.native(), topic.as_str(), timeout);
        let found = timed("describe_topic", describe)
            .map_err(|e| handle.context().failed("describing the topic", Some(topic), &e))?;
        handle.context().answered();
        if found.partitions.is_empty() {
            return Err(handle.context().topic_not_found(topic));
        }
        Ok(found)
    }

    /// The topic's settings; none where this user may not see them, or the broker has no
    /// such call.
    fn topic_settings(&self, topic: &TopicName) -> Result<Vec<(String, String)>, KafkaError> {
        let handle = self.handle();
        let describe =
            || ffi::describe_topic_settings(handle.native(), topic.as_str(), CALL_TIMEOUT);
        match timed("describe_config", describe) {
            Ok(settings) => Ok(settings),
            Err(error) => match error.code {
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::UnsupportedFeature
                | RDKafkaErrorCode::UnsupportedVersion => Ok(Vec::new()),
                _ => {
                    let attempt = "reading the topic's settings";
                    Err(handle.context().failed(attempt, Some(topic), &error))
                }
            },
        }
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// What to ask with.
    pub(super) fn handle(&self) -> Arc<Handle> {
        self.handles.current()
    }
}

/// Asks, and measures how long that takes.
pub(super) fn timed<T>(op: &'static str, ask: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = ask();
    metrics::kafka_answered(op, started.elapsed());
    answer
}

fn known_id(found: &FoundTopic) -> Option<TopicId> {
    Some(TopicId(found.topic_id)).filter(|id| id.0 != [0; 16])
}

/// Kafka's names of the two kinds.
fn timestamp_type(value: &str) -> Option<TimestampType> {
    match value {
        "CreateTime" => Some(TimestampType::CreateTime),
        "LogAppendTime" => Some(TimestampType::LogAppendTime),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_has_kafkas_form() {
        let id = TopicId::from_bytes(
            *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\xfc\xfd\xfe\xff",
        );
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoL_P3-_w");
        assert_eq!(id.hex(), "000102030405060708090a0bfcfdfeff");
        assert_eq!("AAECAwQFBgcICQoL_P3-_w".parse(), Ok(id));
        for bad in ["", "AAECAwQFBgcICQoL", "AAECAwQFBgcICQoL_P3-_w==", "AAECAwQFBgcICQoL/P3+/w"] {
            assert!(bad.parse::<TopicId>().is_err(), "{bad}");
        }
    }
}
