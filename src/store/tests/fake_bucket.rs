//! A bucket in memory behind the part of S3's and Google's interface that we use, for tests of
//! what real stores do rarely: refuse, lie, hang, and fail at the end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// What the bucket has, and what it was asked for.
#[derive(Default)]
pub struct Contents {
    /// Those of real buckets, too, may have a checksum or none.
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    /// Method, path and query, one string each.
    pub requests: Vec<String>,
    /// Uploads on a page of their list; 0 for all.
    pub page: usize,
}

#[derive(Clone, Default)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// Of whom sent checksums: the store's, of what it received.
    pub checksum: Option<String>,
}

/// An upload that is not finished.
pub struct Upload {
    pub key: String,
    pub parts: BTreeMap<u32, Vec<u8>>,
    pub summed: bool,
}

/// What the bucket does instead of what it was asked for.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Answers by this status and body, and does nothing.
    Answer(u16, &'static str),
    /// Does it, and says that it has not.
    LoseAnswer,
    /// Does it with other bytes than those that came.
    Change(fn(&mut Vec<u8>)),
    /// Does it, and answers with other bytes than those that it should.
    ChangeAnswer(fn(&mut Vec<u8>)),
    /// Closes the connection without a word.
    Reset,
    /// Says nothing until the client goes.
    Hang,
}

pub struct Request {
    /// Method, path and query.
    pub line: String,
    pub method: String,
    pub key: String,
    pub query: BTreeMap<String, String>,
    head: BTreeMap<String, String>,
    body: Vec<u8>,
}

type Faults = Arc<dyn Fn(&Request) -> Option<Fault> + Send + Sync>;

/// A bucket of the name `bucket`, and where its server is.
pub struct FakeBucket {
    pub endpoint: String,
    contents: Arc<Mutex<Contents>>,
}

impl FakeBucket {
    pub fn start(faults: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let contents = Arc::new(Mutex::new(Contents::default()));
        let served = Arc::clone(&contents);
        let faults: Faults = Arc::new(faults);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (served, faults) = (Arc::clone(&served), Arc::clone(&faults));
                std::thread::spawn(move || {
                    serve(connection.expect("a connection"), &served, &faults);
                });
            }
        });
        FakeBucket { endpoint, contents }
    }

    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: TcpStream, contents: &Mutex<Contents>, faults: &Faults) {
    let mut reader = BufReader::new(stream);
    let Some(mut request) = receive(&mut reader) else { return };
    let contents = || contents.lock().unwrap_or_else(PoisonError::into_inner);
    contents().requests.push(request.line.clone());
    let answer = match faults(&request) {
        None => contents().answer(&request),
        Some(Fault::Answer(status, body)) => {
            Answer { head: vec![("etag", ETAG.to_owned())], ..Answer::xml(body.to_owned()) }
                .with_status(status)
        }
        Some(Fault::LoseAnswer) => {
            contents().answer(&request);
            Answer::default().with_status(500)
        }
        Some(Fault::Change(change)) => {
            change(&mut request.body);
            contents().answer(&request)
        }
        Some(Fault::ChangeAnswer(change)) => {
            let mut answer = contents().answer(&request);
            change(&mut answer.body);
            answer
        }
        Some(Fault::Reset) => return,
        Some(Fault::Hang) => {
            // Until the client closes its end.
            let _ = reader.read(&mut [0]);
            return;
        }
    };
    answer.send(&mut reader.into_inner(), &request.method);
}

fn receive(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(length) if length > 2 => lines.push(line.trim().to_owned()),
            Ok(0) | Err(_) => return None,
            Ok(_) => break,
        }
    }
    let head: BTreeMap<_, _> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = head.get("content-length").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    let (method, target) = line.split_once(' ').expect("a request line");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.replace('+', "%2B");
    let (path, _) = url::form_urlencoded::parse(path.as_bytes()).next().expect("a path");
    let key = path.trim_start_matches("/bucket").trim_start_matches('/').to_owned();
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let method = method.to_owned();
    Some(Request { line, method, key, query, head, body })
}

const ETAG: &str = "\"x\"";
const TIME: &str = "2025-07-29T00:00:00.000Z";

#[derive(Default)]
struct Answer {
    status: u16,
    head: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn xml(text: String) -> Self {
        Answer { status: 200, head: Vec::new(), body: text.into_bytes() }
    }

    fn with_status(self, status: u16) -> Self {
        Answer { status, ..self }
    }

    /// The client may have gone; that is its test's to notice.
    fn send(mut self, stream: &mut TcpStream, method: &str) {
        let known = self.head.iter().any(|(name, _)| *name == "content-length");
        if !known {
            self.head.push(("content-length", self.body.len().to_string()));
        }
        let head = self.head.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head: String = head.collect();
        let head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n{head}\r\n", self.status);
        let body: &[u8] = if method == "HEAD" { &[] } else { &self.body };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    }
}

impl Contents {
    fn answer(&mut self, request: &Request) -> Answer {
        let query = |name: &str| request.query.get(name).map(String::as_str);
        match (request.method.as_str(), query("uploadId")) {
            ("POST", Some(id)) => self.complete(id),
            ("PUT", Some(id)) => self.put_part(id, request),
            ("DELETE", Some(id)) => match self.uploads.remove(id) {
                Some(_) => Answer::default().with_status(204),
                None => Answer::default().with_status(404),
            },
            ("POST", None) if query("uploads").is_some() => self.begin(request),
            ("POST", None) => self.delete_many(&request.body),
            ("GET", None) if query("uploads").is_some() => self.list_uploads(query("key-marker")),
            ("GET", None) if query("list-type").is_some() => self.list(query("prefix")),
            ("PUT", None) => self.put(request),
            ("DELETE", None) => {
                self.objects.remove(&request.key);
                Answer::default().with_status(204)
            }
            _ => self.read(request),
        }
    }

    fn begin(&mut self, request: &Request) -> Answer {
        let id = format!("upload-{}", self.requests.len());
        let summed = request.head.contains_key("x-amz-checksum-algorithm");
        let upload = Upload { key: request.key.clone(), parts: BTreeMap::new(), summed };
        self.uploads.insert(id.clone(), upload);
        Answer::xml(format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&mut self, id: &str, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get_mut(id) else {
            return Answer::default().with_status(404);
        };
        let number = request.query["partNumber"].parse().expect("a part's number");
        upload.parts.insert(number, request.body.clone());
        let mut head = vec![("etag", ETAG.to_owned())];
        head.extend(request.checksum().map(|sum| ("x-amz-checksum-sha256", sum)));
        Answer { status: 200, head, body: Vec::new() }
    }

    fn complete(&mut self, id: &str) -> Answer {
        let Some(upload) = self.uploads.remove(id) else {
            return Answer::default().with_status(404);
        };
        let of_parts: Vec<u8> = upload.parts.values().flat_map(Sha256::digest).collect();
        let sum = || format!("{}-{}", base64(&Sha256::digest(of_parts)), upload.parts.len());
        let checksum = upload.summed.then(sum);
        let bytes = upload.parts.into_values().flatten().collect();
        self.objects.insert(upload.key, Object { bytes, checksum });
        Answer::xml(
            "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
                .to_owned(),
        )
    }

    fn put(&mut self, request: &Request) -> Answer {
        let create = ["if-none-match", "x-goog-if-generation-match"];
        let create = create.iter().any(|name| request.head.contains_key(*name));
        if create && self.objects.contains_key(&request.key) {
            return Answer::default().with_status(412);
        }
        let checksum = request.checksum();
        let checksum = checksum.map(|_| base64(&Sha256::digest(&request.body)));
        let object = Object { bytes: request.body.clone(), checksum };
        self.objects.insert(request.key.clone(), object);
        Answer { status: 200, head: vec![("etag", ETAG.to_owned())], body: Vec::new() }
    }

    fn delete_many(&mut self, body: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(body).into_owned();
        let key = text.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
        let key = key.expect("one key").0;
        self.objects.remove(&*quick_xml::escape::unescape(key).expect("a key"));
        Answer::xml(format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>"))
    }

    fn list(&self, prefix: Option<&str>) -> Answer {
        let object = |(name, object): (&String, &Object)| {
            format!(
                "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{TIME}</LastModified></Contents>",
                quick_xml::escape::escape(name),
                object.bytes.len()
            )
        };
        let prefix = prefix.unwrap_or_default();
        let below = self.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let objects: String = below.map(object).collect();
        Answer::xml(format!("<ListBucketResult>{objects}</ListBucketResult>"))
    }

    /// By id, not by key; no more than a page behind the marker.
    fn list_uploads(&self, after: Option<&str>) -> Answer {
        let left = self.uploads.iter().filter(|(id, _)| Some(id.as_str()) > after);
        let left: Vec<_> = left.collect();
        let page = if self.page == 0 { left.len() } else { self.page };
        let upload = |(id, upload): &(&String, &Upload)| {
            let key: String = url::form_urlencoded::byte_serialize(upload.key.as_bytes()).collect();
            format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{TIME}</Initiated></Upload>"
            )
        };
        let uploads: String = left.iter().take(page).map(upload).collect();
        let last = left.get(page.wrapping_sub(1)).map_or("", |(id, _)| id);
        Answer::xml(format!(
            "<ListMultipartUploadsResult><EncodingType>url</EncodingType>\
             <IsTruncated>{}</IsTruncated><NextKeyMarker>{last}</NextKeyMarker>\
             <NextUploadIdMarker>{last}</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>",
            left.len() > page
        ))
    }

    fn read(&self, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.key) else {
            return Answer::default().with_status(404);
        };
        let mut head = vec![
            ("etag", ETAG.to_owned()),
            ("last-modified", "Tue, 29 Jul 2025 00:00:00 GMT".to_owned()),
        ];
        if request.head.contains_key("x-amz-checksum-mode") {
            let checksum = object.checksum.clone();
            head.extend(checksum.map(|checksum| ("x-amz-checksum-sha256", checksum)));
        }
        let length = object.bytes.len();
        let range = request.head.get("range").and_then(|range| range.strip_prefix("bytes="));
        let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
            return Answer { status: 200, head, body: object.bytes.clone() };
        };
        let (start, end): (usize, usize) =
            (start.parse().expect("a start"), end.parse().expect("an end"));
        if start >= length {
            return Answer::default().with_status(416);
        }
        let end = end.min(length - 1);
        head.push(("content-range", format!("bytes {start}-{end}/{length}")));
        Answer { status: 206, head, body: object.bytes[start..=end].to_vec() }
    }
}

impl Request {
    pub fn is_part(&self, number: u32) -> bool {
        self.query.get("partNumber") == Some(&number.to_string())
    }

    /// Whether it is the last one of an upload.
    pub fn completes(&self) -> bool {
        self.method == "POST" && self.query.contains_key("uploadId")
    }

    fn checksum(&self) -> Option<String> {
        self.head.get("x-amz-checksum-sha256").cloned()
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
