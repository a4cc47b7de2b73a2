//! New connections of the component's calls.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, WasiBody};

/// How long one address is tried while there are others.
const EACH: Duration = Duration::from_secs(5);

/// Connects to the first address that answers.
///
/// # Errors
/// None does: the error of the last.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut failure = Error::DestinationNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if index + 1 == addresses.len() {
            connecting.await
        } else {
            match timeout(EACH, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    failure = Error::ConnectionTimeout;
                    continue;
                }
            }
        };
        match connected {
            Ok(stream) => {
                // Slower without, and no less right.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Err(error) => failure = Error::Connect(error),
        }
    }
    Err(failure)
}

/// Speaks HTTP/1.1 on a connection, which goes on by itself from here.
///
/// # Errors
/// The connection is broken.
pub(super) async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<WasiBody>, Error> {
    let (sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await?;
    // How it ends, whoever uses it learns from his request.
    tokio::spawn(connection);
    Ok(sender)
}
