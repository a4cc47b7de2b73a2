//! The cases on an engine without Skiff, in a mount namespace of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::{command, tools};

use crate::surroundings::{ENVIRONMENT, SMALL, Surroundings, WORDS};

/// What all cases may take together.
const LIMIT: Duration = Duration::from_secs(300);

/// How a case ended, and what it said.
pub(crate) type End = (i32, String);

/// wasmtime alone: `test/wasi/bare`.
pub(crate) fn wasmtime() -> Result<Command> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tools::checkout().join("target"), PathBuf::from);
    let program = target.join("x86_64-unknown-linux-gnu/debug/skiff-bare-wasmtime");
    ensure!(
        program.exists(),
        "{} is not there; `test/run.sh wasi` builds it",
        program.display()
    );
    Ok(Command::new(program))
}

/// WasmEdge alone: its library out of the bundle, and a program that is linked against it here, which is written to `program`.
pub(crate) fn wasmedge(program: &Path) -> Result<Command> {
    let engines = tools::skiff_dir().join("engines/wasmedge");
    let Ok(versions) = fs::read_dir(&engines) else {
        skiff_test::skip!("there is no WasmEdge in {}", tools::skiff_dir().display());
    };
    let bundle = versions
        .flatten()
        .map(|version| version.path())
        .max()
        .with_context(|| format!("{} is empty", engines.display()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tools::checkout().join("target"), PathBuf::from);
    let headers = target.join("wasmedge-packages/root/usr/include");
    if !headers.is_dir() {
        skiff_test::skip!(
            "WasmEdge's headers are not in {}, where `make wasmedge` puts them",
            headers.display()
        );
    }
    let mut compiler = Command::new("gcc");
    compiler
        .arg("-I")
        .arg(headers)
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .arg(program)
        .arg(tools::checkout().join("test/wasi/wasmedge.c"))
        .arg(bundle.join("lib/libwasmedge.so.0"))
        // What that library needs is in the bundle, and newer than this machine's.
        .arg("-Wl,--allow-shlib-undefined");
    command::run(&mut compiler)?.ok()?;
    let mut loader = Command::new(bundle.join("lib/ld-linux-x86-64.so.2"));
    let libraries = format!("{0}/host:{0}/lib", bundle.display());
    loader.args(["--library-path", &libraries]).arg(program);
    Ok(loader)
}

/// Runs all cases.
pub(crate) fn run(
    engine: &Command,
    module: &Path,
    surroundings: &Surroundings,
    cases: &[String],
) -> Result<BTreeMap<String, End>> {
    let mounts = format!(
        "mount --bind {0}/readonly {0}/data/readonly && mount -o remount,bind,ro {0}/data/readonly && \
         mount -t tmpfs -o {SMALL},mode=1777 tmpfs {0}/data/small && exec \"$@\"",
        surroundings.root().display()
    );
    let mut all = Command::new("unshare");
    all.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &mounts,
        "sh",
    ])
    .arg(engine.get_program())
    .args(engine.get_args())
    .arg(module)
    .arg(surroundings.root())
    .args(ENVIRONMENT)
    .arg("--")
    .args(WORDS);
    let ran = command::run_reading(
        &mut all,
        LIMIT,
        command::input(cases.join("\n").as_bytes())?,
    )?;
    let ends: BTreeMap<String, End> = ran
        .stdout
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, '\t');
            let (name, code) = (parts.next()?, parts.next()?.parse().ok()?);
            Some((
                name.to_owned(),
                (code, parts.next().unwrap_or_default().to_owned()),
            ))
        })
        .collect();
    ensure!(
        ran.code == 0 && ends.len() == cases.len(),
        "{} ended with {} after {} of {} cases: {}",
        ran.line,
        ran.code,
        ends.len(),
        cases.len(),
        ran.stderr
    );
    Ok(ends)
}
