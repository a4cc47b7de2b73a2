//! `/healthz`, `/readyz` and `/metrics`, for the kubelet and for Prometheus.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use skiff_node::daemon::{self, Asked};
use skiff_node::doctor;
use skiff_node::host::Host;
use tokio::net::TcpListener;

use crate::log;
use crate::metrics::{self, Metrics};

/// A look at the node may take an install: with a whole distribution restarted, minutes. Without one for so long
/// the agent hangs.
const LONGEST_LOOK: Duration = Duration::from_secs(900);
/// One connection, from its first byte to its last.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);
/// A request's head.
const LONGEST_HEAD: Duration = Duration::from_secs(10);
/// Prometheus gives up after ten seconds unless told otherwise.
const LONGEST_QUESTION: Duration = Duration::from_secs(8);
/// Connections at once: the kubelet's and a few of Prometheus'.
const MOST: usize = 32;

/// What the parts of the agent tell each other.
#[derive(Debug)]
pub(crate) struct Shared {
    metrics: Mutex<Metrics>,
    looked: Mutex<Instant>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            metrics: Mutex::default(),
            looked: Mutex::new(Instant::now()),
        }
    }
}

impl Shared {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Metrics)) {
        change(&mut self.metrics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The node was looked at, or is about to be.
    pub(crate) fn looked(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn since_look(&self) -> Duration {
        self.looked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// Where the figures of containers come from.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) root: PathBuf,
    pub(crate) asked: Asked,
}

/// Answers until it cannot. Without `figures` there is no `/metrics`.
pub(crate) async fn run(
    address: SocketAddr,
    shared: Arc<Shared>,
    figures: Option<Figures>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("could not listen at {address}"))?;
    let places = Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warning(&format!("could not take a connection: {error}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (shared, figures) = (Arc::clone(&shared), figures.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (shared, figures) = (Arc::clone(&shared), figures.clone());
                async move { answer(&request, &shared, figures.as_ref()).await }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(LONGEST_HEAD);
            let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            // How a client's connection ends is the client's matter.
            let _ended = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
            drop(place);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    figures: Option<&Figures>,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let (status, text) = if request.method() == Method::GET {
        page(request.uri().path(), shared, figures).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned())
    };
    Response::builder()
        .status(status)
        .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        .body(Full::from(text))
}

async fn page(path: &str, shared: &Shared, figures: Option<&Figures>) -> (StatusCode, String) {
    match (path, figures) {
        ("/healthz", _) if shared.since_look() < LONGEST_LOOK => {
            (StatusCode::OK, "ok\n".to_owned())
        }
        ("/healthz", _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the node was not looked at for {} s\n",
                shared.since_look().as_secs()
            ),
        ),
        ("/readyz", _) if shared.metrics().ready => (StatusCode::OK, "ok\n".to_owned()),
        ("/readyz", _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready; the log and the annotation node.skiff.dev/reason of the node say why\n"
                .to_owned(),
        ),
        ("/metrics", Some(figures)) => {
            let pods = pods(figures).await;
            (
                StatusCode::OK,
                metrics::page(&shared.metrics(), pods.as_deref()),
            )
        }
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    }
}

async fn pods(
    figures: &Figures,
) -> Option<Vec<(crate::containerd::Container, crate::containerd::Figures)>> {
    let socket = daemon::socket(&Host::new(&figures.root), &figures.asked)?;
    let pods = tokio::time::timeout(LONGEST_QUESTION, metrics::pods(&socket));
    match pods.await {
        Ok(Ok(pods)) => Some(pods),
        Ok(Err(error)) => {
            log::warning(&format!(
                "containerd was asked for figures in vain: {}",
                doctor::sentence(&error)
            ));
            None
        }
        Err(_) => {
            log::warning(&format!(
                "containerd gave no figures within {} s",
                LONGEST_QUESTION.as_secs()
            ));
            None
        }
    }
}
