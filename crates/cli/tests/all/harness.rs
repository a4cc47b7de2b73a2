//! Runs the command in a folder of its own, away from the machine's containerd and cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a cache that does not exist yet and a containerd that never answers.
pub(crate) struct Place {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    /// stdout as it came.
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A core module that prints nothing and ends well.
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        let bytes = wat::parse_str(
            r#"(module
                 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1)
                 (func (export "_start") i32.const 0 call $exit))"#,
        );
        self.file(name, &bytes.unwrap())
    }

    pub(crate) fn skiff(&self, arguments: &[&str]) -> Ended {
        self.skiff_with(arguments, &[])
    }

    pub(crate) fn skiff_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_skiff"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("NO_COLOR")
            .env("CONTAINERD_ADDRESS", self.path("no-containerd.sock"))
            .env("SKIFF_CACHE_DIR", self.path("cache"))
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that prints one JSON document.
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let ended = self.skiff(&arguments);
        (
            ended.code,
            serde_json::from_str(&ended.stdout)
                .unwrap_or_else(|error| panic!("{error}: {ended:?}")),
        )
    }
}

impl Ended {
    /// The command did its work.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The command failed with one sentence on stderr, perhaps with the place in a text drawn below it;
    /// returns the sentence.
    pub(crate) fn sentence(self) -> String {
        assert_eq!(self.code, 3, "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let drawn = lines[1..].iter().all(|line| line.starts_with("   "));
        assert!(drawn, "more than one sentence: {self:?}");
        lines[0].strip_prefix("skiff: ").unwrap().to_owned()
    }
}

/// The names of an object's fields: the shape that scripts rely on.
pub(crate) fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
