//! Tells the program which commit it is built from, and cargo what else the build depends on.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    // The migrations are compiled into the program; cargo must notice a new file.
    println!("cargo:rerun-if-changed=migrations");
    // A file that is not there, as in an image's build context, would mean "always".
    for file in [".git/HEAD", ".git/logs/HEAD"].into_iter().filter(|file| Path::new(file).exists())
    {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=STRANDLINE_COMMIT");
    let given = env::var("STRANDLINE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let shown = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo:rustc-env=STRANDLINE_COMMIT={commit}");
    println!("cargo:rustc-env=STRANDLINE_VERSION={shown}");
}

/// `None` without git, or where the sources are no checkout of their own: the commit of
/// another project that they lie in would be a wrong answer.
fn from_git() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let own = env::var("CARGO_MANIFEST_DIR").ok()?;
    let same = Path::new(&top).canonicalize().ok()? == Path::new(&own).canonicalize().ok()?;
    same.then(|| git(&["rev-parse", "--short=12", "HEAD"])).flatten()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
