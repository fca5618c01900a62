//! TLS with a certificate and its key, which a reload reads again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate that encrypts connections.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: Mutex<TlsAcceptor>,
}

impl Tls {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// Fails if a file cannot be read or the files do not match.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self> {
        let acceptor = Mutex::new(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_path_buf(), key: key.to_path_buf(), acceptor })
    }

    /// Reads the files again; open connections keep their certificate.
    ///
    /// # Errors
    /// Fails as [`Tls::open`] does; the old certificate then stays.
    pub fn reload(&self) -> Result<()> {
        let new = read(&self.certificate, &self.key)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let named = |option: &str, path: &Path| format!("{option} {}", path.display());
    let chain = || -> Result<Vec<CertificateDer<'static>>> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        ensure!(!chain.is_empty(), "has no certificate; expected PEM");
        Ok(chain)
    };
    let chain = chain().with_context(|| named("--tls-cert", certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| named("--tls-key", key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| named("--tls-key", key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
