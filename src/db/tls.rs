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

mod options;

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

use self::options::{SslOptions, take_options, unreadable};
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
        let mut config: Config = rest.parse().map_err(|e| unreadable(&e))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DbError::Url("it names no host".to_owned()));
        }
        if config.get_hosts().is_empty() {
            // The certificate is looked at for a name, and an address may be one.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        let check = options.check()?;
        config.ssl_mode(check.ssl_mode());
        let over_tcp = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
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
    let hosts: Vec<String> = hosts.collect();
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
        let what = "the authorities that this system trusts";
        return Err(certificates(
            what,
            &"there are none; install ca-certificates, or name a file as sslrootcert",
        ));
    }
    Ok(store)
}

fn read_certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, DbError> {
    let what = format!("the certificates in {file}");
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| certificates(&what, &e))?;
    if found.is_empty() {
        return Err(certificates(&what, &"it holds none in the PEM format"));
    }
    Ok(found)
}

fn certificates(what: &str, reason: &dyn std::fmt::Display) -> DbError {
    DbError::Certificates { what: what.to_owned(), reason: reason.to_string() }
}
