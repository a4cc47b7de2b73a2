//! gRPC over one HTTP/2 connection on a unix socket: unary calls only. [`super::cri`] calls.
//!
//! A kubelet holds such a connection open; a program that is started for each call (crictl) would add tens of
//! milliseconds to every step and hide what the runtimes differ in.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A call that takes longer is stuck: a first start with its compilation takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection, with the event loop that drives it. Calls block the caller.
pub(crate) struct Connection {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    /// containerd's namespace, for its own services.
    namespace: Option<String>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let send = runtime.block_on(async {
            let stream = UnixStream::connect(socket)
                .await
                .with_context(|| format!("could not connect to {}", socket.display()))?;
            let (send, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(async move {
                // A call under way fails with the same words.
                connection.await.ok();
            });
            anyhow::Ok(send)
        })?;
        Ok(Self {
            runtime,
            send,
            namespace: None,
        })
    }

    /// Calls from now on concern a namespace of containerd.
    pub(crate) fn in_namespace(mut self, name: &str) -> Self {
        self.namespace = Some(name.to_owned());
        self
    }

    /// One request, one answer. `method` is `package.Service/Method`.
    pub(crate) fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A> {
        self.runtime
            .block_on(async { timeout(PATIENCE, self.exchange(method, request)).await })
            .with_context(|| format!("{method} was not answered within {PATIENCE:?}"))?
            .with_context(|| format!("{method} failed"))
    }

    async fn exchange<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A> {
        let head = Request::post(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(
                "containerd-namespace",
                self.namespace.as_deref().unwrap_or("k8s.io"),
            )
            .body(())?;
        let (response, mut body) = self.send.clone().ready().await?.send_request(head, false)?;
        body.send_data(frame(request)?, true)?;
        let (head, mut body) = response.await?.into_parts();
        ensure!(head.status.is_success(), "HTTP status {}", head.status);
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        // A refusal is one block of headers without a body, else the status comes last.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        status(&trailers)?;
        // A flag, the length, the message.
        let message = bytes.get(5..).context("the answer has no message")?;
        Ok(A::decode(message)?)
    }
}

fn frame(request: &impl Message) -> Result<Bytes> {
    let message = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    frame.extend_from_slice(&message);
    Ok(frame.into())
}

fn status(headers: &HeaderMap) -> Result<()> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    match text("grpc-status") {
        "0" => Ok(()),
        code => bail!("status {code}: {}", text("grpc-message")),
    }
}
