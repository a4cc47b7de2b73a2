//! What is kept when there is not room for all, and what an eviction does to those who use an entry.

use std::fs::FileTimes;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::mm::{MapFlags, ProtFlags};
use skiff_cache::{CacheError, Listed, Prune, Verdict};

use super::*;

const HOUR: u64 = 3600;
/// Of an entry with a kilobyte of code.
const BYTES: u64 = 1000 + 144;

/// An entry last used so many seconds ago.
fn entry(fixture: &Fixture, number: u8, ago: i64) {
    drop(
        fixture
            .cache
            .publish_bytes(&key(number), &about(), &[number; 1000])
            .unwrap(),
    );
    set_used(fixture, number, ago);
}

fn set_used(fixture: &Fixture, number: u8, ago: i64) {
    let (now, span) = (SystemTime::now(), Duration::from_secs(ago.unsigned_abs()));
    let time = if ago < 0 { now + span } else { now - span };
    let file = File::open(fixture.entry_path(&key(number))).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn used_ago(fixture: &Fixture, number: u8) -> u64 {
    let used = fixture
        .cache
        .list()
        .unwrap()
        .into_iter()
        .find(|entry| entry.key == key(number))
        .unwrap()
        .used;
    SystemTime::now()
        .duration_since(used)
        .map_or(u64::MAX, |ago| ago.as_secs())
}

fn listed(fixture: &Fixture) -> Vec<Key> {
    fixture
        .cache
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.key)
        .collect()
}

#[test]
fn the_least_recently_used_go_when_one_is_published() {
    let fixture = Fixture::with_limit(4 * BYTES);
    for (number, ago) in [(1, 300), (2, 100), (3, 400), (4, 200)] {
        entry(&fixture, number, ago);
    }
    assert_eq!(listed(&fixture), [key(3), key(1), key(4), key(2)]);
    fixture
        .cache
        .publish_bytes(&key(5), &about(), &[5; 1000])
        .unwrap();
    assert_eq!(listed(&fixture), [key(1), key(4), key(2), key(5)]);
    fixture
        .cache
        .publish_bytes(&key(6), &about(), &[6; 2000])
        .unwrap();
    assert_eq!(listed(&fixture), [key(2), key(5), key(6)]);
}

#[test]
fn a_clock_that_was_changed_does_not_keep_an_entry_for_ever() {
    let fixture = Fixture::with_limit(3 * BYTES);
    for (number, ago) in [(1, 300), (2, -100_000), (3, 100)] {
        entry(&fixture, number, ago);
    }
    fixture
        .cache
        .publish_bytes(&key(4), &about(), &[4; 1000])
        .unwrap();
    assert_eq!(listed(&fixture), [key(1), key(3), key(4)]);
}

#[test]
fn the_time_of_use_is_renewed_hourly() {
    let fixture = Fixture::new();
    for (ago, renewed) in [
        (10, false),
        (1800, false),
        (2 * i64::try_from(HOUR).unwrap(), true),
        (-5000, true),
    ] {
        entry(&fixture, 1, ago);
        fixture.cache.lookup(&key(1)).unwrap().unwrap();
        assert_eq!(
            used_ago(&fixture, 1) < 5,
            renewed,
            "{ago}: {}",
            used_ago(&fixture, 1)
        );
        fixture.cache.remove(&key(1)).unwrap();
    }
}

#[test]
fn what_is_in_use_stays() {
    let fixture = Fixture::with_limit(3 * BYTES);
    for (number, ago) in [(1, 300), (2, 200), (3, 100)] {
        entry(&fixture, number, ago);
    }
    let held = fixture.cache.lookup(&key(1)).unwrap().unwrap();
    let marks: Vec<bool> = fixture
        .cache
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.in_use)
        .collect();
    assert_eq!(marks, [true, false, false]);
    fixture
        .cache
        .publish_bytes(&key(4), &about(), &[4; 1000])
        .unwrap();
    assert_eq!(listed(&fixture), [key(1), key(3), key(4)]);
    // Whoever has inherited or duplicated it uses it too.
    let copy = held.file.try_clone().unwrap();
    drop(held);
    assert!(fixture.cache.list().unwrap()[0].in_use);
    drop(copy);
    assert!(!fixture.cache.list().unwrap()[0].in_use);
}

/// A mapping of an entry, as an engine makes it.
struct Mapping(*mut std::ffi::c_void, usize);

impl Mapping {
    fn new(entry: &Entry) -> Self {
        let length = usize::try_from(entry.length).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        #[expect(unsafe_code, reason = "mmap")]
        // SAFETY: a new mapping, at no given address.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::PRIVATE,
                entry.file.as_fd(),
                0,
            )
        };
        let start = start.unwrap();
        #[expect(unsafe_code, reason = "mprotect")]
        // SAFETY: the mapping just made.
        let executable = unsafe {
            rustix::mm::mprotect(
                start,
                length,
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::EXEC,
            )
        };
        executable.unwrap();
        Self(start, length)
    }

    fn bytes(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "reading a mapping")]
        // SAFETY: mapped until drop, and nobody writes to it: it is private, and the file is never changed.
        unsafe {
            std::slice::from_raw_parts(self.0.cast::<u8>(), self.1)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "munmap")]
        // SAFETY: the whole mapping, which nothing borrows any more.
        unsafe { rustix::mm::munmap(self.0, self.1) }.unwrap();
    }
}

#[test]
fn a_mapping_outlives_everything() {
    let fixture = Fixture::new();
    let code = code(200_000);
    let entry = fixture
        .cache
        .publish_bytes(&key(1), &about(), &code)
        .unwrap();
    let mapping = Mapping::new(&entry);
    drop(entry);
    // The descriptor is closed; the mapping alone holds the mark.
    assert!(fixture.cache.list().unwrap()[0].in_use);
    assert!(
        fixture
            .cache
            .prune(&Prune::default())
            .unwrap()
            .removed
            .is_empty()
    );
    let all = Prune {
        in_use_too: true,
        ..Prune::default()
    };
    assert_eq!(fixture.cache.prune(&all).unwrap().removed, [key(1)]);
    assert!(fixture.cache.lookup(&key(1)).unwrap().is_none());
    fixture
        .cache
        .publish_bytes(&key(1), &about(), b"other code")
        .unwrap();
    assert_eq!(mapping.bytes(), code);
    drop(mapping);
    assert!(!fixture.cache.list().unwrap()[0].in_use);
}

#[test]
fn what_is_larger_than_the_cache_is_not_taken() {
    let fixture = Fixture::with_limit(10_000);
    entry(&fixture, 1, 10);
    let error = fixture
        .cache
        .publish_bytes(&key(2), &about(), &[0; 10_000])
        .unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::TooLarge {
                bytes: 10_144,
                limit: 10_000
            }
        ),
        "{error}"
    );
    assert_eq!(listed(&fixture), [key(1)]);
}

#[test]
fn pruning_does_what_it_is_told() {
    let fixture = Fixture::new();
    for (number, ago) in [(1, 4000), (2, 3000), (3, 2000), (4, 1000)] {
        entry(&fixture, number, ago);
    }
    let by_age = Prune {
        unused_for: Some(Duration::from_secs(3500)),
        ..Prune::default()
    };
    let dry = fixture
        .cache
        .prune(&Prune {
            dry_run: true,
            ..by_age
        })
        .unwrap();
    assert_eq!(listed(&fixture).len(), 4);
    assert_eq!(fixture.cache.prune(&by_age).unwrap(), dry);
    assert_eq!((dry.removed, dry.bytes), (vec![key(1)], BYTES));
    let by_size = Prune {
        keep_bytes: Some(2 * BYTES),
        ..Prune::default()
    };
    assert_eq!(fixture.cache.prune(&by_size).unwrap().removed, [key(2)]);
    assert!(fixture.cache.prune(&by_size).unwrap().removed.is_empty());
    assert_eq!(
        fixture.cache.prune(&Prune::default()).unwrap().removed,
        [key(3), key(4)]
    );
    assert!(fixture.names("entries").is_empty());
}

#[test]
fn a_listing_shows_what_trailers_say() {
    let fixture = Fixture::new();
    entry(&fixture, 1, 10);
    std::fs::write(fixture.entry_path(&key(2)), b"no entry").unwrap();
    std::fs::write(
        fixture.directory.path().join("entries/readme"),
        b"not a key",
    )
    .unwrap();
    let entries = fixture.cache.list().unwrap();
    let find = |number| {
        entries
            .iter()
            .find(|entry| entry.key == key(number))
            .unwrap()
    };
    assert_eq!(
        (find(1).bytes, find(1).about.clone()),
        (BYTES, Some(about()))
    );
    assert_eq!((find(2).bytes, find(2).about.clone()), (8, None));
    assert_eq!(entries.len(), 2);

    let mut found = Vec::new();
    let mut note = |listed: &Listed, verdict: &Verdict| found.push((listed.key, verdict.clone()));
    fixture.cache.verify(&mut note).unwrap();
    let bad = Verdict::Quarantined("its mode is 644".to_owned());
    assert!(
        found.contains(&(key(1), Verdict::Good)) && found.contains(&(key(2), bad)),
        "{found:?}"
    );
    assert_eq!(
        fixture.names("entries"),
        [key(1).to_string(), "readme".to_owned()].map(String::from)
    );
}
