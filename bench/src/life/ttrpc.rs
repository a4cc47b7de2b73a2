//! A client of the task API with as little work of its own as possible: one socket, no threads, calls that
//! wait. What is measured is the shim's time, not the driver's.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{self, Code, Request, Response};

/// A shim that does not answer is a fault of the run, not a long sample; a compilation may take two minutes.
const PATIENCE: Duration = Duration::from_secs(150);
/// Length, stream, type and flags.
pub(super) const HEADER: usize = 10;

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    service: &'static str,
    /// Of the next request; a client's streams have odd numbers.
    next: u32,
    /// Answers to others than the request that was waited for.
    early: HashMap<u32, Vec<u8>>,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending(u32);

impl Client {
    /// Connects to a socket in the file system.
    pub(crate) fn connect(address: &str, service: &'static str) -> Result<Self> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        let stream =
            UnixStream::connect(path).with_context(|| format!("could not connect to {path}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            service,
            next: 1,
            early: HashMap::new(),
        })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<T: Message>(&mut self, method: &str, request: &impl Message) -> Result<T> {
        let pending = self.send(method, request)?;
        self.receive(pending)
            .with_context(|| format!("{method} failed"))
    }

    /// Sends a request whose answer is waited for later.
    pub(crate) fn send(&mut self, method: &str, request: &impl Message) -> Result<Pending> {
        let mut call = Request::new();
        self.service.clone_into(&mut call.service);
        method.clone_into(&mut call.method);
        call.payload = request.write_to_bytes()?;
        let stream = self.next;
        self.next += 2;
        let body = call.write_to_bytes()?;
        let frame = frame(stream, proto::MESSAGE_TYPE_REQUEST, &body)?;
        self.stream
            .write_all(&frame)
            .with_context(|| format!("could not send {method}"))?;
        Ok(Pending(stream))
    }

    /// Waits for an answer.
    pub(crate) fn receive<T: Message>(&mut self, pending: Pending) -> Result<T> {
        let body = loop {
            if let Some(body) = self.early.remove(&pending.0) {
                break body;
            }
            let mut header = [0; HEADER];
            self.stream
                .read_exact(&mut header)
                .context("the shim did not answer")?;
            let (length, stream) = lengths(&header);
            let mut body = vec![0; length];
            self.stream
                .read_exact(&mut body)
                .context("the shim broke off its answer")?;
            self.early.insert(stream, body);
        };
        let response = Response::parse_from_bytes(&body)?;
        if response.status().code() != Code::OK {
            bail!("the shim answered: {}", response.status().message);
        }
        Ok(T::parse_from_bytes(&response.payload)?)
    }
}

/// The bytes of a message on the wire.
pub(super) fn frame(stream: u32, kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(body.len()).context("a message is too long")?;
    ensure!(
        body.len() <= proto::MESSAGE_LENGTH_MAX,
        "a message of {length} bytes is too long"
    );
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Length of the body, and stream, of a header.
pub(super) fn lengths(header: &[u8; HEADER]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h, _, _] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    (
        usize::try_from(length).unwrap_or(usize::MAX),
        u32::from_be_bytes([e, f, g, h]),
    )
}
