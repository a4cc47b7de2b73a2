//! The port: opened when the first instance is there, in the container's own network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, sockopt};
use skiff_engine::service::{PORT, ServiceOptions};
use skiff_wasi_wasmtime::watch_own;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}{}", advice(source))]
pub(crate) struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ", which something else in the pod listens on: set WASMTIME_HTTP_PROXY_SOCKET_ADDR to another"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need the capability NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: AsyncFd<OwnedFd>,
    pub(crate) address: SocketAddr,
}

/// Opens the port of a service: at one address, or at all of IPv4 and IPv6.
///
/// # Errors
/// It is taken, or may not be opened.
pub(crate) fn open(options: &ServiceOptions) -> Result<Vec<Listener>, ListenError> {
    if let Some(address) = options.address {
        return Ok(vec![at(address, options.backlog, false)?]);
    }
    let v4 = at((Ipv4Addr::UNSPECIFIED, PORT).into(), options.backlog, true);
    let v6 = at((Ipv6Addr::UNSPECIFIED, PORT).into(), options.backlog, true);
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(vec![v4, v6]),
        // A network may lack one of them.
        (Ok(one), Err(error)) | (Err(error), Ok(one)) if is_absent(&error.source) => Ok(vec![one]),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

/// Opens a port at one address. `only`: one of IPv6 is not open to IPv4.
///
/// # Errors
/// It is taken, or may not be opened.
pub(crate) fn at(address: SocketAddr, backlog: u32, only: bool) -> Result<Listener, ListenError> {
    let open = || -> io::Result<Listener> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // What is accepted has it from here.
        sockopt::set_tcp_nodelay(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, only)?;
        }
        bind(&socket, &address)?;
        listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let socket = watch_own(socket)?;
        Ok(Listener { socket, address })
    };
    open().map_err(|source| ListenError { address, source })
}

impl Listener {
    /// The next connection; not yet in any event loop.
    ///
    /// # Errors
    /// What the kernel answers: the client has gone, no more descriptors.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Some(accepted) = self.accept_now()? {
                return Ok(accepted);
            }
            ready.clear_ready();
        }
    }

    /// A connection that waits already.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub(crate) fn accept_now(&self) -> io::Result<Option<Accepted>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(self.socket.as_fd(), flags) {
            Ok(socket) => Ok(Some(Accepted(socket))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection that no event loop knows yet.
#[derive(Debug)]
pub(crate) struct Accepted(OwnedFd);

impl Accepted {
    /// In the event loop of this thread.
    ///
    /// # Errors
    /// It has no room.
    pub(crate) fn stream(self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.0.into())
    }
}
