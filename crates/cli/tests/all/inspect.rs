//! `skiff inspect`: modules, text and components, and files that are none.

use crate::harness::{Place, fields};

#[test]
fn a_module_is_shown_with_imports_and_exports() {
    let place = Place::new();
    place.module("hello.wasm");
    let shown = place.skiff(&["inspect", "hello.wasm"]).well();
    for part in [
        "module",
        "hello.wasm",
        "sha256:",
        "wasi_snapshot_preview1.proc_exit",
        "_start",
        "memory",
        "not on this node",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
}

#[test]
fn text_is_shown_as_what_it_becomes() {
    let place = Place::new();
    place.file("hello.wat", br#"(module (func (export "_start")))"#);
    assert!(
        place
            .skiff(&["inspect", "hello.wat"])
            .well()
            .contains("_start")
    );
}

#[test]
fn a_component_is_told_from_a_module() {
    let place = Place::new();
    place.file("empty.wat", b"(component)");
    let (code, document) = place.json(&["inspect", "empty.wat"]);
    assert_eq!(code, 0, "{document}");
    assert_eq!(document["entries"][0]["modules"][0]["kind"], "component");
}

#[test]
fn the_document_keeps_its_shape() {
    let place = Place::new();
    place.module("hello.wasm");
    place
        .skiff(&["build", "hello.wasm", "-o", "hello.tar"])
        .well();
    let (code, document) = place.json(&["inspect", "hello.tar"]);
    assert_eq!(code, 0, "{document}");
    assert_eq!(fields(&document), ["digest", "entries", "name"]);
    let entry = &document["entries"][0];
    assert_eq!(
        fields(entry),
        [
            "config_type",
            "digest",
            "entrypoint",
            "layers",
            "modules",
            "platform"
        ]
    );
    assert_eq!(
        fields(&entry["layers"][0]),
        ["bytes", "digest", "media_type", "title"]
    );
    assert_eq!(
        fields(&entry["modules"][0]),
        [
            "bytes", "compiled", "digest", "exports", "imports", "kind", "name", "os", "problem",
            "world"
        ]
    );
    assert_eq!(entry["modules"][0]["compiled"], false);
}

#[test]
fn a_module_in_several_entries_is_told_once() {
    let place = Place::new();
    place.module("hello.wasm");
    place.skiff(&["build", "hello.wasm"]).well();
    let shown = place.skiff(&["inspect", "hello.tar"]).well();
    assert_eq!(shown.matches("proc_exit").count(), 1, "{shown}");
    assert_eq!(shown.matches("(the same as above)").count(), 2, "{shown}");
}

#[test]
fn what_cannot_be_read_is_a_sentence() {
    let place = Place::new();
    place.file("random.wasm", b"\x01\x02\x03\x04\x05\x06\x07\x08");
    place.file("empty.tar", b"");
    place.file("folder/x", b"");
    place.file("image.tar.gz", b"\x1f\x8b\x08");
    assert!(
        place
            .skiff(&["inspect", "random.wasm"])
            .sentence()
            .contains("random.wasm")
    );
    assert!(
        place
            .skiff(&["inspect", "empty.tar"])
            .sentence()
            .contains("empty.tar")
    );
    assert!(
        place
            .skiff(&["inspect", "./missing"])
            .sentence()
            .contains("there is no file")
    );
    assert!(
        place
            .skiff(&["inspect", "image.tar.gz"])
            .sentence()
            .contains("gunzip image.tar.gz")
    );
    assert!(
        place
            .skiff(&["inspect", "folder"])
            .sentence()
            .contains("folder")
    );
}

#[test]
fn a_broken_module_in_an_image_is_named_and_told_by_the_exit_code() {
    let place = Place::new();
    place.module("hello.wasm");
    place.file("site/broken.wasm", b"\0asm\x01\0\0\0\x01\xff");
    place
        .skiff(&[
            "build",
            "hello.wasm",
            "--file",
            "site:/site",
            "--layout",
            "root",
        ])
        .well();
    let ended = place.skiff(&["inspect", "hello.tar"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stdout.contains("BAD        /site/broken.wasm"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("module     /hello.wasm"), "{ended:?}");
}

#[test]
fn an_image_without_containerd_is_a_sentence() {
    let place = Place::new();
    let ended = place.skiff_with(
        &["inspect", "localhost/hello:1"],
        &[("PATH", "/nonexistent")],
    );
    assert!(ended.sentence().contains("ctr is not in PATH"));
}

#[test]
fn an_archive_that_is_cut_off_is_told() {
    let place = Place::new();
    place.module("hello.wasm");
    place.skiff(&["build", "hello.wasm"]).well();
    let whole = std::fs::read(place.path("hello.tar")).unwrap();
    place.skiff(&["inspect", "hello.tar"]).well();
    // Everywhere but in the zeros at its end.
    for length in (512..whole.len() - 1024).step_by(512) {
        place.file("cut.tar", &whole[..length]);
        let ended = place.skiff(&["inspect", "cut.tar"]);
        assert_ne!(ended.code, 0, "{length}: {ended:?}");
    }
}

#[test]
fn devices_have_an_end() {
    let place = Place::new();
    for device in ["/dev/zero", "/dev/urandom"] {
        let sentence = place.skiff(&["inspect", device]).sentence();
        assert!(sentence.contains("larger than 256 MiB"), "{sentence}");
    }
}

#[test]
fn hostile_names_do_not_reach_the_terminal_as_they_are() {
    let place = Place::new();
    place.file(
        "evil.wat",
        br#"(module (import "a" "evil\1b[2J" (memory 1)))"#,
    );
    let shown = place.skiff(&["inspect", "evil.wat"]).well();
    assert!(
        shown.contains("\\u{1b}[2J") && !shown.contains('\x1b'),
        "{shown}"
    );
    // Nor a line of a megabyte.
    place.file("line.wat", "(".repeat(1 << 20).as_bytes());
    let ended = place.skiff(&["inspect", "line.wat"]);
    assert!(ended.stderr.len() < 1000, "{}", ended.stderr.len());
}
