//! The server process: the cluster it works on, start, stop, and what crashes leave behind.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use super::{
    DbError, PAUSE, file_error,
    home::{Home, give},
    programs::Programs,
    wait_for,
};

/// Recovery after a crash reads at most `max_wal_size` of log; this is far more than that.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long what an earlier server left behind may be in the way.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(10);
/// A log larger than this is put aside at the next start.
const LOG_BYTES: u64 = 10 << 20;

/// Appended to a new cluster's postgresql.conf, so that an operator can change it (also by
/// ALTER SYSTEM). What must not be changed is on the command line, see [`spawn`].
const SETTINGS: &str = "
# strandline: a small server for one service
max_connections = 100
shared_buffers = 64MB
max_wal_size = 512MB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
";

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
}

impl Server {
    /// Starts the server and waits until it takes connections.
    pub(super) fn start(home: &Home, programs: &Programs) -> Result<Server, DbError> {
        put_old_log_aside(&home.log())?;
        let mut last_words = String::new();
        let started = wait_for(LEFTOVER_PATIENCE, 10 * PAUSE, || {
            clear_leftovers(home, programs)?;
            let log_start = fs::metadata(home.log()).map_or(0, |log| log.len());
            let process = spawn(home, programs)?;
            let mut server = Server { process };
            if server.becomes_ready(home, programs)? {
                return Ok(Some(server));
            }
            last_words = log_since(&home.log(), log_start);
            // A server that was killed, or that stops, still holds files or memory.
            let passing = ["already exists", "still in use"].iter().any(|w| last_words.contains(w));
            if passing { Ok(None) } else { Err(not_started(last_words.clone())) }
        })?;
        let server = started.ok_or_else(|| not_started(last_words))?;
        tracing::info!(
            home = %home.folder.display(), version = programs.major, pid = server.process.id(),
            "the private postgresql is ready"
        );
        Ok(server)
    }

    /// `false` when it has ended instead.
    fn becomes_ready(&mut self, home: &Home, programs: &Programs) -> Result<bool, DbError> {
        let pid = self.process.id();
        let ready = wait_for(START_PATIENCE, PAUSE, || {
            // The eighth line of this file is what pg_ctl waits for, too. The pid makes sure
            // that it is our server that is ready, and not another one.
            let state = fs::read_to_string(home.data().join("postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines().map(str::trim);
            if lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready") {
                return Ok(Some(true));
            }
            Ok((!self.is_running()).then_some(false))
        })?;
        match ready {
            Some(ready) => Ok(ready),
            None => {
                self.stop(home, programs)?;
                Err(not_started(format!("it is not ready after {} s", START_PATIENCE.as_secs())))
            }
        }
    }

    /// Whether the process is there.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Stops the server, by and by less gently: sessions ended and data written (fast), at
    /// once with a recovery at the next start (immediate), killed.
    pub(super) fn stop(&mut self, home: &Home, programs: &Programs) -> Result<(), DbError> {
        for (signal, seconds) in [("INT", 10), ("QUIT", 3)] {
            if !self.is_running() {
                return Ok(());
            }
            send_signal(home, programs, self.process.id(), signal);
            let gone = || Ok((!self.is_running()).then_some(()));
            if wait_for(Duration::from_secs(seconds), PAUSE, gone)?.is_some() {
                return Ok(());
            }
        }
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed.map(drop).map_err(|error| DbError::Server {
            attempted: "stop the private postgresql",
            reason: error.to_string(),
        })
    }
}

/// The major version that made the cluster; `None` where there is none.
pub(super) fn cluster_version(home: &Home) -> Result<Option<u32>, DbError> {
    if !home.data().exists() {
        return Ok(None);
    }
    let file = home.data().join("PG_VERSION");
    let text = fs::read_to_string(&file).map_err(file_error("read", &file))?;
    let version = text.trim().parse().map_err(io::Error::other);
    version.map(Some).map_err(file_error("understand", &file))
}

/// Makes the cluster with the database, under another name first: what exists is whole.
pub(super) fn create_cluster(home: &Home, programs: &Programs) -> Result<(), DbError> {
    let unfinished = home.folder.join("data.new");
    remove_unfinished(&unfinished)?;

    // --locale=C: text sorts the same everywhere, and no locale needs to be installed.
    let mut initdb = command(home, programs, "initdb", "KILL");
    initdb.args(["--username=strandline", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    initdb.arg("--no-sync"); // once, at the end
    initdb.arg("-D").arg(&unfinished);
    let output = initdb.output().map_err(file_error("run", &programs.folder.join("initdb")))?;
    check_output(&output, "create the private database (initdb)")?;

    let settings = unfinished.join("postgresql.conf");
    File::options()
        .append(true)
        .open(&settings)
        .and_then(|mut file| file.write_all(SETTINGS.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(file_error("write", &settings))?;

    let mut single = command(home, programs, "postgres", "KILL");
    single.args(["--single", "-F", "-D"]).arg(&unfinished).arg("postgres");
    let output = run_with_input(&mut single, "CREATE DATABASE strandline\n")
        .map_err(file_error("run", &programs.folder.join("postgres")))?;
    check_output(&output, "create the private database")?;

    let mut sync = command(home, programs, "initdb", "KILL");
    let output = sync.arg("--sync-only").arg("-D").arg(&unfinished).output();
    let output = output.map_err(file_error("run", &programs.folder.join("initdb")))?;
    check_output(&output, "write the private database to disk")?;

    fs::rename(&unfinished, home.data())
        .and_then(|()| File::open(&home.folder)?.sync_all())
        .map_err(file_error("put in its place", &unfinished))
}

/// An initdb that died with an earlier process may need a moment to let go.
fn remove_unfinished(folder: &Path) -> Result<(), DbError> {
    let mut last = None;
    let removed = wait_for(Duration::from_secs(2), PAUSE, || match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            last = Some(error);
            Ok(None)
        }
        _ => Ok(Some(())),
    })?;
    match (removed, last) {
        (None, Some(error)) => Err(file_error("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// A program of the server's, in the home, as the home's account.
fn command(home: &Home, programs: &Programs, program: &str, death_signal: &str) -> Command {
    let mut command = programs.command(program, home.account.as_ref(), Some(death_signal));
    // Ctrl-C is for us; we stop the server when we are done with it.
    command.current_dir(&home.folder).process_group(0);
    command
}

fn spawn(home: &Home, programs: &Programs) -> Result<Child, DbError> {
    let log = home.log();
    let open = || File::options().create(true).append(true).mode(0o600).open(&log);
    let (out, err) =
        open().and_then(|f| Ok((f.try_clone()?, f))).map_err(file_error("open", &log))?;
    give(&log, home.account.as_ref())?;
    // INT is a fast shutdown.
    let mut postgres = command(home, programs, "postgres", "INT");
    postgres.arg("-D").arg(home.data()).arg("-k").arg(&home.socket);
    for setting in ["port=5432", "listen_addresses=", "unix_socket_permissions=0700"] {
        postgres.args(["-c", setting]);
    }
    // What it says while it starts is read here: no other language, no other file.
    for setting in ["lc_messages=C", "log_destination=stderr", "logging_collector=off"] {
        postgres.args(["-c", setting]);
    }
    postgres
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(file_error("run", &programs.folder.join("postgres")))
}

/// Since we hold the locks, what the pid file of an earlier server names is either that
/// server, which outlived its service and is stopped, or a number that now means something
/// else: after the restart of a container it may well be one of our own threads, which the
/// server would take for a rival, for good.
fn clear_leftovers(home: &Home, programs: &Programs) -> Result<(), DbError> {
    let pid_file = home.data().join("postmaster.pid");
    let Ok(state) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let pid = state.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let (Some(pid), true) = (pid, Path::new("/proc/self/cmdline").exists()) else {
        return Ok(()); // no way to tell, the server decides
    };
    if is_server(pid, home) {
        tracing::info!(pid, "stopping the postgresql that an earlier process left running");
        for signal in ["INT", "QUIT"] {
            send_signal(home, programs, pid, signal);
            let gone = || Ok((!is_server(pid, home)).then_some(()));
            if wait_for(LEFTOVER_PATIENCE, PAUSE, gone)?.is_some() {
                return Ok(());
            }
        }
        return Ok(());
    }
    // Shared memory that a killed server's sessions still use is found by the new one all
    // the same (it looks by the folder), so nothing is lost with this file.
    let socket_lock = home.socket.join(".s.PGSQL.5432.lock");
    for file in [pid_file, socket_lock] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("remove", &file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the process is a server of this cluster: it has the folder as an argument.
fn is_server(pid: u32, home: &Home) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|&byte| byte == 0).any(|arg| arg == home.data().as_os_str().as_bytes())
}

/// Through pg_ctl, which every server comes with; a failure shows by the server not stopping.
fn send_signal(home: &Home, programs: &Programs, pid: u32, signal: &str) {
    let mut kill = programs.command("pg_ctl", home.account.as_ref(), None);
    kill.args(["kill", signal, &pid.to_string()]).current_dir(&home.folder);
    match kill.stdout(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            tracing::debug!(reason = last_lines(&output.stderr), "pg_ctl kill failed");
        }
        Err(error) => tracing::warn!(%error, "can't run pg_ctl"),
    }
}

fn run_with_input(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

/// A single-user server that could not do what it was told ends well all the same.
fn check_output(output: &Output, attempted: &'static str) -> Result<(), DbError> {
    let complained = String::from_utf8_lossy(&output.stderr).contains("ERROR:");
    if output.status.success() && !complained {
        return Ok(());
    }
    Err(DbError::Server { attempted, reason: last_lines(&output.stderr) })
}

fn put_old_log_aside(log: &Path) -> Result<(), DbError> {
    if fs::metadata(log).is_ok_and(|found| found.len() > LOG_BYTES) {
        fs::rename(log, log.with_extension("log.1")).map_err(file_error("put aside", log))?;
    }
    Ok(())
}

fn log_since(log: &Path, start: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut text)
    });
    match read {
        Ok(_) => last_lines(&text),
        Err(error) => format!("its log {} can't be read: {error}", log.display()),
    }
}

/// What a person needs of a program's last words, in one line.
fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "it ended without a word".to_owned(),
        count => lines[count.saturating_sub(5)..].join(" | "),
    }
}

fn not_started(reason: String) -> DbError {
    DbError::Server { attempted: "start the private postgresql", reason }
}
