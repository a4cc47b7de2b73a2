//! A client of containers that serve HTTP: in the container's own network, and so simple that it can be as rude or as
//! patient as a test needs it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{run, wait_for};

/// Where a service listens that is told nothing.
pub const PORT: u16 = 8080;

/// The network of a container.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// That of a process. Its loopback is switched on: `ctr` leaves it off.
    ///
    /// # Errors
    /// The process is gone, or there is no `ip`.
    pub fn of(pid: u32) -> Result<Self> {
        let network = File::open(format!("/proc/{pid}/ns/net"))
            .with_context(|| format!("process {pid} has no network"))?;
        let pid = pid.to_string();
        let words = ["-t", &pid, "-n", "ip", "link", "set", "lo", "up"];
        run(Command::new("nsenter").args(words))?.ok()?;
        Ok(Self(network))
    }

    /// Does something in it, on a thread of its own.
    ///
    /// # Errors
    /// What it answers.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let thread = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .context("could not enter the container's network")?;
            work()
        };
        thread::scope(|scope| scope.spawn(thread).join())
            .unwrap_or_else(|_| bail!("a client panicked"))
    }

    /// Waits until somebody listens.
    ///
    /// # Errors
    /// Nobody does.
    pub fn wait(&self) -> Result<()> {
        self.inside(|| {
            wait_for("nothing listens", Duration::from_secs(30), || {
                Ok(connect().is_ok().then_some(()))
            })
        })
    }

    /// Asks once, on a connection of its own.
    ///
    /// # Errors
    /// There is no answer.
    pub fn get(&self, target: &str) -> Result<Answer> {
        self.inside(|| get(target))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Connects to the service of this network.
///
/// # Errors
/// Nobody listens.
pub fn connect() -> Result<Client> {
    Client::at((Ipv4Addr::LOCALHOST, PORT).into())
}

/// Asks once, on a connection of its own, in this network.
///
/// # Errors
/// There is no answer.
pub fn get(target: &str) -> Result<Answer> {
    let mut client = connect()?;
    client.ask(target)?;
    client.answer()
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// A connection to this address.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn at(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn ask(&mut self, target: &str) -> Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: service\r\n\r\n").as_bytes())
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// The connection ends before the answer does.
    pub fn answer(&mut self) -> Result<Answer> {
        let first = self.line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {first:?}"))?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body)?;
        } else if headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            loop {
                let length = usize::from_str_radix(self.line()?.trim(), 16)?;
                let from = body.len();
                body.resize(from + length, 0);
                self.stream.read_exact(&mut body[from..])?;
                ensure!(self.line()?.is_empty(), "a chunk does not end");
                if length == 0 {
                    break;
                }
            }
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// Whether the other side has closed the connection.
    ///
    /// # Errors
    /// It is broken in another way, or goes on.
    pub fn is_closed(&mut self) -> Result<bool> {
        Ok(self.stream.fill_buf()?.is_empty())
    }

    /// A second handle of the connection, to write while it is read.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.get_ref().try_clone()?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line)?;
        ensure!(length > 0, "the connection was closed");
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
