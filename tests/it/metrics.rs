//! What Prometheus is told: of topics, of a broker that is away, and how much it is whatever
//! callers send.

use std::time::Duration;

use serde_json::json;

use crate::harness::{DAY, HOUR, TestTopic, answer, at, empty_database, record};
use crate::process::{Serving, folder};

/// The metrics of a server.
async fn scrape(http: &reqwest::Client, url: &str) -> String {
    let (status, metrics) = answer(http.get(format!("{url}/metrics"))).await;
    assert_eq!(status, 200);
    metrics.as_str().expect("text").to_owned()
}

/// The series of a text, without their values, and without that of a busy machine's refusals.
fn series(metrics: &str) -> Vec<&str> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let lines = lines.filter(|line| !line.contains("code=\"503\""));
    let mut series: Vec<_> =
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
    series.sort_unstable();
    series
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Asks for the metrics until they are so.
async fn until(http: &reqwest::Client, url: &str, so: impl Fn(&str) -> bool) -> String {
    let patience = Duration::from_secs(60);
    let asked = async {
        loop {
            let metrics = scrape(http, url).await;
            if so(&metrics) {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, asked).await.expect("metrics that are so")
}

#[tokio::test]
async fn topics_tell_what_their_snapshots_wait_for() {
    let (folder, url) = (folder(), empty_database().await);
    let serve = |workers| {
        let settings = [
            ("STRANDLINE_DATABASE_URL", url.as_str()),
            ("STRANDLINE_SEAL_INTERVAL_SECONDS", "1"),
            ("STRANDLINE_WORKERS", workers),
        ];
        Serving::start_with(folder.path(), &settings)
    };
    let topic = TestTopic::create(1, &[("retention.ms", "31536000000000")]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let http = reqwest::Client::new();
    let serving = serve("1");
    let ask = |server: &Serving, end: i64, name: &str| {
        let body = json!({"topic": name, "window_start": at(0), "window_end": at(end)});
        answer(http.post(format!("{}/v1/snapshots?wait=60", server.url)).json(&body))
    };
    let (status, settled) = ask(&serving, HOUR, &topic.name).await;
    assert_eq!((status, &settled["completeness"]), (200, &json!("settled")));
    let of = |name: &str| format!("strandline_topic_{name}{{topic=\"{}\"}}", topic.name);
    let unsealed = of("unsealed_snapshots");
    let metrics =
        until(&http, &serving.url, |m| value(m, &of("retention_seconds")).is_some()).await;
    assert_eq!(value(&metrics, &of("retention_seconds")), Some(31_536_000_000.0));
    assert_eq!(value(&metrics, &unsealed), Some(1.0));
    assert_eq!(value(&metrics, &of("unstored_snapshots")), Some(0.0));
    let start = of("oldest_unstored_window_start_timestamp_seconds");
    assert_eq!(value(&metrics, &start), None, "{metrics}");
    drop(serving);

    // Nobody works: what is asked for waits, and a topic that does not exist is not named.
    let serving = serve("0");
    for (name, end) in [(topic.name.as_str(), 2 * HOUR), ("no-such-topic", HOUR)] {
        let body = json!({"topic": name, "window_start": at(0), "window_end": at(end)});
        let asked = http.post(format!("{}/v1/snapshots", serving.url)).json(&body);
        assert_eq!(answer(asked).await.0, 202);
    }
    let metrics = until(&http, &serving.url, |m| value(m, &start).is_some()).await;
    assert_eq!(value(&metrics, &start), Some((DAY / 1000) as f64));
    assert_eq!(value(&metrics, &of("unstored_snapshots")), Some(1.0));
    assert!(!metrics.contains("no-such-topic"), "{metrics}");
}

#[tokio::test]
async fn what_callers_send_makes_no_series() {
    let (folder, url) = (folder(), empty_database().await);
    let settings = [
        ("STRANDLINE_DATABASE_URL", url.as_str()),
        ("STRANDLINE_WORKERS", "0"),
        ("STRANDLINE_QUEUE_LIMIT", "100"),
    ];
    let serving = Serving::start_with(folder.path(), &settings);
    let http = reqwest::Client::new();
    let round = |number: usize| {
        let (http, url) = (http.clone(), serving.url.clone());
        async move {
            let topic = format!("topic-{number}");
            let body = json!({"topic": topic, "window_start": at(0), "window_end": at(HOUR),
                "labels": {topic.clone(): topic.clone()}});
            answer(http.post(format!("{url}/v1/snapshots")).json(&body)).await;
            let id = uuid::Uuid::now_v7();
            for path in [
                format!("/v1/snapshots/{id}"),
                format!("/v1/snapshots/{id}/files?limit={number}"),
                format!("/v1/nothing/{id}"),
                format!("/v1/snapshots?topic={topic}&label={topic}:{number}"),
            ] {
                answer(http.get(format!("{url}{path}")).bearer_auth(&topic)).await;
            }
            let method = reqwest::Method::from_bytes(format!("M{number}").as_bytes());
            answer(http.request(method.expect("a method"), format!("{url}/v1/snapshots"))).await;
        }
    };
    // The first rounds bring in what is there from then on: a full queue among it.
    for number in 0..120 {
        round(number).await;
    }
    scrape(&http, &serving.url).await;
    let before = scrape(&http, &serving.url).await;
    for group in 0..20 {
        let rounds = (0..100).map(|number| round(1000 + group * 100 + number));
        futures_util::future::join_all(rounds).await;
    }
    let after = scrape(&http, &serving.url).await;
    assert_eq!(series(&after), series(&before));
    assert!(series(&after).len() < 1500, "{}", series(&after).len());
}

#[tokio::test]
async fn a_broker_that_is_away_is_counted_and_the_process_is_measured() {
    let (folder, url) = (folder(), empty_database().await);
    let settings =
        [("STRANDLINE_DATABASE_URL", url.as_str()), ("STRANDLINE_KAFKA_BROKERS", "127.0.0.1:1")];
    let serving = Serving::start_with(folder.path(), &settings);
    let http = reqwest::Client::new();
    let failed = "strandline_kafka_errors_total{code=\"BrokerTransportFailure\"}";
    assert!(value(&scrape(&http, &serving.url).await, failed).is_some(), "there from the start");
    let body = json!({"topic": "orders", "window_start": at(0), "window_end": at(HOUR)});
    let asked = answer(http.post(format!("{}/v1/snapshots", serving.url)).json(&body)).await;
    assert_eq!(asked.0, 202);
    let metrics = until(&http, &serving.url, |m| value(m, failed) > Some(0.0)).await;
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(value(&metrics, name).is_some(), "{name}:\n{metrics}");
    }
    assert!(value(&metrics, "strandline_store_free_bytes") > Some(0.0), "{metrics}");
    assert!(metrics.contains("strandline_db_pool_wait_seconds_bucket"), "{metrics}");
}

#[tokio::test]
async fn runs_tell_what_they_read_and_lost() {
    let (folder, url) = (folder(), empty_database().await);
    let settings =
        [("STRANDLINE_DATABASE_URL", url.as_str()), ("STRANDLINE_SEAL_INTERVAL_SECONDS", "3600")];
    let serving = Serving::start_with(folder.path(), &settings);
    let topic = TestTopic::create(1, &[]).await;
    let records =
        |from: i64, to: i64| (from..to).map(|n| record(0, n, "value")).collect::<Vec<_>>();
    topic.produce(&records(0, 10)).await;
    let http = reqwest::Client::new();
    let ask = || {
        let body = json!({"topic": topic.name, "window_start": at(0), "window_end": at(HOUR)});
        answer(http.post(format!("{}/v1/snapshots?wait=60", serving.url)).json(&body))
    };
    assert_eq!(ask().await.1["result"]["records"], 10);
    // What has arrived since is gone again, but for the last two.
    topic.produce(&records(10, 15)).await;
    topic.delete_below(0, 13).await;
    for _ in 0..2 {
        let (_, again) = ask().await;
        assert_eq!(
            (&again["result"]["records"], &again["result"]["lost_offsets"]),
            (&json!(12), &json!(3))
        );
    }
    // The answer may come before the run is counted.
    let ended = "strandline_run_duration_seconds_count{outcome=\"succeeded\"}";
    let counted = |m: &str| {
        value(m, ended) == Some(3.0) && value(m, "strandline_lossy_runs_total") == Some(2.0)
    };
    let metrics = until(&http, &serving.url, counted).await;
    for (series, expected) in [
        ("strandline_records_read_total", 12.0),
        ("strandline_record_bytes_read_total", 60.0),
        ("strandline_records_stored_total", 12.0),
        ("strandline_lost_offsets_total", 3.0),
        ("strandline_store_request_duration_seconds_count{op=\"put\"}", 2.0),
        ("strandline_commits_total{outcome=\"committed\"}", 2.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}:\n{metrics}");
    }
    for op in ["list_offsets", "describe_topic", "describe_config"] {
        let asked = format!("strandline_kafka_request_duration_seconds_count{{op=\"{op}\"}}");
        assert!(value(&metrics, &asked) > Some(0.0), "{asked}:\n{metrics}");
    }
}
