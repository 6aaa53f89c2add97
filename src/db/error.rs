//! What can go wrong with Postgres. A text names what was attempted and what to do; it
//! never holds a password, SQL or a value (those are, if anywhere, in [`source`] and in
//! the server's log).
//!
//! [`source`]: std::error::Error::source

use std::{io, path::PathBuf, time::Duration};

use deadpool_postgres::PoolError;
use tokio_postgres::{Error as PgError, error::SqlState};

use crate::snapshot::FailureKind;

/// An error of the database shell.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// As many runs wait as may.
    #[error("{limit} runs wait for a worker already; see STRANDLINE_QUEUE_LIMIT")]
    QueueFull {
        /// How many may.
        limit: u32,
    },
    /// The database holds what this program can't have written.
    #[error("the database holds an unexpected value in {0}")]
    Unexpected(&'static str),
    /// The database URL has a form or an option that can't be used.
    #[error("can't use the database url: {0}; see STRANDLINE_DATABASE_URL")]
    Url(String),
    /// Certificates or keys for TLS can't be loaded.
    #[error("can't load {what}: {reason}")]
    Certificates {
        /// What, and from where.
        what: String,
        /// Why not.
        reason: String,
    },
    /// No connection to the server came about.
    #[error("can't connect to postgres at {server}: {}{}", reason(source), connect_hint(source))]
    Connect {
        /// Host and database, without user and password.
        server: String,
        /// What the driver says.
        source: PgError,
    },
    /// The server did not answer in time.
    #[error("can't connect to postgres at {server}: no answer within {} s", timeout.as_secs())]
    ConnectTimeout {
        /// Host and database, without user and password.
        server: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// The server has a connection, and says nothing more on it.
    #[error("can't use postgres at {server}: no answer within {} s", timeout.as_secs())]
    AnswerTimeout {
        /// Host and database, without user and password.
        server: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// The pool gave no connection.
    #[error("can't {operation}: {}", pool_reason(source))]
    Pool {
        /// What was attempted.
        operation: &'static str,
        /// What the pool says.
        source: PoolError,
    },
    /// A statement failed.
    #[error("can't {operation}: {}", reason(source))]
    Statement {
        /// What was attempted.
        operation: &'static str,
        /// What the driver or the server says.
        source: PgError,
    },
    /// A migration can't be applied.
    #[error("can't migrate the database: {}", migration_reason(source))]
    Migration {
        /// What the migration library says.
        source: refinery::Error,
    },
    /// No server programs for the private PostgreSQL.
    #[error(
        "no postgresql server programs in {searched}; install them (apt install postgresql), name their folder in STRANDLINE_PG_BIN, or name a server in STRANDLINE_DATABASE_URL"
    )]
    NoServerPrograms {
        /// Where we looked.
        searched: String,
    },
    /// Another process owns the private PostgreSQL of this data directory.
    #[error(
        "another strandline uses the data directory {} already; give this one its own STRANDLINE_DATA_DIR, or let both share a server through STRANDLINE_DATABASE_URL", data_dir.display()
    )]
    DataDirInUse {
        /// The directory.
        data_dir: PathBuf,
    },
    /// The private PostgreSQL was made by another major version.
    #[error(
        "the database in {} was made by postgresql {made_by}, but {} holds postgresql {found}; install postgresql-{made_by} or name its programs in STRANDLINE_PG_BIN, or move the data with its pg_dump into a new data directory", data.display(), programs.display()
    )]
    OtherMajorVersion {
        /// The cluster's directory.
        data: PathBuf,
        /// The version that made it.
        made_by: u32,
        /// Where the programs are.
        programs: PathBuf,
        /// Their version.
        found: u32,
    },
    /// The account that must run the private PostgreSQL can't get at its files.
    #[error(
        "postgresql can't run as root, and user {account} can't get to {}; let others pass through the directories above it (chmod o+x), or choose another STRANDLINE_DATA_DIR", path.display()
    )]
    Unreachable {
        /// The account.
        account: String,
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory of the private PostgreSQL can't be used.
    #[error("can't {attempted} {}: {source}{}", path.display(), file_hint(source))]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The private PostgreSQL does not start, or not in time.
    #[error("can't {attempted}: {reason}")]
    Server {
        /// What was attempted.
        attempted: &'static str,
        /// The last lines that it wrote, or how long we waited.
        reason: String,
    },
}

impl DbError {
    /// A value that this program can't have written, in the column `place`.
    pub const fn unexpected(place: &'static str) -> Self {
        DbError::Unexpected(place)
    }

    /// Whether doing the same again, unchanged, may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            DbError::ConnectTimeout { .. } | DbError::AnswerTimeout { .. } => true,
            DbError::Pool { source, .. } => !matches!(source, PoolError::NoRuntimeSpecified),
            // Wrong credentials or a missing database stay so until someone acts.
            DbError::Connect { source, .. } => {
                source.code().is_none_or(|code| transient(code) || lost(code))
                    && !tls_refused(source)
            }
            DbError::Statement { source, .. } => {
                connection_lost(source) || source.code().is_some_and(transient)
            }
            DbError::Migration { source } => driver_error(source)
                .is_some_and(|e| connection_lost(e) || e.code().is_some_and(transient)),
            _ => false,
        }
    }

    /// What a run that failed for this is said to have failed for.
    pub fn failure_kind(&self) -> FailureKind {
        let unavailable = match self {
            DbError::Connect { .. }
            | DbError::ConnectTimeout { .. }
            | DbError::AnswerTimeout { .. }
            | DbError::Pool { .. } => true,
            DbError::Statement { source, .. } => {
                connection_lost(source) || source.code().is_some_and(transient)
            }
            DbError::Server { .. } | DbError::File { .. } => true,
            _ => false,
        };
        if unavailable { FailureKind::DatabaseUnavailable } else { FailureKind::Internal }
    }

    /// Whether an exclusion constraint refused the row: another one covers these offsets.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(&SqlState::EXCLUSION_VIOLATION)
    }

    /// Whether the transaction lost against another one and should be run once more.
    pub fn is_serialization(&self) -> bool {
        self.code().is_some_and(serialization)
    }

    /// Whether the connection is gone, so that a new one may do. What was asked for may
    /// have been done all the same.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, DbError::Statement { source, .. } if connection_lost(source))
    }

    /// The server's SQLSTATE, if it was the server that refused.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            DbError::Connect { source, .. } | DbError::Statement { source, .. } => source.code(),
            DbError::Migration { source } => driver_error(source).and_then(PgError::code),
            _ => None,
        }
    }
}

/// Says what was attempted: `client.execute(…).await.attempt("claim a task")?`.
pub trait Attempt<T> {
    /// Turns a driver's error into one that says "can't `operation`".
    ///
    /// # Errors
    /// The error that was there, as a [`DbError`].
    fn attempt(self, operation: &'static str) -> Result<T, DbError>;
}

impl<T> Attempt<T> for Result<T, PgError> {
    fn attempt(self, operation: &'static str) -> Result<T, DbError> {
        self.map_err(|source| DbError::Statement { operation, source })
    }
}

impl<T> Attempt<T> for Result<T, PoolError> {
    fn attempt(self, operation: &'static str) -> Result<T, DbError> {
        self.map_err(|source| match source {
            PoolError::Backend(source) => DbError::Statement { operation, source },
            source => DbError::Pool { operation, source },
        })
    }
}

/// 40001 and 40P01.
fn serialization(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
}

/// The server is short of something, or has cancelled a statement that took too long, or
/// has become a replica (a failover).
fn overloaded(code: &SqlState) -> bool {
    class(code) == "53"
        || [SqlState::QUERY_CANCELED, SqlState::READ_ONLY_SQL_TRANSACTION].contains(code)
}

/// The server closes the connection, or is not up yet.
fn lost(code: &SqlState) -> bool {
    class(code) == "08" || ["57P01", "57P02", "57P03", "57P05", "25P03"].contains(&code.code())
}

/// The first two characters, which say what kind of error it is.
fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

fn transient(code: &SqlState) -> bool {
    serialization(code) || overloaded(code) || *code == SqlState::LOCK_NOT_AVAILABLE
}

/// Whether the connection itself broke. The driver does not show its kinds of error, but
/// wraps the system's; the two kinds left out are also used for messages that can't be
/// encoded or decoded.
fn connection_lost(error: &PgError) -> bool {
    if let Some(code) = error.code() {
        return lost(code);
    }
    error.is_closed()
        || io_error(error).is_some_and(|e| {
            !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        })
}

/// A certificate that is not trusted stays so.
fn tls_refused(error: &PgError) -> bool {
    io_error(error).is_some_and(|e| e.kind() == io::ErrorKind::InvalidData)
}

fn io_error(error: &PgError) -> Option<&io::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

fn driver_error(error: &refinery::Error) -> Option<&PgError> {
    match error.kind() {
        refinery::error::Kind::Connection(_, source) => source.downcast_ref(),
        _ => None,
    }
}

/// The driver's or the server's words, where they can't hold SQL or values.
fn reason(error: &PgError) -> String {
    let Some(refusal) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text.push_str(&format!(": {inner}"));
            cause = inner.source();
        }
        return text;
    };
    let code = refusal.code().code();
    if *refusal.code() == SqlState::DISK_FULL {
        return format!("its disk is full ({code})"); // the server names a file
    }
    // Connection, access, resources, state of the server: words about names and numbers.
    let plain = ["08", "25", "28", "3D", "40", "53", "55", "57"];
    if plain.contains(&class(refusal.code())) || *refusal.code() == SqlState::INSUFFICIENT_PRIVILEGE
    {
        return format!("{} ({code})", refusal.message());
    }
    match refusal.constraint() {
        Some(constraint) => format!("postgres refused it by constraint {constraint} ({code})"),
        None => format!("postgres refused it ({code}; its log tells more)"),
    }
}

fn connect_hint(error: &PgError) -> &'static str {
    let text = reason(error);
    let told = |words: &str| text.contains(words);
    if let Some(code) = error.code() {
        return match class(code) {
            "28" => "; check user, password and sslmode in STRANDLINE_DATABASE_URL",
            "3D" => "; create the database first",
            "53" => "; allow more connections there (max_connections) or run fewer replicas",
            _ => "",
        };
    }
    if told("UnknownIssuer") {
        "; name the file with the authority's certificate as sslrootcert in the url"
    } else if told("not valid for name") || told("NotValidForName") {
        "; use the host name of its certificate, or sslmode=verify-ca"
    } else if told("CaUsedAsEndEntity") {
        "; the server shows an authority's certificate as its own: sign one for the server with it"
    } else if told("UnsupportedCertVersion") {
        "; the server's certificate is of the old version 1: sign it anew with a subjectAltName"
    } else if told("does not support TLS") {
        "; turn ssl on there, or use another sslmode"
    } else if io_error(error).is_some() {
        "; is it running, and is STRANDLINE_DATABASE_URL right?"
    } else {
        ""
    }
}

fn file_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as the user that owns it, or choose another STRANDLINE_DATA_DIR"
        }
        io::ErrorKind::StorageFull => "; make room, or choose another STRANDLINE_DATA_DIR",
        _ => "",
    }
}

fn pool_reason(error: &PoolError) -> String {
    use deadpool_postgres::TimeoutType;
    match error {
        PoolError::Timeout(TimeoutType::Wait) => {
            "all database connections of this replica stay busy".to_owned()
        }
        PoolError::Timeout(_) => "postgres does not answer in time".to_owned(),
        PoolError::Backend(source) => reason(source),
        PoolError::Closed => "strandline is stopping".to_owned(),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            "the connection pool is set up wrongly".to_owned()
        }
    }
}

fn migration_reason(error: &refinery::Error) -> String {
    use refinery::error::Kind;
    match error.kind() {
        Kind::DivergentVersion(applied, _) => format!(
            "{applied} was changed after it had been applied; run the version of strandline that applied it, or a later one"
        ),
        Kind::MissingVersion(missing) => format!(
            "the database has {missing}, which this version of strandline does not know; run the version that applied it, or a later one"
        ),
        Kind::Connection(step, source) => match source.downcast_ref::<PgError>() {
            Some(source) => format!("{step}: {}", reason(source)),
            None => step.clone(),
        },
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{
        embedded::tests::TestServer,
        pool::{Client, Database, PoolLimits},
    };

    async fn fails(client: &Client, sql: &str) -> DbError {
        client.batch_execute(sql).await.attempt("do it").expect_err(sql)
    }

    #[tokio::test]
    async fn a_refusal_is_told_without_sql_and_values() {
        let server = TestServer::start();
        let database = server.database();
        let client = database.client().await.expect("a connection");
        client
            .batch_execute(
                "CREATE TABLE t (r int8range, EXCLUDE USING gist (r WITH &&));
                 INSERT INTO t VALUES ('[4711,4712)')",
            )
            .await
            .expect("a table");

        let conflict = fails(&client, "INSERT INTO t VALUES ('[4711,4799)')").await;
        assert!(conflict.is_conflict() && !conflict.is_retryable());
        assert_eq!(conflict.failure_kind(), FailureKind::Internal);
        assert!(conflict.to_string().contains("t_r_excl"), "{conflict}");
        let syntax = fails(&client, "SELECT geheim FROM 'x").await;
        let lost = fails(&client, "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$").await;
        assert!(lost.is_serialization() && lost.is_retryable());
        let deadlock = fails(&client, "DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$").await;
        assert!(deadlock.is_serialization() && !deadlock.is_connection_lost());
        let slow = fails(&client, "SET statement_timeout TO 20; SELECT pg_sleep(10)").await;
        assert!(slow.is_retryable(), "{slow}");
        assert_eq!(slow.failure_kind(), FailureKind::DatabaseUnavailable);
        for error in [conflict, syntax, lost, deadlock, slow] {
            let text = error.to_string();
            assert!(text.starts_with("can't do it: "), "{text}");
            assert!(!text.contains("4711") && !text.contains("SELECT") && !text.contains("geheim"));
        }
        drop(client);

        let limits = PoolLimits::default();
        let wrong = format!("{}-missing", server.database_url());
        let missing = Database::connect(&wrong, limits).expect("a url").ping().await;
        let missing = missing.expect_err("no such database");
        assert!(missing.to_string().contains("create the database"), "{missing}");
        assert!(!missing.is_retryable());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there() {
        let url = "postgres://u:geheim@127.0.0.1:1/d";
        let database = Database::connect(url, PoolLimits::default()).expect("a url");
        let error = database.ping().await.expect_err("nobody listens");
        assert!(error.is_retryable());
        assert_eq!(error.failure_kind(), FailureKind::DatabaseUnavailable);
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:1, database d") && text.contains("is it running"),
            "{text}"
        );
        assert!(!format!("{error:?} {database:?}").contains("geheim"));
    }
}
