//! Numbers: percentiles, the table that people read and the file that programs read.

use std::time::Duration;

use serde_json::{Value, json};

/// Times, to be sorted.
#[derive(Clone, Default)]
pub struct Latencies {
    micros: Vec<u64>,
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        self.micros.push(took.as_micros() as u64);
    }

    pub fn extend(&mut self, other: &Latencies) {
        self.micros.extend(&other.micros);
    }

    pub fn count(&self) -> u64 {
        self.micros.len() as u64
    }

    /// Milliseconds of which a part of the times is not longer; 1.0 is the longest.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map_or(0.0, |micros| *micros as f64 / 1000.0)
    }

    pub fn json(&self) -> Value {
        json!({
            "count": self.count(),
            "p50_ms": self.quantile(0.50),
            "p90_ms": self.quantile(0.90),
            "p99_ms": self.quantile(0.99),
            "max_ms": self.quantile(1.0),
        })
    }
}

/// A figure to reach.
pub struct Figure {
    pub what: String,
    pub at_most: f64,
    pub measured: f64,
}

impl Figure {
    pub fn verdict(&self) -> &'static str {
        if self.measured <= self.at_most { "reached" } else { "missed" }
    }
}

/// All that is measured.
#[derive(Default)]
pub struct Report {
    document: serde_json::Map<String, Value>,
    figures: Vec<Figure>,
    errors: u64,
}

impl Report {
    pub fn set(&mut self, name: &str, value: Value) {
        self.document.insert(name.to_owned(), value);
    }

    /// Prints a line of the table of latencies, and notes what was wrong.
    pub fn line(
        &mut self,
        name: &str,
        times: &Latencies,
        errors: u64,
        example: Option<&str>,
        rest: &str,
    ) {
        println!(
            "{name:<24} {:>7} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {errors:>7}  {rest}",
            times.count(),
            times.quantile(0.50),
            times.quantile(0.90),
            times.quantile(0.99),
            times.quantile(1.0),
        );
        self.errors += errors;
        if let Some(example) = example {
            println!("    {}", example.chars().take(400).collect::<String>());
        }
    }

    pub fn count_errors(&mut self, errors: u64) {
        self.errors += errors;
    }

    pub fn figure(&mut self, what: String, at_most: f64, measured: f64) {
        self.figures.push(Figure { what, at_most, measured });
    }

    /// Prints what was reached and writes the file. Gives the number of errors.
    pub fn finish(mut self, path: &str) -> std::io::Result<u64> {
        println!("\n{:<56} {:>8} {:>9}", "figure (milliseconds)", "at most", "measured");
        for figure in &self.figures {
            println!(
                "{:<56} {:>8.1} {:>9.2}  {}",
                figure.what,
                figure.at_most,
                figure.measured,
                figure.verdict()
            );
        }
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|f| json!({"what": f.what, "at_most_ms": f.at_most, "measured_ms": f.measured, "verdict": f.verdict()}))
            .collect();
        self.set("figures", json!(figures));
        self.set("errors", json!(self.errors));
        let text = serde_json::to_string_pretty(&self.document).unwrap_or_default();
        std::fs::write(path, text + "\n")?;
        println!("\n{} errors; all numbers: {path}", self.errors);
        Ok(self.errors)
    }
}

/// The head of the table of latencies.
pub fn head(title: &str) {
    println!(
        "\n{title:<24} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "count", "p50", "p90", "p99", "max", "errors"
    );
}
