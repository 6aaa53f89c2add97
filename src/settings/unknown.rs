//! Environment variables that look like ours and are no setting: a slip of the pen would
//! otherwise be a default that nobody notices.

use std::collections::BTreeSet;
use std::fmt;

use clap::{Command, CommandFactory};

use super::Cli;

const PREFIX: &str = "STRANDLINE_";

/// Ours, but not the program's: the build's commit, the tests' and the demo's own.
const ELSEWHERE: &[&str] = &[
    "STRANDLINE_COMMIT",
    "STRANDLINE_TEST_",
    "STRANDLINE_DEMO_",
    // Read only where there are faults; elsewhere it does nothing indeed.
    #[cfg(all(feature = "faults", debug_assertions))]
    "STRANDLINE_FAULT",
];

/// What Kubernetes puts into every container of a namespace with a Service `strandline`.
const SERVICE_LINKS: &[&str] = &["STRANDLINE_SERVICE_", "STRANDLINE_PORT_"];

/// A variable that no command reads.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    name: String,
    meant: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no setting and does nothing", self.name)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean {meant}?"),
            None => f.write_str("; strandline serve --help lists the settings"),
        }
    }
}

/// Those among the variables, given as names and values, that no command reads.
pub fn unknown_variables(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<UnknownVariable> {
    let known = known_variables();
    let mut unknown: Vec<_> = variables
        .into_iter()
        .filter(|(name, value)| is_ours(name, value) && !known.contains(name))
        .map(|(name, _)| UnknownVariable { meant: nearest(&name, &known), name })
        .collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

fn is_ours(name: &str, value: &str) -> bool {
    let service_link = name == "STRANDLINE_PORT" && value.contains("://");
    let not_ours = || ELSEWHERE.iter().chain(SERVICE_LINKS).any(|other| name.starts_with(other));
    name.starts_with(PREFIX) && !service_link && !not_ours()
}

fn known_variables() -> Vec<String> {
    let cli = Cli::command();
    let commands = std::iter::once(&cli).chain(cli.get_subcommands());
    let arguments = commands.flat_map(Command::get_arguments);
    let names: BTreeSet<String> =
        arguments.filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())).collect();
    names.into_iter().collect()
}

/// The one that was probably meant: the only one with these words, or with fewer or more of
/// them, or else the one that is a few letters away.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let own = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let written = own(name);
    let within = |a: &str, b: &str| a.split('_').all(|word| b.split('_').any(|w| w == word));
    let alike = |one: &&String| within(&own(one), &written) || within(&written, &own(one));
    let mut with_its_words = known.iter().filter(alike);
    if let (Some(only), None) = (with_its_words.next(), with_its_words.next()) {
        return Some(only.clone());
    }
    let distance = |one: &String| strsim::damerau_levenshtein(&own(one), &written);
    let near = known.iter().map(|one| (distance(one), one)).min();
    near.filter(|(distance, one)| *distance <= 1 + own(one).len() / 4).map(|(_, one)| one.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: &str) -> Option<String> {
        let mut unknown = unknown_variables([(name.to_owned(), value.to_owned())]);
        assert!(unknown.len() <= 1);
        unknown.pop().map(|one| one.to_string())
    }

    #[test]
    fn a_slip_of_the_pen_is_noticed() {
        for (written, meant) in [
            ("STRANDLINE_KAFKA_BROKER", "STRANDLINE_KAFKA_BROKERS"),
            ("STRANDLINE_DATABSE_URL", "STRANDLINE_DATABASE_URL"),
            ("STRANDLINE_BROKERS", "STRANDLINE_KAFKA_BROKERS"),
            ("STRANDLINE_LOGFORMAT", "STRANDLINE_LOG_FORMAT"),
            ("STRANDLINE_LEASE", "STRANDLINE_LEASE_SECONDS"),
            ("STRANDLINE_LOG_LEVEL", "STRANDLINE_LOG"),
        ] {
            let said = said(written, "x").expect("unknown");
            assert!(said.starts_with(&format!("{written} is no setting")), "{said}");
            assert!(said.ends_with(&format!("did you mean {meant}?")), "{said}");
        }
        let far = said("STRANDLINE_ZZZZZZ", "x").expect("unknown");
        assert!(far.ends_with("strandline serve --help lists the settings"), "{far}");
        assert!(said("STRANDLINE_PORT", "8080").is_some());
    }

    #[test]
    fn what_is_a_setting_or_not_ours_is_left_alone() {
        for name in known_variables() {
            assert_eq!(said(&name, "x"), None);
        }
        for (name, value) in [
            ("PATH", "/bin"),
            ("STRANDLINE_TEST_KAFKA", "127.0.0.1:1"),
            ("STRANDLINE_DEMO_PROFILE", "release"),
            ("STRANDLINE_COMMIT", "abc"),
            ("STRANDLINE_PORT", "tcp://10.0.0.1:80"),
            ("STRANDLINE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("STRANDLINE_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert_eq!(said(name, value), None);
        }
    }
}
