//! Builds what runs in the containers, from one source, when the bench begins.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use skiff_test::{command, tools};

/// `hello.rs` as a WASI module.
pub(super) fn module(target: &Path) -> Result<()> {
    build(target, &["--target", "wasm32-wasip1"])
}

/// `hello.rs` as a static program of this machine.
pub(super) fn program(target: &Path) -> Result<()> {
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    build(
        target,
        &["--target", &machine, "-C", "target-feature=+crt-static"],
    )
}

fn build(target: &Path, options: &[&str]) -> Result<()> {
    command::run(
        Command::new("rustc")
            .current_dir(tools::checkout())
            .args(["--edition", "2024", "-C", "opt-level=s", "-C", "panic=abort"])
            .args(["-C", "strip=debuginfo"])
            .args(options)
            .arg("-o")
            .arg(target)
            .arg("bench/hello.rs"),
    )?
    .ok()
    .context("hello.rs could not be compiled; is the target installed (rustup target add wasm32-wasip1)?")?;
    Ok(())
}
