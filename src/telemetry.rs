//! What the program says of itself: log lines, one an event, on standard error; and traces.

mod limit;
mod line;
mod traces;

use std::io::IsTerminal;
use std::sync::LazyLock;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use self::line::{JsonLine, TextLine};
use crate::settings::{Collector, LogFormat, LogSettings};

pub use self::limit::{tell_left_out, tell_left_out_so_far};
pub use self::traces::Traces;

/// What can't be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log's filter can't be read.
    #[error(transparent)]
    Filter(#[from] ParseError),
    /// Spans can't be sent.
    #[error("can't send traces: {0}")]
    Traces(String),
}

/// Starts logging, and traces if there is a collector for them; `default_filter` counts if the
/// settings have none. To be called within the runtime.
///
/// # Errors
/// [`TelemetryError`], by what can't be started.
pub fn start(
    settings: &LogSettings,
    default_filter: &str,
    collector: Option<&Collector>,
) -> Result<Option<Traces>, TelemetryError> {
    let wanted = settings.filter.as_deref().filter(|filter| !filter.is_empty());
    let mut filter = EnvFilter::builder().parse(wanted.unwrap_or(default_filter))?;
    for directive in UNSPOKEN {
        filter = filter.add_directive(directive.parse()?);
    }
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let lines = match settings.format {
        LogFormat::Text => lines.event_format(TextLine::new(ansi)).with_filter(filter).boxed(),
        LogFormat::Json => {
            log_panics();
            let lines = lines.with_ansi(false).fmt_fields(JsonFields::new());
            lines.event_format(JsonLine::new(replica())).with_filter(filter).boxed()
        }
    };
    let traces = collector.map(|collector| Traces::start(collector, replica())).transpose();
    let traces = traces.map_err(TelemetryError::Traces)?;
    // Our own spans, with none of the events in them: those are the log's.
    let ours = filter_fn(|metadata| {
        metadata.is_span()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("strandline")
    });
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours)
    });
    tracing_subscriber::registry().with(spans).with(lines).init();
    Ok(traces)
}

/// What others would log of what is secret, whatever the settings say.
const UNSPOKEN: &[&str] = &[
    // Statements with their values, at debug: events' keys could be among them.
    "tokio_postgres=info",
];

/// Who of the replicas we are, in log lines, traces and the leases of tasks.
pub fn replica() -> &'static str {
    static REPLICA: LazyLock<String> =
        LazyLock::new(|| format!("{}:{}", host_name(), std::process::id()));
    &REPLICA
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// A panic is a line like all others: whoever reads JSON lines reads nothing else.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        let place = panic.location().map(ToString::to_string);
        let trace = std::backtrace::Backtrace::capture();
        let trace = (trace.status() == std::backtrace::BacktraceStatus::Captured).then_some(trace);
        let backtrace = trace.map(|trace| trace.to_string());
        tracing::error!(error = said, place, backtrace, "a thread panicked");
    }));
}
