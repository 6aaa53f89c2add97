//! Schemas as generators of clients like them, made of those that utoipa writes.

use serde_json::{Map, Value, json};

use super::reference;
use crate::api::problem::ProblemCode;

/// Makes schemas simple: few unions, no object written out twice, names without underscores.
pub(super) fn simplify(document: &mut Value) {
    walk(document);
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    flatten(schemas);
    name_pages(schemas);
    // One code goes with two statuses.
    let mut codes: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    codes.dedup();
    if let Some(code) = schemas.get_mut("Problem").map(|problem| &mut problem["properties"]["code"])
    {
        // Not an `enum`: a client that was generated before a code came would refuse it.
        code["x-extensible-enum"] = codes.into();
    }
    rename_pages(document);
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(object) => {
            object.values_mut().for_each(walk);
            nullable(object);
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            if let Some(example) = object.remove("example") {
                object.insert("examples".to_owned(), json!([example]));
            }
        }
        _ => {}
    }
}

/// `anyOf` with the description beside it, as most documents have it: generators take it for
/// "may be null", where `oneOf` is a union to some.
fn nullable(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let [Value::Object(one), null] = choices.as_slice() else { return };
    if *null != json!({"type": "null"}) {
        return;
    }
    let mut one = one.clone();
    let description = one.remove("description");
    object.remove("oneOf");
    object.extend(description.map(|text| ("description".to_owned(), text)));
    object.insert("anyOf".to_owned(), json!([one, {"type": "null"}]));
}

/// Writes one object where utoipa composes two: a struct that is flattened into another.
fn flatten(schemas: &mut Map<String, Value>) {
    let before = schemas.clone();
    for schema in schemas.values_mut() {
        let Some(parts) = schema["allOf"].as_array().cloned() else { continue };
        let mut whole = json!({"type": "object", "description": schema["description"], "required": [], "properties": {}});
        for part in &parts {
            let name = part["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            let part = name.and_then(|name| before.get(name)).unwrap_or(part);
            for name in part["required"].as_array().into_iter().flatten() {
                whole["required"]
                    .as_array_mut()
                    .map(|all| all.push(name.clone()))
                    .unwrap_or_default();
            }
            for (name, property) in part["properties"].as_object().into_iter().flatten() {
                whole["properties"][name] = property.clone();
            }
        }
        *schema = whole;
    }
}

/// A page's items are named; utoipa writes the items of a generic struct out once more.
fn name_pages(schemas: &mut Map<String, Value>) {
    for (name, schema) in schemas.iter_mut() {
        if let Some(item) = name.strip_prefix("Page_") {
            schema["properties"]["items"]["items"] = reference("schemas", item);
        }
    }
}

/// `Page_File` becomes `FilePage`, in the schemas and wherever they are named.
fn rename_pages(value: &mut Value) {
    const PREFIX: &str = "#/components/schemas/Page_";
    match value {
        Value::Array(items) => items.iter_mut().for_each(rename_pages),
        Value::Object(object) => {
            if let Some(Value::String(path)) = object.get_mut("$ref")
                && let Some(item) = path.strip_prefix(PREFIX)
            {
                *path = format!("#/components/schemas/{item}Page");
            }
            let renamed = |(name, mut value): (String, Value)| {
                rename_pages(&mut value);
                let page = name.strip_prefix("Page_").map(|item| format!("{item}Page"));
                (page.unwrap_or(name), value)
            };
            *object = std::mem::take(object).into_iter().map(renamed).collect();
        }
        _ => {}
    }
}
