//! Dockerfile and .dockerignore.

use std::fs;
use std::process::Command;

use crate::{check_pinned, path, text};

/// The instructions, continued lines joined, without comments.
fn instructions() -> Vec<String> {
    let lines = text("Dockerfile");
    let lines = lines.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn of(name: &str) -> Vec<String> {
    let prefix = format!("{name} ");
    let all = instructions();
    all.iter().filter_map(|line| line.strip_prefix(&prefix)).map(|l| l.trim().to_owned()).collect()
}

#[test]
fn it_is_built_with_the_rust_that_we_ask_for() {
    let stages = of("FROM");
    let images: Vec<&str> = stages.iter().filter_map(|stage| stage.split(' ').next()).collect();
    let manifest = text("Cargo.toml");
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = wanted.expect("rust-version").trim_matches('"');
    assert!(images[0].starts_with(&format!("rust:{wanted}-")), "{images:?}");
    check_pinned(images[0]);
    // Of both stages one Debian: the program is linked against its libraries.
    let release =
        |image: &str| image.rsplit(['-', ':']).find(|part| *part != "slim").map(str::to_owned);
    assert_eq!(release(images[0]), release(images[1]));
    let builds =
        of("RUN").iter().filter(|run| run.contains("cargo build --locked --release")).count();
    assert_eq!(builds, 1);
    // The faults of the tests stay in the tests.
    assert!(!of("RUN").iter().any(|run| run.contains("features")));
}

#[test]
fn it_has_what_building_needs() {
    // As scripts/install.sh does, but for what only tests and the demo use, and what the image
    // with Rust has.
    let built = of("RUN").first().cloned().expect("a first step");
    for package in ["g++", "make", "pkg-config", "libssl-dev", "zlib1g-dev", "perl"] {
        assert!(text("scripts/install.sh").contains(package), "{package} is not needed any more");
        assert!(built.split(' ').any(|word| word == package), "{package} is missing");
    }
}

#[test]
fn what_was_built_is_what_is_run() {
    let stages = of("FROM");
    let (_, stage) = stages[0].split_once(" AS ").expect("a stage with a name");
    let build = of("RUN").into_iter().find(|run| run.contains("cargo build")).expect("a build");
    let [folder, _] = &of("WORKDIR")[..] else { panic!("two folders") };
    assert!(build.contains(&format!("--mount=type=cache,target={folder}/target ")), "{build}");
    // A cache is gone after the step, so the program is put elsewhere in the same one.
    let out = "/out/strandline";
    assert!(build.ends_with(&format!("install -D -m 0755 target/release/strandline {out}")));
    let copied = format!("--from={stage} {out} /usr/local/bin/strandline");
    assert!(of("COPY").contains(&copied), "{copied}");
    // Without the declaration the variable is empty, whatever is handed over.
    assert!(build.contains("STRANDLINE_COMMIT=\"$STRANDLINE_COMMIT\" cargo build"));
    assert_eq!(of("ARG"), [r#"STRANDLINE_COMMIT="""#]);
}

#[test]
fn it_has_the_libraries_that_the_program_is_linked_to() {
    let linked = Command::new("ldd").arg(env!("CARGO_BIN_EXE_strandline")).output().expect("ldd");
    let linked = String::from_utf8(linked.stdout).expect("UTF-8");
    let installed = of("RUN").last().cloned().expect("a last step");
    let has = |package: &str| installed.split(' ').any(|word| word == package);
    let mut libraries = 0;
    for library in linked.lines().filter_map(|line| line.trim().split(".so").next()) {
        let package = match library {
            "libssl" | "libcrypto" => "libssl3t64",
            "libz" => "zlib1g",
            // In every Debian.
            "libc" | "libm" | "libgcc_s" | "linux-vdso" => continue,
            loader if loader.contains("/ld-linux") => continue,
            other => panic!("which package has {other}?"),
        };
        assert!(has(package), "{package} is missing");
        libraries += 1;
    }
    assert!(libraries >= 2, "{linked}");
    assert!(has("ca-certificates"), "nobody could be believed");
}

#[test]
fn it_may_write_to_its_own_folder() {
    let folder = "/var/lib/strandline";
    let made = of("RUN").last().cloned().expect("a last step");
    assert!(made.ends_with(&format!("install -d -o 65532 -g 65532 -m 0750 {folder}")), "{made}");
    assert_eq!(of("WORKDIR")[1], folder);
    assert!(of("ENV")[0].ends_with(&format!("STRANDLINE_DATA_DIR={folder}")));
}

#[test]
fn it_does_not_run_as_root() {
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(of("ENTRYPOINT"), [r#"["strandline"]"#]);
    assert_eq!(of("CMD"), [r#"["serve"]"#]);
    assert!(of("HEALTHCHECK")[0].ends_with(r#"CMD ["strandline", "health"]"#));
    assert_eq!(of("EXPOSE"), ["8080"]);
    assert!(of("ENV")[0].contains("STRANDLINE_LISTEN=0.0.0.0:8080"));
}

#[test]
fn the_context_is_what_the_build_reads() {
    let ignore = text(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "nothing that is not named");
    let let_in: Vec<&str> = lines.filter_map(|line| line.strip_prefix('!')).collect();
    for name in &let_in {
        assert!(path(name).exists(), "{name} is not there");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "migrations", "page"] {
        assert!(let_in.contains(&needed), "{needed} does not get into the image");
    }
    // Cargo looks for a target without a path, also one that it does not build.
    for target in text("Cargo.toml").split("\n[[").skip(1) {
        assert!(target.contains("\npath = "), "[[{target}");
    }
    // What the sources take in from elsewhere has to get in as well.
    let mut folders = vec![path("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let file = entry.expect("an entry").path();
            let name = file.file_name().expect("a name").to_string_lossy();
            if name == "tests" || name == "tests.rs" {
                continue; // not compiled into the program
            }
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let source = fs::read_to_string(&file).expect("UTF-8");
            for reads in ["include_str!(\"../..", "include_bytes!(\"../..", "CARGO_MANIFEST_DIR"] {
                let code = source.split("#[cfg(test)]").next().unwrap_or_default();
                assert!(!code.contains(reads), "{} reads from outside of src", file.display());
            }
        }
    }
}
