//! One request and its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::body::Body;
use super::url::Url;
use crate::failure::{Stop, failed, words};
use crate::streams::Io;

/// Most that a server may say before the content.
const LONGEST_HEAD: u64 = 64 * 1024;

pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) headers: Vec<String>,
    pub(super) agent: String,
    pub(super) content: Option<String>,
    pub(super) timeout: Duration,
}

pub(super) struct Response {
    pub(super) status: u16,
    /// The status line, and then the headers.
    pub(super) head: Vec<String>,
    body: Body<BufReader<TcpStream>>,
}

impl Request {
    pub(super) fn send(&self, url: &Url, quiet: bool, io: &mut Io) -> Result<Response, Stop> {
        let stream = self.connect(url, quiet, io)?;
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nConnection: close\r\n",
            self.method,
            url.path,
            url.authority(),
            self.agent
        );
        for header in &self.headers {
            text.push_str(&header.replace(['\r', '\n'], " "));
            text.push_str("\r\n");
        }
        if let Some(content) = &self.content {
            text.push_str(&format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                content.len()
            ));
        }
        text.push_str("\r\n");
        text.push_str(self.content.as_deref().unwrap_or_default());
        (&stream)
            .write_all(text.as_bytes())
            .map_err(|error| failed(format!("error sending to {}: {}", url.host, told(&error))))?;
        self.receive(BufReader::new(stream), url)
    }

    fn connect(&self, url: &Url, quiet: bool, io: &mut Io) -> Result<TcpStream, Stop> {
        let addresses: Vec<SocketAddr> = (url.host.as_str(), url.port)
            .to_socket_addrs()
            .map_err(|_| failed(format!("bad address '{}'", url.host)))?
            .collect();
        let mut last = failed(format!("bad address '{}'", url.host));
        for address in addresses {
            if !quiet {
                io.complain(&format!("Connecting to {} ({address})", url.authority()));
            }
            match connect(address, self.timeout) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(self.timeout))
                        .and_then(|()| stream.set_write_timeout(Some(self.timeout)))
                        .map_err(|error| failed(words(&error)))?;
                    return Ok(stream);
                }
                Err(error) => {
                    last = failed(format!(
                        "can't connect to remote host ({}): {}",
                        address.ip(),
                        told(&error)
                    ));
                }
            }
        }
        Err(last)
    }

    fn receive(&self, mut stream: BufReader<TcpStream>, url: &Url) -> Result<Response, Stop> {
        let mut left = LONGEST_HEAD;
        loop {
            let head = head(&mut stream, &mut left).map_err(|error| {
                failed(format!(
                    "error getting response from {}: {}",
                    url.host,
                    told(&error)
                ))
            })?;
            let mut words = head[0].split_whitespace();
            let status = words
                .next()
                .filter(|version| version.starts_with("HTTP/1."))
                .and_then(|_| words.next())
                .and_then(|status| status.parse::<u16>().ok())
                .ok_or_else(|| failed(format!("{} does not answer in HTTP", url.authority())))?;
            // What comes before the answer.
            if (100..200).contains(&status) {
                continue;
            }
            let header = |name: &str| {
                head[1..].iter().find_map(|line| {
                    let (known, value) = line.split_once(':')?;
                    known
                        .eq_ignore_ascii_case(name)
                        .then(|| value.trim().to_owned())
                })
            };
            let chunked = header("transfer-encoding")
                .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
            let length = header("content-length").and_then(|length| length.parse().ok());
            let body = match (
                self.method == "HEAD" || status == 204 || status == 304,
                chunked,
                length,
            ) {
                (true, ..) => Body::of_length(stream, 0),
                (_, true, _) => Body::chunked(stream),
                (_, _, Some(length)) => Body::of_length(stream, length),
                _ => Body::to_the_end(stream),
            };
            return Ok(Response { status, head, body });
        }
    }
}

/// A connection, or why there is none.
fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    // With a timeout, WASI's library takes a refusal for a connection. Without one it says what happened, at once.
    if stream.peer_addr().is_err() {
        return TcpStream::connect(address);
    }
    Ok(stream)
}

/// Status line and headers, up to the empty line.
fn head(stream: &mut impl BufRead, left: &mut u64) -> io::Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = Vec::new();
        let length = stream.by_ref().take(*left).read_until(b'\n', &mut line)?;
        *left -= length as u64;
        if !line.ends_with(b"\n") {
            return Err(io::Error::other(if *left == 0 {
                "its headers do not end"
            } else {
                "the connection was closed"
            }));
        }
        let line = String::from_utf8_lossy(&line)
            .trim_end()
            .replace(char::is_control, "?");
        if line.is_empty() && !lines.is_empty() {
            return Ok(lines);
        }
        lines.push(line);
    }
}

/// A timeout has several names.
pub(super) fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out".to_owned(),
        _ => words(error),
    }
}

impl Response {
    /// Where the answer is to be fetched instead.
    pub(super) fn redirect(&self) -> Option<&str> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        self.head[1..].iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim())
        })
    }

    /// Writes the content.
    pub(super) fn copy_to(&mut self, output: &mut impl Write) -> Result<(), Stop> {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = self
                .body
                .read(&mut buffer)
                .map_err(|error| failed(format!("the answer breaks off: {}", told(&error))))?;
            if length == 0 {
                return Ok(());
            }
            output.write_all(&buffer[..length])?;
        }
    }
}
