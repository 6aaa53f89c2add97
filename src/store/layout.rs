//! Names of objects, relative to the storage's root.
//!
//! `{cluster}/{topic}/{topic id}/{window start}/{attempt id}-{number}.parquet`, as in
//! `default/orders/6f1c…/20250729T000000Z/0198c0de-…-0.parquet`.
//!
//! Topics whose names a disk can't tell apart (`Orders` and `orders` on one that is blind to
//! case; Kafka's metrics do the same to `a.b` and `a_b`) may share a folder, but never the
//! one below it: a topic's id is its own, and a topic deleted and made again has another.
//! The attempt's id is that of one lease, and its files are numbered, so that no two workers
//! ever write one name, and a name tells whether its writer may still be at work.

use uuid::Uuid;

use crate::snapshot::{Timestamp, TopicName};

/// The object that says whose the storage is.
pub(super) const OWNER_MARK: &str = ".strandline-owner";
/// The object that holds the number of the database's latest generation.
pub(super) const GENERATION_MARK: &str = ".strandline-generation";

const SUFFIX: &str = ".parquet";
/// The length of an id as names have it.
const HYPHENATED: usize = 36;

/// The name of a data file.
///
/// `cluster` is one of the configured names (`[a-z0-9_-]`, 1 to 63 characters), `topic_id` the
/// id that Kafka gave the topic, `number` another one for every file that the attempt begins.
pub fn object_name(
    cluster: &str,
    topic: &TopicName,
    topic_id: Uuid,
    window_start: Timestamp,
    attempt_id: Uuid,
    number: u32,
) -> String {
    let start = compact(window_start);
    // In hex: Kafka's own form of the id is base64, whose letters differ by case.
    format!("{cluster}/{topic}/{}/{start}/{attempt_id}-{number}{SUFFIX}", topic_id.simple())
}

/// The attempt's id in the name of a data file, finished or not; `None` for any other name.
/// (A disk's unfinished files have `#` and a number behind their name. Files of version 0.1
/// had an id of their own and no number; theirs is what they have.)
pub fn attempt_id(name: &str) -> Option<Uuid> {
    let mut parts = name.rsplit('/');
    let file = parts.next()?;
    let (_start, topic_id) = (parts.next()?, parts.next()?);
    let (_topic, _cluster) = (parts.next()?, parts.next()?);
    let ours = parts.next().is_none() && topic_id.len() == 32 && Uuid::try_parse(topic_id).is_ok();
    let file = match file.split_once('#') {
        Some((file, unfinished)) => Some(file).filter(|_| is_number(unfinished)),
        None => Some(file),
    };
    let (id, number) = file?.strip_suffix(SUFFIX)?.split_at_checked(HYPHENATED)?;
    let numbered = number.is_empty() || number.strip_prefix('-').is_some_and(is_number);
    Uuid::try_parse(id).ok().filter(|_| ours && numbered)
}

/// Whether it is a mark of ours that was begun and not finished, on a disk; nobody will go on
/// with it.
pub fn is_unfinished_mark(name: &str) -> bool {
    let marks = [OWNER_MARK, GENERATION_MARK];
    name.split_once('#').is_some_and(|(mark, number)| marks.contains(&mark) && is_number(number))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
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

    const ATTEMPT: Uuid = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);

    fn name(topic: &str, topic_id: u128, millis: i64) -> String {
        let topic = TopicName::parse(topic).expect("a topic");
        let start = Timestamp::from_millis(millis);
        object_name("default", &topic, Uuid::from_u128(topic_id), start, ATTEMPT, 12)
    }

    #[test]
    fn names_tell_where_a_file_belongs() {
        assert_eq!(
            name("orders", 0xAB, 1_753_747_200_000),
            "default/orders/000000000000000000000000000000ab/20250729T000000Z/0198c0de-0000-7000-8000-000000000001-12.parquet"
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
    fn a_mark_is_unfinished_with_a_number_behind_it() {
        for unfinished in [".strandline-owner#1", ".strandline-generation#27"] {
            assert!(is_unfinished_mark(unfinished), "{unfinished}");
        }
        for other in [
            ".strandline-owner",
            ".strandline-owner#",
            ".strandline-owner#x",
            ".strandline-other#1",
            "default/.strandline-owner#1",
        ] {
            assert!(!is_unfinished_mark(other), "{other}");
        }
    }

    #[test]
    fn only_our_names_have_an_id() {
        let ours = name("orders", 7, 0);
        let of_version_0_1 = ours.replace("-12.parquet", ".parquet");
        for ours in [&ours, &of_version_0_1] {
            assert_eq!(attempt_id(ours), Some(ATTEMPT), "{ours}");
            assert_eq!(attempt_id(&format!("{ours}#1")), Some(ATTEMPT), "{ours}");
        }
        for other in [
            "",
            "readme.txt",
            &format!("{ours}#x"),
            &format!("{ours}#"),
            &format!("{ours}.bak"),
            &format!("x/{ours}"),
            &ours.replace("-12.", "-x."),
            &ours.replace("-12.", "-."),
            &ours.replace("-12.", "12."),
            &ours.replace("-12.", "-1-2."),
            &ours.replace("0198c0de-", "0198c0de"),
            ours.trim_start_matches("default/"),
            "a/b/c/d/0198c0de-0000-7000-8000-000000000001.parquet",
            "a/b/000000000000000000000000000000ab/d/e.parquet",
            "a/b/000000000000000000000000000000ab/d/äääääääääääääääääää.parquet",
        ] {
            assert_eq!(attempt_id(other), None, "{other}");
        }
    }
}
