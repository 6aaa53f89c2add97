//! Settings: each is a command-line option and an environment variable, named with its unit,
//! and has a limit.

mod hidden;
mod traces;
mod unknown;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

pub use hidden::Hidden;
pub use traces::{Collector, SamplerName, TraceSettingError, TraceSettings};
pub use unknown::{UnknownVariable, unknown_variables};
pub use usage::exit_with;

use crate::snapshot::{Scope, Timestamp, TopicGlob, TopicName};

/// The version, with the commit that this was built from where that is known.
pub const VERSION: &str = env!("STRANDLINE_VERSION");

/// Snapshots of Kafka topics: a window of time becomes Parquet files. Nothing twice, nothing
/// lost, nothing hidden, nothing in the way.
#[derive(Debug, Parser)]
#[command(name = "strandline", version = VERSION, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogSettings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the HTTP API and work on snapshots, until SIGTERM or Ctrl-C
    #[command(after_help = usage::EXIT_CODES)]
    Serve(Box<ServeSettings>),
    /// Take one snapshot in the foreground, without a server, and print the result
    #[command(after_help = usage::SNAPSHOT_NOTES)]
    Snapshot(Box<SnapshotSettings>),
    /// Bring the database's schema up to date
    #[command(after_help = usage::EXIT_CODES)]
    Migrate(DatabaseSettings),
    /// Make, list and revoke the tokens that callers of the HTTP API show
    #[command(after_help = usage::TOKEN_NOTES, subcommand_required = true)]
    Token {
        /// What to do with them.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Ask the server on this machine whether it can serve, for health checks
    #[command(after_help = usage::EXIT_CODES)]
    Health(HealthSettings),
    /// Print the OpenAPI document
    Openapi(OpenapiSettings),
}

/// Which OpenAPI document to print.
#[derive(Debug, Args)]
pub struct OpenapiSettings {
    /// In OpenAPI 3.0.3, for tools that know no newer one
    #[arg(long)]
    pub lowered: bool,
}

/// How to log.
#[derive(Debug, Args)]
pub struct LogSettings {
    /// What to log: a level, or directives such as `info,strandline::job=debug`
    #[arg(long = "log", env = "STRANDLINE_LOG", global = true, value_name = "FILTER")]
    pub filter: Option<String>,
    /// How log lines look
    #[arg(
        long = "log-format",
        env = "STRANDLINE_LOG_FORMAT",
        global = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// JSON lines.
    Json,
}

/// Where the state is.
#[derive(Debug, Args)]
pub struct DatabaseSettings {
    /// Postgres, as `postgres://user:password@host/database`; without it, Strandline starts a
    /// private PostgreSQL of its own in the data directory
    #[arg(long, env = "STRANDLINE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Hidden>,
    /// Where the private PostgreSQL and, by default, the files are kept
    #[arg(
        long,
        env = "STRANDLINE_DATA_DIR",
        value_name = "DIR",
        default_value = "./strandline-data"
    )]
    pub data_dir: PathBuf,
    /// The folder with PostgreSQL's programs, for the private one; found by itself as a rule
    #[arg(long, env = "STRANDLINE_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
}

/// Where the events come from.
#[derive(Debug, Args)]
pub struct KafkaSettings {
    /// Bootstrap servers of the cluster `default`
    #[arg(
        long,
        env = "STRANDLINE_KAFKA_BROKERS",
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:9092"
    )]
    pub kafka_brokers: String,
    /// More properties of librdkafka, such as `security.protocol=sasl_ssl,sasl.username=me`
    #[arg(
        long,
        env = "STRANDLINE_KAFKA_PROPERTIES",
        value_name = "K=V,…",
        default_value = "",
        hide_env_values = true
    )]
    pub kafka_properties: Hidden,
}

/// Where the files go, and how the work is cut.
#[derive(Debug, Args)]
pub struct WorkSettings {
    /// Where the files go: `file:///dir`, `s3://bucket/prefix`, `gs://…` or `az://…`; by
    /// default the folder `files` in the data directory
    #[arg(long, env = "STRANDLINE_STORAGE_URL", value_name = "URL", hide_env_values = true)]
    pub storage_url: Option<Hidden>,
    /// Tasks at once in this replica; 0 for the API alone; by default the number of cores
    #[arg(long, env = "STRANDLINE_WORKERS", value_name = "N", value_parser = value_parser!(u16).range(0..=256))]
    pub workers: Option<u16>,
    /// How long a silent worker keeps its task, in seconds
    #[arg(long, env = "STRANDLINE_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
    /// How long after a window's end its snapshot stays provisional, in seconds
    #[arg(long, env = "STRANDLINE_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 600, value_parser = value_parser!(u32).range(0..=31_536_000))]
    pub grace_seconds: u32,
    /// Size to aim at for one Parquet file, in bytes
    #[arg(long, env = "STRANDLINE_TARGET_FILE_BYTES", value_name = "BYTES", default_value_t = 128 * 1024 * 1024, value_parser = value_parser!(u64).range(4096..=17_179_869_184))]
    pub target_file_bytes: u64,
    /// How long errors that may pass are retried before a snapshot fails, in seconds
    #[arg(long, env = "STRANDLINE_RETRY_SECONDS", value_name = "SECONDS", default_value_t = 300, value_parser = value_parser!(u32).range(0..=604_800))]
    pub retry_seconds: u32,
    /// Age at which an object that no commit names is removed, in seconds
    #[arg(long, env = "STRANDLINE_ORPHAN_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 3600, value_parser = value_parser!(u32).range(1..=31_536_000))]
    pub orphan_grace_seconds: u32,
}

/// Settings of `strandline serve`.
#[derive(Debug, Args)]
pub struct ServeSettings {
    /// Address of the API
    #[arg(
        long,
        env = "STRANDLINE_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// Longest time that an answer is held back, in seconds
    #[arg(long, env = "STRANDLINE_MAX_WAIT_SECONDS", value_name = "SECONDS", default_value_t = 300, value_parser = value_parser!(u32).range(0..=86_400))]
    pub max_wait_seconds: u32,
    /// How often snapshots that may still grow are looked at, in seconds
    #[arg(long, env = "STRANDLINE_SEAL_INTERVAL_SECONDS", value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u32).range(1..=86_400))]
    pub seal_interval_seconds: u32,
    /// Most snapshots that may wait for a worker; one more is answered with 429
    #[arg(long, env = "STRANDLINE_QUEUE_LIMIT", value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub queue_limit: u32,
    /// Requests per second that one caller may send; 0 for no limit
    #[arg(long, env = "STRANDLINE_RATE_LIMIT", value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit: u32,
    /// Web origins besides our own that may send requests
    #[arg(
        long,
        env = "STRANDLINE_ALLOWED_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ','
    )]
    pub allowed_origins: Vec<String>,
    /// Another address for the metrics, where no token is asked for
    #[arg(long, env = "STRANDLINE_METRICS_LISTEN", value_name = "HOST:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Serve an address that others can reach although there is no token yet
    #[arg(long, env = "STRANDLINE_ALLOW_ANONYMOUS", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    pub allow_anonymous: bool,
    /// Where the state is.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Where the events come from.
    #[command(flatten)]
    pub kafka: KafkaSettings,
    /// Where the files go.
    #[command(flatten)]
    pub work: WorkSettings,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceSettings,
}

/// TLS of the server.
#[derive(Debug, Default, Args)]
pub struct TlsSettings {
    /// The server's certificate and those above it, a PEM file: serve HTTPS; read anew when it
    /// changes
    #[arg(long, env = "STRANDLINE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the server's certificate, a PEM file
    #[arg(long, env = "STRANDLINE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    #[command(after_help = usage::TOKEN_NOTES)]
    Create(CreateTokenSettings),
    /// List all tokens, without what is secret about them
    List(ListTokensSettings),
    /// Revoke a token: within seconds no replica takes it any more
    Revoke(RevokeTokenSettings),
}

/// Settings of `strandline token create`.
#[derive(Debug, Args)]
pub struct CreateTokenSettings {
    /// Whom it is for; the login where it is sent as Basic
    #[arg(long, value_parser = parse_token_name)]
    pub name: String,
    /// What it may do: read, write (ask for snapshots, cancel, refresh) or admin
    #[arg(long, value_parser = parse_scope)]
    pub scope: Scope,
    /// Only with topics like this, such as `orders.*`; repeatable; by default with all
    #[arg(long = "topic", value_name = "GLOB", value_parser = parse_glob)]
    pub topics: Vec<TopicGlob>,
    /// Refuse it after so many days; by default it does not expire
    #[arg(long, value_name = "DAYS", value_parser = value_parser!(u32).range(1..=36_500))]
    pub expires_in_days: Option<u32>,
    /// Where the state is.
    #[command(flatten)]
    pub database: DatabaseSettings,
}

/// Settings of `strandline token list`.
#[derive(Debug, Args)]
pub struct ListTokensSettings {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the state is.
    #[command(flatten)]
    pub database: DatabaseSettings,
}

/// Settings of `strandline token revoke`.
#[derive(Debug, Args)]
pub struct RevokeTokenSettings {
    /// Its name
    pub name: String,
    /// Where the state is.
    #[command(flatten)]
    pub database: DatabaseSettings,
}

/// Settings of `strandline health`.
#[derive(Debug, Args)]
pub struct HealthSettings {
    /// The address that the server was told to listen on
    #[arg(
        long,
        env = "STRANDLINE_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// The server's certificate: ask by HTTPS
    #[arg(long, env = "STRANDLINE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
}

/// Settings of `strandline snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotSettings {
    /// The topic
    #[arg(long, value_parser = parse_topic)]
    pub topic: TopicName,
    /// First moment of the window, such as 2025-07-29T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub start: Timestamp,
    /// First moment after the window
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub end: Timestamp,
    /// Fail if offsets of the window are lost, after storing what is left
    #[arg(long)]
    pub fail_on_loss: bool,
    /// Print the snapshot as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the state is.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Where the events come from.
    #[command(flatten)]
    pub kafka: KafkaSettings,
    /// Where the files go.
    #[command(flatten)]
    pub work: WorkSettings,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceSettings,
}

impl Command {
    /// Where its traces go; `None` for a command that has none.
    pub fn traces(&self) -> Option<&TraceSettings> {
        match self {
            Command::Serve(settings) => Some(&settings.traces),
            Command::Snapshot(settings) => Some(&settings.traces),
            Command::Migrate(_)
            | Command::Token { .. }
            | Command::Health(_)
            | Command::Openapi(_) => None,
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::from_name(text).ok_or_else(|| "it is none of read, write, admin".to_owned())
}

fn parse_glob(text: &str) -> Result<TopicGlob, String> {
    TopicGlob::parse(text).map_err(|error| error.to_string())
}

/// A colon would end the login of Basic.
fn parse_token_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=63).contains(&text.len()) && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("a name has 1 to 63 characters of a-z A-Z 0-9 . _ -".to_owned())
}

fn parse_topic(text: &str) -> Result<TopicName, String> {
    TopicName::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_values_name_the_option() {
        for (args, part) in [
            (vec!["serve", "--lease-seconds", "0"], "--lease-seconds"),
            (vec!["serve", "--listen", "8080"], "--listen"),
            (vec!["snapshot", "--topic", "a b", "--start", "x"], "--topic"),
            (
                vec!["snapshot", "--topic", "a", "--start", "2025-07-29", "--end", "x"],
                "date without a time",
            ),
        ] {
            let error = Cli::try_parse_from([&["strandline"], args.as_slice()].concat())
                .expect_err("a bad value");
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
