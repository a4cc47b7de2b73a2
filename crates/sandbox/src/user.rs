//! User namespaces: the maps of their ids, and namespaces made from maps before anybody lives in them.
//!
//! The maps of a user namespace are written by a process outside it, and a launch waits for its child's exec: so the
//! shim first makes the namespace, by a child that ends at once, and writes the maps; the container's process then
//! joins it as it would join another's. Id-mapped mounts take their maps from such a namespace too.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::str::FromStr;

use crate::sys::user as sys;

/// What the kernel takes at most (`UID_GID_MAP_MAX_EXTENTS`).
pub const MOST_RANGES: usize = 340;
/// The maps of one kind are written with one call, which must be shorter than a page. Pages may be larger than this
/// elsewhere; what fits here fits there.
pub const LONGEST_TEXT: usize = 4096;

/// A range of ids and what they are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first id in the namespace.
    pub inside: u32,
    /// The id of the node that it stands for.
    pub outside: u32,
    /// How many follow each other.
    pub count: u32,
}

/// The users or the groups of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map(pub Vec<Range>);

/// Users and groups of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Users.
    pub users: Map,
    /// Groups.
    pub groups: Map,
}

impl Maps {
    /// Whether the other maps the same ids to the same; the order of ranges says nothing.
    pub fn same(&self, other: &Self) -> bool {
        let sorted = |map: &Map| {
            let mut ranges = map.0.clone();
            ranges.sort_unstable_by_key(|range| range.inside);
            ranges
        };
        sorted(&self.users) == sorted(&other.users) && sorted(&self.groups) == sorted(&other.groups)
    }
}

/// What is wrong with a map; the end of a sentence that begins with its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No ranges.
    #[error("has no ranges")]
    Empty,
    /// More than the kernel takes.
    #[error("has {0} ranges, but the kernel takes {MOST_RANGES} at most")]
    TooMany(usize),
    /// Too long as text.
    #[error(
        "is {0} characters long as the kernel reads it, and must be shorter than {LONGEST_TEXT}"
    )]
    TooLong(usize),
    /// A range of no ids, or beyond the last.
    #[error("has the range {0}, which is empty or goes beyond the last id")]
    Range(Range),
    /// Two of its ranges have an id in common.
    #[error("has the ranges {0} and {1}, which overlap")]
    Overlap(Range, Range),
    /// Not three numbers.
    #[error("has {0:?}, which is not of the form inside:outside:count")]
    Syntax(String),
}

impl std::fmt::Display for Range {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl Map {
    /// Looks whether the kernel would take it.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn check(&self) -> Result<(), MapError> {
        let ranges = &self.0;
        if ranges.is_empty() {
            return Err(MapError::Empty);
        }
        if ranges.len() > MOST_RANGES {
            return Err(MapError::TooMany(ranges.len()));
        }
        // The largest number stands for "no id".
        let fits = |first: u32, count: u32| first.checked_add(count).is_some();
        for range in ranges {
            if range.count == 0
                || !fits(range.inside, range.count)
                || !fits(range.outside, range.count)
            {
                return Err(MapError::Range(*range));
            }
        }
        for first in [|range: &Range| range.inside, |range: &Range| range.outside] {
            let mut sorted = ranges.clone();
            sorted.sort_unstable_by_key(first);
            if let Some([one, other]) = sorted.array_windows().find(|[one, other]| {
                // No overflow: the end of each range was looked at above.
                first(one) + one.count > first(other)
            }) {
                return Err(MapError::Overlap(*one, *other));
            }
        }
        let length = self.text().len();
        if length >= LONGEST_TEXT {
            return Err(MapError::TooLong(length));
        }
        Ok(())
    }

    /// What `id` is outside, if it is mapped.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside)?;
            (offset < range.count).then(|| range.outside.checked_add(offset))?
        })
    }

    /// As the kernel reads it.
    fn text(&self) -> String {
        let mut text = String::new();
        for range in &self.0 {
            writeln!(text, "{} {} {}", range.inside, range.outside, range.count)
                .expect("writing to a string does not fail");
        }
        text
    }

    /// As the kernel writes it.
    fn from_kernel(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse);
            Some(Range {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            })
        };
        text.lines().map(line).collect::<Option<_>>().map(Self)
    }
}

/// `0:65536:65536`, several of them with commas between: as containerd writes them into options of mounts.
impl FromStr for Map {
    type Err = MapError;

    fn from_str(text: &str) -> Result<Self, MapError> {
        let range = |text: &str| {
            let mut numbers = text.split(':').map(str::parse);
            let range = Range {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            };
            numbers.next().is_none().then_some(range)
        };
        let ranges: Result<_, _> = text
            .split(',')
            .map(|text| range(text).ok_or_else(|| MapError::Syntax(text.to_owned())))
            .collect();
        let map = Self(ranges?);
        map.check()?;
        Ok(map)
    }
}

/// A new user namespace, a child of the caller's, in which nobody lives.
///
/// # Errors
/// `ENOSPC` at the node's limit (`user.max_user_namespaces`), `EPERM` where the node forbids them, `EINVAL` for maps
/// that [`Map::check`] refuses.
pub fn make(maps: &Maps) -> io::Result<OwnedFd> {
    let child = sys::Ended::in_new_namespace()?;
    child.write("uid_map", &maps.users.text())?;
    child.write("gid_map", &maps.groups.text())?;
    child.namespace()
}

/// The maps of a user namespace, with the ids that the caller's namespace has for them.
///
/// # Errors
/// It is not below the caller's.
pub fn maps_of(namespace: BorrowedFd<'_>) -> io::Result<Maps> {
    let child = sys::Ended::in_namespace(namespace)?;
    let read = |file| {
        let text = child.read(file)?;
        Map::from_kernel(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    };
    Ok(Maps {
        users: read("uid_map")?,
        groups: read("gid_map")?,
    })
}

#[cfg(test)]
mod tests;
