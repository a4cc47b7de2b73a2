//! What the command asks of containerd's `ctr`, with a stand-in for it that keeps images as files. The real one
//! is met by the tests that start a containerd.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Ended, Place};

/// Imports into `image.tar`, exports from it; writes down its arguments. With a file `partial` beside it, it has
/// not all platforms.
const CTR: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/asked"
case "$*" in
  *"images import"*) cat > "$here/image.tar" ;;
  *--all-platforms*) [ -e "$here/partial" ] && { echo 'ctr: content digest sha256:16f7: not found' >&2; exit 1; }
                     cp "$here/image.tar" "$9" ;;
  *) cp "$here/image.tar" "$8" ;;
esac
"#;

fn with_ctr() -> Place {
    let place = Place::new();
    place.module("hello.wasm");
    let ctr = place.file("bin/ctr", CTR.as_bytes());
    fs::set_permissions(&ctr, fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn skiff(place: &Place, arguments: &[&str]) -> Ended {
    let path = format!("{}:/usr/bin:/bin", place.path("bin").display());
    place.skiff_with(arguments, &[("PATH", &path)])
}

#[test]
fn containerd_gets_the_same_image_as_an_archive() {
    let place = with_ctr();
    let built = ["build", "hello.wasm", "--containerd", "-n", "k8s.io"];
    let said = skiff(&place, &built).well();
    assert!(
        said.contains("is in containerd, namespace k8s.io"),
        "{said}"
    );
    skiff(&place, &["build", "hello.wasm", "-o", "hello.tar"]).well();
    assert_eq!(
        fs::read(place.path("bin/image.tar")).unwrap(),
        fs::read(place.path("hello.tar")).unwrap()
    );
    let asked = fs::read_to_string(place.path("bin/asked")).unwrap();
    let address = place.path("no-containerd.sock");
    let expected = format!(
        "--address {} --namespace k8s.io images import",
        address.display()
    );
    assert!(asked.starts_with(&expected), "{asked}");
}

#[test]
fn an_image_is_inspected_by_its_name() {
    let place = with_ctr();
    skiff(
        &place,
        &[
            "build",
            "hello.wasm",
            "-t",
            "localhost/hello:1",
            "--containerd",
        ],
    )
    .well();
    let shown = skiff(&place, &["inspect", "localhost/hello:1"]).well();
    assert!(shown.starts_with("localhost/hello:1  sha256:"), "{shown}");
    assert!(shown.contains("_start"), "{shown}");
}

#[test]
fn a_partly_pulled_image_is_shown_as_far_as_it_is_there() {
    let place = with_ctr();
    skiff(
        &place,
        &[
            "build",
            "hello.wasm",
            "-t",
            "localhost/hello:1",
            "--containerd",
        ],
    )
    .well();
    place.file("bin/partial", b"");
    let shown = skiff(&place, &["inspect", "localhost/hello:1"]).well();
    assert!(shown.contains("_start"), "{shown}");
    let asked = fs::read_to_string(place.path("bin/asked")).unwrap();
    assert_eq!(
        asked.lines().filter(|line| line.contains("export")).count(),
        2,
        "{asked}"
    );
}

#[test]
fn no_archive_is_left_behind() {
    let place = with_ctr();
    let temporary = place.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let path = format!("{}:/usr/bin:/bin", place.path("bin").display());
    let environment = [
        ("PATH", path.as_str()),
        ("TMPDIR", temporary.to_str().unwrap()),
    ];
    place
        .skiff_with(&["build", "hello.wasm", "--containerd"], &environment)
        .well();
    place
        .skiff_with(&["inspect", "localhost/hello:latest"], &environment)
        .well();
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
