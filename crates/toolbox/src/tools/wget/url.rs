//! Addresses.

use crate::failure::{Stop, failed};

/// `http://host:port/path?query`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With what follows it.
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Stop> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                return Err(failed(format!(
                    "{scheme} is not understood, only http is: look at {text} from outside of the container, or from one with such a program"
                )));
            }
        };
        if text
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
        {
            return Err(failed(format!("not an http or ftp url: {text:?}")));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let bad = || failed(format!("bad address '{authority}'"));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map_or(Ok(80), |port| port.parse().map_err(|_| bad()))?;
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }

    /// Where a redirection leads.
    pub(super) fn join(&self, place: &str) -> Result<Self, Stop> {
        if place.contains("://") {
            return Self::parse(place);
        }
        if let Some(rest) = place.strip_prefix("//") {
            return Self::parse(&format!("http://{rest}"));
        }
        let path = if place.starts_with('/') {
            place.to_owned()
        } else {
            let directory = self.path.split('?').next().unwrap_or_default();
            let directory = directory
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            format!("{directory}/{place}")
        };
        if path
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
        {
            return Err(failed(format!(
                "the server redirects to a strange address: {place:?}"
            )));
        }
        Ok(Self {
            path,
            ..self.clone()
        })
    }

    /// What the file is called that an answer is kept in.
    pub(super) fn file_name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        match path.rsplit('/').next() {
            None | Some("" | "." | "..") => "index.html".to_owned(),
            Some(name) => name.to_owned(),
        }
    }

    /// `host:port`, as the request names it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == 80 {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url = Url::parse("http://u:p@example:8080/a/b?c#d").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path.as_str()),
            ("example", 8080, "/a/b?c")
        );
        assert_eq!(url.join("x").unwrap().path, "/a/x");
        assert_eq!(url.join("/y").unwrap().path, "/y");
        assert_eq!(url.join("http://z").unwrap().authority(), "z");
        assert_eq!(url.file_name(), "b");
        let url = Url::parse("[::1]:81?x").unwrap();
        assert_eq!(
            (url.authority().as_str(), url.path.as_str()),
            ("[::1]:81", "/?x")
        );
        assert_eq!(url.file_name(), "index.html");
        for wrong in [
            "https://a",
            "http://",
            "http://a:b/",
            "http://a/\r\nx",
            "ftp://a",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
