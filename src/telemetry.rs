//! Logging: one line an event, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::settings::{LogFormat, LogSettings};

/// Starts logging; `default_filter` counts if the settings have none.
///
/// # Errors
/// [`ParseError`] if the filter can't be read.
pub fn start(settings: &LogSettings, default_filter: &str) -> Result<(), ParseError> {
    let wanted = settings.filter.as_deref().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder().parse(wanted.unwrap_or(default_filter))?;
    // The driver logs statements with their values at debug: events' keys could be among them.
    let filter = filter.add_directive("tokio_postgres=info".parse()?);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
