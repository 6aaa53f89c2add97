//! One line on the terminal: how far a snapshot is, or what it waits for.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::snapshot::Failure;

/// Until the plan is there, nobody knows how much there is to do. The message comes last and
/// is cut off where the terminal ends: an error is often longer.
const UNPLANNED: &str = "{spinner} {wide_msg}";
const PLANNED: &str = "[{bar:32}] {percent:>3} %  {pos}/{len} offsets  {wide_msg}";

/// The line. It shows nothing where standard error is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    planned: bool,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style(UNPLANNED));
        Bar { bar, planned: false }
    }

    /// Shows the state and, once there is a plan, how many of how many offsets are done.
    pub(super) fn show(
        &mut self,
        state: &'static str,
        last_error: Option<&Failure>,
        done: i64,
        total: Option<i64>,
    ) {
        if self.planned != total.is_some() {
            self.planned = total.is_some();
            self.bar.set_style(style(if self.planned { PLANNED } else { UNPLANNED }));
        }
        if let Some(total) = total {
            self.bar.set_length(total.unsigned_abs());
            self.bar.set_position(done.unsigned_abs());
        }
        let message = match last_error {
            Some(error) => format!("retrying after {error}"),
            None => state.to_owned(),
        };
        self.bar.set_message(message);
        self.bar.tick();
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::snapshot::FailureKind;

    #[test]
    fn the_line_fits_and_says_what_is_waited_for() {
        let terminal = InMemoryTerm::new(5, 80);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut bar = Bar::on(target);
        let error = Failure::new(FailureKind::KafkaUnavailable, "no broker answers ".repeat(20));
        bar.show("running", Some(&error), 0, None);
        let line = terminal.contents();
        assert!(line.contains("retrying after KAFKA_UNAVAILABLE: no broker"), "{line}");
        assert!(!line.contains('%') && line.lines().count() == 1, "{line}");

        bar.show("running", None, 30, Some(120));
        let line = terminal.contents();
        assert!(line.contains("25 %  30/120 offsets  running"), "{line}");
        bar.show("running", Some(&error), 60, Some(120));
        let line = terminal.contents();
        assert!(line.contains("60/120") && line.lines().count() == 1, "{line}");
        bar.clear();
        assert_eq!(terminal.contents(), "");
    }
}
