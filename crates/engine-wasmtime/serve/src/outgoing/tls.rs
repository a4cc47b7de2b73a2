//! TLS of the component's calls: the roots that are built in, and those of a file that the pod mounts.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

/// What connections are secured with: made when the first is.
pub(super) struct Tls {
    roots: Option<String>,
    connector: OnceLock<Result<TlsConnector, String>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// `roots` is a file of the container.
    pub(super) fn new(roots: Option<String>) -> Self {
        Self {
            roots,
            connector: OnceLock::new(),
        }
    }

    /// Secures a connection to `host`.
    ///
    /// # Errors
    /// Its certificate is not trusted, or it does not speak TLS.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let connector = self
            .connector
            .get_or_init(|| connector(self.roots.as_deref()));
        let connector = connector
            .as_ref()
            .map_err(|reason| Error::InternalError(Some(reason.clone())))?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let secured = connector.connect(name, stream).await;
        secured.map_err(|error| match certificate_error(&error) {
            true => Error::TlsCertificateError,
            false => Error::Tls(error),
        })
    }
}

fn certificate_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

fn connector(roots: Option<&str>) -> Result<TlsConnector, String> {
    let mut store = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.into(),
    };
    if let Some(path) = roots {
        let failed = |error: &dyn fmt::Display| {
            format!("could not read the certificates in {path} (SSL_CERT_FILE): {error}")
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
            let certificate = certificate.map_err(|error| failed(&error))?;
            store.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
