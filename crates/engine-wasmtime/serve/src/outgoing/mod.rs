//! Calls of the component to other services: where they may go, how names are resolved, connections that are used
//! again.
//!
//! Names are answered by the host's own resolver, and what is allowed is decided after that, on the address that is
//! connected to: a name cannot lead to a place that its address does not allow.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use skiff_engine::service::Destination;
use skiff_host::resolver::{LookupError, Resolver};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::metrics::{Call, Metrics};

mod connect;
mod reading;
mod tls;

use reading::Reading;

/// Without an option of the component's.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long an idle connection is kept.
const KEPT: Duration = Duration::from_secs(30);
/// Idle connections to one place.
const KEPT_EACH: usize = 32;

/// What all instances call other services with.
#[derive(Debug)]
pub(crate) struct Client {
    egress: Option<Arc<[Destination]>>,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    tls: tls::Tls,
    idle: Mutex<HashMap<Place, Vec<Idle>>>,
}

/// A connection that no request has now, and since when.
type Idle = (SendRequest<WasiBody>, Instant);

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl Client {
    /// `roots` is a file of the container with certificates to trust besides those that are built in.
    pub(crate) fn new(
        egress: Option<Vec<Destination>>,
        roots: Option<String>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            egress: egress.map(Arc::from),
            resolver: Arc::new(Resolver::new("/etc")),
            metrics,
            tls: tls::Tls::new(roots),
            idle: Mutex::default(),
        }
    }

    /// Where connections may lead; `None`: everywhere.
    pub(crate) fn egress(&self) -> Option<&Arc<[Destination]>> {
        self.egress.as_ref()
    }

    /// Who answers for names.
    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Sent, Error> {
        let result = self.exchange(request, options).await;
        self.metrics.called(match &result {
            Ok(_) => Call::Answered,
            Err(Error::DestinationIpProhibited) => Call::Denied,
            Err(_) => Call::Failed,
        });
        result
    }

    async fn exchange(
        self: &Arc<Self>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Sent, Error> {
        let place = Place::of(request.uri())?;
        let patience = |own: Option<Duration>| own.unwrap_or(PATIENCE);
        let options = options.unwrap_or_default();
        let mut request = in_origin_form(request)?;
        let first_byte = patience(options.first_byte_timeout);
        let (sender, response) = loop {
            let kept = self.take(&place);
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => {
                    let connecting = self.connect(&place);
                    timeout(patience(options.connect_timeout), connecting)
                        .await
                        .map_err(|_| Error::ConnectionTimeout)??
                }
            };
            let sent = timeout(first_byte, sender.try_send_request(request)).await;
            match sent.map_err(|_| Error::ConnectionReadTimeout)? {
                Ok(response) => break (sender, response),
                // A kept connection may have been closed by the other side meanwhile; nothing was sent on it.
                Err(mut error) => match error.take_message() {
                    Some(again) if !is_new => request = again,
                    _ => return Err(error.into_error().into()),
                },
            }
        };
        self.keep_when_ready(place, sender);
        let between = patience(options.between_bytes_timeout);
        let response = response.map(|body| Reading::new(body, between).boxed_unsync());
        Ok((response, Box::new(async { Ok(()) })))
    }

    async fn connect(&self, place: &Place) -> Result<SendRequest<WasiBody>, Error> {
        let addresses = self.addresses(place).await?;
        let stream = connect::connect(&addresses).await?;
        if place.tls {
            let stream = self.tls.connect(&place.host, stream).await?;
            connect::handshake(stream).await
        } else {
            connect::handshake(stream).await
        }
    }

    /// The addresses of a place that connections may lead to. At least one.
    async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, Error> {
        let found = self.resolver.lookup(&place.host).await;
        let found = found.map_err(|error| match error {
            LookupError::Temporary { .. } => Error::DnsTimeout,
            _ => Error::DnsError {
                rcode: Some(error.to_string()),
                info_code: None,
            },
        })?;
        let is_allowed = |address: &SocketAddr| {
            let covers = |egress: &Arc<[Destination]>| {
                egress
                    .iter()
                    .any(|allowed| allowed.covers(Some(&place.host), *address))
            };
            self.egress.as_ref().is_none_or(covers)
        };
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .map(|address| SocketAddr::new(address, place.port))
            .filter(is_allowed)
            .collect();
        if allowed.is_empty() {
            return Err(Error::DestinationIpProhibited);
        }
        Ok(allowed)
    }

    /// A connection that was used before.
    fn take(&self, place: &Place) -> Option<SendRequest<WasiBody>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(place)?;
        while let Some((sender, since)) = kept.pop() {
            if sender.is_ready() && since.elapsed() < KEPT {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for others, when its answer was read to the end.
    fn keep_when_ready(self: &Arc<Self>, place: Place, mut sender: SendRequest<WasiBody>) {
        let client = Arc::clone(self);
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut idle = client.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = idle.entry(place).or_default();
            kept.retain(|(sender, since)| sender.is_ready() && since.elapsed() < KEPT);
            if kept.len() < KEPT_EACH {
                kept.push((sender, Instant::now()));
            }
        });
    }
}

impl Place {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = authority.host();
        if host.is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }
}

/// A request to a server itself names path and query only.
fn in_origin_form(mut request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let path = if path.is_empty() { "/" } else { path };
    let uri = Uri::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = uri;
    Ok(request)
}

/// What an instance's calls go through.
pub(crate) struct Hooks(Arc<Client>);

impl Hooks {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self(client)
    }
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let client = Arc::clone(&self.0);
        let sent: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(client.send(request, options));
        Box::new(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_hosts_and_ports() {
        let place = |uri: &str| {
            let place = Place::of(&uri.parse().unwrap()).map_err(|error| error.to_string())?;
            Ok::<_, String>((place.tls, place.host, place.port))
        };
        assert_eq!(
            place("http://API.example/x").unwrap(),
            (false, "api.example".to_owned(), 80)
        );
        assert_eq!(
            place("https://[::1]/").unwrap(),
            (true, "::1".to_owned(), 443)
        );
        assert_eq!(
            place("https://a:8443/").unwrap(),
            (true, "a".to_owned(), 8443)
        );
        place("/x").unwrap_err();
    }
}
