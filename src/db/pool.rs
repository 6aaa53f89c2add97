//! Connections: a bounded pool for statements, and connections outside of it for LISTEN
//! and for migrations. Every wait has an end.
//!
//! The server must be reached directly or through a pooler in session mode: with
//! pgbouncer's transaction mode neither prepared statements nor LISTEN work.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client as PgClient, Config, Connection, Error as PgError, Socket,
};

use super::{
    error::{Attempt, DbError},
    tls::{Target, Tls},
};
use crate::metrics::{self, Connections};

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
    /// How long the work of [`Database::with_client`] may take in all. The last resort
    /// against a server that hangs: no limit of its own ends a statement then.
    pub work: Duration,
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
            work: Duration::from_secs(60),
            idle_in_transaction: Duration::from_secs(30),
        }
    }
}

/// A Postgres database. Clones share one pool.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    target: Arc<Target>,
    limits: PoolLimits,
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
        // Fast: no round trip before each use. One that lay idle is asked first, see
        // `answers`; one that dies in between is noticed by its first statement.
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(target.config.clone(), opener, config))
            .max_size(limits.connections)
            .wait_timeout(Some(limits.wait))
            .create_timeout(Some(patience))
            .recycle_timeout(Some(limits.connect))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                Box::pin(answers(client, metrics.last_used(), limits.connect))
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| PoolError::NoRuntimeSpecified)
            .attempt("set up the connection pool")?;
        Ok(Database { pool, target: Arc::new(target), limits, patience })
    }

    /// A connection of the pool, alive a second ago at the latest. It goes back when it is
    /// dropped.
    ///
    /// # Errors
    /// When all stay busy, or a new one does not come about.
    pub async fn client(&self) -> Result<Client, DbError> {
        use deadpool_postgres::TimeoutType;
        let limit = self.limits.wait + self.patience;
        let started = Instant::now();
        let client = tokio::time::timeout(limit, self.pool.get()).await;
        metrics::pool_wait(started.elapsed());
        let Ok(client) = client else {
            return Err(self.hangs(limit)); // one idle connection after the other did
        };
        client.map_err(|error| match error {
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
    /// Those of [`Database::client`] and of `work`, or no answer within
    /// [`PoolLimits::work`].
    pub async fn with_client<T, F, W>(&self, work: W) -> Result<T, DbError>
    where
        W: Fn(Client) -> F,
        F: Future<Output = Result<T, DbError>>,
    {
        self.with_client_within(self.limits.work, work).await
    }

    async fn with_client_within<T, F, W>(&self, limit: Duration, work: W) -> Result<T, DbError>
    where
        W: Fn(Client) -> F,
        F: Future<Output = Result<T, DbError>>,
    {
        match self.once(limit, &work).await {
            Err(error) if error.is_connection_lost() => {
                tracing::debug!(%error, "a pooled connection was dead, trying another one");
                // What happened to one has happened to all that are idle.
                self.pool.retain(|client, _| !client.is_closed());
                self.once(limit, &work).await
            }
            outcome => outcome,
        }
    }

    async fn once<T, F, W>(&self, limit: Duration, work: &W) -> Result<T, DbError>
    where
        W: Fn(Client) -> F,
        F: Future<Output = Result<T, DbError>>,
    {
        let client = self.client().await?;
        match tokio::time::timeout(limit, work(client)).await {
            Ok(outcome) => outcome,
            // The connection is back in the pool, with a statement that nobody waits for in
            // front of all others.
            Err(_) => Err(self.hangs(limit)),
        }
    }

    /// Asks the server for a sign of life, for no longer than a new connection may take.
    ///
    /// # Errors
    /// When it gives none.
    pub async fn ping(&self) -> Result<(), DbError> {
        let ask = |client: Client| async move {
            client.simple_query("-- ping\nSELECT 1").await.attempt("reach the database")?;
            Ok(())
        };
        self.with_client_within(self.limits.connect, ask).await
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
    pub fn connections(&self) -> Connections {
        let status = self.pool.status();
        Connections {
            idle: status.available,
            busy: status.size.saturating_sub(status.available),
            limit: status.max_size,
            waiting: status.waiting,
        }
    }

    /// No idle connection is better than one that does not answer.
    fn hangs(&self, timeout: Duration) -> DbError {
        self.pool.retain(|_, _| false);
        DbError::AnswerTimeout { server: self.server(), timeout }
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
/// No statement of ours is long enough to be worth compiling. A page from an index costs little
/// more than the next one of a table: by its default, meant for turning disks, Postgres would
/// read all topics for each snapshot of a list.
const SESSION: &str = "SET timezone TO 'UTC'; SET client_min_messages TO warning;
    SET jit TO off; SET random_page_cost TO 1.1";

fn session(limits: PoolLimits) -> String {
    format!(
        "{SESSION}; SET statement_timeout TO {}; SET idle_in_transaction_session_timeout TO {}",
        limits.statement.as_millis(),
        limits.idle_in_transaction.as_millis()
    )
}

/// Whether a pooled connection still works, where that is not known from a moment ago: the
/// other end may be gone without a word.
async fn answers(
    client: &ClientWrapper,
    idle: Duration,
    patience: Duration,
) -> Result<(), HookError> {
    if idle < Duration::from_secs(1) {
        return Ok(());
    }
    match tokio::time::timeout(patience, client.simple_query("-- check_connection")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(HookError::Backend(error)),
        Err(_) => Err(HookError::message("no answer")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::embedded::tests::TestServer;

    #[tokio::test]
    async fn notifications_arrive_and_end_with_the_connection() {
        let server = TestServer::start();
        let database = server.database();
        let (listener, mut notifications) = database.dedicated().await.expect("a connection");
        listener.batch_execute("LISTEN wake").await.expect("listening");
        let client = database.client().await.expect("another one");
        client.execute("SELECT pg_notify('wake', 'up')", &[]).await.expect("sent");
        let expected = Notification { channel: "wake".to_owned(), payload: "up".to_owned() };
        assert_eq!(notifications.recv().await, Some(expected));
        client
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND application_name = 'strandline'",
                &[],
            )
            .await
            .expect("cut off");
        assert_eq!(notifications.recv().await, None);
    }

    #[tokio::test]
    async fn limits_hold_and_a_dead_connection_is_tried_once_more() {
        let server = TestServer::start();
        let limits = PoolLimits {
            connections: 2,
            wait: Duration::from_millis(50),
            statement: Duration::from_secs(3),
            ..PoolLimits::default()
        };
        let database = Database::connect(server.database_url(), limits).expect("a url");
        let (first, second) = (database.client().await, database.client().await);
        let busy = database.client().await.expect_err("both are out");
        assert!(busy.to_string().contains("stay busy") && busy.is_retryable(), "{busy}");
        let first = first.expect("a connection");
        let slow = first.execute("SELECT pg_sleep(600)", &[]).await.attempt("sleep");
        assert!(slow.expect_err("too slow").is_retryable());
        drop((first, second));

        let attempts = std::sync::atomic::AtomicUsize::new(0);
        let cut = database.with_client(|client| {
            let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let text = if attempt == 0 {
                    "SELECT pg_terminate_backend(pg_backend_pid())"
                } else {
                    "SELECT 1"
                };
                client.execute(text, &[]).await.attempt("go on")
            }
        });
        assert_eq!(cut.await.expect("the second attempt works"), 1);
        assert_eq!(attempts.into_inner(), 2);

        let limits = PoolLimits { work: Duration::from_millis(100), ..PoolLimits::default() };
        let database = Database::connect(server.database_url(), limits).expect("a url");
        let hangs = database.with_client(|client| async move {
            client.execute("SELECT pg_sleep(600)", &[]).await.attempt("sleep")
        });
        let error = hangs.await.expect_err("no answer");
        assert!(error.to_string().contains("no answer within") && error.is_retryable());
        let left = database.connections();
        assert_eq!((left.idle, left.busy), (0, 0), "that connection is not used again");
    }
}
