//! What cases find: arguments, environment, and the folder `/data` with files of others, links and mounts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use skiff_test::tools;

/// After the program's name and the case's.
pub(crate) const WORDS: [&str; 3] = ["two words", "gr\u{fc}n", "last"];
pub(crate) const ENVIRONMENT: [&str; 3] = ["COLOUR=dark blue", "EMPTY=", "SUM=1+1=2"];
/// What is mounted at `/data/small`: a few pages.
pub(crate) const SMALL: &str = "size=256k";

/// The guest: `test/wasi/cases`.
pub(crate) fn module() -> Result<PathBuf> {
    let path = tools::checkout().join("test/wasi/target/wasm32-wasip1/release/wasi-cases.wasm");
    path.metadata().with_context(|| {
        format!(
            "{} is not there; `test/run.sh wasi` builds it",
            path.display()
        )
    })?;
    Ok(path)
}

/// Folders of a run: `data`, and what is mounted read-only into it.
pub(crate) struct Surroundings(PathBuf);

impl Surroundings {
    /// Makes them in a new folder, which must be on a path that all users may take.
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        let data = root.join("data");
        for folder in ["scratch", "locked", "readonly", "small"] {
            fs::create_dir_all(data.join(folder))?;
        }
        let mode =
            |name: &str, mode| fs::set_permissions(data.join(name), Permissions::from_mode(mode));
        mode("scratch", 0o777)?;
        mode("locked", 0o700)?;
        fs::write(data.join("secret"), "not for all\n")?;
        mode("secret", 0o600)?;
        fs::write(data.join("owned"), "for all\n")?;
        mode("owned", 0o644)?;
        symlink("../../etc", data.join("out"))?;
        symlink("/data/owned", data.join("absolute"))?;
        // The socket stays when its listener is gone.
        drop(UnixListener::bind(data.join("socket"))?);
        mode("socket", 0o777)?;
        fs::create_dir(root.join("readonly"))?;
        fs::write(root.join("readonly/there"), "there\n")?;
        Ok(Self(root))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}
