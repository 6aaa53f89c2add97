//! A collector as OpenTelemetry's, that keeps what it is sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A span with the process that has sent it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub span: Span,
    pub process: Vec<KeyValue>,
}

pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<Any> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Seen {
    pub fn text(&self, name: &str) -> String {
        match attribute(&self.span.attributes, name) {
            Some(Any::StringValue(text)) => text,
            other => panic!("{name} of {}: {other:?}", self.span.name),
        }
    }

    pub fn number(&self, name: &str) -> i64 {
        match attribute(&self.span.attributes, name) {
            Some(Any::IntValue(number)) => number,
            other => panic!("{name} of {}: {other:?}", self.span.name),
        }
    }

    /// The names of its attributes, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.span.attributes.iter().map(|a| a.key.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub fn instance(&self) -> Any {
        attribute(&self.process, "service.instance.id").expect("an instance")
    }

    pub fn has_parent(&self, parent: &Seen) -> bool {
        self.span.parent_span_id == parent.span.span_id
    }
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
pub struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    pub bodies: Arc<Mutex<Vec<u8>>>,
    pub headers: Arc<Mutex<Vec<String>>>,
    /// Where it sends everybody instead of taking spans.
    pub elsewhere: Arc<Mutex<Option<String>>>,
    pub url: String,
}

impl Collector {
    pub fn start() -> Self {
        let mut collector = Collector::default();
        let kept = collector.clone();
        let server = HttpServer::new(move || {
            let kept = web::Data::new(kept.clone());
            App::new().app_data(kept).route("/v1/traces", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
        collector.url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        collector
    }

    pub fn all(&self) -> Vec<Seen> {
        self.spans.lock().expect("nobody panicked").clone()
    }

    pub fn of_trace(&self, trace: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| hex(&seen.span.trace_id) == trace).collect()
    }

    /// Waits for a span.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..6000 {
            if let Some(seen) = self.all().into_iter().find(|seen| wanted(seen)) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let names: Vec<_> = self.all().into_iter().map(|seen| seen.span.name).collect();
        panic!("no span of {what} comes: {names:?}");
    }
}

async fn take(
    kept: web::Data<Collector>,
    request: actix_web::HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    let elsewhere = kept.elsewhere.lock().expect("nobody panicked").clone();
    if let Some(elsewhere) = elsewhere {
        return HttpResponse::TemporaryRedirect().insert_header(("location", elsewhere)).finish();
    }
    let authorization = header("authorization");
    kept.headers.lock().expect("nobody").extend(authorization.map(str::to_owned));
    kept.bodies.lock().expect("nobody").extend(&body);
    let sent = ExportTraceServiceRequest::decode(body).expect("what OTLP says");
    for resource in sent.resource_spans {
        let process = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let seen = Seen { span, process: process.clone() };
            kept.spans.lock().expect("nobody panicked").push(seen);
        }
    }
    HttpResponse::Ok().content_type("application/x-protobuf").finish()
}
