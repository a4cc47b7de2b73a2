//! The table `WasmEdge` of a handler's options: what no other engine can do.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WasmEdge {
    /// Guests are interpreted.
    #[serde(rename = "Interpreter")]
    pub(super) interpreter: bool,
    /// What a guest has executed is told when it ends.
    #[serde(rename = "Statistics")]
    pub(super) statistics: bool,
    /// The most pages that one memory may have.
    #[serde(rename = "MemoryPages")]
    pub(super) memory_pages: Option<Pages>,
    /// Where the node has plugins for guests.
    #[serde(rename = "PluginDirectory")]
    pub(super) plugins: Option<Directory>,
}

/// A number of pages of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pages(pub(super) u32);

impl<'de> Deserialize<'de> for Pages {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        u32::try_from(number)
            .ok()
            .filter(|number| (1..=65_536).contains(number))
            .map(Self)
            .ok_or_else(|| {
                D::Error::invalid_value(
                    Unexpected::Signed(number),
                    &"a number of pages of 64 KiB, from 1 to 65536",
                )
            })
    }
}

/// A directory of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory(pub(super) String);

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let path = String::deserialize(from)?;
        if path.starts_with('/') && !path.contains('\0') {
            return Ok(Self(path));
        }
        Err(D::Error::invalid_value(
            Unexpected::Str(&path),
            &"the absolute path of a directory of the node",
        ))
    }
}
