//! Requests at a constant rate, whatever the answers take: a slow answer does not hold back
//! the next request, and its time counts from when it was due.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::report::Latencies;

/// Requests that may be under way at once; one that has to wait for a place has its waiting
/// counted. More connections than any pool of a client has.
const MOST_AT_ONCE: usize = 256;

/// How long the last answers may take once all requests are sent.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What is wrong with an answer.
pub type Wrong = String;

/// Judges an answer by its status and body.
pub type Check = Arc<dyn Fn(u16, &str) -> Result<(), Wrong> + Send + Sync>;

/// One request, and what must come of it.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub body: Option<String>,
    pub check: Check,
}

impl Request {
    pub fn get(path: String, check: Check) -> Self {
        Request { method: Method::GET, path, body: None, check }
    }

    pub fn post(path: String, body: String, check: Check) -> Self {
        Request { method: Method::POST, path, body: Some(body), check }
    }
}

/// A client of one service.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub fn new(url: &str) -> crate::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Client { http, url: url.to_owned() })
    }

    /// Sends a request and judges its answer, which is given back.
    pub async fn send(&self, request: &Request) -> Result<String, Wrong> {
        let url = format!("{}{}", self.url, request.path);
        let mut sent = self.http.request(request.method.clone(), url);
        if let Some(body) = &request.body {
            sent = sent.header("content-type", "application/json").body(body.clone());
        }
        let answer = sent.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        (request.check)(status, &text)
            .map_err(|wrong| format!("{} {}: {wrong}", request.method, request.path))?;
        Ok(text)
    }
}

/// What came of a round.
#[derive(Default)]
pub struct Round {
    /// From when a request was due to its whole answer.
    pub latencies: Latencies,
    /// From when a request was due to when it was sent: the driver's own share.
    pub lateness: Latencies,
    /// Answers that were wrong, did not come or came too late.
    pub errors: u64,
    /// One of them.
    pub example: Option<Wrong>,
}

/// Sends `make(0)`, `make(1)` … at `rate` a second for as long as `length`.
pub async fn at_rate(
    client: &Client,
    rate: u32,
    length: Duration,
    make: &(dyn Fn(u64) -> Request + Sync),
) -> Round {
    let count = u64::from(rate) * length.as_millis() as u64 / 1000;
    let (due, mut dues) = mpsc::unbounded_channel();
    // A thread of its own: the runtime's timers go in steps of a millisecond.
    let pacer = std::thread::spawn(move || pace(rate, count, &due));
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let round = Arc::new(Mutex::new(Round::default()));
    let mut under_way = JoinSet::new();
    let mut number = 0;
    let end = tokio::time::Instant::now() + length + LAST_ANSWERS;
    while let Some(due) = dues.recv().await {
        let request = make(number);
        number += 1;
        let place = tokio::time::timeout_at(end, places.clone().acquire_owned()).await;
        let Ok(place) = place else { break };
        let (client, round) = (client.clone(), round.clone());
        under_way.spawn(async move {
            let sent = Instant::now();
            let answer = client.send(&request).await;
            let took = due.elapsed();
            drop(place);
            let Ok(mut round) = round.lock() else { return };
            round.latencies.add(took);
            round.lateness.add(sent - due);
            if let Err(wrong) = answer {
                round.errors += 1;
                round.example.get_or_insert(wrong);
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    drop(dues);
    let _ = pacer.join();
    let all = async { while under_way.join_next().await.is_some() {} };
    let _ = tokio::time::timeout_at(end, all).await;
    under_way.shutdown().await;
    let round = std::mem::take(&mut *round.lock().unwrap_or_else(|held| held.into_inner()));
    without_answer(round, count)
}

/// Counts requests as errors whose answers did not come.
fn without_answer(mut round: Round, count: u64) -> Round {
    let missing = count - round.latencies.count();
    if missing > 0 {
        round.errors += missing;
        round.example = Some(format!("{missing} of {count} requests got no answer in time"));
        (0..missing).for_each(|_| round.latencies.add(LAST_ANSWERS));
    }
    round
}

fn pace(rate: u32, count: u64, due: &mpsc::UnboundedSender<Instant>) {
    let start = Instant::now() + Duration::from_millis(50);
    for number in 0..count {
        let at = start + Duration::from_secs_f64(number as f64 / f64::from(rate));
        if let Some(left) = at.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        if due.send(at).is_err() {
            return;
        }
    }
}
