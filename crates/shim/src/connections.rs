//! The listener of the Task service: who may connect, and whether anyone is connected.
//!
//! The socket has mode 0600 and lies in a directory of root; a connection whose other end is of another
//! user all the same is closed before a byte is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use ttrpc::asynchronous::transport::Listener;

/// How many connections are open.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    open: AtomicUsize,
    /// Told when the last one is closed. Only the end of the shim waits for it.
    none: Notify,
}

impl Open {
    /// Now.
    pub fn count(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Waits until there is none. For one caller at a time.
    pub async fn none(&self) {
        while self.count() > 0 {
            self.0.none.notified().await;
        }
    }

    fn one_more(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    fn one_less(&self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}

/// A listener that counts in `open`, and lets in processes of `uid` only.
pub fn listener(listener: UnixListener, uid: u32, open: &Open) -> Listener {
    Listener::new(Accept {
        listener,
        uid,
        open: open.clone(),
    })
}

struct Accept {
    listener: UnixListener,
    uid: u32,
    open: Open,
}

impl Stream for Accept {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let stream = match self.listener.poll_accept(context) {
                Poll::Ready(Ok((stream, _))) => stream,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Pending,
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.uid => {
                    self.open.one_more();
                    return Poll::Ready(Some(Ok(Connection {
                        stream,
                        open: self.open.clone(),
                    })));
                }
                Ok(peer) => log::warn!("closed a connection from user {}", peer.uid()),
                Err(error) => log::warn!("closed a connection from nobody knows whom: {error}"),
            }
        }
    }
}

struct Connection {
    stream: UnixStream,
    open: Open,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.one_less();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn other_users_are_closed_and_connections_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let open = Open::default();
            let own = rustix::process::geteuid().as_raw();
            let mut accept = Accept {
                listener: UnixListener::bind(&path).unwrap(),
                uid: own + 1,
                open: open.clone(),
            };
            let client = UnixStream::connect(&path).await.unwrap();
            // Looked at and closed: nothing comes out.
            let first = tokio::time::timeout(
                std::time::Duration::from_millis(50),
                poll_fn(|context| Pin::new(&mut accept).poll_next(context)),
            )
            .await;
            assert!(first.is_err());
            client.readable().await.unwrap();
            assert_eq!(client.try_read(&mut [0]).unwrap(), 0);

            accept.uid = own;
            let _client = UnixStream::connect(&path).await.unwrap();
            let connection = poll_fn(|context| Pin::new(&mut accept).poll_next(context))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(open.count(), 1);
            let none = open.none();
            tokio::pin!(none);
            tokio::select! {
                biased;
                () = &mut none => panic!("one is open"),
                () = std::future::ready(()) => {}
            }
            drop(connection);
            none.await;
            assert_eq!(open.count(), 0);
        });
    }
}
