//! `strandline serve` as a process that can be killed, stopped and asked to end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a replica is started.
#[derive(Clone)]
pub struct Launch {
    pub name: String,
    /// Environment variables, all of Strandline's.
    pub settings: Vec<(&'static str, String)>,
    /// Where its log goes; one that is there is added to.
    pub log: PathBuf,
}

/// A replica, from its start to its end.
pub struct Replica {
    pub launch: Launch,
    pub url: String,
    child: Child,
    stopped: bool,
}

impl Replica {
    /// Starts the program, and waits until it serves.
    ///
    /// # Errors
    /// How it ended, if it ended before.
    pub async fn start(launch: &Launch) -> Result<Self, ExitStatus> {
        let log = OpenOptions::new().create(true).append(true).open(&launch.log).expect("a log");
        let from = log.metadata().expect("a size").len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STRANDLINE_")) {
            command.env_remove(name);
        }
        command.arg("serve").envs(launch.settings.iter().cloned()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a handle")).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let started = Instant::now();
        loop {
            if let Some(url) = serving(&launch.log, from) {
                return Ok(Replica { launch: launch.clone(), url, child, stopped: false });
            }
            if let Some(status) = child.try_wait().expect("a child of ours") {
                return Err(status);
            }
            if started.elapsed() > Duration::from_secs(90) {
                let _ = child.kill();
                panic!("{} does not serve, see {}", launch.name, launch.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: the process does nothing and does not know.
    pub fn pause(&mut self) {
        self.stopped = true;
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn go_on(&mut self) {
        self.stopped = false;
        self.signal("CONT");
    }

    pub fn is_paused(&self) -> bool {
        self.stopped
    }

    /// SIGTERM, and how it ended and when; `None` if it had to be killed.
    pub async fn terminate(&mut self, within: Duration) -> Option<(ExitStatus, Duration)> {
        self.signal("TERM");
        let started = Instant::now();
        while started.elapsed() < within {
            if let Some(status) = self.ended() {
                return Some((status, started.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill();
        None
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// The end of its log: what it says of an end that nobody asked for.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.launch.log).expect("the log");
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<String> =
            text.lines().rev().take(12).map(|line| line.chars().take(300).collect()).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // The shell's own: the program is not on every machine.
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status();
        assert!(sent.expect("a shell").success(), "can't send {name} to {}", self.launch.name);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in the log, from a place on.
fn serving(log: &PathBuf, from: u64) -> Option<String> {
    let mut file = File::open(log).expect("the log");
    file.seek(SeekFrom::Start(from)).expect("a place in it");
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (_, after) = text.split_once(" serving url=\"http://")?;
    // The line is there to its end.
    let (line, _) = after.split_once('\n')?;
    Some(format!("http://{}", line.split('"').next()?))
}
