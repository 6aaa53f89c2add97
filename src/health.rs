//! `strandline health`: asks the server on this machine whether it can serve. For an image's
//! health check: the image has neither curl nor anything like it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::app::{self, AppError};
use crate::settings::HealthSettings;

/// Shorter than the 30 seconds that Docker gives a health check.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints `ok`, or fails with the server's own reason.
///
/// # Errors
/// [`AppError::Health`] if it can't serve, or does not answer.
pub async fn health(settings: &HealthSettings) -> Result<(), AppError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scheme = if settings.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/readyz", reachable(settings.listen));
    let failed = |reason: String| AppError::Health { url: url.clone(), reason };
    // A proxy of the environment knows nothing of this machine's loopback, and a certificate has
    // other names than its addresses: it is not looked at, nothing secret is sent.
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let client = client.tls_danger_accept_invalid_certs(true).build();
    let client = client.map_err(|error| failed(innermost(&error)))?;
    let answer = client.get(&url).send().await.map_err(|error| failed(innermost(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return app::print("ok\n");
    }
    let body = answer.text().await.unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason given");
    Err(failed(format!("{}, {detail}", status.as_u16())))
}

/// Where a server can be asked that listens everywhere.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback = match listen.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let ip = if listen.ip().is_unspecified() { loopback } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

/// The cause that says most: "connection refused", not "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.1:81", "127.0.0.1:81"),
            ("10.0.0.7:81", "10.0.0.7:81"),
        ] {
            let listen = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), asked);
        }
    }
}
