//! Where the programs are that the tests start: ours, and the real components of `test/node/build.sh`.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::node::engine;

/// The top of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the test crate lies in a folder of the checkout")
}

/// Our own binaries: `SKIFF_BIN_DIR`, else where `make build` puts them.
pub fn skiff_dir() -> PathBuf {
    std::env::var_os("SKIFF_BIN_DIR")
        .map_or_else(|| checkout().join("target/stage/bin"), PathBuf::from)
}

/// One of our own binaries. The shim goes by the name that stands for the engine that is tested.
///
/// # Errors
/// If it is not there.
pub fn skiff(program: &str) -> Result<PathBuf> {
    let program = match (program, engine()) {
        ("containerd-shim-skiff-v1", "wasmedge") => "containerd-shim-wasmedge-v1",
        _ => program,
    };
    let path = skiff_dir().join(program);
    ensure!(
        path.exists(),
        "{} does not exist; `make build` builds it, or SKIFF_BIN_DIR names where it is",
        path.display()
    );
    Ok(path)
}

/// The programs of a component, by its folder in `test/node/tools`.
///
/// # Errors
/// If it was not built.
pub fn component(folder: &str) -> Result<PathBuf> {
    let path = cache().join(folder).join("bin");
    ensure!(
        path.exists(),
        "{} does not exist; `test/node/build.sh {folder}` builds it",
        path.display()
    );
    Ok(path)
}

/// An unpacked package of the distribution.
///
/// # Errors
/// If it was not unpacked.
pub fn package(name: &str) -> Result<PathBuf> {
    let path = cache().join("packages").join(name);
    ensure!(
        path.exists(),
        "{} does not exist; `test/node/packages.sh {name}` unpacks it",
        path.display()
    );
    Ok(path)
}

/// What the scripts in `test/node` and others beside it build and fetch, outside of the tree.
pub fn cache() -> PathBuf {
    if let Some(directory) = std::env::var_os("SKIFF_TEST_CACHE") {
        return PathBuf::from(directory);
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let caches = std::env::var_os("XDG_CACHE_HOME");
    caches
        .map_or_else(|| home.join(".cache"), PathBuf::from)
        .join("skiff-test")
}
