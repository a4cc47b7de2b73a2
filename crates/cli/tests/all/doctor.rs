//! `skiff doctor`, on whatever machine the tests run on, without a containerd.

use crate::harness::{Place, exists, fields};

#[test]
fn without_containerd_it_fails_and_says_what_to_do() {
    let place = Place::new();
    let ended = place.skiff(&["doctor"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stdout.contains("FAIL  containerd at"), "{ended:?}");
    assert!(ended.stdout.contains("→ start containerd"), "{ended:?}");
    assert!(ended.stdout.contains("OK    kernel"), "{ended:?}");
}

#[test]
fn every_line_has_a_status_and_what_is_wrong_a_next_step() {
    let place = Place::new();
    let ended = place.skiff(&["doctor"]);
    let lines: Vec<&str> = ended
        .stdout
        .lines()
        .take_while(|line| !line.is_empty())
        .collect();
    assert!(lines.len() > 10, "{ended:?}");
    for (index, line) in lines.iter().enumerate() {
        let is_step = line.starts_with("      → ");
        let is_fine = line.starts_with("OK    ");
        let is_wrong = line.starts_with("WARN  ") || line.starts_with("FAIL  ");
        assert!(is_step || is_fine || is_wrong, "{line}");
        if is_wrong {
            assert!(
                lines
                    .get(index + 1)
                    .is_some_and(|next| next.starts_with("      → ")),
                "{line}"
            );
        }
    }
}

#[test]
fn the_document_keeps_its_shape() {
    let place = Place::new();
    let (code, document) = place.json(&["doctor"]);
    assert_eq!(code, 1);
    assert_eq!(fields(&document), ["checks", "status"]);
    assert_eq!(document["status"], "fail");
    for check in document["checks"].as_array().unwrap() {
        assert_eq!(fields(check), ["finding", "id", "next_step", "status"]);
        assert!(
            ["ok", "warn", "fail"].contains(&check["status"].as_str().unwrap()),
            "{check}"
        );
    }
    let ids: Vec<&str> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["id"].as_str().unwrap())
        .collect();
    for id in [
        "kernel.version",
        "kernel.openat2",
        "kernel.clone3",
        "kernel.landlock",
        "cgroups.layout",
        "containerd.socket",
        "cache.folder",
    ] {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
}

#[test]
fn quiet_leaves_out_what_is_fine() {
    let place = Place::new();
    let ended = place.skiff(&["doctor", "--quiet"]);
    assert_eq!(ended.code, 1);
    assert!(!ended.stdout.contains("OK    "), "{ended:?}");
    assert!(ended.stdout.contains("FAIL  "), "{ended:?}");
}

#[test]
fn no_colours_but_on_a_terminal() {
    let place = Place::new();
    assert!(!place.skiff(&["doctor"]).stdout.contains('\x1b'));
}

#[test]
fn looking_changes_nothing() {
    let place = Place::new();
    place.skiff(&["doctor"]);
    assert!(!exists(&place.path("cache")));
}
