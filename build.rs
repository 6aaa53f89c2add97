//! Tells the program which commit it is built from, and cargo what else the build depends on.

use std::process::Command;

fn main() {
    // The migrations are compiled into the program; cargo must notice a new file.
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    println!("cargo:rerun-if-env-changed=STRANDLINE_COMMIT");
    let given = std::env::var("STRANDLINE_COMMIT").ok().filter(|commit| !commit.is_empty());
    println!("cargo:rustc-env=STRANDLINE_COMMIT={}", given.or_else(from_git).unwrap_or_default());
}

fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}
