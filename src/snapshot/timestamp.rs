//! Points in time: milliseconds since the Unix epoch, in UTC, as Kafka counts them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. Any value can come from Kafka (a producer
/// may stamp what it likes); what a caller may ask for lies between [`Timestamp::MIN`]
/// and [`Timestamp::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a time that can be asked for. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Empty, or what a template engine renders for a missing value.
    #[error(
        "{0:?} is no time; the value behind the template is missing (a manual Airflow run, for example, has no data interval)"
    )]
    Missing(String),
    /// A date and time without `Z` or an offset.
    #[error("{0:?} has no time zone; write it with Z or an offset, as in 2025-07-29T00:00:00Z")]
    NoZone(String),
    /// A date without a time of day.
    #[error("{0:?} is a date without a time; write it as in 2025-07-29T00:00:00Z")]
    BareDate(String),
    /// Digits alone: seconds or milliseconds since the epoch.
    #[error("{0:?} is a number; write the time as in 2025-07-29T00:00:00Z")]
    Number(String),
    /// Well formed, but no such moment exists: 30 February, hour 24, second 60, offset +25:00.
    #[error("{0:?} is no moment of the calendar ({1})")]
    NotInCalendar(String, &'static str),
    /// Before 1970 or after 9999.
    #[error("{0:?} is outside the years 1970 to 9999 (UTC)")]
    OutOfRange(String),
    /// Anything else.
    #[error("{0:?} is not a time of RFC 3339, as in 2025-07-29T00:00:00Z")]
    Malformed(String),
}

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z, the earliest time that can be asked for. (Kafka gives
    /// negative look-up times a meaning of their own.)
    pub const MIN: Timestamp = Timestamp(0);
    /// 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);

    /// The moment `millis` milliseconds after the epoch (before it, if negative).
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// `seconds` later, without overflow.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        let millis = seconds.saturating_mul(1000);
        let millis = if millis > i64::MAX as u64 { i64::MAX } else { millis as i64 };
        Timestamp(self.0.saturating_add(millis))
    }

    /// `seconds` earlier, without overflow.
    #[must_use]
    pub const fn minus_seconds(self, seconds: u64) -> Self {
        Timestamp(self.0.saturating_sub(Timestamp(0).plus_seconds(seconds).0))
    }

    /// Reads a time of RFC 3339, with `T`, `t` or a space between date and time and `Z`,
    /// `z` or an offset at the end. What is finer than a millisecond is cut off.
    ///
    /// # Errors
    /// [`TimeError`], which quotes at most the first 64 characters of the text.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let quoted = || text.chars().take(64).collect::<String>();
        if matches!(text.trim(), "" | "None" | "null" | "nan" | "NaT") {
            return Err(TimeError::Missing(quoted()));
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(TimeError::Number(quoted()));
        }
        let fields = Fields::split(text).ok_or_else(|| TimeError::Malformed(quoted()))?;
        let fields = match fields {
            Split::BareDate => return Err(TimeError::BareDate(quoted())),
            Split::NoZone => return Err(TimeError::NoZone(quoted())),
            Split::Whole(fields) => fields,
        };
        let millis = fields.to_millis().map_err(|why| TimeError::NotInCalendar(quoted(), why))?;
        if !(Self::MIN.0..=Self::MAX.0).contains(&millis) {
            return Err(TimeError::OutOfRange(quoted()));
        }
        Ok(Timestamp(millis))
    }
}

/// RFC 3339 in UTC with milliseconds. What lies outside the years 0 to 9999 can't be
/// written that way and is shown as the nearest time that can.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_0: i64 = -62_167_219_200_000;
        const DAY: i64 = 86_400_000;
        let millis = self.0.clamp(YEAR_0, Self::MAX.0);
        // By civil date: jiff's own timestamps end a day early, so that any zone can be added.
        let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(millis.div_euclid(DAY));
        let of_day = millis.rem_euclid(DAY);
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

enum Split {
    BareDate,
    NoZone,
    Whole(Fields),
}

struct Fields {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    millisecond: i64,
    offset_minutes: Result<i64, &'static str>,
}

impl Fields {
    /// `None` if the text does not have the shape of a time at all.
    fn split(text: &str) -> Option<Split> {
        let bytes = text.as_bytes();
        let date = bytes.get(..10)?;
        let year = number(&date[..4])?;
        let (month, day) = (number(&date[5..7])?, number(&date[8..10])?);
        if date[4] != b'-' || date[7] != b'-' {
            return None;
        }
        if bytes.len() == 10 {
            return Some(Split::BareDate);
        }
        let time = bytes.get(11..19)?;
        if !matches!(bytes[10], b'T' | b't' | b' ') || time[2] != b':' || time[5] != b':' {
            return None;
        }
        let hour = number(&time[..2])?;
        let (minute, second) = (number(&time[3..5])?, number(&time[6..8])?);
        let mut rest = &bytes[19..];
        let mut millisecond = 0;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let padded: Vec<u8> =
                fraction[..digits].iter().copied().chain(*b"00").take(3).collect();
            millisecond = number(&padded)?;
            rest = &fraction[digits..];
        }
        if rest.is_empty() {
            return Some(Split::NoZone);
        }
        Some(Split::Whole(Fields {
            year: year as i16,
            month: month as i8,
            day: day as i8,
            hour: hour as i8,
            minute: minute as i8,
            second: second as i8,
            millisecond,
            offset_minutes: zone(rest)?,
        }))
    }

    fn to_millis(&self) -> Result<i64, &'static str> {
        let offset_minutes = self.offset_minutes?;
        if self.hour > 23 {
            return Err("hours go from 00 to 23");
        }
        if self.minute > 59 || self.second > 59 {
            return Err("minutes and seconds go from 00 to 59");
        }
        let date = jiff::civil::Date::new(self.year, self.month, self.day)
            .map_err(|_| "there is no such day")?;
        let days = i64::from((date - jiff::civil::date(1970, 1, 1)).get_days());
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute) - offset_minutes;
        let seconds = days * 86_400 + minutes * 60 + i64::from(self.second);
        Ok(seconds * 1000 + self.millisecond)
    }
}

/// The offset from UTC in minutes; `None` if it does not look like one.
fn zone(text: &[u8]) -> Option<Result<i64, &'static str>> {
    if matches!(text, b"Z" | b"z") {
        return Some(Ok(0));
    }
    if text.len() != 6 || text[3] != b':' {
        return None;
    }
    let sign = match text[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(&text[1..3])?, number(&text[4..6])?);
    if hours > 23 || minutes > 59 {
        return Some(Err("offsets go from -23:59 to +23:59"));
    }
    Some(Ok(sign * (hours * 60 + minutes)))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_airflow_curl_and_people_write() {
        let day = Timestamp::from_millis(1_753_747_200_000);
        for text in [
            "2025-07-29T00:00:00Z",
            "2025-07-29t00:00:00z",
            "2025-07-29 00:00:00+00:00",
            "2025-07-29T00:00:00.000Z",
            "2025-07-29T00:00:00.000999999Z",
            "2025-07-29T02:00:00+02:00",
            "2025-07-28T19:30:00-04:30",
            "2025-07-29T00:00:00-00:00",
        ] {
            assert_eq!(Timestamp::parse(text), Ok(day), "{text}");
        }
        let tenth = Timestamp::parse("2025-07-29T00:00:00.1Z");
        assert_eq!(tenth, Ok(Timestamp::from_millis(1_753_747_200_100)));
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00Z"), Ok(Timestamp::MIN));
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59.999Z"), Ok(Timestamp::MAX));
    }

    #[test]
    fn refuses_with_the_reason_and_quotes() {
        for (text, part) in [
            ("", "missing"),
            ("None", "missing"),
            ("2025-07-29", "date without a time"),
            ("2025-07-29T00:00:00", "no time zone"),
            ("2025-07-29 00:00:00.5", "no time zone"),
            ("1753747200", "is a number"),
            ("1753747200.5", "is a number"),
            ("2025-02-30T00:00:00Z", "no such day"),
            ("2025-07-29T24:00:00Z", "00 to 23"),
            ("2025-07-29T23:59:60Z", "00 to 59"),
            ("2025-07-29T00:00:00+25:00", "-23:59 to +23:59"),
            ("1969-12-31T23:59:59Z", "1970 to 9999"),
            ("1970-01-01T00:00:00+00:01", "1970 to 9999"),
            ("9999-12-31T23:59:59-00:01", "1970 to 9999"),
            ("0000-01-01T00:00:00Z", "1970 to 9999"),
            ("10000-01-01T00:00:00Z", "not a time"),
            ("yesterday", "not a time"),
            ("2025-07-29T00:00:00 Z", "not a time"),
            ("2025-07-29T00:00:00.Z", "not a time"),
            ("2025-07-29T00:00Z", "not a time"),
            ("２０２５-07-29T00:00:00Z", "not a time"),
        ] {
            let error = Timestamp::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.starts_with(&format!("{text:?}")), "{text}: {error}");
        }
    }

    #[test]
    fn times_that_can_not_be_written_are_shown_as_the_nearest_that_can() {
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_shown_can_be_read_back(millis in 0..=Timestamp::MAX.millis()) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
        }

        #[test]
        fn nothing_that_looks_like_a_time_panics(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\\.[0-9]{0,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?") {
            let _ = Timestamp::parse(&text);
        }
    }
}
