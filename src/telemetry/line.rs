//! How an event becomes a line: for people, or as JSON, flat, with the fields of the spans that
//! it happened in. Either way it is one line of at most [`MAX_LINE_BYTES`].

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::limit;
use crate::settings::VERSION;

/// The longest line, its end included.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// What one text of a JSON line may take. The next one counts where the line is too long all the
/// same; with the last one it can't be, however many fields there are and whatever is escaped.
const MAX_FIELD_BYTES: [usize; 3] = [8 * 1024, 1024, 64];

/// Lines for people.
pub(super) struct TextLine(Format);

impl TextLine {
    pub(super) fn new(ansi: bool) -> Self {
        TextLine(Format::default().with_ansi(ansi))
    }
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(left_out) = limit::admit(event) else { return Ok(()) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // What somebody else has said may have line breaks.
        let mut line = line.trim_end().replace('\n', "\\n").replace('\r', "\\r");
        if line.len() > MAX_LINE_BYTES - 64 {
            line = shortened(&line, MAX_LINE_BYTES - 64);
        }
        match left_out {
            0 => writeln!(writer, "{line}"),
            left_out => writeln!(writer, "{line} left_out={left_out}"),
        }
    }
}

/// JSON lines.
pub(super) struct JsonLine {
    replica: &'static str,
}

impl JsonLine {
    pub(super) fn new(replica: &'static str) -> Self {
        JsonLine { replica }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(left_out) = limit::admit(event) else { return Ok(()) };
        let of_log = event.normalized_metadata();
        let metadata = of_log.as_ref().unwrap_or_else(|| event.metadata());
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.insert("message".to_owned(), Value::Null);
        event.record(&mut Fields(&mut line));
        if left_out > 0 {
            line.insert("left_out".to_owned(), left_out.into());
        }
        // The event's own fields count, then those of the innermost span.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| fields.as_str());
            let fields = fields.and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
            for (name, value) in fields.into_iter().flatten() {
                line.entry(name).or_insert(value);
            }
        }
        line.insert("version".to_owned(), VERSION.into());
        line.insert("replica".to_owned(), self.replica.into());
        writeln!(writer, "{}", fitting(line))
    }
}

/// The event's constant text.
pub(super) fn message_of(event: &Event<'_>) -> String {
    let mut fields = Map::new();
    event.record(&mut Fields(&mut fields));
    fields.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // These tell of the bridge between two libraries; the line has their values.
        if !field.name().starts_with("log.") {
            self.0.insert(field.name().to_owned(), value.into());
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

/// The line as text, its texts shortened until it fits.
fn fitting(mut line: Map<String, Value>) -> String {
    for longest in MAX_FIELD_BYTES {
        for value in line.values_mut() {
            if let Value::String(text) = value
                && text.len() > longest
            {
                *text = shortened(text, longest);
            }
        }
        let text = serde_json::to_string(&line).unwrap_or_default();
        if text.len() < MAX_LINE_BYTES {
            return text;
        }
    }
    String::new()
}

fn shortened(text: &str, longest: usize) -> String {
    format!("{}…", &text[..text.floor_char_boundary(longest)])
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().expect("nobody panicked").clone();
            String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
        }
    }

    fn as_json(work: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let lines = tracing_subscriber::fmt().with_writer(written.clone());
        let lines = lines.fmt_fields(JsonFields::new()).event_format(JsonLine::new("host:1"));
        tracing::subscriber::with_default(lines.finish(), work);
        let parse = |line: &String| {
            assert!(line.len() < MAX_LINE_BYTES, "{} bytes", line.len());
            serde_json::from_str(line).expect("JSON")
        };
        written.lines().iter().map(parse).collect()
    }

    fn as_text(work: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let lines = tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false);
        let lines = lines.with_max_level(tracing::Level::DEBUG);
        let lines = lines.event_format(TextLine::new(false));
        tracing::subscriber::with_default(lines.finish(), work);
        written.lines()
    }

    #[test]
    fn a_json_line_is_flat_and_the_innermost_field_counts() {
        let lines = as_json(|| {
            let request = tracing::info_span!("request", request_id = "r", topic = "outer");
            let task = tracing::info_span!(parent: &request, "task", topic = "inner", late = tracing::field::Empty);
            task.record("late", 7);
            task.in_scope(|| tracing::info!(records = 3_u64, ok = true, share = 0.5, "planned"));
        });
        let mut line = lines[0].clone();
        let taken = line.as_object_mut().expect("an object");
        let timestamp = taken.remove("timestamp").expect("a time");
        assert!(timestamp.as_str().is_some_and(|time| time.ends_with('Z')), "{timestamp}");
        assert_eq!(
            line,
            serde_json::json!({
                "level": "INFO", "target": "strandline::telemetry::line::tests",
                "message": "planned", "records": 3, "ok": true, "share": 0.5,
                "topic": "inner", "late": 7, "request_id": "r",
                "version": VERSION, "replica": "host:1",
            })
        );
    }

    #[test]
    fn long_texts_are_shortened_and_the_line_stays_json() {
        let (long, escaped) = ("ä".repeat(100_000), "\u{1}".repeat(100_000));
        let lines = as_json(|| {
            tracing::info!(long, short = "s", "first");
            tracing::info!(a = escaped, b = escaped, c = escaped, "second");
        });
        assert_eq!((&lines[0]["short"], &lines[0]["message"]), (&"s".into(), &"first".into()));
        let kept = lines[0]["long"].as_str().expect("a text");
        assert!(kept.ends_with("ä…") && kept.len() >= MAX_FIELD_BYTES[0], "{}", kept.len());
        assert!(lines[1]["a"].as_str().is_some_and(|text| text.starts_with('\u{1}')));
    }

    #[test]
    fn nothing_breaks_a_line_for_people() {
        let lines = as_text(|| {
            tracing::info!(error = %"one\r\ntwo", "first");
            tracing::info!("x{}", "y".repeat(100_000));
        });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("first error=one\\r\\ntwo"), "{}", lines[0]);
        assert!(lines[1].ends_with("y…") && lines[1].len() < MAX_LINE_BYTES);
    }

    /// Tests that look at what is left out end the windows of all messages.
    static WINDOWS: Mutex<()> = Mutex::new(());

    #[test]
    fn what_floods_is_left_out_but_not_what_every_line_of_counts() {
        let _alone = WINDOWS.lock().expect("nobody panicked");
        let texts = as_text(|| {
            (0..200).for_each(|number| tracing::info!(number, "a flood"));
            (0..200).for_each(|number| tracing::info!(name: "snapshot_finished", number, "kept"));
            (0..200).for_each(|number| tracing::debug!(number, "asked for"));
            limit::tell_left_out_so_far();
            limit::tell_left_out_so_far();
        });
        let count = |part: &str| texts.iter().filter(|line| line.contains(part)).count();
        assert_eq!((count(" a flood "), count(" kept "), count(" asked for ")), (50, 200, 200));
        let flood =
            "left_out=150 of_message=\"a flood\" of_target=\"strandline::telemetry::line::tests\"";
        assert_eq!(count(flood), 1, "{:?}", texts.last());
    }

    #[test]
    fn the_next_line_of_a_message_tells_what_was_left_out_before_it() {
        let _alone = WINDOWS.lock().expect("nobody panicked");
        let say = || tracing::error!("again and again");
        let json = as_json(|| {
            (0..60).for_each(|_| say());
            limit::end_windows();
            say();
        });
        assert_eq!((json.len(), &json[50]["left_out"]), (51, &10.into()));
        assert!(json[49].get("left_out").is_none(), "{}", json[49]);
        let text = as_text(|| {
            (0..60).for_each(|_| say());
            limit::end_windows();
            say();
        });
        let last = text.last().expect("a line");
        assert!(last.ends_with("again and again left_out=11"), "{last}");
    }

    /// Says something as a library does that uses `log`.
    fn log(module: &str, text: fmt::Arguments<'_>) {
        let record = tracing_log::log::Record::builder()
            .level(tracing_log::log::Level::Warn)
            .target(module)
            .args(text)
            .build();
        tracing_log::format_trace(&record).expect("dispatched");
    }

    #[test]
    fn libraries_that_use_log_have_their_own_targets_and_limits() {
        let _alone = WINDOWS.lock().expect("nobody panicked");
        let lines = as_json(|| {
            (0..51).for_each(|number| log("noisy", format_args!("{number}")));
            log("calm", format_args!("all is well"));
            limit::tell_left_out_so_far();
        });
        assert_eq!(lines.len(), 52, "{lines:?}");
        let calm = &lines[50];
        assert_eq!((&calm["target"], &calm["level"]), (&"calm".into(), &"WARN".into()));
        assert_eq!(calm["message"], "all is well");
        assert!(
            calm.as_object().is_some_and(|line| line.keys().all(|name| !name.contains("log.")))
        );
        assert_eq!((&lines[51]["left_out"], &lines[51]["of_target"]), (&1.into(), &"noisy".into()));
    }
}
