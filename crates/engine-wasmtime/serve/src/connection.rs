//! One connection: which version of HTTP it speaks, and how it ends.

use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::answer::answer;
use crate::drain::Phase;
use crate::metrics::Limit;
use crate::patience::Patient;
use crate::workers::Worker;

/// What a client begins with that knows that the server speaks HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 200;

/// Serves a connection to its end.
pub(crate) async fn serve(worker: &'static Worker, stream: TcpStream) {
    let service = worker.service;
    let patience = service.options.client_time;
    let version = timeout(patience, is_http2(worker, &stream)).await;
    let Ok(Ok(is_http2)) = version else {
        if version.is_err() {
            service.metrics.limited(Limit::Client);
        }
        return;
    };
    if is_http2 {
        serve_http2(worker, stream).await;
    } else {
        serve_http1(worker, stream).await;
    }
}

/// Looks at the first bytes without taking them.
async fn is_http2(worker: &'static Worker, stream: &TcpStream) -> io::Result<bool> {
    loop {
        let mut first = [0; PREFACE.len()];
        let length = tokio::select! {
            length = stream.peek(&mut first) => length?,
            // The client has not said anything, and will find another server.
            () = worker.service.reached(Phase::Closing) => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        };
        let first = &first[..length];
        if length == 0 || !PREFACE.starts_with(first) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // What is there stays there and wakes nobody again.
        sleep(Duration::from_millis(1)).await;
    }
}

async fn serve_http1(worker: &'static Worker, stream: TcpStream) {
    let service = worker.service;
    let options = &service.options;
    let header_limit = usize::try_from(options.header_limit).unwrap_or(usize::MAX);
    let io = TokioIo::new(Patient::new(stream, options.client_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest that a connection may be without a request.
        .header_read_timeout(options.client_time)
        .max_header_size(header_limit)
        .max_buf_size(header_limit.max(64 << 10))
        .half_close(true)
        .serve_connection(io, service_fn(move |request| answer(worker, request)));
    let mut connection = pin!(connection);
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = service.reached(Phase::Closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = end {
        if error.is_parse_too_large() {
            service.metrics.limited(Limit::Header);
        } else if error.is_timeout() {
            service.metrics.limited(Limit::Client);
        }
    }
}

async fn serve_http2(worker: &'static Worker, stream: TcpStream) {
    let service = worker.service;
    let options = &service.options;
    let io = TokioIo::new(Patient::new(stream, options.client_time));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(options.header_limit)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(options.client_time)
        .serve_connection(io, service_fn(move |request| answer(worker, request)));
    let mut connection = pin!(connection);
    let end = tokio::select! {
        end = connection.as_mut() => end,
        // GOAWAY, and what was asked before it is answered.
        () = service.reached(Phase::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if end.is_err_and(|error| error.is_timeout()) {
        service.metrics.limited(Limit::Client);
    }
}
