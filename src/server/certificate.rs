//! The certificate that the server shows, read anew when its files change: a certificate that
//! is renewed every few weeks costs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::settings::TlsSettings;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate with its key, as the files have it.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// [`AppError::Setting`] with the setting whose file can't be used.
    pub fn load(settings: &TlsSettings) -> Result<Option<Arc<Self>>, AppError> {
        let (Some(chain), Some(key)) = (settings.tls_cert.clone(), settings.tls_key.clone()) else {
            return Ok(None);
        };
        let current = RwLock::new(Arc::new(read(&chain, &key)?));
        Ok(Some(Arc::new(Certificate { chain, key, current })))
    }

    /// What a server needs to show it.
    pub fn server_config(self: Arc<Self>) -> Result<ServerConfig, AppError> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| AppError::setting("STRANDLINE_TLS_CERT", error))?;
        Ok(config.with_no_client_auth().with_cert_resolver(self))
    }

    /// Keeps it up to date. Files that can't be used leave it as it is.
    pub async fn keep_up(&self, stopping: &CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = stopping.cancelled() => return,
            }
            self.renew();
        }
    }

    fn renew(&self) {
        match read(&self.chain, &self.key) {
            Ok(found) if found.cert == self.current().cert => {}
            Ok(found) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
                tracing::info!("read a new certificate (STRANDLINE_TLS_CERT)");
            }
            Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, AppError> {
    let blame = |name, path: &Path, problem: &dyn std::fmt::Display| {
        AppError::setting(name, format!("can't use {}: {problem}", path.display()))
    };
    let of_chain = |problem: &dyn std::fmt::Display| blame("STRANDLINE_TLS_CERT", chain, problem);
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of_chain(&error))?;
    if certificates.is_empty() {
        return Err(of_chain(&"it holds no certificate in PEM form"));
    }
    let of_key = |problem: &dyn std::fmt::Display| blame("STRANDLINE_TLS_KEY", key, problem);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of_key(&error))?;
    CertifiedKey::from_der(certificates, private, &ring::default_provider())
        .map_err(|error| of_key(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let write = || {
            let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("made");
            std::fs::write(&chain, made.cert.pem()).expect("written");
            std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        };
        write();
        let settings = TlsSettings { tls_cert: Some(chain.clone()), tls_key: Some(key.clone()) };
        let certificate = Certificate::load(&settings).expect("good files").expect("named");
        let first = certificate.current();
        certificate.renew();
        assert!(Arc::ptr_eq(&first, &certificate.current()), "nothing has changed");
        write();
        certificate.renew();
        let second = certificate.current();
        assert_ne!(first.cert, second.cert);
        std::fs::write(&chain, "half a file").expect("written");
        certificate.renew();
        assert!(Arc::ptr_eq(&second, &certificate.current()));
        let old = std::fs::read(&key).expect("read");
        write();
        std::fs::write(&key, old).expect("written");
        certificate.renew();
        assert!(Arc::ptr_eq(&second, &certificate.current()), "another one's key");
        assert!(Certificate::load(&TlsSettings::default()).expect("no files").is_none());
    }
}
