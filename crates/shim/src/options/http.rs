//! The table `Http` of a handler's options: how components that handle HTTP requests are served.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use skiff_engine::service::{Destination, ServiceOptions};

use super::OptionsError;
use super::values::{Text, bytes, seconds, text};

/// Narrows where one container may connect to.
pub const EGRESS: &str = "skiff.dev/http-egress";

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "PascalCase")]
pub struct Http {
    #[serde(deserialize_with = "text")]
    address: Address,
    backlog: u32,
    connections: Count,
    #[serde(deserialize_with = "text")]
    client_time: Time,
    #[serde(deserialize_with = "text")]
    header_limit: HeaderLimit,
    #[serde(deserialize_with = "text")]
    body_limit: Size,
    concurrency: Count,
    queue: u32,
    #[serde(deserialize_with = "text")]
    request_time: Time,
    #[serde(deserialize_with = "text")]
    instance_memory: Size,
    instance_requests: u32,
    #[serde(deserialize_with = "text")]
    drain_delay: Delay,
    log_prefix: bool,
    #[serde(deserialize_with = "text")]
    metrics: Address,
    egress: Option<Vec<Place>>,
}

impl Default for Http {
    fn default() -> Self {
        let default = ServiceOptions::default();
        Self {
            address: Address(default.address),
            backlog: default.backlog,
            connections: Count(default.connections),
            client_time: Time(Some(default.client_time)),
            header_limit: HeaderLimit(default.header_limit),
            body_limit: Size(default.body_limit),
            concurrency: Count(default.concurrency),
            queue: default.queue,
            request_time: Time(default.request_time),
            instance_memory: Size(default.instance_memory),
            instance_requests: 0,
            drain_delay: Delay(default.drain_delay),
            log_prefix: default.log_prefix,
            metrics: Address(default.metrics),
            egress: None,
        }
    }
}

impl Http {
    /// For the host, narrowed by a container's annotations.
    ///
    /// # Errors
    /// An annotation is not understood.
    pub(super) fn service(
        &self,
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<ServiceOptions, OptionsError> {
        let granted = self
            .egress
            .as_ref()
            .map(|places| places.iter().map(|place| place.0.clone()).collect());
        let asked = annotations.and_then(|annotations| annotations.get(EGRESS));
        let egress = match asked {
            None => granted,
            Some(asked) => Some(narrowed(granted.as_deref(), asked)?),
        };
        Ok(ServiceOptions {
            address: self.address.0,
            backlog: self.backlog,
            connections: self.connections.0,
            // A year is as good as never.
            client_time: self
                .client_time
                .0
                .unwrap_or(Duration::from_secs(31_536_000)),
            header_limit: self.header_limit.0,
            body_limit: self.body_limit.0,
            concurrency: self.concurrency.0,
            queue: self.queue,
            request_time: self.request_time.0,
            instance_memory: self.instance_memory.0,
            instance_requests: Some(self.instance_requests).filter(|count| *count > 0),
            drain_delay: self.drain_delay.0,
            log_prefix: self.log_prefix,
            metrics: self.metrics.0,
            egress,
        })
    }
}

/// The destinations that an annotation names, each of which must be one of those that are granted.
fn narrowed(
    granted: Option<&[Destination]>,
    asked: &str,
) -> Result<Vec<Destination>, OptionsError> {
    let failed = |reason: String| OptionsError::Annotation {
        name: EGRESS,
        value: asked.to_owned(),
        reason,
    };
    let words = asked.split(|letter: char| letter == ',' || letter.is_whitespace());
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            let place = Destination::read(word)
                .ok_or_else(|| failed(format!("{word:?} is no destination: {}", Place::EXPECTED)))?;
            match granted {
                Some(granted) if !granted.iter().any(|wider| wider.includes(&place)) => {
                    Err(failed(format!(
                        "the handler's option Http.Egress does not grant {word:?}, and an annotation cannot add to it"
                    )))
                }
                _ => Ok(place),
            }
        })
        .collect()
}

/// An address with a port, or the one that is meant without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address(Option<SocketAddr>);

impl Text for Address {
    const EXPECTED: &'static str =
        r#""default", "off", or an address with a port: "0.0.0.0:8080", "[::]:8080""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "default" | "off" => Some(Self(None)),
            _ => text.parse().ok().map(|address| Self(Some(address))),
        }
    }
}

/// A number that is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
struct Count(u32);

impl TryFrom<u32> for Count {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        (1..=1_000_000)
            .contains(&number)
            .then_some(Self(number))
            .ok_or("expected a number from 1 to 1000000")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(Option<Duration>);

impl Text for Time {
    const EXPECTED: &'static str =
        r#""off", or a time from "1s" to "365d": a number with s, m, h or d"#;

    fn read(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self(None));
        }
        seconds(text).map(|time| Self(Some(time)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delay(Duration);

impl Text for Delay {
    const EXPECTED: &'static str = r#""0s", or a time from "1s": a number with s, m, h or d"#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "0s" => Some(Self(Duration::ZERO)),
            _ => seconds(text).map(Self),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderLimit(u32);

impl Text for HeaderLimit {
    const EXPECTED: &'static str = r#"a size from "8Ki" to "16Mi""#;

    fn read(text: &str) -> Option<Self> {
        let size = bytes(text).filter(|bytes| (8 << 10..=16 << 20).contains(bytes))?;
        u32::try_from(size).ok().map(Self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(Option<u64>);

impl Text for Size {
    const EXPECTED: &'static str = r#""off", or a size such as "64Ki" or "10Mi""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self(None)),
            _ => bytes(text)
                .filter(|bytes| *bytes > 0)
                .map(|bytes| Self(Some(bytes))),
        }
    }
}

/// A destination in the list of those that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Place(Destination);

impl Place {
    const EXPECTED: &'static str = r#"expected "*", an address, a network ("10.0.0.0/8"), a name ("api.example.com") or all names below one ("*.example.com"), each with a port after a colon or without"#;
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Destination::read(&text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no destination: {}", Self::EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Http, String> {
        toml::from_str(table).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn nothing_said_is_the_default() {
        let http = read("").unwrap();
        assert_eq!(http, Http::default());
        assert_eq!(http.service(None).unwrap(), ServiceOptions::default());
    }

    #[test]
    fn every_option_arrives() {
        let http = read(
            r#"
            Address = "127.0.0.1:80"
            Backlog = 7
            Connections = 8
            ClientTime = "9s"
            HeaderLimit = "16Ki"
            BodyLimit = "1Mi"
            Concurrency = 10
            Queue = 11
            RequestTime = "off"
            InstanceMemory = "12Mi"
            InstanceRequests = 13
            DrainDelay = "0s"
            LogPrefix = true
            Metrics = "[::]:9090"
            Egress = ["10.0.0.0/8", "example.com:443"]
            "#,
        )
        .unwrap();
        let expected = ServiceOptions {
            address: Some("127.0.0.1:80".parse().unwrap()),
            backlog: 7,
            connections: 8,
            client_time: Duration::from_secs(9),
            header_limit: 16 << 10,
            body_limit: Some(1 << 20),
            concurrency: 10,
            queue: 11,
            request_time: None,
            instance_memory: Some(12 << 20),
            instance_requests: Some(13),
            drain_delay: Duration::ZERO,
            log_prefix: true,
            metrics: Some("[::]:9090".parse().unwrap()),
            egress: Some(vec![
                Destination::read("10.0.0.0/8").unwrap(),
                Destination::read("example.com:443").unwrap(),
            ]),
        };
        assert_eq!(http.service(None).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (table, expected) in [
            ("Adress = \"x\"", "unknown field"),
            ("Address = \"8080\"", "0.0.0.0:8080"),
            ("Concurrency = 0", "from 1"),
            ("HeaderLimit = \"1Ki\"", "8Ki"),
            ("BodyLimit = \"many\"", "10Mi"),
            ("DrainDelay = \"off\"", "0s"),
            ("Egress = [\"http://x\"]", "*.example.com"),
        ] {
            let told = read(table).unwrap_err();
            assert!(told.contains(expected), "{table}: {told}");
        }
    }

    #[test]
    fn an_annotation_narrows_and_never_widens() {
        let egress = |table: &str, annotation: &str| {
            let annotations = HashMap::from([(EGRESS.to_owned(), annotation.to_owned())]);
            let options = read(table).unwrap().service(Some(&annotations));
            options
                .map(|options| options.egress.unwrap().len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(egress("", "example.com, 10.0.0.0/8"), Ok(2));
        assert_eq!(egress("", ""), Ok(0));
        let granted = r#"Egress = ["10.0.0.0/8", "*.example.com"]"#;
        assert_eq!(egress(granted, "10.1.0.0/16:80 a.example.com"), Ok(2));
        for wider in ["0.0.0.0/0", "example.com", "*", "11.0.0.1"] {
            let told = egress(granted, wider).unwrap_err();
            assert!(
                told.contains(EGRESS) && told.contains("does not grant"),
                "{told}"
            );
        }
        assert!(
            egress("", "http://x")
                .unwrap_err()
                .contains("no destination")
        );
    }
}
