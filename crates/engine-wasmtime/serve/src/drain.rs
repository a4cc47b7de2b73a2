//! The end of a service: asked for by a signal, reached when nobody is left without an answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use skiff_host::sys::signal;
use skiff_wasi_wasmtime::watch_readable;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not asked for.
    Serving,
    /// New connections are still served, for whoever has not heard of the end; each answer closes its connection.
    Draining,
    /// No connection is accepted any more, and those without a request are closed.
    Closing,
}

/// The first signal that asks for the end.
#[derive(Debug)]
pub(crate) struct Signal(&'static OwnedFd);

impl Signal {
    /// Nothing asks yet: until [`Signal::asked`], signals end the process at once.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Box::leak(Box::new(event))))
    }

    /// Waits for the first signal. The second ends the process at once.
    ///
    /// # Errors
    /// The event loop has no room for it.
    pub(crate) async fn asked(&self) -> io::Result<()> {
        let event = watch_readable(self.0.as_fd())?;
        signal::ask_first(self.0.as_raw_fd());
        event.readable().await?.clear_ready();
        Ok(())
    }
}
