//! The program in a process of its own, as a person or Kubernetes starts it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::harness::brokers;

/// The program, with none of the settings of whoever runs the tests.
pub fn strandline(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    let ours = |name: &str| name.starts_with("STRANDLINE_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("STRANDLINE_KAFKA_BROKERS", brokers())
        .env("STRANDLINE_DATA_DIR", folder);
    command
}

/// The same command, with as few open files as most shells let a process have at first.
fn as_shells_do(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 1024 && exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A folder that the unprivileged server can get to as well.
pub fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("permissions");
    folder
}

/// A server that was started and may not serve yet.
pub struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    /// Starts a server on a free port of loopback, with these settings.
    pub fn launch(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::launch_on("127.0.0.1:0", folder, settings)
    }

    fn launch_on(listen: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = as_shells_do(&strandline(&["serve", "--listen", listen], folder));
        command.envs(settings.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        Starting { child, lines }
    }

    pub fn until_serving(self) -> Serving {
        let mut serving = self.until_it_says("serving");
        let log = serving.log();
        let (_, after) = log.rsplit_once("serving").expect("it was just said");
        let (_, url) = after.split_once("url").expect("with its URL");
        serving.url =
            url.trim_matches(['=', '"', ':']).split('"').next().expect("a URL").to_owned();
        serving
    }

    /// Asks it to stop, wherever it has got to, and waits until it has ended.
    pub async fn stopped(self) -> ExitStatus {
        let Starting { child, mut lines } = self;
        let mut serving = Serving { child, url: String::new(), log: Arc::default() };
        serving.signal("TERM");
        tokio::task::spawn_blocking(move || while lines.next().is_some() {});
        serving.ended().await
    }

    /// Waits for words in its log. It may not serve yet: there is no URL.
    pub fn until_it_says(self, words: &str) -> Serving {
        let Starting { child, mut lines } = self;
        let log = Arc::new(Mutex::new(String::new()));
        let keep = |log: &Mutex<String>, line: &str| {
            let mut log = log.lock().expect("nobody panicked");
            log.push_str(line);
            log.push('\n');
        };
        let said = lines.by_ref().map_while(Result::ok).any(|line| {
            keep(&log, &line);
            line.contains(words)
        });
        // Its log is read on, so that it never waits for us.
        let reading = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| keep(&reading, &line));
        });
        let serving = Serving { child, url: String::new(), log };
        assert!(said, "it does not say {words:?}:\n{}", serving.log());
        serving
    }
}

/// A server in a process of its own; killed when dropped.
pub struct Serving {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Serving {
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// With these settings; returns when it serves.
    pub fn start_with(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Starting::launch(folder, settings).until_serving()
    }

    /// As [`Serving::start_with`], on an address that others may reach.
    pub fn start_on(listen: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        Starting::launch_on(listen, folder, settings).until_serving()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // The shell's own: the program is not on every machine.
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not end:\n{}", self.log());
    }

    /// Waits until the process was stopped by a signal.
    pub async fn frozen(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        for _ in 0..6000 {
            let text = std::fs::read_to_string(&stat).expect("it lives");
            if text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was not stopped:\n{}", self.log());
    }

    /// The JSON lines with this message that it has logged so far.
    pub fn said(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Waits for a JSON line with this message; gives the last one.
    pub async fn until_said(&self, message: &str) -> Value {
        for _ in 0..6000 {
            if let Some(line) = self.said(message).pop() {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not say {message:?}:\n{}", self.log());
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
