//! A bucket in memory behind the part of S3's interface that we use, for tests of what real
//! stores do rarely: refuse, lie, and fail at the end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use url::Url;

use super::Store;
use super::open::{Place, retries};

/// What the bucket has, and what it was asked for.
#[derive(Default)]
pub(super) struct Contents {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub parts: BTreeMap<u32, Vec<u8>>,
    pub requests: Vec<String>,
}

/// Does what it is asked for, and then says that it has not.
pub(super) const LOST_ANSWER: u16 = 0;

/// Answers instead of the bucket where it has something to say: status and body.
pub(super) type Fault = fn(&str) -> Option<(u16, &'static str)>;

/// A store whose bucket is `bucket` and whose prefix is `some/prefix`.
pub(super) fn start(fault: Fault) -> (Store, Arc<Mutex<Contents>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let contents = Arc::new(Mutex::new(Contents::default()));
    let served = Arc::clone(&contents);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let served = Arc::clone(&served);
            std::thread::spawn(move || serve(connection.expect("a connection"), &served, fault));
        }
    });
    (store(&endpoint), contents)
}

/// The same store where `endpoint` is.
pub(super) fn store(endpoint: &str) -> Store {
    let client = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("the-id")
        .with_secret_access_key("the-secret")
        .with_retry(object_store::RetryConfig { max_retries: 0, ..retries() });
    let place = Place {
        objects: Arc::new(client.build().expect("a client")),
        url: Url::parse("s3://bucket/some/prefix").expect("a URL"),
        prefix: Path::from("some/prefix"),
        root: None,
    };
    Store::at(place)
}

fn serve(stream: TcpStream, contents: &Mutex<Contents>, fault: Fault) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(length) if length > 2 => head.push(line.trim().to_ascii_lowercase()),
            Ok(0) | Err(_) => return,
            Ok(_) => break,
        }
    }
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = header("content-length:").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let request = head[0].trim_end_matches(" http/1.1").to_owned();
    let range = header("range: bytes=").map(str::to_owned);
    contents.lock().expect("no panic").requests.push(request.clone());
    let done = || answer(&mut contents.lock().expect("no panic"), &request, range, body);
    let (status, head, answer) = match fault(&request) {
        Some((LOST_ANSWER, _)) => {
            done();
            (500, String::new(), Vec::new())
        }
        Some((status, body)) => (status, ETAG.to_owned(), body.as_bytes().to_vec()),
        None => done(),
    };
    let length = match request.starts_with("head ") && head.contains("content-length") {
        true => String::new(),
        false => format!("content-length: {}\r\n", answer.len()),
    };
    let mut stream = reader.into_inner();
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{length}{head}\r\n");
    // The client may have gone; that is its test's to notice.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer));
}

const ETAG: &str = "etag: \"x\"\r\n";

type Answer = (u16, String, Vec<u8>);

fn answer(bucket: &mut Contents, request: &str, range: Option<String>, body: Vec<u8>) -> Answer {
    let (method, target) = request.split_once(' ').expect("a request line");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.trim_start_matches("/bucket").trim_start_matches('/').to_owned();
    let xml = |text: String| (200, String::new(), text.into_bytes());
    let tag = ETAG.to_owned();
    match (method, query) {
        ("post", "uploads" | "uploads=") => xml(
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                .to_owned(),
        ),
        ("put", query) if query.contains("partnumber=") => {
            let number = query.split(['=', '&']).find_map(|text| text.parse().ok());
            bucket.parts.insert(number.expect("a part's number"), body);
            (200, tag, Vec::new())
        }
        ("post", "delete" | "delete=") => {
            let text = String::from_utf8_lossy(&body).into_owned();
            let key = text.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
            let key = key.expect("one key").0;
            bucket.objects.remove(key);
            xml(format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>"))
        }
        ("post", _) => {
            let whole = std::mem::take(&mut bucket.parts).into_values().flatten().collect();
            bucket.objects.insert(name, whole);
            xml("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
                .to_owned())
        }
        ("delete", query) if query.contains("uploadid") => {
            bucket.parts.clear();
            (204, String::new(), Vec::new())
        }
        ("get", query) if query.contains("list-type") => {
            let object = |(name, bytes): (&String, &Vec<u8>)| {
                format!(
                    "<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2025-07-29T00:00:00.000Z</LastModified></Contents>",
                    bytes.len()
                )
            };
            let objects: String = bucket.objects.iter().map(object).collect();
            xml(format!("<ListBucketResult>{objects}</ListBucketResult>"))
        }
        ("put", _) => {
            bucket.objects.insert(name, body);
            (200, tag, Vec::new())
        }
        _ => read(bucket.objects.get(&name), range),
    }
}

fn read(object: Option<&Vec<u8>>, range: Option<String>) -> Answer {
    let Some(object) = object else { return (404, String::new(), Vec::new()) };
    let head = "etag: \"x\"\r\nlast-modified: Tue, 29 Jul 2025 00:00:00 GMT\r\n";
    let Some(range) = range else {
        let length = format!("{head}content-length: {}\r\n", object.len());
        // A HEAD has the length and no body; the client asks for whole objects in no other way.
        return (200, length, Vec::new());
    };
    let (start, end) = range.split_once('-').expect("a range");
    let (start, end): (usize, usize) =
        (start.parse().expect("a start"), end.parse().expect("an end"));
    let content = format!("{head}content-range: bytes {start}-{end}/{}\r\n", object.len());
    (206, content, object[start..=end].to_vec())
}
