//! Connections: a bounded pool for statements, and connections outside of it for LISTEN
//! and for migrations. Every wait has an end.
//!
//! The server must be reached directly or through a pooler in session mode: with
//! pgbouncer's transaction mode neither prepared statements nor LISTEN work.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Status,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client as PgClient, Config, Connection, Error as PgError, Socket,
};

use super::{
    error::{Attempt, DbError},
    tls::{Target, Tls},
};

pub use deadpool_postgres::Client;

/// The limits of a [`Database`].
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Connections at once, those for LISTEN and migrations not counted.
    pub connections: usize,
    /// How long to wait for one of them to become free.
    pub wait: Duration,
    /// How long to wait for one host to take a new connection, unless the URL has a
    /// `connect_timeout`.
    pub connect: Duration,
    /// After this the server cancels a statement. Longer than any statement of ours takes,
    /// so that only a stuck one is hit.
    pub statement: Duration,
    /// After this the server ends a transaction in which nothing happens: no transaction
    /// of ours stays open across I/O, so such a one belongs to a replica that hangs.
    pub idle_in_transaction: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits {
            connections: 16,
            wait: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            idle_in_transaction: Duration::from_secs(30),
        }
    }
}

/// A Postgres database. Clones share one pool.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    target: Arc<Target>,
    /// How long a new connection may take in all, over all hosts of the URL.
    patience: Duration,
}

impl Database {
    /// Reads the URL and the certificate files that it names; connects to nothing yet.
    ///
    /// # Errors
    /// A URL or a file that can't be used.
    pub fn connect(url: &str, limits: PoolLimits) -> Result<Self, DbError> {
        let mut target = Target::parse(url)?;
        set_defaults(&mut target.config, limits);
        let hosts = target.config.get_hosts().len().max(target.config.get_hostaddrs().len());
        let attempt = *target.config.get_connect_timeout().unwrap_or(&limits.connect);
        // A host each, and once more for the greeting after the socket is open.
        let patience = attempt * (hosts as u32 + 1);

        let opener = Opener { tls: target.tls.clone(), session: session(limits) };
        // Fast: no round trip before each use; a connection that has died meanwhile is
        // noticed by its first statement, see `with_client`.
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(target.config.clone(), opener, config))
            .max_size(limits.connections)
            .wait_timeout(Some(limits.wait))
            .create_timeout(Some(patience))
            .recycle_timeout(Some(limits.connect))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| PoolError::NoRuntimeSpecified)
            .attempt("set up the connection pool")?;
        Ok(Database { pool, target: Arc::new(target), patience })
    }

    /// A connection of the pool. It goes back when it is dropped.
    ///
    /// # Errors
    /// When all stay busy, or a new one does not come about.
    pub async fn client(&self) -> Result<Client, DbError> {
        use deadpool_postgres::TimeoutType;
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(source) => DbError::Connect { server: self.server(), source },
            PoolError::Timeout(TimeoutType::Create) => self.timeout(),
            source => DbError::Pool { operation: "get a database connection", source },
        })
    }

    /// Runs `work`, and once more on another connection if the first one turns out to be
    /// dead (the server was restarted, a firewall forgot it). So `work` must be such that
    /// it may be done twice: an error in COMMIT does not tell whether it has happened.
    ///
    /// # Errors
    /// Those of [`Database::client`] and of `work`.
    pub async fn with_client<T, F, W>(&self, work: W) -> Result<T, DbError>
    where
        W: Fn(Client) -> F,
        F: Future<Output = Result<T, DbError>>,
    {
        match work(self.client().await?).await {
            Err(error) if error.is_connection_lost() => {
                tracing::debug!(%error, "a pooled connection was dead, trying another one");
                // What happened to one has happened to all that are idle.
                self.pool.retain(|client, _| !client.is_closed());
                work(self.client().await?).await
            }
            outcome => outcome,
        }
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// When it gives none.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.with_client(|client| async move {
            client.simple_query("-- ping\nSELECT 1").await.attempt("reach the database")?;
            Ok(())
        })
        .await
    }

    /// A connection outside of the pool, without a limit on a statement's time, and what
    /// it is notified of. It ends with the client; the notifications end with it.
    ///
    /// # Errors
    /// When no connection comes about.
    pub async fn dedicated(&self) -> Result<(PgClient, Notifications), DbError> {
        let (sender, receiver) = mpsc::channel(WAITING_NOTIFICATIONS);
        let connect = open(&self.target.config, self.target.tls.clone(), SESSION, Some(sender));
        match tokio::time::timeout(self.patience, connect).await {
            Ok(Ok((client, _))) => Ok((client, Notifications { receiver })),
            Ok(Err(source)) => Err(DbError::Connect { server: self.server(), source }),
            Err(_) => Err(self.timeout()),
        }
    }

    /// Ends the idle connections and takes no more work.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Host, port and database, without user and password.
    pub fn server(&self) -> String {
        self.target.server.clone()
    }

    /// How many connections there are, and how many wait for one.
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    fn timeout(&self) -> DbError {
        DbError::ConnectTimeout { server: self.server(), timeout: self.patience }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.target.server).finish()
    }
}

/// What somebody sent with NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel that was listened to.
    pub channel: String,
    /// What was sent along.
    pub payload: String,
}

/// Notifications that may wait to be looked at. More are dropped: they are hints, and who
/// has so many unread will look at the tables anyway. Not reading on would make the
/// server keep them for every listener.
const WAITING_NOTIFICATIONS: usize = 1024;

/// The notifications of one connection.
#[derive(Debug)]
pub struct Notifications {
    receiver: mpsc::Receiver<Notification>,
}

impl Notifications {
    /// The next one; `None` when the connection has ended.
    pub async fn recv(&mut self) -> Option<Notification> {
        self.receiver.recv().await
    }
}

/// What the URL does not set itself.
fn set_defaults(config: &mut Config, limits: PoolLimits) {
    if config.get_application_name().is_none() {
        config.application_name("strandline");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(limits.connect);
    }
    // A peer that vanished without a word is noticed within about 45 s, when idle or
    // waiting for an answer, and within 15 s when it does not acknowledge what we send.
    if config.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
}

/// Every session's settings. By SET and not as start-up options, which pgbouncer refuses.
const SESSION: &str = "SET timezone TO 'UTC'; SET client_min_messages TO warning";

fn session(limits: PoolLimits) -> String {
    format!(
        "{SESSION}; SET statement_timeout TO {}; SET idle_in_transaction_session_timeout TO {}",
        limits.statement.as_millis(),
        limits.idle_in_transaction.as_millis()
    )
}

/// Opens the pool's connections.
struct Opener {
    tls: Tls,
    session: String,
}

type Opened = Result<(PgClient, JoinHandle<()>), PgError>;

impl deadpool_postgres::Connect for Opener {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Opened> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move { open(&config, self.tls.clone(), &self.session, None).await })
    }
}

async fn open(
    config: &Config,
    tls: Tls,
    session: &str,
    notifications: Option<mpsc::Sender<Notification>>,
) -> Opened {
    let (client, connection) = config.connect(tls).await?;
    let driver = tokio::spawn(drive(connection, notifications));
    client.batch_execute(session).await?;
    Ok((client, driver))
}

/// Moves bytes until the connection ends: the client is dropped, or the server is gone.
async fn drive<S>(
    mut connection: Connection<Socket, S>,
    notifications: Option<mpsc::Sender<Notification>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            None => return,
            Some(Err(error)) => {
                // Whoever uses the connection gets an error of its own.
                tracing::debug!(%error, "a database connection broke");
                return;
            }
            Some(Ok(AsyncMessage::Notification(message))) => {
                let Some(sender) = &notifications else { continue };
                let (channel, payload) =
                    (message.channel().to_owned(), message.payload().to_owned());
                if let Err(mpsc::error::TrySendError::Full(_)) =
                    sender.try_send(Notification { channel, payload })
                {
                    tracing::debug!("too many notifications are unread, one is dropped");
                }
            }
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(notice = notice.message(), "the database says");
            }
            Some(Ok(_)) => {}
        }
    }
}
