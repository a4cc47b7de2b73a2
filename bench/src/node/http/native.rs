//! A native server on hyper, as small as one can be: what serving costs without Wasm. This program itself, told so.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::workload::BODY;

static LARGE: [u8; BODY] = [b'x'; BODY];

/// Serves until it is killed.
///
/// # Errors
/// The port is taken.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection);
        }
    })
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Incoming>>, Infallible> {
    let known = |bytes: &'static [u8]| Either::Left(Full::new(Bytes::from_static(bytes)));
    Ok(Response::new(match request.uri().path() {
        "/" => known(b"hello from a component\n"),
        "/bytes" => known(&LARGE),
        "/echo" => Either::Right(request.into_body()),
        _ => known(b""),
    }))
}
