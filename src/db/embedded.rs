//! The private PostgreSQL: a real server, for those who name none in
//! `STRANDLINE_DATABASE_URL`. Its programs are the system's, its files are in the data
//! directory, it listens on a unix socket that only we may use, and it ends with us.
//!
//! Everything in here blocks. The server is told to stop when the *thread* that started it
//! ends, so [`EmbeddedPostgres::start`] and [`EmbeddedPostgres::tend`] are for a thread that
//! lives as long as the process: main's.
//!
//! Who holds the lock on `<data_dir>/postgres.lock` owns the server; all that follows (which
//! files are leftovers, which server may be stopped) rests on that.

mod home;
mod programs;
mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use self::{home::Home, programs::Programs, server::Server};
use super::error::DbError;

/// How long to wait for the lock. A process that was killed holds it until it is all gone.
const REFUSE_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for the server of another process to come up.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at something that is about to happen.
const PAUSE: Duration = Duration::from_millis(20);

/// What to do when another process runs the server of this data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Fail: two services on one data directory are a mistake.
    Refuse,
    /// Use that server, and never stop it.
    Join,
}

/// A private PostgreSQL, ours or another process's. Dropping it stops it if it is ours.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    data_dir: PathBuf,
    programs: Option<PathBuf>,
    url: String,
    owned: Option<Owned>,
}

impl EmbeddedPostgres {
    /// Starts the server of a data directory, and makes it if there is none. `programs` is
    /// the folder of the server programs (`STRANDLINE_PG_BIN`), if they are not to be looked
    /// for. Blocks for about a second the first time, a tenth of it later, longer while the
    /// server recovers from a crash.
    ///
    /// # Errors
    /// No programs, files that can't be used, a cluster of another major version, a server
    /// that does not start (with its last words), or another process that has the data
    /// directory and is not to be joined.
    pub fn start(
        data_dir: &Path,
        programs: Option<&Path>,
        sharing: Sharing,
    ) -> Result<Self, DbError> {
        fs::create_dir_all(data_dir).map_err(file_error("make the data directory", data_dir))?;
        let data_dir =
            fs::canonicalize(data_dir).map_err(file_error("find the data directory", data_dir))?;
        let programs = programs.map(Path::to_owned);
        let patience = match sharing {
            Sharing::Refuse => REFUSE_PATIENCE,
            Sharing::Join => JOIN_PATIENCE,
        };
        let found = wait_for(patience, PAUSE, || {
            if let Some(owned) = Owned::take(&data_dir, programs.as_deref())? {
                return Ok(Some((owned.home.url(), Some(owned))));
            }
            match sharing {
                Sharing::Refuse => Ok(None),
                Sharing::Join => Ok(published_url(&data_dir).map(|url| (url, None))),
            }
        })?;
        let (url, owned) = found.ok_or_else(|| match sharing {
            Sharing::Refuse => DbError::DataDirInUse { data_dir: data_dir.clone() },
            Sharing::Join => DbError::Server {
                attempted: "join the database of the strandline that runs in this data directory",
                reason: format!("it does not answer within {} s", JOIN_PATIENCE.as_secs()),
            },
        })?;
        Ok(EmbeddedPostgres { data_dir, programs, url, owned })
    }

    /// The URL of the database. It stays the same as long as this lives.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the server is ours, not joined.
    pub fn is_owner(&self) -> bool {
        self.owned.is_some()
    }

    /// To be called every few seconds: starts a server that has died once more, and takes
    /// over a joined one whose owner has ended, under the same URL. Costs next to nothing
    /// when there is nothing to do.
    ///
    /// # Errors
    /// Those of [`EmbeddedPostgres::start`]; calling again tries again.
    pub fn tend(&mut self) -> Result<(), DbError> {
        match &mut self.owned {
            Some(owned) => owned.revive(),
            None => {
                self.owned = Owned::take(&self.data_dir, self.programs.as_deref())?;
                if let Some(owned) = &self.owned {
                    tracing::info!(
                        "the strandline that ran the private postgresql has ended, it is ours now"
                    );
                    self.url = owned.home.url();
                }
                Ok(())
            }
        }
    }

    /// Stops the server, if it is ours: its sessions are ended, its data is written. Blocks
    /// for a tenth of a second, at most about 15 seconds. Close the pool before.
    ///
    /// # Errors
    /// A server that does not stop.
    pub fn stop(mut self) -> Result<(), DbError> {
        self.owned.take().map_or(Ok(()), |mut owned| owned.stop())
    }
}

/// The right to run the server of a data directory, and the server.
#[derive(Debug)]
struct Owned {
    /// The data directory's lock. In the file: the URL and the socket, for those who join.
    lock: File,
    /// The home's lock: copies of a data directory may lead to one home (see [`home`]).
    _home_lock: File,
    home: Home,
    programs: Programs,
    server: Server,
}

impl Owned {
    /// `None` when another process has the lock.
    fn take(data_dir: &Path, programs: Option<&Path>) -> Result<Option<Owned>, DbError> {
        let lock_file = data_dir.join("postgres.lock");
        let Some(lock) = try_lock(&lock_file)? else { return Ok(None) };
        lock.set_len(0).map_err(file_error("write", &lock_file))?;
        let home = Home::open(data_dir)?;
        let home_lock = try_lock(&home.folder.join("lock"))?
            .ok_or_else(|| DbError::DataDirInUse { data_dir: home.folder.clone() })?;

        let made_by = server::cluster_version(&home)?;
        let programs = Programs::find(programs, made_by)?;
        if let Some(made_by) = made_by.filter(|&version| version != programs.major) {
            return Err(DbError::OtherMajorVersion {
                data: home.data(),
                made_by,
                found: programs.major,
                programs: programs.folder,
            });
        }
        if made_by.is_none() {
            server::create_cluster(&home, &programs)?;
        }
        let server = Server::start(&home, &programs)?;
        let published = format!("{}\n{}\n", home.url(), home.socket.display());
        (&lock).write_all(published.as_bytes()).map_err(file_error("write", &lock_file))?;
        Ok(Some(Owned { lock, _home_lock: home_lock, home, programs, server }))
    }

    fn revive(&mut self) -> Result<(), DbError> {
        if self.server.is_running() {
            return Ok(());
        }
        tracing::warn!(log = %self.home.log().display(), "the private postgresql has ended, starting it again");
        self.server = Server::start(&self.home, &self.programs)?;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), DbError> {
        // Nobody is to join from now on. The lock itself goes with the file.
        let _ = self.lock.set_len(0);
        self.server.stop(&self.home, &self.programs)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the private postgresql is left running");
        }
    }
}

/// The URL of a server that another process runs, once it takes connections.
fn published_url(data_dir: &Path) -> Option<String> {
    let published = fs::read_to_string(data_dir.join("postgres.lock")).ok()?;
    let (url, socket) = published.trim_end().split_once('\n')?;
    UnixStream::connect(Path::new(socket).join(".s.PGSQL.5432")).ok()?;
    Some(url.to_owned())
}

/// `None` when another process has the lock. It ends with the process, however that ends.
fn try_lock(path: &Path) -> Result<Option<File>, DbError> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(file_error("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(file_error("lock", path)(error)),
    }
}

/// Looks again and again, with a pause in between, until there is something or `patience`
/// is over. Looks are counted, not timed: nothing in here needs to know what time it is.
fn wait_for<T>(
    patience: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Result<Option<T>, DbError>,
) -> Result<Option<T>, DbError> {
    for _ in 0..patience.as_millis() / pause.as_millis() {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        thread::sleep(pause);
    }
    look()
}

fn file_error(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DbError + use<> {
    let path = path.to_owned();
    move |source| DbError::File { attempted, path, source }
}
