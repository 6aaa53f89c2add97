//! docker-compose.yml.

use serde_json::Value;

use crate::{check_pinned, is_secret, path, strings, variables, yaml};

fn services() -> Vec<(String, Value)> {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().expect("services").clone();
    services.into_iter().collect()
}

/// Those that run our own image.
fn replicas() -> Vec<(String, Value)> {
    let ours = |service: &Value| {
        service["image"].as_str().is_some_and(|image| image.starts_with("strandline:"))
    };
    services().into_iter().filter(|(_, service)| ours(service)).collect()
}

fn seconds(text: &Value) -> u32 {
    let text = text.as_str().expect("a time");
    text.strip_suffix('s').and_then(|number| number.parse().ok()).expect("seconds")
}

#[test]
fn replicas_differ_in_their_port_and_nothing_else() {
    let replicas = replicas();
    let published: Vec<&str> = replicas
        .iter()
        .filter(|(_, service)| service["deploy"]["replicas"] != 0)
        .flat_map(|(name, service)| strings(&service["ports"], name))
        .collect();
    assert_eq!(published, ["127.0.0.1:8080:8080", "127.0.0.1:8081:8080"]);
    let mut stripped = replicas.iter().map(|(_, service)| {
        let mut service = service.clone();
        let service_map = service.as_object_mut().expect("a service");
        service_map.remove("ports");
        service_map["deploy"].as_object_mut().expect("limits").remove("replicas");
        service
    });
    let first = stripped.next().expect("a replica");
    assert!(stripped.all(|other| other == first));
    let environment = &first["environment"];
    assert_eq!(environment["STRANDLINE_LISTEN"], "0.0.0.0:8080");
    // Files of one replica are files of all.
    assert!(environment["STRANDLINE_STORAGE_URL"].as_str().expect("a URL").starts_with("s3://"));
}

#[test]
fn nothing_is_published_to_others() {
    let mut ports = 0;
    for (name, service) in services() {
        match service.get("network_mode").and_then(Value::as_str) {
            None | Some("none") => {}
            Some(mode) => {
                assert_eq!((name.as_str(), mode), ("node-exporter", "host"));
                assert_listens_on_the_gateway(&service);
            }
        }
        for port in service.get("ports").map(|list| strings(list, &name)).unwrap_or_default() {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
            ports += 1;
        }
    }
    assert!(ports >= 2);
}

/// On the host's network a port is published by listening: this is on the gateway of a network
/// that only Prometheus is in.
fn assert_listens_on_the_gateway(service: &Value) {
    let compose = yaml("docker-compose.yml");
    let gateway = &compose["networks"]["host-metrics"]["ipam"]["config"][0]["gateway"];
    let listen =
        format!("--web.listen-address={}:9100", gateway.as_str().expect("the network's gateway"));
    assert!(strings(&service["command"], "command").contains(&listen.as_str()), "{listen}");
    assert!(!listen.contains("=:") && !listen.contains("0.0.0.0"), "{listen}");
}

#[test]
fn secrets_are_not_written_down() {
    let mut secrets = 0;
    for (name, service) in services() {
        let Some(environment) = service.get("environment") else { continue };
        for (variable, value) in variables(environment) {
            if is_secret(variable, &value) {
                assert!(value.contains("${"), "{name}: {variable} has to come from outside");
                secrets += 1;
            }
        }
    }
    assert!(secrets >= 4, "the search for secrets finds them");
}

#[test]
fn every_service_has_a_version_limits_and_a_policy() {
    let compose = yaml("docker-compose.yml");
    for (name, service) in services() {
        check_pinned(service["image"].as_str().expect("an image"));
        assert!(service["restart"].is_string(), "{name} has no restart policy");
        assert!(service["logging"]["options"]["max-size"].is_string(), "{name}: endless logs");
        if service["restart"] == "no" {
            continue;
        }
        assert!(service["deploy"]["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        for volume in service.get("volumes").map(|v| strings(v, &name)).unwrap_or_default() {
            let (volume, place) = volume.split_once(':').expect("a volume and its place");
            match volume.strip_prefix("./") {
                Some(file) => {
                    assert!(path(file).exists(), "{name}: there is no {file}");
                    assert!(place.ends_with(":ro"), "{name} may write to {file}");
                }
                None if volume == "/" => assert_eq!(
                    (name.as_str(), place),
                    ("node-exporter", "/host:ro,rslave"),
                    "the machine's disks are for nobody else"
                ),
                None => {
                    assert!(
                        compose["volumes"].get(volume).is_some(),
                        "{name}: {volume} has no name"
                    );
                }
            }
        }
    }
}

#[test]
fn replicas_are_confined_and_have_time_to_stop() {
    for (name, service) in replicas() {
        assert_eq!(service["user"], "65532:65532", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"], &name), ["ALL"]);
        assert!(seconds(&service["stop_grace_period"]) > 25, "{name}");
        assert_eq!(
            strings(&service["healthcheck"]["test"], &name),
            ["CMD", "strandline", "health"]
        );
    }
}

#[test]
fn what_a_replica_is_told_is_where_it_is() {
    let compose = yaml("docker-compose.yml");
    let service = |name: &str| &compose["services"][name];
    let ours = &service("strandline-1")["environment"];
    let told = |name: &str| ours[name].as_str().expect("a value").to_owned();

    let postgres = &service("postgres")["environment"];
    let (user, name) = (&postgres["POSTGRES_USER"], &postgres["POSTGRES_DB"]);
    let password = &postgres["POSTGRES_PASSWORD"];
    let plain = |value: &Value| value.as_str().expect("text").to_owned();
    let url = format!("postgres://{}:{}@postgres/{}", plain(user), plain(password), plain(name));
    assert_eq!(told("STRANDLINE_DATABASE_URL"), url);

    let kafka = &service("kafka")["environment"];
    let advertised = plain(&kafka["KAFKA_ADVERTISED_LISTENERS"]);
    assert!(advertised.contains(&format!("PLAINTEXT://{},", told("STRANDLINE_KAFKA_BROKERS"))));
    let (_, outside) = advertised.rsplit_once("://").expect("a listener for this machine");
    let published = strings(&service("kafka")["ports"], "kafka");
    assert!(published[0].starts_with(&format!("{outside}:")), "{published:?} {outside}");

    let storage = &service("storage")["environment"];
    assert_eq!(ours["AWS_ACCESS_KEY_ID"], storage["MINIO_ROOT_USER"]);
    assert_eq!(ours["AWS_SECRET_ACCESS_KEY"], storage["MINIO_ROOT_PASSWORD"]);
    let bucket = told("STRANDLINE_STORAGE_URL");
    let bucket = bucket.trim_start_matches("s3://").split('/').next().expect("a bucket");
    let made = strings(&service("bucket")["command"], "bucket")[0];
    assert!(made.contains(&format!("mkdir -p /data/{bucket} ")), "{made}");
}

#[test]
fn the_roles_have_the_passwords_that_they_are_asked_for() {
    let compose = yaml("docker-compose.yml");
    let service = |name: &str| &compose["services"][name];
    let made = strings(&service("postgres-setup")["command"], "postgres-setup").join(" ");
    let monitor = &service("postgres-exporter")["environment"]["DATA_SOURCE_PASS"];
    let monitor = monitor.as_str().expect("a password");
    assert!(made.contains(&format!("monitor_password={monitor} ")), "{made}");
    let airflow =
        &service("airflow-scheduler")["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"];
    let airflow = airflow.as_str().expect("a URL");
    let (_, password) = airflow.split_once("//airflow:").expect("the role airflow");
    let (password, place) = password.rsplit_once('@').expect("a password");
    assert_eq!(place, "postgres/airflow");
    assert!(made.contains(&format!("airflow_password={password} ")), "{made}");
}

#[test]
fn airflow_and_prometheus_are_told_where_the_others_are() {
    let compose = yaml("docker-compose.yml");
    let service = |name: &str| &compose["services"][name];
    let airflow = &service("airflow-scheduler")["environment"];
    assert!(
        service(airflow["AIRFLOW__METRICS__STATSD_HOST"].as_str().expect("a host")).is_object()
    );
    let port = airflow["AIRFLOW__METRICS__STATSD_PORT"].as_str().expect("a port");
    let statsd = strings(&service("statsd-exporter")["command"], "statsd-exporter");
    assert!(statsd.contains(&format!("--statsd.listen-udp=:{port}").as_str()), "{statsd:?}");
    for connection in ["AIRFLOW_CONN_STRANDLINE", "AIRFLOW_CONN_STRANDLINE_DEFAULT"] {
        let told = airflow[connection].as_str().expect("JSON");
        assert!(told.contains("\"http://strandline-1:8080\""), "{told}");
    }
    for (name, service) in replicas() {
        assert_eq!(service["environment"]["STRANDLINE_METRICS_LISTEN"], "0.0.0.0:9464", "{name}");
    }
}
