//! Which engine runs a container, and what WasmEdge does otherwise than wasmtime: the suite `containerd-wasmedge` asks it
//! what wasmtime is asked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Run, SKIFF, Version, WASMEDGE, WASMTIME};
use skiff_test::tools;

skiff_test::cases!(
    by_runtime_type,
    by_runtime_type_through_cri,
    by_option,
    by_annotation_among_the_listed,
    by_annotation_through_cri,
    a_type_is_a_promise,
    versions_side_by_side,
    the_host_carries_no_compiler,
    components_are_sent_to_wasmtime,
    names_without_the_c_library,
    what_the_compiler_refuses_is_interpreted,
    a_spinning_guest_ends_at_once,
    a_stack_that_is_used_up,
);

/// The bundle, where this machine could make it.
pub(crate) fn bundle() -> Result<PathBuf> {
    let versions = tools::skiff_dir().join("engines/wasmedge");
    let Some(version) = fs::read_dir(&versions).ok().and_then(|mut all| all.next()) else {
        skiff_test::skip!("there is no WasmEdge in {}", versions.display());
    };
    Ok(version?.path())
}

/// What `look` sees in the process of a sleeping container, by its folder in `/proc`.
fn seen<T>(run: Run<'_>, look: impl FnOnce(&Path) -> io::Result<T>) -> Result<T> {
    let task = run.guest(&["say", "up", "sleep", "100"]).start()?;
    task.wait_for_output("up")?;
    let (_, process) = task.state()?;
    let found = look(Path::new(&format!("/proc/{process}")))?;
    task.remove()?;
    Ok(found)
}

/// The executable of a sleeping container, which tells engine and version.
fn host_of(run: Run<'_>) -> Result<String> {
    let host = seen(run, |process| fs::read_link(process.join("exe")))?;
    Ok(host.display().to_string())
}

fn runs_under(run: Run<'_>, engine: &str) -> Result<()> {
    let host = host_of(run)?;
    ensure!(
        host.ends_with(&format!("/skiff-host-{engine}")),
        "it ran under {host} and not {engine}"
    );
    Ok(())
}

/// The host only runs code: LLVM would be most of its start and of its memory.
fn the_host_carries_no_compiler() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let run = node.run(&image).runtime(WASMEDGE);
    let maps = seen(run, |process| fs::read_to_string(process.join("maps")))?;
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, path)| path))
        .filter(|path| path.contains(".so"))
        .collect();
    ensure!(
        libraries
            .iter()
            .any(|path| path.contains("/libwasmedge.so")),
        "WasmEdge is not among {libraries:?}"
    );
    for library in libraries {
        let stub = library.contains("/host/libLLVM");
        let compiler = ["libLLVM", "libz3", "libxml2", "libffi"];
        ensure!(
            stub || !compiler.iter().any(|name| library.contains(name)),
            "the host has loaded {library}"
        );
    }
    Ok(())
}

fn by_runtime_type() -> Result<()> {
    bundle()?;
    for version in Version::ALL {
        let node = Node::start(version)?;
        let image = Image::layer("layer", &guest::module()?);
        node.import(&image)?;
        runs_under(node.run(&image).runtime(WASMEDGE), "wasmedge")?;
        runs_under(node.run(&image).runtime(WASMTIME), "wasmtime")?;
        runs_under(node.run(&image).runtime(SKIFF), "wasmtime")?;
    }
    Ok(())
}

/// As a pod whose RuntimeClass names the handler `wasmedge`.
fn by_runtime_type_through_cri() -> Result<()> {
    bundle()?;
    for version in Version::ALL {
        let mut node = Node::start(version)?;
        let image = Image::layer("layer", &guest::module()?);
        let reference = node.registry()?.push(&image, "layer")?;
        let cri = node.cri()?;
        cri.pull(&reference)?;
        let pod = cri.pod("wasmedge", "pod")?;
        let container = pod.start(
            &reference,
            &json!({ "args": ["say", "hello", "exit", "7"] }),
        )?;
        assert_eq!(container.wait()?, 7);
        assert_eq!(container.logs()?.0, "hello\n");
        let container = pod.start(
            &reference,
            &json!({ "args": ["say", "up", "sleep", "100"] }),
        )?;
        let host = fs::read_link(format!("/proc/{}/exe", container.pid()?))?;
        ensure!(host.ends_with("skiff-host-wasmedge"), "{host:?}");
        pod.remove()?;
    }
    Ok(())
}

fn by_option() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let run = || node.run(&image).runtime(SKIFF);
    runs_under(run().options("Engine = \"wasmedge\"")?, "wasmedge")?;
    runs_under(run().options("Engine = \"wasmtime\"")?, "wasmtime")?;
    let ran = run().options("\nEngine = \"wasmer\"")?.output()?;
    ran.fails_with(&["line 2", "unknown engine `wasmer`", "wasmtime, wasmedge"])?;
    Ok(())
}

const EITHER: &str = "Engines = [\"wasmtime\", \"wasmedge\"]";

fn by_annotation_among_the_listed() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let run = |annotation: &str, toml: &str| {
        let annotation = format!("run.oci.handler={annotation}");
        let run = node.run(&image).runtime(SKIFF);
        run.with(&["--annotation", &annotation]).options(toml)
    };
    runs_under(run("wasmedge", EITHER)?, "wasmedge")?;
    runs_under(run("wasmtime", EITHER)?, "wasmtime")?;
    runs_under(run("wasm", EITHER)?, "wasmtime")?;
    for (annotation, toml) in [
        ("wasmedge", ""),
        ("wasmer", EITHER),
        ("wasmedge", "Engines = [\"wasmtime\"]"),
        ("../wasmedge", EITHER),
    ] {
        let ran = run(annotation, toml)?.output()?;
        ran.fails_with(&["run.oci.handler", annotation, "runs wasmtime"])?;
    }
    Ok(())
}

/// The annotation is the pod's: its sandbox has it too, and needs no engine.
fn by_annotation_through_cri() -> Result<()> {
    bundle()?;
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    for (handler, annotation, engine) in [
        ("skiff-either", "wasmedge", Some("wasmedge")),
        ("skiff-either", "wasmtime", Some("wasmtime")),
        ("skiff", "wasmedge", None),
    ] {
        let over = json!({ "annotations": { "run.oci.handler": annotation } });
        let pod = cri.pod_over(handler, "pod", &json!({ "network": 2 }), &over)?;
        let config = json!({ "args": ["say", "up", "sleep", "100"] });
        match (pod.start(&reference, &config), engine) {
            (Ok(container), Some(engine)) => {
                let host = fs::read_link(format!("/proc/{}/exe", container.pid()?))?;
                ensure!(
                    host.ends_with(format!("skiff-host-{engine}")),
                    "{handler}, {annotation}: {host:?}"
                );
            }
            (Err(error), None) => {
                let told = format!("{error:#}");
                ensure!(
                    told.contains("asks for") && told.contains("runs wasmtime"),
                    "{told}"
                );
            }
            (Ok(_), None) => anyhow::bail!("{handler} ran what its options do not list"),
            (Err(error), Some(_)) => return Err(error),
        }
        pod.remove()?;
    }
    Ok(())
}

fn a_type_is_a_promise() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    for (runtime, toml) in [
        (WASMEDGE, "Engine = \"wasmtime\""),
        (WASMTIME, "Engine = \"wasmedge\""),
        (WASMTIME, EITHER),
    ] {
        let ran = node.run(&image).runtime(runtime).options(toml)?.output()?;
        ran.fails_with(&["does not fit its runtime type", runtime])?;
    }
    Ok(())
}

/// A folder of binaries with WasmEdge in two versions, the second one a copy by another number.
fn versions_side_by_side() -> Result<()> {
    let bundle = bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let folder = node.directory().join("logs/bin");
    let newest = bundle.file_name().context("a version has a name")?;
    for version in ["0.9.1".as_ref(), newest] {
        let version = folder.join("engines/wasmedge").join(version);
        for part in ["", "host", "lib"] {
            fs::create_dir_all(version.join(part))?;
            for file in fs::read_dir(bundle.join(part))? {
                let file = file?;
                if file.file_type()?.is_file() {
                    fs::copy(file.path(), version.join(part).join(file.file_name()))?;
                }
            }
        }
    }
    for program in [
        "containerd-shim-skiff-v1",
        "skiff-init",
        "skiff-pause",
        "skiff-host-wasmtime",
        "skiff-compile-wasmtime",
    ] {
        let path = tools::skiff_dir().join(program);
        fs::copy(path, folder.join(program))?;
    }
    let shim = folder.join("containerd-shim-skiff-v1");
    let shim = shim.display().to_string();
    let run = |toml: &str| {
        let toml = format!("Engine = \"wasmedge\"\n{toml}");
        node.run(&image).runtime(&shim).options(&toml)
    };
    let newest = newest.to_string_lossy();
    for (toml, version) in [
        ("", newest.as_ref()),
        ("EngineVersions = { wasmedge = \"0.9.1\" }", "0.9.1"),
    ] {
        let host = host_of(run(toml)?)?;
        ensure!(
            host.contains(&format!("/{version}/")),
            "{host} is not version {version}"
        );
    }
    let ran = run("EngineVersions = { wasmedge = \"0.10\" }")?.output()?;
    ran.fails_with(&["there is no version 0.10 of it, only 0.9.1,"])?;
    let ran = run("EngineVersions = { wasmedge = \"../x\" }")?.output()?;
    ran.fails_with(&["line 2", "expected a version"])?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn components_are_sent_to_wasmtime() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    for image in [
        Image::layer("layer", &guest::component()?),
        Image::root_file("file", &guest::component()?),
    ] {
        node.import(&image)?;
        let ran = node.run(&image).runtime(WASMEDGE).output()?;
        let ran = ran.fails_with(&["component", "WasmEdge", "run it with wasmtime"])?;
        ensure!(ran.stdout.is_empty(), "it ran: {}", ran.stdout);
    }
    Ok(())
}

/// Asks WasmEdge's extension of WASI for an address, and says what it is told.
const LOOKUP: &str = r#"(module
  (import "wasi_snapshot_preview1" "sock_getaddrinfo"
    (func $lookup (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; Wanted: IPv4, streams.
  (data (i32.const 2) "\01\02")
  ;; Where the answer goes: its address is 192, whose 26 bytes are at 224.
  (data (i32.const 64) "\80\00\00\00")
  (data (i32.const 140) "\c0\00\00\00")
  (data (i32.const 196) "\1a\00\00\00\e0\00\00\00")
  (data (i32.const 300) "known.test")
  (data (i32.const 320) "unknown.test")
  (data (i32.const 340) "127.0.0.9\0aanother\0afailed\0a")
  (func $say (param i32 i32)
    (i32.store (i32.const 400) (local.get 0))
    (i32.store (i32.const 404) (local.get 1))
    (drop (call $write (i32.const 1) (i32.const 400) (i32.const 1) (i32.const 408))))
  (func $ask (param i32 i32)
    (if (call $lookup (local.get 0) (local.get 1) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72))
      (then (call $say (i32.const 358) (i32.const 7)))
      (else (if (i32.eq (i32.load (i32.const 226)) (i32.const 0x0900007f))
        (then (call $say (i32.const 340) (i32.const 10)))
        (else (call $say (i32.const 350) (i32.const 8)))))))
  (func (export "_start")
    (call $ask (i32.const 300) (i32.const 10))
    (call $ask (i32.const 320) (i32.const 12))))"#;

/// The C library would load the library that the image's file names.
fn names_without_the_c_library() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let library = fs::read("/bin/busybox")?;
    let root = [
        Entry::directory("etc"),
        Entry::file("etc/nsswitch.conf", 0o644, b"hosts: evil\npasswd: evil\n"),
        Entry::directory("lib"),
        Entry::file("lib/libnss_evil.so.2", 0o755, &library),
    ];
    let image = Image::root_file("names", &guest::text(LOOKUP)?).with_root(&root);
    node.import(&image)?;
    let hosts = node.directory().join("logs/hosts");
    fs::write(&hosts, "127.0.0.9 known.test\n")?;
    let run = node.run(&image).runtime(WASMEDGE);
    let run = run.bind(&hosts.display().to_string(), "/etc/hosts", "ro");
    let ran = run.output()?;
    ensure!(
        ran.code == 0 && ran.stdout == "127.0.0.9\nfailed\n",
        "{ran:?}"
    );
    Ok(())
}

/// WasmEdge's compiler knows no exceptions, its interpreter does.
const THROWS: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (tag $tag (param i32))
  (func (export "_start")
    (block $caught (result i32)
      (try_table (catch $tag $caught) (throw $tag (i32.const 5)))
      (i32.const 1))
    (call $exit)))"#;

fn what_the_compiler_refuses_is_interpreted() -> Result<()> {
    bundle()?;
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("throws", &guest::text(THROWS)?);
    node.import(&image)?;
    // The second time from the cache.
    for _ in 0..2 {
        let ran = node.run(&image).runtime(WASMEDGE).output()?;
        assert_eq!(ran.code, 5, "{}", ran.stderr);
    }
    ensure!(
        node.log().contains("is interpreted"),
        "the log does not say that it is interpreted"
    );
    Ok(())
}

fn a_spinning_guest_ends_at_once() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let task = node
        .run(&image)
        .runtime(WASMEDGE)
        .guest(&["spin"])
        .start()?;
    task.wait_for_output("spinning")?;
    let begin = Instant::now();
    task.signal("SIGTERM")?.ok()?;
    task.wait_until_stopped(Duration::from_secs(10))?;
    let took = begin.elapsed();
    ensure!(
        took < skiff_test::command::patience(Duration::from_secs(1)),
        "it took {took:?} to end"
    );
    assert_eq!(task.remove()?, 143);
    Ok(())
}

/// Calls itself without end.
const RECURSES: &str = r#"(module
  (memory (export "memory") 1)
  (func $deeper (param i64) (result i64)
    (i64.rotl (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "_start") (drop (call $deeper (i64.const 0)))))"#;

fn a_stack_that_is_used_up() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("recurses", &guest::text(RECURSES)?);
    node.import(&image)?;
    for runtime in [WASMTIME, WASMEDGE] {
        for size in ["512Ki", "64Mi"] {
            let toml = format!("StackSize = \"{size}\"");
            let ran = node.run(&image).runtime(runtime).options(&toml)?.output()?;
            ensure!(
                ran.code == 134 && ran.stderr.contains("call stack exhausted"),
                "{runtime}, {size}: {ran:?}"
            );
        }
    }
    Ok(())
}
