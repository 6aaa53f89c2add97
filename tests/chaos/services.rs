//! The three brokers and the PostgreSQL of `scripts/cluster.sh`, and the ways to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use uuid::Uuid;

use crate::proxy::{Mode, Proxy, Target};

pub const BROKERS: usize = 3;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make chaos`, or `scripts/cluster.sh up` and `eval \"$(scripts/cluster.sh env)\"`")
    })
}

/// The brokers, as the tests themselves reach them.
pub fn kafka() -> String {
    variable("STRANDLINE_CHAOS_KAFKA")
}

/// A client's settings, direct.
pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka()).set("reconnect.backoff.max.ms", "1000");
    // Brokers die here all the time: that is told in the test's own log.
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

fn address(port: &str) -> SocketAddr {
    let (_, port) = port.rsplit_once(':').expect("host:port");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")))
}

/// A way to the brokers that leads through proxies. There are two: each belongs to one test
/// at a time.
pub struct Lane {
    pub proxies: Vec<Proxy>,
    _ours: MutexGuard<'static, ()>,
}

static LANES: [Mutex<()>; 2] = [Mutex::const_new(()), Mutex::const_new(())];

impl Lane {
    /// Waits until a lane is free.
    pub async fn take() -> Self {
        let (ours, number) = tokio::select! {
            biased;
            ours = LANES[0].lock() => (ours, 0),
            ours = LANES[1].lock() => (ours, 1),
        };
        let lanes = variable("STRANDLINE_CHAOS_LANES");
        let lane = lanes.split(';').nth(number).expect("two lanes");
        let mut proxies = Vec::new();
        for pair in lane.split(',') {
            let (proxy, broker) = pair.split_once('=').expect("proxy=broker");
            let target = Target::Tcp(address(broker));
            proxies.push(Proxy::start(address(proxy), target).await.expect("the lane's port"));
        }
        Lane { proxies, _ours: ours }
    }

    /// What Strandline is told of the brokers.
    pub fn brokers(&self) -> String {
        let addresses: Vec<String> =
            self.proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        addresses.join(",")
    }

    pub fn set(&self, mode: Mode) {
        for proxy in &self.proxies {
            proxy.set(mode);
        }
    }
}

static SERVICES: RwLock<()> = RwLock::const_new(());

/// How a test uses the services.
pub enum Claim {
    /// They are left alone.
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    /// They are killed: nobody else can use them meanwhile.
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

impl Claim {
    pub async fn shared() -> Self {
        Claim::Shared(SERVICES.read().await)
    }

    pub async fn alone() -> Self {
        Claim::Alone(SERVICES.write().await)
    }
}

/// Runs `scripts/cluster.sh`.
pub async fn cluster(arguments: &[&str]) -> Result<(), String> {
    variable("STRANDLINE_CHAOS_STATE");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster.sh");
    let output = tokio::process::Command::new(script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A database of our own, reached directly.
pub struct TestDatabase {
    pub name: String,
    url: String,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let url = variable("STRANDLINE_CHAOS_DATABASE_URL");
        let name = format!("chaos_{}", Uuid::new_v4().simple());
        let server = TestDatabase { name: "postgres".to_owned(), url: url.clone() };
        let created = server.client().await.expect("PostgreSQL");
        let create = format!("CREATE DATABASE {name}");
        created.batch_execute(&create).await.expect("created");
        TestDatabase { name, url }
    }

    /// A connection that does not pass a proxy.
    pub async fn client(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.url.parse().expect("a URL");
        config.dbname(&self.name).connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        let config: tokio_postgres::Config = self.url.parse().expect("a URL");
        match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Unix(folder) => folder.join(".s.PGSQL.5432"),
            tokio_postgres::config::Host::Tcp(host) => panic!("{host} is no socket"),
        }
    }
}
