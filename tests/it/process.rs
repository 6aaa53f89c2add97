//! The program in a process of its own, as a person or Kubernetes starts it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{answer, brokers};

/// How long a server may take to start, with many others beside it.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

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

/// Asks again and again until it is refused: the server knows by then what tokens there are.
pub async fn until_refused(request: impl Fn() -> reqwest::RequestBuilder) {
    let refused = async {
        while answer(request()).await.0 != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let within = Duration::from_secs(60);
    tokio::time::timeout(within, refused).await.expect("a token counts, or one counts no more");
}

/// A server that was started and may not serve yet.
pub struct Starting {
    serving: Serving,
    /// The lines of its log; ends with them.
    lines: Receiver<String>,
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
        let log = Arc::new(Mutex::new(String::new()));
        let lines = read_on(child.stderr.take().expect("its log"), log.clone());
        Starting { serving: Serving { child, url: String::new(), log }, lines }
    }

    pub fn until_serving(self) -> Serving {
        let line = self.line_with("serving");
        let mut serving = self.serving;
        let (_, after) = line.rsplit_once("serving").expect("it was just said");
        let (_, url) = after.split_once("url").expect("with its URL");
        serving.url =
            url.trim_matches(['=', '"', ':']).split('"').next().expect("a URL").to_owned();
        serving
    }

    /// Asks it to stop, wherever it has got to, and waits until it has ended.
    pub async fn stopped(mut self) -> ExitStatus {
        self.serving.signal("TERM");
        self.serving.ended().await
    }

    /// Waits for words in its log. It may not serve yet: there is no URL.
    pub fn until_it_says(self, words: &str) -> Serving {
        self.line_with(words);
        self.serving
    }

    fn line_with(&self, words: &str) -> String {
        let deadline = Instant::now() + STARTED_WITHIN;
        let next = || {
            let left = deadline.saturating_duration_since(Instant::now());
            self.lines.recv_timeout(left).ok()
        };
        let said = std::iter::from_fn(next).find(|line| line.contains(words));
        said.unwrap_or_else(|| panic!("it does not say {words:?}:\n{}", self.serving.log()))
    }
}

/// Reads a server's log to its end, so that the server never waits for us.
fn read_on(log: ChildStderr, kept: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            kept.lock().expect("nobody panicked").extend([&line, "\n"]);
            // Only while it starts is it waited for a line.
            let _ = sender.send(line);
        }
    });
    lines
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

    /// Asks for something, under a request id of ours; gives the answer, which is no refusal.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).json(body);
        let (status, document) = answer(request.header("x-request-id", "from-the-test")).await;
        assert!(status < 300, "{status} {document}");
        document
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

    pub fn pid(&self) -> u32 {
        self.child.id()
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
