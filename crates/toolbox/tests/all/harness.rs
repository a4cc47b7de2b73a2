//! A tree, and a command line that is run in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::table::make_tree;
use crate::tree::contents;

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) tree: BTreeMap<String, String>,
}

/// Runs `program` as `name` in a fresh tree.
pub(crate) fn run(program: &Path, name: &str, args: &[&str], stdin: &[u8], path: &str) -> Outcome {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    run_in(tree.path(), program, name, args, stdin, path)
}

pub(crate) fn run_in(
    tree: &Path,
    program: &Path,
    name: &str,
    args: &[&str],
    stdin: &[u8],
    path: &str,
) -> Outcome {
    let mut child = Command::new(program)
        .arg0(name)
        .args(args)
        .current_dir(tree)
        .env_clear()
        .env("PATH", path)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // It may end without reading.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        tree: contents(tree),
    }
}

/// Runs the toolbox.
pub(crate) fn toolbox(name: &str, args: &[&str], stdin: &[u8]) -> Outcome {
    run(
        Path::new(env!("CARGO_BIN_EXE_skiff-toolbox")),
        name,
        args,
        stdin,
        "",
    )
}
