//! The composition root: builds the shells, starts them in order and stops them in the
//! opposite one.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::{
    Anonymous, ApiState, AskKafka, MAX_STREAMS, RateLimits, Tokens, Version, Waiters,
};
use crate::background;
use crate::db::{self, Database, DbError, EmbeddedPostgres, PoolLimits, Sharing, SnapshotRequest};
use crate::job::{self, Cluster, JobError, Shells, WorkLimits};
use crate::kafka::{KafkaClient, KafkaConfig, KafkaConfigError, KafkaError};
use crate::metrics;
use crate::server::{Listeners, Servers};
use crate::settings::{DatabaseSettings, KafkaSettings, ServeSettings, VERSION, WorkSettings};
use crate::snapshot::{
    DEFAULT_CLUSTER, DryPlan, Failure, FailureKind, Grant, Timestamp, TopicFacts, TopicName,
    TopicOffsets,
};
use crate::store::{Store, StoreError};

/// How long the store may take to be told of the last commits.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// How long tasks may take once we are asked to stop, after the requests: together well below
/// the 30 seconds that Kubernetes gives.
const TASKS_END_WITHIN: Duration = Duration::from_secs(10);

/// How long a server that starts waits for its database.
const DATABASE_STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How long an event stream waits for a reader that does not read.
const STREAM_STALL: Duration = Duration::from_secs(60);

/// How often the private PostgreSQL is looked after.
const TEND_INTERVAL: Duration = Duration::from_secs(5);

/// The commit that this was built from.
pub const COMMIT: &str = env!("STRANDLINE_COMMIT");

/// Why the program could not do what it was started for, in one line.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting that can't be used.
    #[error("{name}: {problem}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Kafka's part of the settings.
    #[error(transparent)]
    KafkaConfig(#[from] KafkaConfigError),
    /// librdkafka refuses to start.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Postgres.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server that was asked can't serve.
    #[error("{url}: {reason}")]
    Health {
        /// What was asked.
        url: String,
        /// Its answer, or why there is none.
        reason: String,
    },
    /// Metrics.
    #[error("could not install the metrics recorder: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The operating system.
    #[error("could not {attempt}: {source}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AppError {
    /// A setting that can't be used.
    pub fn setting(name: &'static str, problem: impl ToString) -> Self {
        AppError::Setting { name, problem: problem.to_string() }
    }

    /// The system refuses what was attempted.
    pub fn io(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let attempt = attempt.into();
        |source| AppError::Io { attempt, source }
    }

    /// Whether the fault is in how the program was called.
    pub fn is_wrong_usage(&self) -> bool {
        match self {
            AppError::Setting { .. } | AppError::KafkaConfig(_) => true,
            AppError::Store(error) => matches!(error, StoreError::Setting(_)),
            AppError::Db(error) => matches!(error, DbError::Url(_)),
            AppError::Kafka(_)
            | AppError::Health { .. }
            | AppError::Metrics(_)
            | AppError::Io { .. } => false,
        }
    }
}

/// Postgres, private or not, with its schema up to date.
pub struct State {
    /// Connections.
    pub db: Database,
    embedded: Option<EmbeddedPostgres>,
}

impl State {
    /// Connects, starting a private server if the settings name none, and migrates. To be
    /// called on the main thread.
    ///
    /// # Errors
    /// [`AppError`], which names the setting to look at.
    pub async fn open(settings: &DatabaseSettings, sharing: Sharing) -> Result<Self, AppError> {
        let (url, embedded) = match settings.database_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => (url.to_owned(), None),
            None => {
                let bin = settings.pg_bin.as_deref();
                let server = EmbeddedPostgres::start(&settings.data_dir, bin, sharing)?;
                (server.url().to_owned(), Some(server))
            }
        };
        let db = Database::connect(&url, PoolLimits::default())?;
        let applied = db::migrate(&db).await?;
        if applied.from != Some(applied.to) {
            tracing::info!(from = applied.from, to = applied.to, "migrated the database");
        }
        Ok(State { db, embedded })
    }

    /// Looks after the private server for as long as the program runs.
    async fn tend(&mut self) -> ! {
        loop {
            tokio::time::sleep(TEND_INTERVAL).await;
            if let Some(Err(error)) = self.embedded.as_mut().map(EmbeddedPostgres::tend) {
                tracing::error!(%error, "the private postgresql is away");
            }
        }
    }

    /// Closes the connections and stops the private server, if it is ours.
    pub fn close(self) {
        self.db.close();
        if let Some(Err(error)) = self.embedded.map(EmbeddedPostgres::stop) {
            tracing::warn!(%error, "could not stop the private postgresql");
        }
    }
}

/// Where events come from and go to: what can be checked before anything is started.
pub struct Ends {
    cluster: Cluster,
    store: Store,
}

/// Prepares where events come from and go to. Asks no server yet.
///
/// # Errors
/// [`AppError`], which names the setting to look at.
pub fn ends(data_dir: &Path, kafka: &KafkaSettings, work: &WorkSettings) -> Result<Ends, AppError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = KafkaConfig::new(&kafka.kafka_brokers, &kafka.kafka_properties)?;
    let store = match work.storage_url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => Store::open(url)?,
        None => default_store(data_dir)?,
    };
    Ok(Ends { cluster: Cluster::connect(config)?, store })
}

/// Puts the shells together that work is done with.
pub fn shells(db: &Database, ends: Ends, work: &WorkSettings) -> Shells {
    Shells {
        db: db.clone(),
        cluster: Arc::new(ends.cluster),
        store: ends.store,
        limits: WorkLimits {
            lease_seconds: work.lease_seconds,
            retry_seconds: work.retry_seconds,
            grace_seconds: work.grace_seconds,
            target_file_bytes: work.target_file_bytes,
            orphan_grace_seconds: work.orphan_grace_seconds,
        },
        generation: Arc::default(),
    }
}

/// The folder `files` in the data directory. What is wrong with it is that setting's fault.
fn default_store(data_dir: &Path) -> Result<Store, AppError> {
    let blame = |problem: &dyn std::fmt::Display| AppError::setting("STRANDLINE_DATA_DIR", problem);
    let files = std::path::absolute(data_dir.join("files")).map_err(|error| blame(&error))?;
    let url = url::Url::from_directory_path(&files)
        .map_err(|()| blame(&format!("{} is no directory", files.display())))?;
    Store::open(url.as_str()).map_err(|error| match error {
        StoreError::Setting(problem) => blame(&problem),
        other => AppError::Store(other),
    })
}

/// How many workers this replica has.
pub fn worker_count(work: &WorkSettings) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    work.workers.map_or(cores, usize::from)
}

/// `strandline serve`.
///
/// # Errors
/// [`AppError`] if it can't start.
pub async fn serve(settings: ServeSettings) -> Result<(), AppError> {
    let ends = ends(&settings.database.data_dir, &settings.kafka, &settings.work)?;
    let listeners = Listeners::bind(&settings)?;
    let mut stop = StopSignal::listen()?;
    let mut state = tokio::select! {
        state = open_patiently(&settings.database) => state?,
        // Another replica's migration may take minutes, and the first process of a container
        // does not even end at a SIGTERM that it does not listen for.
        signal = stop.wanted() => {
            tracing::info!(signal, "stopped before it served");
            return Ok(());
        }
    };
    let shells = shells(&state.db, ends, &settings.work);
    let served = run(&settings, &mut state, shells, listeners, stop).await;
    state.close();
    served
}

/// Waits for a Postgres that is not up yet: it may have been started at the same moment.
async fn open_patiently(settings: &DatabaseSettings) -> Result<State, AppError> {
    let started = std::time::Instant::now();
    loop {
        match State::open(settings, Sharing::Refuse).await {
            Err(AppError::Db(error))
                if error.is_retryable() && started.elapsed() < DATABASE_STARTS_WITHIN =>
            {
                tracing::warn!(%error, "waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => return opened,
        }
    }
}

/// Whether anybody may call as long as there is no token: those of this machine, or those whom
/// the settings let in.
fn anonymous(settings: &ServeSettings) -> Anonymous {
    if settings.listen.ip().is_loopback() || settings.allow_anonymous {
        Anonymous::WhileNoToken
    } else {
        Anonymous::Never
    }
}

/// Reads the tokens, and refuses an address where nobody could call.
async fn read_tokens(settings: &ServeSettings, db: &Database) -> Result<Tokens, AppError> {
    let tokens = Tokens::default();
    tokens.read(db).await?;
    if tokens.never_made() && anonymous(settings) == Anonymous::Never {
        return Err(AppError::setting(
            "STRANDLINE_LISTEN",
            format!(
                "{} can be reached by others, and there is no token to tell them apart; make one (strandline token create --name NAME --scope write), listen on 127.0.0.1, or let everybody in with --allow-anonymous (STRANDLINE_ALLOW_ANONYMOUS=true)",
                settings.listen
            ),
        ));
    }
    Ok(tokens)
}

async fn run(
    settings: &ServeSettings,
    state: &mut State,
    shells: Shells,
    listeners: Listeners,
    mut stop: StopSignal,
) -> Result<(), AppError> {
    let tokens = read_tokens(settings, &state.db).await?;
    let librdkafka = KafkaClient::librdkafka_version();
    let recorder = metrics::install(COMMIT, &librdkafka)?;
    let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
    let renderer = recorder.clone();
    let api_state = web::Data::new(ApiState {
        db: state.db.clone(),
        store: shells.store.clone(),
        kafka: Arc::new(KafkaDoor(shells.clone())),
        waiters: Waiters::default(),
        clusters: vec![DEFAULT_CLUSTER.to_owned()],
        max_wait_seconds: settings.max_wait_seconds,
        queue: db::QueueLimit::new(settings.queue_limit),
        tokens,
        anonymous: anonymous(settings),
        rate: RateLimits::new(settings.rate_limit),
        allowed_origins: settings.allowed_origins.clone(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        stream_stall: STREAM_STALL,
        version: version(librdkafka),
        draining: draining.clone(),
        metrics: Arc::new(move || metrics::render(&renderer)),
    });
    let servers = Servers::start(listeners, api_state.clone(), &stopping)?;
    let background = background::start(&shells, settings, &api_state, recorder, &stopping);
    let url = servers.url();
    tracing::info!(url, storage = shells.store.url(""), version = VERSION, "serving");

    tokio::select! {
        signal = stop.wanted() => tracing::info!(signal, "stopping"),
        _ = state.tend() => {}
    }
    draining.cancel();
    stopping.cancel();
    servers.stop().await;
    if tokio::time::timeout(TASKS_END_WITHIN, background.ended()).await.is_err() {
        tracing::warn!("some tasks did not stop in time; their leases will expire");
    }
    if worker_count(&settings.work) > 0 {
        tell_the_last(&shells).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// There may be no replica for a while whose next round would tell the store.
async fn tell_the_last(shells: &Shells) {
    let told = tokio::time::timeout(TELL_WITHIN, job::tell_round(shells)).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::warn!(
            "the store could not be told of what was committed; the next start tells it"
        );
    }
}

/// The door through which handlers ask Kafka.
pub struct KafkaDoor(pub Shells);

impl AskKafka for KafkaDoor {
    fn dry_run<'a>(
        &'a self,
        request: &'a SnapshotRequest,
    ) -> BoxFuture<'a, Result<DryPlan, Failure>> {
        Box::pin(async { job::dry_run(&self.0, request).await.map_err(as_failure) })
    }

    fn offsets<'a>(
        &'a self,
        topic: &'a TopicName,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<TopicOffsets, Failure>> {
        Box::pin(async move { job::topic_offsets(&self.0, topic, at).await.map_err(as_failure) })
    }

    fn topics(
        &self,
        grant: Grant,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TopicFacts>, Failure>> {
        let topics = job::topics(&self.0, grant, after, limit);
        Box::pin(async move { topics.await.map_err(as_failure) })
    }
}

fn as_failure(error: JobError) -> Failure {
    error.failure().unwrap_or_else(|| Failure::new(FailureKind::Internal, error.to_string()))
}

fn version(librdkafka: String) -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: COMMIT.to_owned(),
        librdkafka,
        schema_version: db::expected_version(),
    }
}

/// Notices that we are asked to stop, from when it is made: what is asked before it is awaited
/// is not lost.
pub struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// Begins to listen for SIGTERM and SIGINT, which do not end the process from now on.
    ///
    /// # Errors
    /// [`AppError::Io`] if the system refuses.
    pub fn listen() -> Result<Self, AppError> {
        let listen = |kind, name| signal(kind).map_err(AppError::io(format!("listen for {name}")));
        Ok(StopSignal {
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Returns the name of the signal when there is one.
    pub async fn wanted(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// `strandline migrate`.
///
/// # Errors
/// [`AppError`] if the database can't be reached or migrated.
pub async fn migrate(settings: &DatabaseSettings) -> Result<(), AppError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = State::open(settings, Sharing::Join).await?;
    let version = db::schema_version(&state.db).await?.unwrap_or_default();
    let done = print(&format!("the database's schema is at version {version}\n"));
    state.close();
    done
}

/// Prints to standard output. A reader that has gone is no error.
///
/// # Errors
/// [`AppError::Io`] if it can't be written to.
pub fn print(text: &str) -> Result<(), AppError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(AppError::io("write to standard output")(error))
        }
        _ => Ok(()),
    }
}
