//! The database URL: which server, and how far TLS is taken.
//!
//! tokio-postgres knows three of libpq's six sslmodes and no certificate files, so these
//! options are taken out here, before it sees the URL:
//!
//! | sslmode | TLS | the server's certificate |
//! | --- | --- | --- |
//! | `disable` | never | |
//! | `allow`, `prefer` (the default) | where the server offers it | not checked, as in libpq: an attacker could switch TLS off as well |
//! | `verify-ca` | always | must come from a trusted authority |
//! | `require`, `verify-full` (the default with `sslrootcert`) | always | must also be for this host name (stricter than libpq's `require`) |
//!
//! Trusted are the authorities in the file `sslrootcert`, or those of the system (no
//! `sslrootcert`, or `sslrootcert=system`). `sslcert` and `sslkey` (PEM) show the server
//! a certificate of ours. Through a unix socket there is no TLS.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::{
    Config, Socket,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;

/// A server, ready to be connected to.
#[derive(Clone)]
pub(super) struct Target {
    /// The driver's configuration; its Debug form hides the password.
    pub(super) config: Config,
    /// Our half of TLS.
    pub(super) tls: Tls,
    /// Host, port and database, for people.
    pub(super) server: String,
}

impl Target {
    /// Reads a URL (`postgres://…`) or libpq's `key=value` form.
    pub(super) fn parse(url: &str) -> Result<Target, DbError> {
        let (rest, options) = take_options(url)?;
        let mut config: Config = rest.parse().map_err(|e| unreadable(&e, &rest))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DbError::Url("it names no host".to_owned()));
        }
        let check = options.check()?;
        config.ssl_mode(check.ssl_mode());
        let over_tcp = !config.get_hostaddrs().is_empty()
            || config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let check = if over_tcp { check } else { Check::NoTls };
        Ok(Target { tls: Tls::new(check, &options)?, server: describe(&config), config })
    }
}

/// How the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    NoTls,
    Nothing,
    Authority,
    AuthorityAndName,
}

impl Check {
    fn ssl_mode(self) -> SslMode {
        match self {
            Check::NoTls => SslMode::Disable,
            Check::Nothing => SslMode::Prefer,
            Check::Authority | Check::AuthorityAndName => SslMode::Require,
        }
    }
}

/// The options that tokio-postgres does not know, or not with all their values.
#[derive(Debug, Default, PartialEq, Eq)]
struct SslOptions {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl SslOptions {
    /// Where an option of this name is kept; `None` for all others.
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "sslmode" => Some(&mut self.mode),
            "sslrootcert" => Some(&mut self.root),
            "sslcert" => Some(&mut self.certificate),
            "sslkey" => Some(&mut self.key),
            _ => None,
        }
    }

    fn check(&self) -> Result<Check, DbError> {
        match self.mode.as_deref() {
            Some("disable") => Ok(Check::NoTls),
            Some("allow" | "prefer") => Ok(Check::Nothing),
            Some("verify-ca") => Ok(Check::Authority),
            Some("require" | "verify-full") => Ok(Check::AuthorityAndName),
            // Who names an authority wants it to be asked for.
            None if self.root.is_some() => Ok(Check::AuthorityAndName),
            None => Ok(Check::Nothing),
            Some(_) => Err(DbError::Url(
                "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"
                    .to_owned(),
            )),
        }
    }
}

/// Splits the SSL options off either form of URL.
fn take_options(url: &str) -> Result<(String, SslOptions), DbError> {
    let url = url.trim();
    match ["postgres://", "postgresql://"].iter().find_map(|p| url.strip_prefix(p)) {
        Some(rest) => Ok(take_from_query(url, rest)),
        None if url.contains("://") => Err(DbError::Url("it is no postgres:// url".to_owned())),
        None => take_from_pairs(url),
    }
}

fn take_from_query(url: &str, after_prefix: &str) -> (String, SslOptions) {
    let mut options = SslOptions::default();
    // As tokio-postgres does it: a question mark before the @ is part of the password.
    let host = after_prefix.find('@').map_or(0, |at| at + 1);
    let Some(question) = after_prefix[host..].find('?') else {
        return (url.to_owned(), options);
    };
    let (base, query) = url.split_at(url.len() - after_prefix.len() + host + question);
    let mut kept = Vec::new();
    for pair in query[1..].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match options.slot(name) {
            Some(slot) => *slot = Some(percent_decode(value)),
            None => kept.push(pair),
        }
    }
    (format!("{base}?{}", kept.join("&")), options)
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = text.get(text.len() - after.len()..).and_then(|t| t.get(..2));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// libpq's `key=value` form: values may be quoted with `'`, `\` escapes.
fn take_from_pairs(text: &str) -> Result<(String, SslOptions), DbError> {
    let malformed = || DbError::Url("it is neither a postgres:// url nor key=value pairs".into());
    let mut options = SslOptions::default();
    let mut kept = String::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|&c| c != '=') {
            name.push(c);
        }
        let name = name.trim_end();
        if name.is_empty() && chars.peek().is_none() {
            return Ok((kept, options));
        }
        chars.next().ok_or_else(malformed)?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let ends = |c: char| if quoted { c == '\'' } else { c.is_whitespace() };
        let mut value = String::new();
        while let Some(c) = chars.next_if(|&c| !ends(c)) {
            value.push(if c == '\\' { chars.next().ok_or_else(malformed)? } else { c });
        }
        if quoted {
            chars.next().ok_or_else(malformed)?;
        }
        match options.slot(name) {
            Some(slot) => *slot = Some(value),
            None => {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                kept.push_str(&format!("{name}='{value}' "));
            }
        }
    }
}

/// The driver's words may quote a piece of a password that was not encoded, so only the
/// name of an option of libpq's is passed on.
fn unreadable(error: &tokio_postgres::Error, rest: &str) -> DbError {
    const UNSUPPORTED: [&str; 9] = [
        "passfile",
        "service",
        "sslcrl",
        "gssencmode",
        "krbsrvname",
        "require_auth",
        "client_encoding",
        "fallback_application_name",
        "keepalives_count",
    ];
    const VALUES: [&str; 8] = [
        "port",
        "hostaddr",
        "target_session_attrs",
        "channel_binding",
        "load_balance_hosts",
        "sslnegotiation",
        "connect_timeout",
        "keepalives",
    ];
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let named = |name: &&&str| cause.ends_with(&format!("`{name}`")) && rest.contains(**name);
    if let Some(name) = UNSUPPORTED.iter().find(named) {
        return DbError::Url(format!("the option {name} is not supported"));
    }
    if let Some(name) = VALUES.iter().find(named) {
        return DbError::Url(format!("the value of {name} is not valid"));
    }
    DbError::Url("it can't be read; special characters in user, password and database are written as %XX, @ as %40".to_owned())
}

/// Where it leads, without user, password and, since this is shown to callers, paths.
fn describe(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| match host {
        Host::Tcp(name) => {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            format!("{name}:{port}")
        }
        Host::Unix(_) => "its unix socket".to_owned(),
    });
    let mut hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    match config.get_dbname() {
        Some(database) => format!("{}, database {database}", hosts.join(" or ")),
        None => hosts.join(" or "),
    }
}

/// rustls for tokio-postgres. It is asked for a connector for unix sockets too, where there
/// is no host name; `MakeRustlsConnect` alone takes that for an error.
#[derive(Clone)]
pub(super) struct Tls(MakeRustlsConnect);

impl Tls {
    fn new(check: Check, options: &SslOptions) -> Result<Tls, DbError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = ServerCheck::new(check, options.root.as_deref(), &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| certificates("the tls library", &e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&options.certificate, &options.key) {
            (Some(certificate), Some(key)) if check != Check::NoTls => {
                let chain = read_certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| certificates(&format!("the key in {key}"), &e))?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| certificates(&format!("the certificate in {certificate}"), &e))?
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(DbError::Url("sslcert and sslkey go together".to_owned()));
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Tls(MakeRustlsConnect::new(config)))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let host = if host.is_empty() { "socket.invalid" } else { host };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, host)
    }
}

/// The check of a server's certificate: all of rustls's, or all but the name, or none.
#[derive(Debug)]
struct ServerCheck {
    check: Check,
    /// `None` where nothing is checked.
    full: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCheck {
    fn new(
        check: Check,
        root: Option<&str>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, DbError> {
        let full = match check {
            Check::NoTls | Check::Nothing => None,
            Check::Authority | Check::AuthorityAndName => Some(
                WebPkiServerVerifier::builder_with_provider(
                    Arc::new(authorities(root)?),
                    Arc::clone(provider),
                )
                .build()
                .map_err(|e| certificates("the trusted authorities", &e))?,
            ),
        };
        Ok(ServerCheck { check, full, provider: Arc::clone(provider) })
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(full) = &self.full else { return Ok(ServerCertVerified::assertion()) };
        match full.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: all else is in order.
            Err(TlsError::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if self.check == Check::Authority =>
            {
                Ok(ServerCertVerified::assertion())
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        match &self.full {
            Some(full) => full.verify_tls12_signature(message, certificate, signature),
            // Proves nothing of a certificate that anyone could have made, and fails for
            // those of version 1, which Postgres's own manual makes.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        match &self.full {
            Some(full) => full.verify_tls13_signature(message, certificate, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn authorities(root: Option<&str>) -> Result<RootCertStore, DbError> {
    let mut store = RootCertStore::empty();
    match root {
        Some(file) if file != "system" => {
            for certificate in read_certificates(file)? {
                store
                    .add(certificate)
                    .map_err(|e| certificates(&format!("the authorities in {file}"), &e))?;
            }
        }
        _ => {
            // Single bad files among the system's do not matter while some are good.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        let reason = "there are none; install ca-certificates, or name a file as sslrootcert";
        return Err(certificates("the trusted authorities", &reason));
    }
    Ok(store)
}

fn read_certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, DbError> {
    let failed = |e| certificates(&format!("the certificates in {file}"), &e);
    CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)
}

fn certificates(what: &str, reason: &dyn std::fmt::Display) -> DbError {
    DbError::Certificates { what: what.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(Config, Check), DbError> {
        let (rest, options) = take_options(url)?;
        let target = Target::parse(url)?;
        assert!(!rest.contains("ssl"), "{rest}");
        Ok((target.config, options.check()?))
    }

    #[test]
    fn each_sslmode_in_both_forms() {
        for (mode, ssl_mode, check) in [
            ("disable", SslMode::Disable, Check::NoTls),
            ("allow", SslMode::Prefer, Check::Nothing),
            ("prefer", SslMode::Prefer, Check::Nothing),
            ("require", SslMode::Require, Check::AuthorityAndName),
            ("verify-ca", SslMode::Require, Check::Authority),
            ("verify-full", SslMode::Require, Check::AuthorityAndName),
        ] {
            for url in [
                format!("postgres://u:p@h:1/d?sslmode={mode}&application_name=a"),
                format!("postgresql://u:p@h:1/d?application_name=a&sslmode={mode}"),
                format!(
                    "host=h port = 1 user=u password='p' dbname=d sslmode='{mode}' application_name=a"
                ),
            ] {
                let (config, got) = parse(&url).expect(&url);
                assert_eq!((config.get_ssl_mode(), got), (ssl_mode, check), "{url}");
                assert_eq!(config.get_application_name(), Some("a"));
                assert_eq!(config.get_password(), Some(&b"p"[..]));
                assert_eq!(config.get_ports(), [1]);
            }
        }
        assert!(parse("postgres://h/d?sslmode=yes").is_err());
        assert_eq!(parse("postgres://h/d").expect("a url").1, Check::Nothing);
    }

    #[test]
    fn values_survive_quoting_and_encoding() {
        let (rest, options) =
            take_options("host=h password='a\\' \\\\b' sslrootcert=/c\\ d sslcert='x y'")
                .expect("pairs");
        let config: Config = rest.parse().expect("still pairs");
        assert_eq!(config.get_password(), Some(&br"a' \b"[..]));
        assert_eq!(options.root.as_deref(), Some("/c d"));
        assert_eq!(options.certificate.as_deref(), Some("x y"));
        let (rest, options) =
            take_options("postgres://u:p?sslmode=x@h/d?sslrootcert=/a%20b%2Fc%").expect("a url");
        assert_eq!(rest, "postgres://u:p?sslmode=x@h/d?");
        assert_eq!(options.root.as_deref(), Some("/a b/c%"));
        assert_eq!(options.mode, None);
    }

    #[test]
    fn no_error_shows_a_password() {
        for url in [
            "postgres://u:geheim@h:notaport/d",
            "postgres://u:se?geheim=x@h/d@x?geheim",
            "postgres://u:x/geheim@h/d?geheim=1",
            "postgres://h/d?geheim=1",
            "host=h password='geheim",
            "geheim",
            "https://geheim",
            "host=h geheim=1",
            "user=u password=geheim",
            "postgres://u:geheim@/d",
        ] {
            let error = Target::parse(url).err().expect(url).to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        let error =
            Target::parse("postgres://h/d?service=x").err().expect("unsupported").to_string();
        assert!(error.contains("service"), "{error}");
    }

    #[test]
    fn where_it_leads() {
        let server = |url: &str| Target::parse(url).expect(url).server;
        assert_eq!(server("postgres://u:p@a,b:7/d"), "a:5432 or b:7, database d");
        assert_eq!(server("postgres://u@%2Fvar%2Frun/d"), "its unix socket, database d");
        assert_eq!(server("hostaddr=127.0.0.1"), "127.0.0.1");
    }
}
