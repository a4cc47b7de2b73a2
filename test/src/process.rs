//! What the kernel says of a process.

use std::fs;

use anyhow::{Context as _, Result};

/// A line of `/proc/<process>/smaps_rollup` (`Pss`, `Anonymous`), in KiB.
///
/// # Errors
/// If the process is gone, or the kernel has no such line.
pub fn memory(process: u32, which: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
    let line = line.context("no memory is told")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
