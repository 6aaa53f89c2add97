//! What a caller shows: a token as `Bearer` (RFC 6750), or as the password of `Basic`
//! (RFC 7617), which is what an Airflow connection and `curl --user` send.

use std::fmt;

use actix_web::http::header::{self, HeaderMap};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::Digest;

use super::problem::{Problem, ProblemCode};

/// What tokens begin with, so that people and secret scanners know them.
const PREFIX: &str = "strandline_";

/// A token as its owner has it. It can't be printed by accident.
#[derive(PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one of these random bytes.
    pub fn new(random: &[u8; 32]) -> Self {
        Secret(format!(
            "{PREFIX}{}",
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
        ))
    }

    /// What is kept of it.
    pub fn sha256(&self) -> [u8; 32] {
        sha2::Sha256::digest(&self.0).into()
    }

    /// The token itself, for the one time that it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A token, and as whose it was shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// The login of Basic; `None` with Bearer.
    pub(super) login: Option<String>,
    pub(super) secret: Secret,
}

/// Reads the header `Authorization`; `None` if there is none.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<Credentials>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthenticated("the header Authorization is there more than once"));
    }
    let value = value.to_str().unwrap_or_default();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Credentials { login: None, secret: Secret(rest.to_owned()) }));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic(rest).map(Some);
    }
    Err(unauthenticated(
        "the header Authorization is neither Bearer TOKEN nor Basic with a token as the password",
    ))
}

fn basic(text: &str) -> Result<Credentials, Problem> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(text).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.ok_or_else(|| {
        unauthenticated(
            "the header Authorization is Basic, but not followed by Base64 of login:token",
        )
    })?;
    match pair.split_once(':') {
        Some((login, token)) => {
            Ok(Credentials { login: Some(login.to_owned()), secret: Secret(token.to_owned()) })
        }
        None => Err(unauthenticated(
            "the header Authorization is Basic, but has no colon between login and token",
        )),
    }
}

/// That it is not known who calls.
pub(super) fn unauthenticated(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn shown(values: &[&str]) -> Result<Option<(Option<String>, String)>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a header's value");
            headers.append(header::AUTHORIZATION, value);
        }
        Ok(read(&headers)?.map(|found| (found.login, found.secret.0)))
    }

    #[test]
    fn bearer_and_basic() {
        let (airflow, t) = (Some("airflow".to_owned()), "t0".to_owned());
        assert_eq!(shown(&[]), Ok(None));
        assert_eq!(shown(&["Bearer t0"]), Ok(Some((None, t.clone()))));
        assert_eq!(shown(&["bearer  t0 "]), Ok(Some((None, t.clone()))));
        // airflow:t0, with and without padding
        assert_eq!(shown(&["Basic YWlyZmxvdzp0MA=="]), Ok(Some((airflow.clone(), t.clone()))));
        assert_eq!(shown(&["BASIC YWlyZmxvdzp0MA"]), Ok(Some((airflow, t))));
        // a:b:c
        assert_eq!(shown(&["Basic YTpiOmM="]), Ok(Some((Some("a".into()), "b:c".into()))));
    }

    #[test]
    fn what_is_neither_is_refused_and_not_repeated() {
        for values in [
            &["Digest username=x-canary"][..],
            &["x-canary"],
            &["Basic x-canary"],
            &["Basic eC1jYW5hcnk="], // x-canary, no colon
            &["Basic /w=="],
            &["Bearer x-canary", "Basic YTpi"],
        ] {
            let problem = shown(values).expect_err("no credentials");
            assert_eq!(problem.code, ProblemCode::Unauthenticated);
            assert!(!problem.detail.contains("canary"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_secret_is_long_and_does_not_print() {
        let secret = Secret::new(&[7; 32]);
        assert_eq!(secret.reveal().len(), PREFIX.len() + 43);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_ne!(secret.sha256(), Secret::new(&[8; 32]).sha256());
    }
}
