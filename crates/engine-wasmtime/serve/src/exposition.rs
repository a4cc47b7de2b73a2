//! `/metrics`, on a port of its own.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::sleep;

use crate::listen::Listener;
use crate::patience::Patient;
use crate::service::Service;

/// Clients of counters are machines in the neighbourhood.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until the process ends.
pub(crate) async fn serve(service: &'static Service, listener: Listener) {
    loop {
        let stream = match listener.accept().await {
            Ok(accepted) => accepted.stream(),
            Err(error) => Err(error),
        };
        let Ok(stream) = stream else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(
                TokioIo::new(Patient::new(stream, PATIENCE)),
                service_fn(move |request| answer(service, request)),
            );
        tokio::spawn(connection);
    }
}

async fn answer(
    service: &'static Service,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::from("counters are at /metrics\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let gate = &service.gate;
    let text = service
        .metrics
        .text(gate.in_flight(), gate.waiting(), service.memory.used());
    let mut response = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
