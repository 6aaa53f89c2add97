//! Traces: spans go to an OpenTelemetry collector, by OTLP over HTTP, and are in nobody's way.
//! A span that finds the queue full is dropped and counted; what the collector does not take is
//! too; and at the end no more than a moment is waited for it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response};
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor,
};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::settings::{Collector, VERSION};
use crate::trace;

/// How many spans may wait for the collector.
const QUEUE: usize = 4096;
const MAX_BATCH: usize = 512;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch, and for all that is left at the end.
const EXPORT_WITHIN: Duration = Duration::from_secs(10);
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// What is told of a span: what has one of our names on the left, under the name on the right. All
/// else stays here: what callers have written and what events hold is no collector's business.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("attempt", "strandline.attempt"),
    ("bytes", "strandline.bytes"),
    ("code", "error.type"),
    ("files", "strandline.files"),
    ("lost_offsets", "strandline.lost_offsets"),
    ("method", "http.request.method"),
    ("offsets", "strandline.offsets"),
    ("outcome", "strandline.outcome"),
    ("partitions", "strandline.partitions"),
    ("phase", "strandline.phase"),
    ("ranges", "strandline.ranges"),
    ("records", "strandline.records"),
    ("route", "http.route"),
    ("run", "strandline.run"),
    ("snapshot_id", "strandline.snapshot_id"),
    ("status", "http.response.status_code"),
    ("task", "strandline.task"),
    ("topic", "messaging.destination.name"),
];

/// Traces that are on. Stops sending when it is finished.
pub struct Traces {
    stopping: CancellationToken,
    sending: JoinHandle<()>,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send. To be called within the runtime.
    pub(super) fn start(collector: &Collector, replica: &str) -> Result<Self, String> {
        let resource = Resource::builder()
            .with_service_name(collector.service_name.clone())
            .with_attribute(KeyValue::new("service.version", VERSION))
            .with_attribute(KeyValue::new("service.instance.id", replica.to_owned()))
            .build();
        let exporter = exporter(collector, &resource)?;
        let (sender, spans) = mpsc::channel(QUEUE);
        let stopping = CancellationToken::new();
        let sending = tokio::spawn(send(exporter, spans, stopping.clone()));
        let queue = Queue { sender };
        let of_runs = queue.clone();
        trace::turn_on(collector.sampler.clone(), move |span| of_runs.on_end(span));
        let provider = SdkTracerProvider::builder()
            .with_sampler(collector.sampler.clone())
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        Ok(Traces { stopping, sending, provider })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("strandline")
    }

    /// Sends what is left, for a moment.
    pub async fn finish(self) {
        self.stopping.cancel();
        if timeout(FLUSH_WITHIN, self.sending).await.is_err() {
            tracing::warn!("the collector does not take the last spans; they are dropped");
        }
    }
}

fn exporter(collector: &Collector, resource: &Resource) -> Result<SpanExporter, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .timeout(EXPORT_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let client = Client { http, headers: collector.headers.clone() };
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(collector.traces_url.as_str())
        .with_timeout(EXPORT_WITHIN)
        .build()
        .map_err(|error| error.to_string())?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// The library's client, with the headers of our settings: the library looks for more in the
/// environment by itself, and what it finds there goes before what it is told.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    headers: HeaderMap,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut headers = self.headers.clone();
        for of_the_body in [CONTENT_TYPE, CONTENT_ENCODING] {
            if let Some(value) = request.headers_mut().remove(&of_the_body) {
                headers.insert(of_the_body, value);
            }
        }
        *request.headers_mut() = headers;
        self.http.send_bytes(request).await
    }
}

/// Takes spans that have ended, and never waits.
#[derive(Clone, Debug)]
struct Queue {
    sender: Sender<SpanData>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(told(span)).is_err() {
            metrics::spans_dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The span as it may be told: only what [`ATTRIBUTES`] names, under the names that others know.
fn told(mut span: SpanData) -> SpanData {
    span.attributes.retain_mut(|attribute| {
        let told = ATTRIBUTES.iter().find(|(ours, _)| *ours == attribute.key.as_str());
        if let Some((_, theirs)) = told {
            attribute.key = (*theirs).into();
        }
        told.is_some()
    });
    span.events = Default::default();
    let text = |name: &str| {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.as_str().into_owned())
    };
    let (method, route) = (text("http.request.method"), text("http.route"));
    let (code, phase) = (text("error.type"), text("strandline.phase"));
    let status = span.attributes.iter().find(|a| a.key.as_str() == "http.response.status_code");
    let failed = matches!(status.map(|a| &a.value), Some(Value::I64(500..)));
    span.status = match code {
        Some(code) => Status::error(code),
        None if failed => Status::error(""),
        None => Status::Unset,
    };
    match (method, route, phase) {
        (Some(method), Some(route), _) => {
            span.name = format!("{method} {route}").into();
            span.span_kind = SpanKind::Server;
        }
        (_, _, Some(phase)) if span.name == "task" => span.name = phase.into(),
        _ => {}
    }
    span
}

/// Sends batch after batch, until told to stop and nothing is left.
async fn send(exporter: SpanExporter, mut spans: Receiver<SpanData>, stopping: CancellationToken) {
    while let Some(batch) = gather(&mut spans, &stopping).await {
        let number = batch.len() as u64;
        let failed = match timeout(EXPORT_WITHIN, exporter.export(batch)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", EXPORT_WITHIN.as_secs()),
        };
        metrics::spans_dropped("not_taken", number);
        tracing::warn!(spans = number, error = failed, "the collector did not take spans");
    }
}

/// The next batch; `None` when there is none to come.
async fn gather(
    spans: &mut Receiver<SpanData>,
    stopping: &CancellationToken,
) -> Option<Vec<SpanData>> {
    let mut batch = Vec::new();
    tokio::select! {
        _ = spans.recv_many(&mut batch, MAX_BATCH) => {}
        () = stopping.cancelled() => spans.close(),
    }
    let until = Instant::now() + GATHER;
    while batch.len() < MAX_BATCH {
        let room = MAX_BATCH - batch.len();
        tokio::select! {
            more = timeout_at(until, spans.recv_many(&mut batch, room)) => match more {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            },
            () = stopping.cancelled(), if !spans.is_closed() => spans.close(),
        }
    }
    (!batch.is_empty()).then_some(batch)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _};

    use super::*;

    /// A provider whose spans go into a queue of this size.
    fn tracer(room: usize) -> (SdkTracer, Receiver<SpanData>) {
        let (sender, spans) = mpsc::channel(room);
        let provider = SdkTracerProvider::builder().with_span_processor(Queue { sender });
        (provider.build().tracer("test"), spans)
    }

    fn end(tracer: &SdkTracer, name: &'static str, attributes: &[(&'static str, Value)]) {
        let mut span = tracer.start(name);
        for (name, value) in attributes {
            span.set_attribute(KeyValue::new(*name, value.clone()));
        }
        span.add_event("what somebody has said", Vec::new());
        span.end();
    }

    #[test]
    fn only_what_is_named_is_told() {
        let (tracer, mut spans) = tracer(9);
        let text = |text: &'static str| Value::from(text);
        let attributes = [
            ("method", text("POST")),
            ("route", text("/v1/snapshots")),
            ("status", Value::I64(503)),
            ("path", text("/v1/snapshots?token=secret")),
            ("caller", text("me")),
        ];
        end(&tracer, "request", &attributes);
        let request = spans.try_recv().expect("a span");
        let names: Vec<_> = request.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(names, ["http.request.method", "http.route", "http.response.status_code"]);
        assert_eq!(
            (request.name.as_ref(), request.span_kind),
            ("POST /v1/snapshots", SpanKind::Server)
        );
        assert!(request.events.is_empty() && request.status == Status::error(""));
        end(&tracer, "request", &[("status", Value::I64(404))]);
        let refused = spans.try_recv().expect("a span");
        assert_eq!(refused.status, Status::Unset, "that is the caller's error");
        end(&tracer, "task", &[("phase", text("read")), ("code", text("KAFKA_AUTH"))]);
        let task = spans.try_recv().expect("a span");
        assert_eq!((task.name.as_ref(), task.status), ("read", Status::error("KAFKA_AUTH")));
    }

    #[test]
    fn a_span_that_finds_the_queue_full_is_dropped_and_counted() {
        let (tracer, mut spans) = tracer(2);
        let counters = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        ::metrics::with_local_recorder(&counters, || {
            (0..5).for_each(|_| end(&tracer, "task", &[]));
        });
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_ok());
        assert!(spans.try_recv().is_err());
        let counted = counters.handle().render();
        assert!(counted.contains("spans_dropped_total{reason=\"queue_full\"} 3\n"), "{counted}");
    }

    #[tokio::test]
    async fn what_is_left_when_told_to_stop_is_gathered_to_the_last() {
        let (tracer, mut spans) = tracer(MAX_BATCH + 10);
        (0..MAX_BATCH + 3).for_each(|_| end(&tracer, "task", &[]));
        let stopping = CancellationToken::new();
        stopping.cancel();
        let mut sizes = Vec::new();
        while let Some(batch) = gather(&mut spans, &stopping).await {
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [MAX_BATCH, 3]);
    }
}
