//! Names of objects, relative to the storage's root.
//!
//! `{cluster}/{topic}/{topic id}/{window start}/{file id}.parquet`, as in
//! `default/orders/6f1c…/20250729T000000Z/0198c0de-….parquet`.
//!
//! Topics whose names a disk can't tell apart (`Orders` and `orders` on one that is blind to
//! case; Kafka's metrics do the same to `a.b` and `a_b`) may share a folder, but never the
//! one below it: a topic's id is its own, and a topic deleted and made again has another.
//! The file's id belongs to one attempt of one worker, so that no two ever write one name.

use uuid::Uuid;

use crate::snapshot::{Timestamp, TopicName};

const SUFFIX: &str = ".parquet";

/// The name of a data file.
///
/// `cluster` is one of the configured names (`[a-z0-9_-]`, 1 to 63 characters), `topic_id` the
/// id that Kafka gave the topic, `file_id` new for every file that is begun.
pub fn object_name(
    cluster: &str,
    topic: &TopicName,
    topic_id: Uuid,
    window_start: Timestamp,
    file_id: Uuid,
) -> String {
    let start = compact(window_start);
    // In hex: Kafka's own form of the id is base64, whose letters differ by case.
    format!("{cluster}/{topic}/{}/{start}/{file_id}{SUFFIX}", topic_id.simple())
}

/// The id in the name of a data file, finished or not; `None` for any other name. (A disk's
/// unfinished files have `#` and a number behind their name.)
pub fn file_id(name: &str) -> Option<Uuid> {
    let mut parts = name.rsplit('/');
    let file = parts.next()?;
    let (_start, topic_id) = (parts.next()?, parts.next()?);
    let (_topic, _cluster) = (parts.next()?, parts.next()?);
    let file = match file.split_once('#') {
        Some((file, attempt)) if attempt.bytes().all(|b| b.is_ascii_digit()) => file,
        Some(_) => return None,
        None => file,
    };
    let hyphenated = file.strip_suffix(SUFFIX).filter(|id| id.len() == 36)?;
    let ours = parts.next().is_none() && topic_id.len() == 32 && Uuid::try_parse(topic_id).is_ok();
    Uuid::try_parse(hyphenated).ok().filter(|_| ours)
}

/// `20250729T000000Z`, or with milliseconds `20250729T000000123Z`: without the characters
/// that some disks do not take.
fn compact(time: Timestamp) -> String {
    let text: String = time.to_string().chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    match text.strip_suffix("000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(topic: &str, topic_id: u128, millis: i64) -> String {
        let topic = TopicName::parse(topic).expect("a topic");
        let file_id = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);
        object_name(
            "default",
            &topic,
            Uuid::from_u128(topic_id),
            Timestamp::from_millis(millis),
            file_id,
        )
    }

    #[test]
    fn names_tell_where_a_file_belongs() {
        assert_eq!(
            name("orders", 0xAB, 1_753_747_200_000),
            "default/orders/000000000000000000000000000000ab/20250729T000000Z/0198c0de-0000-7000-8000-000000000001.parquet"
        );
        assert!(name("orders", 1, 1_753_747_200_120).contains("/20250729T000000120Z/"));
        assert!(name("orders", 1, 1_753_747_260_000).contains("/20250729T000100Z/"));
        assert!(name("orders", 1, 0).contains("/19700101T000000Z/"));
        assert!(name("orders", 1, Timestamp::MAX.millis()).contains("/99991231T235959999Z/"));
    }

    #[test]
    fn twins_meet_nowhere_even_where_case_counts_for_nothing() {
        let blind = |topic: &str, id| name(topic, id, 0).to_lowercase().replace('.', "_");
        assert_ne!(blind("Orders", 1), blind("orders", 2));
        assert_ne!(blind("a.b", 1), blind("a_b", 2));
    }

    #[test]
    fn segments_fit_any_disk() {
        let longest = name(&"x".repeat(249), u128::MAX, Timestamp::MAX.millis());
        assert!(longest.split('/').all(|segment| segment.len() <= 255));
        assert!(longest.len() < 512);
    }

    #[test]
    fn only_our_names_have_an_id() {
        let ours = name("orders", 7, 0);
        let id = Some(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001));
        assert_eq!(file_id(&ours), id);
        assert_eq!(file_id(&format!("{ours}#1")), id);
        for other in [
            "",
            "readme.txt",
            &format!("{ours}#x"),
            &format!("{ours}.bak"),
            &format!("x/{ours}"),
            ours.trim_start_matches("default/"),
            "a/b/c/d/0198c0de-0000-7000-8000-000000000001.parquet",
            "a/b/000000000000000000000000000000ab/d/e.parquet",
        ] {
            assert_eq!(file_id(other), None, "{other}");
        }
    }
}
