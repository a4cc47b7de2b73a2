//! What the builder writes, checked by its structure with a reader of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::view::Digest;

const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") i32.const 3 call $exit))"#;
const COMPONENT: &str = r#"(component
    (import "wasi:cli/environment@0.2.6" (instance))
    (core module (import "inner" "f" (func)) (func (export "g")))
    (instance (export "wasi:cli/run@0.2.6")))"#;

/// A folder of sources.
struct Sources(tempfile::TempDir);

impl Sources {
    fn new() -> Self {
        let sources = Self(tempfile::tempdir().unwrap());
        sources.file("app.wat", MODULE.as_bytes());
        sources.file("tool.wat", COMPONENT.as_bytes());
        sources
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn recipe(&self, layout: Layout) -> Recipe {
        Recipe {
            modules: vec![self.path("app.wat")],
            name: "localhost/app:1".to_owned(),
            layout,
            ..Recipe::default()
        }
    }

    fn build(&self, recipe: &Recipe) -> Archived {
        let mut bytes = Vec::new();
        let built = build(recipe, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(built.archive_bytes, bytes.len() as u64);
        Archived::read(&bytes, built)
    }
}

/// An archive, taken apart.
struct Archived {
    bytes: Vec<u8>,
    built: Built,
    members: BTreeMap<String, Vec<u8>>,
}

impl Archived {
    fn read(bytes: &[u8], built: Built) -> Self {
        let mut members = BTreeMap::new();
        for entry in tar::Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(
                (
                    entry.header().mtime().unwrap(),
                    entry.header().uid().unwrap()
                ),
                (0, 0)
            );
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(Digest::of(&content).hex(), hex);
            }
            assert!(
                members.insert(name.clone(), content).is_none(),
                "{name} is there twice"
            );
        }
        Self {
            bytes: bytes.to_vec(),
            built,
            members,
        }
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let hex = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let blob = &self.members[&format!("blobs/sha256/{hex}")];
        assert_eq!(descriptor["size"].as_u64(), Some(blob.len() as u64));
        blob
    }

    fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    /// What the name points to.
    fn root(&self) -> Value {
        assert_eq!(
            self.members["oci-layout"],
            br#"{"imageLayoutVersion":"1.0.0"}"#
        );
        let index: Value = serde_json::from_slice(&self.members["index.json"]).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        let root = index["manifests"][0].clone();
        assert_eq!(
            root["annotations"]["io.containerd.image.name"],
            self.built.name.as_str()
        );
        assert_eq!(root["digest"], self.built.digest.as_str());
        root
    }

    /// Paths, modes and contents of a manifest's first layer.
    fn tree(&self, manifest: &Value) -> Vec<(String, u32, String)> {
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
        let mut paths = Vec::new();
        for entry in tar::Archive::new(self.blob(layer)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            let about = (
                header.mtime().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
            );
            assert_eq!(about, (0, 0, 0));
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mode = header.mode().unwrap();
            let mut content = match entry.link_name().unwrap() {
                Some(target) => format!("-> {}", target.display()),
                None => String::new(),
            };
            if !path.ends_with(".wasm") {
                entry.read_to_string(&mut content).unwrap();
            }
            paths.push((path, mode, content));
        }
        paths
    }

    /// No blob without a use, none missing.
    fn assert_complete(&self) {
        let mut used = BTreeSet::new();
        let mut left = vec![self.root()];
        while let Some(descriptor) = left.pop() {
            self.blob(&descriptor);
            used.insert(
                descriptor["digest"]
                    .as_str()
                    .unwrap()
                    .replace("sha256:", "blobs/sha256/"),
            );
            if descriptor["mediaType"].as_str().unwrap().ends_with("+json")
                && !descriptor["mediaType"].as_str().unwrap().contains("config")
            {
                let document = self.json(&descriptor);
                for key in ["manifests", "layers"] {
                    left.extend(document[key].as_array().into_iter().flatten().cloned());
                }
                left.extend(document.get("config").cloned());
            }
        }
        let blobs: BTreeSet<String> = self
            .members
            .keys()
            .filter(|name| name.starts_with("blobs/"))
            .cloned()
            .collect();
        assert_eq!(blobs, used);
    }
}

fn binary_of(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn the_layer_layout_is_one_manifest_of_wasm_layers() {
    let sources = Sources::new();
    let image = sources.build(&Recipe {
        args: vec!["a".to_owned()],
        env: vec!["K=v".to_owned()],
        user: Some("7:8".to_owned()),
        working_directory: Some("/w".to_owned()),
        labels: BTreeMap::from([("l".to_owned(), "m".to_owned())]),
        ..sources.recipe(Layout::Layer)
    });
    image.assert_complete();
    let root = image.root();
    assert_eq!(root["mediaType"], TYPE_MANIFEST);
    assert_eq!(
        root["platform"],
        Value::Null,
        "an import would pass over a manifest of another platform"
    );
    let manifest = image.json(&root);
    let config = image.json(&manifest["config"]);
    assert_eq!(config["architecture"], "wasm");
    assert_eq!(config["os"], "wasip1");
    assert_eq!(
        config["rootfs"],
        serde_json::json!({"type": "layers", "diff_ids": []})
    );
    let process = serde_json::json!({
        "User": "7:8", "Env": ["K=v"], "Entrypoint": ["/app.wasm"], "Cmd": ["a"], "WorkingDir": "/w", "Labels": {"l": "m"},
    });
    assert_eq!(config["config"], process);
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0]["mediaType"], LAYER_WASM);
    assert_eq!(layers[0]["annotations"][ANNOTATION_TITLE], "app.wasm");
    assert_eq!(image.blob(&layers[0]), binary_of(MODULE));
}

#[test]
fn files_beside_wasm_layers_are_the_root_and_the_only_diff_id() {
    let sources = Sources::new();
    let file = HostFile {
        from: sources.file("motd", b"hi"),
        to: "/etc/motd".to_owned(),
    };
    let recipe = Recipe {
        modules: vec![sources.path("app.wat"), sources.path("tool.wat")],
        files: vec![file],
        ..sources.recipe(Layout::Layer)
    };
    let image = sources.build(&recipe);
    assert!(image.built.warnings[0].starts_with("containerd 2.4 does not unpack files"));
    image.assert_complete();
    let manifest = image.json(&image.root());
    let config = image.json(&manifest["config"]);
    let types: Vec<_> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["mediaType"].as_str().unwrap())
        .collect();
    assert_eq!(types, [TYPE_LAYER, LAYER_WASM, LAYER_WASM]);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        serde_json::json!([manifest["layers"][0]["digest"]])
    );
    let expected = [
        ("etc/".to_owned(), 0o755, String::new()),
        ("etc/motd".to_owned(), 0o644, "hi".to_owned()),
    ];
    assert_eq!(image.tree(&manifest), expected);
}

#[test]
fn the_root_layout_is_one_index_of_two_processors_with_one_layer() {
    let sources = Sources::new();
    let image = sources.build(&Recipe {
        entrypoint: Some("bin/go#main".to_owned()),
        working_directory: Some("/srv".to_owned()),
        ..sources.recipe(Layout::Root)
    });
    image.assert_complete();
    let index = image.json(&image.root());
    let entries = index["manifests"].as_array().unwrap();
    let platforms: Vec<_> = entries
        .iter()
        .map(|entry| entry["platform"].to_string())
        .collect();
    assert_eq!(
        platforms,
        [
            r#"{"architecture":"amd64","os":"linux"}"#,
            r#"{"architecture":"arm64","os":"linux"}"#
        ]
    );
    for entry in entries {
        let manifest = image.json(entry);
        let config = image.json(&manifest["config"]);
        assert_eq!(config["architecture"], entry["platform"]["architecture"]);
        assert_eq!(
            config["config"]["Entrypoint"],
            serde_json::json!(["bin/go#main"])
        );
        assert_eq!(
            config["rootfs"]["diff_ids"],
            serde_json::json!([manifest["layers"][0]["digest"]])
        );
        let paths: Vec<_> = image
            .tree(&manifest)
            .into_iter()
            .map(|(path, mode, _)| (path, mode))
            .collect();
        let expected = [("srv/", 0o755), ("srv/bin/", 0o755), ("srv/bin/go", 0o755)];
        assert_eq!(paths, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
    let [amd64, arm64] = entries.as_slice() else {
        panic!("two entries")
    };
    assert_eq!(image.json(amd64)["layers"], image.json(arm64)["layers"]);
}

#[test]
fn the_combined_layout_has_a_file_for_linux_and_a_layer_for_wasm() {
    let sources = Sources::new();
    let file = HostFile {
        from: sources.file("motd", b"hi"),
        to: "/etc/motd".to_owned(),
    };
    let recipe = Recipe {
        modules: vec![sources.path("tool.wat")],
        files: vec![file],
        ..sources.recipe(Layout::Combined)
    };
    let image = sources.build(&recipe);
    assert!(image.built.warnings.is_empty());
    image.assert_complete();
    let index = image.json(&image.root());
    let [amd64, arm64, wasm] = index["manifests"].as_array().unwrap().as_slice() else {
        panic!("three entries")
    };
    assert_eq!(
        wasm["platform"],
        serde_json::json!({"os": "wasip2", "architecture": "wasm"})
    );
    for (entry, paths) in [
        (amd64, &["etc/", "etc/motd", "tool.wasm"][..]),
        (arm64, &["etc/", "etc/motd", "tool.wasm"][..]),
        (wasm, &["etc/", "etc/motd"][..]),
    ] {
        let manifest = image.json(entry);
        let found: Vec<_> = image
            .tree(&manifest)
            .into_iter()
            .map(|(path, ..)| path)
            .collect();
        assert_eq!(found, paths);
    }
    assert_eq!(image.json(wasm)["layers"][1]["mediaType"], LAYER_WASM);
}

#[test]
fn the_artifact_layout_is_what_the_oci_wasm_artifact_says() {
    let sources = Sources::new();
    for (module, os, component) in [
        ("app.wat", "wasip1", Value::Null),
        (
            "tool.wat",
            "wasip2",
            serde_json::json!({
                "imports": ["wasi:cli/environment@0.2.6"], "exports": ["wasi:cli/run@0.2.6"],
                "target": "wasi:cli/command@0.2.6",
            }),
        ),
    ] {
        let image = sources.build(&Recipe {
            modules: vec![sources.path(module)],
            ..sources.recipe(Layout::Artifact)
        });
        image.assert_complete();
        let manifest = image.json(&image.root());
        assert_eq!(manifest["config"]["mediaType"], CONFIG_ARTIFACT);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let config = image.json(&manifest["config"]);
        assert_eq!(
            (&config["architecture"], &config["os"]),
            (&"wasm".into(), &os.into())
        );
        assert_eq!(
            config["layerDigests"],
            serde_json::json!([manifest["layers"][0]["digest"]])
        );
        assert_eq!(config["component"], component);
    }
    let error = build(
        &Recipe {
            args: vec!["x".to_owned()],
            ..sources.recipe(Layout::Artifact)
        },
        &mut Vec::new(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("an OCI Wasm artifact holds one module and nothing else"),
        "{error}"
    );
}

#[test]
fn the_same_input_is_the_same_bytes_whenever_and_wherever() {
    let build_in = |order: &[&str]| {
        let sources = Sources::new();
        fs::create_dir(sources.path("site")).unwrap();
        for name in order {
            let path = sources.file(&format!("site/{name}"), name.as_bytes());
            fs::set_permissions(
                path,
                fs::Permissions::from_mode(if *name == "b" { 0o700 } else { 0o604 }),
            )
            .unwrap();
        }
        symlink("a", sources.path("site/link")).unwrap();
        let site = HostFile {
            from: sources.path("site"),
            to: "/var/site".to_owned(),
        };
        sources.build(&Recipe {
            files: vec![site],
            ..sources.recipe(Layout::Combined)
        })
    };
    let (one, other) = (build_in(&["a", "b", "c"]), build_in(&["c", "b", "a"]));
    assert!(one.bytes == other.bytes, "the archives differ");
    let manifest = one.json(&one.json(&one.root())["manifests"][2]);
    let expected = [
        ("var/", 0o755, ""),
        ("var/site/", 0o755, ""),
        ("var/site/a", 0o644, "a"),
        ("var/site/b", 0o755, "b"),
        ("var/site/c", 0o644, "c"),
        ("var/site/link", 0o777, "-> a"),
    ];
    assert_eq!(
        one.tree(&manifest),
        expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned()))
    );
}

#[test]
fn what_is_not_wasm_is_refused_with_a_sentence() {
    let sources = Sources::new();
    let mut universal = binary_of("(module)");
    universal.extend_from_slice(b"\0\x0a\x08wasmedge\0");
    let truncated = &binary_of(MODULE)[..40];
    for (bytes, part) in [
        (&b""[..], "it is empty (0 bytes)"),
        (b"\x7fELF\x02\x01\x01", "it is native code (ELF)"),
        (b"#!/bin/sh\n", "it is a script (#!)"),
        (b"\x89PNG\r\n", "neither WebAssembly nor its text format"),
        (b"(module", "could not parse the WebAssembly text of"),
        (b"hello", "could not parse the WebAssembly text of"),
        (&universal, "native code for WasmEdge"),
        (truncated, "is not a valid WebAssembly module"),
        (
            &binary_of("(module (func (result i32)))"),
            "is not a valid WebAssembly module",
        ),
    ] {
        let recipe = Recipe {
            modules: vec![sources.file("x.wasm", bytes)],
            ..sources.recipe(Layout::Layer)
        };
        let error = build(&recipe, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("x.wasm"), "{error}");
    }
}

#[test]
fn contradictions_are_refused() {
    let sources = Sources::new();
    let base = sources.recipe(Layout::Combined);
    let file = |to: &str| HostFile {
        from: sources.path("app.wat"),
        to: to.to_owned(),
    };
    let with = |files: &[HostFile]| Recipe {
        files: files.to_vec(),
        ..base.clone()
    };
    for (recipe, part) in [
        (
            Recipe {
                modules: Vec::new(),
                ..base.clone()
            },
            "an image needs a module",
        ),
        (
            Recipe {
                env: vec!["A".to_owned()],
                ..base.clone()
            },
            "must be KEY=value",
        ),
        (
            Recipe {
                entrypoint: Some("#f".to_owned()),
                ..base.clone()
            },
            "names no file",
        ),
        (
            Recipe {
                working_directory: Some("w".to_owned()),
                ..base.clone()
            },
            "must begin with '/'",
        ),
        (
            Recipe {
                name: "Upper".to_owned(),
                ..base.clone()
            },
            "could not use the image name",
        ),
        (
            Recipe {
                modules: vec![sources.path("none.wasm")],
                ..base.clone()
            },
            "could not read",
        ),
        (
            Recipe {
                modules: vec![sources.path("app.wat"); 2],
                ..base.clone()
            },
            "two things at \"/app.wasm\"",
        ),
        (with(&[file("app")]), "must begin with '/'"),
        (with(&[file("/a/../b")]), "must not contain '..'"),
        (with(&[file("/a"), file("/a")]), "two things at \"/a\""),
        (with(&[file("/a"), file("/a/b")]), "two things at \"/a\""),
        (with(&[file("/app.wasm")]), "two things at \"/app.wasm\""),
        (with(&[file("/.wh.x")]), "delete files"),
        (
            with(&[HostFile {
                from: PathBuf::from("/dev/null"),
                to: "/n".to_owned(),
            }]),
            "neither a file, a directory",
        ),
    ] {
        let error = build(&recipe, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn modules_are_told_apart() {
    let module = inspect_module("m", MODULE.as_bytes()).unwrap();
    assert_eq!(
        (module.kind.as_str(), module.os.as_str()),
        ("module", "wasip1")
    );
    assert_eq!(module.imports, ["wasi_snapshot_preview1.proc_exit"]);
    assert_eq!(module.exports, ["memory", "_start"]);
    assert_eq!(module.world.as_deref(), Some("command"));
    let component = inspect_module("c", COMPONENT.as_bytes()).unwrap();
    assert_eq!(
        (component.kind.as_str(), component.os.as_str()),
        ("component", "wasip2")
    );
    assert_eq!(
        component.imports,
        ["wasi:cli/environment@0.2.6"],
        "imports of an inner module are not the component's"
    );
    assert_eq!(component.world.as_deref(), Some("wasi:cli/command@0.2.6"));
    let plain = inspect_module("p", b"(module (func (export \"f\")))").unwrap();
    assert_eq!((plain.os.as_str(), plain.world), ("none", None));
}

#[test]
fn archives_are_inspected() {
    let sources = Sources::new();
    let archive = sources.path("image.tar");
    let recipe = Recipe {
        args: vec!["x".to_owned()],
        ..sources.recipe(Layout::Combined)
    };
    let built = build(&recipe, &mut fs::File::create(&archive).unwrap()).unwrap();
    let facts = inspect_file(&archive).unwrap();
    assert_eq!(
        (facts.name.as_deref(), &facts.digest),
        (Some("localhost/app:1"), &built.digest)
    );
    let platforms: Vec<_> = facts
        .entries
        .iter()
        .map(|entry| entry.platform.as_str())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "wasip1/wasm"]);
    for (entry, name) in facts
        .entries
        .iter()
        .zip(["/app.wasm", "/app.wasm", "app.wasm"])
    {
        assert_eq!(entry.entrypoint, ["/app.wasm", "x"]);
        assert_eq!(
            entry.modules,
            [ModuleFacts {
                name: name.to_owned(),
                ..built.modules[0].clone()
            }]
        );
    }
    assert_eq!(
        facts.entries[2].layers[0].title.as_deref(),
        Some("app.wasm")
    );

    let bare = inspect_file(&sources.path("app.wat")).unwrap();
    assert_eq!(bare.entries[0].modules[0].digest, built.modules[0].digest);

    let broken = HostFile {
        from: sources.file("b", &binary_of("(module (func (result i32)))")),
        to: "/b".to_owned(),
    };
    let recipe = Recipe {
        files: vec![broken],
        ..recipe
    };
    build(&recipe, &mut fs::File::create(&archive).unwrap()).unwrap();
    let modules = &inspect_file(&archive).unwrap().entries[0].modules;
    let problems: Vec<_> = modules
        .iter()
        .map(|module| (module.name.as_str(), module.problem.is_some()))
        .collect();
    assert_eq!(problems, [("/app.wasm", false), ("/b", true)]);
    assert_eq!(
        modules_of_file(&archive).unwrap().len(),
        1,
        "one digest, however often it is there"
    );

    let mut bytes = fs::read(&archive).unwrap();
    let at = bytes
        .windows(4)
        .rposition(|window| window == b"\0asm")
        .unwrap();
    bytes[at + 9] ^= 1;
    let error = inspect_file(&sources.file("damaged.tar", &bytes))
        .unwrap_err()
        .to_string();
    assert!(error.contains("have another digest"), "{error}");
    let cut = sources.file("cut.tar", &bytes[..bytes.len() / 2]);
    let error = inspect_file(&cut).unwrap_err();
    assert!(
        matches!(
            error,
            BuildError::Read { .. } | BuildError::NotAnArchive { .. }
        ),
        "{error}"
    );
}

/// CRI knows an image by the digest of its config: that of another module must be another.
#[test]
fn configs_differ_with_the_module() {
    let sources = Sources::new();
    let config_of = |layout| {
        let archived = sources.build(&sources.recipe(layout));
        let mut manifest = archived.json(&archived.root());
        if let Some(entries) = manifest["manifests"].as_array() {
            let wasm = entries
                .iter()
                .find(|entry| entry["platform"]["architecture"] == "wasm")
                .unwrap();
            manifest = archived.json(wasm);
        }
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    };
    let layouts = [Layout::Layer, Layout::Combined];
    let before = layouts.map(config_of);
    sources.file(
        "app.wat",
        MODULE.replace("i32.const 3", "i32.const 4").as_bytes(),
    );
    let after = layouts.map(config_of);
    for ((layout, before), after) in layouts.into_iter().zip(before).zip(after) {
        assert_ne!(before, after, "{layout:?}");
    }
}

/// The first bytes of an executable for a machine.
fn executable(machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(18, 0);
    bytes.extend([machine, 0]);
    bytes
}

#[test]
fn a_linux_image_has_a_root_for_each_architecture() {
    let sources = Sources::new();
    let roots = [("arm64", 183), ("amd64", 62)].map(|(architecture, machine)| {
        let root = sources.path(architecture);
        fs::create_dir_all(root.join("bin/engines")).unwrap();
        fs::write(root.join("bin/agent"), executable(machine)).unwrap();
        fs::set_permissions(root.join("bin/agent"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(root.join("hello.wasm"), "x").unwrap();
        symlink("agent", root.join("bin/other")).unwrap();
        (architecture.to_owned(), root)
    });
    let recipe = LinuxRecipe {
        name: "skiff.dev/skiff:1".to_owned(),
        entrypoint: vec!["/bin/agent".to_owned()],
        roots: roots.to_vec(),
    };
    let build = |recipe: &LinuxRecipe| {
        let mut bytes = Vec::new();
        let built = build_linux(recipe, &mut bytes)?;
        assert_eq!(built.archive_bytes, bytes.len() as u64);
        Ok::<_, BuildError>(Archived::read(&bytes, built))
    };
    let image = build(&recipe).unwrap();
    image.assert_complete();
    let entries = image.json(&image.root())["manifests"].clone();
    for (entry, architecture) in entries.as_array().unwrap().iter().zip(["arm64", "amd64"]) {
        assert_eq!(entry["platform"]["architecture"], architecture);
        let manifest = image.json(entry);
        let config = image.json(&manifest["config"]);
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["os"], "linux");
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/agent");
        let mut unpacked = Vec::new();
        GzDecoder::new(image.blob(&manifest["layers"][0]))
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            Digest::of(&unpacked).to_string()
        );
        let layer = tar::Archive::new(unpacked.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, entry.header().mode().unwrap())
            })
            .collect::<Vec<_>>();
        let expected = [
            ("bin/", 0o755),
            ("bin/agent", 0o755),
            ("bin/engines/", 0o755),
            ("bin/other", 0o777),
            ("hello.wasm", 0o644),
        ];
        assert_eq!(layer, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
    // Neither times nor the order in which a folder lists its files get in.
    fs::remove_file(sources.path("amd64/hello.wasm")).unwrap();
    fs::write(sources.path("amd64/hello.wasm"), "x").unwrap();
    assert_eq!(build(&recipe).unwrap().bytes, image.bytes);
    fs::write(sources.path("amd64/hello.wasm"), "y").unwrap();
    assert_ne!(build(&recipe).unwrap().built.digest, image.built.digest);

    let refused = |change: &dyn Fn(&mut LinuxRecipe)| {
        let mut recipe = recipe.clone();
        change(&mut recipe);
        build(&recipe).err().unwrap().to_string()
    };
    let told = refused(&|recipe| recipe.roots[0].0 = "amd64".to_owned());
    assert!(told.contains("given twice"), "{told}");
    let told = refused(&|recipe| recipe.roots[0].0 = "riscv64".to_owned());
    assert!(told.contains("riscv64 is no architecture"), "{told}");
    let told = refused(&|recipe| recipe.entrypoint[0] = "/bin/none".to_owned());
    assert!(told.contains("has no /bin/none"), "{told}");
    let told = refused(&|recipe| recipe.roots[0].1 = recipe.roots[1].1.clone());
    assert!(told.contains("is not an executable for arm64"), "{told}");
}
