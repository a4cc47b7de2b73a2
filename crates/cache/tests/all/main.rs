//! The cache through its public face. Needs root: the read-only view of the entries is a mount.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod basics;
mod crash;
mod eviction;
mod figures;
mod spoiled;
mod writers;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use skiff_cache::{About, Cache, Entry, Key, KeyParts, Kind, Settings};
use tempfile::TempDir;

/// A cache in a directory of its own, which goes with it.
struct Fixture {
    directory: TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        Self::with_limit(1 << 30)
    }

    fn with_limit(limit: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&settings(directory.path(), limit)).unwrap();
        Self { directory, cache }
    }

    fn entry_path(&self, key: &Key) -> PathBuf {
        self.directory.path().join("entries").join(key.to_string())
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.directory.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn settings(directory: &Path, limit: u64) -> Settings {
    Settings {
        directory: directory.to_path_buf(),
        limit,
    }
}

fn key(number: u8) -> Key {
    Key::new(&KeyParts {
        module: &[number; 32],
        engine: "test",
        build: &[1],
        options: &[],
        processor: "none",
    })
}

fn about() -> About {
    About {
        kind: Kind(2),
        maker: "test".to_owned(),
        source: [5; 32],
    }
}

/// Bytes that differ from page to page.
fn code(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from((index / 7 + index / 4096) % 251).unwrap())
        .collect()
}

fn bytes_of(entry: Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(entry.file)
        .take(entry.length)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}
