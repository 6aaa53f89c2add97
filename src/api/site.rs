//! What browsers send along, and what we make of it: a page of another site must not use a
//! browser's reach.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header;

use super::ApiState;
use super::problem::{Problem, ProblemCode};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Refuses what a page of another site sends, and, while nobody is asked for a token, what one
/// gets through a name of its own that leads to this machine (DNS rebinding).
pub(super) fn check(request: &ServiceRequest, state: &ApiState) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(ProblemCode::Forbidden, detail));
    let value = |name: &str| {
        request.headers().get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
    };
    let (site, origin) = (value(SEC_FETCH_SITE), value(header::ORIGIN.as_str()));
    let host = value(header::HOST.as_str()).unwrap_or_default();
    let on_loopback =
        request.app_config().local_addr().ip().is_loopback() && state.tokens.never_made();
    let from_browser = site.is_some() || origin.is_some();
    if on_loopback && from_browser && !is_loopback(&host) && !is_allowed(&host, state) {
        return refused(
            "pages are served under this machine's own names alone, such as localhost; STRANDLINE_ALLOWED_ORIGINS allows more",
        );
    }
    if request.method() == Method::GET {
        return Ok(());
    }
    if site.as_deref() == Some("cross-site") {
        return refused("requests from pages of another site are refused");
    }
    match origin {
        Some(origin) if !is_own(&origin, &host, state) => refused(
            "requests from pages of another origin are refused; STRANDLINE_ALLOWED_ORIGINS allows more",
        ),
        _ => Ok(()),
    }
}

/// Whether an origin is the host that was asked, or one that the settings name.
fn is_own(origin: &str, host: &str, state: &ApiState) -> bool {
    let origin = origin.trim_end_matches('/');
    authority(origin).is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        || state.allowed_origins.iter().any(|one| one.trim_end_matches('/') == origin)
}

/// Whether the settings name an origin with this host.
fn is_allowed(host: &str, state: &ApiState) -> bool {
    let mut allowed = state.allowed_origins.iter().map(|one| one.trim_end_matches('/'));
    allowed.any(|one| authority(one).is_some_and(|it| it.eq_ignore_ascii_case(host)))
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

/// Whether a host, with or without a port, is this machine's own whatever a name server says.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_name_server_gives_are_our_own() {
        for own in ["localhost", "LocalHost:8080", "127.0.0.1:80", "[::1]:8080", "a.localhost:1"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["evil.example:8080", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
