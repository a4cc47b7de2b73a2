//! Each line of the table, here and in busybox: the same output, exit code and tree, and a complaint from both or none.

use std::path::Path;
use std::process::Command;

use crate::harness::{run, toolbox};
use crate::table::LINES;

const BUSYBOX: &str = "/bin/busybox";

#[test]
fn the_same_as_busybox() {
    if !Path::new(BUSYBOX).exists() {
        println!("SKIPPED the_same_as_busybox: {BUSYBOX} is not installed");
        return;
    }
    // Under names, as its shell starts only what it finds.
    let names = tempfile::tempdir().unwrap();
    let installed = Command::new(BUSYBOX)
        .args(["--install", "-s"])
        .arg(names.path())
        .status()
        .unwrap();
    assert!(installed.success());
    let mut differences = Vec::new();
    for line in LINES {
        let theirs = run(
            Path::new(BUSYBOX),
            "sh",
            &["-c", line],
            b"",
            names.path().to_str().unwrap(),
        );
        let ours = toolbox("sh", &["-c", line], b"");
        let same = theirs.code == ours.code
            && theirs.stdout == ours.stdout
            && theirs.stderr.is_empty() == ours.stderr.is_empty()
            && theirs.tree == ours.tree;
        if !same {
            differences.push(format!("{line}\n  theirs: {theirs:?}\n  ours:   {ours:?}"));
        }
    }
    println!("{} lines compared", LINES.len());
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
