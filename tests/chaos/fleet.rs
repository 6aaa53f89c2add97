//! Three replicas on one database, one store and one cluster, each way through a proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;

use crate::objects::Objects;
use crate::proxy::{Proxy, Target};
use crate::replica::{Launch, Replica};
use crate::services::{Claim, Lane, TestDatabase};

/// A password that must not turn up anywhere.
pub const SECRET: &str = "f4e-hunter-7c1";

/// What differs from test to test.
#[derive(Clone, Copy)]
pub struct FleetSettings {
    pub replicas: usize,
    pub workers: usize,
    pub lease_seconds: u32,
    pub target_file_bytes: u64,
}

impl Default for FleetSettings {
    fn default() -> Self {
        FleetSettings { replicas: 3, workers: 2, lease_seconds: 2, target_file_bytes: 64 * 1024 }
    }
}

pub const SEAL_INTERVAL_SECONDS: u64 = 3;
pub const ORPHAN_GRACE_SECONDS: u64 = 20;

/// Replicas, by number; `None` while one is away.
pub struct Fleet {
    pub settings: FleetSettings,
    pub lane: Lane,
    pub database: TestDatabase,
    pub objects: Objects,
    /// The way of each replica to PostgreSQL.
    pub postgres: Vec<Proxy>,
    pub replicas: Vec<Mutex<Option<Replica>>>,
    launches: Vec<Launch>,
    folder: PathBuf,
    keep: std::sync::atomic::AtomicBool,
    http: reqwest::Client,
    _claim: Claim,
}

impl Fleet {
    /// Starts all replicas at once, on a database that is still empty.
    pub async fn start(name: &str, settings: FleetSettings, claim: Claim) -> Arc<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lane = Lane::take().await;
        let database = TestDatabase::create().await;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos").join(name);
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("a folder");
        let objects = Objects::open(root.join("store")).await;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut postgres = Vec::new();
        for _ in 0..settings.replicas {
            let target = Target::Unix(database.socket());
            postgres.push(Proxy::start(any, target).await.expect("a port"));
        }
        let launches = (0..settings.replicas)
            .map(|number| Launch {
                name: format!("replica {number}"),
                log: root.join(format!("replica-{number}.log")),
                settings: environment(&settings, &lane, &database, &postgres[number], &objects),
            })
            .collect();
        let fleet = Arc::new(Fleet {
            settings,
            lane,
            database,
            objects,
            postgres,
            replicas: (0..settings.replicas).map(|_| Mutex::new(None)).collect(),
            launches,
            folder: root,
            keep: true.into(),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(15))
                .build()
                .expect("a client"),
            _claim: claim,
        });
        let starts = (0..settings.replicas).map(|number| fleet.restart(number));
        futures_util::future::join_all(starts).await;
        fleet
    }

    /// Where logs and files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All went well: what is on the disk may go.
    pub fn forget(&self) {
        self.keep.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Starts a replica that is away, again and again, as an orchestrator would: without its
    /// database it does not start. Gives how often it ended meanwhile.
    pub async fn restart(&self, number: usize) -> u32 {
        let mut place = self.replicas[number].lock().await;
        for attempt in 0..60 {
            if let Ok(replica) = Replica::start(&self.launches[number]).await {
                *place = Some(replica);
                return attempt;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("replica {number} does not start, see {}", self.folder.display());
    }

    /// The replicas that are there and not paused.
    pub async fn urls(&self) -> Vec<String> {
        let mut urls = Vec::new();
        for place in &self.replicas {
            // One that is being restarted is not there.
            if let Ok(place) = place.try_lock()
                && let Some(replica) = place.as_ref().filter(|replica| !replica.is_paused())
            {
                urls.push(replica.url.clone());
            }
        }
        urls
    }

    /// One request, to one replica; `None` if no answer came, or one that says so.
    pub async fn send(&self, first: usize, request: &Request<'_>) -> Option<(u16, Value)> {
        let urls = self.urls().await;
        let url = urls.get(first % urls.len().max(1))?;
        let url = format!("{url}{}", request.path);
        let builder = match &request.body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let response = builder.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        assert!(!text.contains(SECRET), "{} shows a secret: {text}", request.path);
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A request that is sent until it is answered by something else than 503.
    pub async fn insist(&self, request: &Request<'_>) -> (u16, Value) {
        let started = Instant::now();
        let mut last = None;
        for attempt in 0.. {
            let answer = self.send(attempt, request).await;
            match answer {
                Some((status, answer)) if status != 503 && status != 500 => {
                    return (status, answer);
                }
                other => last = other.or(last),
            }
            if started.elapsed() > Duration::from_secs(60) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no answer to {}: {last:?}, see {}", request.path, self.folder.display());
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.insist(&Request { path, body: None }).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.insist(&Request { path, body: Some(body) }).await;
        assert!(status == 200 || status == 202, "{path}: {status} {answer}");
        answer
    }

    /// All pages of a list.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        let join = if path.contains('?') { '&' } else { '?' };
        loop {
            let page = self.get(&format!("{path}{join}limit=200{cursor}")).await;
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Waits until the snapshot has ended.
    pub async fn until_ended(&self, id: &str, within: Duration) -> Value {
        let started = Instant::now();
        loop {
            let snapshot = self.get(&format!("/v1/snapshots/{id}?wait=5")).await;
            if !matches!(snapshot["state"].as_str(), Some("queued" | "running")) {
                return snapshot;
            }
            assert!(started.elapsed() < within, "it does not end: {snapshot}");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.keep.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A GET, or with a body a POST.
pub struct Request<'a> {
    pub path: &'a str,
    pub body: Option<Value>,
}

pub fn time(millis: i64) -> String {
    strandline::snapshot::Timestamp::from_millis(millis).to_string()
}

fn environment(
    settings: &FleetSettings,
    lane: &Lane,
    database: &TestDatabase,
    postgres: &Proxy,
    objects: &Objects,
) -> Vec<(&'static str, String)> {
    let FleetSettings { workers, lease_seconds, target_file_bytes, .. } = settings;
    let url = format!("postgres://strandline:{SECRET}@{}/{}", postgres.address(), database.name);
    let mut settings = vec![
        ("STRANDLINE_LISTEN", "127.0.0.1:0".to_owned()),
        ("STRANDLINE_DATABASE_URL", url),
        ("STRANDLINE_KAFKA_BROKERS", lane.brokers()),
        ("STRANDLINE_WORKERS", workers.to_string()),
        ("STRANDLINE_LEASE_SECONDS", lease_seconds.to_string()),
        ("STRANDLINE_TARGET_FILE_BYTES", target_file_bytes.to_string()),
        ("STRANDLINE_SEAL_INTERVAL_SECONDS", SEAL_INTERVAL_SECONDS.to_string()),
        ("STRANDLINE_GRACE_SECONDS", "5".to_owned()),
        ("STRANDLINE_ORPHAN_GRACE_SECONDS", ORPHAN_GRACE_SECONDS.to_string()),
        ("STRANDLINE_LOG", "info".to_owned()),
    ];
    settings.extend(objects.settings());
    settings
}
