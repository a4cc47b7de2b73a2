//! Which address a guest should try first: RFC 6724 as far as it decides between what pods have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Each address once: those with a route before those without, then by the precedence of their kind. Otherwise
/// the order of the answer stays, which servers use to spread load.
pub(super) fn best_first(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut unique: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    for address in addresses {
        let address = address.to_canonical();
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    if unique.len() > 1 {
        unique.sort_by_cached_key(|address| {
            (
                !has_route(*address),
                std::cmp::Reverse(precedence(*address)),
            )
        });
    }
    unique
}

/// The policy table of RFC 6724, section 2.1.
fn precedence(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(address) if address.is_loopback() => 50,
        IpAddr::V4(address) if address.is_loopback() => 50,
        IpAddr::V4(_) => 35,
        IpAddr::V6(address) if address.is_unique_local() => 3,
        IpAddr::V6(_) => 40,
    }
}

/// Connecting a datagram socket sends nothing: it only asks the kernel for a route.
fn has_route(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The port is of no importance, so long as it is not 0.
    UdpSocket::bind(SocketAddr::new(any, 0))
        .and_then(|socket| socket.connect((address, 9)))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_a_route_come_first_and_only_once() {
        // 2001:db8::/32 is documentation space, 127/8 and ::1 always have a route.
        let given = [
            "2001:db8::1",
            "127.0.0.2",
            "127.0.0.1",
            "127.0.0.2",
            "::ffff:127.0.0.1",
        ];
        let ordered = best_first(
            given
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        );
        let ordered: Vec<String> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["127.0.0.2", "127.0.0.1", "2001:db8::1"]);
    }

    #[test]
    fn kinds_of_addresses_have_a_precedence() {
        let of = |address: &str| precedence(address.parse().unwrap());
        assert!(of("2600::1") > of("10.0.0.1"));
        assert!(of("10.0.0.1") > of("fd00::1"));
    }
}
