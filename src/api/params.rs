//! Query parameters: every one is known, none is there twice unless it may be.

use std::collections::BTreeMap;

use actix_web::HttpRequest;

use super::problem::{Problem, ProblemCode};
use crate::snapshot::Timestamp;

/// The page size if none is asked for, and the largest.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

/// More parameters than any request has a use for.
const MAX_PARAMS: usize = 100;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params {
    values: Vec<(String, String)>,
}

impl Params {
    /// Reads the query; only `known` names may occur.
    pub(super) fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        let values: Vec<(String, String)> =
            url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
        if values.len() > MAX_PARAMS {
            return Err(Problem::new(
                ProblemCode::InvalidParameter,
                format!("the query has {} parameters; {MAX_PARAMS} are allowed", values.len()),
            ));
        }
        for (name, _) in &values {
            if !known.contains(&name.as_str()) {
                return Err(Problem::parameter(name, unknown("parameter", name, known)));
            }
        }
        Ok(Params { values })
    }

    /// All values of a parameter that may be repeated.
    pub(super) fn many(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be there once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.many(name);
        let value = values.next();
        match values.next() {
            Some(_) => Err(Problem::parameter(name, "is there more than once")),
            None => Ok(value),
        }
    }

    /// A whole number within limits.
    pub(super) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        match self.at_least(name, least)? {
            Some(number) if number > most => Err(Problem::parameter(
                name,
                format!("{number} is not a whole number from {least} to {most}"),
            )),
            number => Ok(number),
        }
    }

    /// A whole number; one that is too large for us is as good as the largest.
    pub(super) fn at_least(&self, name: &str, least: i64) -> Result<Option<i64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<i64>() {
            Ok(number) if number >= least => Ok(Some(number)),
            Err(_) if digits => Ok(Some(i64::MAX)),
            _ => Err(Problem::parameter(
                name,
                format!("{} is not a whole number from {least} on", quoted(text)),
            )),
        }
    }

    /// The page size: the default if none is given, at most the largest.
    pub(super) fn limit(&self) -> Result<i64, Problem> {
        let limit = self.at_least("limit", 1)?;
        Ok(limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT))
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let time = Timestamp::parse(&with_offset(text));
        Ok(Some(time.map_err(|error| Problem::parameter(name, error))?))
    }

    /// As [`Params::time`], but it must be there.
    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, Problem> {
        self.time(name)?.ok_or_else(|| Problem::parameter(name, "is missing"))
    }

    /// One of a closed list of names.
    pub(super) fn name<T: Copy>(
        &self,
        name: &str,
        of: fn(&str) -> Option<T>,
        all: &[&str],
    ) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| one_of(name, text, of, all)).transpose()
    }

    /// Names of a closed list; the parameter may be repeated.
    pub(super) fn names<T: Copy>(
        &self,
        name: &str,
        of: fn(&str) -> Option<T>,
        all: &[&str],
    ) -> Result<Vec<T>, Problem> {
        self.many(name).map(|text| one_of(name, text, of, all)).collect()
    }

    /// `label=key:value`, repeated; split at the first colon.
    pub(super) fn labels(&self) -> Result<BTreeMap<String, String>, Problem> {
        self.many("label")
            .map(|label| {
                let split = label.split_once(':');
                let (key, value) = split.ok_or_else(|| {
                    Problem::parameter("label", format!("{} is not key:value", quoted(label)))
                })?;
                if label.contains('\0') {
                    return Err(Problem::parameter("label", "holds the character U+0000"));
                }
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect()
    }

    /// A cursor that we gave out.
    pub(super) fn cursor<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.one("cursor")? else { return Ok(None) };
        let cursor = decode_cursor(text).and_then(|text| read(&text));
        let bad = || Problem::parameter("cursor", "is none that this list gave out; start without");
        cursor.map(Some).ok_or_else(bad)
    }
}

/// A time's text as RFC 3339 has it. In a query a `+` arrives as a space; and generated clients
/// write the offset as `+0000` (openapi-generator in Python) or ` +00:00` (in Rust).
fn with_offset(text: &str) -> String {
    let mut text = text.to_owned();
    // Behind the date and the hour. Digits and the rest are single bytes where a shape matches.
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = text.chars().skip(13).map(digit).collect();
    if shape.ends_with(" +00:00") || shape.ends_with(" -00:00") {
        text.remove(text.len() - 7);
    } else if ["+0000", "-0000", " 0000"].iter().any(|offset| shape.ends_with(offset)) {
        text.insert(text.len() - 2, ':');
    }
    if shape.ends_with(" 00:00") || shape.ends_with(" 0000") {
        let at = text.len() - 6;
        text.replace_range(at..=at, "+");
    }
    text
}

fn one_of<T>(
    name: &str,
    text: &str,
    of: fn(&str) -> Option<T>,
    all: &[&str],
) -> Result<T, Problem> {
    let bad =
        || Problem::parameter(name, format!("{} is none of {}", quoted(text), all.join(", ")));
    of(text).ok_or_else(bad)
}

/// Makes a cursor opaque.
pub(super) fn encode_cursor(place: impl std::fmt::Display) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(place.to_string())
}

fn decode_cursor(text: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    String::from_utf8(bytes).ok()
}

/// What a caller wrote, cut to a length that fits in one line.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

/// Says that a name is unknown, and which one was probably meant.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    match near {
        Some((_, candidate)) => {
            format!("unknown {what} {}; did you mean {candidate}?", quoted(name))
        }
        None if known.is_empty() => format!("unknown {what} {}; there are none here", quoted(name)),
        None => format!("unknown {what} {}; known are {}", quoted(name), known.join(", ")),
    }
}

/// Refuses what is no snapshot's id. The request's lines in the log and its span get the id.
pub(super) fn snapshot_id(text: &str) -> Result<uuid::Uuid, Problem> {
    let id = uuid::Uuid::try_parse(text).map_err(|_| {
        Problem::new(ProblemCode::NotFound, format!("there is no snapshot {}", quoted(text)))
    })?;
    tracing::Span::current().record("snapshot_id", tracing::field::display(id));
    Ok(id)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        Params::read(&request, &["limit", "cursor", "window_from", "label", "state"])
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        let problem = params("limt=3").expect_err("unknown");
        assert!(problem.detail.contains("did you mean limit?"), "{}", problem.detail);
        assert!(params(&"limit=3&".repeat(101)).is_err(), "too many");
        let twice = params("limit=3&limit=4").expect("known");
        assert!(twice.limit().is_err());
    }

    #[test]
    fn limits_are_clamped_above_and_refused_below() {
        for (query, limit) in
            [("", 50), ("limit=1", 1), ("limit=1000000", 200), ("limit=99999999999999999999", 200)]
        {
            assert_eq!(params(query).expect("known").limit(), Ok(limit), "{query}");
        }
        for query in ["limit=0", "limit=-1", "limit=abc", "limit=", "limit=1e3"] {
            assert!(params(query).expect("known").limit().is_err(), "{query}");
        }
    }

    #[test]
    fn times_are_read_as_clients_write_them_in_a_query() {
        for query in [
            "window_from=2025-07-29T00:00:00+00:00",
            "window_from=2025-07-29+00:00:00+00:00",
            "window_from=2025-07-29%2000:00:00%2B00:00",
            "window_from=2025-07-29T00:00:00Z",
            "window_from=2025-07-29T00:00:00.000000%2B0000",
            "window_from=2025-07-29T00:00:00+0000",
            "window_from=2025-07-29+00:00:00+%2B00:00",
            "window_from=2025-07-28T23:00:00-0100",
        ] {
            let time = params(query).expect("known").time("window_from");
            assert_eq!(time, Ok(Some(Timestamp::from_millis(1_753_747_200_000))), "{query}");
        }
    }

    #[test]
    fn cursors_are_opaque_and_checked() {
        let cursor = encode_cursor("7");
        let read = |text: &str| text.parse::<i32>().ok();
        let good = params(&format!("cursor={cursor}")).expect("known").cursor(read);
        assert_eq!(good, Ok(Some(7)));
        for bad in ["cursor=x", "cursor=%00", "cursor=", "cursor=YWJj"] {
            assert!(params(bad).expect("known").cursor(read).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_split_at_the_first_colon() {
        let labels = params("label=a:b:c&label=d:").expect("known").labels().expect("labels");
        assert_eq!(labels["a"], "b:c");
        assert_eq!(labels["d"], "");
        assert!(params("label=a").expect("known").labels().is_err());
    }
}
