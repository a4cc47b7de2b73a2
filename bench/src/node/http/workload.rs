//! What the servers are asked.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use skiff_test::http::Client;

/// What a client sends and gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Workload {
    /// A line.
    Hello,
    /// 1 KiB of JSON, which comes back.
    Echo,
    /// 64 KiB.
    Body,
    /// The server asks another one, and hands its line on.
    Fetch,
}

/// Bytes of a large answer.
pub(super) const BODY: usize = 64 << 10;

impl Workload {
    pub(super) const ALL: [Self; 4] = [Self::Hello, Self::Echo, Self::Body, Self::Fetch];

    /// As tables have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Echo => "echo of 1 KiB of JSON",
            Self::Body => "a body of 64 KiB",
            Self::Fetch => "a call of another service",
        }
    }

    /// What its rate is called.
    pub(super) fn rate(self) -> &'static str {
        match self {
            Self::Hello => "hello, 32 connections",
            Self::Echo => "echo of 1 KiB of JSON, 32 connections",
            Self::Body => "a body of 64 KiB, 32 connections",
            Self::Fetch => "a call of another service, 32 connections",
        }
    }

    /// What is asked for.
    pub(super) fn target(self, other: SocketAddr) -> String {
        match self {
            Self::Hello => "/".to_owned(),
            Self::Echo => "/echo".to_owned(),
            Self::Body => format!("/bytes?{BODY}"),
            Self::Fetch => format!("/fetch?http://{other}/"),
        }
    }

    /// What is sent: 1 KiB of JSON, or nothing.
    pub(super) fn body(self) -> Option<String> {
        let (begin, end) = ("{\"name\":\"", "\"}");
        let filling = 1024 - begin.len() - end.len();
        (self == Self::Echo).then(|| format!("{begin}{}{end}", "e".repeat(filling)))
    }

    /// That a server answers rightly.
    pub(super) fn check(self, server: SocketAddr, other: SocketAddr) -> Result<()> {
        let mut client = Client::at(server)?;
        let target = self.target(other);
        let body = self.body();
        match &body {
            None => client.ask(&target)?,
            Some(body) => {
                let head = format!(
                    "POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                client.send(format!("{head}{body}").as_bytes())?;
            }
        }
        let answer = client.answer()?;
        let expected = match self {
            Self::Hello | Self::Fetch => "hello from a component\n".len(),
            Self::Echo => body.map_or(0, |body| body.len()),
            Self::Body => BODY,
        };
        ensure!(
            answer.status == 200 && answer.body.len() == expected,
            "{} is answered with {} and {} bytes, not {expected}",
            self.name(),
            answer.status,
            answer.body.len()
        );
        Ok(())
    }
}
