//! `skiff build`: archives, their names, and what is refused.

use crate::harness::{Place, exists, fields};

#[test]
fn a_module_becomes_an_archive_beside_it() {
    let place = Place::new();
    place.module("hello.wasm");
    let said = place.skiff(&["build", "hello.wasm"]).well();
    assert!(
        said.starts_with("localhost/hello:latest in hello.tar"),
        "{said}"
    );
    assert!(said.contains("next: ctr images import"), "{said}");
    assert!(exists(&place.path("hello.tar")));
}

#[test]
fn the_document_keeps_its_shape() {
    let place = Place::new();
    place.module("hello.wasm");
    let (code, document) = place.json(&[
        "build",
        "hello.wasm",
        "-t",
        "localhost/hello:1",
        "-o",
        "image.tar",
    ]);
    assert_eq!(code, 0, "{document}");
    assert_eq!(
        fields(&document),
        [
            "archive",
            "archive_bytes",
            "digest",
            "layout",
            "modules",
            "name",
            "namespace",
            "warnings",
        ]
    );
    assert_eq!(document["name"], "localhost/hello:1");
    assert_eq!(document["layout"], "combined");
    assert_eq!(document["archive"], "image.tar");
    assert_eq!(
        fields(&document["modules"][0]),
        [
            "bytes", "digest", "exports", "imports", "kind", "name", "os", "problem", "world"
        ]
    );
}

#[test]
fn every_layout_builds_and_can_be_inspected() {
    let place = Place::new();
    place.module("hello.wasm");
    for layout in ["combined", "layer", "root", "artifact"] {
        let archive = format!("{layout}.tar");
        place
            .skiff(&["build", "hello.wasm", "--layout", layout, "-o", &archive])
            .well();
        let shown = place.skiff(&["inspect", &archive]).well();
        assert!(
            shown.contains("wasi_snapshot_preview1.proc_exit"),
            "{layout}: {shown}"
        );
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let place = Place::new();
    place.module("hello.wasm");
    place.file("site/index.html", b"<p>");
    for archive in ["one.tar", "two.tar"] {
        place
            .skiff(&[
                "build",
                "hello.wasm",
                "--file",
                "site:/site",
                "-e",
                "A=b",
                "-l",
                "c=d",
                "-o",
                archive,
                "--",
                "serve",
            ])
            .well();
    }
    assert_eq!(
        std::fs::read(place.path("one.tar")).unwrap(),
        std::fs::read(place.path("two.tar")).unwrap()
    );
}

#[test]
fn what_will_not_run_somewhere_is_said_on_stderr() {
    let place = Place::new();
    place.module("hello.wasm");
    place.file("site/index.html", b"<p>");
    let ended = place.skiff(&[
        "build",
        "hello.wasm",
        "--layout",
        "layer",
        "--file",
        "site:/site",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.starts_with("skiff: warning: "), "{ended:?}");
    assert!(!ended.stdout.contains("warning"), "{ended:?}");
}

#[test]
fn stdout_takes_the_archive() {
    let place = Place::new();
    place.module("hello.wasm");
    place
        .skiff(&["build", "hello.wasm", "-o", "file.tar"])
        .well();
    let piped = place.skiff(&["build", "hello.wasm", "-o", "-"]);
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(piped.bytes, std::fs::read(place.path("file.tar")).unwrap());
    assert!(
        place
            .skiff(&["build", "hello.wasm", "-o", "-", "--json"])
            .code
            == 3
    );
}

#[test]
fn what_is_not_wasm_is_refused_and_leaves_no_archive() {
    let place = Place::new();
    for (name, content) in [
        ("empty.wasm", &b""[..]),
        ("random.wasm", b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        ("elf.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("script.wasm", b"#!/bin/sh\n"),
        ("truncated.wasm", b"\0asm\x01\0\0\0\x01\xff"),
        ("broken.wat", b"(module (func"),
    ] {
        place.file(name, content);
        let sentence = place.skiff(&["build", name, "-o", "out.tar"]).sentence();
        assert!(sentence.contains(name), "{sentence}");
        assert!(!exists(&place.path("out.tar")));
    }
    let left: Vec<_> = std::fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 6, "{left:?}");
}

#[test]
fn a_failed_build_keeps_the_old_archive() {
    let place = Place::new();
    place.file("out.tar", b"precious");
    place.file("bad.wasm", b"bad");
    place
        .skiff(&["build", "bad.wasm", "-o", "out.tar"])
        .sentence();
    assert_eq!(std::fs::read(place.path("out.tar")).unwrap(), b"precious");
}

#[test]
fn missing_things_are_named() {
    let place = Place::new();
    place.module("hello.wasm");
    assert!(
        place
            .skiff(&["build", "nowhere.wasm"])
            .sentence()
            .contains("nowhere.wasm")
    );
    assert!(
        place
            .skiff(&["build", "hello.wasm", "--file", "nothing:/x"])
            .sentence()
            .contains("nothing")
    );
    assert!(
        place
            .skiff(&["build", "hello.wasm", "-o", "no/such/folder/x.tar"])
            .sentence()
            .contains("no/such/folder")
    );
}

#[test]
fn an_artifact_holds_one_module_and_nothing_else() {
    let place = Place::new();
    place.module("a.wasm");
    place.module("b.wasm");
    let said = place
        .skiff(&["build", "a.wasm", "b.wasm", "--layout", "artifact"])
        .sentence();
    assert!(said.contains("one module"), "{said}");
    let said = place
        .skiff(&["build", "a.wasm", "-e", "A=b", "--layout", "artifact"])
        .sentence();
    assert!(said.contains("another layout"), "{said}");
    for layout in ["combined", "layer", "root"] {
        place
            .skiff(&["build", "a.wasm", "b.wasm", "--layout", layout])
            .well();
    }
}

#[test]
fn a_containerd_that_is_not_there_is_explained() {
    let place = Place::new();
    place.module("hello.wasm");
    // Without ctr in PATH, and with one that says what the real one says.
    let without = place
        .skiff_with(
            &["build", "hello.wasm", "--containerd"],
            &[("PATH", "/nonexistent")],
        )
        .sentence();
    assert!(without.contains("ctr is not in PATH"), "{without}");
    let ctr = place.file("bin/ctr", b"#!/bin/sh\ncat >/dev/null\necho 'ctr: failed to dial \"x\": context deadline exceeded' >&2\nexit 1\n");
    std::fs::set_permissions(&ctr, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", place.path("bin").display());
    let dead = place
        .skiff_with(&["build", "hello.wasm", "--containerd"], &[("PATH", &path)])
        .sentence();
    assert!(dead.contains("skiff doctor --address"), "{dead}");
}

#[test]
fn a_device_stays_a_device_and_an_input_what_it_is() {
    use std::os::unix::fs::FileTypeExt;
    let place = Place::new();
    place.module("hello.wasm");
    // A pipe stands for /dev/null, which this test must not put at risk.
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap());
    place.skiff(&["build", "hello.wasm", "-o", "pipe"]).well();
    assert!(
        std::fs::metadata(place.path("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    place
        .skiff(&["build", "hello.wasm", "-o", "hello.tar"])
        .well();
    assert_eq!(
        reader.join().unwrap(),
        std::fs::read(place.path("hello.tar")).unwrap()
    );

    std::os::unix::fs::symlink("hello.wasm", place.path("link.tar")).unwrap();
    let before = std::fs::read(place.path("hello.wasm")).unwrap();
    for output in ["hello.wasm", "./hello.wasm", "link.tar"] {
        let sentence = place
            .skiff(&["build", "hello.wasm", "-o", output])
            .sentence();
        assert!(sentence.contains("would be overwritten"), "{sentence}");
    }
    assert_eq!(std::fs::read(place.path("hello.wasm")).unwrap(), before);
}

#[test]
fn a_user_that_no_container_could_have_is_told() {
    let place = Place::new();
    place.module("hello.wasm");
    let sentence = place
        .skiff(&["build", "hello.wasm", "--user", "99999999999"])
        .sentence();
    assert!(sentence.contains("2147483647"), "{sentence}");
    let ended = place.skiff(&["build", "hello.wasm", "--user", "web"]);
    assert!(ended.stderr.contains("/etc/passwd"), "{ended:?}");
    ended.well();
}
