//! Anything at all goes into what reads requests: it must not panic, must refuse with a code
//! that fits, and must mean the same when it is written down and read again.

use actix_web::http::header;
use actix_web::test::TestRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::body::snapshot_request;
use super::credentials;
use super::params::{Params, encode_cursor};
use super::problem::{Problem, ProblemCode};
use crate::db::SnapshotRequest;
use crate::snapshot::Timestamp;

const CASES: u32 = 2_000;

fn read(content_type: &str, body: &[u8]) -> Result<SnapshotRequest, Problem> {
    let request = TestRequest::post().insert_header((header::CONTENT_TYPE, content_type));
    snapshot_request(&request.to_http_request(), body, &["default"])
}

/// A refusal has a code for callers' errors; what is taken is taken again when it is sent back
/// as it was understood.
fn sound(read_as: Result<SnapshotRequest, Problem>) -> Result<(), TestCaseError> {
    match read_as {
        Err(problem) => {
            prop_assert!((400..500).contains(&problem.code.status()), "{problem}");
            prop_assert!(!problem.detail.contains(['\n', '\r', '\0']), "{:?}", problem.detail);
            prop_assert!(problem.code != ProblemCode::NotFound);
        }
        Ok(request) => {
            let again = json!({
                "topic": request.topic, "window_start": request.window.start(),
                "window_end": request.window.end(), "capture": request.capture.as_str(),
                "on_loss": request.on_loss.as_str(), "cluster": request.cluster,
                "labels": request.labels,
            });
            let again = read("application/json", again.to_string().as_bytes());
            let again = again.map_err(|problem| TestCaseError::fail(problem.to_string()))?;
            prop_assert_eq!(format!("{request:?}"), format!("{again:?}"));
        }
    }
    Ok(())
}

/// Pieces of good requests and of bad ones, so that many are nearly right.
fn json_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(":".to_owned()),
        Just(",".to_owned()),
        Just("\"topic\"".to_owned()),
        Just("\"window_start\"".to_owned()),
        Just("\"window_end\"".to_owned()),
        Just("\"labels\"".to_owned()),
        Just("\"orders\"".to_owned()),
        Just("null".to_owned()),
        Just("\"2025-07-29T00:00:00Z\"".to_owned()),
        Just("\"\\u0000\"".to_owned()),
        Just("\"\\ud83e\"".to_owned()),
        "-?[0-9]{1,30}(\\.[0-9]{1,5})?",
        "\"\\PC{0,8}\"",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// A time that is right, or wrong in one place.
fn time_like() -> impl Strategy<Value = String> {
    let good = (0..=Timestamp::MAX.millis()).prop_map(|ms| Timestamp::from_millis(ms).to_string());
    let bent = (good.clone(), any::<prop::sample::Index>(), any::<char>()).prop_map(
        |(time, at, other)| {
            let at = at.index(time.len());
            format!("{}{other}{}", &time[..at], &time[at + 1..])
        },
    );
    let any_digits = "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])?";
    prop_oneof![good, bent, any_digits, "[0-9TtZz:.+ -]{0,40}", any::<String>()]
}

/// A header that names a scheme or none; Base64 of anything behind it, or anything.
fn credentials_like() -> impl Strategy<Value = String> {
    let bytes = prop::collection::vec(any::<u8>(), 0..30);
    let coded = bytes.prop_map(|bytes| format!("Basic {}", STANDARD.encode(bytes)));
    prop_oneof![coded, "((Bearer|basic|Basic) )?[ -~]{0,60}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_bytes_as_a_body(body in prop::collection::vec(any::<u8>(), 0..300)) {
        sound(read("application/json", &body))?;
        sound(read("application/x-www-form-urlencoded", &body))?;
    }

    #[test]
    fn nearly_json_as_a_body(body in json_like()) {
        sound(read("text/plain", body.as_bytes()))?;
    }

    #[test]
    fn good_fields_with_any_values(
        topic in "[a-z.]{0,6}|\\PC{0,6}", start in time_like(), end in time_like(),
        labels in prop::collection::btree_map("\\PC{0,4}", any::<String>(), 0..4),
    ) {
        let body = json!({"topic": topic, "window_start": start, "window_end": end, "labels": labels});
        sound(read("application/json", body.to_string().as_bytes()))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("topic", &topic)
            .append_pair("window_start", &start)
            .append_pair("window_end", &end)
            .extend_pairs(labels.iter().map(|(key, value)| ("label", format!("{key}:{value}"))))
            .finish();
        sound(read("application/x-www-form-urlencoded", form.as_bytes()))?;
    }

    #[test]
    fn a_time_that_is_read_means_what_it_says(text in time_like()) {
        if let Ok(time) = Timestamp::parse(&text) {
            prop_assert!(time >= Timestamp::from_millis(0) && time <= Timestamp::MAX, "{text:?}");
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time), "{:?}", text);
        }
    }

    #[test]
    fn a_time_means_the_same_in_a_query(text in time_like()) {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("at", &text).finish();
        let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        let found = Params::read(&request, &["at"]).and_then(|params| params.time("at"));
        if let Ok(time) = Timestamp::parse(&text) {
            prop_assert_eq!(found, Ok(Some(time)), "{:?}", text);
        }
    }

    #[test]
    fn any_content_type(value in "[ -~]{0,40}") {
        sound(read(&value, b"{}"))?;
    }

    #[test]
    fn any_query(query in "[ -~]{0,60}|(limit|cursor|at|label|state)=[%a-zA-Z0-9:+&=-]{0,40}") {
        let uri = format!("/x?{}", query.replace([' ', '"', '<', '>', '#', '\\', '^', '`', '{', '|', '}'], "%20"));
        let request = TestRequest::with_uri(&uri).to_http_request();
        if let Ok(params) = Params::read(&request, &["limit", "cursor", "at", "label", "state"]) {
            if let Ok(limit) = params.limit() {
                prop_assert!((1..=200).contains(&limit));
            }
            let _ = (params.time("at"), params.labels(), params.at_least("limit", 0));
            let _ = params.cursor(|text| text.parse::<i64>().ok());
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_went_out(text in any::<String>()) {
        let uri = format!("/x?cursor={}", encode_cursor(&text));
        let request = TestRequest::with_uri(&uri).to_http_request();
        let params = Params::read(&request, &["cursor"]);
        let found = params.and_then(|params| params.cursor(|text| Some(text.to_owned())));
        prop_assert_eq!(found, Ok(Some(text)));
    }

    #[test]
    fn any_credentials(value in credentials_like()) {
        let request = TestRequest::get().insert_header((header::AUTHORIZATION, value.as_str()));
        match credentials::read(request.to_http_request().headers()) {
            Ok(found) => prop_assert!(found.is_some()),
            Err(problem) => prop_assert_eq!(problem.code, ProblemCode::Unauthenticated),
        }
    }
}
