//! What the program says when it is called wrongly, or asked how to call it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use super::Cli;

/// The exit codes of every command.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 called wrongly";

/// What follows the options of `strandline token --help` and of `token create --help`.
pub(super) const TOKEN_NOTES: &str = "\
From the first token on, every caller needs one. It is sent as `Authorization: Bearer TOKEN`, or
as Basic with its name as the login and the token as the password, as an Airflow connection does.

Example, a token for Airflow that may have two families of topics:
  strandline token create --name airflow --scope write --topic 'orders.*' --topic 'clicks-*'

Exit codes: 0 done, 1 failed, 2 called wrongly";

/// What follows the options of `strandline snapshot --help`.
pub(super) const SNAPSHOT_NOTES: &str = "\
TIME is RFC 3339 with a zone, 2025-07-29T00:00:00Z or '2025-07-29 02:00:00+02:00'; what is
finer than a millisecond is cut off. The first moment belongs to the window, the end does not.

Example, one day of the topic orders, as JSON:
  strandline snapshot --topic orders --start 2025-07-29T00:00:00Z --end 2025-07-30T00:00:00Z --json

Exit codes: 0 the snapshot succeeded, 1 it failed or was interrupted, 2 called wrongly. The same
command goes on from what is stored.";

/// Ends the program for an error of the command line: help and version as they are, anything
/// else as one line that names the option and, if it has one, its environment variable.
pub fn exit_with(error: &clap::Error) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let line = one_line(error, std::env::args_os());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    std::process::exit(error.exit_code())
}

fn one_line(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> String {
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let said = said.collect::<Vec<_>>().join(" ");
    let said = said.trim_start_matches("error: ");
    let cli = Cli::command();
    let variable = variable_of(error, &cli).map(|name| format!(" ({name})")).unwrap_or_default();
    let command = command_of(cli, arguments).map(|name| format!(" {name}")).unwrap_or_default();
    format!("strandline: {said}{variable}; see strandline{command} --help\n")
}

/// The environment variable of the option that the error is about.
fn variable_of(error: &clap::Error, cli: &Command) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let option = option.split(' ').next().unwrap_or_default();
    cli.get_subcommands().flat_map(Command::get_arguments).find_map(|arg| {
        arg.get_long().filter(|name| option.strip_prefix("--") == Some(name))?;
        Some(arg.get_env()?.to_string_lossy().into_owned())
    })
}

/// The command that was meant, whatever is wrong with its options.
fn command_of(cli: Command, arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let matches = cli.ignore_errors(true).try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(arguments: &str) -> String {
        let arguments = || arguments.split(' ').map(OsString::from);
        one_line(&Cli::try_parse_from(arguments()).expect_err("wrong"), arguments())
    }

    #[test]
    fn an_error_leads_to_the_help_of_its_command() {
        for (arguments, end) in [
            ("strandline snapshot --topic t", "see strandline snapshot --help\n"),
            ("strandline snapshot --topic a/b", "see strandline snapshot --help\n"),
            ("strandline --log warn serve --listen 8080", "see strandline serve --help\n"),
            ("strandline --log serve migrate --nonsense", "see strandline migrate --help\n"),
            ("strandline migrte", "see strandline --help\n"),
            ("strandline --nonsense", "see strandline --help\n"),
        ] {
            assert!(said(arguments).ends_with(end), "{arguments}: {}", said(arguments));
            assert_eq!(said(arguments).lines().count(), 1);
        }
        assert!(said("strandline serve --lease-seconds x").contains("(STRANDLINE_LEASE_SECONDS)"));
    }
}
