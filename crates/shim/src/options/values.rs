//! Values of options that are more than a word: sizes, times, proposals. Each says what it takes when it is given
//! something else; serde and the TOML parser add the line.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use skiff_engine::compile::CachePolicy;
use skiff_engine::options::{OptLevel, Proposal, Proposals};

use crate::engine::KNOWN;

/// A value that is written as a string.
pub(super) trait Text: Sized {
    /// What there is to choose from, as it follows "expected".
    const EXPECTED: &'static str;

    /// Reads it.
    fn read(text: &str) -> Option<Self>;
}

/// Deserializes a [`Text`]; for serde's `deserialize_with`.
pub(super) fn text<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Reader<T>(PhantomData<T>);
    impl<T: Text> Visitor<'_> for Reader<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::read(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    from.deserialize_str(Reader(PhantomData))
}

/// The cap on a guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryCap {
    /// A little below the container's limit.
    #[default]
    Default,
    /// None: the kernel's limit is the only one.
    Off,
    /// Bytes.
    Size(u64),
    /// Of the container's limit.
    Percent(u8),
}

impl fmt::Display for MemoryCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Off => f.write_str("off"),
            Self::Size(bytes) => f.write_str(&size(*bytes)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Text for MemoryCap {
    const EXPECTED: &'static str = r#""default", "off", a size of 1Mi or more ("64Mi"), or a percentage from "1%" to "100%" of the container's memory limit"#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "default" => Some(Self::Default),
            "off" => Some(Self::Off),
            _ => match text.strip_suffix('%') {
                Some(percent) => {
                    let percent = percent.parse().ok()?;
                    (1..=100)
                        .contains(&percent)
                        .then_some(Self::Percent(percent))
                }
                None => bytes(text)
                    .filter(|bytes| *bytes >= 1 << 20)
                    .map(Self::Size),
            },
        }
    }
}

/// The size of a guest's stack, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSize(pub u32);

impl Text for StackSize {
    const EXPECTED: &'static str = r#"a size from "64Ki" to "256Mi""#;

    fn read(text: &str) -> Option<Self> {
        let bytes = bytes(text).filter(|bytes| (64 << 10..=256 << 20).contains(bytes))?;
        u32::try_from(bytes).ok().map(Self)
    }
}

/// The longest that a guest may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimit(pub Option<Duration>);

impl Text for TimeLimit {
    const EXPECTED: &'static str =
        r#""off", or a time from "1s" to "365d": a number with s, m, h or d"#;

    fn read(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self(None));
        }
        seconds(text).map(|time| Self(Some(time)))
    }
}

/// `90s`, `5m`, `24h`, `365d`; at least a second, a year at most.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let length = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.checked_mul(length)?;
    (1..=365 * 86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// What a trap tells of where the guest was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backtrace {
    /// Functions, and files with lines where the module has debug information.
    #[default]
    Lines,
    /// Functions.
    Functions,
    /// Nothing.
    Off,
}

impl Text for Backtrace {
    const EXPECTED: &'static str = r#""lines", "functions" or "off""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "lines" => Some(Self::Lines),
            "functions" => Some(Self::Functions),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

impl Text for OptLevel {
    const EXPECTED: &'static str = r#""none", "speed" or "speed_and_size""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "speed" => Some(Self::Speed),
            "speed_and_size" => Some(Self::SpeedAndSize),
            _ => None,
        }
    }
}

impl Text for CachePolicy {
    const EXPECTED: &'static str = r#""use", "only" or "off""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "use" => Some(Self::Use),
            "only" => Some(Self::Only),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// A key of the table: a type of its own, so that a wrong one is told with its line.
struct Name(Proposal);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let known = || Proposal::ALL.map(Proposal::name).join(", ");
        Proposal::from_name(&name).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "unknown proposal `{name}`, expected one of {}",
                known()
            ))
        })
    }
}

/// Deserializes a table of proposals, `gc = false`; those that are not named keep their defaults.
pub(super) fn proposals<'de, D: Deserializer<'de>>(from: D) -> Result<Proposals, D::Error> {
    struct Reader;
    impl<'de> Visitor<'de> for Reader {
        type Value = Proposals;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of proposals, each true or false")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Proposals, A::Error> {
            let mut proposals = Proposals::default();
            while let Some(Name(proposal)) = map.next_key()? {
                proposals = proposals.with(proposal, map.next_value()?);
            }
            match proposals.lacking() {
                None => Ok(proposals),
                Some((proposal, needed)) => Err(A::Error::custom(format!(
                    "proposal {} is built on {}, which is false: set both to false, or neither",
                    proposal.name(),
                    needed.name()
                ))),
            }
        }
    }
    from.deserialize_map(Reader)
}

/// The name of an engine: a type of its own, so that a wrong one is told with its line.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct EngineName(String);

impl<'de> Deserialize<'de> for EngineName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        known(&String::deserialize(from)?).map(Self)
    }
}

/// Deserializes the name of an engine; empty is that of the runtime type.
pub(super) fn engine<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Wanted(Option<String>);
    impl<'de> Deserialize<'de> for Wanted {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            match String::deserialize(from)?.as_str() {
                "" => Ok(Self(None)),
                name => known(name).map(|name| Self(Some(name))),
            }
        }
    }
    Wanted::deserialize(from).map(|wanted| wanted.0)
}

fn known<E: Error>(name: &str) -> Result<String, E> {
    if KNOWN.contains(&name) {
        return Ok(name.to_owned());
    }
    let known = KNOWN.join(", ");
    Err(E::custom(format!(
        "unknown engine `{name}`, expected one of {known}"
    )))
}

/// Deserializes a list of engines.
pub(super) fn engines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<EngineName>::deserialize(from)?;
    Ok(names.into_iter().map(|name| name.0).collect())
}

/// A version, as the folders of engines are named.
struct Version(String);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let version = String::deserialize(from)?;
        let fine = |letter: char| letter.is_ascii_alphanumeric() || ".-+_".contains(letter);
        if version.starts_with(|first: char| first.is_ascii_digit()) && version.chars().all(fine) {
            return Ok(Self(version));
        }
        Err(D::Error::invalid_value(
            Unexpected::Str(&version),
            &"a version as the folders of engines are named, like \"0.17.1\"",
        ))
    }
}

/// Deserializes a table of versions, `wasmedge = "0.17.1"`.
pub(super) fn versions<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let versions = BTreeMap::<EngineName, Version>::deserialize(from)?;
    let plain = |(name, version): (EngineName, Version)| (name.0, version.0);
    Ok(versions.into_iter().map(plain).collect())
}

/// `64Mi`, `64MiB`, `1048576`: as in a pod's manifest, powers of 1024 only.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" => 0,
        "Ki" | "KiB" => 10,
        "Mi" | "MiB" => 20,
        "Gi" | "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps() {
        for (text, cap) in [
            ("default", MemoryCap::Default),
            ("off", MemoryCap::Off),
            ("64Mi", MemoryCap::Size(64 << 20)),
            ("1536Mi", MemoryCap::Size(1536 << 20)),
            ("2Gi", MemoryCap::Size(2 << 30)),
            ("80%", MemoryCap::Percent(80)),
        ] {
            assert_eq!(MemoryCap::read(text), Some(cap));
            assert_eq!(cap.to_string(), text);
        }
        assert_eq!(MemoryCap::read("1048576"), Some(MemoryCap::Size(1_048_576)));
        for text in [
            "",
            "0",
            "0%",
            "101%",
            "-1%",
            "80 %",
            "64M",
            "1023Ki",
            "64mi",
            "99999999999Gi",
            "on",
        ] {
            assert_eq!(MemoryCap::read(text), None, "{text}");
        }
    }

    #[test]
    fn times_and_stacks() {
        let read = |text| TimeLimit::read(text).map(|limit| limit.0);
        assert_eq!(read("off"), Some(None));
        assert_eq!(read("90s"), Some(Some(Duration::from_secs(90))));
        assert_eq!(read("365d"), Some(Some(Duration::from_secs(31_536_000))));
        for text in ["0s", "", "10", "366d", "1w", "s"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(StackSize::read("64Ki"), Some(StackSize(65_536)));
        for text in ["63Ki", "257Mi", "4Gi", "x"] {
            assert_eq!(StackSize::read(text), None, "{text}");
        }
    }
}
