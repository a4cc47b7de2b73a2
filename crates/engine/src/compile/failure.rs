//! What the node remembers of a module that failed at a limit, so that a hundred replicas of it do not
//! take a compiler's whole time a hundred times over. Kept in the cache, verified like everything in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use skiff_cache::{About, Cache, Key, Kind};

/// Kind of these entries in the cache.
pub(super) const KIND: Kind = Kind(Kind::NOTE.0 | 1);

/// At which limit a module failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Limit {
    Time,
    Memory,
    Output,
}

/// What the limits were: under others the module is tried again.
fn key_of(code: &Key, limits: &str) -> Key {
    Key::of("failure", &[code.to_string().as_bytes(), limits.as_bytes()])
}

/// The limit at which the module of `code` failed less than `lifetime` ago, and how long ago.
pub(super) fn recall(
    cache: &Cache,
    code: &Key,
    limits: &str,
    lifetime: Duration,
) -> Option<(Limit, Duration)> {
    let key = key_of(code, limits);
    let entry = cache.lookup(&key).ok()??;
    let answer = read(entry.file, entry.length);
    match answer {
        Some((limit, age)) if age < lifetime => Some((limit, age)),
        _ => {
            if let Err(error) = cache.remove(&key) {
                log::debug!("could not forget an old failure: {error}");
            }
            None
        }
    }
}

fn read(file: OwnedFd, length: u64) -> Option<(Limit, Duration)> {
    let file = File::from(file);
    let time = file.metadata().ok()?.modified().ok()?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).ok()?;
    // A time to come is as good as an old one: the clock was changed since.
    let age = SystemTime::now().duration_since(time).ok()?;
    Some((postcard::from_bytes(&bytes).ok()?, age))
}

/// Remembers a failure. That it could not is no failure of its own.
pub(super) fn remember(
    cache: &Cache,
    code: &Key,
    limits: &str,
    engine: &str,
    module: &[u8; 32],
    limit: Limit,
) {
    let note = || -> Result<(), super::BoxError> {
        let about = About {
            kind: KIND,
            maker: engine.to_owned(),
            source: *module,
        };
        cache.publish_bytes(&key_of(code, limits), &about, &postcard::to_stdvec(&limit)?)?;
        Ok(())
    };
    if let Err(error) = note() {
        log::debug!("could not remember a failure: {error}");
    }
}
