//! Brokers that are away, or refuse: every call ends, and says why.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};
use strandline::job::Cluster;
use strandline::kafka::{KafkaClient, KafkaConfig, KafkaError, RangeReader, ReadLimits};
use strandline::snapshot::{FailureKind, TopicName};

use super::{name, range, read, window, wire};
use crate::harness::{HOUR, TestApp, TestTopic, record, service, until};

/// Nobody listens there.
const CLOSED: &str = "127.0.0.1:1";

fn config(brokers: &str, properties: &str) -> KafkaConfig {
    KafkaConfig::new(brokers, properties).expect("good settings")
}

/// The listener that asks for a password.
fn sasl(password: &str) -> KafkaConfig {
    let user = "security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,sasl.username=reader";
    let brokers = service("STRANDLINE_TEST_KAFKA_SASL");
    config(&brokers, &format!("{user},sasl.password={password}"))
}

/// The listener that shows a certificate, to a client that trusts those in a file.
fn tls(ca_file: &str) -> KafkaConfig {
    let properties = format!("security.protocol=ssl,ssl.ca.location={ca_file}");
    config(&service("STRANDLINE_TEST_KAFKA_TLS"), &properties)
}

fn reader(config: &KafkaConfig, topic: &TopicName) -> RangeReader {
    RangeReader::new(config, topic, ReadLimits::default()).expect("a reader")
}

/// Asks everything that can be asked, and reads, all at once: each takes its ten seconds.
fn errors_of_all_calls(config: &KafkaConfig, topic: &TopicName) -> Receiver<KafkaError> {
    type Call = fn(&KafkaClient, &mut RangeReader, &TopicName) -> Option<KafkaError>;
    let calls: [Call; 5] = [
        |client, _, topic| client.describe_topic(topic).err(),
        |client, _, topic| client.topic_id(topic).err(),
        |client, _, _| client.list_topics().err(),
        |client, _, topic| client.look(topic, &[0], &window(0, HOUR)).err(),
        |_, reader, _| read(reader, 0, range(0, 1)).0.err(),
    ];
    let client = KafkaClient::connect(config).expect("a client, for which no broker is needed");
    let limits = ReadLimits { stall_seconds: 8, ..ReadLimits::default() };
    let (sender, errors) = mpsc::channel();
    for call in calls {
        let (client, topic, sender) = (client.clone(), topic.clone(), sender.clone());
        let mut reader = RangeReader::new(config, &topic, limits).expect("nor for a reader");
        std::thread::spawn(move || {
            let error = call(&client, &mut reader, &topic).expect("it can't succeed");
            sender.send(error).expect("somebody waits for it");
        });
    }
    errors
}

/// All of them, of the kind `kind`.
fn gather(errors: &Receiver<KafkaError>, kind: FailureKind) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match errors.recv_timeout(Duration::from_secs(60)) {
            Ok(error) => {
                assert_eq!(error.failure_kind(), kind, "{error}");
                texts.push(error.to_string());
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("a call does not end; others: {texts:?}"),
        }
    }
    assert_eq!(texts.len(), 5);
    texts
}

/// A Strandline that reaches Kafka in another way.
async fn app_with(config: KafkaConfig) -> TestApp {
    let mut app = TestApp::spawn().await;
    app.shells.cluster = Arc::new(Cluster::connect(config).expect("librdkafka"));
    app
}

#[tokio::test]
async fn brokers_that_are_away_are_named_and_the_run_goes_on_when_they_are_back() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a"), record(0, HOUR, "end")]).await;
    let away = config(CLOSED, "");
    let errors = errors_of_all_calls(&away, &name(&topic));
    let mut app = app_with(away).await;
    app.shells.limits.retry_seconds = 300;
    let (_, asked) = app.ask(&topic.name, 0, HOUR).await;
    assert!(app.attempt_once().await);
    let path = asked["links"]["self"].as_str().expect("a path");
    let (_, waiting) = app.get(path).await;
    assert_eq!((&waiting["state"], &waiting["error"]), (&json!("running"), &Value::Null));
    assert_eq!(waiting["last_error"]["code"], "KAFKA_UNAVAILABLE");
    let mut texts = gather(&errors, FailureKind::KafkaUnavailable);
    texts.push(waiting["last_error"]["message"].as_str().expect("a message").to_owned());
    for text in texts {
        assert!(text.contains("check that the brokers at 127.0.0.1:1 are up"), "{text}");
        assert!(text.contains("refused"), "the cause is told: {text}");
    }
    app.shells.cluster = Arc::new(Cluster::connect(super::config()).expect("librdkafka"));
    app.work().await;
    let (_, done) = app.get(path).await;
    assert_eq!((&done["state"], &done["run"]), (&json!("succeeded"), &json!(1)), "{done}");
    assert_eq!(done["result"]["records"], 1);
}

/// librdkafka keeps a core busy while such a request waits.
#[test]
fn no_admin_request_waits_where_nobody_answered_before() {
    let client = KafkaClient::connect(&config(CLOSED, "")).expect("librdkafka");
    let topic = TopicName::parse("anything").expect("a name");
    let first = client.describe_topic(&topic).expect_err("nobody answers");
    assert_eq!(first.failure_kind(), FailureKind::KafkaUnavailable);
    for (error, attempt) in [
        (client.describe_topic(&topic).err(), "describing the topic failed: "),
        (client.low_watermarks(&topic, &[0]).err(), "asking for offsets failed: "),
    ] {
        let text = error.expect("nobody answers").to_string();
        // What an admin request waits for, as librdkafka says when the time is over.
        assert!(!text.contains("waiting for controller") && text.contains("refused"), "{text}");
        // The question about offsets says whose watermark it is, once it is put.
        assert!(text.starts_with(attempt), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let topic = TestTopic::create(1, &[]).await;
    let wrong = sasl("wr0ng");
    let errors = errors_of_all_calls(&wrong, &name(&topic));
    let app = app_with(wrong).await;
    let failed = app.snapshot(&topic.name, 0, HOUR).await;
    let mut texts = gather(&errors, FailureKind::KafkaAuth);
    assert_eq!(failed["state"], "failed", "trying again does not help");
    assert_eq!(failed["error"]["code"], "KAFKA_AUTH");
    texts.push(failed["error"]["message"].as_str().expect("a message").to_owned());
    for text in texts {
        assert!(text.contains("Authentication failed"), "{text}");
        assert!(text.contains("check the credentials in STRANDLINE_KAFKA_PROPERTIES"), "{text}");
        assert!(!text.contains("wr0ng"), "{text}");
    }
}

#[tokio::test]
async fn tls_is_spoken_to_brokers_with_a_certificate_of_ours_alone() {
    let topic = TestTopic::create(1, &[]).await;
    topic.produce(&[record(0, 0, "a")]).await;
    let stranger = tls(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/kafka/other-ca.pem"));
    let errors = errors_of_all_calls(&stranger, &name(&topic));
    let ours = tls(&service("STRANDLINE_TEST_KAFKA_CA"));
    let client = KafkaClient::connect(&ours).expect("a client");
    assert_eq!(client.watermarks(&name(&topic), &[0]).expect("one")[0].high_watermark, 1);
    assert_eq!(read(&mut reader(&ours, &name(&topic)), 0, range(0, 1)).1, [0]);
    for text in gather(&errors, FailureKind::KafkaUnavailable) {
        assert!(text.contains("certificate verify failed"), "{text}");
    }
}

#[tokio::test]
async fn a_user_sees_and_reads_what_the_acls_allow() {
    let (granted, denied) = (TestTopic::create(1, &[]).await, TestTopic::create(1, &[]).await);
    granted.produce(&[record(0, 0, "a"), record(0, 1, "b")]).await;
    denied.produce(&[record(0, 0, "secret")]).await;
    wire::allow_reading(&granted.name);
    let reader_user = sasl(r"s3\,cret=1");
    let client = KafkaClient::connect(&reader_user).expect("a client");
    until("the ACL holds", || client.topic_id(&name(&granted)).is_ok());
    let found = client.describe_topic(&name(&granted)).expect("described");
    assert_eq!((found.timestamp_type, found.retention_ms), (None, None), "settings are not seen");
    let look = client.look(&name(&granted), &[0], &window(0, 1)).expect("a look")[0];
    assert_eq!((look.start_answer, look.end_answer), (Some(0), Some(1)));
    // Without a right to any group.
    let (end, offsets) = read(&mut reader(&reader_user, &name(&granted)), 0, range(0, 2));
    end.expect("read");
    assert_eq!(offsets, [0, 1]);
    let listed = client.list_topics().expect("listed");
    assert!(listed.iter().any(|topic| topic.topic == granted.name));
    assert!(listed.iter().all(|topic| topic.topic != denied.name));
    for error in [
        client.describe_topic(&name(&denied)).expect_err("denied"),
        client.look(&name(&denied), &[0], &window(0, HOUR)).expect_err("denied"),
        read(&mut reader(&reader_user, &name(&denied)), 0, range(0, 1)).0.expect_err("denied"),
    ] {
        assert_eq!(error.failure_kind(), FailureKind::KafkaAuth, "{error}");
        assert!(error.to_string().contains("Topic authorization failed"), "{error}");
    }
    let app = app_with(reader_user).await;
    let snapshot = app.snapshot(&granted.name, 0, HOUR).await;
    assert_eq!(snapshot["result"]["records"], 2, "{snapshot}");
}
