//! Bytes that are not what they should be: each refused by a sentence, with nothing executed and nothing left.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::guest;
use skiff_test::image::{Entry, Image, digest};
use skiff_test::node::{Node, Version};

skiff_test::cases!(
    truncated_layer,
    wrong_digest_layer,
    layer_that_is_gone,
    no_bytes_at_all,
    random_bytes,
    module_that_fails_validation,
    truncated_module,
    our_own_compiled_code,
    elf_named_wasm,
    wasmedge_universal,
    script_named_wasm,
    unknown_import,
    import_of_another_world,
    missing_entrypoint,
    missing_function,
    module_without_start,
    component_where_a_function_is_named,
    log_says_why_1_7,
    log_says_why_2_1,
    log_says_why_2_4,
    module_of_256_mib,
    hundred_thousand_functions,
);

/// Runs the bytes as a layer and as a file of the root; both must fail, and say these words.
fn refused(bytes: &[u8], words: &[&str]) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for image in [
        Image::layer("layer", bytes),
        Image::root_file("file", bytes),
    ] {
        let imported = node.try_import(&image)?;
        // A layer of no bytes may be more than `ctr` takes; then no shim is asked.
        if imported.code != 0 {
            imported.fails_with(&[])?;
            continue;
        }
        let ran = node.run(&image).output()?;
        is_a_sentence(&ran.stderr)?;
        ran.fails_with(words)?;
    }
    Ok(())
}

/// One line for the user: no backtrace, no debug form of a type.
fn is_a_sentence(message: &str) -> Result<()> {
    let line = message
        .lines()
        .rev()
        .find(|line| line.starts_with("ctr:"))
        .unwrap_or(message);
    for wrong in ["RUST_BACKTRACE", "panicked", "Os {", "Custom {", "Error("] {
        ensure!(
            !message.contains(wrong),
            "the message is not for a user ({wrong}): {message}"
        );
    }
    ensure!(line.len() > 20, "the message says little: {message}");
    Ok(())
}

/// The blob of a layer in the store of a running containerd.
fn blob(node: &Node, bytes: &[u8]) -> Result<std::path::PathBuf> {
    let name = digest(bytes).replace(':', "/");
    let path = node
        .directory()
        .join("root/io.containerd.content.v1.content/blobs")
        .join(name);
    ensure!(
        path.exists(),
        "{} is not in the content store",
        path.display()
    );
    Ok(path)
}

/// With an empty cache, as the two that follow: code that is compiled already is found by the layer's digest alone.
fn truncated_layer() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let module = guest::module()?;
    let image = Image::layer("layer", &module);
    node.import(&image)?;
    // ctr checks digests when it imports; what rots later is the shim's to see.
    fs::File::options()
        .write(true)
        .open(blob(&node, &module)?)?
        .set_len(1000)?;
    let ran = node.run(&image).output()?;
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["sha256:"])?;
    Ok(())
}

fn wrong_digest_layer() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let module = guest::module()?;
    // In the archive: `ctr` stores such a blob under its true digest, so that the layer is missing.
    let wrong = Image::layer("wrong", &module).stored_as(&guest::with_section("x", b"y")?);
    if node.try_import(&wrong)?.code == 0 {
        node.run(&wrong).output()?.fails_with(&["sha256:"])?;
    }
    // In the store: one bit of the module is another.
    let image = Image::layer("layer", &module);
    node.import(&image)?;
    let path = blob(&node, &module)?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes)?;
    let ran = node.run(&image).output()?;
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["digest"])?;
    Ok(())
}

fn layer_that_is_gone() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let module = guest::module()?;
    let image = Image::layer("layer", &module);
    node.import(&image)?;
    fs::remove_file(blob(&node, &module)?)?;
    let ran = node.run(&image).output()?;
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["sha256:"])?;
    Ok(())
}

fn no_bytes_at_all() -> Result<()> {
    refused(b"", &["empty"])
}

fn random_bytes() -> Result<()> {
    let mut bytes = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..10_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    refused(&bytes, &["neither WebAssembly nor"])
}

fn module_that_fails_validation() -> Result<()> {
    refused(
        &guest::text(
            r#"(module (memory (export "memory") 1) (func (export "_start") i32.const 1))"#,
        )?,
        &["valid"],
    )
}

fn truncated_module() -> Result<()> {
    let module = guest::module()?;
    refused(&module[..module.len() / 2], &["valid"])
}

/// What our own compiler made, taken out of the cache and put into an image.
fn our_own_compiled_code() -> Result<()> {
    let code = {
        let node = Node::cold(Version::V2_4)?;
        let image = Image::layer("layer", &guest::module()?);
        node.import(&image)?;
        node.run(&image).output()?.ok()?;
        let entry = super::cache::entries(&node)?
            .pop()
            .context("nothing was compiled")?;
        fs::read(entry)?
    };
    ensure!(code.starts_with(b"\x7fELF"), "compiled code is an ELF file");
    refused(&code, &["native"])
}

fn elf_named_wasm() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux(
        "elf",
        &[Entry::file("app.wasm", 0o755, &fs::read("/bin/busybox")?)],
    )
    .entrypoint(&["/app.wasm"]);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .args(["/app.wasm", "echo", "it ran"])
        .output()?;
    ensure!(
        !ran.stdout.contains("it ran"),
        "native code of an image was executed"
    );
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["/app.wasm"])?;
    Ok(())
}

/// WasmEdge takes native code out of this section of a valid module.
fn wasmedge_universal() -> Result<()> {
    refused(
        &guest::with_section("wasmedge", b"\x02\x00native code would be here")?,
        &["native", "WasmEdge"],
    )
}

fn script_named_wasm() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::busybox("script")?
        .with_root(&[Entry::file("app.wasm", 0o755, b"#!/bin/sh\necho it ran\n")])
        .entrypoint(&["/app.wasm"]);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    ensure!(
        !ran.stdout.contains("it ran"),
        "a script of an image was executed"
    );
    ran.fails_with(&["/app.wasm"])?;
    Ok(())
}

fn unknown_import() -> Result<()> {
    let module = guest::text(
        r#"(module (import "env" "no_such_thing" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
    )?;
    refused(&module, &["env", "no_such_thing"])
}

fn log_says_why_1_7() -> Result<()> {
    log_says_why(Version::V1_7)
}

fn log_says_why_2_1() -> Result<()> {
    log_says_why(Version::V2_1)
}

fn log_says_why_2_4() -> Result<()> {
    log_says_why(Version::V2_4)
}

/// The container's own log has the sentence, once, whoever found the fault: the shim, the compile worker, the host.
fn log_says_why(version: Version) -> Result<()> {
    let import = r#"(module (import "env" "no_such_thing" (func)) (func (export "_start")))"#;
    let module = guest::module()?;
    let cases: [(&str, Vec<u8>, serde_json::Value, &str); 4] = [
        (
            "missing",
            module.clone(),
            json!({ "command": ["/no/such.wasm"] }),
            "/no/such.wasm",
        ),
        (
            "random",
            b"\xff\x00 no module at all".to_vec(),
            json!({}),
            "neither WebAssembly nor",
        ),
        (
            "invalid",
            guest::text("(module (func (export \"_start\") (result i32) i64.const 1))")?,
            json!({}),
            "type mismatch",
        ),
        ("import", guest::text(import)?, json!({}), "no_such_thing"),
    ];
    let mut node = Node::start(version)?;
    let mut references = Vec::new();
    for (name, bytes, ..) in &cases {
        let image = Image::root_file(name, bytes);
        references.push(node.registry()?.push(&image, name)?);
    }
    let cri = node.cri()?;
    let pod = cri.pod("wasmtime", "pod")?;
    for (reference, (name, _, config, words)) in references.iter().zip(cases) {
        cri.pull(reference)?;
        let container = match pod.try_create(reference, &config)? {
            Ok(container) => container,
            Err(ran) => anyhow::bail!("{name}: {}", ran.stderr),
        };
        cri.crictl(&["start", &container.id])?
            .fails_with(&[words])?;
        let status = container.status()?;
        ensure!(
            status["state"] == "CONTAINER_EXITED" && status["reason"] == "StartError",
            "{name}: {status}"
        );
        let (out, err) = container.logs()?;
        ensure!(out.is_empty(), "{name}: stdout is {out}");
        ensure!(
            err.lines().count() == 1 && err.contains(words),
            "{name}: the log says {err:?}"
        );
        let logs = cri.crictl(&["logs", &container.id])?;
        ensure!(
            logs.stderr.contains(words),
            "{name}: crictl logs: {}",
            logs.stderr
        );
    }
    pod.remove()
}

/// Known to us, but not given here: the message says what would give it.
fn import_of_another_world() -> Result<()> {
    guest::only_wasmtime("runs components")?;
    let component = guest::text(
        r#"(component
             (import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))
             (core module $module (func (export "run") (result i32) i32.const 0))
             (core instance $instance (instantiate $module))
             (func $run (result (result)) (canon lift (core func $instance "run")))
             (instance $exported (export "run" (func $run)))
             (export "wasi:cli/run@0.2.0" (instance $exported)))"#,
    )?;
    refused(&component, &["wasi:http"])
}

fn missing_entrypoint() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let ran = node.run(&image).args(["/not-there.wasm"]).output()?;
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["/not-there.wasm"])?;
    Ok(())
}

fn missing_function() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for image in [
        Image::root_file("file", &guest::module()?),
        Image::layer("layer", &guest::module()?),
    ] {
        node.import(&image)?;
        let ran = node
            .run(&image)
            .args(["/app.wasm#no_such_function"])
            .output()?;
        is_a_sentence(&ran.stderr)?;
        ran.fails_with(&["no_such_function"])?;
    }
    Ok(())
}

fn module_without_start() -> Result<()> {
    refused(
        &guest::text(r#"(module (memory (export "memory") 1) (func (export "main")))"#)?,
        &["_start"],
    )
}

fn component_where_a_function_is_named() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("component", &guest::component()?);
    node.import(&image)?;
    let ran = node.run(&image).args(["/app.wasm#other"]).output()?;
    is_a_sentence(&ran.stderr)?;
    ran.fails_with(&["other"])?;
    Ok(())
}

fn module_of_256_mib() -> Result<()> {
    let module = guest::padded(256 << 20)?;
    let node = Node::start(Version::V2_4)?;
    for (image, limit) in [
        (Image::layer("layer", &module), "268435456"),
        (Image::root_file("file", &module), "256 MiB"),
    ] {
        node.import(&image)?;
        let ran = node.run(&image).output()?;
        is_a_sentence(&ran.stderr)?;
        ran.fails_with(&[limit])?;
    }
    Ok(())
}

/// Much to compile, but nothing wrong with it.
fn hundred_thousand_functions() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("functions", &guest::functions(100_000)?);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    Ok(())
}
