//! The proxy by itself: what it does has to be what it says, or the other tests prove nothing.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::proxy::{Counts, Mode, Outcome, Proxy, Target, Trap};

const ANY: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Gives back what it gets, and tells the test of it; `None` is the end of a connection.
async fn echo() -> (Proxy, mpsc::UnboundedReceiver<Option<Vec<u8>>>) {
    let server = TcpListener::bind(ANY).await.expect("a port");
    let address = server.local_addr().expect("an address");
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let _ = told.send(Some(buffer[..count].to_vec()));
                    let _ = stream.write_all(&buffer[..count]).await;
                }
                let _ = told.send(None);
            });
        }
    });
    (Proxy::start(ANY, Target::Tcp(address)).await.expect("a proxy"), heard)
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("taken")
}

/// Sends a text and waits for its echo.
async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).expect("UTF-8"))
}

/// Whether nothing arrives for a while.
async fn silent(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 16];
    tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer)).await.is_err()
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
    read.expect("an end").is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn what_passes_is_not_changed_and_counted() {
    let (proxy, mut heard) = echo().await;
    let (mut first, mut second) = (client(&proxy).await, client(&proxy).await);
    assert_eq!(ask(&mut first, "one").await.expect("an echo"), "one");
    assert_eq!(ask(&mut second, "two").await.expect("an echo"), "two");
    assert_eq!(proxy.counts(), Counts { connections: 2, hurt: 0, sprung: 0 });
    drop(first);
    assert_eq!(heard.recv().await, Some(Some(b"one".to_vec())));
    assert_eq!(heard.recv().await, Some(Some(b"two".to_vec())));
    assert_eq!(heard.recv().await, Some(None), "the end passes as well");
}

#[tokio::test]
async fn open_connections_are_reset_and_new_ones_too() {
    let (proxy, _heard) = echo().await;
    let mut open = client(&proxy).await;
    ask(&mut open, "x").await.expect("an echo");
    proxy.set(Mode::Reset);
    assert!(is_reset(&mut open).await);
    // The reset may be quicker than the connection.
    if let Ok(mut new) = TcpStream::connect(proxy.address()).await {
        assert!(is_reset(&mut new).await);
    }
    proxy.set(Mode::Pass);
    assert_eq!(ask(&mut client(&proxy).await, "y").await.expect("an echo"), "y");
    assert!(proxy.counts().hurt >= 1);
}

#[tokio::test]
async fn nobody_listens_while_it_refuses() {
    let (proxy, _heard) = echo().await;
    let mut open = client(&proxy).await;
    ask(&mut open, "x").await.expect("an echo");
    proxy.set(Mode::Refuse);
    assert!(is_reset(&mut open).await);
    let refused = TcpStream::connect(proxy.address()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.set(Mode::Pass);
    for _ in 0..100 {
        if let Ok(mut stream) = TcpStream::connect(proxy.address()).await {
            assert_eq!(ask(&mut stream, "y").await.expect("an echo"), "y");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not listen again");
}

#[tokio::test]
async fn a_delay_and_a_slow_line_take_their_time() {
    let (proxy, _heard) = echo().await;
    let mut stream = client(&proxy).await;
    proxy.set(Mode::Delay(Duration::from_millis(150)));
    let started = Instant::now();
    ask(&mut stream, "x").await.expect("an echo");
    assert!(started.elapsed() >= Duration::from_millis(300), "there and back");
    proxy.set(Mode::Slow(4000));
    let started = Instant::now();
    let text = "z".repeat(2000);
    assert_eq!(ask(&mut stream, &text).await.expect("an echo"), text);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_black_hole_swallows_and_keeps_connections_open() {
    let (proxy, mut heard) = echo().await;
    let (mut used, mut idle) = (client(&proxy).await, client(&proxy).await);
    ask(&mut used, "x").await.expect("an echo");
    ask(&mut idle, "y").await.expect("an echo");
    proxy.set(Mode::Blackhole);
    used.write_all(b"lost").await.expect("taken");
    let mut new = client(&proxy).await;
    new.write_all(b"lost").await.expect("taken");
    assert!(silent(&mut used).await && silent(&mut new).await);
    proxy.set(Mode::Pass);
    assert!(is_reset(&mut used).await, "a hole in the stream is no stream");
    assert_eq!(ask(&mut idle, "z").await.expect("nothing was lost here"), "z");
    heard.close();
    while let Some(got) = heard.recv().await {
        assert_ne!(got.as_deref(), Some(b"lost".as_slice()));
    }
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes() {
    let (proxy, _heard) = echo().await;
    proxy.set(Mode::CutAfter(10));
    let mut stream = client(&proxy).await;
    stream.write_all(&[7; 100]).await.expect("taken");
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert!(got.len() <= 10, "{} bytes", got.len());
    assert_eq!(proxy.counts().hurt, 1);
}

#[tokio::test]
async fn half_open_means_that_only_the_server_knows_of_the_end() {
    let (proxy, mut heard) = echo().await;
    let mut stream = client(&proxy).await;
    ask(&mut stream, "x").await.expect("an echo");
    proxy.set(Mode::HalfOpen);
    assert_eq!(heard.recv().await, Some(Some(b"x".to_vec())));
    assert_eq!(heard.recv().await, Some(None));
    stream.write_all(b"anybody?").await.expect("taken");
    assert!(silent(&mut stream).await);
    let mut new = client(&proxy).await;
    assert!(silent(&mut new).await);
    proxy.set(Mode::Pass);
    assert!(is_reset(&mut stream).await && is_reset(&mut new).await);
}

#[tokio::test]
async fn a_trap_cuts_at_its_words_once() {
    let arrives = Some(Some(b"COMMIT".to_vec()));
    for (outcome, then) in [
        (Outcome::Landed, vec![arrives.clone(), Some(None)]),
        (Outcome::NotLanded, vec![Some(None)]),
        (Outcome::Late(Duration::from_millis(100)), vec![arrives, Some(None)]),
    ] {
        let (proxy, mut heard) = echo().await;
        proxy.arm(Trap { after: b"insert", at: b"COMMIT", outcome }).await;
        let (mut stream, mut other) = (client(&proxy).await, client(&proxy).await);
        ask(&mut other, "COMMIT").await.expect("it has inserted nothing");
        ask(&mut stream, "an insert").await.expect("an echo");
        assert!(ask(&mut stream, "COMMIT").await.is_err(), "{outcome:?}");
        assert_eq!(proxy.counts().sprung, 1);
        assert_eq!(heard.recv().await, Some(Some(b"COMMIT".to_vec())));
        assert_eq!(heard.recv().await, Some(Some(b"an insert".to_vec())));
        for then in then {
            assert_eq!(heard.recv().await, then, "{outcome:?}");
        }
        let mut again = client(&proxy).await;
        ask(&mut again, "insert").await.expect("an echo");
        ask(&mut again, "COMMIT").await.expect("the trap is sprung");
    }
}
