//! What is asked of a bucket besides: the client library has no request for it.
//!
//! S3 and Google take the same request and give the same answer. Azure has no uploads to ask
//! for: what was never made part of a blob is gone after a week, by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::ClientOptions;
use object_store::aws::AmazonS3;
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorage;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use serde::Deserialize;
use url::Url;

use super::Cause;
use crate::snapshot::Timestamp;

/// How long a signed request is good for; no longer than it takes to send it.
const SIGNED_FOR: Duration = Duration::from_secs(60);

const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// A bucket of S3, or of what speaks like it, or of Google.
#[derive(Debug)]
pub(super) struct Bucket {
    http: HttpClient,
    api: Api,
}

#[derive(Debug)]
enum Api {
    S3(Arc<AmazonS3>),
    Google { client: Arc<GoogleCloudStorage>, bucket: Url },
}

/// Where a page of uploads begins: behind this key and this id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    key: String,
    upload_id: String,
}

/// Some of the uploads that were begun and not finished, of all the bucket.
#[derive(Debug)]
pub(super) struct Page {
    pub uploads: Vec<Upload>,
    pub next: Option<Marker>,
}

/// An upload, as the bucket calls it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub key: String,
    pub id: String,
    pub started_at: Timestamp,
}

impl Bucket {
    pub(super) fn s3(client: Arc<AmazonS3>, http: HttpClient) -> Self {
        Bucket { http, api: Api::S3(client) }
    }

    /// `bucket` is the URL of the bucket itself.
    pub(super) fn google(client: Arc<GoogleCloudStorage>, bucket: Url, http: HttpClient) -> Self {
        Bucket { http, api: Api::Google { client, bucket } }
    }

    /// A page of the unfinished uploads of the whole bucket. (`MinIO` knows no prefix but that
    /// of a whole name, and without one shows the uploads that were begun at the server which
    /// is asked, since its start. It removes what is older than a day by itself.)
    pub(super) async fn uploads(&self, after: &Marker) -> Result<Page, Cause> {
        let mut query = vec![("uploads", ""), ("encoding-type", "url")];
        if !after.key.is_empty() {
            query.push(("key-marker", &after.key));
            query.push(("upload-id-marker", &after.upload_id));
        }
        let request = self.request(&query).await.map_err(|error| Cause::of(&error))?;
        let server = request.uri().to_string();
        let answer = self.http.execute(request).await;
        let (head, body) = answer.map_err(|e| Cause::unanswered(&server, &e))?.into_parts();
        let body = body.bytes().await.map_err(|error| Cause::unanswered(&server, &error))?;
        if head.status != StatusCode::OK {
            return Err(Cause::status(head.status, &String::from_utf8_lossy(&body)));
        }
        parse(&body, after)
    }

    /// Frees what the bucket holds of an upload. One that is gone is no error.
    pub(super) async fn abort(&self, location: &Path, id: &String) -> Result<(), Cause> {
        let aborted = match &self.api {
            Api::S3(client) => client.abort_multipart(location, id).await,
            Api::Google { client, .. } => client.abort_multipart(location, id).await,
        };
        match aborted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Cause::of(&error)),
        }
    }

    /// The checksum that the bucket has of an object: SHA-256 in base64, that of its parts'
    /// checksums and `-` and their number where it came in parts. `None` if it has none, or
    /// does not say.
    pub(super) async fn checksum(&self, location: &Path) -> Option<String> {
        let Api::S3(client) = &self.api else { return None };
        let mode = (CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        let options = SignedUrlOptions::new().with_signed_header(mode.0.clone(), mode.1.clone());
        let url =
            client.signed_url_opts(Method::HEAD, location, SIGNED_FOR, &options).await.ok()?;
        let mut request = http::Request::new(HttpRequestBody::empty());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = url.as_str().parse().ok()?;
        request.headers_mut().insert(mode.0, mode.1);
        let answer = self.http.execute(request).await.ok()?;
        let checksum = answer.headers().get(CHECKSUM)?.to_str().ok()?;
        answer.status().is_success().then(|| checksum.to_owned())
    }

    /// A GET of the bucket itself.
    async fn request(&self, query: &[(&str, &str)]) -> object_store::Result<HttpRequest> {
        let mut request = http::Request::new(HttpRequestBody::empty());
        let url = match &self.api {
            Api::S3(client) => {
                let query = SignedUrlOptions::new().with_query(query.iter().copied());
                client.signed_url_opts(Method::GET, &Path::default(), SIGNED_FOR, &query).await?
            }
            Api::Google { client, bucket } => {
                let credential = client.credentials().get_credential().await?;
                let token = format!("Bearer {}", credential.bearer);
                let token = HeaderValue::try_from(token).map_err(invalid)?;
                request.headers_mut().insert(header::AUTHORIZATION, token);
                let mut url = bucket.clone();
                url.query_pairs_mut().extend_pairs(query);
                url
            }
        };
        *request.uri_mut() = url.as_str().parse().map_err(invalid)?;
        Ok(request)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "bucket", source: Box::new(error) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    encoding_type: Option<String>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default)]
    upload: Vec<AnswerUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerUpload {
    key: String,
    upload_id: String,
    initiated: String,
}

fn parse(body: &[u8], after: &Marker) -> Result<Page, Cause> {
    let answer: Answer = quick_xml::de::from_reader(body)
        .map_err(|error| Cause::senseless(&format!("no list of uploads ({error})")))?;
    let encoded = answer.encoding_type.is_some();
    let plain = |key: String| if encoded { decode(&key) } else { key };
    let next =
        Marker { key: plain(answer.next_key_marker), upload_id: answer.next_upload_id_marker };
    if answer.is_truncated && (next.key.is_empty() || next == *after) {
        return Err(Cause::senseless("a list of uploads that does not go on"));
    }
    let upload = |upload: AnswerUpload| {
        let started_at = Timestamp::parse(&upload.initiated)
            .map_err(|error| Cause::senseless(&format!("a list of uploads ({error})")))?;
        Ok(Upload { key: plain(upload.key), id: upload.upload_id, started_at })
    };
    let uploads = answer.upload.into_iter().map(upload).collect::<Result<_, Cause>>()?;
    Ok(Page { uploads, next: answer.is_truncated.then_some(next) })
}

/// Undoes what URLs do to a key.
fn decode(key: &str) -> String {
    let parsed = url::form_urlencoded::parse(key.as_bytes()).next();
    parsed.map(|(key, _)| key.into_owned()).unwrap_or_default()
}

/// Makes the library's connections, and keeps a hand on the one that it uses for the bucket:
/// the last, after those for credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct Connector(Arc<Mutex<Option<HttpClient>>>);

impl Connector {
    pub(super) fn client(&self) -> Option<HttpClient> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Bucket>b</Bucket><KeyMarker></KeyMarker><UploadIdMarker></UploadIdMarker>
        <NextKeyMarker>a%2Bb/c+d</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>
        <EncodingType>url</EncodingType><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
        <Upload><Key>a%2Bb/c+d</Key><UploadId>1</UploadId><Initiator><ID>x</ID></Initiator>
        <StorageClass>STANDARD</StorageClass><Initiated>2025-07-29T00:00:00.000Z</Initiated></Upload>
        <Upload><Key>%D1%84</Key><UploadId>2</UploadId><Initiated>2025-07-29T00:00:01Z</Initiated></Upload>
        </ListMultipartUploadsResult>"#;

    #[test]
    fn a_page_is_read_as_it_was_meant() {
        let page = parse(PAGE.as_bytes(), &Marker::default()).expect("a page");
        let upload = |key: &str, id: &str, at: &str| Upload {
            key: key.to_owned(),
            id: id.to_owned(),
            started_at: Timestamp::parse(at).expect("a time"),
        };
        let first = upload("a+b/c d", "1", "2025-07-29T00:00:00.000Z");
        assert_eq!(page.uploads, [first, upload("ф", "2", "2025-07-29T00:00:01Z")]);
        let next = Marker { key: "a+b/c d".to_owned(), upload_id: "2".to_owned() };
        assert_eq!(page.next, Some(next.clone()));

        let plain = PAGE.replace("<EncodingType>url</EncodingType>", "");
        let page = parse(plain.as_bytes(), &Marker::default()).expect("a page");
        assert_eq!(page.uploads[0].key, "a%2Bb/c+d");

        let last = PAGE.replace("<IsTruncated>true", "<IsTruncated>false");
        assert_eq!(parse(last.as_bytes(), &Marker::default()).expect("a page").next, None);
        let none = "<ListMultipartUploadsResult><Bucket>b</Bucket></ListMultipartUploadsResult>";
        assert!(parse(none.as_bytes(), &next).expect("a page").uploads.is_empty());
    }

    #[test]
    fn a_list_that_makes_no_sense_is_an_error_and_no_endless_loop() {
        let again = Marker { key: "a+b/c d".to_owned(), upload_id: "2".to_owned() };
        for (body, after) in [
            (PAGE, again),
            ("<html>hello", Marker::default()),
            ("", Marker::default()),
            (&PAGE.replace("2025-07-29T", "soon"), Marker::default()),
            ("<A><IsTruncated>true</IsTruncated></A>", Marker::default()),
        ] {
            let error = parse(body.as_bytes(), &after).expect_err(body);
            assert!(error.to_string().contains("list of uploads"), "{error}");
        }
    }
}
