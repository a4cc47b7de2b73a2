//! Names of hosts become addresses: the resolver behind `wasi:sockets/ip-name-lookup`.
//!
//! The C library's `getaddrinfo` is never called here: it loads whatever library the `nsswitch.conf` in its root names, and
//! this root is an image's. Instead the two files that a pod is given, `/etc/hosts` and
//! `/etc/resolv.conf`, are read at each lookup (the kubelet changes them under running pods), and DNS is asked
//! over UDP, over TCP for answers that do not fit. Everything happens on the guest's own thread, with the
//! network that the pod has.
//!
//! Called by the linkers of engine hosts. Behaviour follows `resolv.conf(5)` where that is defined.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::{Name, RecordType};

use self::config::Config;
use self::exchange::{Answer, ExchangeError};

mod config;
mod exchange;
mod files;
mod hosts;
mod order;

/// Longest name that DNS can carry, in its text form without the dot at the end (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It cannot be the name of a host.
    #[error("{0:?} is not the name of a host")]
    InvalidName(String),
    /// Every server that answered says that there is none.
    #[error("there is no address of {0}")]
    NotFound(String),
    /// Asking again later may help.
    #[error("could not look up {name} for now")]
    Temporary {
        /// What was asked for.
        name: String,
        /// The last failure.
        #[source]
        source: ExchangeError,
    },
    /// Asking again will not help.
    #[error("could not look up {name}")]
    Permanent {
        /// What was asked for.
        name: String,
        /// The last failure.
        #[source]
        source: ExchangeError,
    },
}

/// Looks names up in the hosts file and the name servers that the files in one directory name.
#[derive(Debug)]
pub struct Resolver {
    etc: PathBuf,
    port: u16,
    /// Counts lookups, for `options rotate`.
    lookups: AtomicUsize,
}

impl Resolver {
    /// One that reads `hosts` and `resolv.conf` in `etc`.
    pub fn new(etc: impl Into<PathBuf>) -> Self {
        Self {
            etc: etc.into(),
            port: 53,
            lookups: AtomicUsize::new(0),
        }
    }

    /// The addresses of `name`, the best one first. At least one.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Some(address) = numeric(name) {
            return Ok(vec![address]);
        }
        let host = name.strip_suffix('.').unwrap_or(name);
        check(name, host)?;
        let mut addresses = hosts::find(&self.etc.join("hosts"), host);
        if addresses.is_empty() && is_localhost(host) {
            // RFC 6761, section 6.3: never a question for DNS.
            addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if addresses.is_empty() {
            addresses = self.ask(name, host).await?;
        }
        Ok(order::best_first(addresses))
    }

    async fn ask(&self, name: &str, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let config = Config::read(&self.etc.join("resolv.conf"));
        let first = if config.rotate {
            self.lookups.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let servers = config.servers_from(first, self.port);
        let mut failure = None;
        for candidate in config.candidates(name, host) {
            // A search domain may make the name too long; the next one may not.
            let Ok(question) = Name::from_utf8(&candidate) else {
                continue;
            };
            let (v4, v6) = tokio::join!(
                exchange::ask(&config, &servers, &question, RecordType::A),
                exchange::ask(&config, &servers, &question, RecordType::AAAA),
            );
            let mut addresses = Vec::new();
            for answer in [v4, v6] {
                match answer {
                    Ok(Answer::Addresses(found)) => addresses.extend(found),
                    Ok(Answer::NoName) => {}
                    Err(error) => failure = Some(error),
                }
            }
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            // Nobody answers: the other candidates would only wait as long again.
            if matches!(
                failure,
                Some(ExchangeError::NoAnswer { .. } | ExchangeError::NoServer)
            ) {
                break;
            }
        }
        Err(match failure {
            None => LookupError::NotFound(name.to_owned()),
            Some(source @ (ExchangeError::Refused { .. } | ExchangeError::NoServer)) => {
                LookupError::Permanent {
                    name: name.to_owned(),
                    source,
                }
            }
            Some(source) => LookupError::Temporary {
                name: name.to_owned(),
                source,
            },
        })
    }
}

/// An address written as an address: `10.0.0.1`, `fe80::1`, `[::1]`.
fn numeric(name: &str) -> Option<IpAddr> {
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => name.parse().ok(),
    }
}

fn is_localhost(host: &str) -> bool {
    let label = host.rsplit('.').next().unwrap_or(host);
    label.eq_ignore_ascii_case("localhost")
}

/// Refuses what cannot be a host's name before it reaches a server. Underscores are common in practice; letters outside of
/// ASCII are encoded later (IDNA).
fn check(name: &str, host: &str) -> Result<(), LookupError> {
    let allowed = |character: char| {
        !character.is_ascii() || character.is_ascii_alphanumeric() || "-_.".contains(character)
    };
    if host.is_empty()
        || host.len() > MAX_NAME
        || host.split('.').any(str::is_empty)
        || !host.chars().all(allowed)
    {
        return Err(LookupError::InvalidName(
            name.chars().take(MAX_NAME).collect(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
