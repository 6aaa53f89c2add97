//! The program that is measured, as a service of its own.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Settings;

/// How long it may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A running `strandline serve`; dropped, it is killed.
pub struct Service {
    child: Child,
    pub url: String,
}

impl Service {
    /// Starts it with this many workers and waits until it is ready.
    pub async fn start(settings: &Settings, workers: u32) -> crate::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{}/service.log", settings.state))?;
        let child = Command::new(&settings.program)
            .arg("serve")
            .env("STRANDLINE_LISTEN", &settings.listen)
            .env("STRANDLINE_DATABASE_URL", &settings.database_url)
            .env("STRANDLINE_KAFKA_BROKERS", &settings.brokers)
            .env("STRANDLINE_DATA_DIR", format!("{}/data", settings.state))
            .env("STRANDLINE_WORKERS", workers.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut service = Service { child, url: format!("http://{}", settings.listen) };
        service.ready(settings).await?;
        Ok(service)
    }

    async fn ready(&mut self, settings: &Settings) -> crate::Result<()> {
        let started = Instant::now();
        let http = reqwest::Client::builder().no_proxy().build()?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!(
                    "{} ended: {status}; see {}/service.log",
                    settings.program, settings.state
                )
                .into());
            }
            let answer = http.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > STARTS_WITHIN {
                return Err(format!(
                    "not ready after {STARTS_WITHIN:?}; see {}/service.log",
                    settings.state
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> crate::Result<()> {
        Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the service ended with {status}").into())
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
