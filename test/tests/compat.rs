//! The same image, arguments and options under a runwasi wasmtime shim and under Skiff. `make test-compat` runs it.
//!
//! A case passes when both give the same exit code and output. Cases named `differs_…` are the differences that
//! `docs/runwasi.md` lists: they pin down what each of the two does.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use skiff_test::command::Ran;
use skiff_test::guest;
use skiff_test::image::{COMPONENT_LAYER, Entry, Image};
use skiff_test::node::{Node, RUNWASI, Run, Version, WASMTIME};

skiff_test::cases!(
    layer,
    layer_of_a_component,
    layer_of_the_older_type,
    root_file,
    root_file_of_a_component,
    text_in_the_root,
    relative_entrypoint,
    entrypoint_with_function,
    arguments_and_environment,
    exit_codes,
    standard_error,
    reads_and_writes_its_root,
    volume,
    read_only_volume,
    missing_module,
    differs_high_exit_codes,
    differs_trap_code,
    differs_kernel_files,
    differs_native_code,
);

fn main() -> ExitCode {
    skiff_test::runner::main(&[CASES], &[])
}

/// Runs `image` twice, peer first.
fn both(image: &Image, prepare: impl Fn(Run<'_>) -> Run<'_>) -> Result<(Ran, Ran)> {
    let node = Node::start(Version::V2_1)?;
    node.import(image)?;
    let theirs = prepare(node.run(image).runtime(RUNWASI)).output()?;
    let ours = prepare(node.run(image).runtime(WASMTIME)).output()?;
    Ok((theirs, ours))
}

fn same(image: &Image, prepare: impl Fn(Run<'_>) -> Run<'_>) -> Result<Ran> {
    let (theirs, ours) = both(image, prepare)?;
    ensure!(
        (theirs.code, &theirs.stdout, &theirs.stderr) == (ours.code, &ours.stdout, &ours.stderr),
        "runwasi: {} {:?} {:?}\nours: {} {:?} {:?}",
        theirs.code,
        theirs.stdout,
        theirs.stderr,
        ours.code,
        ours.stdout,
        ours.stderr
    );
    Ok(ours)
}

fn layer() -> Result<()> {
    let ran = same(&Image::layer("layer", &guest::module()?), |run| run)?;
    assert_eq!(ran.stdout, "hello from a guest\n");
    Ok(())
}

fn layer_of_a_component() -> Result<()> {
    let ran = same(&Image::layer("component", &guest::component()?), |run| run)?;
    assert_eq!(ran.stdout, "hello from a guest\n");
    Ok(())
}

fn layer_of_the_older_type() -> Result<()> {
    let image = Image::with_layer("older", COMPONENT_LAYER, &guest::module()?);
    let ran = same(&image, |run| run)?;
    assert_eq!(ran.stdout, "hello from a guest\n");
    Ok(())
}

fn root_file() -> Result<()> {
    let ran = same(&Image::root_file("file", &guest::module()?), |run| run)?;
    assert_eq!(ran.stdout, "hello from a guest\n");
    Ok(())
}

fn root_file_of_a_component() -> Result<()> {
    let ran = same(&Image::root_file("file", &guest::component()?), |run| run)?;
    assert_eq!(ran.stdout, "hello from a guest\n");
    Ok(())
}

/// The text of a module that exits with 3, or with 4 from its function `other`.
const EXITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 3)))
    (func (export "other") (call $exit (i32.const 4))))"#;

fn text_in_the_root() -> Result<()> {
    let image = Image::linux("text", &[Entry::file("app.wat", 0o644, EXITS.as_bytes())])
        .entrypoint(&["/app.wat"]);
    assert_eq!(same(&image, |run| run)?.code, 3);
    Ok(())
}

fn relative_entrypoint() -> Result<()> {
    let image = Image::root_file("relative", &guest::text(EXITS)?).entrypoint(&["app.wasm"]);
    assert_eq!(same(&image, |run| run)?.code, 3);
    Ok(())
}

fn entrypoint_with_function() -> Result<()> {
    let image = Image::root_file("function", &guest::text(EXITS)?).entrypoint(&["/app.wasm#other"]);
    assert_eq!(same(&image, |run| run)?.code, 4);
    let image = Image::layer("function", &guest::text(EXITS)?).entrypoint(&["/app.wasm#other"]);
    assert_eq!(same(&image, |run| run)?.code, 4);
    Ok(())
}

fn arguments_and_environment() -> Result<()> {
    let image = Image::root_file("show", &guest::module()?);
    let ran = same(&image, |run| {
        run.with(&["--env", "COLOUR=dark blue"])
            .guest(&["show", "say", "two words"])
    })?;
    ensure!(
        ran.stdout.contains("env COLOUR=dark blue\n"),
        "{}",
        ran.stdout
    );
    Ok(())
}

fn exit_codes() -> Result<()> {
    let image = Image::root_file("codes", &guest::module()?);
    for code in ["0", "1", "42", "125"] {
        let ran = same(&image, |run| run.guest(&["exit", code]))?;
        assert_eq!(ran.code.to_string(), code);
    }
    Ok(())
}

fn standard_error() -> Result<()> {
    let image = Image::root_file("warn", &guest::module()?);
    let ran = same(&image, |run| run.guest(&["warn", "careful", "say", "done"]))?;
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("done\n", "careful\n")
    );
    Ok(())
}

fn reads_and_writes_its_root() -> Result<()> {
    let image = Image::root_file("files", &guest::module()?).with_root(&[Entry::file(
        "greeting",
        0o644,
        b"good morning\n",
    )]);
    let words = [
        "read",
        "/greeting",
        "write",
        "/new",
        "fresh",
        "read",
        "/new",
    ];
    let ran = same(&image, |run| run.guest(&words))?;
    assert_eq!(ran.stdout, "good morning\nwritten /new\nfresh");
    Ok(())
}

/// A directory of the machine to mount, with one file in it; removed when dropped.
struct Volume(std::path::PathBuf);

impl Volume {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("skiff-compat-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        std::fs::write(path.join("file"), "from the volume\n")?;
        Ok(Self(path))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            skiff_test::runner::fault(format!("could not remove {}: {error}", self.0.display()));
        }
    }
}

fn volume() -> Result<()> {
    let volume = Volume::new()?;
    let path = volume.0.display().to_string();
    let image = Image::root_file("volume", &guest::module()?);
    let words = ["read", "/data/file", "write", "/data/new", "x"];
    let ran = same(&image, |run| run.bind(&path, "/data", "rw").guest(&words))?;
    assert_eq!(ran.stdout, "from the volume\nwritten /data/new\n");
    Ok(())
}

fn read_only_volume() -> Result<()> {
    let volume = Volume::new()?;
    let path = volume.0.display().to_string();
    let image = Image::root_file("volume", &guest::module()?);
    let words = ["read", "/data/file", "write", "/data/new", "x"];
    let ran = same(&image, |run| run.bind(&path, "/data", "ro").guest(&words))?;
    ensure!(ran.stdout.contains("write failed"), "{}", ran.stdout);
    Ok(())
}

fn missing_module() -> Result<()> {
    let image = Image::linux("nothing", &[Entry::directory("etc")]).entrypoint(&["/app.wasm"]);
    let (theirs, ours) = both(&image, |run| run)?;
    ensure!(
        theirs.code != 0 && ours.code != 0,
        "{} and {}",
        theirs.code,
        ours.code
    );
    Ok(())
}

/// wasmtime's own `proc_exit` traps from 126 on; ours keeps the code.
fn differs_high_exit_codes() -> Result<()> {
    let image = Image::root_file("codes", &guest::module()?);
    let (theirs, ours) = both(&image, |run| run.guest(&["exit", "255"]))?;
    assert_eq!((theirs.code, ours.code), (137, 255));
    Ok(())
}

fn differs_trap_code() -> Result<()> {
    let (theirs, ours) = both(&Image::root_file("trap", &guest::module()?), |run| {
        run.guest(&["trap"])
    })?;
    assert_eq!((theirs.code, ours.code), (137, 134));
    ensure!(ours.stderr.contains("wasm trap"), "{}", ours.stderr);
    Ok(())
}

fn differs_kernel_files() -> Result<()> {
    let words = ["open", "/proc/self/mem"];
    let (theirs, ours) = both(&Image::root_file("reach", &guest::module()?), |run| {
        run.guest(&words)
    })?;
    ensure!(theirs.stdout != ours.stdout, "both print {:?}", ours.stdout);
    Ok(())
}

/// Machine code in place of a module: an ELF file whose name ends in `.wasm`.
fn differs_native_code() -> Result<()> {
    let native = std::fs::read("/bin/true")?;
    let image = Image::linux("native", &[Entry::file("app.wasm", 0o755, &native)])
        .entrypoint(&["/app.wasm"]);
    let (_, ours) = both(&image, |run| run)?;
    ensure!(ours.code != 0, "native code was run");
    Ok(())
}
