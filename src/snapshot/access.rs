//! Who may have what: scopes, patterns of topics, and both together.

use std::fmt;

use super::TopicName;

/// What a caller may do; each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look.
    Read,
    /// Ask for snapshots, cancel and refresh them.
    Write,
    /// Everything, also what may come.
    Admin,
}

impl Scope {
    /// All of them, the smallest first.
    pub const ALL: &[Scope] = &[Scope::Read, Scope::Write, Scope::Admin];

    /// Its name, for people and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Scope::ALL.iter().copied().find(|scope| scope.as_str() == name)
    }
}

/// A pattern of topics' names: `*` stands for any characters, also none, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicGlob(String);

/// Why a text is no pattern of topics' names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicGlobError {
    /// No characters at all.
    #[error("the pattern is empty; * stands for all topics")]
    Empty,
    /// Longer than any name.
    #[error("the pattern has {0} characters; {max} are allowed", max = TopicName::MAX_LENGTH)]
    TooLong(usize),
    /// A character that is in no name.
    #[error(
        "the pattern has the character {0:?}; a-z A-Z 0-9 . _ - and, for any, * and ? are allowed"
    )]
    BadCharacter(char),
}

impl TopicGlob {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`TopicGlobError`] with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, TopicGlobError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
        match text.chars().find(|&c| !allowed(c)) {
            Some(bad) => Err(TopicGlobError::BadCharacter(bad)),
            None if text.is_empty() => Err(TopicGlobError::Empty),
            None if text.len() > TopicName::MAX_LENGTH => Err(TopicGlobError::TooLong(text.len())),
            None => Ok(TopicGlob(text.to_owned())),
        }
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern stands for this name.
    ///
    /// A star first stands for nothing, and for one character more each time that what
    /// follows it does not fit: only the last star ever has to give way.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut last_star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match last_star {
                    Some((star, from)) => {
                        last_star = Some((star, from + 1));
                        p = star + 1;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

impl fmt::Display for TopicGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody may do, and with which topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub scope: Scope,
    /// With topics of any of these patterns; empty for all.
    pub topics: Vec<TopicGlob>,
}

impl Grant {
    /// Everything, with all topics.
    pub const ALL: Grant = Grant { scope: Scope::Admin, topics: Vec::new() };

    /// Whether this topic is among them.
    pub fn covers(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|glob| glob.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> TopicGlob {
        TopicGlob::parse(text).expect("a good pattern")
    }

    #[test]
    fn scopes_include_smaller_ones() {
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.as_str()), Some(*scope));
        }
        assert_eq!(Scope::from_name("root"), None);
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, fits) in [
            ("*", "orders", true),
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.", true),
            ("orders.*", "ordersXeu", false),
            ("*.eu", "a.b.eu", true),
            ("*.eu", "a.eu.b", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaybzb", true),
            ("a**", "a", true),
            ("team_a-*", "team_b-x", false),
        ] {
            assert_eq!(glob(pattern).matches(name), fits, "{pattern} {name}");
        }
        for bad in ["", "a b", "a/b", "[ab]", "оrders", "a\n", &"x".repeat(250)] {
            assert!(TopicGlob::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_pattern_means_every_topic() {
        assert!(Grant::ALL.covers("orders"));
        let grant = Grant { scope: Scope::Read, topics: vec![glob("a*"), glob("b")] };
        assert!(grant.covers("ab") && grant.covers("b"));
        assert!(!grant.covers("bb"));
    }

    /// Straight from what the signs mean.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((b'*', rest)), None) => naive(rest, name),
            (Some((b'*', rest)), Some((_, tail))) => naive(rest, name) || naive(pattern, tail),
            (Some((c, rest)), Some((d, tail))) => (*c == b'?' || c == d) && naive(rest, tail),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_signs_mean(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let found = glob(&pattern).matches(&name);
            prop_assert_eq!(found, naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
