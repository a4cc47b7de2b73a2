//! `skiff cache`. Needs root: the cache is root's alone, and opening it takes a mount.

use std::path::PathBuf;

use skiff_cache::{About, Cache, Key, Kind, Settings};

use crate::harness::{Place, exists, fields};

/// Fills the place's cache with entries that look like compiled code.
fn filled(place: &Place, count: u8) -> Vec<Key> {
    let cache = Cache::open(&Settings {
        directory: place.path("cache"),
        limit: 1 << 30,
    })
    .unwrap();
    let about = About {
        kind: Kind(1),
        maker: "wasmtime".into(),
        source: [7; 32],
    };
    let keys = (0..count).map(|number| {
        let key = Key::of("test", &[&[number]]);
        cache
            .publish_bytes(&key, &about, &vec![number; 5000])
            .unwrap();
        key
    });
    keys.collect()
}

fn entry(place: &Place, key: &Key) -> PathBuf {
    place.path("cache/entries").join(key.to_string())
}

#[test]
fn where_there_is_no_cache_none_is_made() {
    let place = Place::new();
    for command in ["ls", "verify", "prune"] {
        place.skiff(&["cache", command]).well();
        assert_eq!(place.json(&["cache", command]).0, 0);
    }
    assert!(
        place
            .skiff(&["cache", "ls"])
            .well()
            .contains("there is no cache")
    );
    assert!(!exists(&place.path("cache")));
}

#[test]
fn entries_are_listed() {
    let place = Place::new();
    let keys = filled(&place, 3);
    let listing = place.skiff(&["cache", "ls"]).well();
    assert!(listing.starts_with("ENTRY"), "{listing}");
    for key in &keys {
        assert!(listing.contains(&key.to_string()[..12]), "{listing}");
    }
    assert!(
        listing.contains("wasmtime") && listing.contains("3 entries"),
        "{listing}"
    );

    let (_, document) = place.json(&["cache", "ls"]);
    assert_eq!(
        fields(&document),
        ["bytes", "entries", "folder", "limit_bytes", "quarantined"]
    );
    assert_eq!(
        fields(&document["entries"][0]),
        [
            "bytes",
            "in_use",
            "key",
            "kind",
            "last_used",
            "maker",
            "source"
        ]
    );
}

#[test]
fn damage_is_found_set_aside_and_told_by_the_exit_code() {
    let place = Place::new();
    let keys = filled(&place, 3);
    assert!(
        place
            .skiff(&["cache", "verify"])
            .well()
            .contains("3 entries, all intact")
    );

    let damaged = entry(&place, &keys[1]);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();

    let ended = place.skiff(&["cache", "verify"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stdout.contains(&format!("BAD  {}", keys[1])),
        "{ended:?}"
    );
    assert!(!exists(&damaged), "a damaged entry stays where it is used");
    assert!(
        place
            .skiff(&["cache", "verify"])
            .well()
            .contains("2 entries, all intact")
    );
    assert!(
        place
            .skiff(&["cache", "ls"])
            .well()
            .contains("1 file set aside as damaged")
    );
}

#[test]
fn the_document_of_verify_keeps_its_shape() {
    let place = Place::new();
    let keys = filled(&place, 2);
    let damaged = entry(&place, &keys[0]);
    std::fs::write(&damaged, "short").unwrap();
    let (code, document) = place.json(&["cache", "verify"]);
    assert_eq!(code, 1);
    assert_eq!(fields(&document), ["good", "quarantined"]);
    assert_eq!(document["good"], 1);
    assert_eq!(fields(&document["quarantined"][0]), ["key", "reason"]);
}

#[test]
fn prune_removes_what_it_says() {
    let place = Place::new();
    let keys = filled(&place, 4);
    let would = place.skiff(&["cache", "prune", "--dry-run"]).well();
    assert!(would.starts_with("would remove 4 entries"), "{would}");
    assert!(keys.iter().all(|key| exists(&entry(&place, key))));

    assert!(
        place
            .skiff(&["cache", "prune", "--unused-for", "1d"])
            .well()
            .starts_with("removed 0 entries")
    );
    assert!(
        place
            .skiff(&["cache", "prune", "--keep", "11K"])
            .well()
            .starts_with("removed 2 entries")
    );
    let (code, document) = place.json(&["cache", "prune"]);
    assert_eq!(
        (code, fields(&document)),
        (0, vec!["bytes", "dry_run", "removed"])
    );
    assert_eq!(document["removed"].as_array().unwrap().len(), 2);
    assert!(keys.iter().all(|key| !exists(&entry(&place, key))));
}
