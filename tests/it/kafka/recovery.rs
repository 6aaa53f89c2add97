//! A cluster that said once that it has no brokers.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strandline::kafka::{KafkaClient, KafkaConfig, KafkaError};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// A broker that answers nothing but which brokers there are: itself, or none.
struct Broker {
    address: String,
    is_empty: Arc<AtomicBool>,
}

impl Broker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let is_empty = Arc::new(AtomicBool::new(false));
        let empty = Arc::clone(&is_empty);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let empty = Arc::clone(&empty);
                thread::spawn(move || while answer(&connection, port, &empty).is_ok() {});
            }
        });
        Broker { address: format!("127.0.0.1:{port}"), is_empty }
    }
}

fn answer(mut connection: &TcpStream, port: u16, is_empty: &AtomicBool) -> Result<()> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    connection.read_exact(&mut request)?;
    let [key, version] = [0, 2].map(|at| i16::from_be_bytes([request[at], request[at + 1]]));
    let body = match key {
        API_VERSIONS => api_versions(version),
        METADATA if is_empty.load(Ordering::SeqCst) => metadata(None),
        METADATA => metadata(Some(port)),
        _ => return Err(ErrorKind::Unsupported.into()),
    };
    let answer = [&request[4..8], &body].concat();
    connection.write_all(&[&(answer.len() as u32).to_be_bytes(), &answer[..]].concat())
}

/// The versions that it speaks, in version 0.
fn api_versions(asked: i16) -> Vec<u8> {
    let error = if asked == 0 { 0 } else { UNSUPPORTED_VERSION };
    let known = [[METADATA, 0, 1], [API_VERSIONS, 0, 0]];
    let known = known.as_flattened().iter().flat_map(|number| number.to_be_bytes());
    [&error.to_be_bytes()[..], &2i32.to_be_bytes()].concat().into_iter().chain(known).collect()
}

/// The brokers and one topic, in version 1.
fn metadata(port: Option<u16>) -> Vec<u8> {
    let mut body = i32::from(port.is_some()).to_be_bytes().to_vec();
    if let Some(port) = port {
        body.extend(1i32.to_be_bytes());
        body.extend([&9i16.to_be_bytes()[..], b"127.0.0.1"].concat());
        body.extend(i32::from(port).to_be_bytes());
        body.extend((-1i16).to_be_bytes()); // no rack
    }
    body.extend(port.map_or(-1, |_| 1i32).to_be_bytes()); // the controller
    body.extend(1i32.to_be_bytes());
    body.extend(LEADER_NOT_AVAILABLE.to_be_bytes());
    body.extend([&4i16.to_be_bytes()[..], b"some"].concat());
    body.push(0); // not internal
    body.extend(0i32.to_be_bytes()); // no partitions
    body
}

/// librdkafka forgets all addresses then, and seldom, the ones that it was given too: it never
/// asks anybody again. A few dozen times are enough to see it.
#[test]
fn a_client_that_was_told_of_no_brokers_comes_back_to_life() {
    const SEEN_DEAD: Duration = Duration::from_secs(5);
    let broker = Broker::start();
    let config = KafkaConfig::new(&broker.address, "").expect("good settings");
    let client = KafkaClient::connect(&config).expect("a client");
    for _ in 0..60 {
        client.list_topics().expect("an answer");
        broker.is_empty.store(true, Ordering::SeqCst);
        let _ = client.list_topics();
        broker.is_empty.store(false, Ordering::SeqCst);
        let since = Instant::now();
        while let Err(error) = client.list_topics() {
            assert!(matches!(error, KafkaError::Unavailable { .. }), "{error}");
            assert!(since.elapsed() < Duration::from_secs(180), "{error}");
            thread::sleep(Duration::from_millis(100));
        }
        if since.elapsed() > SEEN_DEAD {
            return;
        }
    }
}
