//! The document in OpenAPI 3.0.3, for tools that know no newer one.
//!
//! What 3.0 can say in another way is said that way; what it can't say is left out: the
//! lowered document allows more than the service does.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Words of schemas that 3.0 does not know.
const UNKNOWN: &[&str] = &["contentMediaType", "contentSchema", "propertyNames"];

/// Where the text of the licence is: 3.0 knows no SPDX identifiers.
const LICENSE_URL: &str = "https://www.apache.org/licenses/LICENSE-2.0";

/// Turns a document of OpenAPI 3.1 into one of 3.0.3.
pub(in crate::api) fn lower(document: &Value) -> Value {
    let mut lowered = lowered(document);
    lowered["openapi"] = json!("3.0.3");
    if let Some(license) = lowered["info"]["license"].as_object_mut()
        && license.remove("identifier").is_some()
    {
        license.insert("url".to_owned(), json!(LICENSE_URL));
    }
    bodies_of_one_type(&mut lowered["paths"]);
    let schemas = document["components"]["schemas"].clone();
    type_beside_null(&mut lowered, &schemas);
    drop_unused(&mut lowered);
    lowered
}

/// Leaves the first form of each body, which is JSON: progenitor takes no more than one.
fn bodies_of_one_type(paths: &mut Value) {
    let items = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in items.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        if let Some(content) =
            operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut)
        {
            *content = std::mem::take(content).into_iter().take(1).collect();
        }
    }
}

/// Lowers schemas wherever they are, and leaves values alone.
fn lowered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(lowered).collect(),
        Value::Object(object) => {
            let mut schema = Map::new();
            for (name, inner) in object {
                match name.as_str() {
                    name if UNKNOWN.contains(&name) => {}
                    // Names that callers' words begin below, which mean nothing here.
                    "properties" | "schemas" => {
                        drop(schema.insert(name.clone(), lowered_each(inner)))
                    }
                    "example" | "default" | "enum" => {
                        drop(schema.insert(name.clone(), inner.clone()))
                    }
                    "const" => drop(schema.insert("enum".to_owned(), json!([inner]))),
                    "examples" => schema.extend(lowered_examples(inner)),
                    _ => drop(schema.insert(name.clone(), lowered(inner))),
                }
            }
            one_type(&mut schema);
            null_beside(&mut schema);
            nothing_beside_references(&mut schema);
            Value::Object(schema)
        }
        other => other.clone(),
    }
}

fn lowered_each(named: &Value) -> Value {
    let named = named.as_object().into_iter().flatten();
    Value::Object(named.map(|(name, schema)| (name.clone(), lowered(schema))).collect())
}

/// A schema has a list of examples, of which 3.0 knows one; all else has them by name.
fn lowered_examples(examples: &Value) -> Option<(String, Value)> {
    match examples {
        Value::Array(list) => Some(("example".to_owned(), list.first()?.clone())),
        named => Some(("examples".to_owned(), named.clone())),
    }
}

/// `[X, "null"]` is X that may be null; of several types, 3.0 can only say "any".
fn one_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = schema.get("type") else { return };
    let null = json!("null");
    let rest: Vec<Value> = types.iter().filter(|one| **one != null).cloned().collect();
    let may_be_null = rest.len() < types.len();
    match rest.as_slice() {
        [one] => drop(schema.insert("type".to_owned(), one.clone())),
        _ => {
            schema.remove("type");
        }
    }
    if may_be_null {
        schema.insert("nullable".to_owned(), json!(true));
    }
}

/// `anyOf` of something and null is that something, and may be null.
fn null_beside(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("anyOf") else { return };
    let rest: Vec<Value> =
        choices.iter().filter(|choice| **choice != json!({"type": "null"})).cloned().collect();
    if rest.len() == choices.len() {
        return;
    }
    schema.remove("anyOf");
    schema.insert(if rest.len() == 1 { "allOf" } else { "anyOf" }.to_owned(), Value::Array(rest));
    schema.insert("nullable".to_owned(), json!(true));
}

/// In 3.0, `nullable` means something beside a `type` alone: that of what is referred to.
fn type_beside_null(value: &mut Value, schemas: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| type_beside_null(item, schemas)),
        Value::Object(object) => {
            if object.contains_key("nullable") && !object.contains_key("type") {
                let name = object.get("allOf").and_then(|parts| parts[0]["$ref"].as_str());
                let name = name.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                match &schemas[name]["type"] {
                    Value::String(kind) => {
                        object.insert("type".to_owned(), kind.clone().into());
                    }
                    _ => drop(object.remove("nullable")),
                }
            }
            object.values_mut().for_each(|inner| type_beside_null(inner, schemas));
        }
        _ => {}
    }
}

/// In 3.0, whatever stands beside a reference is ignored.
fn nothing_beside_references(schema: &mut Map<String, Value>) {
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}

/// Drops the schemas that were named only where 3.0 can't name them.
fn drop_unused(document: &mut Value) {
    let mut used = BTreeSet::new();
    let mut unseen = names(&document["paths"]);
    while let Some(name) = unseen.pop_first() {
        let Some((section, key)) = name.split_once('/') else { continue };
        unseen.extend(names(&document["components"][section][key]).difference(&used).cloned());
        used.insert(name);
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| used.contains(&format!("schemas/{name}")));
    }
}

/// What a value refers to, as `schemas/Snapshot`.
fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(names).collect(),
        Value::Object(object) => {
            let reference = object.get("$ref").and_then(Value::as_str);
            let own = reference.and_then(|path| path.strip_prefix("#/components/"));
            object.values().flat_map(names).chain(own.map(str::to_owned)).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_said_in_the_words_of_3_0() {
        for (schema, expected) in [
            (json!({"type": ["string", "null"]}), json!({"type": "string", "nullable": true})),
            (json!({"type": ["string", "object", "null"]}), json!({"nullable": true})),
            (json!({"const": "a"}), json!({"enum": ["a"]})),
            (
                json!({"type": "string", "examples": ["a", "b"]}),
                json!({"type": "string", "example": "a"}),
            ),
            (
                json!({"anyOf": [{"$ref": "#/x"}, {"type": "null"}], "description": "d"}),
                json!({"description": "d", "allOf": [{"$ref": "#/x"}], "nullable": true}),
            ),
            (
                json!({"$ref": "#/x", "description": "d"}),
                json!({"description": "d", "allOf": [{"$ref": "#/x"}]}),
            ),
            (json!({"$ref": "#/x"}), json!({"$ref": "#/x"})),
            (
                json!({"type": "object", "propertyNames": {"type": "string"}}),
                json!({"type": "object"}),
            ),
        ] {
            assert_eq!(lowered(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn what_is_no_schema_stays_as_it_is() {
        let media = json!({"examples": {"one": {"value": {"type": ["a", "null"]}}}});
        assert_eq!(lowered(&media), media);
        let default = json!({"default": {"const": 1}, "enum": [{"const": 1}]});
        assert_eq!(lowered(&default), default);
        // Properties may be called like words of schemas.
        let properties =
            json!({"properties": {"const": {"type": "string"}, "examples": {"type": "string"}}});
        assert_eq!(lowered(&properties), properties);
    }

    #[test]
    fn bodies_have_one_form_and_unused_schemas_go() {
        let document = json!({
            "openapi": "3.1.0", "info": {"license": {"name": "x", "identifier": "y"}},
            "paths": {"/a": {"post": {"requestBody": {"content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/A"}},
                "text/plain": {"schema": {"$ref": "#/components/schemas/C"}},
            }}}}},
            "components": {"schemas": {
                "A": {"properties": {"b": {"$ref": "#/components/schemas/B"}}},
                "B": {"type": "string"},
                "C": {"type": "string"},
            }},
        });
        let lowered = lower(&document);
        let names: Vec<&String> =
            lowered["components"]["schemas"].as_object().expect("schemas").keys().collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(lowered["openapi"], "3.0.3");
        assert_eq!(lowered["info"]["license"], json!({"name": "x", "url": LICENSE_URL}));
    }
}
