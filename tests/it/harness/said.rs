//! How often something was logged by what ran under our eyes.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Counts the lines with one message.
#[derive(Clone)]
pub struct Said {
    message: &'static str,
    times: Arc<AtomicUsize>,
}

impl Said {
    pub fn of(message: &'static str) -> Self {
        Said { message, times: Arc::default() }
    }

    /// Where to log to, to be counted.
    pub fn log(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.clone()))
    }

    pub fn times(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message(self));
    }
}

struct Message<'a>(&'a Said);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" && format!("{value:?}") == self.0.message {
            self.0.times.fetch_add(1, Ordering::Relaxed);
        }
    }
}
