//! Row by row: what is stored is what Kafka itself returns, whatever it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::harness::{DAY, HOUR, Record, Seen, TestApp, TestTopic, record};

/// All kinds of events: null keys, tombstones, empty and binary values, headers with
/// duplicates and nulls.
fn all_kinds(partition: i32, from: i64) -> Vec<Record> {
    let header = |key: &str, value: Option<&[u8]>| (key.to_owned(), value.map(<[u8]>::to_vec));
    let base =
        |millis: i64| Record { partition, timestamp: DAY + from + millis, ..Record::default() };
    vec![
        Record { key: Some(b"k".to_vec()), value: Some(b"v".to_vec()), ..base(0) },
        Record { value: Some("no key, ünïcode 🛫".as_bytes().to_vec()), ..base(1) },
        Record { key: Some(b"tombstone".to_vec()), ..base(2) },
        Record { key: Some(vec![]), value: Some(vec![]), ..base(3) },
        base(4),
        Record { key: Some(vec![0, 255, 254]), value: Some((0..=255).collect()), ..base(5) },
        Record {
            value: Some(b"headers".to_vec()),
            headers: vec![
                header("a", Some(b"1")),
                header("a", Some(b"2")),
                header("null", None),
                header("", Some(b"")),
                header("binary", Some(&[0xff, 0])),
            ],
            ..base(6)
        },
        Record { value: Some(vec![b'x'; 300_000]), ..base(7) },
    ]
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()),
        other => Some(BASE64.decode(other["base64"].as_str().expect("base64")).expect("base64")),
    }
}

/// An event of the stream as the oracle would show it.
pub fn as_seen(line: &Value) -> Seen {
    let millis = |text: &str| {
        strandline::snapshot::Timestamp::parse(text).expect("a time in RFC 3339").millis()
    };
    Seen {
        partition: line["partition"].as_i64().expect("a number") as i32,
        offset: line["offset"].as_i64().expect("a number"),
        timestamp: line["timestamp"].as_str().map(millis),
        key: bytes(&line["key"]),
        value: bytes(&line["value"]),
        headers: line["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .map(|header| {
                (header["key"].as_str().expect("a key").to_owned(), bytes(&header["value"]))
            })
            .collect(),
    }
}

#[tokio::test]
async fn every_kind_of_event_comes_through_every_compression_as_it_is() {
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(5, &[]).await;
    for (partition, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let records = all_kinds(partition as i32, 1000 * partition as i64);
        topic.produce_with(&records, &[("compression.type", codec)]).await;
    }
    let oracle = topic.read_all();
    assert_eq!(oracle.len(), 40);
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
    assert_eq!(snapshot["result"]["records"], 40);
    let stored: Vec<Seen> = app.events(&snapshot).await.iter().map(as_seen).collect();
    assert_eq!(stored, oracle);
}

#[tokio::test]
async fn the_files_themselves_hold_the_same_and_the_recorded_checksum() {
    use arrow_array::{Array, cast::AsArray, types};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use sha2::Digest;

    let app = TestApp::spawn().await;
    let topic = TestTopic::create(2, &[]).await;
    topic.produce(&[all_kinds(0, 0), all_kinds(1, 0)].concat()).await;
    let oracle = topic.read_all();
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    let files = app.detail(&snapshot, "files").await;
    assert_eq!(files.len(), 1);
    let url = url::Url::parse(files[0]["url"].as_str().expect("a URL")).expect("a URL");
    let content = std::fs::read(url.to_file_path().expect("a path")).expect("the file");
    assert_eq!(files[0]["bytes"], content.len());
    let hex: String = sha2::Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(files[0]["sha256"], hex);

    let mut seen = Vec::new();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(content));
    for batch in reader.expect("Parquet").build().expect("a reader") {
        let batch = batch.expect("rows");
        let column = |name: &str| batch.column_by_name(name).expect("the column").clone();
        let (partition, offset) = (column("partition"), column("offset"));
        let (time, kind) = (column("timestamp"), column("timestamp_type"));
        let (key, value) = (column("key"), column("value"));
        let binary = |array: &dyn Array, row: usize| {
            (!array.is_null(row)).then(|| array.as_binary::<i32>().value(row).to_vec())
        };
        for row in 0..batch.num_rows() {
            assert_eq!(kind.as_string::<i32>().value(row), "create_time");
            seen.push(Seen {
                partition: partition.as_primitive::<types::Int32Type>().value(row),
                offset: offset.as_primitive::<types::Int64Type>().value(row),
                timestamp: Some(time.as_primitive::<types::TimestampMillisecondType>().value(row)),
                key: binary(&key, row),
                value: binary(&value, row),
                headers: Vec::new(),
            });
        }
    }
    let without_headers: Vec<Seen> =
        oracle.into_iter().map(|event| Seen { headers: Vec::new(), ..event }).collect();
    assert_eq!(seen, without_headers);
}

#[tokio::test]
async fn committed_events_are_taken_aborted_ones_and_markers_are_only_passed() {
    use crate::harness::TransactionEnd::{Abort, Commit};
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    let batch = |from: i64| (0..5).map(|i| record(0, from + i, "x")).collect::<Vec<_>>();
    drop(topic.transaction(&batch(0), Commit).await);
    drop(topic.transaction(&batch(10), Abort).await);
    drop(topic.transaction(&batch(20), Commit).await);
    drop(topic.transaction(&batch(30), Abort).await);
    let oracle = topic.read_all();
    assert_eq!(oracle.len(), 10);
    // The markers carry the wall clock: a window that reaches beyond it takes all.
    let end = strandline_now() - DAY + HOUR;
    let snapshot = app.snapshot(&topic.name, 0, end).await;
    assert_eq!(snapshot["state"], "succeeded", "{snapshot}");
    assert_eq!(snapshot["completeness"], "provisional");
    let stored: Vec<Seen> = app.events(&snapshot).await.iter().map(as_seen).collect();
    assert_eq!(stored, oracle);
    let partitions = app.detail(&snapshot, "partitions").await;
    assert_eq!(partitions[0]["end_offset"], 24);
    assert_eq!(partitions[0]["stored_offsets"], 24);
    assert_eq!(partitions[0]["lost_offsets"], 0);
}

fn strandline_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as i64
}

#[tokio::test]
async fn an_open_transaction_holds_the_range_back_and_never_the_run() {
    use crate::harness::TransactionEnd::LeaveOpen;
    let app = TestApp::spawn().await;
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "before")]).await;
    let open = topic.transaction(&[record(0, 1, "open")], LeaveOpen).await;
    topic.produce(&[record(0, 2, "after"), record(0, HOUR, "next window")]).await;
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["state"], "succeeded");
    assert_eq!(snapshot["completeness"], "provisional");
    assert_eq!(snapshot["result"]["records"], 1);
    let partitions = app.detail(&snapshot, "partitions").await;
    assert_eq!(partitions[0]["last_stable_offset"], 1);
    assert_eq!(partitions[0]["high_watermark"], 4);
    use rdkafka::producer::Producer;
    open.commit_transaction(std::time::Duration::from_secs(30)).expect("committed");
    // The commit is acknowledged before its marker is in the log.
    topic.until_stable(0, 5);
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["run"], 2);
    assert_eq!(snapshot["completeness"], "sealed");
    assert_eq!(snapshot["result"]["records"], 3);
    assert_eq!(snapshot["result"]["records_added"], 2);
}

#[tokio::test]
async fn a_compacted_topic_has_holes_and_nothing_is_called_lost() {
    let app = TestApp::spawn().await;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
    ];
    let topic = TestTopic::create(1, &compacted).await;
    let keyed = |key: &str, millis: i64| Record {
        key: Some(key.as_bytes().to_vec()),
        ..record(0, millis, "x")
    };
    let records: Vec<Record> = (0..30).map(|i| keyed(&format!("k{}", i % 3), i * 1000)).collect();
    // A batch each, so that there can be a segment each.
    topic.produce_with(&records, &[("batch.num.messages", "1")]).await;
    // The last segment is never compacted: what it holds is not of the window.
    topic.produce(&[keyed("other", HOUR), keyed("end", HOUR + 1000)]).await;
    topic.until_first_offset_read(27);
    let oracle: Vec<Seen> =
        topic.read_all().into_iter().filter(|e| e.timestamp < Some(DAY + HOUR)).collect();
    assert_eq!(oracle.len(), 3);
    let snapshot = app.snapshot(&topic.name, 0, HOUR).await;
    assert_eq!(snapshot["completeness"], "sealed", "{snapshot}");
    let stored: Vec<Seen> = app.events(&snapshot).await.iter().map(as_seen).collect();
    assert_eq!(stored, oracle);
    assert_eq!(snapshot["result"]["lost_offsets"], 0);
    // Of its first half nothing is left at all: that is compaction, not loss.
    let early = app.snapshot(&topic.name, 0, 15_000).await;
    assert_eq!(
        (&early["completeness"], &early["result"]["records"]),
        (&"sealed".into(), &0.into())
    );
}
