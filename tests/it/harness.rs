//! What every test stands on: a Strandline of its own with its own database, files and
//! port, and topics of its own on the shared broker.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpServer, web};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
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
use uuid::Uuid;

/// 2025-07-29T00:00:00Z in milliseconds: the first moment of most tests' windows.
pub const DAY: i64 = 1_753_747_200_000;
pub const HOUR: i64 = 3_600_000;

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
    Database::connect(&database_url(name), PoolLimits::default()).expect("a good URL")
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
    for _ in 0..200 {
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

/// Errors fail a run at once, so that a test sees them.
pub const DEFAULT_LIMITS: WorkLimits = WorkLimits {
    lease_seconds: 30,
    retry_seconds: 0,
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

    /// Does all tasks that are free, and those that they lead to.
    pub async fn work(&self) {
        work_until_idle(&self.shells, &self.source(0)).await.expect("work");
    }

    /// Goes one round of the sealer, and does the work that it leads to. Gives how many runs
    /// it asked for.
    pub async fn seal(&self) -> u64 {
        let queued = seal_round(&self.shells).await.expect("a round");
        self.work().await;
        queued
    }

    /// Does one task, if one is free.
    pub async fn work_once(&self) -> bool {
        let stop = CancellationToken::new();
        work_once(&self.shells, &self.source(0), &stop).await.expect("work")
    }

    /// Starts workers that go on until the guard is dropped.
    pub fn start_workers(&self, count: usize) -> DropGuard {
        let stop = CancellationToken::new();
        for number in 0..count {
            tokio::spawn(work(self.shells.clone(), self.source(number), stop.clone()));
        }
        stop.drop_guard()
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.url))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.http.post(format!("{}{path}", self.url)).json(body)).await
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
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waits).await.expect("someone waits");
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
        stream_stall: Duration::from_secs(5),
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

// Topics ------------------------------------------------------------------------------------

/// What to produce.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record with a value, `millis` after [`DAY`].
pub fn record(partition: i32, millis: i64, value: &str) -> Record {
    Record {
        partition,
        timestamp: DAY + millis,
        value: Some(value.as_bytes().to_vec()),
        ..Record::default()
    }
}

/// An event as an ordinary consumer returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A topic of our own.
pub struct TestTopic {
    pub name: String,
    settings: Vec<(String, String)>,
    admin: AdminClient<DefaultClientContext>,
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// A producer for what [`TestTopic::produce`] has no words for.
pub fn producer(settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config();
    // Keeps the order as well as an idempotent producer would, and begins half a second sooner.
    config.set("max.in.flight.requests.per.connection", "1").set("linger.ms", "5");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

impl TestTopic {
    pub async fn create(partitions: i32, settings: &[(&str, &str)]) -> Self {
        let admin = config().create().expect("a client");
        let name = format!("t-{}", Uuid::new_v4().simple());
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let topic = TestTopic { name, settings: settings.collect(), admin };
        topic.make(partitions).await;
        topic
    }

    pub async fn make(&self, partitions: i32) {
        let mut new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        for (name, value) in &self.settings {
            new = new.set(name, value);
        }
        // A topic that was just deleted may still be on its way out.
        for _ in 0..100 {
            let made = self.admin.create_topics([&new], &AdminOptions::new()).await;
            if made.expect("an answer").into_iter().all(|topic| topic.is_ok()) {
                return self.until_known(partitions);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("can't make topic {}", self.name);
    }

    /// Waits until the broker tells of all partitions and their leaders.
    fn until_known(&self, partitions: i32) {
        let client = self.admin.inner();
        for _ in 0..500 {
            let metadata = client.fetch_metadata(Some(&self.name), Duration::from_secs(10));
            let metadata = metadata.expect("metadata");
            let known = metadata.topics()[0].partitions();
            if known.len() == partitions as usize && known.iter().all(|p| p.leader() >= 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the broker does not tell of topic {}", self.name);
    }

    /// Waits until compaction has removed everything below `offset` of partition 0.
    pub fn until_first_offset_read(&self, offset: i64) {
        for _ in 0..300 {
            if self.read_all().first().is_some_and(|event| event.offset >= offset) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the log of {} is not compacted", self.name);
    }

    /// Waits until the last stable offset of a partition is `offset`.
    pub fn until_stable(&self, partition: i32, offset: i64) {
        let consumer: BaseConsumer = config().create().expect("a consumer");
        for _ in 0..1000 {
            let watermarks =
                consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(10));
            if watermarks.expect("watermarks").1 >= offset {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the last stable offset of {} stays below {offset}", self.name);
    }

    pub async fn delete(&self) {
        let deleted = self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await;
        assert!(deleted.expect("an answer").iter().all(Result::is_ok));
    }

    /// Waits until the broker no longer tells of the topic.
    pub fn until_gone(&self) {
        for _ in 0..500 {
            let metadata =
                self.admin.inner().fetch_metadata(Some(&self.name), Duration::from_secs(10));
            if metadata.expect("metadata").topics()[0].error().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("topic {} is still there", self.name);
    }

    /// Deletes the topic and makes it again.
    pub async fn recreate(&self, partitions: i32) {
        self.delete().await;
        // Else what is seen and produced next may still be the old one's.
        self.until_gone();
        self.make(partitions).await;
    }

    pub async fn add_partitions(&self, total: i32) {
        let new = NewPartitions::new(&self.name, total as usize);
        let made = self.admin.create_partitions([&new], &AdminOptions::new()).await;
        assert!(made.expect("an answer").iter().all(Result::is_ok));
        self.until_known(total);
    }

    /// Deletes everything below `offset`, as retention would.
    pub async fn delete_below(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .expect("an offset");
        self.admin.delete_records(&list, &AdminOptions::new()).await.expect("deleted");
    }

    pub async fn produce(&self, records: &[Record]) {
        self.produce_with(records, &[]).await;
    }

    /// Produces in order, acknowledged; a batch's worth at a time.
    pub async fn produce_with(&self, records: &[Record], settings: &[(&str, &str)]) {
        self.send(&producer(settings), records).await;
    }

    async fn send(&self, producer: &FutureProducer, records: &[Record]) {
        let mut sent = Vec::new();
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let mut message = FutureRecord::<[u8], [u8]>::to(&self.name)
                .partition(record.partition)
                .timestamp(record.timestamp)
                .headers(headers);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            sent.push(producer.send_result(message).map_err(|(error, _)| error).expect("queued"));
        }
        for delivery in sent {
            delivery.await.expect("a report").map_err(|(error, _)| error).expect("delivered");
        }
    }

    /// Produces in a transaction; an open one ends with the producer that is returned.
    pub async fn transaction(&self, records: &[Record], end: TransactionEnd) -> FutureProducer {
        let mut config = config();
        config.set("transactional.id", Uuid::new_v4().to_string());
        let producer: FutureProducer = config.create().expect("a producer");
        let wait = Duration::from_secs(30);
        producer.init_transactions(wait).expect("a coordinator");
        producer.begin_transaction().expect("begun");
        self.send(&producer, records).await;
        match end {
            TransactionEnd::Commit => producer.commit_transaction(wait).expect("committed"),
            TransactionEnd::Abort => producer.abort_transaction(wait).expect("aborted"),
            TransactionEnd::LeaveOpen => {}
        }
        producer
    }

    /// Everything that Kafka returns of the topic, read by an ordinary consumer until the
    /// end of each partition: the oracle.
    pub fn read_all(&self) -> Vec<Seen> {
        let mut config = config();
        config.set("group.id", "oracle").set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(&self.name), Duration::from_secs(10));
        let partitions = metadata.expect("metadata").topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            list.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        let (mut seen, mut ended) = (Vec::new(), 0);
        while ended < partitions {
            match consumer.poll(Duration::from_secs(30)).expect("an event or the end") {
                Ok(message) => seen.push(as_seen(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        seen.sort_by_key(|event| (event.partition, event.offset));
        seen
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
    LeaveOpen,
}

fn as_seen(message: &impl Message) -> Seen {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    });
    Seen {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
