//! `/etc/resolv.conf`, see `resolv.conf(5)`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use super::files;

/// As many as the C library uses.
const MAX_SERVERS: usize = 3;
/// Kubernetes allows 32 search domains.
const MAX_SEARCH: usize = 32;
const MAX_NDOTS: usize = 15;
const MAX_TIMEOUT: u64 = 30;
const MAX_ATTEMPTS: usize = 5;

/// How to ask DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Addresses and, for link-local ones, interface numbers.
    servers: Vec<(IpAddr, u32)>,
    /// Domains to append, without dots at their ends.
    search: Vec<String>,
    /// A name with as many dots is asked for as it is before the search domains are tried.
    ndots: usize,
    /// For one server to answer.
    pub(super) timeout: Duration,
    /// Rounds through all servers.
    pub(super) attempts: usize,
    /// Lookups begin with another server each time.
    pub(super) rotate: bool,
    /// TCP only.
    pub(super) use_tcp: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
        }
    }
}

impl Config {
    /// Reads the file; one that is missing or empty means a server on this host, as it does for the C library.
    pub(super) fn read(path: &Path) -> Self {
        Self::parse(&files::text(path))
    }

    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if config.servers.len() < MAX_SERVERS => {
                    config.servers.extend(words.next().and_then(server));
                }
                // The last line of these counts.
                Some("search") => config.search = words.map(domain).take(MAX_SEARCH).collect(),
                Some("domain") => config.search = words.map(domain).take(1).collect(),
                Some("options") => words.for_each(|option| config.option(option)),
                _ => {}
            }
        }
        config.search.retain(|domain| !domain.is_empty());
        if config.servers.is_empty() {
            config.servers.push((Ipv4Addr::LOCALHOST.into(), 0));
        }
        config
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(ndots)) => {
                self.ndots = usize::try_from(ndots).unwrap_or(MAX_NDOTS).min(MAX_NDOTS);
            }
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(u64::from(seconds).clamp(1, MAX_TIMEOUT));
            }
            ("attempts", Ok(attempts)) => {
                self.attempts = usize::try_from(attempts)
                    .unwrap_or(MAX_ATTEMPTS)
                    .clamp(1, MAX_ATTEMPTS);
            }
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.use_tcp = true,
            _ => {}
        }
    }

    /// The servers in the order in which lookup number `lookup` asks them.
    pub(super) fn servers_from(&self, lookup: usize, port: u16) -> Vec<SocketAddr> {
        let count = self.servers.len().max(1);
        let in_order = self
            .servers
            .iter()
            .cycle()
            .skip(lookup % count)
            .take(self.servers.len());
        in_order
            .map(|(address, scope)| match address {
                IpAddr::V4(address) => SocketAddr::from((*address, port)),
                IpAddr::V6(address) => SocketAddrV6::new(*address, port, 0, *scope).into(),
            })
            .collect()
    }

    /// The full names to ask for, in order, each with a dot at its end. `name` is what the guest wrote, `host` the
    /// same without a dot at its end.
    pub(super) fn candidates(&self, name: &str, host: &str) -> Vec<String> {
        let as_it_is = format!("{host}.");
        if name.ends_with('.') {
            return vec![as_it_is];
        }
        let mut candidates: Vec<String> = self
            .search
            .iter()
            .map(|domain| format!("{host}.{domain}."))
            .collect();
        let dots = host.matches('.').count();
        let position = if dots >= self.ndots {
            0
        } else {
            candidates.len()
        };
        candidates.insert(position, as_it_is);
        candidates
    }
}

fn domain(word: &str) -> String {
    word.trim_matches('.').to_owned()
}

fn server(word: &str) -> Option<(IpAddr, u32)> {
    match word.split_once('%') {
        None => word.parse().ok().map(|address| (address, 0)),
        // Interfaces by number only: turning a name into one is a request to the kernel that the host is not allowed.
        Some((address, scope)) => Some((address.parse().ok()?, scope.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_kubelet_writes() {
        let config = Config::parse(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(
            config.servers_from(0, 53),
            ["10.96.0.10:53".parse::<SocketAddr>().unwrap()]
        );
        assert_eq!(
            config.candidates("web", "web"),
            [
                "web.default.svc.cluster.local.",
                "web.svc.cluster.local.",
                "web.cluster.local.",
                "web."
            ]
        );
        assert_eq!(
            config.candidates("a.b.c.d.e.f", "a.b.c.d.e.f")[0],
            "a.b.c.d.e.f."
        );
        assert_eq!(config.candidates("web.", "web"), ["web."]);
    }

    #[test]
    fn everything_else_in_the_file() {
        let config = Config::parse(
            "# nameserver 9.9.9.9\n; nameserver 9.9.9.8\ndomain old.example\nsearch new.example. .\n\
             nameserver ::1\nnameserver fe80::1%2\nnameserver bad\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n\
             options timeout:0 attempts:99 rotate use-vc ndots:99 unknown:3\n",
        );
        let servers: Vec<SocketAddr> = ["[::1]:53", "[fe80::1%2]:53", "1.1.1.1:53"]
            .map(|server| server.parse().unwrap())
            .into();
        assert_eq!(config.servers_from(0, 53), servers);
        assert_eq!(
            config.servers_from(4, 53),
            [servers[1], servers[2], servers[0]]
        );
        assert_eq!(config.search, ["new.example"]);
        assert_eq!(
            (config.timeout, config.attempts, config.ndots),
            (Duration::from_secs(1), 5, 15)
        );
        assert!(config.rotate && config.use_tcp);
    }

    #[test]
    fn no_file_means_a_server_on_this_host() {
        assert_eq!(
            Config::parse("").servers_from(0, 53),
            ["127.0.0.1:53".parse::<SocketAddr>().unwrap()]
        );
    }
}
