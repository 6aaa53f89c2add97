//! The OpenAPI document: what utoipa has collected at the routes, completed with what is the
//! same for many of them and therefore said once.
//!
//! `operations` is the table of who asks with what and may be refused how; `parameters`,
//! `headers` and `requests` say what these are, `examples` and `problems` show every answer, `schemas` makes
//! what utoipa writes easy for generators of clients. `lower` turns the document into
//! OpenAPI 3.0.3, for tools that know no newer one.

mod examples;
mod headers;
mod lower;
mod operations;
mod parameters;
mod problems;
mod requests;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::problem::ProblemCode;
use operations::Operation;

pub(super) use lower::lower;

const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Completes what utoipa has collected.
pub(super) fn complete(collected: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(collected).unwrap_or_default();
    schemas::simplify(&mut document);
    let components = &mut document["components"];
    components["schemas"]["SnapshotRequest"] = requests::snapshot_request();
    components["parameters"] = parameters::all();
    components["headers"] = headers::all();
    components["examples"] = problems::all();
    components["securitySchemes"] = security_schemes();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        if let Some(known) = operations::find(id) {
            complete_operation(operation, known);
        }
    }
    document
}

fn complete_operation(operation: &mut Value, known: &Operation) {
    operation["parameters"] =
        known.parameters.iter().map(|name| reference("parameters", name)).collect();
    operation["security"] = known.access.requirements();
    match known.id {
        "createSnapshot" => operation["requestBody"] = requests::snapshot_body(),
        "streamSnapshotEvents" => {
            operation["responses"]["200"]["content"]["application/x-ndjson"]["schema"] = json!({
                "type": "string", "description": "One `Event` a line.",
                "contentMediaType": "application/x-ndjson",
                "contentSchema": {"type": "array", "items": reference("schemas", "Event")},
            });
        }
        _ => {}
    }
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(collected) = operation["responses"].as_object_mut() {
        responses.extend(std::mem::take(collected));
    }
    for (status, response) in &mut responses {
        let own = known.headers.iter().filter(|(of, _)| of.to_string() == *status);
        response["headers"] = headers::references(own.flat_map(|(_, names)| names.iter().copied()));
        examples::add_to_answer(known.id, status, response);
    }
    let mut refusals: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    for code in known.problems.iter().copied().flatten().copied() {
        refusals.entry(code.status()).or_default().push(code);
    }
    responses.extend(refusals.iter().map(|(status, codes)| (status.to_string(), refusal(codes))));
    operation["responses"] = Value::Object(responses.into_iter().collect());
}

/// The answer of all problems that have the same status.
fn refusal(codes: &[ProblemCode]) -> Value {
    let line = |code: &ProblemCode| format!("`{}`: {}.", code.as_str(), code.title());
    let lines: Vec<String> = codes.iter().map(line).collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|&code| (code.as_str().to_owned(), reference("examples", problems::key(code))))
        .collect();
    let schema = reference("schemas", "Problem");
    json!({
        "description": lines.join(" "),
        "headers": headers::references(headers::of_problems(codes)),
        "content": {PROBLEM_MEDIA_TYPE: {"schema": schema, "examples": examples}},
    })
}

fn reference(section: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{section}/{name}")})
}

fn security_schemes() -> Value {
    json!({
        "bearer": {"type": "http", "scheme": "bearer",
            "description": "A token, as `strandline token create` prints it."},
        "basic": {"type": "http", "scheme": "basic",
            "description": "The token's name and the token: what an Airflow connection with login and password sends."},
    })
}
