//! One question to DNS: the same servers in turn until one answers, UDP first, TCP for what UDP cannot carry.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use super::config::Config;

/// Largest datagram that a server may send without being told of more (RFC 1035, section 4.2.1).
const MAX_DATAGRAM: usize = 512;
/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 16;

/// What a server knows.
#[derive(Debug)]
pub(super) enum Answer {
    /// The name exists; there may be no address of the kind asked for.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// There is nobody to ask.
    #[error("no name server is configured")]
    NoServer,
    /// Nobody answered.
    #[error("no answer from name server {server}")]
    NoAnswer {
        /// The last one asked.
        server: SocketAddr,
        /// What happened there.
        #[source]
        source: io::Error,
    },
    /// A server could not find out.
    #[error("name server {server} answered {code}")]
    Failed {
        /// The last one asked.
        server: SocketAddr,
        /// Its answer.
        code: ResponseCode,
    },
    /// A server does not want to answer.
    #[error("name server {server} refused to answer")]
    Refused {
        /// The last one asked.
        server: SocketAddr,
    },
    /// The question cannot be written.
    #[error("the question cannot be encoded")]
    Encode(#[source] hickory_proto::ProtoError),
}

/// Asks `servers` for the addresses of one kind that `name` has.
///
/// # Errors
/// See [`ExchangeError`]: the failure of the server that was asked last.
pub(super) async fn ask(
    config: &Config,
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
) -> Result<Answer, ExchangeError> {
    let mut failure = ExchangeError::NoServer;
    for _ in 0..config.attempts {
        for &server in servers {
            // A number of its own for each: a late answer to the last one is none to this one.
            let mut message = Message::query();
            message.add_query(Query::query(name.clone(), kind));
            message.metadata.recursion_desired = true;
            let question = message.to_vec().map_err(ExchangeError::Encode)?;
            let response = match exchange(config, server, &message, &question).await {
                Ok(response) => response,
                Err(source) => {
                    failure = ExchangeError::NoAnswer { server, source };
                    continue;
                }
            };
            match response.metadata.response_code {
                ResponseCode::NoError => {
                    return Ok(Answer::Addresses(addresses(&response, name, kind)));
                }
                ResponseCode::NXDomain => return Ok(Answer::NoName),
                ResponseCode::Refused => failure = ExchangeError::Refused { server },
                code => failure = ExchangeError::Failed { server, code },
            }
        }
    }
    Err(failure)
}

async fn exchange(
    config: &Config,
    server: SocketAddr,
    query: &Message,
    question: &[u8],
) -> io::Result<Message> {
    if !config.use_tcp {
        match in_time(config.timeout, over_udp(server, query, question)).await? {
            Datagram::Whole(response) => return Ok(*response),
            Datagram::Truncated => {}
        }
    }
    in_time(config.timeout, over_tcp(server, query, question)).await
}

async fn in_time<T>(
    timeout: Duration,
    exchange: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout_at(Instant::now() + timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

enum Datagram {
    Whole(Box<Message>),
    /// The server has more to say than fits; what came may end anywhere.
    Truncated,
}

async fn over_udp(server: SocketAddr, query: &Message, question: &[u8]) -> io::Result<Datagram> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new socket each time: its port, chosen by the kernel, is the second half of what an attacker has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let datagram = &buffer[..length];
        if is_truncated(datagram, query) {
            return Ok(Datagram::Truncated);
        }
        // Anything that is no answer to this question is as good as not received.
        if let Some(response) = decode(datagram, query) {
            return Ok(Datagram::Whole(Box::new(response)));
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &Message, question: &[u8]) -> io::Result<Message> {
    let length =
        u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut stream = TcpStream::connect(server).await?;
    let mut packet = Vec::with_capacity(question.len() + 2);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(question);
    stream.write_all(&packet).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    decode(&answer, query).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether this is a response to `query` with the TC bit (RFC 1035, section 4.1.1: QR and TC are bits of byte 2).
fn is_truncated(bytes: &[u8], query: &Message) -> bool {
    let [first, second] = query.metadata.id.to_be_bytes();
    matches!(bytes, [a, b, flags, ..] if (*a, *b) == (first, second) && flags & 0x82 == 0x82)
}

/// The response to `query` that `bytes` hold, if they do.
fn decode(bytes: &[u8], query: &Message) -> Option<Message> {
    let response = Message::from_vec(bytes).ok()?;
    let fits = response.metadata.id == query.metadata.id
        && response.metadata.message_type == MessageType::Response
        && response.queries == query.queries;
    fits.then_some(response)
}

/// Addresses of `name`, or of the name that it is an alias of. Records of other names are not believed.
fn addresses(response: &Message, name: &Name, kind: RecordType) -> Vec<IpAddr> {
    let mut owner = name;
    for _ in 0..MAX_ALIASES {
        let alias = response
            .answers
            .iter()
            .find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == *owner => Some(&target.0),
                _ => None,
            });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    let address = |data: &RData| match (data, kind) {
        (RData::A(address), RecordType::A) => Some(IpAddr::V4(address.0)),
        (RData::AAAA(address), RecordType::AAAA) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    response
        .answers
        .iter()
        .filter(|record| record.name == *owner)
        .filter_map(|record| address(&record.data))
        .collect()
}
