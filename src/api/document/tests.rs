//! The document says all of every operation, and its examples are what it says.

use std::collections::BTreeSet;

use super::*;
use crate::api::openapi_json;

fn document() -> Value {
    serde_json::from_str(openapi_json()).expect("JSON")
}

/// The operations, with their ids.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let items = document["paths"].as_object().expect("paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("operations").values());
    operations.map(|one| (one["operationId"].as_str().expect("an id").to_owned(), one)).collect()
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(path) = value["$ref"].as_str() else { return value };
    let found = document.pointer(path.strip_prefix('#').expect("a reference in the document"));
    found.unwrap_or_else(|| panic!("{path} is not there"))
}

/// Every schema beside its examples: of answers, bodies and parameters.
fn shown(document: &Value) -> Vec<(String, &Value, Vec<&Value>)> {
    let mut shown = Vec::new();
    for (id, operation) in operations(document) {
        let answers = operation["responses"].as_object().expect("responses").iter();
        let bodies = operation.get("requestBody").map(|body| ("body", body));
        for (name, place) in answers.map(|(status, answer)| (status.as_str(), answer)).chain(bodies)
        {
            for (media_type, media) in place["content"].as_object().into_iter().flatten() {
                let examples = media["examples"].as_object().into_iter().flatten();
                let examples = examples.map(|(_, one)| &resolve(document, one)["value"]);
                shown.push((
                    format!("{id} {name} {media_type}"),
                    &media["schema"],
                    examples.collect(),
                ));
            }
        }
        for parameter in operation["parameters"].as_array().expect("parameters") {
            let parameter = resolve(document, parameter);
            let example = parameter.get("example").into_iter().collect();
            shown.push((format!("{id} {}", parameter["name"]), &parameter["schema"], example));
        }
    }
    shown
}

#[test]
fn every_operation_is_told_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (id, operation) in operations(&document) {
        for text in ["summary", "description"] {
            assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{id}: {text}");
        }
        assert!(operation["tags"][0].is_string() && operation["security"][0].is_object(), "{id}");
        let known = operations::find(&id).unwrap_or_else(|| panic!("{id} is not in the table"));
        for (status, names) in known.headers {
            let answer = &operation["responses"][status.to_string()];
            assert!(answer["description"].is_string(), "{id}: {status} has {names:?}");
        }
        for (status, answer) in operation["responses"].as_object().expect("responses") {
            let header = resolve(&document, &answer["headers"]["X-Request-Id"]);
            assert_eq!(header["required"], true, "{id} {status}");
        }
        assert!(ids.insert(id.clone()), "{id} is there twice");
    }
    let table: BTreeSet<String> =
        operations::OPERATIONS.iter().map(|known| known.id.to_owned()).collect();
    assert_eq!(ids, table);
}

#[test]
fn every_answer_and_body_has_examples_that_fit_it() {
    let document = document();
    for (place, schema, examples) in shown(&document) {
        let opaque = place.ends_with("\"cursor\"");
        assert!(!examples.is_empty() || opaque, "{place} has no example");
        for example in examples {
            check(&document, schema, example, &place);
        }
    }
}

/// Whether a value fits a schema, by the words that the document uses.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(choices) = schema["anyOf"].as_array() {
        let null = choices.contains(&json!({"type": "null"}));
        assert!(null && choices.len() == 2, "{place}: a union");
        if !value.is_null() {
            check(document, &choices[0], value, place);
        }
        return;
    }
    let schema = resolve(document, schema);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let fits = |one: &Value| *one == kind || (*one == "number" && kind == "integer");
    assert!(types.iter().any(fits), "{place}: {value} is no {types:?}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{place}: {value} is none of {values:?}");
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{place}/{at}"));
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().expect("a name")), "{place}: {name} is missing");
    }
    for (name, inner) in object {
        let more = &schema["additionalProperties"];
        match schema["properties"].get(name) {
            Some(schema) => check(document, schema, inner, &format!("{place}/{name}")),
            None if more.is_object() => check(document, more, inner, &format!("{place}/{name}")),
            None => assert!(schema.get("properties").is_none(), "{place}: {name} is unknown"),
        }
    }
}

#[test]
fn every_problem_is_shown_under_its_status() {
    let document = document();
    let mut seen = BTreeSet::new();
    for (id, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().expect("responses") {
            let examples = &answer["content"]["application/problem+json"]["examples"];
            for example in examples.as_object().into_iter().flatten().map(|(_, one)| one) {
                let problem = &resolve(&document, example)["value"];
                assert_eq!(problem["status"].to_string(), *status, "{id}");
                assert_eq!(problem["detail"].as_str().map(str::is_empty), Some(false), "{problem}");
                seen.insert((status.clone(), problem["code"].as_str().expect("a code").to_owned()));
            }
        }
    }
    let codes = ProblemCode::ALL.iter();
    let all = codes.map(|code| (code.status().to_string(), code.as_str().to_owned())).collect();
    assert_eq!(seen, all);
}

#[test]
fn answers_have_no_unions_and_pages_have_names() {
    let text = openapi_json();
    assert!(!text.contains("\"oneOf\"") && !text.contains("Page_"));
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["SnapshotPage"]["properties"]["items"]["items"],
        reference("schemas", "Snapshot")
    );
    let file = &schemas["TopicFile"];
    assert!(file["properties"]["sha256"].is_object() && file.get("allOf").is_none());
    for (name, schema) in schemas.as_object().expect("schemas") {
        assert!(schema["description"].is_string(), "{name}");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{field}");
        }
    }
}
