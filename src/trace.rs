//! Where a piece of work stands in a trace: the caller's, by the header `traceparent` of W3C
//! Trace Context, which is kept with the run that was asked for, so that whichever replica does
//! the work goes on with it.
//!
//! ```text
//! the caller's span > POST /v1/snapshots > run > plan, read …, finish > kafka.look …
//! ```
//!
//! A run is worked on by many replicas, some of which die. Its span therefore has an id that
//! follows from the run's, and is sent by whoever ends the run. A run that nobody asked for is a
//! trace of its own.

use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
};
use sha2::{Digest, Sha256};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

/// What decides about traces and takes spans; empty where traces are off.
static TRACER: OnceLock<Tracer> = OnceLock::new();

struct Tracer {
    sampler: Sampler,
    send: Box<dyn Fn(SpanData) + Send + Sync>,
}

/// Says that there are traces from now on.
pub fn turn_on(sampler: Sampler, send: impl Fn(SpanData) + Send + Sync + 'static) {
    let _ = TRACER.set(Tracer { sampler, send: Box::new(send) });
}

/// A span somewhere else that ours belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

impl TraceParent {
    /// Reads the header's value; `None` for what is not well-formed, as the standard has it.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.trim().split('-');
        let [version, trace_id, span_id, flags] = std::array::from_fn(|_| parts.next());
        let (version, trace_id, span_id, flags) = (version?, trace_id?, span_id?, flags?);
        // Later versions may have more parts.
        let ended = version != "00" || parts.next().is_none();
        let lengths = [version.len(), trace_id.len(), span_id.len(), flags.len()];
        let all_hex = [version, trace_id, span_id, flags].into_iter().all(hex);
        if !ended || version == "ff" || lengths != [2, 32, 16, 2] || !all_hex {
            return None;
        }
        let parent = TraceParent {
            trace_id: TraceId::from_hex(trace_id).ok()?,
            span_id: SpanId::from_hex(span_id).ok()?,
            flags: TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        };
        let zero = parent.trace_id == TraceId::INVALID || parent.span_id == SpanId::INVALID;
        (!zero).then_some(parent)
    }

    /// A span of ours; `None` if it is in no trace.
    fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let context = context.span().span_context().clone();
        let (trace_id, span_id) = (context.trace_id(), context.span_id());
        context.is_valid().then_some(TraceParent {
            trace_id,
            span_id,
            flags: context.trace_flags(),
        })
    }

    fn context(&self) -> Context {
        let TraceParent { trace_id, span_id, flags } = *self;
        let state = TraceState::default();
        Context::new()
            .with_remote_span_context(SpanContext::new(trace_id, span_id, flags, true, state))
    }

    /// Makes a span that has not begun yet a child. Its field `trace_id` is for the log, also
    /// where traces are off.
    fn adopt(&self, span: &Span) {
        // That can't be done where traces are off, and need not be.
        let _ = span.set_parent(self.context());
        span.record("trace_id", tracing::field::display(self.trace_id));
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8())
    }
}

/// Puts a request's span into the caller's trace, if it names one. Gives what work that the
/// request asks for belongs to.
pub fn request(span: &Span, caller: Option<&str>) -> Option<TraceParent> {
    let caller = caller.and_then(TraceParent::parse);
    if let Some(caller) = &caller {
        caller.adopt(span);
    }
    let own = TRACER.get().and_then(|_| TraceParent::of(span));
    if let (Some(own), None) = (&own, &caller) {
        span.record("trace_id", tracing::field::display(own.trace_id));
    }
    own.or(caller)
}

/// A run's place in its trace.
#[derive(Clone, Copy, Debug)]
pub struct RunTrace {
    /// The run's own span, to which those of its tasks belong.
    own: TraceParent,
    parent: SpanId,
}

impl RunTrace {
    /// The trace of a run that was asked for in `stored`; `None` if there is none.
    pub fn of(snapshot_id: Uuid, run: i32, stored: Option<&str>) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(snapshot_id.as_bytes());
        hash.update(run.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut span_id = [0; 8];
        span_id.copy_from_slice(&hash[16..24]);
        let span_id = SpanId::from_bytes(span_id);
        if let Some(asked) = stored.and_then(TraceParent::parse) {
            let own = TraceParent { span_id, ..asked };
            return Some(RunTrace { own, parent: asked.span_id });
        }
        let tracer = TRACER.get()?;
        let mut trace_id = [0; 16];
        trace_id.copy_from_slice(&hash[..16]);
        let trace_id = TraceId::from_bytes(trace_id);
        let flags = match sampled(&tracer.sampler, None, trace_id) {
            true => TraceFlags::SAMPLED,
            false => TraceFlags::default(),
        };
        let own = TraceParent { trace_id, span_id, flags };
        Some(RunTrace { own, parent: SpanId::INVALID })
    }

    /// Makes a task's span, which has not begun yet, a part of the run.
    pub fn adopt(&self, span: &Span) {
        self.own.adopt(span);
    }

    /// The trace's id, as the log has it.
    pub fn trace_id(&self) -> String {
        self.own.trace_id.to_string()
    }

    /// Sends the span of the run, which has ended.
    pub fn ended(
        &self,
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
    ) {
        let Some(tracer) = TRACER.get() else { return };
        let parent = TraceParent { span_id: self.parent, ..self.own };
        let asked = self.parent != SpanId::INVALID;
        let parent_context = asked.then(|| parent.context());
        if !sampled(&tracer.sampler, parent_context.as_ref(), self.own.trace_id) {
            return;
        }
        let TraceParent { trace_id, span_id, .. } = self.own;
        let state = TraceState::default();
        (tracer.send)(SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, state),
            parent_span_id: self.parent,
            parent_span_is_remote: asked,
            span_kind: SpanKind::Internal,
            name: "run".into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("strandline").build(),
        });
    }
}

/// The same answer on every replica, as long as all have the same settings.
fn sampled(sampler: &Sampler, parent: Option<&Context>, trace_id: TraceId) -> bool {
    let result = sampler.should_sample(parent, trace_id, "run", &SpanKind::Internal, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_header_is_read_and_written_as_it_was() {
        for text in [GOOD, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"] {
            assert_eq!(TraceParent::parse(text).expect("good").to_string(), text);
        }
        let later = format!("cc{}-what-ever", &GOOD[2..]);
        assert_eq!(TraceParent::parse(&later), TraceParent::parse(GOOD));
        // Other flags are nobody's business yet.
        let flags = format!("{}ff", &GOOD[..53]);
        assert_eq!(TraceParent::parse(&flags), TraceParent::parse(GOOD));
    }

    #[test]
    fn what_is_not_well_formed_is_none() {
        let long = "a".repeat(10_000);
        for text in [
            "",
            "00",
            &long,
            &GOOD[1..],
            &GOOD.to_uppercase(),
            &format!("ff{}", &GOOD[2..]),
            &format!("{GOOD}-more"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("4bf92f", "+bf92f"),
            &GOOD.replace("4bf92f", "4bf9ä"),
            &GOOD.replace('-', "_"),
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_replica_finds_the_same_span_of_a_run() {
        let id = Uuid::from_u128(7);
        let place = |run| RunTrace::of(id, run, Some(GOOD)).expect("a trace");
        assert_eq!(place(1).own, place(1).own);
        assert_ne!(place(1).own, place(2).own);
        assert_eq!(place(1).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(place(1).parent, SpanId::from_hex("00f067aa0ba902b7").expect("an id"));
        // Nobody asked, and traces are off.
        assert!(RunTrace::of(id, 1, None).is_none());
    }
}
