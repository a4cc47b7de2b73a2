//! The few calls to the API server that an agent makes, with the token of its service account: a connection each, by
//! TLS against the cluster's own authority. A handful in a minute is no reason to keep one open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What the kubelet puts into a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// One call, from its connection to its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A node object is some tens of kilobytes.
const LONGEST_ANSWER: usize = 4 << 20;

/// How a patch is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patch {
    /// RFC 7386: what is null goes.
    Merge,
    /// RFC 6902: a list of operations.
    Json,
}

impl Patch {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// The API server, as a pod knows it.
#[derive(Clone)]
pub(crate) struct Api {
    host: String,
    port: u16,
    tls: TlsConnector,
    token: PathBuf,
}

/// Why a call did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("this is no pod of a cluster: {0} is not set")]
    NoCluster(&'static str),
    #[error("could not read {}", path.display())]
    Account {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no certificate that TLS can use", .0.display())]
    Authority(PathBuf),
    #[error("the API server {server} cannot be reached")]
    Connect {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("the API server {server} did not answer {call} within {} s", PATIENCE.as_secs())]
    TooSlow { server: String, call: String },
    #[error("the API server {server} broke off while it was asked for {call}: {why}")]
    Broken {
        server: String,
        call: String,
        why: String,
    },
    #[error("the API server refused {call} with {code}: {message}")]
    Refused {
        call: String,
        code: u16,
        message: String,
    },
}

impl Api {
    /// The API server of the cluster that this pod is in.
    ///
    /// # Errors
    /// If this is no pod, or its account cannot be read.
    pub(crate) fn in_cluster() -> Result<Self, ApiError> {
        let variable = |name| std::env::var(name).map_err(|_| ApiError::NoCluster(name));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let port = port
            .parse()
            .map_err(|_| ApiError::NoCluster("KUBERNETES_SERVICE_PORT"))?;
        let account = std::env::var_os("SKIFF_SERVICE_ACCOUNT")
            .map_or_else(|| PathBuf::from(ACCOUNT), PathBuf::from);
        Self::new(&host, port, &account)
    }

    fn new(host: &str, port: u16, account: &Path) -> Result<Self, ApiError> {
        let path = account.join("ca.crt");
        let bytes = fs::read(&path).map_err(|source| ApiError::Account {
            path: path.clone(),
            source,
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let added = certificate.is_ok_and(|certificate| roots.add(certificate).is_ok());
            if !added {
                return Err(ApiError::Authority(path));
            }
        }
        if roots.is_empty() {
            return Err(ApiError::Authority(path));
        }
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            host: host.to_owned(),
            port,
            tls: TlsConnector::from(Arc::new(config)),
            token: account.join("token"),
        })
    }

    /// Reads an object.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.call(Method::GET, path, None).await
    }

    /// Makes an object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let body = Some(("application/json", object));
        self.call(Method::POST, path, body).await
    }

    /// Puts another object in the place of one, if that is still what it was when it was read.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let body = Some(("application/json", object));
        self.call(Method::PUT, path, body).await
    }

    /// Changes an object.
    pub(crate) async fn patch(
        &self,
        path: &str,
        kind: Patch,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        let body = Some((kind.content_type(), patch));
        self.call(Method::PATCH, path, body).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ApiError> {
        let call = format!("{method} {path}");
        let asked = tokio::time::timeout(PATIENCE, self.ask(method, path, body, &call));
        asked.await.map_err(|_| ApiError::TooSlow {
            server: self.server(),
            call,
        })?
    }

    fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        call: &str,
    ) -> Result<Value, ApiError> {
        let unreached = |source| ApiError::Connect {
            server: self.server(),
            source,
        };
        let broken = |why: String| ApiError::Broken {
            server: self.server(),
            call: call.to_owned(),
            why,
        };
        // The kubelet puts a new one in its place from time to time.
        let token = fs::read_to_string(&self.token).map_err(|source| ApiError::Account {
            path: self.token.clone(),
            source,
        })?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| unreached(io::Error::other(error)))?;
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(unreached)?;
        let stream = self.tls.connect(name, stream).await.map_err(unreached)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let driver = tokio::spawn(connection);
        let host = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            self.server()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("accept", "application/json")
            .header(
                "user-agent",
                concat!("skiff-agent/", env!("CARGO_PKG_VERSION")),
            )
            .header("authorization", format!("Bearer {}", token.trim()));
        let mut bytes = Bytes::new();
        if let Some((content_type, value)) = body {
            request = request.header("content-type", content_type);
            bytes = value.to_string().into();
        }
        let request = request
            .body(Full::new(bytes))
            .map_err(|error| broken(error.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
        let bytes = body
            .collect()
            .await
            .map_err(|error| broken(error.to_string()))?
            .to_bytes();
        driver.abort();
        judged(status, &bytes, call).map_err(|error| match error {
            Judged::Refused(error) => error,
            Judged::Malformed(why) => broken(why),
        })
    }
}

enum Judged {
    Refused(ApiError),
    Malformed(String),
}

fn judged(status: StatusCode, bytes: &[u8], call: &str) -> Result<Value, Judged> {
    let value: Result<Value, _> = serde_json::from_slice(bytes);
    if status.is_success() {
        return value.map_err(|error| Judged::Malformed(error.to_string()));
    }
    let told = value.ok().and_then(|value| {
        let message = value.get("message")?.as_str()?;
        Some(message.to_owned())
    });
    Err(Judged::Refused(ApiError::Refused {
        call: call.to_owned(),
        code: status.as_u16(),
        message: told.unwrap_or_else(|| "it gave no reason".to_owned()),
    }))
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("server", &self.server())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_the_servers_words() {
        let refused = |body: &[u8]| match judged(StatusCode::FORBIDDEN, body, "PATCH /x") {
            Err(Judged::Refused(error)) => error.to_string(),
            _ => panic!("not refused"),
        };
        assert_eq!(
            refused(br#"{"kind":"Status","message":"nodes \"a\" is forbidden"}"#),
            "the API server refused PATCH /x with 403: nodes \"a\" is forbidden"
        );
        assert!(refused(b"<html>").ends_with("it gave no reason"));
        assert!(judged(StatusCode::OK, b"{}", "GET /").is_ok());
        judged(StatusCode::OK, b"{", "GET /").unwrap_err();
    }

    #[test]
    fn an_authority_that_is_none_is_told() {
        let account = tempfile::tempdir().unwrap();
        let told = |text: &str| {
            fs::write(account.path().join("ca.crt"), text).unwrap();
            Api::new("10.0.0.1", 443, account.path())
                .unwrap_err()
                .to_string()
        };
        for text in [
            "",
            "x",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        ] {
            assert!(told(text).contains("holds no certificate"), "{text}");
        }
    }
}
