//! The body of a request for a snapshot: JSON or a form, checked field by field, so that all
//! that is wrong with it is told at once.

use std::collections::BTreeMap;
use std::fmt;

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::MAX_BODY_BYTES;
use super::params::{quoted, unknown};
use super::problem::{Problem, ProblemCode};
use crate::db::SnapshotRequest;
use crate::snapshot::{
    Capture, DEFAULT_CLUSTER, OnLoss, Timestamp, TopicName, TopicNameError, Window,
};

const FIELDS: &[&str] =
    &["topic", "window_start", "window_end", "capture", "on_loss", "cluster", "labels"];

const MAX_LABELS: usize = 32;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;

/// How long a body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// Takes a body off the wire.
pub(super) async fn read(body: web::Payload) -> Result<web::Bytes, Problem> {
    let arrived = tokio::time::timeout(ARRIVES_WITHIN, body.to_bytes_limited(MAX_BODY_BYTES));
    match arrived.await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(error))) => {
            Err(Problem::new(ProblemCode::InvalidJson, format!("the body broke off: {error}")))
        }
        Ok(Err(_)) => Err(Problem::new(
            ProblemCode::BodyTooLarge,
            format!("a body may have at most {MAX_BODY_BYTES} bytes"),
        )),
        Err(_) => Err(Problem::new(
            ProblemCode::InvalidJson,
            format!("the body did not arrive within {} seconds", ARRIVES_WITHIN.as_secs()),
        )),
    }
}

/// Reads a request for a snapshot.
pub(super) fn snapshot_request(
    request: &HttpRequest,
    body: &[u8],
    clusters: &[&str],
) -> Result<SnapshotRequest, Problem> {
    let object = match media_type(request)? {
        MediaType::Json => read_json(body)?,
        MediaType::Form => read_form(body)?,
    };
    read_fields(&object, clusters)
}

enum MediaType {
    Json,
    Form,
}

/// Airflow's HttpOperator sends no content type at all, `text/plain` or a form, depending on
/// its mode and on the type of `data`.
fn media_type(request: &HttpRequest) -> Result<MediaType, Problem> {
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let coding = quoted(coding.to_str().unwrap_or("?"));
        let detail = format!("a body with Content-Encoding {coding} is not read; send it as it is");
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else {
        return Ok(MediaType::Json);
    };
    let value = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let utf8 = parts
        .filter_map(|part| part.strip_prefix("charset="))
        .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
    match essence {
        _ if !utf8 => {}
        "" | "application/json" | "text/plain" => return Ok(MediaType::Json),
        "application/x-www-form-urlencoded" => return Ok(MediaType::Form),
        json if json.ends_with("+json") => return Ok(MediaType::Json),
        _ => {}
    }
    Err(Problem::new(
        ProblemCode::UnsupportedMediaType,
        format!(
            "a body of type {} is not read; send JSON in UTF-8 with Content-Type: application/json",
            quoted(&value)
        ),
    ))
}

fn read_json(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let invalid = |detail: String| Problem::new(ProblemCode::InvalidJson, detail);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid(
            "the body is empty; send a JSON object with topic, window_start and window_end".into(),
        ));
    }
    let value: StrictValue = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body is not valid JSON: {error}")))?;
    match value.0 {
        Value::Object(object) => Ok(object),
        other => Err(Problem::fields(vec![(
            ProblemCode::FieldInvalid,
            "",
            format!("the body is {}, but must be a JSON object", kind(&other)),
        )])),
    }
}

/// The flat fields of a form; labels as repeated `label=key:value`.
fn read_form(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let mut object = Map::new();
    let mut labels = Map::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        let twice = || {
            let detail = format!("the form has {} more than once", quoted(&name));
            Problem::fields(vec![(ProblemCode::FieldInvalid, "", detail)])
        };
        if name == "label" {
            let Some((key, value)) = value.split_once(':') else {
                let detail = format!("{} is not key:value", quoted(&value));
                return Err(Problem::fields(vec![(ProblemCode::FieldInvalid, "/label", detail)]));
            };
            if labels.insert(key.to_owned(), value.into()).is_some() {
                return Err(twice());
            }
        } else if object.insert(name.to_string(), value.to_string().into()).is_some() {
            return Err(twice());
        }
    }
    if !labels.is_empty() {
        object.insert("labels".to_owned(), Value::Object(labels));
    }
    Ok(object)
}

fn read_fields(object: &Map<String, Value>, clusters: &[&str]) -> Result<SnapshotRequest, Problem> {
    let mut fields = Fields { object, errors: Vec::new() };
    fields.check_names();
    let topic = fields.topic();
    let start = fields.time("/window_start");
    let end = fields.time("/window_end");
    let window = match (start, end) {
        (Some(start), Some(end)) => fields.window(start, end),
        _ => None,
    };
    let capture = fields.name("/capture", Capture::from_name, &["events", "offsets"]);
    let on_loss = fields.name("/on_loss", OnLoss::from_name, &["report", "fail"]);
    let cluster = fields.cluster(clusters);
    let labels = fields.labels();
    match (topic, window, fields.errors.is_empty()) {
        (Some(topic), Some(window), true) => Ok(SnapshotRequest {
            cluster,
            topic,
            window,
            capture: capture.unwrap_or(Capture::Events),
            on_loss: on_loss.unwrap_or(OnLoss::Report),
            labels: Some(labels),
        }),
        _ => Err(Problem::fields(fields.errors)),
    }
}

struct Fields<'a> {
    object: &'a Map<String, Value>,
    errors: Vec<(ProblemCode, &'static str, String)>,
}

impl<'a> Fields<'a> {
    fn bad(&mut self, pointer: &'static str, detail: impl Into<String>) {
        self.errors.push((ProblemCode::FieldInvalid, pointer, detail.into()));
    }

    fn check_names(&mut self) {
        for name in self.object.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
            self.errors.push((ProblemCode::FieldInvalid, "", unknown("field", name, FIELDS)));
        }
    }

    fn get(&self, pointer: &str) -> Option<&'a Value> {
        self.object.get(&pointer[1..])
    }

    /// The text of a field; `None` if it is missing or, with an error, no text.
    fn text(&mut self, pointer: &'static str) -> Option<&'a str> {
        match self.get(pointer) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.bad(pointer, format!("is {}, but must be a string", kind(other)));
                None
            }
        }
    }

    fn required(&mut self, pointer: &'static str) -> Option<&'a str> {
        if self.get(pointer).is_none() {
            self.bad(pointer, "is missing");
        }
        self.text(pointer)
    }

    fn topic(&mut self) -> Option<TopicName> {
        let name = self.required("/topic")?;
        match TopicName::parse(name) {
            Ok(topic) => Some(topic),
            Err(error @ TopicNameError::Internal) => {
                self.errors.push((ProblemCode::TopicNotAllowed, "/topic", error.to_string()));
                None
            }
            Err(error) => {
                self.bad("/topic", error.to_string());
                None
            }
        }
    }

    fn time(&mut self, pointer: &'static str) -> Option<Timestamp> {
        let text = self.required(pointer)?;
        Timestamp::parse(text).map_err(|error| self.bad(pointer, error.to_string())).ok()
    }

    fn window(&mut self, start: Timestamp, end: Timestamp) -> Option<Window> {
        let window = Window::new(start, end);
        window
            .map_err(|error| {
                self.errors.push((ProblemCode::WindowInvalid, "/window_end", error.to_string()));
            })
            .ok()
    }

    fn name<T>(
        &mut self,
        pointer: &'static str,
        of: fn(&str) -> Option<T>,
        all: &[&str],
    ) -> Option<T> {
        let text = self.text(pointer)?;
        let found = of(text);
        if found.is_none() {
            self.bad(pointer, format!("{} is none of {}", quoted(text), all.join(", ")));
        }
        found
    }

    fn cluster(&mut self, clusters: &[&str]) -> String {
        let name = self.text("/cluster").unwrap_or(DEFAULT_CLUSTER);
        if !clusters.contains(&name) {
            self.bad("/cluster", unknown("cluster", name, clusters));
        }
        name.to_owned()
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let object = match self.get("/labels") {
            None => return BTreeMap::new(),
            Some(Value::Object(object)) => object,
            Some(other) => {
                let detail = format!("is {}, but must be an object of strings", kind(other));
                self.bad("/labels", detail);
                return BTreeMap::new();
            }
        };
        if object.len() > MAX_LABELS {
            self.bad("/labels", format!("has {} labels; {MAX_LABELS} are allowed", object.len()));
            return BTreeMap::new();
        }
        let mut labels = BTreeMap::new();
        for (key, value) in object {
            match label(key, value) {
                Ok(value) => drop(labels.insert(key.clone(), value)),
                Err(detail) => self.bad("/labels", detail),
            }
        }
        labels
    }
}

fn label(key: &str, value: &Value) -> Result<String, String> {
    let Value::String(value) = value else {
        return Err(format!("label {} is {}, but must be a string", quoted(key), kind(value)));
    };
    let length = key.chars().count();
    if !(1..=MAX_LABEL_KEY).contains(&length) || key.contains(':') {
        return Err(format!(
            "label {} needs a key of 1 to {MAX_LABEL_KEY} characters without a colon",
            quoted(key)
        ));
    }
    if value.chars().count() > MAX_LABEL_VALUE {
        return Err(format!("label {} is longer than {MAX_LABEL_VALUE} characters", quoted(key)));
    }
    if key.contains('\0') || value.contains('\0') {
        return Err(format!("label {} holds the character U+0000", quoted(key)));
    }
    Ok(value.clone())
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// JSON in which no object has a key twice: readers disagree on which one counts.
struct StrictValue(Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(StrictValue)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(StrictValue(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, StrictValue(value))) = entries.next_entry::<String, StrictValue>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {} is there twice", quoted(&key))));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(content_type: Option<&str>, body: &[u8]) -> Result<SnapshotRequest, Problem> {
        let mut request = TestRequest::post();
        if let Some(value) = content_type {
            request = request.insert_header((header::CONTENT_TYPE, value));
        }
        snapshot_request(&request.to_http_request(), body, &["default"])
    }

    const GOOD: &str = r#"{"topic":"orders","window_start":"2025-07-29 00:00:00+00:00","window_end":"2025-07-30T00:00:00Z","labels":{"a":"b:c"}}"#;

    #[test]
    fn json_comes_under_many_names() {
        for content_type in [
            None,
            Some("application/json"),
            Some("text/plain; charset=utf-8"),
            Some("application/vnd.x+json"),
            Some("Application/JSON; charset=\"UTF-8\""),
        ] {
            let request = read(content_type, GOOD.as_bytes()).expect("a good request");
            assert_eq!(request.topic.as_str(), "orders");
            assert_eq!(request.capture, Capture::Events);
            assert_eq!(request.labels.expect("labels")["a"], "b:c");
        }
    }

    #[test]
    fn a_form_will_do() {
        let form = |body: &str| read(Some("application/x-www-form-urlencoded"), body.as_bytes());
        let body = "topic=orders&window_start=2025-07-29+00%3A00%3A00%2B00%3A00&window_end=2025-07-30T00:00:00Z&label=a:b:c&on_loss=fail";
        let request = form(body).expect("a good form");
        assert_eq!(request.labels.expect("labels")["a"], "b:c");
        assert_eq!(request.on_loss, OnLoss::Fail);
        for again in ["topic=orders", "label=a:c"] {
            let problem = form(&format!("{body}&{again}")).expect_err(again);
            assert!(problem.detail.contains("more than once"), "{}", problem.detail);
        }
        assert!(form(&format!("{body}&label=c:d")).is_ok());
    }

    #[test]
    fn other_types_are_refused_with_the_fix() {
        for content_type in ["text/html", "application/json; charset=utf-16", "multipart/form-data"]
        {
            let problem = read(Some(content_type), GOOD.as_bytes()).expect_err(content_type);
            assert_eq!(problem.code, ProblemCode::UnsupportedMediaType);
            assert!(problem.detail.contains("application/json"));
        }
    }

    #[test]
    fn bad_json_is_400_and_bad_fields_are_422() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for (body, code) in [
            ("", ProblemCode::InvalidJson),
            ("{", ProblemCode::InvalidJson),
            (r#"{"a":1} x"#, ProblemCode::InvalidJson),
            (r#"{"topic":"a","topic":"b"}"#, ProblemCode::InvalidJson),
            (r#"{"labels":{"a":"1","a":"2"}}"#, ProblemCode::InvalidJson),
            (r#"{"a":NaN}"#, ProblemCode::InvalidJson),
            (r#"{"a":1e400}"#, ProblemCode::InvalidJson),
            (deep.as_str(), ProblemCode::InvalidJson),
            ("\u{feff}{}", ProblemCode::InvalidJson),
            ("null", ProblemCode::FieldInvalid),
            ("[]", ProblemCode::FieldInvalid),
            (r#""x""#, ProblemCode::FieldInvalid),
            ("{}", ProblemCode::FieldInvalid),
            (r#"{"tpoic":"x"}"#, ProblemCode::FieldInvalid),
            (r#"{"topic":1}"#, ProblemCode::FieldInvalid),
        ] {
            assert_eq!(read(None, body.as_bytes()).expect_err(body).code, code, "{body}");
        }
        assert_eq!(read(None, b"\xff\xfe").expect_err("no UTF-8").code, ProblemCode::InvalidJson);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_pointer() {
        let body = r#"{"tpoic":"x","window_start":"2025-07-29","window_end":7,"capture":"x","cluster":"y","labels":{"k":1}}"#;
        let problem = read(None, body.as_bytes()).expect_err("much is wrong");
        let pointers: Vec<&str> = problem.errors.iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["", "/topic", "/window_start", "/window_end", "/capture", "/cluster", "/labels"]
        );
        assert!(problem.detail.contains("did you mean topic?"), "{}", problem.detail);
    }

    #[test]
    fn windows_and_topics_have_codes_of_their_own() {
        let empty = GOOD.replace("2025-07-30", "2025-07-29");
        let problem = read(None, empty.as_bytes()).expect_err("empty window");
        assert_eq!(problem.code, ProblemCode::WindowInvalid);
        assert!(problem.detail.contains("CronDataIntervalTimetable"));
        let internal = GOOD.replace("orders", "__consumer_offsets");
        let problem = read(None, internal.as_bytes()).expect_err("an internal topic");
        assert_eq!(problem.code, ProblemCode::TopicNotAllowed);
    }
}
