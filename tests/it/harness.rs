//! What every test stands on: a Strandline of its own with its own database, files and
//! port, and topics of its own on the shared broker.

mod said;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpServer, web};
use serde_json::{Value, json};
use strandline::api::{
    Anonymous, ApiState, RateLimits, Secret, Tokens, Version, Waiters, application,
};
use strandline::app::KafkaDoor;
use strandline::db::{self, Database, PoolLimits};
use strandline::job::{
    Cluster, Shells, WorkLimits, WorkSource, seal_round, work, work_once, work_until_idle,
};
use strandline::kafka::{KafkaClient, KafkaConfig};
use strandline::snapshot::{Grant, Scope, TopicGlob};
use strandline::store::Store;
use tokio::sync::{Notify, OnceCell, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::instrument::WithSubscriber as _;
use uuid::Uuid;

use said::Said;
pub use topics::{Record, Seen, TestTopic, TransactionEnd, producer, record, until};

/// 2025-07-29T00:00:00Z in milliseconds: the first moment of most tests' windows.
pub const DAY: i64 = 1_753_747_200_000;
pub const HOUR: i64 = 3_600_000;

/// Longer than anything takes that works, on a slow machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An RFC 3339 time, `millis` after [`DAY`].
pub fn at(millis: i64) -> String {
    strandline::snapshot::Timestamp::from_millis(DAY + millis).to_string()
}

/// Where a service is that `scripts/services.sh` has started.
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make services-up` and `eval \"$(scripts/services.sh env)\"`, or `make test`")
    })
}

pub fn brokers() -> String {
    service("STRANDLINE_TEST_KAFKA")
}

/// The server's URL with another database.
fn database_url(name: &str) -> String {
    let url = service("STRANDLINE_TEST_DATABASE_URL");
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{name}")
}

fn database(name: &str) -> Database {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = PoolLimits { wait: PATIENCE, connect: PATIENCE, ..PoolLimits::default() };
    Database::connect(&database_url(name), limits).expect("a good URL")
}

async fn sql(db: &Database, text: &str) {
    db.client().await.expect("a connection").batch_execute(text).await.expect("good SQL");
}

/// A database of our own, copied from one that is migrated once per test run.
async fn new_database() -> (Database, String) {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE
        .get_or_init(|| async {
            let name = format!("template_{}", Uuid::new_v4().simple());
            sql(&database("postgres"), &format!("CREATE DATABASE {name}")).await;
            let db = database(&name);
            db::migrate(&db).await.expect("migrations");
            // A database with connections can't be copied.
            db.close();
            name
        })
        .await;
    let name = format!("test_{}", Uuid::new_v4().simple());
    let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
    // Copying needs the template for itself: one copy at a time, and the migration's own
    // connection may take a moment to end.
    static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _guard = COPYING.lock().await;
    let client = database("postgres");
    let client = client.client().await.expect("a connection");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match client.batch_execute(&create).await {
            Ok(()) => return (database(&name), name),
            Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{create}: {error:?}"),
        }
    }
    panic!("the template stays in use");
}

/// The URL of a database of our own, in which nothing is.
pub async fn empty_database() -> String {
    let name = format!("empty_{}", Uuid::new_v4().simple());
    sql(&database("postgres"), &format!("CREATE DATABASE {name}")).await;
    database_url(&name)
}

/// What may pass is tried again, as a busy broker may answer late; a run that can't succeed fails
/// at once.
pub const DEFAULT_LIMITS: WorkLimits = WorkLimits {
    lease_seconds: 30,
    retry_seconds: 60,
    grace_seconds: 600,
    target_file_bytes: 128 * 1024 * 1024,
    orphan_grace_seconds: 3600,
};

/// A running Strandline.
pub struct TestApp {
    pub shells: Shells,
    pub url: String,
    pub database_name: String,
    pub http: reqwest::Client,
    pub draining: CancellationToken,
    tokens: Tokens,
    wake: Arc<Notify>,
    retries: Said,
    files: tempfile::TempDir,
    _stopping: DropGuard,
}

impl TestApp {
    /// Serves HTTP; tasks are done when [`TestApp::work`] is called.
    pub async fn spawn() -> Self {
        Self::spawn_with(DEFAULT_LIMITS).await
    }

    pub async fn spawn_with(limits: WorkLimits) -> Self {
        Self::build(limits, 1000).await
    }

    /// As [`TestApp::spawn`], with room for so many runs that wait.
    pub async fn spawn_with_queue(queue_limit: u32) -> Self {
        Self::build(DEFAULT_LIMITS, queue_limit).await
    }

    async fn build(limits: WorkLimits, queue_limit: u32) -> Self {
        let (db, database_name) = new_database().await;
        let files = tempfile::tempdir().expect("a folder");
        let storage = url::Url::from_directory_path(files.path()).expect("an absolute path");
        let config = KafkaConfig::new(&brokers(), "").expect("good settings");
        let shells = Shells {
            db: db.clone(),
            cluster: Arc::new(Cluster::connect(config).expect("librdkafka")),
            store: Store::open(storage.as_str()).expect("a store"),
            limits,
            generation: Arc::default(),
        };
        let stopping = CancellationToken::new();
        let wake = Arc::new(Notify::new());
        let waiters = Waiters::default();
        let draining = CancellationToken::new();
        let tokens = Tokens::default();
        let url = serve(&shells, &waiters, &tokens, &draining, queue_limit);
        let (listen_db, listen_wake, stop) = (db, wake.clone(), stopping.clone());
        tokio::spawn(async move {
            let told = |notification: &db::Notification| {
                if let Ok(id) = Uuid::try_parse(&notification.payload) {
                    waiters.wake(id);
                }
                listen_wake.notify_waiters();
            };
            tokio::select! {
                () = db::listen(&listen_db, &told, || waiters.wake_all()) => {}
                () = stop.cancelled() => {}
            }
        });
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        TestApp {
            shells,
            url,
            database_name,
            http,
            draining,
            tokens,
            wake,
            retries: Said::of("retrying"),
            files,
            _stopping: stopping.drop_guard(),
        }
    }

    pub fn db(&self) -> &Database {
        &self.shells.db
    }

    /// Makes a token that counts at once.
    pub async fn token(&self, name: &str, scope: Scope, topics: &[&str]) -> String {
        let mut random = [0; 32];
        random[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        let secret = Secret::new(&random);
        let globs = topics.iter().map(|glob| TopicGlob::parse(glob).expect("a good pattern"));
        let token = db::NewToken {
            name: name.to_owned(),
            sha256: secret.sha256(),
            grant: Grant { scope, topics: globs.collect() },
            expires_in_days: Some(1),
        };
        assert!(db::create_token(self.db(), Uuid::now_v7(), &token).await.expect("recorded"));
        self.read_tokens().await;
        secret.reveal().to_owned()
    }

    /// Lets the service know of tokens now, and not a moment later.
    pub async fn read_tokens(&self) {
        self.tokens.read(self.db()).await.expect("tokens");
    }

    pub fn files(&self) -> &std::path::Path {
        self.files.path()
    }

    pub fn database_url(&self) -> String {
        database_url(&self.database_name)
    }

    fn source(&self, number: usize) -> WorkSource {
        WorkSource { worker: format!("test/{number}"), only: None, wake: self.wake.clone() }
    }

    /// Does all tasks that are free, and those that they lead to, until each is done or has failed
    /// for good.
    pub async fn work(&self) {
        loop {
            let source = self.source(0);
            let work = work_until_idle(&self.shells, &source);
            work.with_subscriber(self.retries.log()).await.expect("work");
            if !self.until_retries_are_due().await {
                return;
            }
        }
    }

    /// Does one task, if one is free, until it is done or has failed for good.
    pub async fn work_once(&self) -> bool {
        loop {
            let done = self.attempt_once().await;
            if !self.until_retries_are_due().await {
                return done;
            }
        }
    }

    /// Tries one task, if one is free, once.
    pub async fn attempt_once(&self) -> bool {
        let stop = CancellationToken::new();
        let source = self.source(0);
        let work = work_once(&self.shells, &source, &stop);
        work.with_subscriber(self.retries.log()).await.expect("work")
    }

    /// Waits until tasks that failed may be tried again; `false` if there are none.
    async fn until_retries_are_due(&self) -> bool {
        let client = self.db().client().await.expect("a connection");
        let sql = "SELECT bool_and(available_at <= clock_timestamp()) FROM tasks
            WHERE ended_at IS NULL AND lease_expires_at IS NULL AND failing_since IS NOT NULL";
        loop {
            match client.query_one(sql, &[]).await.expect("asked").get(0) {
                None => return false,
                Some(true) => return true,
                Some(false) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Goes one round of the sealer, and does the work that it leads to. Gives how many runs
    /// it asked for.
    pub async fn seal(&self) -> u64 {
        let queued = self.seal_round().await;
        self.work().await;
        queued
    }

    /// Goes one round of the sealer, and more where it could not look at a topic: which it only
    /// logs. Gives how many runs it asked for.
    pub async fn seal_round(&self) -> u64 {
        let (deadline, mut queued) = (Instant::now() + PATIENCE, 0);
        loop {
            let failed = Said::of("the sealer can't look at a topic");
            let round = seal_round(&self.shells).with_subscriber(failed.log());
            queued += round.await.expect("a round");
            if failed.times() == 0 || Instant::now() > deadline {
                return queued;
            }
        }
    }

    /// Starts workers that go on until the guard is dropped.
    pub fn start_workers(&self, count: usize) -> DropGuard {
        let stop = CancellationToken::new();
        for number in 0..count {
            let work = work(self.shells.clone(), self.source(number), stop.clone());
            tokio::spawn(work.with_subscriber(self.retries.log()));
        }
        stop.drop_guard()
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        patiently(|| self.http.get(format!("{}{path}", self.url))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        patiently(|| self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// Asks for `[start, end)`, both in milliseconds after [`DAY`].
    pub async fn ask(&self, topic: &str, start: i64, end: i64) -> (u16, Value) {
        let body = json!({"topic": topic, "window_start": at(start), "window_end": at(end)});
        self.post("/v1/snapshots", &body).await
    }

    /// Asks for a window, does the work, and gives the snapshot's document.
    pub async fn snapshot(&self, topic: &str, start: i64, end: i64) -> Value {
        let (status, asked) = self.ask(topic, start, end).await;
        assert!(status == 202 || status == 200, "{status} {asked}");
        self.work().await;
        let (status, snapshot) = self.get(asked["links"]["self"].as_str().expect("a path")).await;
        assert_eq!(status, 200);
        snapshot
    }

    pub async fn detail(&self, snapshot: &Value, link: &str) -> Vec<Value> {
        let (status, page) = self.get(snapshot["links"][link].as_str().expect("a path")).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("items").clone()
    }

    /// No data file is there that no commit names, but of attempts that were made again: those
    /// are left to the sweeper.
    pub async fn has_no_orphans(&self) {
        let client = self.db().client().await.expect("a connection");
        let named = client.query_one("SELECT count(*) FROM files", &[]).await.expect("a count");
        let named = usize::try_from(named.get::<_, i64>(0)).expect("a count");
        let (there, retries) = (count_files(self.files()), self.retries.times());
        assert!(
            (named..=named + retries).contains(&there),
            "{there} files, of which {named} have a name, after {retries} retries"
        );
    }

    /// The lines of a snapshot's event stream.
    pub async fn events(&self, snapshot: &Value) -> Vec<Value> {
        let path = snapshot["links"]["events"].as_str().expect("a path");
        let response =
            self.http.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("all of the stream");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
    }
}

/// Lets all leases run out at once, as if their workers had been silent for long.
pub async fn expire_leases(app: &TestApp) {
    let client = app.db().client().await.expect("a connection");
    let sql = "UPDATE tasks SET lease_expires_at = clock_timestamp() WHERE ended_at IS NULL";
    client.batch_execute(sql).await.expect("expired");
}

/// Returns when a statement waits for a lock: Postgres says so.
pub async fn until_someone_waits(app: &TestApp) {
    let client = app.db().client().await.expect("a connection");
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waits = async {
        while client.query_one(sql, &[]).await.expect("asked").get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("someone waits");
}

/// What is answered; asked again where a busy broker kept the service from answering.
async fn patiently(request: impl Fn() -> reqwest::RequestBuilder) -> (u16, Value) {
    let mut left = 5;
    loop {
        let answered = answer(request()).await;
        left -= 1;
        if answered.1["code"] != "KAFKA_UNAVAILABLE" || left == 0 {
            return answered;
        }
    }
}

/// The status and the body, which is JSON or empty.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn serve(
    shells: &Shells,
    waiters: &Waiters,
    tokens: &Tokens,
    draining: &CancellationToken,
    queue_limit: u32,
) -> String {
    let state = web::Data::new(ApiState {
        db: shells.db.clone(),
        store: shells.store.clone(),
        kafka: Arc::new(KafkaDoor(shells.clone())),
        waiters: waiters.clone(),
        clusters: vec!["default".to_owned()],
        max_wait_seconds: 60,
        queue: db::QueueLimit::new(queue_limit),
        tokens: tokens.clone(),
        anonymous: Anonymous::WhileNoToken,
        rate: RateLimits::new(0),
        allowed_origins: vec!["https://allowed.example".to_owned()],
        streams: Arc::new(Semaphore::new(1)),
        stream_stall: Duration::from_secs(15),
        version: Version {
            version: "0.0.0".to_owned(),
            commit: "test".to_owned(),
            librdkafka: KafkaClient::librdkafka_version(),
            schema_version: db::expected_version(),
        },
        draining: draining.clone(),
        metrics: Arc::new(|| "metrics\n".to_owned()),
    });
    let server = HttpServer::new(move || application().0.app_data(state.clone()))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a free port");
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

/// How many data files there are below a folder, unfinished ones included.
pub fn count_files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| match path.is_dir() {
            true => count_files(&path),
            false => usize::from(path.to_string_lossy().contains(".parquet")),
        })
        .sum()
}
