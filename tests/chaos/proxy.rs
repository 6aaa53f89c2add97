//! A TCP proxy that hurts what passes through it: the network between Strandline and the
//! services that it stands on. What it does to connections can be changed at any time and
//! counts for those that are open as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What is done to the connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Nobody listens, and what is open is reset: the machine has restarted.
    Refuse,
    /// Connections are taken and reset at once.
    Reset,
    /// Every piece arrives so much later.
    Delay(Duration),
    /// So many bytes a second, each way.
    Slow(u64),
    /// Connections stay open and are taken, but nothing arrives any more, either way. What
    /// was swallowed never comes: such a connection is reset when the mode ends.
    Blackhole,
    /// Each connection is reset after so many more bytes towards the client.
    CutAfter(u64),
    /// The server's end is closed, and the client is not told.
    HalfOpen,
}

/// Where a proxy leads to.
#[derive(Clone, Debug)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What becomes of a statement whose answer the client never sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The server does it; the answer is lost.
    Landed,
    /// The server never gets it.
    NotLanded,
    /// The server gets it so much later, when the client has long been told of the loss.
    Late(Duration),
}

/// A cut, once, of a connection on which `after` and then `at` is sent to the server.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    pub after: &'static [u8],
    pub at: &'static [u8],
    pub outcome: Outcome,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: u64,
    /// Connections that a mode or a trap has ended or swallowed something of.
    pub hurt: u64,
    /// Traps that have been sprung.
    pub sprung: u64,
}

struct Shared {
    target: Target,
    mode: watch::Receiver<Mode>,
    trap: Mutex<Option<Trap>>,
    connections: AtomicU64,
    hurt: AtomicU64,
    sprung: AtomicU64,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Listens on an address of this machine; port 0 for any.
    pub async fn start(listen: SocketAddr, target: Target) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (mode, receiver) = watch::channel(Mode::Pass);
        let shared = Arc::new(Shared {
            target,
            mode: receiver,
            trap: Mutex::new(None),
            connections: AtomicU64::new(0),
            hurt: AtomicU64::new(0),
            sprung: AtomicU64::new(0),
        });
        let serving = tokio::spawn(serve(listener, address, shared.clone()));
        Ok(Proxy { address, mode, shared, serving })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Arms a trap, instead of one that is armed already.
    pub async fn arm(&self, trap: Trap) {
        *self.shared.trap.lock().await = Some(trap);
    }

    /// Takes the trap away again, if it was not sprung.
    pub async fn disarm(&self) {
        *self.shared.trap.lock().await = None;
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { connections, hurt, sprung, .. } = &*self.shared;
        Counts { connections: read(connections), hurt: read(hurt), sprung: read(sprung) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Takes connections, but where the mode is to refuse them.
async fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut mode = shared.mode.clone();
    let mut open = JoinSet::new();
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("the port that was ours"));
        }
        while open.try_join_next().is_some() {}
        let taken = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            taken = taken => if let Ok((client, _)) = taken {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                open.spawn(connection(client, shared.clone()));
            },
        }
    }
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// One side has said so.
    Closed,
    /// We cut it.
    Reset,
    /// We cut it, and the server gets this piece later.
    Late(Vec<u8>, Duration),
}

/// What the two directions of a connection share.
struct Link<'a> {
    shared: &'a Shared,
    /// Something was swallowed: it can't go on.
    lost: AtomicBool,
    /// The trap's first words have passed.
    near: AtomicBool,
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let link = Link { shared: &shared, lost: AtomicBool::new(false), near: AtomicBool::new(false) };
    if *shared.mode.borrow() == Mode::HalfOpen {
        return swallow(client, &shared).await;
    }
    match &shared.target {
        Target::Tcp(address) => match TcpStream::connect(address).await {
            Ok(mut server) => {
                let _ = server.set_nodelay(true);
                let end = join(&mut client, &mut server, &link).await;
                if end == End::Reset {
                    let _ = server.set_zero_linger();
                }
                part(client, server, end, &shared).await;
            }
            Err(_) => reset(&client, &shared),
        },
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(mut server) => {
                let end = join(&mut client, &mut server, &link).await;
                part(client, server, end, &shared).await;
            }
            Err(_) => reset(&client, &shared),
        },
    }
}

/// Ends both sides as they are to end.
async fn part<S: AsyncWrite + Unpin>(client: TcpStream, mut server: S, end: End, shared: &Shared) {
    match end {
        End::Closed => {}
        End::Reset => {
            drop(server);
            if *shared.mode.borrow() == Mode::HalfOpen {
                return swallow(client, shared).await;
            }
            reset(&client, shared);
        }
        End::Late(piece, delay) => {
            reset(&client, shared);
            drop(client);
            tokio::time::sleep(delay).await;
            let _ = server.write_all(&piece).await;
            let _ = server.flush().await;
        }
    }
}

/// The client is told by a reset, and not by an end, when the socket is dropped.
fn reset(client: &TcpStream, shared: &Shared) {
    shared.hurt.fetch_add(1, Ordering::Relaxed);
    let _ = client.set_zero_linger();
}

/// Lets the client talk to nobody until the mode ends.
async fn swallow(mut client: TcpStream, shared: &Shared) {
    let mut mode = shared.mode.clone();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            _ = mode.wait_for(|mode| *mode != Mode::HalfOpen) => break,
            read = client.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { break },
        }
    }
    reset(&client, shared);
}

/// Both directions, until one of them or the mode ends the connection.
async fn join<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut TcpStream,
    server: &mut S,
    link: &Link<'_>,
) -> End {
    let mut mode = link.shared.mode.clone();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let ended_by_mode = async {
        loop {
            let now = *mode.borrow_and_update();
            let cut = matches!(now, Mode::Reset | Mode::Refuse | Mode::HalfOpen);
            if cut || (now != Mode::Blackhole && link.lost.load(Ordering::Relaxed)) {
                return End::Reset;
            }
            if mode.changed().await.is_err() {
                return End::Reset;
            }
        }
    };
    let both = async {
        tokio::select! {
            end = pump(&mut from_client, &mut to_server, Direction::ToServer, link) => end,
            end = pump(&mut from_server, &mut to_client, Direction::ToClient, link) => end,
        }
    };
    tokio::select! {
        end = ended_by_mode => end,
        end = both => end,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// One direction. The end of one ends both: nobody here uses half of a connection.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    direction: Direction,
    link: &Link<'_>,
) -> End {
    let mut mode = link.shared.mode.clone();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = None; // bytes until the cut
    loop {
        let now = *mode.borrow_and_update();
        left = match now {
            Mode::CutAfter(bytes) => left.or(Some(bytes)),
            _ => None,
        };
        let size = match now {
            Mode::Slow(rate) => (rate as usize / 20).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let read = tokio::select! {
            changed = mode.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return End::Reset,
            },
            read = from.read(&mut buffer[..size]) => read,
        };
        let piece = match read {
            Ok(0) => return End::Closed,
            Ok(count) => &buffer[..count],
            Err(_) => return End::Reset,
        };
        if direction == Direction::ToServer
            && let Some(end) = spring(piece, to, link).await
        {
            return end;
        }
        match now {
            Mode::Delay(delay) => tokio::time::sleep(delay).await,
            Mode::Slow(rate) => {
                let takes = piece.len() as f64 / rate.max(1) as f64;
                tokio::time::sleep(Duration::from_secs_f64(takes)).await;
            }
            Mode::Blackhole => {
                if !link.lost.swap(true, Ordering::Relaxed) {
                    link.shared.hurt.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            _ => {}
        }
        let piece = match &mut left {
            Some(left) if direction == Direction::ToClient => {
                let allowed = piece.len().min(*left as usize);
                *left -= allowed as u64;
                &piece[..allowed]
            }
            _ => piece,
        };
        if to.write_all(piece).await.is_err() || left == Some(0) {
            return End::Reset;
        }
    }
}

/// Springs the trap if this piece is what it waits for.
async fn spring(piece: &[u8], to: &mut (impl AsyncWrite + Unpin), link: &Link<'_>) -> Option<End> {
    let mut armed = link.shared.trap.lock().await;
    let trap = (*armed)?;
    if holds(piece, trap.after) {
        link.near.store(true, Ordering::Relaxed);
    }
    if !link.near.load(Ordering::Relaxed) || !holds(piece, trap.at) {
        return None;
    }
    *armed = None;
    drop(armed);
    link.shared.sprung.fetch_add(1, Ordering::Relaxed);
    match trap.outcome {
        Outcome::NotLanded => {}
        Outcome::Landed => {
            let _ = to.write_all(piece).await;
            // It is in the server's socket; a close behind it does not take it back.
            let _ = to.flush().await;
        }
        Outcome::Late(delay) => return Some(End::Late(piece.to_vec(), delay)),
    }
    Some(End::Reset)
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}
