//! Where the private PostgreSQL keeps its files, and whose they are.
//!
//! Its home is `<data_dir>/postgres`: `data/` (the cluster), `postgres.log`, and the
//! socket. PostgreSQL refuses to run as root, so root has it run by another account, which
//! must get at the files: where it can't (a data directory below `/root`), the home is
//! `/var/lib/strandline/strandline-pg-<hash of the data directory>` and
//! `<data_dir>/postgres` a symbolic link to it. A socket's path may have 107 bytes: where
//! the home's is too long, the socket alone has another place.

use std::{
    env, fs, io,
    os::unix::{
        self,
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use super::{DbError, file_error, programs::run_as};

/// Where root puts what its data directory can't hold.
const ROOTS_PLACE: &str = "/var/lib/strandline";
/// Of 107 bytes that a socket's path may have, `/.s.PGSQL.5432.lock` takes 19.
const SOCKET_FOLDER_BYTES: usize = 88;

/// The account that runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The places of one private PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) folder: PathBuf,
    /// The folder of the socket.
    pub(super) socket: PathBuf,
    /// `None` when we are not root: the server runs as ourselves.
    pub(super) account: Option<Account>,
}

impl Home {
    /// Finds or makes the home of `data_dir`, which must be a canonical path.
    pub(super) fn open(data_dir: &Path) -> Result<Home, DbError> {
        let uid = id(&["-u"])?;
        let place = data_dir.join("postgres");
        let suffix = hash(data_dir);
        if uid != 0 {
            make_own(&place, uid)?;
            let fallback = short_temp_dir().join(format!("strandline-pg-{uid}-{suffix}"));
            let socket = if fits_socket(&place) {
                place.clone()
            } else {
                make_unshared(&fallback, uid)?;
                fallback
            };
            return Ok(Home { folder: place, socket, account: None });
        }
        let account = account_for(&place)?;
        let fallback = Path::new(ROOTS_PLACE).join(format!("strandline-pg-{suffix}"));
        let folder = home_for(&account, place, &fallback)?;
        let socket = if fits_socket(&folder) {
            folder.clone()
        } else {
            make_in_roots_place(&account, &fallback)?;
            fallback
        };
        Ok(Home { folder, socket, account: Some(account) })
    }

    /// The cluster.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    /// The URL of the database. The socket's path needs no more encoding than this, see
    /// [`fits_socket`].
    pub(super) fn url(&self) -> String {
        let folder = self.socket.display().to_string().replace('/', "%2F");
        format!("postgres://strandline@{folder}/strandline")
    }
}

/// Hands a file or folder of ours to the account that runs the server. Not what a symbolic
/// link leads to: root must not be talked into giving away other files.
pub(super) fn give(path: &Path, account: Option<&Account>) -> Result<(), DbError> {
    let Some(account) = account else { return Ok(()) };
    unix::fs::lchown(path, Some(account.uid), Some(account.gid))
        .map_err(file_error("hand over", path))
}

/// The folder that root uses for `place`, or what it stands for.
fn home_for(account: &Account, place: PathBuf, fallback: &Path) -> Result<PathBuf, DbError> {
    let unreachable =
        |path: &Path| DbError::Unreachable { account: account.name.clone(), path: path.to_owned() };
    if place.is_symlink() {
        // An earlier start chose another place; data is there, so no second thoughts.
        let folder = fs::canonicalize(&place).map_err(file_error("follow the link", &place))?;
        return if reaches(account, &folder) { Ok(folder) } else { Err(unreachable(&folder)) };
    }
    make_folder(&place)?;
    give(&place, Some(account))?;
    let reached = reaches(account, &place);
    if place.join("data").exists() {
        // To begin an empty database elsewhere would look like the loss of this one.
        return if reached { Ok(place) } else { Err(unreachable(&place)) };
    }
    if reached && fits_socket(&place) {
        return Ok(place);
    }
    if let Err(error) = make_in_roots_place(account, fallback) {
        tracing::debug!(%error, "no home in {ROOTS_PLACE}");
        return Err(unreachable(&place));
    }
    if !reaches(account, fallback) {
        return Err(unreachable(fallback));
    }
    tracing::info!(
        link = %place.display(), home = %fallback.display(), account = account.name,
        "the account that runs postgresql can't use the data directory, its files are elsewhere"
    );
    fs::remove_dir_all(&place).map_err(file_error("replace by a link", &place))?;
    unix::fs::symlink(fallback, &place).map_err(file_error("make the link", &place))?;
    Ok(fallback.to_owned())
}

/// The owner of a cluster that exists, else `postgres`, else `nobody`.
fn account_for(place: &Path) -> Result<Account, DbError> {
    if let Ok(owner) = fs::metadata(place.join("data"))
        && owner.uid() != 0
    {
        let (uid, gid) = (owner.uid(), owner.gid());
        let name = output("id", &["-un", &uid.to_string()]).unwrap_or_else(|_| uid.to_string());
        return Ok(Account { name, uid, gid });
    }
    for name in ["postgres", "nobody"] {
        if let (Ok(uid), Ok(gid)) = (id(&["-u", name]), id(&["-g", name])) {
            return Ok(Account { name: name.to_owned(), uid, gid });
        }
    }
    Err(DbError::Server {
        attempted: "run postgresql as root",
        reason: "it refuses, and there is neither a user postgres nor nobody to run it".to_owned(),
    })
}

/// Whether the account can work in the folder. Asked of the system as that account, which
/// knows of access lists and mounts too.
fn reaches(account: &Account, folder: &Path) -> bool {
    let mut test = Command::new("test");
    run_as(&mut test, Some(account));
    test.arg("-w").arg(folder).args(["-a", "-x"]).arg(folder);
    test.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    test.status().is_ok_and(|status| status.success())
}

/// Short enough, and nothing in it that would need quoting in a URL, in a list of folders
/// or on a command line.
fn fits_socket(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_bytes();
    bytes.len() <= SOCKET_FOLDER_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(b))
}

/// Not `XDG_RUNTIME_DIR`, which is deleted when its user logs out while the service runs on.
fn short_temp_dir() -> PathBuf {
    let named = env::temp_dir();
    // The name below it has up to 38 bytes.
    if fits_socket(&named) && named.as_os_str().len() < SOCKET_FOLDER_BYTES - 40 {
        named
    } else {
        PathBuf::from("/tmp")
    }
}

fn make_in_roots_place(account: &Account, folder: &Path) -> Result<(), DbError> {
    let root = Path::new(ROOTS_PLACE);
    if !root.exists() {
        fs::create_dir_all(root).map_err(file_error("make the folder", root))?;
        // Whatever the umask: the account must be able to pass.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root, open).map_err(file_error("open the folder", root))?;
    }
    make_folder(folder)?;
    give(folder, Some(account))
}

/// A folder in the data directory, closed to all others.
fn make_own(folder: &Path, uid: u32) -> Result<(), DbError> {
    make_folder(folder)?;
    let found = fs::metadata(folder).map_err(file_error("look at", folder))?;
    if found.uid() != uid {
        let reason =
            "another user owns it; run as that user, or choose another STRANDLINE_DATA_DIR";
        return Err(file_error("use the folder", folder)(io::Error::other(reason)));
    }
    if found.mode() & 0o077 != 0 {
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder, closed).map_err(file_error("close the folder", folder))?;
    }
    Ok(())
}

/// A folder in a place that all share. Whoever made it before us would own the server's
/// socket, so one that is not ours alone is not used.
fn make_unshared(folder: &Path, uid: u32) -> Result<(), DbError> {
    make_folder(folder)?;
    let found = fs::symlink_metadata(folder).map_err(file_error("look at", folder))?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let reason = "it is no folder of this user's own with mode 0700; remove it, or choose a shorter STRANDLINE_DATA_DIR";
    Err(file_error("use the folder", folder)(io::Error::other(reason)))
}

fn make_folder(folder: &Path) -> Result<(), DbError> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(file_error("make the folder", folder)(error))
        }
        _ => Ok(()),
    }
}

fn id(arguments: &[&str]) -> Result<u32, DbError> {
    let failed = file_error("run", Path::new("id"));
    output("id", arguments).and_then(|text| text.parse().map_err(io::Error::other)).map_err(failed)
}

fn output(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn hash(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_and_plain_paths_hold_a_socket() {
        assert!(fits_socket(Path::new("/srv/strandline-data/postgres")));
        assert!(!fits_socket(Path::new("/srv/a,b")));
        assert!(!fits_socket(Path::new("/srv/a b")));
        assert!(fits_socket(&Path::new("/").join("x".repeat(87))));
        assert!(!fits_socket(&Path::new("/").join("x".repeat(88))));
    }

    #[test]
    fn a_folder_that_others_may_enter_holds_no_socket() {
        let root = tempfile::tempdir().expect("a folder");
        let uid = id(&["-u"]).expect("our uid");
        let folder = root.path().join("a");
        make_unshared(&folder, uid).expect("made");
        make_unshared(&folder, uid).expect("found");
        assert!(make_unshared(&folder, uid + 1).is_err());
        let link = root.path().join("link");
        unix::fs::symlink(&folder, &link).expect("a link");
        assert!(make_unshared(&link, uid).is_err());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).expect("opened");
        assert!(make_unshared(&folder, uid).is_err());
        make_own(&folder, uid).expect("closed again");
        make_unshared(&folder, uid).expect("ours alone");
    }
}
