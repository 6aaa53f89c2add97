//! Names of topics, by Kafka's own grammar.

use std::fmt;

use serde::{Serialize, Serializer};

/// The cluster that a request means if it names none: the one that the settings describe.
pub const DEFAULT_CLUSTER: &str = "default";

/// The name of a topic that may be snapshot: 1 to 249 characters of `a-z A-Z 0-9 . _ -`,
/// neither `.` nor `..`, and none of Kafka's own (`__…`).
///
/// Source of the grammar: `org.apache.kafka.common.internals.Topic`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// Why a text is no name of a topic that may be snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No characters at all.
    #[error("the topic's name is empty")]
    Empty,
    /// More than 249 characters.
    #[error("the topic's name has {0} characters; Kafka allows 249")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("{0:?} can't be a topic's name")]
    Dots(String),
    /// A character outside Kafka's set.
    #[error("the topic's name has the character {0:?}; Kafka allows a-z A-Z 0-9 . _ -")]
    BadCharacter(char),
    /// One of Kafka's own topics, such as `__consumer_offsets`.
    #[error("topics that begin with __ are Kafka's own and can't be snapshot")]
    Internal,
}

impl TopicName {
    /// The longest name that Kafka allows.
    pub const MAX_LENGTH: usize = 249;

    /// Checks a name.
    ///
    /// # Errors
    /// [`TopicNameError`] with the rule that the name breaks.
    pub fn parse(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
            return Err(TopicNameError::BadCharacter(bad));
        }
        if name.len() > Self::MAX_LENGTH {
            return Err(TopicNameError::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots(name.to_owned()));
        }
        if name.starts_with("__") {
            return Err(TopicNameError::Internal);
        }
        Ok(TopicName(name.to_owned()))
    }

    /// The name as Kafka knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TopicName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_grammar() {
        let longest = "x".repeat(249);
        for good in ["orders", "a.b", "a_b", "A-1", "_x", "...", longest.as_str()] {
            assert!(TopicName::parse(good).is_ok(), "{good}");
        }
        let too_long = "x".repeat(250);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../../etc/passwd",
            "a b",
            "a\n",
            "оrders",
            "^orders.*",
            "{{7*7}}",
            "__consumer_offsets",
            too_long.as_str(),
        ] {
            assert!(TopicName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
