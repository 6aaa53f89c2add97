//! PostgreSQL's own programs: where they are, and how they are run.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{DbError, file_error, home::Account};

/// Where Debian and Ubuntu keep one folder for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// What a server needs; a folder with clients alone lacks it.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// A folder of server programs.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) folder: PathBuf,
    pub(super) major: u32,
    /// util-linux's `setpriv`, if it can set a parent-death signal.
    setpriv: Option<PathBuf>,
}

impl Programs {
    /// The folder that was named, else Debian's of the `wanted` version (an existing
    /// cluster's), else Debian's newest, else the first in `PATH`.
    pub(super) fn find(named: Option<&Path>, wanted: Option<u32>) -> Result<Programs, DbError> {
        let folder = match named {
            Some(folder) => {
                [folder.to_owned(), folder.join("bin")].into_iter().find(|f| complete(f))
            }
            None => in_debians_place(Path::new(DEBIAN), wanted).or_else(in_path),
        };
        let Some(folder) = folder else {
            let searched = match named {
                Some(folder) => folder.display().to_string(),
                None => format!("{DEBIAN}/*/bin or PATH"),
            };
            return Err(DbError::NoServerPrograms { searched });
        };
        // The programs are run from another folder.
        let folder = fs::canonicalize(&folder).map_err(file_error("find", &folder))?;
        let major = major_version(&folder)?;
        Ok(Programs { folder, major, setpriv: find_setpriv() })
    }

    /// A command that runs one of the programs as `account` (`None`: as ourselves), knows
    /// nothing of our environment (`PGPORT` and its like would move the server, and our
    /// secrets are none of its business), and is sent `death_signal` when the thread that
    /// starts it ends, however that happens.
    pub(super) fn command(
        &self,
        program: &str,
        account: Option<&Account>,
        death_signal: Option<&str>,
    ) -> Command {
        let program = self.folder.join(program);
        let mut command = match (&self.setpriv, death_signal) {
            (Some(setpriv), Some(signal)) => {
                // setpriv becomes the program, with the same pid. It runs as the account
                // already: a change of user clears the signal, exec keeps it.
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", signal, "--"]).arg(program);
                command
            }
            _ => Command::new(program),
        };
        run_as(&mut command, account);
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        for kept in ["PATH", "LD_LIBRARY_PATH", "TZ"] {
            if let Some(value) = env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }
}

/// Makes the command run as `account`, without root's supplementary groups (std drops
/// those).
pub(super) fn run_as(command: &mut Command, account: Option<&Account>) {
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
}

fn complete(folder: &Path) -> bool {
    NEEDED.iter().all(|program| folder.join(program).is_file())
}

fn in_debians_place(root: &Path, wanted: Option<u32>) -> Option<PathBuf> {
    let versions = fs::read_dir(root).ok()?.filter_map(|entry| {
        let version: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        complete(&root.join(version.to_string()).join("bin")).then_some(version)
    });
    let version = versions.max_by_key(|&version| (Some(version) == wanted, version))?;
    Some(root.join(version.to_string()).join("bin"))
}

fn in_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find(|folder| complete(folder))
}

/// From "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
fn major_version(folder: &Path) -> Result<u32, DbError> {
    let program = folder.join("postgres");
    let output = Command::new(&program)
        .arg("--version")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(file_error("run", &program))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digits = text.split_once(") ").map(|(_, version)| version);
    digits
        .and_then(|v| v.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .ok_or_else(|| io::Error::other("it does not tell its version"))
        .map_err(file_error("use", &program))
}

/// Found by trying, since Busybox's does not know the option.
fn find_setpriv() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = env::split_paths(&path).chain(["/usr/bin".into(), "/bin".into()]);
    candidates.map(|folder| folder.join("setpriv")).find(|setpriv| {
        let test =
            [OsStr::new("--pdeathsig"), OsStr::new("INT"), OsStr::new("--"), OsStr::new("true")];
        setpriv.is_file()
            && Command::new(setpriv)
                .args(test)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, version: &str, programs: &[&str]) {
        let bin = root.join(version).join("bin");
        fs::create_dir_all(&bin).expect("a folder");
        programs.iter().for_each(|p| fs::write(bin.join(p), "").expect("a file"));
    }

    #[test]
    fn the_newest_complete_version_unless_another_is_wanted() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(in_debians_place(root.path(), None), None);
        install(root.path(), "9", &NEEDED);
        install(root.path(), "15", &NEEDED);
        install(root.path(), "17", &["psql"]);
        install(root.path(), "common", &NEEDED);
        let found = |wanted| in_debians_place(root.path(), wanted).expect("one");
        assert_eq!(found(None), root.path().join("15/bin"));
        assert_eq!(found(Some(9)), root.path().join("9/bin"));
        assert_eq!(found(Some(17)), root.path().join("15/bin"));
    }

    #[test]
    fn none_found_says_what_to_do() {
        let empty = tempfile::tempdir().expect("a folder");
        let error = Programs::find(Some(empty.path()), None).expect_err("no programs").to_string();
        for hint in ["apt install postgresql", "STRANDLINE_PG_BIN", "STRANDLINE_DATABASE_URL"] {
            assert!(error.contains(hint), "{error}");
        }
    }
}
