//! What a handler's options do, in real containers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::command::{Ran, wait_for};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version, engine};

skiff_test::cases!(
    greed_is_refused_and_told_2_4,
    greed_is_refused_and_told_1_7,
    a_component_is_capped_too,
    a_guest_at_its_cap_lives,
    the_cap_follows_the_limit,
    the_least_that_a_module_declares,
    options_of_ctr,
    options_that_are_refused,
);

const MEGABYTE: u64 = 1 << 20;

/// Runs `words` of the guest with `options` in a file, as `ctr run --runtime-config-path` passes them on.
fn with_options(node: &Node, image: &Image, toml: &str, words: &[&str]) -> Result<Ran> {
    let file = node.directory().join("tmp").join(node.new_id("options"));
    std::fs::write(&file, toml)?;
    let path = file.display().to_string();
    let run = node.run(image).with(&["--runtime-config-path", &path]);
    let ran = run.guest(words).output()?;
    std::fs::remove_file(&file)?;
    Ok(ran)
}

fn greed_is_refused_and_told_2_4() -> Result<()> {
    greed_is_refused_and_told(Version::V2_4)
}

fn greed_is_refused_and_told_1_7() -> Result<()> {
    greed_is_refused_and_told(Version::V1_7)
}

fn greed_is_refused_and_told(version: Version) -> Result<()> {
    let mut node = Node::start(version)?;
    let image = Image::layer("image", &guest::module()?);
    let reference = node.registry()?.push(&image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    for (handler, cap) in [
        (
            "wasmtime",
            "at a cap of 59 MiB (handler option MemoryCap = \"default\")",
        ),
        (
            "wasmtime-half",
            "at a cap of 32 MiB (handler option MemoryCap = \"50%\")",
        ),
    ] {
        let pod = cri.pod(handler, handler)?;
        let container = pod.start(
            &reference,
            &json!({
                "args": ["grow", "100"],
                "linux": { "resources": { "memory_limit_in_bytes": 64 * MEGABYTE } },
            }),
        )?;
        assert_eq!(container.wait()?, 134);
        assert_ne!(container.status()?["reason"], "OOMKilled");
        let (_, errors) = container.logs()?;
        ensure!(
            errors.contains("memory allocation of") && errors.contains(cap),
            "it is not told: {errors}"
        );
        pod.remove()?;
    }
    Ok(())
}

fn a_component_is_capped_too() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("component", &guest::component()?);
    node.import(&image)?;
    let ran = with_options(&node, &image, "MemoryCap = \"20Mi\"", &["grow", "15"])?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = with_options(&node, &image, "MemoryCap = \"20Mi\"", &["grow", "30"])?;
    assert_eq!(ran.code, 134);
    ensure!(
        ran.stderr
            .contains("at a cap of 20 MiB (handler option MemoryCap = \"20Mi\")"),
        "it is not told: {}",
        ran.stderr
    );
    Ok(())
}

/// Takes all that there is, writes to every byte of it, and ends well when it gets no more.
const GREEDY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
        (memory.fill
          (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536))
          (i32.const 1) (i32.const 65536))
        (br $more))))))"#;

/// What the engine keeps for itself is enough for it: the kernel does not come in between.
fn a_guest_at_its_cap_lives() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("greedy", &guest::text(GREEDY)?);
    node.import(&image)?;
    for mebibytes in [12, 16, 32, 128, 512] {
        let limit = (mebibytes * MEGABYTE).to_string();
        let ran = node
            .run(&image)
            .with(&["--memory-limit", &limit])
            .output()?;
        assert_eq!(ran.code, 0, "at {mebibytes} MiB: {}", ran.stderr);
    }
    Ok(())
}

fn the_cap_follows_the_limit() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("image", &guest::module()?);
    let reference = node.registry()?.push(&image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    for (before, after, code) in [(32, 128, 0), (128, 32, 134)] {
        let container = pod.start(
            &reference,
            &json!({
                "metadata": { "name": format!("from-{before}") },
                "args": ["say", "up", "sleep", "4", "grow", "60"],
                "linux": { "resources": { "memory_limit_in_bytes": before * MEGABYTE } },
            }),
        )?;
        wait_for("it does not come up", Duration::from_secs(20), || {
            Ok(container.logs()?.0.contains("up\n").then_some(()))
        })?;
        let memory = format!("--memory={}", after * MEGABYTE);
        cri.crictl(&["update", &memory, &container.id])?.ok()?;
        assert_eq!(container.wait()?, code, "from {before} to {after} MiB");
        assert_eq!(
            container.status()?["reason"],
            if code == 0 { "Completed" } else { "Error" }
        );
    }
    pod.remove()
}

fn the_least_that_a_module_declares() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    // 64 MiB, of which nothing is written to.
    let module = guest::text(r#"(module (memory 1024) (func (export "_start")))"#)?;
    let image = Image::layer("wide", &module);
    node.import(&image)?;
    let limit = (32 * MEGABYTE).to_string();
    let ran = node
        .run(&image)
        .with(&["--memory-limit", &limit])
        .output()?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = with_options(&node, &image, "MemoryCap = \"32Mi\"", &[])?;
    assert_eq!(ran.code, 134);
    ensure!(
        ran.stderr
            .contains("asked for 64 MiB of memory at a cap of 32 MiB"),
        "it is not told: {}",
        ran.stderr
    );
    Ok(())
}

fn options_of_ctr() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("image", &guest::module()?);
    node.import(&image)?;
    let run = |toml: &str, words: &[&str]| with_options(&node, &image, toml, words);

    // Compiling takes its time, too.
    run("", &["say", "up"])?;
    let begin = Instant::now();
    let ran = run("TimeLimit = \"2s\"", &["spin"])?;
    assert_eq!(ran.code, 142);
    ensure!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
    ensure!(
        ran.stderr
            .contains("has run for 2s, the longest that the handler's option TimeLimit allows"),
        "{}",
        ran.stderr
    );

    let full = run("", &["trap"])?;
    let names = run("Backtrace = \"functions\"", &["trap"])?;
    let none = run("Backtrace = \"off\"", &["trap"])?;
    for ran in [&full, &names, &none] {
        assert_eq!(ran.code, 134);
        ensure!(ran.stderr.contains("trapped"), "{}", ran.stderr);
    }
    if engine() == "wasmtime" {
        for ran in [&full, &names] {
            ensure!(ran.stderr.contains("wasm backtrace"), "{}", ran.stderr);
        }
    }
    ensure!(!none.stderr.contains("wasm backtrace"), "{}", none.stderr);

    // Each is code of its own, which loads and runs.
    for toml in [
        "OptLevel = \"none\"",
        "OptLevel = \"speed_and_size\"",
        "StackSize = \"64Ki\"",
        "StackSize = \"64Mi\"",
        "[Proposals]\ngc = false\nfunction-references = false\nthreads = false\nwide-arithmetic = true",
    ] {
        // Without typed function references WasmEdge does not take what Rust makes.
        if engine() == "wasmedge" && toml.contains("function-references") {
            continue;
        }
        let ran = run(toml, &["say", "up"])?;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "up\n"),
            "{toml}: {}",
            ran.stderr
        );
    }
    let vectors = guest::text(
        r#"(module (func (export "_start") (drop (i8x16.abs (v128.const i32x4 0 0 0 0)))))"#,
    )?;
    let vectors = Image::layer("vectors", &vectors);
    node.import(&vectors)?;
    let refused = with_options(
        &node,
        &vectors,
        "[Proposals]\nsimd = false\nrelaxed-simd = false",
        &[],
    )?;
    let words = match engine() {
        "wasmedge" => "illegal opcode",
        _ => "SIMD support is not enabled",
    };
    ensure!(
        refused.code != 0 && refused.stderr.contains(words),
        "{}",
        refused.stderr
    );
    assert_eq!(with_options(&node, &vectors, "", &[])?.code, 0);

    // The same recursion, on two stacks. No compiler makes a loop of it.
    let deep = guest::text(
        r#"(module (func $down (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.rotl (call $down (i32.sub (local.get 0) (i32.const 1))) (local.get 0)))
               (else (i32.const 0))))
           (func (export "_start") (drop (call $down (i32.const 300000)))))"#,
    )?;
    let deep = Image::layer("deep", &deep);
    node.import(&deep)?;
    let exhausted = with_options(&node, &deep, "StackSize = \"1Mi\"", &[])?;
    ensure!(
        exhausted.code == 134 && exhausted.stderr.contains("call stack exhausted"),
        "{} {}",
        exhausted.code,
        exhausted.stderr
    );
    assert_eq!(
        with_options(&node, &deep, "StackSize = \"64Mi\"", &[])?.code,
        0
    );
    Ok(())
}

fn options_that_are_refused() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("image", &guest::module()?);
    node.import(&image)?;
    for (toml, words) in [
        (
            "Toolbox = true\nMemoryCapp = \"off\"",
            "line 2: unknown field `MemoryCapp`, expected one of",
        ),
        (
            "MemoryCap = \"-1\"",
            "line 1: invalid value: string \"-1\", expected \"default\", \"off\", a size",
        ),
        (
            "StackSize = 5",
            "line 1: invalid type: integer `5`, expected a size from \"64Ki\" to \"256Mi\"",
        ),
    ] {
        let ran = with_options(&node, &image, toml, &[])?;
        let told = ran.code != 0 && ran.stderr.contains(words);
        ensure!(told, "{toml}: {}", ran.stderr);
    }
    let missing = node
        .run(&image)
        .with(&["--runtime-config-path", "/no/such/options.toml"]);
    let ran = missing.output().context("a file that is not there")?;
    ensure!(
        ran.code != 0
            && ran
                .stderr
                .contains("could not read the runtime options file /no/such/options.toml"),
        "{}",
        ran.stderr
    );
    Ok(())
}
