//! The content of an answer: of a length that is told before, in chunks, or to the end of the connection.

use std::io::{self, BufRead, Read};

/// Longest line between chunks.
const LONGEST_LINE: u64 = 4096;

enum Rest {
    Bytes(u64),
    /// Of the chunk, and whether it is the first.
    Chunk {
        left: u64,
        first: bool,
    },
    Everything,
}

pub(super) struct Body<R> {
    stream: R,
    rest: Rest,
}

impl<R: BufRead> Body<R> {
    pub(super) fn of_length(stream: R, length: u64) -> Self {
        Self {
            stream,
            rest: Rest::Bytes(length),
        }
    }

    pub(super) fn chunked(stream: R) -> Self {
        Self {
            stream,
            rest: Rest::Chunk {
                left: 0,
                first: true,
            },
        }
    }

    pub(super) fn to_the_end(stream: R) -> Self {
        Self {
            stream,
            rest: Rest::Everything,
        }
    }

    /// The length of the next chunk; 0 for the last.
    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        if !first {
            self.line()?;
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(digits, 16).map_err(|_| io::Error::other("a chunk has no length"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") {
            Ok(String::from_utf8_lossy(&line).trim().to_owned())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Rest::Chunk { left: 0, first } = self.rest {
            match self.next_chunk(first)? {
                0 => self.rest = Rest::Bytes(0),
                left => self.rest = Rest::Chunk { left, first: false },
            }
        }
        let left = match &mut self.rest {
            Rest::Everything => return self.stream.read(buffer),
            Rest::Bytes(left) | Rest::Chunk { left, .. } => left,
        };
        let most = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.stream.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::Error::other("the connection was closed"));
        }
        *left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut body: Body<&[u8]>) -> io::Result<String> {
        let mut text = String::new();
        body.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn contents() {
        assert_eq!(all(Body::of_length(&b"abc"[..], 2)).unwrap(), "ab");
        assert_eq!(all(Body::to_the_end(&b"abc"[..])).unwrap(), "abc");
        assert_eq!(
            all(Body::chunked(&b"2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n"[..])).unwrap(),
            "abc"
        );
        all(Body::of_length(&b"abc"[..], 4)).unwrap_err();
        all(Body::chunked(&b"2\r\nab\r\n"[..])).unwrap_err();
        all(Body::chunked(&b"zz\r\nab\r\n"[..])).unwrap_err();
    }
}
