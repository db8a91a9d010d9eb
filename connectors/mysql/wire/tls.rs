//! TLS of a connection: what is demanded of the server's certificate, and ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg_core::{Error, Result};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme,
};

use super::WireError;

/// As MySQL's own clients name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Disabled,
    /// TLS if the server has it.
    Preferred,
    Required,
    /// The certificate must come from the given authority.
    VerifyCa,
    /// And must be for the name that was connected to.
    VerifyIdentity,
}

/// TLS options as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    pub mode: TlsMode,
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What connections are made with.
#[derive(Clone)]
pub struct Tls {
    pub mode: TlsMode,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the certificates.
    pub fn new(options: &TlsOptions) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (options.mode, &options.ca) {
            (TlsMode::VerifyCa | TlsMode::VerifyIdentity, None) => {
                return Err(Error::option("'tls.mode' = 'verify-…' needs 'tls.ca-file'")
                    .note("the file holds the certificate of the authority that signed the server's, in PEM"));
            }
            (TlsMode::VerifyCa | TlsMode::VerifyIdentity, Some(ca)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    roots.add(certificate).map_err(|e| unusable(ca, &e))?;
                }
                let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .build()
                    .map_err(|e| unusable(ca, &e))?;
                Arc::new(Authority { inner, name_matters: options.mode == TlsMode::VerifyIdentity })
            }
            _ => Arc::new(Anyone(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal(format!("TLS: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&options.certificate, &options.key) {
            (Some(certificate), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|e| unusable(certificate, &e))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Error::option("'tls.certificate-file' and 'tls.key-file' go together")),
        };
        Ok(Tls { mode: options.mode, config: Arc::new(config) })
    }

    pub async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, WireError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| WireError::Tls(e.to_string()))?;
        TlsConnector::from(self.config.clone()).connect(name, tcp).await.map_err(|e| {
            // A connection that is lost meanwhile says nothing of TLS, and may be made again.
            match e.get_ref().is_some_and(|cause| cause.is::<RustlsError>()) {
                true => WireError::Tls(e.to_string()),
                false => WireError::Io(e.to_string()),
            }
        })
    }
}

fn unusable(file: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::option(format!("{} cannot be used for TLS: {cause}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|e| unusable(file, &e))?;
    if read.is_empty() { Err(unusable(file, &"it holds no certificate in PEM")) } else { Ok(read) }
}

/// Encrypts, whoever answers: `preferred` and `required`, as MySQL's own clients understand them.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate must lead to the given authority, and be for the host's name if that matters.
#[derive(Debug)]
struct Authority {
    inner: Arc<WebPkiServerVerifier>,
    name_matters: bool,
}

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last, when the certificate's path was found good.
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_matters => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
