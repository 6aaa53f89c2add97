//! The thin binary: command line → settings → telemetry → app.

use std::process::ExitCode;

use clap::Parser;
use strandline::app::{self, AppError};
use strandline::settings::{self, Cli, Command, LogFormat, TraceSettings};
use strandline::telemetry::TelemetryError;
use strandline::{api, foreground, health, kafka, telemetry, tokens};

/// The exit code of wrong usage, settings included; clap's own too.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    kafka::prepare_process();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&AppError::io("start the runtime")(error)),
    };
    // The main future stays on this thread: the private PostgreSQL is tied to the thread that
    // starts it.
    let code = runtime.block_on(run());
    // A thread that is in a call to a broker that hangs does not keep the process.
    runtime.shutdown_background();
    code
}

async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => settings::exit_with(&error),
    };
    // A command in the foreground shows its own progress. What these two libraries tell at
    // info, we tell ourselves.
    let default_filter = match cli.command {
        Command::Serve(_) => "info,actix_server=warn,refinery_core=warn",
        Command::Snapshot(_)
        | Command::Migrate(_)
        | Command::Token { .. }
        | Command::Health(_)
        | Command::Openapi(_) => "warn",
    };
    let collector = match cli.command.traces().map_or(Ok(None), TraceSettings::collector) {
        Ok(collector) => collector,
        Err(error) => return fail(&AppError::setting(error.name, error.problem)),
    };
    let traces = match telemetry::start(&cli.log, default_filter, collector.as_ref()) {
        Ok(traces) => traces,
        Err(error @ TelemetryError::Filter(_)) => {
            return fail(&AppError::setting("STRANDLINE_LOG", error));
        }
        Err(error @ TelemetryError::Traces(_)) => {
            return fail(&AppError::setting("OTEL_EXPORTER_OTLP_ENDPOINT", error));
        }
    };
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into()))
    });
    for unknown in settings::unknown_variables(variables) {
        tracing::warn!(hint = %unknown, "an environment variable does nothing");
    }
    let done = match cli.command {
        Command::Serve(settings) => app::serve(*settings).await.map(|()| ExitCode::SUCCESS),
        Command::Snapshot(settings) => foreground::snapshot(*settings).await,
        Command::Migrate(settings) => app::migrate(&settings).await.map(|()| ExitCode::SUCCESS),
        Command::Token { command } => tokens::token(&command).await.map(|()| ExitCode::SUCCESS),
        Command::Health(settings) => health::health(&settings).await.map(|()| ExitCode::SUCCESS),
        Command::Openapi(settings) if settings.lowered => {
            app::print(&api::openapi_lowered_json()).map(|()| ExitCode::SUCCESS)
        }
        Command::Openapi(_) => app::print(api::openapi_json()).map(|()| ExitCode::SUCCESS),
    };
    let code = match (done, cli.log.format) {
        (Ok(code), _) => code,
        (Err(error), LogFormat::Text) => fail(&error),
        (Err(error), LogFormat::Json) => {
            tracing::error!(%error, "ended by an error");
            exit_code(&error)
        }
    };
    if let Some(traces) = traces {
        traces.finish().await;
    }
    telemetry::tell_left_out_so_far();
    code
}

#[expect(clippy::print_stderr, reason = "the one place where the program says why it ended")]
fn fail(error: &AppError) -> ExitCode {
    eprintln!("strandline: {error}");
    exit_code(error)
}

fn exit_code(error: &AppError) -> ExitCode {
    if error.is_wrong_usage() { ExitCode::from(WRONG_USAGE) } else { ExitCode::FAILURE }
}
