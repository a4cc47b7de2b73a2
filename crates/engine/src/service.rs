//! How a component that handles HTTP requests is served: what a shim tells its host, from the handler's options.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Options of a serving host. `None` is "no limit" unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOptions {
    /// Where it listens; `None` is port [`PORT`] of all addresses, of IPv4 and IPv6.
    pub address: Option<SocketAddr>,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: u32,
    /// Connections that are served at a time; more wait in the backlog.
    pub connections: u32,
    /// How long a connection may be without a request, and a client may let the server wait for the rest of one, or for
    /// room for the answer.
    pub client_time: Duration,
    /// Largest head of a request, in bytes.
    pub header_limit: u32,
    /// Largest body of a request, in bytes.
    pub body_limit: Option<u64>,
    /// Requests that are handled at a time.
    pub concurrency: u32,
    /// Requests that wait for one of those to end.
    pub queue: u32,
    /// Time until the answer begins.
    pub request_time: Option<Duration>,
    /// Memory of one instance, in bytes.
    pub instance_memory: Option<u64>,
    /// Requests that an instance answers, one after the other (WASI 0.3: also at the same time). `None` is one for
    /// WASI 0.2, and 128 for 0.3.
    pub instance_requests: Option<u32>,
    /// How long new connections are still served after the signal to end.
    pub drain_delay: Duration,
    /// Whether each line that the component writes says which request (WASI 0.3: which instance) it belongs to.
    pub log_prefix: bool,
    /// Where counters can be read; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where the component may connect to; `None`: everywhere. See [`Destination`].
    pub egress: Option<Vec<Destination>>,
}

/// The port that is served without an option.
pub const PORT: u16 = 8080;

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            address: None,
            backlog: 1024,
            connections: 8192,
            client_time: Duration::from_secs(120),
            header_limit: 64 << 10,
            body_limit: None,
            concurrency: 512,
            queue: 4096,
            request_time: Some(Duration::from_secs(60)),
            instance_memory: None,
            instance_requests: None,
            drain_delay: Duration::from_secs(3),
            log_prefix: false,
            metrics: None,
            egress: None,
        }
    }
}

/// A place that a component may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Which machines.
    pub host: DestinationHost,
    /// Which port; `None`: each.
    pub port: Option<u16>,
}

/// The machines of a [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DestinationHost {
    /// All.
    Any,
    /// All whose address begins with so many bits of this one.
    Network(std::net::IpAddr, u8),
    /// The one of this name, wherever it is resolved to.
    Name(String),
    /// All whose name ends with this, which begins with a dot.
    Below(String),
}

impl Destination {
    /// Reads `*`, `10.0.0.0/8`, `192.0.2.1:443`, `[2001:db8::]/32`, `api.example.com:443`, `*.example.com`.
    pub fn read(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let host = if host == "*" {
            DestinationHost::Any
        } else if let Some(network) = network(host) {
            network
        } else if let Some(rest) = host.strip_prefix("*.") {
            DestinationHost::Below(format!(".{}", name(rest)?))
        } else {
            DestinationHost::Name(name(host)?)
        };
        Some(Self { host, port })
    }

    /// Whether it covers whatever the other one does.
    pub fn includes(&self, other: &Self) -> bool {
        use DestinationHost::{Any, Below, Name, Network};
        let hosts = match (&self.host, &other.host) {
            (Any, _) => true,
            (Network(own, own_bits), Network(other, bits)) => {
                bits >= own_bits && begins_alike(*own, *other, *own_bits)
            }
            (Name(own), Name(other)) => own == other,
            (Below(own), Name(other)) => other.ends_with(own.as_str()) && other.len() > own.len(),
            (Below(own), Below(other)) => other.ends_with(own.as_str()),
            _ => false,
        };
        hosts && (self.port.is_none() || self.port == other.port)
    }

    /// Whether it covers a connection to `address`, which was asked for by `name` if it was.
    pub fn covers(&self, name: Option<&str>, address: SocketAddr) -> bool {
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        match &self.host {
            DestinationHost::Any => true,
            DestinationHost::Network(network, bits) => {
                begins_alike(*network, address.ip().to_canonical(), *bits)
            }
            DestinationHost::Name(own) => name.is_some_and(|name| name == *own),
            DestinationHost::Below(end) => {
                name.is_some_and(|name| name.ends_with(end.as_str()) && name.len() > end.len())
            }
        }
    }
}

/// The port after the last colon, unless that belongs to an address of IPv6.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = text.rfind(']').map_or(0, |index| index + 1);
    let colons = text[after_bracket..].matches(':').count();
    match text[after_bracket..].rsplit_once(':') {
        Some((_, port)) if colons == 1 => {
            let host = &text[..text.len() - port.len() - 1];
            Some((host, Some(port.parse().ok().filter(|port| *port > 0)?)))
        }
        _ => Some((text, None)),
    }
}

fn network(text: &str) -> Option<DestinationHost> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.trim_end_matches(']').parse().ok()?,
        None => longest,
    };
    (bits <= longest).then_some(DestinationHost::Network(address, bits))
}

/// A name that DNS can have, in lower case.
fn name(text: &str) -> Option<String> {
    let fine = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
    let labels = text.split('.').all(|label| !label.is_empty());
    let digits_only = text
        .bytes()
        .all(|letter| letter.is_ascii_digit() || letter == b'.');
    (text.bytes().all(fine) && labels && !digits_only).then(|| text.to_ascii_lowercase())
}

fn begins_alike(one: std::net::IpAddr, other: std::net::IpAddr, bits: u8) -> bool {
    use std::net::IpAddr::{V4, V6};
    let alike = |one: u128, other: u128, width: u32| {
        let rest = width.saturating_sub(u32::from(bits));
        rest >= width || one >> rest == other >> rest
    };
    match (one, other) {
        (V4(one), V4(other)) => alike(one.to_bits().into(), other.to_bits().into(), 32),
        (V6(one), V6(other)) => alike(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(text: &str, name: Option<&str>, address: &str) -> bool {
        Destination::read(text)
            .unwrap_or_else(|| panic!("{text} is not read"))
            .covers(name, address.parse().unwrap())
    }

    #[test]
    fn networks_are_compared_after_names_are_resolved() {
        assert!(covers("10.0.0.0/8", Some("db.svc"), "10.9.8.7:5432"));
        assert!(!covers("10.0.0.0/8", Some("10.example"), "11.0.0.1:80"));
        assert!(covers("10.0.0.0/8", None, "[::ffff:10.1.1.1]:80"));
        assert!(covers("192.0.2.1:443", None, "192.0.2.1:443"));
        assert!(!covers("192.0.2.1:443", None, "192.0.2.1:80"));
        assert!(!covers("192.0.2.1", None, "192.0.2.2:80"));
        assert!(covers("2001:db8::/32", None, "[2001:db8::7]:80"));
        assert!(covers("[2001:db8::]/32:80", None, "[2001:db8:1::7]:80"));
        assert!(!covers("2001:db8::/32", None, "[2001:db9::7]:80"));
        assert!(covers("0.0.0.0/0", None, "8.8.8.8:53"));
        assert!(!covers("0.0.0.0/0", None, "[::1]:53"));
        assert!(covers("*:443", None, "[::1]:443"));
    }

    #[test]
    fn names_are_whole_names() {
        assert!(covers(
            "api.example.com",
            Some("API.example.com."),
            "192.0.2.1:80"
        ));
        assert!(!covers(
            "api.example.com",
            Some("api.example.com.evil"),
            "192.0.2.1:80"
        ));
        assert!(!covers("api.example.com", None, "192.0.2.1:80"));
        assert!(covers(
            "*.example.com:80",
            Some("a.b.example.com"),
            "192.0.2.1:80"
        ));
        assert!(!covers(
            "*.example.com",
            Some("example.com"),
            "192.0.2.1:80"
        ));
        assert!(!covers(
            "*.example.com",
            Some(".example.com"),
            "192.0.2.1:80"
        ));
    }

    #[test]
    fn what_is_no_destination() {
        for text in [
            "",
            "a b",
            "10.0.0.0/33",
            "10.0.0",
            "example.com:0",
            "example.com:http",
            "a..b",
            "*.",
            "http://x",
            "1.2.3.4/",
        ] {
            assert_eq!(Destination::read(text), None, "{text}");
        }
    }
}
