//! Style that matters is a test: who imports whom, how long files and functions are, that
//! every module says what it is, and that some words stay in their rooms.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom, besides outside crates and `fault`, which is nothing in a release.
/// `main` and what it puts together may all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &["snapshot", "db", "store", "data_file", "metrics", "story", "trace"]),
    ("job", &["snapshot", "kafka", "data_file", "store", "db", "metrics", "story", "trace"]),
    ("metrics", &["snapshot"]),
    ("story", &["snapshot", "db", "trace"]),
    ("trace", &[]),
    ("kafka", &["snapshot", "metrics"]),
    ("data_file", &["snapshot"]),
    ("store", &["snapshot", "metrics"]),
    ("db", &["snapshot", "metrics"]),
    ("settings", &["snapshot"]),
    ("telemetry", &["settings", "metrics", "trace"]),
    ("snapshot", &[]),
];

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(root).expect("below the root").to_owned();
                let second = path.iter().nth(1).expect("src/…").to_string_lossy().into_owned();
                sources.push(Source { room: second.replace(".rs", ""), path, text });
            }
        }
    }
    assert!(!sources.is_empty());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The text without its tests, which come last in a file.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn fail_with(what: &str, places: &[String]) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

#[test]
fn modules_import_only_what_they_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(allowed) = rules.get(source.room.as_str()) else { continue };
        for (number, line) in code(&source.text).lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for import in line.split("crate::").skip(1) {
                let module: String =
                    import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if module != source.room && module != "fault" && !allowed.contains(&module.as_str())
                {
                    wrong.push(format!("{}:{}: {module}", source.path.display(), number + 1));
                }
            }
        }
    }
    fail_with("these modules import what they may not", &wrong);
}

#[test]
fn the_core_has_no_clock_no_io_and_never_awaits() {
    let words = [
        "async ", ".await", "std::fs", "std::net", "std::io", "tokio", "tracing", "now(",
        "std::env", "rdkafka", "println",
    ];
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| source.room == "snapshot") {
        for word in words.iter().filter(|word| code(&source.text).contains(*word)) {
            wrong.push(format!("{}: {word}", source.path.display()));
        }
    }
    fail_with("the core reaches out of itself", &wrong);
}

#[test]
fn some_words_stay_in_their_rooms() {
    let rooms: &[(&str, &[&str])] = &[
        ("rdkafka::", &["kafka"]),
        ("deadpool_postgres::", &["db"]),
        ("tokio_postgres::", &["db"]),
        ("SELECT ", &["db"]),
        ("INSERT INTO", &["db"]),
        ("object_store::", &["store", "data_file"]),
        ("actix_web", &["api", "app", "background", "server"]),
    ];
    let mut wrong = Vec::new();
    for source in sources("src") {
        for (word, allowed) in rooms {
            if code(&source.text).contains(word) && !allowed.contains(&source.room.as_str()) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
        let path = source.path.to_string_lossy();
        if source.text.contains("unsafe {") && !path.contains("kafka/ffi") {
            wrong.push(format!("{}: unsafe", source.path.display()));
        }
    }
    fail_with("these words are in the wrong room", &wrong);
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = sources("src")
        .iter()
        .chain(&sources("tests"))
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path.display().to_string())
        .collect();
    fail_with("these files have no module doc", &silent);
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for source in sources("src") {
        let lines = code(&source.text).lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{}: {lines} lines", source.path.display()));
        }
        for (name, lines) in functions(&source.text) {
            if lines > LONGEST_FUNCTION {
                long.push(format!("{}: {name}: {lines} lines", source.path.display()));
            }
        }
    }
    fail_with("these are too long", &long);
}

/// Functions and how many lines each has, by rustfmt's indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let public = words.strip_prefix("pub(super) ").unwrap_or(words);
        let head = public.split('(').next().unwrap_or_default();
        if open.is_none() && head.split(' ').any(|word| word == "fn") && !words.starts_with("//") {
            let name = head.rsplit(' ').next().unwrap_or_default().to_owned();
            open = Some((name, indent, number));
        }
        if let Some((name, start_indent, start)) = &open
            && indent == *start_indent
            && (words.starts_with('}') || (words.ends_with(';') || words.ends_with("{}")))
        {
            found.push((name.clone(), number - start + 1));
            open = None;
        }
    }
    found
}

#[test]
fn nothing_is_left_behind() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "todo".to_owned() + "!(",
        "#[ig".to_owned() + "nore",
    ];
    let mut left = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")).chain(&sources("examples")) {
        for word in words.iter().filter(|word| source.text.contains(word.as_str())) {
            left.push(format!("{}: {word}", source.path.display()));
        }
    }
    fail_with("left behind", &left);
}

#[test]
fn every_statement_has_a_name_and_every_migration_a_number() {
    let mut wrong = Vec::new();
    let of_db = |source: &&Source| source.room == "db" && !source.path.ends_with("tests.rs");
    for source in sources("src").iter().filter(of_db) {
        for text in code(&source.text).split('"').skip(1).step_by(2) {
            let sql = text.trim_start();
            if ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "]
                .iter()
                .any(|w| sql.starts_with(w))
            {
                wrong.push(format!(
                    "{}: {}",
                    source.path.display(),
                    sql.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    fail_with("these statements have no name in a first line `-- name`", &wrong);
    for entry in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).expect("migrations")
    {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let number = name.strip_prefix('V').and_then(|rest| rest.split_once("__"));
        assert!(number.is_some_and(|(number, _)| number.parse::<u32>().is_ok()), "{name}");
    }
}
