//! Every variable that is deployed or documented is a setting that the program reads.

use std::collections::BTreeSet;
use std::process::Command;

use crate::text;

/// The variables in `strandline serve --help`.
fn settings() -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    let output = command.args(["serve", "--help"]).output().expect("it runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
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
        "docs/deploying.md",
        "docs/gotchas.md",
        "README.md",
    ] {
        let named = named(&text(file));
        assert!(!named.is_empty() || !file.ends_with("md"), "{file} names no variable");
        for name in named {
            // Read by the build, not by the program; and what Kubernetes makes up.
            let other = ["STRANDLINE_COMMIT", "STRANDLINE_PORT"].contains(&name.as_str());
            assert!(other || settings.contains(&name), "{file}: {name} is no setting");
        }
    }
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = named(&text("README.md"));
    for name in settings() {
        assert!(readme.contains(&name), "README.md lacks {name}");
    }
}
