//! Every variable that is deployed or documented is a setting that the program reads.

use std::collections::BTreeSet;
use std::process::Command;

use crate::text;

/// What `strandline serve --help` prints.
fn help() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    let output = command.args(["serve", "--help"]).output().expect("it runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The variables in it.
fn settings() -> BTreeSet<String> {
    let help = help();
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(names.contains("STRANDLINE_DATABASE_URL") && names.len() > 10, "{names:?}");
    names
}

/// All words in a text that begin as our variables do, those of OpenTelemetry's standard included.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let begins = |word: &str| ["STRANDLINE_", "OTEL_"].iter().any(|start| word.starts_with(start));
    let ours = words.filter(|word| begins(word) && !word.ends_with('_'));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_variable_is_a_setting() {
    let settings = settings();
    for file in [
        "Dockerfile",
        "docker-compose.yml",
        "deploy/kubernetes/configmap.yaml",
        "deploy/kubernetes/secret.example.yaml",
        "deploy/kubernetes/deployment.yaml",
        "docs/airflow.md",
        "docs/deploying.md",
        "docs/gotchas.md",
        "docs/logs.md",
        "docs/metrics.md",
        "docs/operating.md",
        "docs/security.md",
        "docs/stores.md",
        "README.md",
    ] {
        let named = named(&text(file));
        assert!(!named.is_empty() || !file.ends_with("md"), "{file} names no variable");
        for name in named {
            // Read by the build or by tests, not by the program; and what Kubernetes makes up.
            let other = ["STRANDLINE_COMMIT", "STRANDLINE_PORT"].contains(&name.as_str())
                || name.starts_with("STRANDLINE_TEST_");
            assert!(other || settings.contains(&name), "{file}: {name} is no setting");
        }
    }
}

/// `NAME` (100,000): a variable and what it is when nobody sets it.
fn defaults_said(text: &str) -> Vec<(String, String)> {
    let words = text.split('`').collect::<Vec<_>>();
    let pairs = words.windows(2).filter(|pair| pair[0].starts_with("STRANDLINE_"));
    let said = |pair: &[&str]| {
        let number = pair[1].strip_prefix(" (")?.split(')').next()?.replace(',', "");
        number.parse::<u64>().is_ok().then(|| (pair[0].to_owned(), number))
    };
    pairs.filter_map(said).collect()
}

#[test]
fn the_runbook_knows_the_defaults() {
    let help = help();
    let said = defaults_said(&text("docs/operating.md"));
    assert!(said.len() >= 2, "{said:?}");
    for (name, number) in said {
        let (_, rest) = help.split_once(&format!("[env: {name}=")).expect("a setting");
        let default = rest.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
        assert_eq!(default, Some(number.as_str()), "{name}");
    }
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = named(&text("README.md"));
    for name in settings() {
        assert!(readme.contains(&name), "README.md lacks {name}");
    }
}
