//! What the kernel says of a process.

use std::fs;

use anyhow::{Context as _, Result};

/// Every process that this process namespace shows.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

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

/// Processor time that a process has used, in hundredths of a second (`proc_pid_stat(5)`: utime and stime).
///
/// # Errors
/// It is gone.
pub fn processor_time(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Its name, which comes before, may have spaces in it.
    let (_, rest) = stat.rsplit_once(')').context("no name in it")?;
    let mut times = rest.split_whitespace().skip(11);
    let mut time = || {
        times
            .next()
            .and_then(|time| time.parse::<u64>().ok())
            .context("no time in it")
    };
    Ok(time()? + time()?)
}
