//! The manifests in deploy/kubernetes.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::{check_pinned, is_route, is_secret, path, strings, variables, yaml};

const FOLDER: &str = "deploy/kubernetes";

fn manifest(name: &str) -> Value {
    yaml(&format!("{FOLDER}/{name}.yaml"))
}

fn container() -> Value {
    let deployment = manifest("deployment");
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let [container] = containers.expect("containers").as_slice() else { panic!("one container") };
    container.clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_manifest_is_applied_and_in_the_namespace() {
    let kustomization = manifest("kustomization");
    let listed: BTreeSet<_> =
        strings(&kustomization["resources"], "resources").into_iter().collect();
    let folder = fs::read_dir(path(FOLDER)).expect("a folder");
    let names = folder.map(|entry| entry.expect("an entry").file_name().into_string());
    let names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
    for name in &names {
        let apart = ["kustomization.yaml", "secret.example.yaml"].contains(&name.as_str());
        assert!(apart || listed.contains(name.as_str()), "{name} is not applied");
        let manifest = yaml(&format!("{FOLDER}/{name}"));
        let namespace = match name.as_str() {
            "kustomization.yaml" => &manifest["namespace"],
            "namespace.yaml" => &manifest["metadata"]["name"],
            _ => &manifest["metadata"]["namespace"],
        };
        assert_eq!(namespace, "strandline", "{name}");
    }
    assert!(listed.iter().all(|name| names.iter().any(|other| other == name)));
}

#[test]
fn selectors_find_the_pods() {
    let deployment = manifest("deployment");
    let template = &deployment["spec"]["template"];
    let labels = template["metadata"]["labels"].as_object().expect("labels").clone();
    let mut selectors = vec![
        deployment["spec"]["selector"]["matchLabels"].clone(),
        manifest("service")["spec"]["selector"].clone(),
        manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"].clone(),
        manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"].clone(),
    ];
    let spread = template["spec"]["topologySpreadConstraints"].as_array().expect("constraints");
    selectors.extend(spread.iter().map(|one| one["labelSelector"]["matchLabels"].clone()));
    for selector in selectors {
        let selector = selector.as_object().expect("a selector").clone();
        assert!(!selector.is_empty());
        assert!(
            selector.iter().all(|(name, value)| labels.get(name) == Some(value)),
            "{selector:?}"
        );
    }
}

#[test]
fn several_replicas_and_never_all_of_them_away() {
    let deployment = manifest("deployment");
    let replicas = number(&deployment["spec"]["replicas"]);
    assert!(replicas >= 2);
    let budget = manifest("poddisruptionbudget");
    assert!(number(&budget["spec"]["maxUnavailable"]) < replicas);
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(*rolling, json!({"maxSurge": 1, "maxUnavailable": 0}));
}

#[test]
fn probes_ask_what_is_there_and_are_patient() {
    let container = container();
    let ports = container["ports"].as_array().expect("ports");
    let listen = &manifest("configmap")["data"]["STRANDLINE_LISTEN"];
    assert!(
        listen.as_str().expect("an address").ends_with(&format!(":{}", ports[0]["containerPort"]))
    );
    for (probe, route) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["path"], route, "{probe}");
        assert!(is_route(route));
        assert_eq!(asked["port"], ports[0]["name"], "{probe}");
    }
    assert_eq!(manifest("service")["spec"]["ports"][0]["targetPort"], ports[0]["name"]);
    let ingress = &manifest("networkpolicy")["spec"]["ingress"][0];
    assert_eq!(ingress["ports"][0]["port"], ports[0]["name"]);

    // Another replica's migration is waited for, for ten minutes.
    let startup = &container["startupProbe"];
    let patience = number(&startup["periodSeconds"]) * number(&startup["failureThreshold"]);
    assert!(patience > 600);
    let deployment = manifest("deployment");
    assert!(number(&deployment["spec"]["progressDeadlineSeconds"]) > patience);
}

#[test]
fn there_is_time_to_drain() {
    let deployment = manifest("deployment");
    let grace = number(&deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]);
    let before = number(&container()["lifecycle"]["preStop"]["sleep"]["seconds"]);
    assert!(grace > before + 25, "draining takes 25 seconds at most");
}

#[test]
fn pods_are_confined() {
    let deployment = manifest("deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    let account = manifest("serviceaccount");
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    let container = container();
    let confined = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], confined);
    assert!(container["resources"]["limits"]["memory"].is_string());
    assert!(container["resources"]["requests"]["cpu"].is_string());
    check_pinned(container["image"].as_str().expect("an image"));
    let kustomization = manifest("kustomization");
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
    let namespace = manifest("namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn settings_and_secrets_are_apart() {
    let (config, secret) = (manifest("configmap"), manifest("secret.example"));
    let container = container();
    let refs = container["envFrom"].as_array().expect("where settings come from");
    assert_eq!(refs[0]["configMapRef"]["name"], config["metadata"]["name"]);
    assert_eq!(refs[1]["secretRef"]["name"], secret["metadata"]["name"]);
    assert!(container.get("env").is_none());
    for (name, value) in variables(&config["data"]) {
        assert!(!is_secret(name, &value), "{name} belongs in the Secret");
    }
    for (name, value) in variables(&secret["stringData"]) {
        assert!(is_secret(name, &value), "{name} is no secret");
        assert!(value.contains("REPLACE-ME"), "{name} must not look real");
    }
    let storage = config["data"]["STRANDLINE_STORAGE_URL"].as_str().expect("a URL");
    assert!(!storage.starts_with("file:"), "another disk in each pod");
}
