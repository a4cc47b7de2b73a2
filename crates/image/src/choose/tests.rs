//! The table of cases: one row for each thing a container can say.

use super::*;
use crate::view::{CONFIG_IMAGE, Digest, LAYER_COMPONENT};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer whose digest is `fill` 64 times.
fn layer(media_type: &str, fill: char, title: Option<&str>) -> Layer {
    let digest = Digest::parse(&format!("sha256:{}", fill.to_string().repeat(64))).unwrap();
    Layer {
        media_type: media_type.to_owned(),
        digest,
        size: 7,
        title: title.map(str::to_owned),
    }
}

fn image(config_type: &str, architecture: &str, layers: &[Layer]) -> ImageView {
    ImageView {
        name: "localhost/app:1".to_owned(),
        config_type: config_type.to_owned(),
        architecture: architecture.to_owned(),
        os: "wasip1".to_owned(),
        layers: layers.to_vec(),
    }
}

fn linux() -> ImageView {
    image(CONFIG_IMAGE, "amd64", &[layer(TAR, 'f', None)])
}

fn one() -> ImageView {
    image(
        CONFIG_IMAGE,
        "wasm",
        &[layer(LAYER_WASM, 'a', Some("app.wasm"))],
    )
}

fn three() -> ImageView {
    image(
        CONFIG_IMAGE,
        "wasm",
        &[
            layer(LAYER_WASM, 'a', Some("app.wasm")),
            layer(TAR, 'f', None),
            layer(LAYER_COMPONENT, 'b', Some("bin/tool.wasm")),
            layer(LAYER_WASM, 'c', None),
        ],
    )
}

fn found(path: &str, content: Content) -> Probe {
    Probe::Found {
        path: path.to_owned(),
        content,
    }
}

/// What a row expects, short: `file PATH [#FUNCTION]`, `layer LETTER [#FUNCTION]`, `linux PATH`, or
/// `refused` and a part of the sentence.
fn shown(choice: &Choice) -> String {
    match choice {
        Choice::Module(module) => {
            let source = match &module.source {
                Source::File { path } => format!("file {path}"),
                Source::Layer(layer) => format!("layer {}", &layer.digest.hex()[..1]),
            };
            match &module.function {
                Some(function) => format!("{source} #{function}"),
                None => source,
            }
        }
        Choice::LinuxProgram { path } => format!("linux {path}"),
        Choice::Refused(refusal) => format!("refused {refusal}"),
    }
}

fn ask(args: &[&str], annotations: &[(&str, &str)], probe: &Probe, image: &ImageView) -> String {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let annotations: Annotations = annotations
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let request = Request {
        args: &args,
        annotations: Some(&annotations),
        engine: "wasmtime",
    };
    let both = shown(&choose(&request, probe, image));
    if let Step::Decided(choice) = choose_in_root(&request, probe) {
        assert_eq!(
            shown(&choice),
            both,
            "the image changed what the root had decided"
        );
    }
    both
}

#[track_caller]
fn check(expected: &str, actual: &str) {
    let fits = match expected.strip_prefix("refused ") {
        Some(part) => actual
            .strip_prefix("refused ")
            .is_some_and(|sentence| sentence.contains(part)),
        None => expected == actual,
    };
    assert!(fits, "expected {expected:?}, got {actual:?}");
    if let Some(sentence) = actual.strip_prefix("refused ") {
        assert!(
            !sentence.ends_with('.') && sentence.len() < 2000,
            "not a sentence of ours: {sentence:?}"
        );
    }
}

#[test]
fn a_wasm_file_in_the_root_is_the_module() {
    let app = "/app.wasm";
    for (args, probe, expected) in [
        (app, found(app, Content::Module), "file /app.wasm"),
        (app, found(app, Content::Component), "file /app.wasm"),
        (
            "/app.wasm#run",
            found(app, Content::Module),
            "file /app.wasm #run",
        ),
        (
            "/app.wasm#_start",
            found(app, Content::Component),
            "file /app.wasm",
        ),
        (
            "/app.wasm#a#b",
            found(app, Content::Module),
            "file /app.wasm #a#b",
        ),
        (
            "/app.wasm#",
            found(app, Content::Module),
            "refused names no function",
        ),
        (
            "app",
            found("/usr/bin/app", Content::Module),
            "file /usr/bin/app",
        ),
        ("/a.wat", found("/a.wat", Content::Text), "file /a.wat"),
        ("/a.wat", found("/a.wat", Content::Module), "file /a.wat"),
    ] {
        check(expected, &ask(&[args, "x"], &[], &probe, &linux()));
    }
}

#[test]
fn layers_of_a_wasm_image_are_the_module() {
    let absent = Probe::Absent;
    let artifact = |layers: &[Layer]| image(CONFIG_ARTIFACT, "", layers);
    let empty_config = image(
        "application/vnd.oci.empty.v1+json",
        "",
        &[layer(LAYER_WASM, 'a', None)],
    );
    for (args, image, expected) in [
        ("/app.wasm", one(), "layer a"),
        ("/anything", one(), "layer a"),
        ("", one(), "layer a"),
        ("#run", one(), "layer a #run"),
        ("app.wasm#run", one(), "layer a #run"),
        (
            "/app.wasm",
            artifact(&[layer(LAYER_WASM, 'a', None)]),
            "layer a",
        ),
        (
            "/app.wasm",
            artifact(&[layer(LAYER_COMPONENT, 'a', None)]),
            "layer a",
        ),
        ("/app.wasm", empty_config, "layer a"),
        (
            "/app.wasm",
            artifact(&[layer("text/plain", 'a', None)]),
            "refused no layer of type application/wasm",
        ),
        (
            "/app.wasm",
            image(CONFIG_IMAGE, "wasm", &[]),
            "refused no layer of type application/wasm",
        ),
        ("/app.wasm", three(), "layer a"),
        ("app.wasm", three(), "layer a"),
        ("./app.wasm#f", three(), "layer a #f"),
        ("/bin/tool.wasm", three(), "layer b"),
        ("/opt/tool.wasm", three(), "layer b"),
        ("/", three(), "refused names none of the 3 Wasm layers"),
        ("", three(), "refused names none of the 3 Wasm layers"),
        ("/tool", three(), "refused \"bin/tool.wasm\" (sha256:bbbb"),
        ("sha256:cccccccccccc", three(), "layer c"),
        ("sha256:cccccccccccc#f", three(), "layer c #f"),
        ("sha256:ccccccccccc", three(), "refused names none"),
        ("sha256:dddddddddddd", three(), "refused names none"),
        (
            "sha256:dddddddddddd",
            one(),
            "refused names none of the 1 Wasm layers",
        ),
    ] {
        check(expected, &ask(&[args], &[], &absent, &image));
    }
    check("layer a", &ask(&[], &[], &absent, &one()));
    check("refused no entrypoint", &ask(&[], &[], &absent, &linux()));
    let no_image = ImageView {
        config_type: CONFIG_IMAGE.to_owned(),
        ..ImageView::default()
    };
    check(
        "refused it has no image",
        &ask(&["/gone"], &[], &absent, &no_image),
    );
}

#[test]
fn two_layers_of_one_name_are_ambiguous_unless_they_are_the_same() {
    let same = image(
        CONFIG_IMAGE,
        "wasm",
        &[
            layer(LAYER_WASM, 'a', Some("x")),
            layer(LAYER_WASM, 'a', Some("x")),
        ],
    );
    check("layer a", &ask(&["/x"], &[], &Probe::Absent, &same));
    let other = image(
        CONFIG_IMAGE,
        "wasm",
        &[
            layer(LAYER_WASM, 'a', Some("x")),
            layer(LAYER_WASM, 'b', Some("x")),
        ],
    );
    check(
        "refused names 2 Wasm layers",
        &ask(&["/x"], &[], &Probe::Absent, &other),
    );
    check(
        "layer b",
        &ask(&["sha256:bbbbbbbbbbbbb"], &[], &Probe::Absent, &other),
    );
}

#[test]
fn layers_of_another_architecture_are_no_modules() {
    let image = image(
        CONFIG_IMAGE,
        "amd64",
        &[layer(LAYER_WASM, 'a', Some("app.wasm"))],
    );
    check(
        "refused says architecture \"amd64\"",
        &ask(&["/app.wasm"], &[], &Probe::Absent, &image),
    );
    check(
        "linux /bin/sh",
        &ask(&["/bin/sh"], &[], &found("/bin/sh", Content::Elf), &image),
    );
    check(
        "file /m",
        &ask(&["/m"], &[], &found("/m", Content::Module), &image),
    );
}

#[test]
fn what_is_not_wasm_is_a_program_or_a_sentence() {
    for (path, content, expected) in [
        ("/bin/sh", Content::Elf, "linux /bin/sh"),
        ("/run.sh", Content::Script, "linux /run.sh"),
        ("/app.wasm", Content::Elf, "refused native code (ELF)"),
        ("/app.cwasm", Content::Elf, "refused native code (ELF)"),
        ("/app.wat", Content::Elf, "refused native code (ELF)"),
        ("/app.wasm", Content::Script, "refused a script (#!)"),
        ("/app.wasm", Content::Empty, "refused an empty file"),
        ("/app.wasm", Content::NotAFile, "refused not a regular file"),
        ("/app.wasm", Content::Text, "refused names that end in .wat"),
        (
            "/app.wasm",
            Content::Other,
            "refused neither WebAssembly nor a program",
        ),
    ] {
        check(
            expected,
            &ask(&[path], &[], &found(path, content), &linux()),
        );
    }
    check(
        "refused is no file in image \"localhost/app:1\"",
        &ask(&["/gone"], &[], &Probe::Absent, &linux()),
    );
    // In a Wasm image the layer wins over what is not Wasm, as with runwasi.
    check(
        "layer a",
        &ask(&["/bin/sh"], &[], &found("/bin/sh", Content::Elf), &one()),
    );
    // Such a file never reaches an engine, whatever it is called.
    check(
        "layer a",
        &ask(
            &["/app.wasm"],
            &[],
            &found("/app.wasm", Content::Elf),
            &one(),
        ),
    );
}

#[test]
fn annotations_narrow_and_never_widen() {
    let (sh, module) = (found("/sh", Content::Elf), found("/m", Content::Module));
    for (annotation, value, probe, expected) in [
        (ANNOTATION_VARIANT, "compat", &module, "file /m"),
        (ANNOTATION_VARIANT, "compat-smart", &module, "file /m"),
        (ANNOTATION_VARIANT, "compat-smart", &sh, "linux /sh"),
        (ANNOTATION_VARIANT, "compat", &sh, "refused annotations"),
        (
            ANNOTATION_VARIANT,
            "native",
            &module,
            "refused it can be compat or compat-smart",
        ),
        (ANNOTATION_HANDLER, "wasm", &module, "file /m"),
        (ANNOTATION_HANDLER, "wasmtime", &module, "file /m"),
        (ANNOTATION_HANDLER, "wasm", &sh, "refused annotations"),
        (
            ANNOTATION_HANDLER,
            "wasmedge",
            &module,
            "refused runs wasmtime",
        ),
        (ANNOTATION_HANDLER, "krun", &sh, "refused asks for \"krun\""),
        (ANNOTATION_HANDLER, "", &sh, "linux /sh"),
        ("another/annotation", "wasm", &sh, "linux /sh"),
    ] {
        check(
            expected,
            &ask(&["/x"], &[(annotation, value)], probe, &linux()),
        );
    }
}

#[test]
fn only_wasm_in_the_root_is_decided_without_the_image() {
    let args = ["/x".to_owned()];
    let request = Request {
        args: &args,
        annotations: None,
        engine: "wasmtime",
    };
    for content in [
        Content::Text,
        Content::Elf,
        Content::Script,
        Content::Empty,
        Content::NotAFile,
        Content::Other,
    ] {
        assert_eq!(
            choose_in_root(&request, &found("/x", content)),
            Step::AskImage,
            "{content:?}"
        );
    }
    assert_eq!(choose_in_root(&request, &Probe::Absent), Step::AskImage);
    assert!(matches!(
        choose_in_root(&request, &found("/x", Content::Module)),
        Step::Decided(_)
    ));
}

#[test]
fn content_is_told_by_the_first_bytes() {
    for (head, expected) in [
        (&b"\0asm\x01\0\0\0\x01"[..], Content::Module),
        (b"\0asm\x0d\0\x01\0\0", Content::Component),
        (b"\0asm", Content::Module),
        (b"\0as", Content::Other),
        (b"\x7fELF\x02\x01\x01", Content::Elf),
        (b"#!/bin/sh\n", Content::Script),
        (b"", Content::Empty),
        (b"(module)", Content::Text),
        (b"\t;; caf\xc3\xa9\r\n", Content::Text),
        (b";; cut short \xc3", Content::Text),
        (b"\xc3\x28 not utf-8", Content::Other),
        (b"MZ\x90\0", Content::Other),
        (b"\xc3", Content::Other),
    ] {
        assert_eq!(Content::of(head), expected, "{head:?}");
    }
}

#[test]
fn candidates_are_where_runwasi_looks() {
    let look = |argument: &str, directory: &str, path: &str| {
        candidates(
            &[argument.to_owned()],
            directory,
            &["A=b".to_owned(), format!("PATH={path}")],
        )
        .join(" ")
    };
    assert_eq!(look("/a/b.wasm#f", "/w", "/bin"), "/a/b.wasm");
    assert_eq!(
        look("b.wasm", "/w", "/bin:/usr/bin::/bin"),
        "/bin/b.wasm /usr/bin/b.wasm /w/b.wasm"
    );
    assert_eq!(look("b.wasm", "", ""), "/b.wasm");
    assert_eq!(look("./b.wasm", "/w", "/bin"), "/w/b.wasm");
    assert_eq!(look("d/../b.wasm", "/w", "/bin"), "/w/b.wasm");
    assert_eq!(look("../../../../b", "/w", "/bin"), "/b");
    assert_eq!(look("b", "/w", "rel:/bin"), "/w/rel/b /bin/b /w/b");
    assert_eq!(look("#f", "/w", "/bin"), "");
    assert!(candidates(&[], "/", &[]).is_empty());
}

#[test]
fn the_last_mount_that_covers_is_seen() {
    let mounts = ["/proc", "/data/", "/data/app.wasm", "/dat"];
    assert_eq!(
        covering_mount("/data/x/y.wasm", mounts),
        Some((1, "x/y.wasm".to_owned()))
    );
    assert_eq!(
        covering_mount("/data/app.wasm", mounts),
        Some((2, String::new()))
    );
    assert_eq!(covering_mount("/database/x", mounts), None);
    assert_eq!(covering_mount("/data", mounts), Some((1, String::new())));
    assert_eq!(
        covering_mount("/data/app.wasm", ["/data/app.wasm", "/data"]),
        Some((1, "app.wasm".to_owned()))
    );
    assert_eq!(covering_mount("/x", ["/"]), Some((0, "x".to_owned())));
}

#[test]
fn long_and_hostile_names_stay_one_short_line() {
    let long = format!("/{}\n\u{1b}[31m", "x".repeat(1 << 20));
    let sentence = ask(&[&long], &[], &Probe::Absent, &linux());
    assert!(sentence.len() < 500, "{} bytes", sentence.len());
    let sentence = ask(&["/a\nb\u{1b}"], &[], &Probe::Absent, &linux());
    assert!(
        !sentence.contains('\n') && !sentence.contains('\u{1b}'),
        "{sentence}"
    );
}
