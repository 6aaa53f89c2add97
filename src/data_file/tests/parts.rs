//! Parts of a file are what a naive filter gives, and no more is read for them than must be.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use proptest::prelude::*;

use super::{Raw, block_on, footer, read, read_all, write};
use crate::data_file::reader::prune;
use crate::data_file::{WriteLimits, events, tally};
use crate::snapshot::{OffsetRange, RangeTally, Timestamp, Window};

/// Counts the bytes that are read.
struct Counting(Cursor<Vec<u8>>, Arc<AtomicU64>);

impl AsyncFileReader for Counting {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.1.fetch_add(range.end - range.start, Relaxed);
        self.0.get_bytes(range)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        self.0.get_metadata(options)
    }
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_read() {
    let noise = |i: i64| {
        let words = (0..12).map(move |j| (i as u64 * 12 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.flat_map(u64::to_be_bytes)
    };
    let log: Vec<_> =
        (0..60_000).map(|i| Raw { value: Some(noise(i).collect()), ..Raw::at(0, i) }).collect();
    let limits = WriteLimits { row_group_event_bytes: 4 << 20, ..WriteLimits::default() };
    let file = write(&log, limits);
    assert!(file.len() > 5_000_000 && footer(&file).num_row_groups() > 1);
    let read = Arc::new(AtomicU64::new(0));
    let counting = || Counting(Cursor::new(file.clone()), Arc::clone(&read));

    let few: Vec<_> =
        events(counting(), 0, OffsetRange::new(1000, 1010)).try_collect().await.expect("readable");
    assert_eq!(few, log[1000..1010].iter().map(Raw::expected).collect::<Vec<_>>());
    assert!(read.swap(0, Relaxed) < 1_500_000, "a page of values, not a row group");

    let mut first = std::pin::pin!(events(counting(), 0, OffsetRange::new(0, i64::MAX)));
    assert_eq!(first.try_next().await.expect("readable"), Some(log[0].expected()));
    assert!(read.swap(0, Relaxed) < 5_000_000, "a row group, not the file");

    let all = OffsetRange::new(0, i64::MAX);
    let tallied = tally(counting(), 0, all, &window(0, 1)).await.expect("readable");
    assert_eq!(tallied.records, 60_000);
    assert!(read.swap(0, Relaxed) < 100_000, "three small columns");

    for (partition, range) in [(1, all), (0, OffsetRange::new(60_000, i64::MAX))] {
        let none = tally(counting(), partition, range, &window(0, 1)).await.expect("readable");
        assert_eq!((none.records, read.swap(0, Relaxed)), (0, 0), "the footer says it all");
    }
}

fn window(start: i64, end: i64) -> Window {
    Window::new(Timestamp::from_millis(start), Timestamp::from_millis(end)).expect("a window")
}

prop_compose! {
    fn raw()(
        timestamp in prop::option::of((prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1), 0i64..100, any::<i64>()], any::<bool>())),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        headers in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..6), prop::option::of(prop::collection::vec(any::<u8>(), 0..6))), 0..4),
    ) -> Raw {
        Raw { timestamp, key, value, headers, ..Raw::default() }
    }
}

prop_compose! {
    /// Events in order, with gaps, in up to four partitions.
    fn log()(steps in prop::collection::vec((raw(), 1i64..4, 0u8..12), 0..60)) -> Vec<Raw> {
        let (mut partition, mut offset) = (0, -1);
        let mut log = Vec::new();
        for (event, gap, turn) in steps {
            offset += gap;
            if turn == 0 && partition < 3 {
                (partition, offset) = (partition + 1, gap);
            }
            log.push(Raw { partition, offset, ..event });
        }
        log
    }
}

prop_compose! {
    fn limits()(batch_rows in 1usize..20, batch_bytes in 1usize..2000, rows in 1usize..30, bytes in 1usize..4000) -> WriteLimits {
        WriteLimits {
            batch_rows,
            batch_bytes,
            row_group_memory_bytes: 1 << 20,
            row_group_event_bytes: bytes,
            row_group_rows: rows,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_log_comes_back(log in log(), limits in limits()) {
        let file = write(&log, limits);
        let expected: Vec<_> = log.iter().map(Raw::expected).collect();
        prop_assert_eq!(block_on(read_all(&file)), expected);
    }

    #[test]
    fn a_part_is_what_a_naive_filter_gives(
        log in log(), limits in limits(), partition in 0i32..4, start in 0i64..80, length in 0i64..80,
        (from, span) in (0i64..100, 1i64..100),
    ) {
        let file = write(&log, limits);
        let range = OffsetRange::new(start, start + length);
        let wanted = |e: &&Raw| e.partition == partition && range.contains(e.offset);
        let expected: Vec<_> = log.iter().filter(wanted).map(Raw::expected).collect();

        // Pruning keeps all that is wanted, and no row group that can't have any of it.
        let metadata = footer(&file);
        let mut first = 0;
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let rows = &log[first..first + group.num_rows() as usize];
            first += rows.len();
            let kept = prune(&metadata, partition, range).contains(&index);
            prop_assert!(kept || !rows.iter().any(|row| wanted(&row)));
            let partition_there = rows.iter().any(|row| row.partition == partition);
            let only_one = rows.iter().all(|row| row.partition == rows[0].partition);
            prop_assert!(!kept || partition_there || !only_one);
        }

        let mut tallied = RangeTally::default();
        let window = window(from, from + span);
        expected.iter().for_each(|event| tallied.add(event.timestamp, &window));
        block_on(async {
            prop_assert_eq!(read(&file, partition, range).await, expected);
            let found = tally(Cursor::new(file), partition, range, &window).await.expect("readable");
            prop_assert_eq!(found, tallied);
            Ok(())
        })?;
    }
}
