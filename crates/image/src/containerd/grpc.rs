//! gRPC over one HTTP/2 connection on a unix socket: unary calls and streams of answers, nothing more.
//!
//! Used by [`super::client`], and by those who ask containerd for something else. No compression, no TLS, no retries: the peer is the containerd that
//! started this process, and a failed lookup fails the container's creation, which is retried as a whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long a connection, an answer, or the next piece of a stream may take. containerd answers in
/// milliseconds; one that is this slow is stuck, and the kubelet gives a creation two minutes in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Longest message taken: containerd's own limit.
const MESSAGE_BYTES: usize = 16 << 20;

/// Window of the connection and of each stream. The protocol's 64 KiB would make a layer of some
/// megabytes a walk of round trips.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket cannot be connected to.
    #[error("could not connect to containerd at {}", socket.display())]
    Connect {
        /// Path of the socket.
        socket: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 failed.
    #[error("connection to containerd failed in {method}")]
    Connection {
        /// `Service/Method`.
        method: &'static str,
        /// Cause.
        #[source]
        source: h2::Error,
    },
    /// No answer in time.
    #[error("containerd did not answer {method} within {} s", after.as_secs())]
    TimedOut {
        /// `Service/Method`.
        method: &'static str,
        /// Time given.
        after: Duration,
    },
    /// containerd refused.
    #[error("containerd answered {method} with {code}: {message}")]
    Status {
        /// `Service/Method`.
        method: &'static str,
        /// `grpc-status`.
        code: Code,
        /// `grpc-message`.
        message: String,
    },
    /// The answer is not gRPC, or not what this method answers.
    #[error("containerd's answer to {method} is malformed: {detail}")]
    Malformed {
        /// `Service/Method`.
        method: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl CallError {
    /// Whether containerd says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: Code::NOT_FOUND,
                ..
            }
        )
    }
}

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// Success.
    pub const OK: Self = Self(0);
    /// No such object.
    pub const NOT_FOUND: Self = Self(5);
    /// The object is there already.
    pub const ALREADY_EXISTS: Self = Self(6);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

/// A connection. Dropped, it is closed, and calls under way on it end.
#[derive(Debug)]
pub struct Connection {
    send: SendRequest<Bytes>,
    namespace: String,
    services: &'static str,
    driver: AbortHandle,
    patience: Duration,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects. Must be called within a tokio runtime: the connection is driven by a task of it.
    ///
    /// # Errors
    /// If nothing speaks HTTP/2 there.
    pub async fn open(
        socket: &Path,
        namespace: &str,
        patience: Duration,
    ) -> Result<Self, CallError> {
        const METHOD: &str = "the HTTP/2 handshake";
        let late = |_| CallError::TimedOut {
            method: METHOD,
            after: patience,
        };
        let stream = timeout(patience, UnixStream::connect(socket))
            .await
            .map_err(late)?
            .map_err(|source| CallError::Connect {
                socket: socket.to_owned(),
                source,
            })?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false);
        let (send, connection) = timeout(patience, builder.handshake(stream))
            .await
            .map_err(late)?
            .map_err(|source| CallError::Connection {
                method: METHOD,
                source,
            })?;
        let driver = tokio::spawn(async move {
            // Whoever has a call under way is told of the failure by that call.
            if let Err(error) = connection.await {
                log::debug!("connection to containerd ended: {error}");
            }
        });
        Ok(Self {
            send,
            namespace: namespace.to_owned(),
            services: "containerd.services.",
            driver: driver.abort_handle(),
            patience,
        })
    }

    /// The same connection for services whose names begin otherwise: those of CRI with `runtime.v1.`.
    #[must_use]
    pub fn for_services(mut self, prefix: &'static str) -> Self {
        self.services = prefix;
        self
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unary<A: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let mut answers = self.stream::<A>(method, request).await?;
        let malformed = |detail: &str| CallError::Malformed {
            method,
            detail: detail.to_owned(),
        };
        let answer = answers
            .next()
            .await?
            .ok_or_else(|| malformed("no message in it"))?;
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(malformed("more than one message in it")),
        }
    }

    /// One request, many answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream<A: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
    ) -> Result<Answers<A>, CallError> {
        let patience = self.patience;
        let failed = |source| CallError::Connection { method, source };
        let late = |_| CallError::TimedOut {
            method,
            after: patience,
        };
        let head = Request::post(format!("http://localhost/{}{method}", self.services))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("containerd-namespace", &self.namespace)
            .body(())
            .map_err(|error| CallError::Malformed {
                method,
                detail: format!("it cannot be asked: {error}"),
            })?;

        let mut send = timeout(patience, self.send.clone().ready())
            .await
            .map_err(late)?
            .map_err(failed)?;
        let (response, mut body) = send.send_request(head, false).map_err(failed)?;
        body.send_data(frame(request), true).map_err(failed)?;

        let (head, body) = timeout(patience, response)
            .await
            .map_err(late)?
            .map_err(failed)?
            .into_parts();
        if head.status != StatusCode::OK {
            return Err(CallError::Malformed {
                method,
                detail: format!("HTTP status {}", head.status),
            });
        }
        // A refusal, and the reading of an empty blob, come as one block of headers without a body.
        let settled = head.headers.contains_key("grpc-status");
        if settled {
            status(method, &head.headers)?;
        }
        Ok(Answers {
            method,
            body,
            buffer: BytesMut::new(),
            patience,
            settled,
            answer: std::marker::PhantomData,
        })
    }
}

/// The answers of one call.
#[derive(Debug)]
pub struct Answers<A> {
    method: &'static str,
    body: h2::RecvStream,
    buffer: BytesMut,
    patience: Duration,
    /// The status came with the head; no other follows.
    settled: bool,
    answer: std::marker::PhantomData<A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next answer; `None` once containerd has said that all went well.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn next(&mut self) -> Result<Option<A>, CallError> {
        let method = self.method;
        let failed = |source| CallError::Connection { method, source };
        let patience = self.patience;
        let late = |_| CallError::TimedOut {
            method,
            after: patience,
        };
        loop {
            if let Some(message) = self.complete()? {
                let answer = A::decode(message).map_err(|error| CallError::Malformed {
                    method,
                    detail: error.to_string(),
                })?;
                return Ok(Some(answer));
            }
            match timeout(patience, self.body.data()).await.map_err(late)? {
                Some(piece) => {
                    let piece = piece.map_err(failed)?;
                    self.body
                        .flow_control()
                        .release_capacity(piece.len())
                        .map_err(failed)?;
                    self.buffer.extend_from_slice(&piece);
                }
                None if self.settled => return Ok(None),
                None => {
                    let trailers = timeout(patience, self.body.trailers())
                        .await
                        .map_err(late)?
                        .map_err(failed)?;
                    status(method, &trailers.unwrap_or_default())?;
                    if !self.buffer.is_empty() {
                        let detail = "it ends within a message".to_owned();
                        return Err(CallError::Malformed { method, detail });
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Takes a whole message out of the buffer: a flag, the length (big endian), the message.
    fn complete(&mut self) -> Result<Option<Bytes>, CallError> {
        let malformed = |detail: String| CallError::Malformed {
            method: self.method,
            detail,
        };
        let Some((prefix, _)) = self.buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(malformed(
                "a message is compressed, which was not asked for".to_owned(),
            ));
        }
        if length > MESSAGE_BYTES {
            return Err(malformed(format!(
                "a message has {length} bytes, more than {MESSAGE_BYTES}"
            )));
        }
        if self.buffer.len() < 5 + length {
            self.buffer.reserve(5 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

fn frame(request: &impl Message) -> Bytes {
    let message = request.encode_to_vec();
    let length =
        u32::try_from(message.len()).expect("a request of a few fields is shorter than 4 GiB");
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// Reads `grpc-status` and `grpc-message`.
fn status(method: &'static str, headers: &HeaderMap) -> Result<(), CallError> {
    let Some(code) = headers.get("grpc-status") else {
        return Err(CallError::Malformed {
            method,
            detail: "it ends without a status".to_owned(),
        });
    };
    let code = code
        .to_str()
        .ok()
        .and_then(|code| code.parse().ok())
        .map_or(Code(2), Code);
    if code == Code::OK {
        return Ok(());
    }
    let message = headers
        .get("grpc-message")
        .map_or(&b""[..], |message| message.as_bytes());
    Err(CallError::Status {
        method,
        code,
        message: percent_decoded(message),
    })
}

/// gRPC writes bytes outside printable ASCII as `%XX`.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                let digit = |b: u8| {
                    char::from(b)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                digit(*high)
                    .zip(digit(*low))
                    .map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_containerd_are_read_as_they_were_written() {
        assert_eq!(
            percent_decoded(b"container %22a%22: not found"),
            "container \"a\": not found"
        );
        assert_eq!(percent_decoded(b"100%"), "100%");
        assert_eq!(percent_decoded(b"%zz%4"), "%zz%4");
        assert_eq!(percent_decoded(b"%C3%A9"), "é");
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(Code::NOT_FOUND.to_string(), "NOT_FOUND");
        assert_eq!(Code(16).to_string(), "UNAUTHENTICATED");
        assert_eq!(Code(99).to_string(), "status 99");
    }
}
