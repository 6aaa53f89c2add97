//! The server from outside: tokens from the command line, TLS, listeners, limits, and clients
//! that are slow or broken.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use strandline::snapshot::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{HOUR, TestApp, TestTopic, answer, at, empty_database, record};
use crate::process::{Serving, Starting, folder, strandline, text, until_refused};

/// What the command prints, and what it complains of, by its exit code.
fn token(folder: &Path, url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = strandline(&[&["token"], arguments].concat(), folder);
    let output = command.env("STRANDLINE_DATABASE_URL", url).output().expect("it runs");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn tokens_from_the_command_line_count_at_once() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", url.as_str()), ("STRANDLINE_LOG", "debug")];
    let serving = Serving::start_with(folder.path(), &settings);
    let http = reqwest::Client::new();
    let list = || http.get(format!("{}/v1/snapshots", serving.url));
    assert_eq!(answer(list()).await.0, 200);
    let run = |arguments: &[&str]| token(folder.path(), &url, arguments);
    let (code, none, _) = run(&["list"]);
    assert_eq!(code, Some(0));
    assert!(none.contains("there are no tokens"), "{none}");

    let create = ["create", "--name", "airflow", "--scope", "write", "--topic", "orders.*"];
    let (code, printed, errors) = run(&[&create[..], &["--expires-in-days", "2"]].concat());
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let secret = printed.trim_end();
    assert_eq!(printed, format!("{secret}\n"));
    assert!(!secret.contains(char::is_whitespace) && secret.starts_with("strandline_"));
    // The server is told of it; until then it asks nobody.
    until_refused(list).await;
    assert_eq!(answer(list().bearer_auth(secret)).await.0, 200);
    assert_eq!(answer(list().basic_auth("airflow", Some(secret))).await.0, 200);

    for (arguments, part) in [
        (&create[..], "there is a token airflow already"),
        (&["create", "--name", "a:b", "--scope", "read"], "--name"),
        (&["create", "--name", "a", "--scope", "root"], "none of read, write, admin"),
        (&["create", "--name", "a", "--scope", "read", "--topic", "a b"], "--topic"),
        (&["revoke", "nobody"], "there is no token nobody"),
    ] {
        let (code, _, errors) = run(arguments);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(part) && errors.lines().count() == 1, "{errors}");
    }
    let (_, table, _) = run(&["list"]);
    assert!(table.contains("airflow  valid  write  orders.*"), "{table}");
    assert_eq!(run(&["revoke", "airflow"]).0, Some(0));
    until_refused(|| list().bearer_auth(secret)).await;
    let (_, listed, _) = run(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["state"], &listed[0]["name"]), (&json!("revoked"), &json!("airflow")));
    assert!(!listed[0]["last_used_at"].is_null(), "{listed}");
    let time =
        |name: &str| Timestamp::parse(listed[0][name].as_str().expect(name)).expect("a time");
    assert_eq!(time("expires_at"), time("created_at").plus_seconds(2 * 86_400));
    let log = serving.log();
    assert!(log.contains("caller=\"airflow\""), "{log}");
    assert!(!log.contains(&secret["strandline_".len()..]), "the token is in the log");
}

#[tokio::test]
async fn asked_to_stop_at_any_moment_of_its_start_it_stops() {
    use std::os::unix::process::ExitStatusExt;
    let (folder, url) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", url.as_str())];
    drop(Serving::start_with(folder.path(), &settings));
    let stops = (0..24).map(|number| {
        let starting = Starting::launch(folder.path(), &settings);
        async move {
            // To meet each of them somewhere else.
            tokio::time::sleep(Duration::from_millis(15 * number)).await;
            starting.stopped().await
        }
    });
    for status in futures_util::future::join_all(stops).await {
        // In the first milliseconds the signal itself ends it.
        assert!(status.code() == Some(0) || status.signal() == Some(15), "{status}");
    }
}

#[tokio::test]
async fn a_public_address_needs_a_token_or_leave() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", url.as_str()), ("STRANDLINE_LISTEN", "0.0.0.0:0")];
    let serve = |more: &[&str]| {
        let mut command = strandline(&[&["serve"], more].concat(), folder.path());
        command.envs(settings);
        command
    };
    let refused = serve(&[]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let errors = text(&refused.stderr);
    let last = errors.lines().last().unwrap_or_default();
    assert!(
        last.contains("STRANDLINE_LISTEN") && last.contains("strandline token create"),
        "{last}"
    );
    let (_, secret, _) = token(folder.path(), &url, &["create", "--name", "a", "--scope", "read"]);
    let serving = Serving::start_on("0.0.0.0:0", folder.path(), &settings);
    let list = reqwest::Client::new().get(format!("{}/v1/snapshots", serving.url));
    let with = list.try_clone().expect("no body").bearer_auth(secret.trim_end());
    assert_eq!((answer(list).await.0, answer(with).await.0), (401, 200));
}

/// Writes a new certificate of `strandline.test` and its key.
fn certify(cert: &Path, key: &Path) -> reqwest::Certificate {
    let made = rcgen::generate_simple_self_signed(["strandline.test".to_owned()]).expect("made");
    std::fs::write(cert, made.cert.pem()).expect("written");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("written");
    reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("PEM")
}

/// A client that finds `strandline.test` here and trusts this certificate alone.
fn trusting(certificate: reqwest::Certificate, address: SocketAddr) -> reqwest::Client {
    let client = reqwest::Client::builder().tls_certs_only([certificate]);
    client.resolve("strandline.test", address).build().expect("a client")
}

#[tokio::test]
async fn https_with_a_certificate_of_ones_own() {
    let (folder, url) = (folder(), empty_database().await);
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let certificate = certify(&cert, &key);
    let paths = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let settings = [
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_TLS_CERT", paths.0),
        ("STRANDLINE_TLS_KEY", paths.1),
    ];
    let serving = Serving::start_with(folder.path(), &settings);
    let address = serving.url.strip_prefix("https://").expect("HTTPS").parse().expect("an address");
    let client = trusting(certificate, address);
    let url = format!("https://strandline.test:{}/readyz", address.port());
    assert_eq!(answer(client.get(&url)).await.0, 200);
    let untrusting = reqwest::Client::builder().resolve("strandline.test", address).build();
    assert!(untrusting.expect("a client").get(&url).send().await.is_err());
    let health = |certificate: &[(&str, &str)]| {
        let listen = address.to_string();
        let mut command = strandline(&["health", "--listen", &listen], folder.path());
        command.envs(certificate.iter().copied()).output().expect("it runs").status.code()
    };
    assert_eq!(health(&settings[1..2]), Some(0));
    assert_eq!(health(&[]), Some(1), "it speaks no plain HTTP");

    // Those who begin to trust the next one now are served as soon as it is shown.
    let client = trusting(certify(&cert, &key), address);
    let renewed = async {
        while client.get(&url).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, renewed).await.expect("the new certificate");

    for (settings, part) in [
        (vec![("STRANDLINE_TLS_CERT", paths.0)], "--tls-key"),
        (vec![("STRANDLINE_TLS_CERT", paths.1), ("STRANDLINE_TLS_KEY", paths.1)], "no certificate"),
        (vec![("STRANDLINE_TLS_CERT", paths.0), ("STRANDLINE_TLS_KEY", "/no")], "can't use /no"),
    ] {
        let mut command = strandline(&["serve", "--listen", "127.0.0.1:0"], folder.path());
        let output = command.envs(settings).output().expect("it runs");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(part), "{errors}");
    }
}

#[tokio::test]
async fn metrics_of_their_own_listener_need_no_token() {
    let (folder, url) = (folder(), empty_database().await);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let settings = [
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_METRICS_LISTEN", address.as_str()),
    ];
    let _serving = Serving::start_with(folder.path(), &settings);
    token(folder.path(), &url, &["create", "--name", "a", "--scope", "read"]);
    let http = reqwest::Client::new();
    let (status, metrics) = answer(http.get(format!("http://{address}/metrics"))).await;
    assert_eq!(status, 200);
    let metrics = metrics.as_str().expect("text");
    for row in strandline::metrics::document().lines() {
        let mut columns = row.split(" | ");
        let name = columns.next().expect("a name").trim_matches(|c| "|` ".contains(c));
        let kind = columns.next().expect("a kind");
        // Nothing has been measured yet, routes are known only when they are asked for, and what
        // has nothing to say is absent.
        let few = ["strandline_http_requests_total", "strandline_store_free_bytes"];
        if kind == "histogram" || few.contains(&name) || name.starts_with("strandline_topic_") {
            continue;
        }
        let shown = metrics.lines().any(|line| line.starts_with(&format!("# TYPE {name} {kind}")));
        let series = metrics.lines().filter(|line| line.starts_with(name)).count();
        assert!(shown && series > 0, "{name} is not there from the start:\n{metrics}");
    }
    assert!(metrics.contains("strandline_run_failures_total{code=\"DATA_LOST\"} 0"), "{metrics}");
    assert_eq!(answer(http.get(format!("http://{address}/v1/snapshots"))).await.0, 404);
}

#[tokio::test]
async fn one_callers_limit_is_nobody_elses_and_no_probes() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", url.as_str()), ("STRANDLINE_RATE_LIMIT", "5")];
    let serving = Serving::start_with(folder.path(), &settings);
    let [busy, other] = ["busy", "other"]
        .map(|name| token(folder.path(), &url, &["create", "--name", name, "--scope", "read"]).1);
    let http = reqwest::Client::new();
    let ask = async |path: &str, token: &str| {
        let request = http.get(format!("{}{path}", serving.url));
        answer(request.bearer_auth(token.trim_end())).await
    };
    // Until it is told of the tokens, all are the same caller; probes are not counted.
    until_refused(|| http.get(format!("{}/metrics", serving.url))).await;
    let ask_often = |times, path, token| {
        futures_util::future::join_all((0..times).map(move |_| ask(path, token)))
    };
    let (answers, others) = futures_util::future::join(
        ask_often(50, "/v1/version", &busy),
        ask_often(5, "/v1/version", &other),
    )
    .await;
    let refusals: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    let (_, problem) = refusals.first().expect("a refusal");
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("RATE_LIMITED"), &json!(true)));
    assert!(others.iter().all(|(status, _)| *status == 200), "{others:?}");
    for path in ["/readyz", "/metrics"] {
        let probes = ask_often(50, path, &busy).await;
        assert!(probes.iter().all(|(status, _)| *status == 200), "{path}");
    }
    let (_, metrics) = ask("/metrics", &busy).await;
    let metrics = metrics.as_str().expect("text");
    for counted in [
        format!("strandline_refused_requests_total{{limit=\"rate\"}} {}\n", refusals.len()),
        "strandline_auth_failures_total{reason=\"missing\"} 1\n".to_owned(),
    ] {
        assert!(metrics.contains(&counted), "{counted}{metrics}");
    }
}

#[tokio::test]
async fn a_reader_that_stalls_is_let_go() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    // More than sockets hold.
    let large = record(0, 0, &"x".repeat(900_000));
    topic.produce(&vec![large; 30]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let path = snapshot["links"]["events"].as_str().expect("a path").to_owned();
    // A small buffer of its own: the system would take in tens of megabytes unread.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a smaller buffer");
    let address = app.url.strip_prefix("http://").expect("HTTP").parse().expect("an address");
    let mut stalled = socket.connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.expect("sent");
    let mut read = vec![0; 1000];
    stalled.read_exact(&mut read).await.expect("a head");
    assert!(read.starts_with(b"HTTP/1.1 200"));
    // The one stream that a test's service has is taken, until its reader is given up.
    let again = || answer(app.http.get(format!("{}{path}?limit=1", app.url)));
    assert_eq!(again().await.0, 429);
    let let_go = async {
        while again().await.0 == 429 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, let_go).await.expect("the stream is free again");
    // What was cut off does not look like an end.
    stalled.read_to_end(&mut read).await.expect("the rest");
    assert!(!read.ends_with(b"0\r\n\r\n"), "the last chunk is missing");
    assert_eq!(app.events(&snapshot).await.len(), 30);
}

/// Longer than anything here takes when it works.
const LONG: Duration = Duration::from_secs(60);

/// What comes back for these bytes on a connection of their own, until it is closed.
fn raw(url: &str, bytes: &[u8]) -> String {
    let address = url.strip_prefix("http://").expect("HTTP");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(bytes).expect("sent");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut answer = Vec::new();
    // A connection that is reset has said what it had to say.
    if let Err(error) = stream.read_to_end(&mut answer) {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "left open: {start:?}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether it answers beside idle connections, more than a process may have open at first, this
/// one included; before the first of them is let go and makes room, which is after ten seconds.
async fn answers_beside_idle_connections(url: &str) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("raised");
    let address = url.strip_prefix("http://").expect("HTTP").parse().expect("an address");
    let soon = Duration::from_secs(5);
    let open = (0..1500).map(|_| TcpStream::connect_timeout(&address, soon));
    let Ok(idle) = open.collect::<Result<Vec<_>, _>>() else { return false };
    let http = reqwest::Client::builder().timeout(soon).build().expect("a client");
    let answered = http.get(format!("{url}/v1/version")).send().await;
    drop(idle);
    answered.is_ok_and(|response| response.status() == 200)
}

#[tokio::test]
async fn slow_and_broken_clients_are_in_nobodys_way() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", url.as_str())];
    let serving = Serving::start_with(folder.path(), &settings);
    let head = "POST /v1/snapshots HTTP/1.1\r\nhost: x\r\n";
    let slow = |more: String| {
        let url = serving.url.clone();
        tokio::task::spawn_blocking(move || raw(&url, more.as_bytes()))
    };
    // A body that does not come, and a head that does not end: each is closed by the server.
    let body = slow(format!("{head}connection: close\r\ncontent-length: 10\r\n\r\n{{"));
    let half = slow(head.to_owned());
    // A busy machine may be late; where there is no room, each time is.
    let mut answers = false;
    for _ in 0..5 {
        answers = answers || answers_beside_idle_connections(&serving.url).await;
    }
    assert!(answers, "idle connections keep it from answering");
    for (bytes, status) in [
        (format!("{head}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n{{}}"), "400"),
        (format!("{head}content-length: -1\r\n\r\n"), "400"),
        (format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n"), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET /livez?{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(200_000)), "4"),
        (format!("{head}x: {}\r\n\r\n", "x".repeat(200_000)), "4"),
        (format!("{head}{}\r\n", "x: y\r\n".repeat(300)), "4"),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), "200"),
    ] {
        let answer = raw(&serving.url, bytes.as_bytes());
        let start: String = bytes.chars().take(80).collect();
        assert!(
            answer.split(' ').nth(1).is_some_and(|found| found.starts_with(status)),
            "{start:?} {answer}"
        );
    }
    let head = raw(&serving.url, b"HEAD /livez HTTP/1.0\r\n\r\n");
    assert!(head.contains(" 200 ") && head.ends_with("\r\n\r\n"), "no body: {head}");
    let answered = body.await.expect("no panic");
    assert!(answered.contains("did not arrive within"), "{answered}");
    let closed = half.await.expect("no panic");
    assert!(closed.is_empty() || closed.starts_with("HTTP/1.1 408"), "{closed}");
    let log = serving.log();
    assert!(!log.contains("panicked"), "{log}");
    let good = json!({"topic": "t", "window_start": at(0), "window_end": at(HOUR)});
    let good = reqwest::Client::new().post(format!("{}/v1/snapshots", serving.url)).json(&good);
    assert_eq!(answer(good).await.0, 202);
}
