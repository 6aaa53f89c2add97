//! A disk that is full, or breaks, at every single call; and what reaches it in which order.
//!
//! The calls of a child process, which is one of these tests by itself, go through `calls.c`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use tempfile::TempDir;

use super::contract::{names, stored};
use super::store::{Store, StoreError, StoredObject};
use crate::snapshot::FailureKind;

/// One small, one in parts; in folders that are not there yet.
const OBJECTS: [(&str, usize); 2] = [("a/b/small", 1000), ("a/c/large", 9 << 20)];

/// Where the calls of a child process go.
struct Calls {
    folder: TempDir,
    library: PathBuf,
}

impl Calls {
    fn compiled() -> Self {
        let folder = TempDir::new().expect("a folder");
        let library = folder.path().join("calls.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/calls.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O", "-pthread", "-o"]).arg(&library).arg(source);
        let compiled = compiler.arg("-ldl").output().expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Calls { folder, library }
    }

    /// Runs the test of this name with a new folder. Gives what it said, and its calls.
    fn run(&self, test: &str, settings: &[(&str, &str)]) -> (String, Vec<String>) {
        let work = TempDir::new_in(self.folder.path()).expect("a folder");
        let (disk, log) = (work.path().join("disk"), work.path().join("log"));
        fs::create_dir(&disk).expect("a folder");
        let name = format!("store::tests::disk_faults::{test}");
        let child = Command::new(env::current_exe().expect("this program"))
            .args([name.as_str(), "--exact", "--nocapture"])
            .env("LD_PRELOAD", &self.library)
            .env("CALLS_BELOW", &disk)
            .env("CALLS_LOG", &log)
            .envs(settings.iter().copied())
            .output()
            .expect("a child");
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        let result = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{settings:?}: {said}\n{result}");
        let calls = fs::read_to_string(&log).expect("calls");
        let place = format!("{}/", work.path().display());
        (said, calls.lines().map(|line| line.replace(&place, "")).collect())
    }
}

/// The folder of a child, that is not there yet.
fn child_folder() -> Option<PathBuf> {
    env::var_os("CALLS_BELOW").map(|disk| Path::new(&disk).join("new/store"))
}

async fn write(store: &Store, name: &str, bytes: Vec<u8>) -> Result<StoredObject, StoreError> {
    let mut object = store.create(name).await?;
    let whole = Bytes::from(bytes);
    if let Err(error) = object.write(whole).await {
        let _ = object.abort().await;
        return Err(error);
    }
    object.finish().await
}

/// Every call of every kind fails once, by turns, and then for good.
#[tokio::test]
async fn a_disk_may_fail_at_any_call() {
    if let Some(folder) = child_folder() {
        return write_on_a_bad_disk(&folder).await;
    }
    let calls = Calls::compiled();
    let once = &[""][..];
    let for_good = &["", "1"][..];
    for (call, error, said, least, lasts) in [
        ("create", NO_SPACE, "the disk is full", 4, for_good),
        ("write", NO_SPACE, "the disk is full", 4, for_good),
        ("write", IO_ERROR, "Input/output error (os error 5)", 4, once),
        ("fsync", IO_ERROR, "Input/output error (os error 5)", 10, once),
        ("rename", READ_ONLY, "Read-only file system (os error 30)", 2, for_good),
        ("link", READ_ONLY, "Read-only file system (os error 30)", 1, once),
        ("mkdir", NO_SPACE, "the disk is full", 4, for_good),
    ] {
        for lasts in lasts {
            let mut nth = 0;
            loop {
                nth += 1;
                let number = nth.to_string();
                let fault = [
                    ("CALLS_FAIL", call),
                    ("CALLS_NTH", &number),
                    ("CALLS_ERROR", error),
                    ("CALLS_LAST", lasts),
                ];
                let (told, made) = calls.run("a_disk_may_fail_at_any_call", &fault);
                if !made.iter().any(|call| call.starts_with("failed")) {
                    break;
                }
                assert!(told.contains(said), "{fault:?}: {told}");
            }
            assert!(nth > least, "{call} was called only {} times", nth - 1);
        }
    }
}

/// Of Linux: no space left, input/output error, read-only file system.
const NO_SPACE: &str = "28";
const IO_ERROR: &str = "5";
const READ_ONLY: &str = "30";

/// What is said to be stored is; what is not can be tried again, and takes no space.
async fn write_on_a_bad_disk(folder: &Path) {
    let store = match Store::open(&format!("file://{}", folder.display())) {
        Ok(store) => store,
        Err(error) => {
            assert!(matches!(error, StoreError::Setting(_)), "{error}");
            return eprintln!("{error}");
        }
    };
    let mut there = Vec::new();
    for (name, size) in OBJECTS {
        let bytes = vec![7; size];
        match write(&store, name, bytes.clone()).await {
            Ok(written) => {
                assert_eq!(written, stored(&bytes));
                there.push((name, written));
            }
            Err(error) => {
                assert_eq!(error.failure_kind(), FailureKind::StorageUnavailable);
                eprintln!("{error}");
            }
        }
    }
    if let Err(error) = store.claim_owner("us").await {
        eprintln!("{error}");
    }
    for (name, written) in there {
        store.verify(name, &written).await.expect("it was stored");
    }
    let unfinished: BTreeSet<_> = names(&store, "").await;
    let unfinished: Vec<_> = unfinished.iter().filter(|name| name.contains('#')).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    if env::var_os("CALLS_LAST").is_some_and(|lasts| lasts.is_empty()) {
        // The one fault may be here.
        if let Err(error) = write(&store, "after/that", vec![7; 1000]).await {
            eprintln!("{error}");
            write(&store, "after/this", vec![7; 1000]).await.expect("the disk is well again");
        }
    }
}

/// A power cut at any time after an object was called stored can't take it away: its bytes are
/// on the disk before it gets its name, and its name and the folders above it before anybody
/// is told.
#[tokio::test]
async fn what_is_stored_outlasts_a_power_cut() {
    if let Some(folder) = child_folder() {
        let store = Store::open(&format!("file://{}", folder.display())).expect("a store");
        for (name, size) in OBJECTS {
            write(&store, name, vec![7; size]).await.expect("stored");
            fs::write(folder.with_file_name(name.replace('/', "-")), "").expect("a mark");
        }
        return;
    }
    let (_, calls) = Calls::compiled().run("what_is_stored_outlasts_a_power_cut", &[]);
    let at = |call: &str| {
        let found = calls.iter().rposition(|made| made == call);
        found.unwrap_or_else(|| panic!("no {call:?} in\n{}", calls.join("\n")))
    };
    for (name, _) in OBJECTS {
        let (whole, torso) = (format!("disk/new/store/{name}"), format!("disk/new/store/{name}#1"));
        let told = at(&format!("create disk/new/{}", name.replace('/', "-")));
        let renamed = at(&format!("rename {torso} {whole}"));
        let order = [at(&format!("write {torso}")), at(&format!("fsync {torso}")), renamed, told];
        assert!(order.is_sorted(), "{order:?} in\n{}", calls.join("\n"));
        let folders = Path::new(&whole).ancestors().skip(1);
        for folder in folders.take_while(|folder| folder.starts_with("disk/new/store")) {
            let synced = format!("fsync {}", folder.display());
            let synced = calls[renamed..told].contains(&synced);
            assert!(synced, "{} in\n{}", folder.display(), calls.join("\n"));
        }
    }
    for (number, made) in calls.iter().enumerate() {
        let Some(folder) = made.strip_prefix("mkdir ") else { continue };
        let above = Path::new(folder).parent().expect("a folder above");
        let synced = format!("fsync {}", above.display());
        assert!(calls[number..].contains(&synced), "{made}, but no {synced}");
    }
}
