//! What instances write to the log: as it is, or, with the handler's option `Http.LogPrefix`, in whole lines each of
//! which says whose it is.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use skiff_wasi_wasmtime::stdio::Output;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::log::Log;

/// A line that is longer is broken: it is kept until it ends.
const LONGEST: usize = 16 << 10;

/// How an instance speaks.
pub(crate) enum Voice {
    /// What it writes is in the log as it is.
    Plain(Log),
    /// With a prefix.
    Prefixed { output: Lines, error: Lines },
}

impl Voice {
    pub(crate) fn new(log: Log, prefix: bool) -> Self {
        if prefix {
            Self::Prefixed {
                output: Lines::new(log.output()),
                error: Lines::new(log.error()),
            }
        } else {
            Self::Plain(log)
        }
    }

    /// From now on lines begin with this.
    pub(crate) fn begin(&self, prefix: String) {
        if let Self::Prefixed { output, error } = self {
            output.begin(prefix.clone());
            error.begin(prefix);
        }
    }

    /// What was begun of a line is written.
    pub(crate) fn end(&self) {
        if let Self::Prefixed { output, error } = self {
            output.begin(String::new());
            error.begin(String::new());
        }
    }

    /// A line of its own, to standard error.
    pub(crate) fn say(&self, mut line: String) {
        match self {
            Self::Plain(log) => log.say(&line),
            Self::Prefixed { error, .. } => {
                line.push('\n');
                // Nobody reads it: then there is nobody to tell, either.
                drop(error.write_lines(line.as_bytes()));
            }
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.end();
    }
}

/// A stream in lines. Clones are the same stream.
#[derive(Clone)]
pub(crate) struct Lines {
    output: Output,
    pending: Arc<Mutex<Pending>>,
}

#[derive(Default)]
struct Pending {
    prefix: String,
    line: Vec<u8>,
}

impl Lines {
    fn new(output: Output) -> Self {
        Self {
            output,
            pending: Arc::default(),
        }
    }

    fn begin(&self, prefix: String) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.line.is_empty() {
            let mut whole = Vec::new();
            pending.end_line(&mut whole);
            drop(self.output.write_all(&whole));
        }
        pending.prefix = prefix;
    }

    fn write_lines(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = Vec::new();
        pending.add(bytes, &mut whole);
        // In one piece, so that lines of others come between lines only.
        self.output.write_all(&whole)
    }
}

impl Pending {
    /// Takes bytes; lines that are whole by then go to `whole`.
    fn add(&mut self, bytes: &[u8], whole: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in text.chunks(LONGEST) {
                if self.line.len() + part.len() > LONGEST {
                    self.end_line(whole);
                }
                self.line.extend_from_slice(part);
            }
            if ends {
                self.end_line(whole);
            }
        }
    }

    fn end_line(&mut self, whole: &mut Vec<u8>) {
        whole.extend_from_slice(self.prefix.as_bytes());
        whole.append(&mut self.line);
        whole.push(b'\n');
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_lines(&bytes)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_lines(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pending: &mut Pending, bytes: &[u8]) -> String {
        let mut whole = Vec::new();
        pending.add(bytes, &mut whole);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn each_line_has_its_prefix() {
        let mut pending = Pending {
            prefix: "[7] ".to_owned(),
            line: Vec::new(),
        };
        assert_eq!(written(&mut pending, b"be"), "");
        assert_eq!(
            written(&mut pending, b"gun\nand\n\nmo"),
            "[7] begun\n[7] and\n[7] \n"
        );
        assert_eq!(written(&mut pending, b"re\n"), "[7] more\n");
        assert!(pending.line.is_empty());
    }

    #[test]
    fn what_never_ends_is_broken() {
        let mut pending = Pending::default();
        let lines = written(&mut pending, &vec![b'x'; LONGEST * 2 + 1]);
        assert_eq!(
            lines.lines().map(str::len).collect::<Vec<_>>(),
            [LONGEST, LONGEST]
        );
        assert_eq!(pending.line, b"x");
    }
}
