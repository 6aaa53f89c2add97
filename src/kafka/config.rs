//! How to reach a cluster, and every librdkafka setting with its reason.

use std::fmt;
use std::net::Ipv6Addr;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError as ClientError;

use super::error::KafkaConfigError;
use super::reader::ReadLimits;

/// What Strandline's promises stand on. A property may repeat such a value, not change it.
const FIXED: &[(&str, &str, &str)] = &[
    // librdkafka's own default jumps to the end, silently, over all that is still there.
    ("auto.offset.reset", "error", "an offset that is gone must be an error, not a jump"),
    // Its default too; look-ups and watermarks follow it, so it is stated.
    ("isolation.level", "read_committed", "aborted transactions must not be stored"),
    ("enable.partition.eof", "true", "it tells when a partition is read to its end"),
    ("enable.auto.commit", "false", "Postgres alone says what was read"),
    ("enable.auto.offset.store", "false", "Postgres alone says what was read"),
    // Off by default; for small records the cost was within the noise of the measurement.
    ("check.crcs", "true", "damaged records must not be archived"),
    ("allow.auto.create.topics", "false", "looking at a topic must not make it"),
];

/// What a property must not do, and why.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "STRANDLINE_KAFKA_BROKERS sets it"),
    ("metadata.broker.list", "STRANDLINE_KAFKA_BROKERS sets it"),
    ("auto.commit.enable", "Postgres alone says what was read"),
    // A follower's end of the partition lags behind the leader's.
    ("client.rack", "events are read from leaders only"),
    ("queued.max.messages.kbytes", "it is part of the worker's memory limit"),
    // rdkafka takes the log from the queue; without it lines go to standard error.
    ("log.queue", "the log goes through Strandline's own"),
];

/// What a property may change.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "strandline"),
    // The default of 10 s is as long as a call may take: one failed connection would be
    // the last try.
    ("reconnect.backoff.max.ms", "1000"),
    // Brokers may ask clients for their metrics. Nobody wants them from readers that live for
    // seconds, and the last of them would hold up the end of each.
    ("enable.metrics.push", "false"),
];

/// What a property may change for the reader.
const READER_DEFAULTS: &[(&str, &str)] = &[
    // Only a consumer with a group can be assigned partitions. Nothing is ever committed.
    ("group.id", "strandline"),
    // A full queue stops fetching for this long. The default of a second made a writer that
    // is slower than the network five times slower.
    ("fetch.queue.backoff.ms", "5"),
    // How long the broker holds back an empty answer. The last request for one partition
    // holds up the first for the next one for so long: the default of 500 made two hundred
    // short reads take a hundred seconds.
    ("fetch.wait.max.ms", "10"),
];

/// How to reach a cluster.
#[derive(Clone)]
pub struct KafkaConfig {
    /// The addresses to begin with, `host:port`, separated by commas.
    pub brokers: String,
    /// More of librdkafka's properties, for SASL, TLS and so on. Values may be secret.
    pub properties: Vec<(String, String)>,
}

impl KafkaConfig {
    /// Reads and checks both settings. `properties` is `name=value,name=value`; a value may
    /// hold `=`, and a comma as `\,` (a backslash before one, or at its end, as `\\`).
    ///
    /// # Errors
    /// [`KafkaConfigError`], with librdkafka's own reason for a name or a value that it
    /// does not take.
    pub fn new(brokers: &str, properties: &str) -> Result<Self, KafkaConfigError> {
        let brokers = check_brokers(brokers)?;
        let properties = split_properties(properties.trim_end_matches(['\r', '\n']))?;
        for (index, (name, value)) in properties.iter().enumerate() {
            if properties.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(refused(name, "it is there twice"));
            }
            check_property(index, name, value)?;
        }
        let config = KafkaConfig { brokers, properties };
        config.check_together()?;
        Ok(config)
    }

    /// The settings of a client that asks about topics and offsets.
    pub(super) fn for_client(&self) -> ClientConfig {
        self.build(DEFAULTS, &[("bootstrap.servers", &self.brokers)])
    }

    /// The settings of a consumer that reads events.
    pub(super) fn for_reader(&self, limits: ReadLimits) -> ClientConfig {
        let queue_kbytes = limits.queue_kbytes.max(1).to_string();
        let fetch_bytes = (u64::from(limits.fetch_kbytes.max(1)) << 10).to_string();
        self.build(
            &[DEFAULTS, READER_DEFAULTS, &[("fetch.message.max.bytes", &fetch_bytes)]].concat(),
            &[
                ("bootstrap.servers", self.brokers.as_str()),
                ("queued.max.messages.kbytes", &queue_kbytes),
            ],
        )
    }

    fn build(&self, defaults: &[(&str, &str)], own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Not from the `log` crate's level, which nothing here sets.
        config.set_log_level(RDKafkaLogLevel::Info);
        for &(name, value) in defaults {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for &(name, value, _) in FIXED {
            config.set(name, value);
        }
        for &(name, value) in own {
            config.set(name, value);
        }
        config
    }

    /// Files that do not open, a mechanism without a password: librdkafka finds those when
    /// it makes a client. Without a broker it has nobody to connect to.
    fn check_together(&self) -> Result<(), KafkaConfigError> {
        let consumer: Result<BaseConsumer, ClientError> = self.build(DEFAULTS, &[]).create();
        consumer.map(drop).map_err(|error| {
            let reason = match error {
                ClientError::ClientCreation(reason) => reason,
                other => other.to_string(),
            };
            let secret = self.properties.iter().any(|(n, v)| shows_secret(n, v, &reason));
            KafkaConfigError::Together(if secret {
                "librdkafka can't make a client of them (its reason quotes a secret)".to_owned()
            } else {
                reason
            })
        })
    }
}

/// Names only: values may be secret.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("properties", &names)
            .finish()
    }
}

/// The protocols that librdkafka takes in front of a broker's address.
const PROTOCOLS: &[&str] = &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

fn check_brokers(text: &str) -> Result<String, KafkaConfigError> {
    let brokers: Vec<&str> = text.split(',').map(str::trim).filter(|b| !b.is_empty()).collect();
    if brokers.is_empty() {
        return Err(KafkaConfigError::Brokers("it is empty".to_owned()));
    }
    for broker in &brokers {
        // Not quoted: a password may stand there.
        if broker.contains('@') {
            let problem = "an entry has a user in it, who belongs in STRANDLINE_KAFKA_PROPERTIES";
            return Err(KafkaConfigError::Brokers(problem.to_owned()));
        }
        check_broker(broker)
            .map_err(|problem| KafkaConfigError::Brokers(format!("{broker:?} {problem}")))?;
    }
    Ok(brokers.join(","))
}

fn check_broker(broker: &str) -> Result<(), &'static str> {
    let address = match broker.split_once("://") {
        Some((protocol, address)) => {
            let known = PROTOCOLS.iter().any(|known| protocol.eq_ignore_ascii_case(known));
            if known { address } else { return Err("is no address of a broker, but a URL") }
        }
        None => broker,
    };
    // Without a port librdkafka takes 9092; an IPv6 address stands in brackets.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if in_brackets.is_none() && host.contains(':') {
        return Err(
            "has more than one colon; an IPv6 address stands in brackets, as in [::1]:9092",
        );
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_host = match in_brackets {
        // A zone may follow, as in fe80::1%eth0.
        Some(v6) => v6.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(fits),
    };
    if !is_host {
        return Err("has no valid host");
    }
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => Err("has no valid port"),
        _ => Ok(()),
    }
}

/// Cuts `name=value,name=value` apart, `\,` and `\\` taken for what they stand for.
fn split_properties(text: &str) -> Result<Vec<(String, String)>, KafkaConfigError> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(&escaped @ (',' | '\\'))) => {
                characters.next();
                entries.last_mut().expect("there is one from the start").push(escaped);
            }
            (',', _) => entries.push(String::new()),
            (other, _) => entries.last_mut().expect("there is one from the start").push(other),
        }
    }
    let malformed = |entry: usize, reason| KafkaConfigError::Malformed { entry, reason };
    let mut properties = Vec::new();
    for (entry, text) in (1..).zip(entries).filter(|(_, text)| !text.trim().is_empty()) {
        let (name, value) = text.split_once('=').ok_or(malformed(entry, "has no ="))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(malformed(entry, "has no name before ="));
        }
        if value.contains('\0') || name.contains('\0') {
            return Err(malformed(entry, "holds a NUL character"));
        }
        properties.push((name.to_owned(), value.to_owned()));
    }
    Ok(properties)
}

fn check_property(index: usize, name: &str, value: &str) -> Result<(), KafkaConfigError> {
    let fixed = FIXED.iter().find(|(fixed, _, _)| *fixed == name);
    if let Some((_, fixed, why)) = fixed.filter(|(_, fixed, _)| !fixed.eq_ignore_ascii_case(value))
    {
        return Err(refused(name, &format!("it is always {fixed}: {why}")));
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(refused(name, why));
    }
    if name.starts_with("sasl.mechanism") && value.eq_ignore_ascii_case("OAUTHBEARER") {
        return Err(refused(name, "Strandline can't fetch tokens for OAUTHBEARER"));
    }
    let mut config = ClientConfig::new();
    let reason = match config.set(name, value).create_native_config() {
        Ok(_) => return Ok(()),
        Err(ClientError::ClientConfig(_, reason, _, _)) => reason,
        Err(other) => other.to_string(),
    };
    // What stands behind a comma that was not escaped looks like a name.
    if !looks_like_a_name(name) {
        let reason = "has a name that librdkafka does not know";
        return Err(KafkaConfigError::Malformed { entry: index + 1, reason });
    }
    let reason = if shows_secret(name, value, &reason) {
        "librdkafka does not take the value".to_owned()
    } else {
        reason
    };
    Err(KafkaConfigError::Invalid { property: name.to_owned(), reason })
}

fn refused(property: &str, reason: &str) -> KafkaConfigError {
    KafkaConfigError::Refused { property: property.to_owned(), reason: reason.to_owned() }
}

/// Whether it is made as librdkafka's names are: words in small letters, with dots.
fn looks_like_a_name(text: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.contains('.') && text.split('.').all(word)
}

fn shows_secret(name: &str, value: &str, text: &str) -> bool {
    let secret = ["password", "secret", "pem", "oauthbearer", "token", "username"];
    !value.is_empty() && secret.iter().any(|part| name.contains(part)) && text.contains(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(properties: &str) -> String {
        KafkaConfig::new("127.0.0.1:9092", properties).expect_err(properties).to_string()
    }

    #[test]
    fn properties_are_cut_at_commas_that_are_not_escaped() {
        let pairs = |text: &str| split_properties(text).expect(text);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(""), []);
        assert_eq!(pairs(" a=1, b=2 ,"), [pair("a", "1"), pair("b", "2 ")]);
        assert_eq!(pairs(r"a=x=\,y\\,b=\n\"), [pair("a", r"x=,y\"), pair("b", r"\n\")]);
        assert_eq!(pairs("a="), [pair("a", "")]);
    }

    #[test]
    fn brokers_are_checked() {
        for good in [
            "a",
            "a:9092",
            " a:1 , b:2,",
            "SSL://a:9093",
            "sasl_ssl://a",
            "[::1]:9092",
            "[fe80::1%eth0]",
            "10.0.0.1:9092",
            "kafka-0.kafka_headless.prod.svc:9092",
        ] {
            assert!(check_brokers(good).is_ok(), "{good}");
        }
        for (bad, part) in [
            ("", "it is empty"),
            (" , ", "it is empty"),
            (":9092", "valid host"),
            ("a:b", "valid port"),
            ("a:0", "valid port"),
            ("a:70000", "valid port"),
            ("a:", "valid port"),
            ("a b:1", "valid host"),
            ("sasl_ssl://user:hunter3@a:1", "an entry has a user in it"),
            ("http://a:9092", "but a URL"),
            ("kafka://a:9092", "but a URL"),
            ("://a:9092", "but a URL"),
            ("a:1,https://b:2", "\"https://b:2\""),
            ("a:9092/topic", "valid port"),
            ("a/topic", "valid host"),
            ("a:9092;b:9092", "more than one colon"),
            ("::1", "in brackets"),
            ("[::g]:9092", "valid host"),
            ("[::1", "more than one colon"),
        ] {
            let error = check_brokers(bad).expect_err(bad).to_string();
            assert!(error.starts_with("STRANDLINE_KAFKA_BROKERS: "), "{error}");
            assert!(error.contains(part) && !error.contains("hunter3"), "{bad}: {error}");
            assert!(error.ends_with("write it as in broker-1:9092,broker-2:9092"), "{error}");
        }
    }

    #[test]
    fn what_breaks_the_promises_is_refused() {
        for (properties, part) in [
            ("auto.offset.reset=latest", "auto.offset.reset can't be set: it is always error"),
            ("isolation.level=read_uncommitted", "it is always read_committed"),
            ("enable.auto.commit=true", "Postgres alone"),
            ("enable.partition.eof=false", "it is always true"),
            ("bootstrap.servers=a:1", "STRANDLINE_KAFKA_BROKERS sets it"),
            ("client.rack=a", "leaders only"),
            ("sasl.mechanism=OAUTHBEARER", "OAUTHBEARER"),
            ("client.id=a,client.id=b", "it is there twice"),
        ] {
            assert!(error(properties).contains(part), "{}", error(properties));
        }
    }

    #[test]
    fn librdkafkas_own_reasons_are_given() {
        assert!(error("fetch.wait.max.mss=5").contains("No such configuration property"));
        assert!(error("security.protocol=plainn").contains("plainn"));
        assert!(error("fetch.wait.max.ms=x").starts_with("STRANDLINE_KAFKA_PROPERTIES: fetch."));
        assert!(error("security.protocol=ssl,ssl.ca.location=/nowhere/ca").contains("ssl.ca"));
        assert!(error("security.protocol=sasl_plaintext,sasl.mechanism=PLAIN").contains("sasl."));
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        for properties in [
            "sasl.password=Hunter2,hunter3",
            "sasl.password=Hunter2,hunter3=4",
            "security.protocol=ssl,ssl.key.pem=hunter3,ssl.certificate.pem=hunter3",
        ] {
            let error = error(properties);
            assert!(!error.contains("unter"), "{error}");
        }
        let config = KafkaConfig::new("a:1", r"sasl.password=hunter3\,=2").expect("fine");
        assert_eq!(config.properties[0].1, "hunter3,=2");
        assert!(!format!("{config:?}").contains("hunter3"), "{config:?}");
    }

    #[test]
    fn harmless_properties_and_fixed_values_repeated_are_taken() {
        let text = "isolation.level=READ_COMMITTED,group.id=audit,socket.keepalive.enable=true";
        let config = KafkaConfig::new("a:1", text).expect("fine");
        let reader = config.for_reader(ReadLimits { queue_kbytes: 0, ..ReadLimits::default() });
        assert_eq!(reader.get("group.id"), Some("audit"));
        assert_eq!(reader.get("isolation.level"), Some("read_committed"));
        assert_eq!(reader.get("queued.max.messages.kbytes"), Some("1"));
        let native = reader.create_native_config().expect("fine");
        for (name, value, _) in FIXED {
            assert_eq!(native.get(name).as_deref(), Ok(*value));
        }
    }
}
