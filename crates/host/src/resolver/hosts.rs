//! `/etc/hosts`, see `hosts(5)`.

use std::net::IpAddr;
use std::path::Path;

use super::files;

/// The addresses of `host`, in the order of the file.
pub(super) fn find(path: &Path, host: &str) -> Vec<IpAddr> {
    find_in(&files::text(path), host)
}

fn find_in(text: &str, host: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        let named = words.any(|word| {
            word.strip_suffix('.')
                .unwrap_or(word)
                .eq_ignore_ascii_case(host)
        });
        if named {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost
10.1.2.3  web.default.svc.cluster.local  Web # the pod itself
not-an-address web
fd00::3 web.
";

    #[test]
    fn every_address_of_a_name_is_found() {
        let found = find_in(HOSTS, "web");
        assert_eq!(
            found,
            [
                "10.1.2.3".parse::<IpAddr>().unwrap(),
                "fd00::3".parse().unwrap()
            ]
        );
        assert_eq!(
            find_in(HOSTS, "IP6-localhost"),
            ["::1".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn comments_and_parts_of_names_are_not_names() {
        assert!(find_in(HOSTS, "the").is_empty());
        assert!(find_in(HOSTS, "web.default").is_empty());
        assert!(find_in(HOSTS, "not-an-address").is_empty());
    }
}
